//! Recipes as text: what is read is what is written, and mistakes have a place.

use fnl::decompose::Scheme;
use fnl::linalg::SvdMethod;
use fnl::plan::{Allocate, ConvScheme, Effect, OutputDtype, RankRule, Recipe, RecipeError, Save, SchemeRule};

const FULL: &str = r#"
save = "collapsed"
dtype = "bf16"
conv_scheme = "channel"
allocate = "spectral"
round_to = 8
svd = "exact"
max_shard_bytes = 123456789

[[rule]]
targets = ["!**.query", "encoder.**", 're:^head\.\d+$']
layer_keep = 0.3
allocate = "uniform"
round_to = 4

[[rule]]
targets = ["conv*"]
scheme = "spatial"
energy = 0.95

[[rule]]
targets = ["!embeddings.**"]

[[rule]]
rank = 17

[[convolution]]
layers = ["layer*.0.conv2", "stem"]
groups = 4
stride = [2, 1]
padding = [1, 0]
dilation = [1, 3]
"#;

#[test]
fn every_key_is_read() {
    let recipe = Recipe::parse_toml(FULL).unwrap();
    assert_eq!((recipe.save, recipe.dtype), (Save::Collapsed, OutputDtype::Bf16));
    assert_eq!((recipe.conv_scheme, recipe.allocate), (ConvScheme::Channel, Allocate::Spectral));
    assert_eq!((recipe.round_to, recipe.svd), (Some(8), SvdMethod::Exact));
    assert_eq!(recipe.max_shard_bytes, Some(123_456_789));
    let first = &recipe.rules[0];
    assert_eq!(first.rank, Some(RankRule::LayerKeep(0.3)));
    assert_eq!((first.allocate, first.round_to), (Some(Allocate::Uniform), Some(4)));
    let selectors: Vec<(&str, Effect)> =
        first.selectors.iter().map(|selector| (selector.pattern.text(), selector.effect)).collect();
    let expected =
        [("**.query", Effect::Ignore), ("encoder.**", Effect::Target), (r"re:^head\.\d+$", Effect::Target)];
    assert_eq!(selectors, expected);
    assert_eq!(
        (recipe.rules[1].scheme, recipe.rules[1].rank),
        (Some(SchemeRule::Fixed(Scheme::Spatial)), Some(RankRule::Energy(0.95)))
    );
    assert_eq!(recipe.rules[2].rank, None);
    assert_eq!(recipe.rules[3].rank, Some(RankRule::Rank(17)));
    let convolution = &recipe.convolutions[0];
    assert_eq!(convolution.layers, ["layer*.0.conv2", "stem"]);
    assert_eq!((convolution.groups, convolution.stride), (Some(4), Some([2, 1])));
    assert_eq!((convolution.padding, convolution.dilation), (Some([1, 0]), Some([1, 3])));
}

#[test]
fn text_and_record_lead_back_to_the_same_recipe() {
    // 0.1 + 0.2 needs every digit.
    for text in [FULL, "", "[[rule]]\nkeep = 0.30000000000000004\n", "[[rule]]\nrank_ratio = 1e-9\n"] {
        let recipe = Recipe::parse_toml(text).unwrap();
        assert_eq!(Recipe::parse_toml(&recipe.to_toml()).unwrap(), recipe);
        let json = recipe.to_json();
        assert_eq!(Recipe::from_json(&json).unwrap(), recipe);
        // By way of the text that a record is.
        let json: serde_json::Value = serde_json::from_str(&json.to_string()).unwrap();
        let again = Recipe::from_json(&json).unwrap();
        assert_eq!(again.to_toml(), recipe.to_toml());
        assert_eq!(again.to_json(), recipe.to_json());
    }
}

#[test]
fn numbers_of_a_record_are_read_exactly() {
    for part in ["0.09202882237341295", "0.18439262356350863", "0.1", "0.7000000000000001"] {
        let recipe = Recipe::parse_toml(&format!("[[rule]]\nkeep = {part}\n")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&recipe.to_json().to_string()).unwrap();
        assert_eq!(Recipe::from_json(&json).unwrap(), recipe, "{part}");
    }
}

fn place(text: &str) -> (usize, String) {
    match Recipe::parse_toml(text) {
        Err(RecipeError::Syntax { line, message, .. }) => (line, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let (line, message) = place("save = \"factored\"\n\nalocate = \"uniform\"\n");
    assert_eq!(line, 3);
    assert!(message.contains("`alocate`"), "{message}");
    let (line, message) = place("[[convolution]]\nlayers = [\"a\"]\ngroup = 4\n");
    assert_eq!(line, 3);
    assert!(message.contains("`group`"), "{message}");
}

#[test]
fn an_unknown_key_of_a_rule_is_named_with_its_line() {
    let (line, message) = place("[[rule]]\nrank = 4\n\n[[rule]]\ntargets = [\"a\"]\nkep = 0.5\n");
    assert!(message.contains("`kep`"), "{message}");
    assert_eq!(line, 6, "{message}");
}

#[test]
fn wrong_values_have_their_line() {
    for (text, line) in [
        ("\nsave = \"both\"\n", 2),
        ("dtype = \"keep\"\nround_to = -1\n", 2),
        ("[[rule]]\nrank = 4\n[[rule]\n", 3),
    ] {
        assert_eq!(place(text).0, line, "{text}");
    }
}

#[test]
fn a_rule_has_one_rank() {
    for text in
        ["rank = 4\nkeep = 0.5\n", "energy = 0.9\nrank_ratio = 0.5\n", "layer_keep = 0.5\nkeep = 0.5\n"]
    {
        let (_, message) = place(&format!("[[rule]]\n{text}"));
        assert!(
            message.contains("a rule takes one of rank, ranks, rank_ratio, energy, keep, layer_keep"),
            "{message}"
        );
    }
}

#[test]
fn what_contradicts_itself_is_refused_all_at_once() {
    let problems = |text: &str| match Recipe::parse_toml(text) {
        Err(RecipeError::Invalid(message)) => message,
        other => panic!("{text}: {other:?}"),
    };
    for (text, expected) in [
        ("[[rule]]\nrank = 0\n", "rank is 0, expected at least 1"),
        ("[[rule]]\nkeep = 0.0\n", "keep is 0, expected more than 0 and at most 1"),
        ("[[rule]]\nkeep = 1.5\n", "keep is 1.5, expected more than 0 and at most 1"),
        ("[[rule]]\nenergy = nan\n", "energy is NaN, expected more than 0 and at most 1"),
        ("[[rule]]\nrank_ratio = -0.5\n", "rank_ratio is -0.5, expected more than 0 and at most 1"),
        ("[[rule]]\nlayer_keep = inf\n", "layer_keep is inf, expected more than 0 and at most 1"),
        ("round_to = 0\n", "round_to is 0, expected at least 1"),
        (
            "[[rule]]\ntargets = [\"a\"]\n",
            "targets without a rank: one of rank, ranks, rank_ratio, energy, keep, layer_keep is needed",
        ),
        ("[[rule]]\n", "a rule says nothing"),
        (
            "[[rule]]\nrank = 4\nscheme = \"matrix\"\n",
            "scheme is for convolutions, `spatial` or `channel`, or of tensors",
        ),
        (
            "[[rule]]\ntargets = [\"a\"]\nkeep = 0.5\n[[rule]]\nkeep = 0.6\n",
            "two rules say keep, which counts the whole checkpoint; layer_keep counts a rule's layers",
        ),
        (
            "[[rule]]\nrank = 0\n[[rule]]\nenergy = 2.0\n",
            "rule 1: rank is 0, expected at least 1; rule 2: energy is 2, expected more than 0 and at most 1",
        ),
    ] {
        assert_eq!(problems(text), expected, "{text}");
    }
}

#[test]
fn a_record_of_another_version_is_not_half_read() {
    let json = serde_json::json!({"rule": [{"rank": 4, "data_aware": true}]});
    let Err(RecipeError::Json(message)) = Recipe::from_json(&json) else { panic!("read") };
    assert!(message.contains("`data_aware`"), "{message}");
}

//! Which layers a recipe selects.

use crate::files::{Stored, fixture, folder};
use fnl::checkpoint::Checkpoint;
use fnl::plan::{NoProgress, Plan, PlanError, PlanOptions, RankRule, Recipe, Rule, Save, TensorAction};
use std::path::Path;

/// A recipe of one rule: rank 4 for these, `!` before what is ignored.
fn recipe(selectors: &[&str]) -> Recipe {
    let mut rule = Rule::new(RankRule::Rank(4));
    for text in selectors {
        rule = match text.strip_prefix('!') {
            Some(pattern) => rule.ignore(pattern).unwrap(),
            None => rule.target(text).unwrap(),
        };
    }
    let mut recipe = Recipe::default();
    recipe.rules.push(rule);
    recipe
}

fn plan(path: &Path, recipe: &Recipe) -> Result<Plan, PlanError> {
    let checkpoint = Checkpoint::open_path(path).unwrap();
    Plan::new(&checkpoint, recipe, &PlanOptions::default(), &NoProgress)
}

fn layers(path: &Path, selectors: &[&str]) -> Vec<String> {
    plan(path, &recipe(selectors)).unwrap().layers.into_iter().map(|layer| layer.layer).collect()
}

fn refusal(path: &Path, selectors: &[&str]) -> String {
    plan(path, &recipe(selectors)).unwrap_err().to_string()
}

fn reason(plan: &Plan, name: &str) -> Option<&'static str> {
    plan.tensors.iter().find(|tensor| tensor.name == name).unwrap().reason
}

#[test]
fn exact_names_are_of_layers_or_of_their_weights() {
    let bert = fixture("tiny-bert");
    for name in ["bert.encoder.layer.0.output.dense", "bert.encoder.layer.0.output.dense.weight"] {
        assert_eq!(layers(&bert, &[name]), ["bert.encoder.layer.0.output.dense"]);
    }
}

#[test]
fn globs_count_segments() {
    let bert = fixture("tiny-bert");
    assert_eq!(
        layers(&bert, &["bert.encoder.layer.*.attention.self.q*"]),
        ["bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.attention.self.query"]
    );
    assert_eq!(
        layers(&bert, &["**.intermediate.dense"]),
        ["bert.encoder.layer.0.intermediate.dense", "bert.encoder.layer.1.intermediate.dense"]
    );
    assert_eq!(layers(&bert, &["bert.encoder.**"]).len(), 12);
    // `*` is one segment: nothing lies directly there.
    assert!(refusal(&bert, &["bert.encoder.layer.*.dense"]).contains("matches no layer"));
}

#[test]
fn regular_expressions_search() {
    let bert = fixture("tiny-bert");
    assert_eq!(
        layers(&bert, &[r"re:layer\.1\..*(query|key)$"]),
        ["bert.encoder.layer.1.attention.self.key", "bert.encoder.layer.1.attention.self.query"]
    );
}

#[test]
fn the_first_pattern_that_matches_decides() {
    let bert = fixture("tiny-bert");
    assert_eq!(
        layers(&bert, &["!**.layer.0.**", "bert.encoder.layer.*.attention.self.query"]),
        ["bert.encoder.layer.1.attention.self.query"]
    );
    assert_eq!(
        layers(
            &bert,
            &["bert.encoder.layer.0.attention.self.query", "!**.self.*", "bert.encoder.layer.0.**"]
        ),
        [
            "bert.encoder.layer.0.attention.output.dense",
            "bert.encoder.layer.0.attention.self.query",
            "bert.encoder.layer.0.intermediate.dense",
            "bert.encoder.layer.0.output.dense",
        ]
    );
    let chosen = plan(&bert, &recipe(&["!**.self.*", "bert.encoder.**"])).unwrap();
    assert_eq!(reason(&chosen, "bert.encoder.layer.0.attention.self.key.weight"), Some("ignored"));
    assert_eq!(reason(&chosen, "cls.predictions.transform.dense.weight"), Some("no_rule"));
}

#[test]
fn the_first_rule_that_matches_decides() {
    let mut recipe = recipe(&["bert.encoder.layer.0.**"]);
    let mut second = Rule::new(RankRule::Rank(2));
    second = second.target("bert.encoder.**").unwrap();
    recipe.rules.push(second);
    recipe.rules.push(Rule::new(RankRule::Rank(1)));
    let plan = plan(&fixture("tiny-bert"), &recipe).unwrap();
    for layer in &plan.layers {
        let expected = match layer.layer.as_str() {
            name if name.starts_with("bert.encoder.layer.0.") => 4,
            name if name.starts_with("bert.encoder.") => 2,
            _ => 1,
        };
        assert_eq!(layer.ranks.largest(), expected, "{}", layer.layer);
    }
    assert_eq!(plan.layers.len(), 13);
}

#[test]
fn a_pattern_that_is_never_reached_is_an_error() {
    let message = refusal(&fixture("tiny-bert"), &["bert.encoder.**", "!bert.encoder.layer.0.**"]);
    assert_eq!(
        message,
        "`bert.encoder.layer.0.**` is never reached: every layer that it matches is decided by a pattern before it"
    );
}

#[test]
fn patterns_that_match_nothing_are_all_named_with_what_is_nearest() {
    let message = refusal(
        &fixture("tiny-bert"),
        &["bert.encoder.layer.0.output.densee", "bert.encoder.**", "cls.prediction.transform.dense"],
    );
    assert_eq!(
        message,
        "`bert.encoder.layer.0.output.densee` matches no layer; the nearest is `bert.encoder.layer.0.output.dense`; \
         `cls.prediction.transform.dense` matches no layer; the nearest is `cls.predictions.transform.dense`"
    );
}

#[test]
fn a_pattern_that_matches_no_weight_says_what_it_matches() {
    assert_eq!(
        refusal(&fixture("tiny-bert"), &["bert.embeddings.LayerNorm"]),
        "`bert.embeddings.LayerNorm` matches no weight that can be factored, only `bert.embeddings.LayerNorm.weight`, \
         normalization of shape (32)"
    );
}

#[test]
fn without_targets_the_default_selection_is_taken() {
    let bert = plan(&fixture("tiny-bert"), &recipe(&[])).unwrap();
    assert_eq!(bert.layers.len(), 13);
    for (name, expected) in [
        ("bert.embeddings.word_embeddings.weight", Some("tied")),
        ("cls.predictions.decoder.weight", Some("tied")),
        ("bert.embeddings.position_embeddings.weight", Some("embedding")),
        ("bert.encoder.layer.0.output.dense.weight", None),
    ] {
        assert_eq!(reason(&bert, name), expected, "{name}");
    }
    let ignoring = layers(&fixture("tiny-bert"), &["!**.dense"]);
    assert_eq!(ignoring.len(), 6, "{ignoring:?}");
    assert!(ignoring.iter().all(|layer| layer.contains(".self.")));
    let resnet = plan(&fixture("tiny-resnet.safetensors"), &recipe(&[])).unwrap();
    assert_eq!(reason(&resnet, "conv1.weight"), Some("first_convolution"));
    assert_eq!(reason(&resnet, "linear.weight"), Some("output_head"));
    let llama = plan(&fixture("tiny-llama"), &recipe(&[])).unwrap();
    assert_eq!(reason(&llama, "lm_head.weight"), Some("output_head"));
}

#[test]
fn embeddings_heads_and_first_convolutions_are_factored_when_targeted() {
    let shapes = |path: &str, layer: &str| -> Vec<Vec<usize>> {
        let plan = plan(&fixture(path), &recipe(&[layer])).unwrap();
        assert_eq!(plan.layers.len(), 1);
        plan.outputs()
            .filter(|output| output.name.starts_with(&format!("{layer}.")))
            .map(|o| o.shape.clone())
            .collect()
    };
    assert_eq!(shapes("tiny-bert", "bert.embeddings.position_embeddings"), [vec![64, 4], vec![32, 4]]);
    assert_eq!(shapes("tiny-llama", "lm_head"), [vec![4, 32], vec![128, 4]]);
    assert_eq!(shapes("tiny-gpt2", "wte"), [vec![160, 4], vec![48, 4]]);
    assert_eq!(shapes("tiny-vit", "classifier"), [vec![10], vec![4, 32], vec![10, 4]]);
}

#[test]
fn tied_weights_are_factored_for_both_uses() {
    for target in ["bert.embeddings.word_embeddings", "cls.predictions.decoder", "re:word_embeddings|decoder"]
    {
        let plan = plan(&fixture("tiny-bert"), &recipe(&[target])).unwrap();
        let [layer] = plan.layers.as_slice() else { panic!("{target}: one weight") };
        assert_eq!(layer.layer, "bert.embeddings.word_embeddings");
        assert_eq!(layer.tied.len(), 1);
        assert_eq!(layer.tied[0].1, "cls.predictions.decoder");
        let outputs: Vec<(&str, &[usize])> = plan
            .outputs()
            .map(|o| (o.name.as_str(), o.shape.as_slice()))
            .filter(|(n, _)| n.contains("word_emb") || n.contains("decoder"))
            .collect();
        let mut sorted = outputs.clone();
        sorted.sort_unstable();
        let expected: [(&str, &[usize]); 5] = [
            ("bert.embeddings.word_embeddings.0.weight", &[120, 4]),
            ("bert.embeddings.word_embeddings.1.weight", &[32, 4]),
            ("cls.predictions.decoder.0.weight", &[4, 32]),
            ("cls.predictions.decoder.1.bias", &[120]),
            ("cls.predictions.decoder.1.weight", &[120, 4]),
        ];
        assert_eq!(sorted, expected, "{target}");
        assert_eq!(plan.totals.layers_factored, 2);
        assert_eq!(plan.totals.layer_parameters_before, 2 * 120 * 32);
        assert_eq!(plan.totals.layer_parameters_after, 2 * 4 * (120 + 32));
    }
}

#[test]
fn one_use_of_a_tied_weight_is_not_left_out() {
    let message =
        refusal(&fixture("tiny-bert"), &["!cls.predictions.decoder", "bert.embeddings.word_embeddings"]);
    assert_eq!(
        message,
        "`bert.embeddings.word_embeddings.weight` is targeted, but `cls.predictions.decoder.weight`, which is the same \
         weight, is left dense by `cls.predictions.decoder`"
    );
}

#[test]
fn what_no_runtime_runs_factored_is_factored_only_to_be_collapsed() {
    let folder = folder(
        &[
            Stored::random("lstm.weight_ih_l0", &[32, 16], 1),
            Stored::random("attn.in_proj_weight", &[48, 16], 2),
            Stored::random("attn.in_proj_bias", &[48], 3),
            Stored::random("mlp.up.weight", &[32, 16], 4),
        ],
        None,
    );
    let by_default = plan(folder.path(), &recipe(&[])).unwrap();
    assert_eq!(by_default.layers.len(), 1);
    assert_eq!(reason(&by_default, "lstm.weight_ih_l0"), Some("only_collapsed"));
    for name in ["lstm.weight_ih_l0", "attn.in_proj_weight"] {
        let error = plan(folder.path(), &recipe(&[name])).unwrap_err();
        assert!(matches!(&error, PlanError::OnlyCollapsed { tensor, .. } if tensor == name), "{error}");
        assert_eq!(error.hint().as_deref(), Some("`--save collapsed` multiplies the factors out"));
    }
    // A glob takes what it can.
    let some = plan(folder.path(), &recipe(&["**"])).unwrap();
    assert_eq!(some.layers.len(), 1);
    let mut collapsed = recipe(&["**"]);
    collapsed.save = Save::Collapsed;
    let all = plan(folder.path(), &collapsed).unwrap();
    let names: Vec<&str> = all.layers.iter().map(|layer| layer.tensor.as_str()).collect();
    assert_eq!(names, ["attn.in_proj_weight", "lstm.weight_ih_l0", "mlp.up.weight"]);
    for tensor in &all.tensors {
        let expected =
            if tensor.name == "attn.in_proj_bias" { TensorAction::Copied } else { TensorAction::Collapsed };
        assert_eq!(tensor.action, expected);
        assert_eq!(
            (tensor.outputs[0].name.as_str(), &tensor.outputs[0].shape),
            (tensor.name.as_str(), &tensor.shape)
        );
    }
}

#[test]
fn grouped_kernels_wait_until_something_says_their_groups() {
    let path = fixture("tiny-resnext.safetensors");
    let silent = plan(&path, &recipe(&[])).unwrap();
    assert_eq!(reason(&silent, "layer1.0.conv2.weight"), Some("unknown_groups"));
    // Naming it doesn't tell its groups.
    let named = plan(&path, &recipe(&["layer1.0.conv2", "layer1.0.conv3"])).unwrap();
    assert_eq!(reason(&named, "layer1.0.conv2.weight"), Some("unknown_groups"));

    let told = Recipe::parse_toml(
        r#"
        [[rule]]
        rank = 2
        [[convolution]]
        layers = ["**.conv2"]
        groups = 4
        stride = [2, 1]
        "#,
    )
    .unwrap();
    let told = plan(&path, &told).unwrap();
    let layer = told.layers.iter().find(|layer| layer.layer == "layer1.0.conv2").unwrap();
    assert_eq!(layer.format.groups(), 4);
    let shapes: Vec<&[usize]> = told
        .outputs()
        .filter(|o| o.name.starts_with("layer1.0.conv2."))
        .map(|o| o.shape.as_slice())
        .collect();
    // (g r, i / g, 1, kw) and (o, r, kh, 1)
    assert_eq!(shapes, [&[8usize, 4, 1, 3][..], &[16, 2, 3, 1]]);

    let unknown = Recipe::parse_toml(
        "[[rule]]\nrank = 2\n[[convolution]]\nlayers = [\"layer1.0.conf2\"]\ngroups = 4\n",
    );
    let message = plan(&path, &unknown.unwrap()).unwrap_err().to_string();
    assert_eq!(message, "`layer1.0.conf2` matches no convolution; the nearest is `layer1.0.conv2`");
    let wrong =
        Recipe::parse_toml("[[rule]]\nrank = 2\n[[convolution]]\nlayers = [\"**.conv2\"]\ngroups = 3\n");
    let error = plan(&path, &wrong.unwrap()).unwrap_err();
    let PlanError::Decompose { tensor, source } = error else { panic!("{error}") };
    assert_eq!(tensor, "layer1.0.conv2.weight");
    assert_eq!(source.to_string(), "3 groups do not divide 16 output channels");
}

#[test]
fn depthwise_kernels_stay_dense_whatever_is_asked() {
    let folder = folder(
        &[
            Stored::random("stem.weight", &[16, 3, 3, 3], 1),
            Stored::random("dw.weight", &[16, 1, 3, 3], 2),
            Stored::random("pw.weight", &[16, 16, 1, 1], 3),
        ],
        None,
    );
    for text in [
        "[[rule]]\nrank = 2\n",
        "[[rule]]\ntargets = [\"dw\", \"pw\"]\nrank = 2\n",
        "[[rule]]\nrank = 2\n[[convolution]]\nlayers = [\"dw\"]\ngroups = 16\n",
    ] {
        let plan = plan(folder.path(), &Recipe::parse_toml(text).unwrap()).unwrap();
        assert_eq!(reason(&plan, "dw.weight"), Some("depthwise"), "{text}");
        assert_eq!(plan.layers.len(), 1, "{text}");
    }
}

#[test]
fn every_tensor_is_planned_once_and_totals_add_up() {
    for name in [
        "tiny-bert",
        "tiny-gpt2",
        "tiny-llama",
        "tiny-vit",
        "tiny-resnet.safetensors",
        "tiny-resnext.safetensors",
    ] {
        let checkpoint = Checkpoint::open_path(&fixture(name)).unwrap();
        let plan = Plan::new(&checkpoint, &recipe(&[]), &PlanOptions::default(), &NoProgress).unwrap();
        let planned: Vec<&str> = plan.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let stored: Vec<&str> = checkpoint.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(planned, stored, "{name}");
        let bytes = |elements: usize, dtype| (elements * fnl::checkpoint::dtype_bits(dtype) / 8) as u64;
        let before: u64 = checkpoint.tensors().iter().map(|t| bytes(t.elements(), t.dtype)).sum();
        let after: u64 = plan.outputs().map(|o| bytes(o.shape.iter().product(), o.dtype)).sum();
        assert_eq!((plan.totals.bytes_before, plan.totals.bytes_after), (before, after), "{name}");
        let saved: usize =
            plan.layers.iter().map(|l| l.format.parameters() - l.format.factored_parameters(&l.ranks)).sum();
        assert_eq!(plan.totals.parameters_before - plan.totals.parameters_after, saved as u64, "{name}");
        assert_eq!(plan.totals.layers_factored, plan.layers.len(), "{name}");
    }
}

#[test]
fn a_layer_beyond_the_memory_limit_is_named() {
    let checkpoint = Checkpoint::open_path(&fixture("tiny-bert")).unwrap();
    let options = PlanOptions::new(fnl::plan::Limits::new(2, Some(4096)), false);
    let error =
        Plan::new(&checkpoint, &recipe(&["**.layer.1.output.dense"]), &options, &NoProgress).unwrap_err();
    let PlanError::Memory { tensor, needed, limit: 4096 } = &error else { panic!("{error}") };
    assert_eq!(tensor, "bert.encoder.layer.1.output.dense.weight");
    // The weight alone takes 8192 bytes, twice: in the file and as elements.
    assert!(*needed > 2 * 8192, "{needed}");
}

//! Patterns in the order in which they are written, and recipes that repeat a run.

use crate::harness::{Place, fixture, silero, snapshot};

/// The names and ranks of the factored layers of a dry run.
#[track_caller]
fn planned(arguments: &[&str]) -> Vec<(String, u64)> {
    let place = Place::new();
    let run = place.run(arguments.iter().copied().chain(["--dry-run", "--json", "-q"])).exits(0);
    let layers = run.json()["layers"].as_array().expect("layers").clone();
    layers
        .iter()
        .map(|layer| {
            (layer["layer"].as_str().expect("a name").to_owned(), layer["rank"].as_u64().expect("a rank"))
        })
        .collect()
}

fn names(planned: &[(String, u64)]) -> Vec<&str> {
    planned.iter().map(|(name, _)| name.as_str()).collect()
}

const QUERY_0: &str = "bert.encoder.layer.0.attention.self.query";

#[test]
fn the_first_match_on_the_command_line_decides() {
    let bert = fixture("tiny-bert");
    let picked = planned(&[
        &bert,
        "--rank=4",
        "--target",
        QUERY_0,
        "--ignore",
        "**.query",
        "--target",
        "bert.encoder.*.*.attention.self.*",
    ]);
    assert_eq!(
        names(&picked),
        [
            "bert.encoder.layer.0.attention.self.key",
            QUERY_0,
            "bert.encoder.layer.0.attention.self.value",
            "bert.encoder.layer.1.attention.self.key",
            "bert.encoder.layer.1.attention.self.value",
        ]
    );
    // The same flags with the ignore first, written in any mixture with others.
    let picked = planned(&[&bert, "--ignore", "**.query", "--rank=4", "--target=re:layer.0.attention.self"]);
    assert_eq!(
        names(&picked),
        ["bert.encoder.layer.0.attention.self.key", "bert.encoder.layer.0.attention.self.value"]
    );
    // The name of the weight names the layer as well.
    assert_eq!(names(&planned(&[&bert, "--rank=4", "--target", &format!("{QUERY_0}.weight")])), [QUERY_0]);
}

#[test]
fn a_pattern_that_is_never_reached_is_refused() {
    let place = Place::new();
    let run = place.refuses(
        1,
        [&fixture("tiny-bert"), "--rank=4", "--target=bert.encoder.**", "--ignore=**.query", "--dry-run"],
    );
    run.stderr_has("`**.query`")
        .stderr_has("never reached")
        .stderr_has("\nhint: the first pattern that matches a layer decides: put the narrower one first\n");
}

#[test]
fn embeddings_and_heads_are_factored_when_they_are_targeted() {
    let llama = fixture("tiny-llama");
    assert!(!names(&planned(&[&llama, "--rank=4"])).contains(&"lm_head"));
    assert_eq!(
        planned(&[&llama, "--rank=4", "--target=lm_head", "--target=model.embed_tokens"]),
        [("lm_head".to_owned(), 4), ("model.embed_tokens".to_owned(), 4)]
    );
}

#[test]
fn flags_add_a_first_rule_to_a_recipe_and_override_the_rest() {
    let place = Place::new();
    place.write(
        "recipe.toml",
        "round_to = 2\nconv_scheme = \"channel\"\n\n[[rule]]\ntargets = [\"!conv4\", \"conv*\"]\nrank = 4\n",
    );
    let recipe = place.join("recipe.toml").display().to_string();
    let with = |more: &[&str]| {
        let silero = silero();
        let mut arguments =
            vec![silero.as_str(), "--recipe", &recipe, "--ignore", "conv1", "--ignore", "stft_conv"];
        arguments.extend(more);
        planned(&arguments)
    };
    assert_eq!(with(&[]), [("conv2".to_owned(), 4), ("conv3".to_owned(), 4)]);
    assert_eq!(
        with(&["--target", "conv3", "--rank=9"]),
        [("conv2".to_owned(), 4), ("conv3".to_owned(), 8)],
        "conv3 by the flags' rule, rounded as the recipe says"
    );
    assert_eq!(with(&["--round-to=3"]), [("conv2".to_owned(), 3), ("conv3".to_owned(), 3)]);

    let arguments = [
        &silero(),
        "--recipe",
        &recipe,
        "--dtype=f16",
        "--save=collapsed",
        "--dry-run",
        "--json",
        "-q",
        "--ignore=conv1",
    ];
    let run = place.run(arguments).exits(0);
    let effective = run.json()["recipe"].clone();
    assert_eq!(effective["dtype"], "f16");
    assert_eq!(effective["save"], "collapsed");
    assert_eq!(effective["round_to"], 2);
    assert_eq!(effective["rule"][0]["targets"][0], "!conv1");
    assert_eq!(effective["rule"][1]["rank"], 4);
}

#[test]
fn a_flag_overrides_the_recipe_for_a_layer_that_it_names() {
    let place = Place::new();
    place.write("recipe.toml", "[[rule]]\ntargets = [\"conv3\", \"conv4\"]\nrank = 4\n");
    let recipe = place.join("recipe.toml").display().to_string();
    assert_eq!(
        planned(&[&silero(), "--recipe", &recipe, "--target=conv4", "--rank=9"]),
        [("conv3".to_owned(), 4), ("conv4".to_owned(), 9)]
    );
}

/// A run with a bit of everything, repeated from what it wrote.
#[test]
fn what_a_run_wrote_repeats_it_byte_for_byte() {
    let place = Place::new();
    let llama = fixture("tiny-llama");
    let run = place.run([
        &llama,
        "--out=first",
        "--ignore=**.v_proj",
        "--target=model.layers.0.**",
        "--target=lm_head",
        "--layer-keep=0.6",
        "--allocate=spectral",
        "--round-to=2",
        "--dtype=bf16",
        "--max-shard-size=20KB",
        "-q",
    ]);
    run.exits(0);
    let first = snapshot(&place.join("first"));
    assert!(
        first.keys().filter(|name| name.extension().is_some_and(|end| end == "safetensors")).count() > 1,
        "{:?}",
        first.keys()
    );
    let shard =
        first.keys().find(|name| name.extension().is_some_and(|end| end == "safetensors")).expect("a shard");
    let toml = place.run(["inspect", "first", "--recipe", "-q"]).exits(0).stderr("");
    place.write("again.toml", &toml.stdout);
    let copied = place.read(&format!("first/{}", shard.display()));
    place.write("one.safetensors", copied);
    for recipe in ["first", "first/report.json", "first/config.json", "one.safetensors", "again.toml"] {
        let run =
            place.run([llama.as_str(), "--recipe", recipe, "--out=second", "--overwrite", "-q"]).exits(0);
        if snapshot(&place.join("second")) != first {
            run.fail(&format!("{recipe} gives other bytes"));
        }
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads() {
    let place = Place::new();
    for (out, threads) in [("one", "1"), ("two", "2"), ("five", "5")] {
        place.run([&fixture("tiny-bert"), "--keep=0.7", "--threads", threads, "--out", out, "-q"]).exits(0);
    }
    assert_eq!(snapshot(&place.join("one")), snapshot(&place.join("two")));
    assert_eq!(snapshot(&place.join("one")), snapshot(&place.join("five")));
}

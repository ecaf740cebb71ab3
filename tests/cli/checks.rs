//! What a pipeline gates on: exit code 3 and a sentence that names the layer, with the output written.

use crate::harness::{Place, fixture, range_of, shapes, silero};

#[test]
fn an_error_beyond_the_limit_exits_with_3_and_the_output_is_written() {
    let place = Place::new();
    let held = place
        .run([&silero(), "--rank=8", "--out=held.safetensors", "--max-error=0.7", "--json", "-q"])
        .exits(0);
    let report = held.stderr("").json();
    let worst = report["totals"]["worst_error"]["relative_error"].as_f64().expect("an error");
    assert_eq!(report["totals"]["worst_error"]["layer"], "conv2");
    assert_eq!(report["checks"][0]["check"], "max_error");
    assert_eq!(report["checks"][0]["passed"], true);
    assert_eq!(report["checks"][0]["found"].as_f64(), Some(worst));

    let failed =
        place.run([&silero(), "--rank=8", "--out=broken.safetensors", "--max-error=0.5", "--json", "-q"]);
    let failed = failed
        .exits(3)
        .stderr(&format!("check failed: `conv2` has relative error {worst:.4}, more than 0.5\n"));
    let report = failed.json();
    assert_eq!(report["checks"][0]["passed"], false);
    assert_eq!(report["checks"][0]["layer"], "conv2");
    assert_eq!(place.read("broken.safetensors"), place.read("held.safetensors"), "the output is the same");
    assert_eq!(shapes(&place.read("broken.safetensors"))["conv2.0.weight"], [8, 128, 3]);
}

#[test]
fn a_limit_is_the_largest_that_holds() {
    let place = Place::new();
    let run = place.run([&silero(), "--rank=8", "--dry-run", "--json", "-q"]).exits(0);
    let keep = run.json()["totals"]["keep"].as_f64().expect("a part");
    for dry in [true, false] {
        let out = format!("--out=x{dry}.safetensors");
        let mut arguments =
            vec![silero(), "--rank=8".to_owned(), out, "-q".to_owned(), format!("--max-keep={keep}")];
        arguments.extend(dry.then(|| "--dry-run".to_owned()));
        place.run(&arguments).exits(0).stderr("");
        arguments[4] = format!("--max-keep={}", keep - 1e-9);
        arguments.push("--overwrite".to_owned());
        place
            .run(&arguments)
            .exits(3)
            .stderr_has(&format!("check failed: {keep:.4} of the parameters are kept, more than "))
            .stderr_has("`stft_conv`");
        assert_eq!(place.join(&format!("x{dry}.safetensors")).exists(), !dry);
    }
}

#[test]
fn several_checks_are_all_reported() {
    let place = Place::new();
    let run = place.run([
        &silero(),
        "--rank=8",
        "--out=x.safetensors",
        "-q",
        "--max-error=0.1",
        "--max-keep=0.1",
        "--fail-if-unchanged",
    ]);
    let run = run
        .exits(3)
        .stderr_has("`conv2` has relative error")
        .stderr_has("of the parameters are kept, more than 0.1");
    assert_eq!(run.stderr.lines().count(), 2, "{}", run.stderr);
    // Nothing is lost on the way: results stand on stdout all the same.
    run.stdout_has("4 layers factored").stdout_has("written to x.safetensors");
}

#[test]
fn nothing_factored_can_fail_a_run() {
    let place = Place::new();
    place.write(
        "two.safetensors",
        crate::harness::checkpoint(&[
            ("a.weight", &[64, 64], crate::harness::elements(1, 64, 64)),
            ("b.weight", &[32, 64], crate::harness::elements(2, 32, 64)),
        ]),
    );
    let rest = ["two.safetensors", "--target=a", "--rank=60", "--fail-if-unchanged", "-q"];
    let dry = place.run(rest.iter().copied().chain(["--dry-run"])).exits(3);
    let run = place.run(rest.iter().copied().chain(["--out=x.safetensors"])).exits(3);
    for run in [dry, run] {
        // 64 * 64 / (64 + 64) is 32, where the factors are as large as the weight.
        run.stderr("check failed: no layer was factored; the largest, `a`, stays dense: rank 60 would not make it smaller, only up to 31\n");
    }
    assert_eq!(shapes(&place.read("x.safetensors"))["a.weight"], [64, 64]);
    place.run([silero().as_str(), "--rank=8", "--dry-run", "--fail-if-unchanged", "-q"]).exits(0).stderr("");
}

#[test]
fn a_dry_run_knows_errors_where_the_rule_needs_spectra() {
    let place = Place::new();
    let run = place.run([&silero(), "--energy=0.9", "--dry-run", "--max-error=0.05", "-q"]).exits(3);
    run.stderr_has("check failed: `conv").stderr_has("more than 0.05");
    assert!(place.names().is_empty(), "{:?}", place.names());
}

#[test]
fn a_dry_run_with_a_limit_of_error_computes_what_it_needs() {
    let place = Place::new();
    let run = place.run([&silero(), "--rank=8", "--dry-run", "--max-error=0.5", "-q"]).exits(3);
    run.stderr_has("check failed: `conv2` has relative error 0.67");
}

#[test]
fn a_changed_factor_does_not_verify() {
    let place = Place::new();
    place.run([&silero(), "--rank=8", "--out=f.safetensors", "-q"]).exits(0);
    let good = place.read("f.safetensors");
    let run = place.run(["verify", "f.safetensors", "--against", &silero(), "--json"]).exits(0);
    assert_eq!(run.json()["passed"], true);
    assert_eq!(run.json()["layers"].as_array().map(Vec::len), Some(4));
    assert_eq!(run.json()["tensors_compared"], 11);

    let mut changed = good.clone();
    let place_of = range_of(&changed, "conv3.1.weight");
    changed[place_of][3] ^= 0x40;
    place.write("changed.safetensors", &changed);
    let run = place.run(["verify", "changed.safetensors", "--against", &silero(), "--json", "-q"]).exits(3);
    let run = run.stderr_has("check failed: `conv3`: relative error ").stderr_has("the record says 0.177");
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    let layers = run.json()["layers"].clone();
    let failed: Vec<_> =
        layers.as_array().expect("layers").iter().filter(|layer| layer["passed"] == false).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["layer"], "conv3");

    let mut changed = good;
    let place_of = range_of(&changed, "stft_conv.weight");
    changed[place_of][0] ^= 1;
    place.write("changed.safetensors", &changed);
    place
        .run(["verify", "changed.safetensors", "--against", &silero(), "-q"])
        .exits(3)
        .stderr("check failed: `stft_conv.weight` differs from the dense checkpoint's\n")
        .stdout_has("1 problem");
    assert_eq!(place.read("changed.safetensors"), changed, "a verification writes nothing");
}

#[test]
fn verifying_against_another_checkpoint_says_what_is_missing() {
    let place = Place::new();
    place.run([&silero(), "--rank=8", "--out=f.safetensors", "-q"]).exits(0);
    place
        .run(["verify", "f.safetensors", "--against", &fixture("tiny-bert"), "-q"])
        .exits(3)
        .stderr_has("check failed: `conv2`: the dense checkpoint has no `conv2.weight`")
        .stderr_has("check failed: the dense checkpoint has no `conv1.bias`")
        .stderr_has(" more, all in the report of --json")
        .stdout_has("60 problems");
}

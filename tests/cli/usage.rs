//! Wrong usage: exit code 2, an error on stderr, nothing on stdout, nothing written.

use crate::harness::{Place, fixture, silero};

const HINT: &str = "hint: `compress --help` lists all flags\n";

/// Runs with a place that holds a file, so that a change to it is seen; returns the first line of stderr.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let place = Place::new();
    place.write(".hidden/kept", "kept");
    let run = place.refuses(2, arguments);
    if run.stderr.lines().nth(1).is_none() {
        run.fail("expected more than one line: a hint, or the usage");
    }
    run.stderr.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn what_is_missing_is_named() {
    let place = Place::new();
    place.refuses(2, [] as [&str; 0]).stderr_has("--out <PATH>").stderr_has("<CHECKPOINT>");
    place.refuses(2, ["--rank", "8", "--out", "x"]).stderr_has("<CHECKPOINT>");
    place.refuses(2, [&silero(), "--rank", "8"]).stderr_has("--out <PATH>");
    place.refuses(2, ["collapse"]).stderr_has("<FACTORED>").stderr_has("--out <PATH>");
    place.refuses(2, ["collapse", "x"]).stderr_has("--out <PATH>");
    place.refuses(2, ["verify", "x"]).stderr_has("--against <DENSE>");
    place.refuses(2, ["inspect"]).stderr_has("<CHECKPOINT>");
    place.refuses(2, ["completions"]).stderr_has("<SHELL>");
}

#[test]
fn a_rank_rule_is_needed() {
    let place = Place::new();
    let rules = "one of --rank, --rank-ratio, --energy, --keep, --layer-keep is needed\n";
    place.refuses(2, [&silero(), "--out", "x"]).stderr(&format!("error: no rank is given: {rules}{HINT}"));
    let no_rank = format!("error: the selected layers get no rank: {rules}{HINT}");
    place.refuses(2, [&silero(), "--out", "x", "--target", "conv2"]).stderr(&no_rank);
    place.refuses(2, [&silero(), "--out", "x", "--ignore", "conv2"]).stderr(&no_rank);
    place.refuses(2, [&silero(), "--dry-run", "--target", "conv2"]).stderr(&no_rank);
}

#[test]
fn rank_rules_exclude_each_other() {
    let rules = ["--rank=8", "--rank-ratio=0.5", "--energy=0.9", "--keep=0.5", "--layer-keep=0.5"];
    for first in rules {
        for second in rules.iter().filter(|second| **second != first) {
            let error = refused(&[&silero(), "--out", "x", first, second]);
            let names = [first, second].map(|rule| rule.split('=').next().unwrap_or_default().to_owned());
            assert!(error.contains("cannot be used with"), "{first} {second}: {error}");
            assert!(
                names.iter().all(|name| error.contains(&format!("{name} <"))),
                "{first} {second}: {error}"
            );
        }
    }
}

#[test]
fn parts_are_above_0_and_at_most_1() {
    for flag in ["--rank-ratio", "--energy", "--keep", "--layer-keep"] {
        for value in
            ["0", "0.0", "-0", "1.5", "1.0000001", "nan", "NaN", "inf", "-1", "-inf", "", "half", "0,5"]
        {
            let error = refused(&[&silero(), "--out", "x", &format!("{flag}={value}")]);
            let expected = format!(
                "error: invalid value '{value}' for '{flag} <F>': expected a number above 0 and at most 1"
            );
            let missing = format!("error: a value is required for '{flag} <F>' but none was supplied");
            assert!(error == expected || value.is_empty() && error == missing, "{flag}={value}: {error}");
        }
    }
}

#[test]
fn flags_that_contradict_each_other_are_wrong_usage_wherever_that_is_seen() {
    let bert = fixture("tiny-bert");
    let text = format!("--calibrate=text:{}", concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE"));
    for (flags, said) in [
        (&["--rank=8,4"][..], "ranks are one for each mode"),
        (&["--rank=8", "--pairs=3"], "pairs"),
        (&["--keep=0.5", "--objective=macs"], "objective"),
        (&["--keep=0.5", "--method=fisher"], "method `fisher` needs calibration"),
        (&["--keep=0.5", &text, "--method=plain"], "method `plain` knows nothing of data"),
        (&["--keep=0.5", &text, "--scheme=tucker"], "tucker"),
        (&["--keep=0.5", "--arch=resnet20"], "--arch is for a network that is run over pictures"),
    ] {
        let error = refused(&[&[bert.as_str(), "--out", "x"], flags].concat());
        assert!(error.contains(said), "{flags:?}: {error}");
    }
    let error = refused(&["heads", &bert, "--out", "x"]);
    assert!(error.contains("--query-key or --output-value"), "{error}");
    let error =
        refused(&["heads", &bert, "--query-key=0.5", &text, "--calibration-inputs=dense", "--out", "x"]);
    assert!(error.contains("--calibration-inputs says nothing of heads"), "{error}");
    let train = ["train", "--arch=resnet8", "--data=cifar10:x", "--bf16", "--out", "x"];
    assert!(refused(&train).contains("--bf16 is for a GPU"));
    let place = Place::new();
    let hint = "hint: `compress evaluate --help` lists all flags\n";
    place.refuses(2, ["evaluate", "x", "--data=cifar10:x", "--window=5"]).stderr_has(hint);
}

#[test]
fn a_negative_number_is_a_value_not_a_flag() {
    let error = refused(&[&silero(), "--out", "x", "--keep", "-1"]);
    assert_eq!(error, "error: invalid value '-1' for '--keep <F>': expected a number above 0 and at most 1");
}

#[test]
fn counts_are_whole_and_from_1_up() {
    for flag in ["--rank", "--round-to", "--threads"] {
        for value in ["0", "-1", "1.5", "8x", "99999999999999999999999"] {
            let error = refused(&[&silero(), "--out", "x", "--rank-ratio=0.5", &format!("{flag}={value}")]);
            let expected =
                format!("error: invalid value '{value}' for '{flag} <N>': expected a whole number from 1 up");
            assert_eq!(error, expected);
        }
    }
}

#[test]
fn limits_of_checks_are_numbers_from_0_up() {
    for flag in ["--max-error", "--max-keep"] {
        for value in ["-1", "nan", "inf", "low"] {
            let error = refused(&[&silero(), "--out", "x", "--rank=8", &format!("{flag}={value}")]);
            assert_eq!(
                error,
                format!("error: invalid value '{value}' for '{flag} <F>': expected a number from 0 up")
            );
        }
    }
}

#[test]
fn sizes_have_known_units() {
    for flag in ["--max-shard-size", "--memory-limit"] {
        for (value, reason) in [
            ("5XB", "unit `XB` is not one of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB"),
            ("GB", "expected a size such as 500MB or 4GiB"),
            ("1.2.3MB", "expected a size such as 500MB or 4GiB"),
            ("0", "expected at least one byte"),
            ("0GB", "expected at least one byte"),
        ] {
            let error = refused(&[&silero(), "--out", "x", "--rank=8", &format!("{flag}={value}")]);
            assert_eq!(error, format!("error: invalid value '{value}' for '{flag} <SIZE>': {reason}"));
        }
    }
}

#[test]
fn words_are_listed_when_one_is_unknown() {
    let place = Place::new();
    for (flag, value, known) in [
        ("--dtype", "f8", "keep, f32, f16, bf16"),
        ("--save", "whole", "factored, collapsed"),
        ("--allocate", "evenly", "uniform, spectral"),
        ("--scheme", "svd", "spatial, channel, tucker, cp, tensor-train, auto, deep"),
        ("--svd", "jacobi", "auto, exact, iterative"),
    ] {
        place
            .refuses(2, [&silero(), "--out", "x", "--rank=8", flag, value])
            .stderr_has(&format!("error: invalid value '{value}' for '{flag} <"))
            .stderr_has(known);
    }
    place.refuses(2, ["completions", "tcsh"]).stderr_has("bash, elvish, fish, powershell, zsh");
}

#[test]
fn unknown_flags_are_named() {
    assert_eq!(
        refused(&[&silero(), "--rank=8", "--out=x", "--bogus"]),
        "error: unexpected argument '--bogus' found"
    );
    for command in ["collapse", "verify", "inspect"] {
        assert_eq!(refused(&[command, "x", "--bogus"]), "error: unexpected argument '--bogus' found");
    }
    let place = Place::new();
    place.refuses(2, [&silero(), "--rank=8", "--out=x", "--overwite"]).stderr_has("'--overwrite'");
    assert_eq!(
        refused(&["inspect", &silero(), "--recipe", "--json"]),
        "error: the argument '--recipe' cannot be used with '--json'"
    );
}

#[test]
fn a_mistyped_command_is_told_from_a_checkpoint() {
    for (typed, near) in [("inpsect", "inspect"), ("evaluat", "evaluate"), ("colapse", "collapse")] {
        let message = format!("error: there is no command and no checkpoint `{typed}`: `{near}` is near");
        assert_eq!(refused(&[typed, "x.safetensors"]), message);
        assert_eq!(refused(&[typed]), message);
    }
    let place = Place::new();
    place.write("inpsect", "a file of this name");
    place.refuses(2, ["inpsect", "x"]).stderr_has("cannot be used with");
}

#[test]
fn a_run_that_factors_nothing_says_so() {
    let place = Place::new();
    let recurrent = [&silero(), "--rank=8", "--target=**.weight_ih", "--out=a.safetensors", "-q"];
    place.run(recurrent).exits(0).stderr_has("warning: no layer is factored");
    place.run([&silero(), "--rank=8", "--out=b.safetensors", "-q"]).exits(0).stderr("");
}

#[test]
fn patterns_that_cannot_be_read_are_wrong_usage() {
    let place = Place::new();
    let rank = "--rank=8";
    let out = "--out=x";
    for flag in ["--target", "--ignore"] {
        place
            .refuses(2, [&silero(), rank, out, flag, ""])
            .stderr(&format!("error: a pattern is empty\n{HINT}"));
        for (pattern, reason) in [
            ("re:(", "unclosed group"),
            ("re:[", "unclosed character class"),
            ("re:*", "repetition operator missing expression"),
        ] {
            place
                .refuses(2, [&silero(), rank, out, flag, pattern])
                .stderr(&format!("error: pattern `{pattern}` is not a regular expression: {reason}\n{HINT}"));
        }
    }
    let hint = "hint: `compress inspect --help` lists all flags\n";
    place.refuses(2, ["inspect", &silero(), "--target", "re:["]).stderr(&format!(
        "error: pattern `re:[` is not a regular expression: unclosed character class\n{hint}"
    ));
}

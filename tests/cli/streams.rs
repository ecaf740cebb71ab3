//! What goes to stdout and what to stderr; help, completions, the man page.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use crate::harness::{Place, fixture, run, silero};

#[test]
fn json_is_one_document_and_nothing_else() {
    let place = Place::new();
    let silero = silero();
    let page = ["--report", "page.html"];
    for (name, arguments) in [
        ("compress", vec![silero.as_str(), "--rank=8", "--out=f.safetensors", "--json", page[0], page[1]]),
        ("compress", vec![silero.as_str(), "--rank=8", "--dry-run", "--json"]),
        ("compress", vec![silero.as_str(), "--energy=0.9", "--dry-run", "--json", "--max-error=0.01"]),
        ("inspect", vec!["inspect", silero.as_str(), "--json"]),
        ("inspect", vec!["inspect", "f.safetensors", "--json", "--tensors", "--rank=4"]),
        ("verify", vec!["verify", "f.safetensors", "--against", silero.as_str(), "--json"]),
        ("collapse", vec!["collapse", "f.safetensors", "--out=d.safetensors", "--json"]),
    ] {
        let run = place.run(&arguments);
        let document = run.json();
        if document["command"] != name || document["schema_version"] != 1 || !run.stdout.ends_with("}\n") {
            run.fail("expected the command's document and a last line break");
        }
    }
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_would_happen() {
    let place = Place::new();
    let run =
        place.run([&silero(), "--rank=8", "--dry-run", "--out=f.safetensors", "-q"]).exits(0).stderr("");
    assert!(place.names().is_empty(), "{:?}", place.names());
    let run = run
        .stdout_has("conv2.0.weight (8, 128, 3), conv2.1.weight (64, 8, 1)")
        .stdout_has("dry run: nothing written");
    let tensors = crate::harness::shapes(&std::fs::read(silero()).expect("the fixture"));
    for tensor in tensors.keys() {
        if !run.stdout.lines().any(|line| line.starts_with(&format!("{tensor} "))) {
            run.fail(&format!("no line for {tensor}"));
        }
    }
    place
        .run([&fixture("tiny-bert"), "--keep=0.6", "--allocate=spectral", "--dry-run", "--out=out"])
        .exits(0);
    assert!(place.names().is_empty(), "{:?}", place.names());
}

#[test]
fn progress_is_a_line_per_layer_on_stderr() {
    let place = Place::new();
    let loud = place.run([&silero(), "--rank=8", "--out=a.safetensors", "--threads=1"]).exits(0);
    let lines: Vec<&str> = loud.stderr.lines().collect();
    if lines.len() != 4 {
        loud.fail("expected a line for each of the four layers");
    }
    for (index, line) in lines.iter().enumerate() {
        if !line.starts_with(&format!("factored {}/4 conv", index + 1)) || !line.contains(" rank 8 error 0.")
        {
            loud.fail("expected number, layer, rank and error");
        }
    }
    place.run([&silero(), "--rank=8", "--out=b.safetensors", "-q"]).exits(0).stderr("");
    assert_eq!(place.read("a.safetensors"), place.read("b.safetensors"));
    let inspected = place.run(["inspect", &silero()]).exits(0);
    assert_eq!(
        inspected.stderr.lines().filter(|line| line.starts_with("spectrum ")).count(),
        8,
        "{}",
        inspected.stderr
    );
    place.run(["inspect", &silero(), "-q"]).exits(0).stderr("");
    let verified = place.run(["verify", "a.safetensors", "--against", &silero()]).exits(0);
    assert_eq!(
        verified.stderr.lines().filter(|line| line.starts_with("verified ")).count(),
        4,
        "{}",
        verified.stderr
    );
    place.run(["verify", "a.safetensors", "--against", &silero(), "--quiet"]).exits(0).stderr("");
    let collapsed = place.run(["collapse", "a.safetensors", "--out=c.safetensors"]).exits(0);
    assert_eq!(
        collapsed.stderr.lines().filter(|line| line.starts_with("collapsed ")).count(),
        4,
        "{}",
        collapsed.stderr
    );
    place.run(["collapse", "a.safetensors", "--out=d.safetensors", "--quiet"]).exits(0).stderr("");
}

#[test]
fn inspecting_headers_only_computes_nothing() {
    let place = Place::new();
    let run = place.run(["inspect", &silero(), "--no-spectra"]).exits(0).stderr("");
    let run = run.stdout_has("309.6 K parameters in 15 tensors").stdout_has("output head, not targeted");
    let row = run.stdout.lines().find(|line| line.starts_with("conv2 ")).unwrap_or_default();
    assert!(row.ends_with(" 54"), "{row}");
    assert!(!run.stdout.contains("stable rank"), "{}", run.stdout);
}

#[test]
fn pipes_get_no_escapes() {
    let place = Place::new();
    let silero = silero();
    for arguments in [
        vec!["--help"],
        vec!["-h"],
        vec!["--bogus"],
        vec![silero.as_str(), "--rank=8", "--out=f.safetensors"],
        vec!["inspect", silero.as_str()],
        vec!["help", "verify"],
    ] {
        for colour in [None, Some("1")] {
            let mut command = place
                .command(arguments.iter().copied().chain((arguments.len() == 3).then_some("--overwrite")));
            command.envs(colour.map(|value| ("NO_COLOR", value)));
            let run = run(command);
            if run.stdout.contains('\u{1b}') || run.stderr.contains('\u{1b}') {
                run.fail("expected no escape sequences");
            }
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let place = Place::new();
    for arguments in [
        vec!["inspect".to_owned(), silero()],
        vec!["man".to_owned()],
        vec![silero(), "--rank=8".to_owned(), "--dry-run".to_owned()],
    ] {
        for lines in [0, 1] {
            let mut child = place
                .command(&arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("a start");
            let mut reader = BufReader::new(child.stdout.take().expect("stdout"));
            for _ in 0..lines {
                reader.read_line(&mut String::new()).expect("a line");
            }
            drop(reader);
            let output = child.wait_with_output().expect("an end");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
            assert!(!stderr.contains("panic") && !stderr.contains("error"), "{arguments:?}: {stderr}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_stdout_is_an_error() {
    let place = Place::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = place
        .command(["inspect", &silero(), "-q"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .expect("an end");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("error: can't write to stdout: No space left on device"), "{stderr}");
}

#[test]
fn help_has_every_heading_and_fits_100_columns() {
    let place = Place::new();
    for arguments in [
        vec!["--help"],
        vec!["-h"],
        vec!["collapse", "--help"],
        vec!["verify", "--help"],
        vec!["inspect", "--help"],
        vec!["completions", "--help"],
        vec!["man", "--help"],
    ] {
        let run = place.run(&arguments).exits(0).stderr("");
        if let Some(line) = run.stdout.lines().find(|line| line.chars().count() > 100) {
            run.fail(&format!("wider than 100 columns: {line}"));
        }
    }
    let run = place.run(["--help"]);
    for heading in ["Input:", "Selection:", "Rank:", "Numerics:", "Output:", "Report:", "Checks:"] {
        if !run.stdout.lines().any(|line| line == heading) {
            run.fail(&format!("no heading {heading}"));
        }
    }
    let run = run
        .stdout_has("Usage: compress [OPTIONS] <CHECKPOINT>")
        .stdout_has("Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done");
    // No flag goes without a word of help.
    for flag in FLAGS {
        let at = run.stdout.lines().position(|line| {
            line.trim_start().trim_start_matches("-o, ").trim_start_matches("-q, ").starts_with(flag)
        });
        let help = at.and_then(|at| run.stdout.lines().nth(at + 1)).unwrap_or_default();
        if help.trim().len() < 12 {
            run.fail(&format!("no help for {flag}"));
        }
    }
    place
        .run(["--version"])
        .exits(0)
        .stderr("")
        .stdout_has(&format!("compress {}\n", env!("CARGO_PKG_VERSION")));
}

const FLAGS: [&str; 28] = [
    "--recipe",
    "--target",
    "--ignore",
    "--rank ",
    "--rank-ratio",
    "--energy",
    "--keep",
    "--layer-keep",
    "--allocate",
    "--round-to",
    "--scheme",
    "--objective",
    "--pairs",
    "--svd",
    "--threads",
    "--memory-limit",
    "--out",
    "--save",
    "--dtype",
    "--max-shard-size",
    "--overwrite",
    "--dry-run",
    "--json",
    "--report",
    "--quiet",
    "--max-error",
    "--max-keep",
    "--fail-if-unchanged",
];

#[test]
fn completions_know_every_flag_and_command() {
    let place = Place::new();
    for (shell, start) in [
        ("bash", "_compress()"),
        ("zsh", "#compdef compress\n"),
        ("fish", "# Print an optspec"),
        ("elvish", "\nuse builtin;"),
        ("powershell", "\nusing namespace"),
    ] {
        let run = place.run(["completions", shell]).exits(0).stderr("");
        if !run.stdout.starts_with(start) {
            run.fail(&format!("expected {start:?} at the start"));
        }
        for flag in FLAGS {
            let name = flag.trim().trim_start_matches("--");
            let written = if shell == "fish" { format!("-l {name}") } else { format!("--{name}") };
            if !run.stdout.contains(&written) {
                run.fail(&format!("no {written}"));
            }
        }
        for command in ["collapse", "verify", "inspect", "completions", "man"] {
            if !run.stdout.contains(command) {
                run.fail(&format!("no {command}"));
            }
        }
        // Where the shell is installed, it reads its script.
        if ["bash", "zsh", "fish"].contains(&shell)
            && let Ok(mut reader) =
                Command::new(shell).arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()
        {
            reader.stdin.take().expect("stdin").write_all(run.stdout.as_bytes()).expect("a script");
            let output = reader.wait_with_output().expect("an end");
            assert!(output.status.success() && output.stderr.is_empty(), "{shell} -n: {output:?}");
        }
    }
}

#[test]
fn the_man_page_is_one() {
    let place = Place::new();
    let run = place.run(["man"]).exits(0).stderr("");
    let run = run
        .stdout_has(".TH compress 1")
        .stdout_has(".SH NAME")
        .stdout_has(".SH SYNOPSIS")
        .stdout_has(".SH DESCRIPTION");
    for flag in FLAGS {
        if !run.stdout.contains(&flag.trim().replace('-', "\\-")) {
            run.fail(&format!("no {flag}"));
        }
    }
    std::fs::create_dir(place.join("man")).expect("a folder");
    place.run(["man", "--directory=man"]).exits(0).stdout_is_empty().stderr("");
    for page in [
        "compress",
        "compress-collapse",
        "compress-verify",
        "compress-inspect",
        "compress-completions",
        "compress-man",
    ] {
        let text = place.text(&format!("man/{page}.1"));
        assert!(text.contains(&format!(".TH {page} 1")), "{page}: {text}");
    }
    place.run(["man", "--directory=new/folder"]).exits(0);
    assert_eq!(place.text("new/folder/compress.1"), place.text("man/compress.1"));
    place.write("file", "");
    place.refuses(1, ["man", "--directory=file"]).stderr_has("error: can't make the folder `file`: ");
}

//! Input that can't be used: exit code 1, what is wrong and where, nothing written, never a panic.

use std::fs;

use crate::harness::{Place, checkpoint, copy_folder, elements, fixture, raw, silero, snapshot};
use serde_json::json;

const OUT: &str = "--out=out.safetensors";

fn data(seed: u64) -> Vec<u8> {
    elements(seed, 16, 16).iter().flat_map(|element| element.to_le_bytes()).collect()
}

fn two() -> Vec<u8> {
    checkpoint(&[("a.weight", &[16, 16], elements(1, 16, 16)), ("b.weight", &[16, 16], elements(2, 16, 16))])
}

fn entry(shape: [usize; 2], start: usize, end: usize) -> serde_json::Value {
    json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]})
}

/// Compressing, inspecting and collapsing refuse a file alike.
#[track_caller]
fn refused(bytes: &[u8], problem: &str, hint: &str) {
    let place = Place::new();
    place.write("bad.safetensors", bytes);
    let expected = format!("error: `bad.safetensors` is not a valid checkpoint: {problem}\n{hint}");
    place.refuses(1, ["bad.safetensors", "--rank=4", OUT]).stderr(&expected);
    place.refuses(1, ["bad.safetensors", "--rank=4", "--dry-run"]).stderr(&expected);
    place.refuses(1, ["inspect", "bad.safetensors"]).stderr(&expected);
    place.refuses(1, ["collapse", "bad.safetensors", OUT]).stderr(&expected);
}

#[test]
fn headers_are_checked_whole() {
    let incomplete = "hint: the file is incomplete: copy or download it again\n";
    let good = two();
    refused(
        &good[..good.len() - 24],
        "the file is truncated: expected 2048 bytes of data, found 2024",
        incomplete,
    );
    let mut beyond = good.clone();
    beyond[..8].copy_from_slice(&1_000_000u64.to_le_bytes());
    refused(
        &beyond,
        &format!("the header should be 1000000 bytes long, found {} bytes after its length", good.len() - 8),
        incomplete,
    );
    refused(
        &raw(
            &json!({"a.weight": entry([16, 16], 0, 1024), "b.weight": entry([16, 16], 512, 1536)})
                .to_string(),
            &[0; 1536],
        ),
        "tensor `b.weight` starts at 512, inside tensor `a.weight`, which ends at 1024",
        "",
    );
    refused(
        &raw(&json!({"a.weight": entry([16, 16], 1024, 0)}).to_string(), &[0; 1024]),
        "tensor `a.weight` has unordered offsets: it ends at 0, before its start 1024",
        "",
    );
    let mut unknown = entry([16, 16], 0, 1024);
    unknown["dtype"] = "F33".into();
    refused(
        &raw(&json!({"a.weight": unknown}).to_string(), &data(1)),
        "tensor `a.weight` has the unknown dtype `F33`",
        "",
    );
    refused(
        b"abc",
        "a file of 3 bytes is too short, expected at least the 8 bytes of the header's length",
        "",
    );
}

#[test]
fn every_problem_of_a_header_is_listed() {
    let place = Place::new();
    let header = json!({
        "a.weight": {"dtype": "F33", "shape": [16, 16], "data_offsets": [0, 1024]},
        "b.weight": {"dtype": "F32", "shape": [16, 16], "data_offsets": [1024, 1030]},
    });
    place.write("bad.safetensors", raw(&header.to_string(), &[0; 1030]));
    place
        .refuses(1, ["bad.safetensors", "--rank=4", OUT])
        .stderr_has("error: `bad.safetensors` is not a valid checkpoint: 2 problems\n")
        .stderr_has("  - tensor `a.weight` has the unknown dtype `F33`\n")
        .stderr_has(
            "  - tensor `b.weight` of shape [16, 16], F32, expected 1024 bytes, found offsets for 6\n",
        );
}

#[test]
fn a_name_twice_in_a_header_is_refused() {
    let place = Place::new();
    let tensor = entry([16, 16], 0, 1024);
    place
        .write("bad.safetensors", raw(&format!("{{\"a.weight\":{tensor},\"a.weight\":{tensor}}}"), &data(1)));
    place.refuses(1, ["bad.safetensors", "--rank=4", OUT]).stderr_has("tensor `a.weight` is described twice");
}

/// A folder of one or two shards with this index.
fn sharded(index: &serde_json::Value, shards: &[(&str, &[&str])]) -> Place {
    let place = Place::new();
    for (shard, tensors) in shards {
        let tensors: Vec<(&str, &[usize], Vec<f32>)> = tensors
            .iter()
            .map(|name| (*name, &[16usize, 16][..], elements(name.len() as u64, 16, 16)))
            .collect();
        place.write(&format!("in/{shard}"), checkpoint(&tensors));
    }
    place.write("in/model.safetensors.index.json", json!({"metadata": {}, "weight_map": index}).to_string());
    place
}

#[test]
fn an_index_and_its_shards_agree() {
    let invalid = "error: `in/model.safetensors.index.json` is not a valid checkpoint: ";
    let one = "model-00001-of-00002.safetensors";
    let other = "model-00002-of-00002.safetensors";
    let refuse = ["in", "--rank=4", "--out=out"];

    let place = sharded(&json!({"a.weight": one, "bb.weight": other}), &[(one, &["a.weight"])]);
    let run = place.refuses(1, refuse).stderr_has(&format!("{invalid}the shard `{other}` is missing, "));
    run.stderr_has("\nhint: fetch the missing shards and run again\n");

    let place = sharded(&json!({"a.weight": one, "bb.weight": one}), &[(one, &["a.weight"])]);
    place
        .refuses(1, refuse)
        .stderr(&format!("{invalid}tensor `bb.weight` should be in `{one}`, it is in no shard\n"));

    let place = sharded(&json!({"a.weight": one}), &[(one, &["a.weight", "ccc.weight"])]);
    place
        .refuses(1, refuse)
        .stderr(&format!("{invalid}tensor `ccc.weight` in `{one}` is not in the index\n"));

    let place = sharded(
        &json!({"a.weight": one, "bb.weight": other}),
        &[(one, &["a.weight"]), (other, &["a.weight", "bb.weight"])],
    );
    place.refuses(1, refuse).stderr(&format!("{invalid}tensor `a.weight` is in `{one}` and in `{other}`\n"));

    let place = sharded(&json!({"a.weight": "../a.safetensors"}), &[]);
    place
        .refuses(1, refuse)
        .stderr(&format!("{invalid}the shard `../a.safetensors` is not the name of a file in this folder\n"));
}

#[test]
fn an_index_without_tensors_is_refused() {
    let place = sharded(&json!({}), &[("model-00001-of-00001.safetensors", &["a.weight"])]);
    place.refuses(1, ["in", "--rank=4", "--out=out"]).stderr_has("`in/model.safetensors.index.json`");
}

#[test]
fn a_weight_that_is_not_finite_is_named_with_its_place() {
    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let mut bad = elements(2, 16, 24);
        bad[24 * 3 + 5] = value;
        let place = Place::new();
        place.write(
            "in.safetensors",
            checkpoint(&[("a.weight", &[16, 16], elements(1, 16, 16)), ("b.weight", &[16, 24], bad)]),
        );
        for more in
            [vec!["--rank=4"], vec!["--energy=0.9"], vec!["--rank=4", "--threads=1", "--save=collapsed"]]
        {
            let run = place.refuses(1, more.iter().copied().chain(["in.safetensors", OUT, "-q"]));
            run.stderr_has("error: `b.weight` can't be ")
                .stderr_has(&format!("element [3, 5] of the weight is {shown}\n"));
        }
    }
}

#[test]
fn a_rank_beyond_the_named_layer_is_refused() {
    let place = Place::new();
    place.write("in.safetensors", two());
    let beyond = "error: rank 17 exceeds the largest possible rank 16 of `a.weight`, shape (16, 16)\n";
    place.refuses(1, ["in.safetensors", "--target=a", "--rank=17", OUT]).stderr(beyond);
    place.refuses(1, ["in.safetensors", "--target=a", "--rank=17", "--dry-run"]).stderr(beyond);
    // A pattern over several layers gives each at most its own, so long as one of them can have it.
    place
        .refuses(1, ["in.safetensors", "--rank=17", OUT])
        .stderr_has("error: rank 17 exceeds the largest possible rank 16 of ");
}

#[test]
fn a_pattern_that_matches_nothing_names_the_nearest_layer() {
    let place = Place::new();
    place.refuses(1, [&silero(), "--target=conv9", "--rank=4", OUT]).stderr(
        "error: `conv9` matches no layer; the nearest is `conv1`\nhint: `compress inspect` lists the layers of a checkpoint\n",
    );
    place.refuses(1, [&silero(), "--ignore=conv9", "--rank=4", OUT]).stderr_has("`conv9` matches no layer");
    place.refuses(1, ["inspect", &silero(), "--target=conv9"]).stderr_has("`conv9` matches no layer");
    let run = place.refuses(1, [&silero(), "--target=conv9", "--ignore=xonv2", "--rank=4", OUT]);
    run.stderr_has("`conv9` matches no layer").stderr_has("`xonv2` matches no layer; the nearest is `conv2`");
}

#[test]
fn recipes_say_the_line_of_what_is_wrong() {
    let place = Place::new();
    for (text, problem) in [
        (
            "save = \"factored\"\n[[rule]]\nrank = 4\nrnk = 4\n",
            "line 4, column 1: unknown field `rnk`, expected one of `targets`",
        ),
        ("savee = \"factored\"\n", "line 1, column 1: unknown field `savee`, expected one of `save`"),
        ("\n\nround_to = -1\n", "line 3, column "),
        ("[[rule]\nrank = 4\n", "line 1, column "),
        ("rule = [{ targets = [\"größe\"], rank = 1, rnk = 4 }]\n", "line 1, column 42: unknown field `rnk`"),
        (
            "[[rule]]\ntargets = [\"conv2\"]\n",
            "targets without a rank: one of rank, ranks, rank_ratio, energy, keep, layer_keep is needed\n",
        ),
        ("[[rule]]\nkeep = 1.5\n", "keep is 1.5, expected more than 0 and at most 1\n"),
        ("[[rule]]\nrank = 0\n", "rank is 0, expected at least 1\n"),
        (
            "[[rule]]\nrank = 4\nkeep = 0.5\n",
            "a rule takes one of rank, ranks, rank_ratio, energy, keep, layer_keep, found rank and keep\n",
        ),
        (
            "[[rule]]\ntargets = [\"re:(\"]\nrank = 4\n",
            "pattern `re:(` is not a regular expression: unclosed group\n",
        ),
    ] {
        place.write("recipe.toml", text);
        let run = place.refuses(1, [&silero(), "--recipe=recipe.toml", OUT]);
        if !run.stderr.starts_with("error: recipe `recipe.toml`: ") || !run.stderr.contains(problem) {
            run.fail(&format!("expected: {problem}"));
        }
    }
    place.refuses(1, [&silero(), "--recipe=none.toml", OUT]).stderr_has("`none.toml`");
    place.write("report.json", "{\"a\": 1}");
    place
        .refuses(1, [&silero(), "--recipe=report.json", OUT])
        .stderr("error: `report.json` holds no recipe: no key `recipe`\n");
    place
        .refuses(1, [&silero(), "--recipe", &silero(), OUT])
        .stderr(&format!("error: `{}` is not factored: it has no recipe\n", silero()));
}

#[test]
fn an_output_that_exists_is_kept_unless_it_is_to_be_replaced() {
    let place = Place::new();
    place.write("out.safetensors", "precious");
    let exists =
        "error: `out.safetensors` exists\nhint: `--overwrite` replaces it once the new content is complete\n";
    place.refuses(1, [&silero(), "--rank=8", OUT]).stderr(exists);
    place.run([&silero(), "--rank=8", OUT, "--overwrite", "-q"]).exits(0).stderr("");
    let made = place.read("out.safetensors");
    place.refuses(1, ["collapse", "out.safetensors", OUT]).stderr_has("is the input");
    assert_eq!(place.read("out.safetensors"), made);

    place.write("notes/letter.txt", "dear");
    place.refuses(1, [&fixture("tiny-bert"), "--rank=4", "--out=notes", "--overwrite"]).stderr(
        "error: `notes` has files that the output would not have: `letter.txt`\n\
         hint: replacing it would remove them: move them away, or name another folder\n",
    );
    // Nor are they where a checkpoint lies beside them, or without --overwrite; an empty folder is filled.
    place.run([&fixture("tiny-bert"), "--rank=4", "--out=small", "-q"]).exits(0);
    place.write("small/notes/letter.txt", "dear");
    place
        .refuses(1, [&fixture("tiny-bert"), "--rank=4", "--out=small", "--overwrite"])
        .stderr_has("would not have: `notes/letter.txt`");
    place.refuses(1, ["collapse", "small", "--out=notes"]).stderr_has("would not have: `letter.txt`");
    assert_eq!(place.text("small/notes/letter.txt"), "dear");
    std::fs::create_dir(place.join("empty")).expect("a folder");
    place.run([&fixture("tiny-bert"), "--rank=4", "--out=empty", "-q"]).exits(0);
}

#[test]
fn an_output_in_or_around_the_input_is_refused() {
    let place = Place::new();
    copy_folder(fixture("tiny-bert").as_ref(), &place.join("in"));
    fs::copy(silero(), place.join("dense.safetensors")).expect("a copy");
    fs::hard_link(place.join("dense.safetensors"), place.join("hard.safetensors")).expect("a link");
    let hint = "hint: the input is never changed: write beside it\n";
    let mut cases = vec![
        ("dense.safetensors", "dense.safetensors", "is the input"),
        ("dense.safetensors", "hard.safetensors", "is the input"),
        ("dense.safetensors", "in/../dense.safetensors", "is the input"),
        ("in", "in", "the input `in"),
        ("in", "in/out", "lies inside the input"),
        ("in", "in/.", "the input `in"),
        ("in/model.safetensors", "in/", "contains the input"),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("in", place.join("link")).expect("a link");
        std::os::unix::fs::symlink("dense.safetensors", place.join("soft.safetensors")).expect("a link");
        cases.extend([
            ("in", "link", "the input `in"),
            ("in", "link/out", "lies inside the input"),
            ("link", "in/out", "lies inside the input"),
            ("dense.safetensors", "soft.safetensors", "is the input"),
            ("soft.safetensors", "dense.safetensors", "is the input"),
        ]);
    }
    for (input, out, problem) in cases {
        let run = place.refuses(1, [input, "--rank=4", "--out", out, "--overwrite"]);
        if !run.stderr.starts_with("error: the output `")
            || !run.stderr.contains(problem)
            || !run.stderr.ends_with(hint)
        {
            run.fail(&format!("expected: {problem}"));
        }
    }
}

#[test]
fn an_output_that_is_the_input_folder_is_called_that() {
    let place = Place::new();
    copy_folder(fixture("tiny-bert").as_ref(), &place.join("in"));
    place.refuses(1, ["in", "--rank=4", "--out=in", "--overwrite"]).stderr_has(" is the input `in`\n");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let place = Place::new();
    place
        .refuses(1, [&silero(), "--rank=8", "--out=none/x.safetensors"])
        .stderr("error: the folder `none` does not exist\nhint: create it: mkdir -p none\n");
    place.write("file", "");
    place
        .refuses(1, [&silero(), "--rank=8", "--out=file/x.safetensors"])
        .stderr("error: `file` is not a folder\n");
}

#[test]
fn a_file_named_as_a_folder_is_named() {
    let place = Place::new();
    place.write("file", "");
    place
        .refuses(1, [&silero(), "--rank=8", "--out=file/"])
        .stderr_has("error: `file` is a file, expected a directory or nothing\n");
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_refused_before_work_begins() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let folder = place.join("locked");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).expect("a mode");
    // Root writes everywhere: then there is nothing to see.
    if fs::write(folder.join("probe"), "").is_ok() {
        fs::remove_file(folder.join("probe")).expect("the probe");
        return;
    }
    place
        .refuses(1, [&silero(), "--rank=8", "--out=locked/x.safetensors"])
        .stderr_has("error: the folder `")
        .stderr_has("locked` is not writable: Permission denied");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("a mode");
}

#[test]
fn a_pickled_checkpoint_comes_with_its_conversion() {
    let place = Place::new();
    place.write("zip.pt", b"PK\x03\x04 archive/data.pkl");
    place.write("bare.bin", b"\x80\x02}q\x00aaaaaaaaaaaaa");
    place.write("renamed.safetensors", b"PK\x03\x04 archive/data.pkl");
    place.write("folder/pytorch_model.bin", b"\x80\x02}q\x00");
    place.write("folder/config.json", "{}");
    for (input, problem, loaded) in [
        (
            "zip.pt",
            "`zip.pt` is a zip archive, probably a pickled PyTorch checkpoint, expected safetensors",
            "zip.pt",
        ),
        ("bare.bin", "`bare.bin` is a pickled checkpoint, expected safetensors", "bare.bin"),
        (
            "renamed.safetensors",
            "`renamed.safetensors` is a zip archive, probably a pickled PyTorch checkpoint, expected safetensors",
            "renamed.safetensors",
        ),
        (
            "folder",
            "`folder` has weights in other formats only (`pytorch_model.bin`), expected safetensors",
            "folder/pytorch_model.bin",
        ),
    ] {
        place
            .refuses(1, [input, "--rank=4", "--out=out"])
            .stderr_has(&format!("error: {problem}\nhint: convert it with Python:\n"))
            .stderr_has(&format!(
                "weights = torch.load(\"{loaded}\", map_location=\"cpu\", weights_only=True)\n"
            ))
            .stderr_has("safetensors.torch.save_file(");
    }
    place.write("model.gguf", b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0");
    place.refuses(1, ["model.gguf", "--rank=4", "--out=out"]).stderr(
        "error: `model.gguf` is a GGUF file, expected safetensors\nhint: import it first: compress import model.gguf --out model\n",
    );
    place.write("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
    place
        .refuses(1, ["model.safetensors", "--rank=4", "--out=out"])
        .stderr_has("is a Git LFS pointer whose contents were not fetched")
        .stderr_has("hint: fetch the contents with `git lfs pull`\n");
}

#[test]
fn what_is_not_there_is_said() {
    let place = Place::new();
    place
        .refuses(1, ["none.safetensors", "--rank=4", OUT])
        .stderr("error: `none.safetensors` does not exist\n");
    place.refuses(1, ["org/name", "--rank=4", "--out=out"]).stderr(
        "error: `org/name` does not exist\nhint: if it is a repository of the hub, name it hf://org/name\n",
    );
    fs::create_dir(place.join("empty")).expect("a folder");
    place.refuses(1, ["empty", "--rank=4", "--out=out"]).stderr(
        "error: `empty` has no safetensors file\nhint: name a .safetensors file, or a directory that has one at its top\n",
    );
    for command in
        [vec!["inspect", "none"], vec!["collapse", "none", OUT], vec!["verify", "none", "--against", "none"]]
    {
        place.refuses(1, command).stderr("error: `none` does not exist\n");
    }
}

#[test]
fn files_and_folders_are_not_mistaken_for_each_other() {
    let place = Place::new();
    place.write("file.txt", "text");
    fs::create_dir(place.join("folder.safetensors")).expect("a folder");
    place.refuses(1, [&silero(), "--rank=4", "--out=folder.safetensors"]).stderr_has(
        "error: `folder.safetensors` is a directory, expected a file or nothing\nhint: name a file in it, such as folder.safetensors/model.safetensors\n",
    );
    place
        .refuses(1, [&fixture("tiny-bert"), "--rank=4", "--out=file.txt", "--overwrite"])
        .stderr("error: `file.txt` is a file, expected a directory or nothing\nhint: name a directory that does not exist yet\n");
    place
        .refuses(1, ["folder.safetensors", "--rank=4", OUT])
        .stderr_has("`folder.safetensors` has no safetensors file");
    place
        .refuses(1, ["file.txt", "--rank=4", OUT])
        .stderr_has("error: `file.txt` is not a valid checkpoint: ");
    place
        .refuses(1, ["file.txt/model.safetensors", "--rank=4", OUT])
        .stderr_has("`file.txt/model.safetensors`");
}

#[test]
fn factored_and_dense_are_told_apart() {
    let place = Place::new();
    place.run([&silero(), "--rank=8", "--out=factored.safetensors", "-q"]).exits(0);
    place.refuses(1, ["factored.safetensors", "--rank=4", OUT]).stderr(
        "error: `factored.safetensors` is factored already: its record lists 4 modules\nhint: `compress collapse` restores a dense checkpoint\n",
    );
    let not_factored = format!(
        "error: `{}` is not factored: it has no factorization record\nhint: `compress --rank 64 CHECKPOINT --out DIR` factors one\n",
        silero()
    );
    place.refuses(1, ["collapse", &silero(), OUT]).stderr(&not_factored);
    place.refuses(1, ["verify", &silero(), "--against", "factored.safetensors"]).stderr(&not_factored);
    place
        .refuses(1, ["inspect", &silero(), "--recipe"])
        .stderr_has(&format!("error: `{}` is not factored: it has no recipe\n", silero()));
}

#[test]
fn what_cannot_be_planned_is_refused_with_the_numbers() {
    let place = Place::new();
    place.write("in.safetensors", two());
    let run = place.refuses(1, ["in.safetensors", "--keep=0.01", OUT, "-q"]);
    run.stderr_has("error: keep 0.01 can't be reached: at rank 1 everywhere it is 0.1250\n");
    place.refuses(1, ["in.safetensors", "--rank=4", "--memory-limit=10B", OUT, "-q"]).stderr_has(
        "of memory to be factored, the limit is 10 bytes\nhint: raise `--memory-limit` or ignore the layer\n",
    );
    place
        .refuses(1, [&silero(), "--target=lstm_cell.weight_hh", "--rank=4", OUT])
        .stderr_has("`lstm_cell.weight_hh` is a recurrent")
        .stderr_has("hint: `--save collapsed` multiplies the factors out\n");
}

#[test]
fn the_input_is_never_touched() {
    let place = Place::new();
    copy_folder(fixture("tiny-llama").as_ref(), &place.join("in"));
    let before = snapshot(&place.join("in"));
    place.run(["in", "--rank=4", "--out=out", "-q"]).exits(0);
    place.run(["inspect", "in", "-q"]).exits(0);
    place.run(["verify", "out", "--against", "in", "-q"]).exits(0);
    place.run(["collapse", "out", "--out=dense", "-q"]).exits(0);
    assert_eq!(snapshot(&place.join("in")), before);
}

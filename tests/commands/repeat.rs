//! Equal inputs, equal bytes.

use crate::compress::output;
use crate::files::fixture;
use crate::tree::{RUNS, assert_same_tree, options, run_collapse, run_compress};
use fnl::checkpoint::Checkpoint;
use fnl::commands::{CollapseOptions, collapse, compress};
use fnl::plan::{Limits, NoProgress, Recipe};

#[test]
fn threads_and_repetition_change_no_byte() {
    for (name, recipe) in RUNS {
        let folder = tempfile::tempdir().unwrap();
        let mut outputs = Vec::new();
        for (run, threads) in [1, 2, 3, 2].into_iter().enumerate() {
            let part = folder.path().join(run.to_string());
            std::fs::create_dir(&part).unwrap();
            let mut options = options(&fixture(name), &output(&part, name), recipe);
            options.limits = Limits::new(threads, None);
            compress(&options, &NoProgress).unwrap();
            outputs.push(output(&part, name));
        }
        for other in &outputs[1..] {
            assert_same_tree(&outputs[0], other);
        }
    }
}

#[test]
fn collapsing_with_any_threads_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let factored = folder.path().join("f");
    run_compress(&fixture("tiny-gpt2"), &factored, RUNS[2].1);
    let first = folder.path().join("1");
    run_collapse(&factored, &first);
    for threads in [1, 2, 3] {
        let other = folder.path().join(format!("t{threads}"));
        let mut options = CollapseOptions::new(factored.as_path().into(), other.clone());
        options.limits = Limits::new(threads, None);
        collapse(&options, &NoProgress).unwrap();
        assert_same_tree(&first, &other);
    }
}

#[test]
fn a_memory_limit_changes_the_order_and_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (free, limited) = (folder.path().join("free"), folder.path().join("limited"));
    let mut options = options(&fixture("tiny-bert"), &free, RUNS[0].1);
    options.limits = Limits::new(2, None);
    let report = compress(&options, &NoProgress).unwrap();
    options.output = Some(limited.clone());
    // Room for one of the largest at a time: the peak is that of the largest two, which are nearly alike.
    options.limits = Limits::new(2, Some(report.totals.peak_memory_bytes / 5 * 3));
    compress(&options, &NoProgress).unwrap();
    assert_same_tree(&free, &limited);
}

#[test]
fn the_recipe_in_the_record_repeats_the_run() {
    for (name, recipe) in RUNS {
        for dtype in ["keep", "bf16"] {
            let folder = tempfile::tempdir().unwrap();
            let (first, second) = (folder.path().join("1"), folder.path().join("2"));
            std::fs::create_dir(&first).unwrap();
            std::fs::create_dir(&second).unwrap();
            let (first, second) = (output(&first, name), output(&second, name));
            run_compress(
                &fixture(name),
                &first,
                &format!("dtype = \"{dtype}\"\nmax_shard_bytes = 30000\n{recipe}"),
            );
            let checkpoint = Checkpoint::open_path(&first).unwrap();
            let recipe = Recipe::from_json(&checkpoint.record().unwrap().recipe).unwrap();
            // As TOML, which is how it would be given again.
            run_compress(&fixture(name), &second, &recipe.to_toml());
            assert_same_tree(&first, &second);
        }
    }
}

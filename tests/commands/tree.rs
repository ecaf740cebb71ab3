//! Running commands, and reading what they wrote with other people's code.

use fnl::commands::{
    CollapseOptions, CommandError, CompressOptions, VerifyOptions, collapse, compress, verify,
};
use fnl::plan::{Limits, NoProgress, Recipe};
use fnl::report::{CollapseReport, CompressReport, VerifyReport};
use half::{bf16, f16};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

pub(crate) fn options(input: &Path, output: &Path, recipe: &str) -> CompressOptions {
    let mut options = CompressOptions::new(input.into(), Recipe::parse_toml(recipe).unwrap());
    options.output = Some(output.to_owned());
    options.limits = Limits::new(2, None);
    options
}

pub(crate) fn try_compress(
    input: &Path,
    output: &Path,
    recipe: &str,
) -> Result<CompressReport, CommandError> {
    compress(&options(input, output, recipe), &NoProgress)
}

pub(crate) fn run_compress(input: &Path, output: &Path, recipe: &str) -> CompressReport {
    try_compress(input, output, recipe)
        .unwrap_or_else(|error| panic!("{}: {}", input.display(), chain(&error)))
}

pub(crate) fn run_collapse(input: &Path, output: &Path) -> CollapseReport {
    collapse(&CollapseOptions::new(input.into(), output.to_owned()), &NoProgress)
        .unwrap_or_else(|error| panic!("{}: {}", input.display(), chain(&error)))
}

pub(crate) fn run_verify(factored: &Path, dense: &Path) -> VerifyReport {
    verify(&VerifyOptions::new(factored.into(), dense.into()), &NoProgress)
        .unwrap_or_else(|error| panic!("{}: {}", factored.display(), chain(&error)))
}

/// An error and its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A tensor as safetensors' own reader finds it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loaded {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Loaded {
    pub(crate) fn numbers(&self) -> Vec<f64> {
        let bytes = &self.bytes;
        match self.dtype.as_str() {
            "F64" => bytes.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            "F32" => bytes.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
            "F16" => bytes.chunks(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f64()).collect(),
            "BF16" => bytes.chunks(2).map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f64()).collect(),
            other => panic!("{other} holds no numbers"),
        }
    }
}

/// The distance from 1 to the next number.
pub(crate) fn epsilon(dtype: &str) -> f64 {
    match dtype {
        "F64" => f64::EPSILON,
        "F32" => f64::from(f32::EPSILON),
        "F16" => f16::EPSILON.to_f64(),
        "BF16" => bf16::EPSILON.to_f64(),
        other => panic!("{other} has no epsilon"),
    }
}

/// The safetensors files of a checkpoint, in order of name.
pub(crate) fn weight_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|p| p.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    files
}

pub(crate) fn load(path: &Path) -> BTreeMap<String, Loaded> {
    let mut tensors = BTreeMap::new();
    for file in weight_files(path) {
        let bytes = std::fs::read(&file).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let (dtype, shape) = (view.dtype().to_string(), view.shape().to_vec());
            let loaded = Loaded { dtype, shape, bytes: view.data().to_vec() };
            assert_eq!(tensors.insert(name.clone(), loaded), None, "{name} twice");
        }
    }
    tensors
}

pub(crate) fn metadata(file: &Path) -> HashMap<String, String> {
    let bytes = std::fs::read(file).unwrap();
    SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap_or_default()
}

/// The record of a factored checkpoint, which every one of its files must hold.
pub(crate) fn record(path: &Path) -> Value {
    let files = weight_files(path);
    let texts: Vec<String> = files.iter().map(|file| metadata(file)["factorization"].clone()).collect();
    assert!(texts.iter().all(|text| *text == texts[0]), "records differ");
    serde_json::from_str(&texts[0]).unwrap()
}

/// Every file below a folder, or a file, with its bytes.
pub(crate) fn tree(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![path.to_owned()];
    while let Some(at) = pending.pop() {
        if at.is_dir() {
            pending.extend(std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.insert(at.strip_prefix(path).unwrap().to_owned(), std::fs::read(&at).unwrap());
        }
    }
    files
}

pub(crate) fn assert_same_tree(one: &Path, other: &Path) {
    let (one, other) = (tree(one), tree(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (path, bytes) in &one {
        assert!(*bytes == other[path], "{} differs", path.display());
    }
}

/// Copies a folder, to add files to it or change them.
pub(crate) fn copied(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in tree(from) {
        let to = folder.path().join(path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }
    folder
}

pub(crate) fn norm(xs: &[f64]) -> f64 {
    xs.iter().map(|x| x * x).sum::<f64>().sqrt()
}

pub(crate) fn distance(xs: &[f64], ys: &[f64]) -> f64 {
    assert_eq!(xs.len(), ys.len());
    xs.iter().zip(ys).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt()
}

fn numbers_of(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

/// What a module's factors stand for, element by element in f64, from the table of the format alone.
pub(crate) fn multiplied_out(module: &Value, first: &Loaded, second: &Loaded) -> Vec<f64> {
    let shape = numbers_of(&module["shape"]);
    let rank = module["rank"].as_u64().unwrap() as usize;
    let groups = module["groups"].as_u64().unwrap_or(1) as usize;
    let (a, b) = (first.numbers(), second.numbers());
    let sum = |term: &dyn Fn(usize) -> f64| (0..rank).map(term).sum::<f64>();
    let mut w = Vec::new();
    match (module["kind"].as_str().unwrap(), module["scheme"].as_str().unwrap()) {
        ("linear", "matrix") => {
            for o in 0..shape[0] {
                w.extend((0..shape[1]).map(|i| sum(&|k| b[o * rank + k] * a[k * shape[1] + i])));
            }
        }
        ("transposed_linear", "matrix") => {
            for i in 0..shape[0] {
                w.extend((0..shape[1]).map(|o| sum(&|k| a[i * rank + k] * b[k * shape[1] + o])));
            }
        }
        ("embedding", "matrix") => {
            for v in 0..shape[0] {
                w.extend((0..shape[1]).map(|d| sum(&|k| a[v * rank + k] * b[d * rank + k])));
            }
        }
        (kind, scheme) => {
            let (o, i) = (shape[0], shape[1]);
            let (kh, kw) = if kind == "conv1d" { (1, shape[2]) } else { (shape[2], shape[3]) };
            for out in 0..o {
                let channel = |k: usize| out / (o / groups) * rank + k;
                for inner in 0..i {
                    for y in 0..kh {
                        for x in 0..kw {
                            w.push(match scheme {
                                "spatial" => sum(&|k| {
                                    b[(out * rank + k) * kh + y] * a[(channel(k) * i + inner) * kw + x]
                                }),
                                "channel" => sum(&|k| {
                                    b[out * rank + k] * a[((channel(k) * i + inner) * kh + y) * kw + x]
                                }),
                                other => panic!("{other}"),
                            });
                        }
                    }
                }
            }
        }
    }
    w
}

/// The shapes that the table of the format gives a module's two layers.
pub(crate) fn expected_shapes(module: &Value) -> [Vec<usize>; 2] {
    let s = numbers_of(&module["shape"]);
    let r = module["rank"].as_u64().unwrap() as usize;
    let g = module["groups"].as_u64().unwrap_or(1) as usize;
    match (module["kind"].as_str().unwrap(), module["scheme"].as_str().unwrap()) {
        ("linear", "matrix") => [vec![r, s[1]], vec![s[0], r]],
        ("transposed_linear", "matrix") => [vec![s[0], r], vec![r, s[1]]],
        ("embedding", "matrix") => [vec![s[0], r], vec![s[1], r]],
        ("conv1d", "channel") => [vec![g * r, s[1], s[2]], vec![s[0], r, 1]],
        ("conv2d", "spatial") => [vec![g * r, s[1], 1, s[3]], vec![s[0], r, s[2], 1]],
        ("conv2d", "channel") => [vec![g * r, s[1], s[2], s[3]], vec![s[0], r, 1, 1]],
        other => panic!("{other:?}"),
    }
}

/// Checkpoints and recipes that together use every layout, scheme and rank rule.
pub(crate) const RUNS: [(&str, &str); 11] = [
    ("tiny-bert", "[[rule]]\nlayer_keep = 0.5\n"),
    (
        "tiny-bert",
        "[[rule]]\ntargets = [\"**.word_embeddings\", \"**.position_embeddings\"]\nrank = 9\n[[rule]]\nenergy = 0.7\n",
    ),
    ("tiny-gpt2", "[[rule]]\nrank_ratio = 0.3\n"),
    ("tiny-gpt2", "allocate = \"spectral\"\n[[rule]]\ntargets = [\"**\"]\nlayer_keep = 0.4\n"),
    ("tiny-llama", "[[rule]]\nrank = 5\n"),
    ("tiny-llama", "[[rule]]\ntargets = [\"lm_head\", \"**.mlp.*\"]\nrank = 7\n"),
    ("tiny-vit", "round_to = 2\n[[rule]]\nkeep = 0.6\n"),
    ("tiny-resnet.safetensors", "[[rule]]\nkeep = 0.5\n"),
    ("tiny-resnet.safetensors", "conv_scheme = \"channel\"\n[[rule]]\ntargets = [\"**\"]\nrank = 3\n"),
    (
        "tiny-resnext.safetensors",
        "[[rule]]\ntargets = [\"layer1.**\"]\nscheme = \"channel\"\nrank = 2\n[[rule]]\nrank = 3\n\
         [[convolution]]\nlayers = [\"**.conv2\"]\ngroups = 4\nstride = [2, 2]\npadding = [1, 1]\n",
    ),
    ("silero_vad_16k.safetensors", "[[rule]]\nrank = 16\n"),
];

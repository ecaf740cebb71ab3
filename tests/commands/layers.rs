//! A factored checkpoint runs in candle as it is: `vb.pp("0")`, then `vb.pp("1")`.

use crate::compress::output;
use crate::files::fixture;
use crate::tree::{run_collapse, run_compress};
use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::VarBuilder;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};

/// Factored and collapsed, ready to be read.
struct Pair {
    _folder: tempfile::TempDir,
    factored: PathBuf,
    collapsed: PathBuf,
}

fn pair(name: &str, recipe: &str) -> Pair {
    let folder = tempfile::tempdir().unwrap();
    for part in ["f", "c"] {
        std::fs::create_dir(folder.path().join(part)).unwrap();
    }
    let [factored, collapsed] = ["f", "c"].map(|part| output(&folder.path().join(part), name));
    run_compress(&fixture(name), &factored, recipe);
    run_collapse(&factored, &collapsed);
    Pair { _folder: folder, factored, collapsed }
}

fn builder(path: &Path) -> Result<VarBuilder<'static>> {
    let file = if path.is_dir() { path.join("model.safetensors") } else { path.to_owned() };
    // 16-bit weights are widened by the builder, exactly.
    VarBuilder::from_buffered_safetensors(std::fs::read(file)?, DType::F32, &Device::Cpu)
}

fn inputs(seed: u64, shape: &[usize]) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let numbers: Vec<f32> =
        (0..shape.iter().product::<usize>()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu)
}

/// `|ys - zs| / |zs|`, a norm of a difference.
fn apart(ys: &Tensor, zs: &Tensor) -> Result<f32> {
    assert_eq!(ys.dims(), zs.dims());
    let norm = |xs: Tensor| xs.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>();
    Ok(norm((ys - zs)?)? / norm(zs.clone())?)
}

/// Two f32 products against one: 16 eps sqrt(terms), relative to outputs of the size of the weight times the input.
fn allowed(terms: usize) -> f32 {
    16.0 * f32::EPSILON * (terms as f32).sqrt()
}

fn rank_of(vb: &VarBuilder<'_>, record: &serde_json::Value, layer: &str) -> usize {
    assert!(vb.contains_tensor(&format!("{layer}.0.weight")));
    record["modules"][layer]["rank"].as_u64().unwrap() as usize
}

#[test]
fn linear_layers() -> Result<()> {
    for (name, recipe, biased) in [
        ("tiny-bert", "[[rule]]\nenergy = 0.8\n", true),
        ("tiny-vit", "[[rule]]\ntargets = [\"**\"]\nrank = 5\n", true),
        ("tiny-llama", "dtype = \"f32\"\n[[rule]]\nrank = 6\n", false),
    ] {
        let pair = pair(name, recipe);
        let (chains, dense) = (builder(&pair.factored)?, builder(&pair.collapsed)?);
        let record = crate::tree::record(&pair.factored);
        let mut compared = 0;
        for (layer, module) in record["modules"].as_object().unwrap() {
            if module["kind"] != "linear" {
                continue;
            }
            let [out, inner] = [0, 1].map(|axis| module["shape"][axis].as_u64().unwrap() as usize);
            let rank = rank_of(&chains, &record, layer);
            let xs = inputs(1, &[3, 5, inner])?;
            let vb = chains.pp(layer);
            let first = candle_nn::linear_no_bias(inner, rank, vb.pp("0"))?;
            let (ys, zs) = if biased {
                let second = candle_nn::linear(rank, out, vb.pp("1"))?;
                let whole = candle_nn::linear(inner, out, dense.pp(layer))?;
                (second.forward(&first.forward(&xs)?)?, whole.forward(&xs)?)
            } else {
                let second = candle_nn::linear_no_bias(rank, out, vb.pp("1"))?;
                let whole = candle_nn::linear_no_bias(inner, out, dense.pp(layer))?;
                (second.forward(&first.forward(&xs)?)?, whole.forward(&xs)?)
            };
            // Llama's collapsed weights are BF16 again: rounded once, by eps / 2 at most.
            let rounding = if name == "tiny-llama" { half::bf16::EPSILON.to_f32() } else { 0.0 };
            let found = apart(&ys, &zs)?;
            assert!(found <= allowed(inner + rank) + rounding, "{name}: {layer}: {found:e}");
            compared += 1;
        }
        assert!(compared >= 12, "{name}: {compared}");
    }
    Ok(())
}

#[test]
fn embeddings() -> Result<()> {
    let pair = pair("tiny-bert", "[[rule]]\ntargets = [\"**.word_embeddings\"]\nrank = 9\n");
    let (chains, dense) = (builder(&pair.factored)?, builder(&pair.collapsed)?);
    let name = "bert.embeddings.word_embeddings";
    let table = candle_nn::embedding(120, 9, chains.pp(name).pp("0"))?;
    let linear = candle_nn::linear_no_bias(9, 32, chains.pp(name).pp("1"))?;
    let whole = candle_nn::embedding(120, 32, dense.pp(name))?;
    let tokens = Tensor::arange(0u32, 120, &Device::Cpu)?;
    let found = apart(&linear.forward(&table.forward(&tokens)?)?, &whole.forward(&tokens)?)?;
    assert!(found <= allowed(9), "{found:e}");
    // And the decoder, the other use of the same weight.
    let decoder = "cls.predictions.decoder";
    let first = candle_nn::linear_no_bias(32, 9, chains.pp(decoder).pp("0"))?;
    let second = candle_nn::linear(9, 120, chains.pp(decoder).pp("1"))?;
    let whole = candle_nn::linear(32, 120, dense.pp(decoder))?;
    let xs = inputs(2, &[4, 32])?;
    let found = apart(&second.forward(&first.forward(&xs)?)?, &whole.forward(&xs)?)?;
    assert!(found <= allowed(41), "{found:e}");
    Ok(())
}

#[test]
fn transposed_linear_layers() -> Result<()> {
    let pair = pair("tiny-gpt2", "dtype = \"f32\"\n[[rule]]\nrank = 8\n");
    let (chains, dense) = (builder(&pair.factored)?, builder(&pair.collapsed)?);
    for (layer, inner, out) in
        [("h.0.attn.c_attn", 48, 144), ("h.1.mlp.c_proj", 192, 48), ("h.1.attn.c_proj", 48, 48)]
    {
        let vb = chains.pp(layer);
        // GPT-2's Conv1D: x W + b
        let first = vb.pp("0").get((inner, 8), "weight")?;
        let second = vb.pp("1").get((8, out), "weight")?;
        let bias = vb.pp("1").get(out, "bias")?;
        let xs = inputs(3, &[6, inner])?;
        let ys = xs.matmul(&first)?.matmul(&second)?.broadcast_add(&bias)?;
        let whole = dense.pp(layer).get((inner, out), "weight")?;
        let zs = xs.matmul(&whole)?.broadcast_add(&dense.pp(layer).get(out, "bias")?)?;
        // The collapsed weights are F16 again.
        let found = apart(&ys, &zs)?;
        assert!(found <= allowed(inner + 8) + half::f16::EPSILON.to_f32(), "{layer}: {found:e}");
    }
    Ok(())
}

#[test]
fn two_dimensional_convolutions() -> Result<()> {
    for (scheme, name) in [("spatial", "tiny-resnet.safetensors"), ("channel", "tiny-resnet.safetensors")] {
        let pair = pair(name, &format!("conv_scheme = \"{scheme}\"\n[[rule]]\nrank = 5\n"));
        let (chains, dense) = (builder(&pair.factored)?, builder(&pair.collapsed)?);
        for (layer, inner, out) in
            [("layer1.0.conv1", 8, 8), ("layer2.0.conv1", 8, 16), ("layer3.0.conv2", 32, 32)]
        {
            let xs = inputs(4, &[2, inner, 9, 10])?;
            let whole = dense.pp(layer).get((out, inner, 3, 3), "weight")?;
            for stride in [1, 2] {
                let zs = xs.conv2d(&whole, 1, stride, 1, 1)?;
                let vb = chains.pp(layer);
                let ys = if scheme == "channel" {
                    let first = vb.pp("0").get((5, inner, 3, 3), "weight")?;
                    let second = vb.pp("1").get((out, 5, 1, 1), "weight")?;
                    xs.conv2d(&first, 1, stride, 1, 1)?.conv2d(&second, 0, 1, 1, 1)?
                } else {
                    // candle pads and strides both axes alike, so each axis is padded and thinned by hand.
                    let thinned = |xs: Tensor, axis: usize| {
                        let kept: Vec<u32> = (0..xs.dim(axis)? as u32).step_by(stride).collect();
                        xs.contiguous()?.index_select(&Tensor::new(kept, &Device::Cpu)?, axis)
                    };
                    let first = vb.pp("0").get((5, inner, 1, 3), "weight")?;
                    let second = vb.pp("1").get((out, 5, 3, 1), "weight")?;
                    let hidden = thinned(xs.pad_with_zeros(3, 1, 1)?.conv2d(&first, 0, 1, 1, 1)?, 3)?;
                    thinned(hidden.pad_with_zeros(2, 1, 1)?.conv2d(&second, 0, 1, 1, 1)?, 2)?
                };
                let found = apart(&ys, &zs)?;
                assert!(found <= allowed(inner * 9), "{scheme} {layer} stride {stride}: {found:e}");
            }
        }
    }
    Ok(())
}

#[test]
fn grouped_convolutions() -> Result<()> {
    let recipe = "conv_scheme = \"channel\"\n[[rule]]\nrank = 2\n[[convolution]]\nlayers = [\"**.conv2\"]\ngroups = 4\n";
    let pair = pair("tiny-resnext.safetensors", recipe);
    let (chains, dense) = (builder(&pair.factored)?, builder(&pair.collapsed)?);
    for (layer, inner, width) in [("layer1.0.conv2", 4, 16), ("layer2.0.conv2", 8, 32)] {
        let config = candle_nn::Conv2dConfig {
            padding: 1,
            stride: 2,
            groups: 4,
            ..candle_nn::Conv2dConfig::default()
        };
        let pointwise = candle_nn::Conv2dConfig { groups: 4, ..candle_nn::Conv2dConfig::default() };
        let first = candle_nn::conv2d_no_bias(width, 8, 3, config, chains.pp(layer).pp("0"))?;
        let second = candle_nn::conv2d_no_bias(8, width, 1, pointwise, chains.pp(layer).pp("1"))?;
        let whole = candle_nn::conv2d_no_bias(width, width, 3, config, dense.pp(layer))?;
        let xs = inputs(5, &[2, width, 8, 9])?;
        let found = apart(&second.forward(&first.forward(&xs)?)?, &whole.forward(&xs)?)?;
        assert!(found <= allowed(9 * inner), "{layer}: {found:e}");
    }
    Ok(())
}

#[test]
fn one_dimensional_convolutions() -> Result<()> {
    let pair = pair("silero_vad_16k.safetensors", "[[rule]]\nrank = 16\n");
    let (chains, dense) = (builder(&pair.factored)?, builder(&pair.collapsed)?);
    for (layer, inner, out) in [("conv1", 129, 128), ("conv2", 128, 64), ("conv4", 64, 128)] {
        let config = candle_nn::Conv1dConfig { padding: 1, stride: 2, ..candle_nn::Conv1dConfig::default() };
        let first = candle_nn::conv1d_no_bias(inner, 16, 3, config, chains.pp(layer).pp("0"))?;
        let second =
            candle_nn::conv1d(16, out, 1, candle_nn::Conv1dConfig::default(), chains.pp(layer).pp("1"))?;
        let whole = candle_nn::conv1d(inner, out, 3, config, dense.pp(layer))?;
        let xs = inputs(6, &[2, inner, 21])?;
        let found = apart(&second.forward(&first.forward(&xs)?)?, &whole.forward(&xs)?)?;
        assert!(found <= allowed(3 * inner), "{layer}: {found:e}");
    }
    Ok(())
}

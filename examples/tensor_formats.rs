//! Decomposes the kernels of a checkpoint as Tucker, CP and tensor trains, and says what they lose and how long it took.
//!
//!     cargo run --release --example tensor_formats -- FILE.safetensors THREADS [FORMAT [RESTARTS SWEEPS]]
//!
//! Each line of the output is a JSON object. Ranks keep about half, and a quarter, of the kernel's parameters. Other libraries can
//! be compared with at the ranks printed.

use std::time::Instant;

use anyhow::{Context, Result};
use fnl::decompose::tensor::{CpOptions, DenseTensor, cp, tensor_train, tucker};
use safetensors::tensor::{Dtype, SafeTensors};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().context("a file")?;
    let threads = arguments.get(1).context("a number of threads")?.parse()?;
    let mut options = CpOptions { threads, ..CpOptions::default() };
    if let [restarts, sweeps] = arguments.get(3..).unwrap_or_default() {
        options = CpOptions { restarts: restarts.parse()?, sweeps: sweeps.parse()?, ..options };
    }
    let bytes = std::fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let mut names = file.names();
    names.sort_unstable();
    for name in names {
        let Some(kernel) = kernel(&file, name)? else { continue };
        for keep in [0.5, 0.25] {
            for format in ["tucker", "cp", "train"] {
                if arguments.get(2).is_none_or(|only| only == format) {
                    measure(name, &kernel, format, keep, &options)?;
                }
            }
        }
    }
    Ok(())
}

/// A tensor of four axes that has a spatial extent.
fn kernel(file: &SafeTensors, name: &str) -> Result<Option<DenseTensor>> {
    let view = file.tensor(name)?;
    let shape = view.shape().to_vec();
    if view.dtype() != Dtype::F32 || shape.len() != 4 || shape[2] * shape[3] == 1 {
        return Ok(None);
    }
    let (words, _) = view.data().as_chunks::<4>();
    let numbers = words.iter().map(|&word| f64::from(f32::from_le_bytes(word))).collect();
    Ok(Some(DenseTensor::new(shape, numbers)))
}

fn measure(name: &str, kernel: &DenseTensor, format: &str, keep: f64, options: &CpOptions) -> Result<()> {
    let [out, channels, height, width] = kernel.shape[..] else { return Ok(()) };
    let budget = keep * kernel.data.len() as f64;
    // ranks in proportion to their largest values, as many as the budget has room for
    let largest = match format {
        "tucker" => vec![out.min(channels * height * width), channels.min(out * height * width)],
        "cp" => vec![kernel.data.len()],
        _ => {
            let first = channels.min(height * width * out);
            let second = (first * height).min(width * out);
            vec![first, second, (second * width).min(out)]
        }
    };
    let parameters = |ranks: &[usize]| match (format, ranks) {
        ("tucker", &[o, i]) => o * out + i * channels + o * i * height * width,
        ("train", &[a, b, c]) => channels * a + a * height * b + b * width * c + c * out,
        (_, ranks) => ranks.iter().sum::<usize>() * (out + channels + height + width),
    };
    let at = |share: f64| -> Vec<usize> {
        let mut ranks: Vec<usize> =
            largest.iter().map(|&most| ((share * most as f64) as usize).clamp(1, most)).collect();
        if format == "train" {
            ranks[1] = ranks[1].min(ranks[0] * height);
            ranks[2] = ranks[2].min(ranks[1] * width);
        }
        ranks
    };
    let mut share = (0.0, 1.0);
    for _ in 0..40 {
        let middle = 0.5 * (share.0 + share.1);
        if parameters(&at(middle)) as f64 <= budget { share.0 = middle } else { share.1 = middle }
    }
    let ranks = at(share.0);
    // (i, h, w, o), as a chain of layers takes them
    let chain = kernel.permuted(&[1, 2, 3, 0]);
    let start = Instant::now();
    let (error, norm, sweeps, degeneracy) = match format {
        "tucker" => {
            let found = tucker(kernel, &[0, 1], &ranks, options.threads)?;
            (found.error_squared, found.norm_squared, found.sweeps, None)
        }
        "cp" => {
            let found = cp(kernel, ranks[0], options)?;
            (found.error_squared, found.norm_squared, found.sweeps, Some(found.degeneracy))
        }
        _ => {
            let found = tensor_train(&chain, &ranks, options.threads)?;
            (found.error_squared, found.norm_squared, 1, None)
        }
    };
    let elapsed_secs = start.elapsed().as_secs_f64();
    let line = serde_json::json!({
        "name": name, "format": format, "keep": keep, "shape": kernel.shape, "ranks": ranks,
        "relative_error": (error / norm).sqrt(), "sweeps": sweeps, "degeneracy": degeneracy,
        "elapsed_secs": elapsed_secs,
    });
    println!("{line}");
    Ok(())
}

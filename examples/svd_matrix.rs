//! Writes the matrices that `benches/svd.rs` times, or times and judges one of them.
//!
//!     cargo run --release --example svd_matrix -- write gauss 2048x2048 FILE.safetensors
//!     cargo run --release --example svd_matrix -- time trained 2048x2048 256 THREADS REPEATS [METHOD]
//!     cargo run --release --example svd_matrix -- file FILE.safetensors TENSOR RANK THREADS REPEATS [METHOD]
//!     cargo run --release --example svd_matrix -- all FILE.safetensors RANK THREADS REPEATS
//!
//! `write` stores one f32 tensor named `w`, so that `torch` can decompose the very same matrix. `time` and `file` print, for each
//! method, the best and the median time and the error over the least possible error. `all` times one pass over all matrices of a checkpoint.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use faer::{Mat, MatRef};
use fnl::linalg::{SvdMethod, SvdOptions, residual_norm_squared, spectrum, truncated_svd};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};

#[path = "../benches/matrices/mod.rs"]
mod matrices;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["write", kind, shape, path] => write(&matrices::named(kind, shape).context("kind or shape")?, path),
        ["time", kind, shape, rank, threads, repeats, ref method @ ..] => {
            let w = matrices::named(kind, shape).context("kind or shape")?;
            time(
                &format!("{kind} {shape}"),
                w.as_ref(),
                rank.parse()?,
                threads.parse()?,
                repeats.parse()?,
                method,
            )
        }
        ["file", path, tensor, rank, threads, repeats, ref method @ ..] => {
            let w = read(path, tensor)?;
            time(tensor, w.as_ref(), rank.parse()?, threads.parse()?, repeats.parse()?, method)
        }
        ["all", path, rank, threads, repeats] => all(path, rank.parse()?, threads.parse()?, repeats.parse()?),
        _ => bail!(
            "usage: write KIND SHAPE FILE | time KIND SHAPE RANK THREADS REPEATS | file FILE TENSOR RANK ..."
        ),
    }
}

fn write(w: &Mat<f32>, path: &str) -> Result<()> {
    let (m, n) = (w.nrows(), w.ncols());
    let bytes: Vec<u8> = (0..m * n).flat_map(|i| w[(i / n, i % n)].to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![m, n], &bytes)?;
    serialize_to_file([("w", view)], None, path.as_ref())?;
    Ok(())
}

fn read(path: &str, tensor: &str) -> Result<Mat<f32>> {
    let bytes = std::fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let view = file.tensor(tensor)?;
    let (rows, cols) = (view.shape()[0], view.shape()[1..].iter().product::<usize>());
    let data = view.data();
    Ok(Mat::from_fn(rows, cols, |i, j| {
        let at = 4 * (i * cols + j);
        f32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]])
    }))
}

fn all(path: &str, rank: usize, threads: usize, repeats: usize) -> Result<()> {
    let bytes = std::fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let names: Vec<&str> = file.names().into_iter().filter(|name| is_matrix(&file, name, rank)).collect();
    let weights = names.iter().map(|name| read(path, name)).collect::<Result<Vec<_>>>()?;
    for method in [SvdMethod::Exact, SvdMethod::Iterative, SvdMethod::Auto] {
        let mut best = f64::INFINITY;
        for _ in 0..repeats.max(1) {
            let start = Instant::now();
            for w in &weights {
                truncated_svd(w.as_ref(), rank, &SvdOptions { method, threads })?;
            }
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!("{} matrices r{rank} {method:?}: {best:.4} s", weights.len());
    }
    Ok(())
}

fn is_matrix(file: &SafeTensors, name: &str, rank: usize) -> bool {
    file.tensor(name)
        .is_ok_and(|view| view.shape().len() == 2 && view.shape().iter().all(|&side| side >= rank))
}

fn time(
    name: &str,
    w: MatRef<'_, f32>,
    rank: usize,
    threads: usize,
    repeats: usize,
    only: &[&str],
) -> Result<()> {
    // row-major, as a checkpoint stores it
    let rows = w.transpose().to_owned();
    let w = rows.transpose();
    let best = spectrum(w, threads)?.tail_squared(rank).sqrt();
    for method in [SvdMethod::Exact, SvdMethod::Iterative, SvdMethod::Auto] {
        if !only.is_empty() && !only.contains(&format!("{method:?}").to_lowercase().as_str()) {
            continue;
        }
        let options = SvdOptions { method, threads };
        let mut times = Vec::new();
        let mut last = None;
        for _ in 0..repeats.max(1) {
            let start = Instant::now();
            last = Some(truncated_svd(w, rank, &options)?);
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let svd = last.context("one repeat")?;
        let (a, b) = svd.balanced_factors();
        let measured = residual_norm_squared(w, a.as_ref(), b.as_ref(), threads).sqrt();
        println!(
            "{name} r{rank} {method:?}: path {} best {:.4} s median {:.4} s error/optimum {:.9} certified/measured {:.9}",
            svd.path,
            times[0],
            times[times.len() / 2],
            measured / best,
            svd.tail_squared.sqrt() / measured,
        );
    }
    Ok(())
}

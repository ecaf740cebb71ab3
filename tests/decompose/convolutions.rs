//! Convolutions: the two layers of a chain compute what the one layer does.

use crate::reference::{Geometry, Image, Known, conv2d, distance, falling, norm, numbers, rng};
use candle_core::{Device, Tensor};
use fnl::decompose::{Factor, Layout, Scheme, Unfolding, factor};
use fnl::linalg::SvdOptions;

const KERNELS: [[usize; 2]; 9] = [[3, 3], [1, 3], [3, 1], [1, 1], [2, 2], [2, 4], [5, 2], [4, 1], [1, 4]];
const STRIDES: [[usize; 2]; 4] = [[1, 1], [2, 2], [2, 1], [1, 3]];
const PADDINGS: [[usize; 2]; 4] = [[0, 0], [1, 1], [2, 0], [1, 3]];
const DILATIONS: [[usize; 2]; 4] = [[1, 1], [2, 2], [2, 1], [1, 2]];
const GROUPS: [usize; 3] = [1, 2, 4];

fn geometries(groups: usize) -> impl Iterator<Item = Geometry> {
    STRIDES.into_iter().flat_map(move |stride| {
        PADDINGS.into_iter().flat_map(move |padding| {
            DILATIONS.into_iter().map(move |dilation| Geometry { stride, padding, dilation, groups })
        })
    })
}

/// The two layers of a chain, each with its part of the dense layer's geometry.
fn chain(scheme: Scheme, xs: &Image, factors: &[Factor<f64>], bias: &[f64], geometry: Geometry) -> Image {
    let Geometry { stride, padding, dilation, groups } = geometry;
    let (first, second) = match scheme {
        Scheme::Spatial => (
            Geometry { stride: [1, stride[1]], padding: [0, padding[1]], dilation: [1, dilation[1]], groups },
            Geometry { stride: [stride[0], 1], padding: [padding[0], 0], dilation: [dilation[0], 1], groups },
        ),
        _ => (geometry, Geometry { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups }),
    };
    conv2d(&conv2d(xs, &factors[0], None, first), &factors[1], Some(bias), second)
}

/// What rounding may add to outputs: products of `W` and of an input that each of the `kh kw` taps may read once,
/// in f64, with the constant 32 for two layers and the decomposition.
fn tolerance(kernel: &[f64], taps: usize, xs: &Image) -> f64 {
    32.0 * f64::EPSILON * (kernel.len() as f64).sqrt() * norm(kernel) * (taps as f64).sqrt() * norm(&xs.data)
}

#[test]
fn the_reference_is_the_convolution_of_candle() -> candle_core::Result<()> {
    let mut rng = rng(1);
    for groups in GROUPS {
        for [kh, kw] in KERNELS {
            let (out, inner) = (8, 3);
            let xs = Image::new(&mut rng, inner * groups, 11, 12);
            let kernel =
                Factor { shape: vec![out, inner, kh, kw], data: numbers(&mut rng, out * inner * kh * kw) };
            let tensor = Tensor::from_slice(&xs.data, (1, xs.channels, xs.height, xs.width), &Device::Cpu)?;
            let weight = Tensor::from_slice(&kernel.data, (out, inner, kh, kw), &Device::Cpu)?;
            for (stride, padding, dilation) in [(1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 1, 2)] {
                let geometry =
                    Geometry { stride: [stride; 2], padding: [padding; 2], dilation: [dilation; 2], groups };
                let ours = conv2d(&xs, &kernel, None, geometry);
                let theirs = tensor.conv2d(&weight, padding, stride, dilation, groups)?;
                assert_eq!(theirs.dims(), [1, out, ours.height, ours.width], "{geometry:?}");
                let theirs = theirs.flatten_all()?.to_vec1::<f64>()?;
                assert!(
                    distance(&ours.data, &theirs) <= tolerance(&kernel.data, kh * kw, &xs),
                    "{geometry:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn the_reference_is_the_one_dimensional_convolution_of_candle() -> candle_core::Result<()> {
    let mut rng = rng(2);
    for groups in GROUPS {
        for k in [1, 2, 3, 5] {
            let (out, inner) = (8, 3);
            let xs = Image::new(&mut rng, inner * groups, 1, 17);
            let kernel = Factor { shape: vec![out, inner, 1, k], data: numbers(&mut rng, out * inner * k) };
            let tensor = Tensor::from_slice(&xs.data, (1, xs.channels, xs.width), &Device::Cpu)?;
            let weight = Tensor::from_slice(&kernel.data, (out, inner, k), &Device::Cpu)?;
            for (stride, padding, dilation) in [(1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 1, 2)] {
                let geometry =
                    Geometry { stride: [1, stride], padding: [0, padding], dilation: [1, dilation], groups };
                let ours = conv2d(&xs, &kernel, None, geometry);
                let theirs = tensor.conv1d(&weight, padding, stride, dilation, groups)?;
                assert_eq!(theirs.dims(), [1, out, ours.width], "{geometry:?}");
                let theirs = theirs.flatten_all()?.to_vec1::<f64>()?;
                assert!(distance(&ours.data, &theirs) <= tolerance(&kernel.data, k, &xs), "{geometry:?}");
            }
        }
    }
    Ok(())
}

/// Runs the dense layer, the chain and the collapsed layer over every geometry.
fn check(scheme: Scheme, seed: u64) {
    let mut rng = rng(seed);
    for groups in GROUPS {
        for [kh, kw] in KERNELS {
            let (out, inner) = (8, 3);
            let kernel = numbers(&mut rng, out * inner * kh * kw);
            let bias = numbers(&mut rng, out);
            let dense = Factor { shape: vec![out, inner, kh, kw], data: kernel.clone() };
            let xs = Image::new(&mut rng, inner * groups, 11, 12);
            let unfolding = Unfolding::new(Layout::Conv2d, scheme, &dense.shape, groups).unwrap();
            let full = factor(&kernel, &unfolding, unfolding.max_rank(), &SvdOptions::default()).unwrap();
            let low_rank = unfolding.max_rank().div_ceil(3);
            let low = factor(&kernel, &unfolding, low_rank, &SvdOptions::default()).unwrap();
            let data = unfolding.collapse(&low.factors, 1).unwrap();
            let collapsed = Factor { shape: dense.shape.clone(), data };
            let allowed = tolerance(&kernel, kh * kw, &xs);
            for geometry in geometries(groups) {
                let case = || format!("{scheme}, kernel {kh} x {kw}, {geometry:?}");
                let expected = conv2d(&xs, &dense, Some(&bias), geometry);
                let found = chain(scheme, &xs, &full.factors, &bias, geometry);
                assert_eq!((found.height, found.width), (expected.height, expected.width), "{}", case());
                let apart = distance(&found.data, &expected.data);
                assert!(apart <= allowed, "full rank, {}: {apart:e}, allowed {allowed:e}", case());

                let expected = conv2d(&xs, &collapsed, Some(&bias), geometry);
                let found = chain(scheme, &xs, &low.factors, &bias, geometry);
                let apart = distance(&found.data, &expected.data);
                assert!(apart <= allowed, "rank {low_rank}, {}: {apart:e}, allowed {allowed:e}", case());
            }
        }
    }
}

#[test]
fn spatial_chains_compute_what_the_dense_and_the_collapsed_layer_do() {
    check(Scheme::Spatial, 3);
}

#[test]
fn channel_chains_compute_what_the_dense_and_the_collapsed_layer_do() {
    check(Scheme::Channel, 4);
}

#[test]
fn one_dimensional_chains_compute_what_the_dense_and_the_collapsed_layer_do() {
    let mut rng = rng(5);
    for asked in [Scheme::Spatial, Scheme::Channel] {
        for groups in GROUPS {
            for k in [1, 2, 3, 6] {
                let (out, inner) = (12, 5);
                let kernel = numbers(&mut rng, out * inner * k);
                let bias = numbers(&mut rng, out);
                let xs = Image::new(&mut rng, inner * groups, 1, 19);
                let unfolding = Unfolding::new(Layout::Conv1d, asked, &[out, inner, k], groups).unwrap();
                // Both schemes are the same for one axis, and the simpler names it.
                assert_eq!(unfolding.scheme(), Scheme::Channel);
                for rank in [unfolding.max_rank(), 2.min(unfolding.max_rank())] {
                    let factored = factor(&kernel, &unfolding, rank, &SvdOptions::default()).unwrap();
                    let data = if rank == unfolding.max_rank() {
                        kernel.clone()
                    } else {
                        unfolding.collapse(&factored.factors, 1).unwrap()
                    };
                    let dense = Factor { shape: vec![out, inner, 1, k], data };
                    // (o, i, k) -> (o, i, 1, k)
                    let raised: Vec<Factor<f64>> = factored
                        .factors
                        .iter()
                        .map(|f| Factor {
                            shape: vec![f.shape[0], f.shape[1], 1, f.shape[2]],
                            data: f.data.clone(),
                        })
                        .collect();
                    let allowed = tolerance(&kernel, k, &xs);
                    for (stride, padding, dilation) in [(1, 0, 1), (2, 1, 1), (1, 4, 2), (3, 2, 3)] {
                        let geometry = Geometry {
                            stride: [1, stride],
                            padding: [0, padding],
                            dilation: [1, dilation],
                            groups,
                        };
                        let expected = conv2d(&xs, &dense, Some(&bias), geometry);
                        let found = chain(Scheme::Channel, &xs, &raised, &bias, geometry);
                        let apart = distance(&found.data, &expected.data);
                        assert!(
                            apart <= allowed,
                            "rank {rank}, {k} taps, {geometry:?}: {apart:e} of {allowed:e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn weights_of_the_narrower_type_compute_the_same_to_its_own_rounding() {
    let mut rng = rng(6);
    for scheme in [Scheme::Spatial, Scheme::Channel] {
        let kernel: Vec<f32> = numbers(&mut rng, 8 * 3 * 3 * 3).into_iter().map(|x| x as f32).collect();
        let wide = |data: &[f32]| data.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let xs = Image::new(&mut rng, 6, 9, 10);
        let unfolding = Unfolding::new(Layout::Conv2d, scheme, &[8, 3, 3, 3], 2).unwrap();
        let full = factor(&kernel, &unfolding, unfolding.max_rank(), &SvdOptions::default()).unwrap();
        let factors: Vec<Factor<f64>> =
            full.factors.iter().map(|f| Factor { shape: f.shape.clone(), data: wide(&f.data) }).collect();
        let geometry = Geometry { stride: [2, 1], padding: [1, 2], dilation: [1, 2], groups: 2 };
        let dense = Factor { shape: vec![8, 3, 3, 3], data: wide(&kernel) };
        let bias = numbers(&mut rng, 8);
        let expected = conv2d(&xs, &dense, Some(&bias), geometry);
        let found = chain(scheme, &xs, &factors, &bias, geometry);
        // The f64 tolerance at f32's eps; the layers run in f64, so only the factors' rounding is left.
        let allowed = tolerance(&dense.data, 9, &xs) / f64::EPSILON * f64::from(f32::EPSILON);
        let apart = distance(&found.data, &expected.data);
        assert!(apart <= allowed, "{scheme}: {apart:e}, allowed {allowed:e}");
        // A tolerance that wrong factors would also meet shows nothing.
        assert!(allowed < 1e-2 * norm(&expected.data));
    }
}

#[test]
fn without_the_permutation_the_spatial_layers_compute_something_else() {
    let mut rng = rng(7);
    for ([o, i, kh, kw], harmless) in [
        ([8, 4, 3, 3], false),
        ([6, 5, 2, 4], false),
        ([8, 4, 3, 1], false),
        // One row of taps, or one channel, leaves nothing to permute.
        ([8, 4, 1, 3], true),
        ([8, 1, 3, 3], true),
    ] {
        let kernel = numbers(&mut rng, o * i * kh * kw);
        let xs = Image::new(&mut rng, i, 9, 9);
        let bias = numbers(&mut rng, o);
        let geometry = Geometry { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 };
        let dense = Factor { shape: vec![o, i, kh, kw], data: kernel.clone() };
        let expected = conv2d(&xs, &dense, Some(&bias), geometry);

        // K.reshape(o kh, i kw) as it lies, which mixes channels with rows of the kernel.
        let wrong = Unfolding::new(Layout::Linear, Scheme::Matrix, &[o * kh, i * kw], 1).unwrap();
        let rank = wrong.max_rank();
        let pair = factor(&kernel, &wrong, rank, &SvdOptions::default()).unwrap().factors;
        let first = Factor { shape: vec![rank, i, 1, kw], data: pair[0].data.clone() };
        // (o kh, r) -> (o, r, kh, 1)
        let second = (0..o * rank * kh)
            .map(|at| pair[1].data[(at / (rank * kh) * kh + at % kh) * rank + at / kh % rank])
            .collect();
        let second = Factor { shape: vec![o, rank, kh, 1], data: second };
        let found = chain(Scheme::Spatial, &xs, &[first, second], &bias, geometry);
        let apart = distance(&found.data, &expected.data) / norm(&expected.data);
        if harmless {
            assert!(apart <= 1e-12, "{o} {i} {kh} {kw}: {apart:e}");
        } else {
            assert!(apart > 0.3, "{o} {i} {kh} {kw}: {apart:e} would go unnoticed");
        }

        let right = Unfolding::new(Layout::Conv2d, Scheme::Spatial, &[o, i, kh, kw], 1).unwrap();
        let factored = factor(&kernel, &right, right.max_rank(), &SvdOptions::default()).unwrap();
        let found = chain(Scheme::Spatial, &xs, &factored.factors, &bias, geometry);
        assert!(distance(&found.data, &expected.data) <= tolerance(&kernel, kh * kw, &xs));
    }
}

#[test]
fn a_separable_kernel_is_exact_at_rank_one_by_rows_and_columns() {
    // K[o, i, y, x] = a[o, y] b[i, x] is what one 1 x kw and one kh x 1 layer with one channel between compute.
    let mut rng = rng(8);
    let (a, b) = (numbers(&mut rng, 6 * 3), numbers(&mut rng, 4 * 5));
    let (o, i, kh, kw) = (6, 4, 3, 5);
    let at = |flat: usize| {
        let (x, y, c, f) = (flat % kw, flat / kw % kh, flat / (kw * kh) % i, flat / (kw * kh * i));
        a[f * kh + y] * b[c * kw + x]
    };
    let kernel: Vec<f64> = (0..o * i * kh * kw).map(at).collect();
    let error = |scheme| {
        let unfolding = Unfolding::new(Layout::Conv2d, scheme, &[o, i, kh, kw], 1).unwrap();
        factor(&kernel, &unfolding, 1, &SvdOptions::default()).unwrap().relative_error
    };
    // 64 eps for a product of two factors of rounded vectors.
    assert!(error(Scheme::Spatial) <= 64.0 * f64::EPSILON * (kernel.len() as f64).sqrt());
    assert!(error(Scheme::Channel) > 0.1);
}

#[test]
fn grouped_kernels_have_the_best_approximation_of_each_group() {
    let mut rng = rng(9);
    let (out, inner, kh, kw, groups, rank) = (8, 3, 3, 2, 2, 4);
    for scheme in [Scheme::Spatial, Scheme::Channel] {
        let (rows, cols) = match scheme {
            Scheme::Spatial => (out / groups * kh, inner * kw),
            _ => (out / groups, inner * kh * kw),
        };
        let rank = rank.min(rows.min(cols) - 1);
        let known: Vec<Known> =
            (0..groups).map(|_| Known::new(&mut rng, rows, cols, falling(rows.min(cols)))).collect();
        // Back from the group's matrix to the stored order (o, i, kh, kw).
        let stored = |matrices: &[Vec<f64>]| -> Vec<f64> {
            let per_group = rows * cols;
            (0..groups * per_group)
                .map(|flat| {
                    let (group, at) = (flat / per_group, flat % per_group);
                    let (x, y, c) = (at % kw, at / kw % kh, at / (kw * kh) % inner);
                    let o = at / (kw * kh * inner);
                    let (row, col) = match scheme {
                        Scheme::Spatial => (o * kh + y, c * kw + x),
                        _ => (o, (c * kh + y) * kw + x),
                    };
                    matrices[group][row * cols + col]
                })
                .collect()
        };
        let kernel = stored(&known.iter().map(Known::matrix).collect::<Vec<_>>());
        let best = stored(&known.iter().map(|known| known.best(rank)).collect::<Vec<_>>());
        let unfolding = Unfolding::new(Layout::Conv2d, scheme, &[out, inner, kh, kw], groups).unwrap();
        let factored = factor(&kernel, &unfolding, rank, &SvdOptions::default()).unwrap();
        let collapsed = unfolding.collapse(&factored.factors, 1).unwrap();
        // Rounding turns singular vectors by eps |W| / gap; 32 for the constant of both sides.
        let gap = known[0].s[rank - 1] - known[0].s[rank];
        let allowed =
            32.0 * f64::EPSILON * (kernel.len() as f64).sqrt() * norm(&kernel) * known[0].s[0] / gap;
        assert!(distance(&collapsed, &best) <= allowed, "{scheme}: {:e}", distance(&collapsed, &best));
        // A chain's group g reads only its own channels: the factors of group 1 alone are those of the group alone.
        let alone = Unfolding::new(Layout::Conv2d, scheme, &[out / groups, inner, kh, kw], 1).unwrap();
        let second_half = &kernel[kernel.len() / 2..];
        let own = factor(second_half, &alone, rank, &SvdOptions::default()).unwrap();
        for (whole, own) in factored.factors.iter().zip(&own.factors) {
            assert_eq!(whole.data[whole.data.len() / 2..], own.data);
        }
    }
}

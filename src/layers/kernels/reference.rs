//! Convolutions by their definition, and tests of the loops against them.

use super::convolution::{convolve_backward_input_on, convolve_on};
use super::correlation::convolve_backward_kernel_on;
use super::machine::Machine;
use super::winograd;
use crate::layers::Geometry;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Every product of a convolution: indices of output, input and kernel.
fn visit(g: &Geometry, mut act: impl FnMut(usize, usize, usize)) {
    let ([h, w], [oh, ow], [kh, kw]) = (g.input, g.output, g.kernel);
    let (ig, og) = (g.in_channels / g.groups, g.out_channels / g.groups);
    for n in 0..g.batch {
        for o in 0..g.out_channels {
            for (y, x) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
                for i in 0..ig {
                    for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                        let row = (y * g.stride[0] + ky * g.dilation[0]).wrapping_sub(g.padding[0]);
                        let column = (x * g.stride[1] + kx * g.dilation[1]).wrapping_sub(g.padding[1]);
                        if row < h && column < w {
                            act(
                                ((n * g.out_channels + o) * oh + y) * ow + x,
                                ((n * g.in_channels + o / og * ig + i) * h + row) * w + column,
                                ((o * ig + i) * kh + ky) * kw + kx,
                            );
                        }
                    }
                }
            }
        }
    }
}

fn random(rng: &mut StdRng, size: usize) -> Vec<f32> {
    (0..size).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Sums of products in f64, and of their magnitudes, which bound what rounding can do.
fn sums(size: usize, products: impl FnOnce(&mut dyn FnMut(usize, f32, f32))) -> (Vec<f64>, Vec<f64>) {
    let (mut sums, mut magnitudes) = (vec![0.0; size], vec![0.0; size]);
    products(&mut |at, a, b| {
        sums[at] += f64::from(a) * f64::from(b);
        magnitudes[at] += (f64::from(a) * f64::from(b)).abs();
    });
    (sums, magnitudes)
}

fn assert_close(what: &str, g: &Geometry, found: &[f32], (sums, magnitudes): &(Vec<f64>, Vec<f64>)) {
    assert_eq!(found.len(), sums.len(), "{what} of {g:?}");
    // outputs of a patch share the rounding of all its inputs, and one at an edge may be a sum of few of them
    let patched = winograd::suits(g) || winograd::suits(&winograd::backward(g));
    let largest = magnitudes.iter().copied().fold(0.0, f64::max);
    for (i, ((&found, &sum), &magnitude)) in found.iter().zip(sums).zip(magnitudes).enumerate() {
        // a sum in f32 is off by at most its terms times epsilon times the sum of magnitudes; a tenth of that here
        let bound = f64::from(f32::EPSILON) * if patched { 10.0 * largest } else { 30.0 * magnitude };
        assert!((f64::from(found) - sum).abs() <= bound, "{what} at {i}: {found} for {sum}, {g:?}");
    }
}

fn check(g: &Geometry, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let size = |shape: [usize; 4]| shape.iter().product::<usize>();
    let x = random(&mut rng, size(g.input_shape()));
    let w = random(&mut rng, size(g.kernel_shape()));
    let dy = random(&mut rng, size(g.output_shape()));
    let bias = random(&mut rng, g.out_channels);
    let plane = g.output[0] * g.output[1];
    let forward = sums(dy.len(), |add| {
        (0..dy.len()).for_each(|at| add(at, bias[at / plane % g.out_channels], 1.0));
        visit(g, |o, i, k| add(o, x[i], w[k]));
    });
    let input = sums(x.len(), |add| visit(g, |o, i, k| add(i, dy[o], w[k])));
    let kernel = sums(w.len(), |add| visit(g, |o, i, k| add(k, dy[o], x[i])));
    for machine in Machine::available() {
        assert_close("output", g, &convolve_on(machine, g, &x, &w, Some(&bias)), &forward);
        assert_close("gradient of the input", g, &convolve_backward_input_on(machine, g, &dy, &w), &input);
        assert_close("gradient of the kernel", g, &convolve_backward_kernel_on(machine, g, &x, &dy), &kernel);
    }
}

fn geometry() -> impl Strategy<Value = Geometry> {
    let pair = |range: std::ops::Range<usize>| [range.clone(), range];
    (
        (1usize..10, 1usize..4, 1usize..12, 1usize..20),
        [1usize..20, 1usize..40],
        pair(1..5),
        pair(1..4),
        pair(0..5),
        pair(1..3),
    )
        .prop_filter_map(
            "a kernel larger than its input",
            |(counts, input, kernel, stride, padding, dilation)| {
                let (batch, groups, inner, outer) = counts;
                Geometry::new(
                    &[batch, groups * inner, input[0], input[1]],
                    &[groups * outer, inner, kernel[0], kernel[1]],
                    stride,
                    padding,
                    dilation,
                    groups,
                )
                .ok()
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_are_what_they_are_defined_as(g in geometry(), seed: u64) {
        check(&g, seed);
    }

    #[test]
    fn kernels_of_3_by_3_are_too(
        batch in 4usize..9,
        channels in [1usize..4, 1usize..4],
        input in [3usize..24, 3usize..24],
        padding in [0usize..3, 0usize..3],
        seed: u64,
    ) {
        let [inner, outer] = channels.map(|eights| 8 * eights);
        let shape = [batch, inner, input[0], input[1]];
        let g = Geometry::new(&shape, &[outer, inner, 3, 3], [1, 1], padding, [1, 1], 1).unwrap();
        check(&g, seed);
    }
}

#[test]
fn the_fast_way_is_taken_where_it_is_one() {
    let suits = |shape: [usize; 4], kernel: [usize; 4], stride, dilation| {
        winograd::suits(&Geometry::new(&shape, &kernel, stride, [1, 1], dilation, 1).unwrap())
    };
    assert!(suits([128, 16, 32, 32], [16, 16, 3, 3], [1, 1], [1, 1]));
    assert!(suits([128, 64, 8, 8], [64, 64, 3, 3], [1, 1], [1, 1]));
    assert!(suits([32, 64, 56, 56], [64, 64, 3, 3], [1, 1], [1, 1]));
    // channels that are no vectors, few samples, planes smaller than a patch
    assert!(!suits([128, 3, 32, 32], [16, 3, 3, 3], [1, 1], [1, 1]));
    assert!(!suits([1, 16, 32, 32], [16, 16, 3, 3], [1, 1], [1, 1]));
    assert!(!suits([128, 64, 2, 2], [64, 64, 3, 3], [1, 1], [1, 1]));
    assert!(!suits([128, 16, 32, 32], [16, 16, 3, 3], [2, 2], [1, 1]));
    assert!(!suits([128, 16, 32, 32], [16, 16, 3, 3], [1, 1], [2, 2]));
    assert!(!suits([128, 16, 32, 32], [16, 16, 1, 3], [1, 1], [1, 1]));
    // a kernel that would go through memory for a handful of patches
    assert!(!suits([4, 512, 7, 7], [512, 512, 3, 3], [1, 1], [1, 1]));
}

#[test]
fn layers_of_residual_networks() {
    for (batch, [i, o], [h, w], kernel, stride, padding) in [
        (3, [16, 16], [32, 32], [3, 3], [1, 1], [1, 1]),
        (3, [16, 32], [32, 32], [3, 3], [2, 2], [1, 1]),
        (17, [64, 64], [8, 8], [3, 3], [1, 1], [1, 1]),
        (2, [3, 16], [32, 32], [3, 3], [1, 1], [1, 1]),
        (2, [16, 12], [32, 32], [1, 3], [1, 1], [0, 1]),
        (2, [12, 16], [32, 32], [3, 1], [1, 1], [1, 0]),
        (9, [24, 32], [32, 16], [3, 1], [2, 1], [1, 0]),
        (9, [48, 64], [8, 8], [3, 1], [1, 1], [1, 0]),
        (2, [3, 8], [112, 112], [7, 7], [2, 2], [3, 3]),
        (1, [16, 24], [56, 56], [3, 3], [1, 1], [1, 1]),
        (9, [32, 33], [4, 4], [3, 3], [1, 1], [1, 1]),
        (17, [16, 24], [2, 2], [3, 3], [1, 1], [1, 1]),
        // families of outputs of different heights
        (4, [7, 8], [13, 4], [4, 4], [3, 3], [0, 4]),
        // kernels that go through the cache for several patches, in bands
        (5, [128, 64], [12, 20], [3, 3], [1, 1], [1, 1]),
        (4, [16, 8], [90, 70], [3, 3], [1, 1], [2, 0]),
        (1, [24, 40], [14, 14], [1, 1], [1, 1], [0, 0]),
        (2, [16, 32], [32, 32], [1, 1], [2, 2], [0, 0]),
    ] {
        let g = Geometry::new(&[batch, i, h, w], &[o, i, kernel[0], kernel[1]], stride, padding, [1, 1], 1);
        check(&g.unwrap(), 7);
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for shape in [[33, 6, 12, 20], [40, 16, 3, 3], [1, 16, 40, 40]] {
        let g = Geometry::new(&shape, &[24, shape[1], 3, 3], [1, 1], [1, 1], [1, 1], 1).unwrap();
        let mut rng = StdRng::seed_from_u64(5);
        let x = random(&mut rng, g.input_shape().iter().product());
        let w = random(&mut rng, g.kernel_shape().iter().product());
        let dy = random(&mut rng, g.output_shape().iter().product());
        let channels = [shape[0], shape[1], shape[2] * shape[3]];
        let scale = random(&mut rng, shape[1]);
        let all = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let normalized = super::normalize(channels, &x, &scale, &scale, 1e-5, None, true);
                [
                    super::convolve(&g, &x, &w, None),
                    super::convolve_backward_input(&g, &dy, &w),
                    super::convolve_backward_kernel(&g, &x, &dy),
                    normalized.y,
                    normalized.variance,
                ]
            })
        };
        assert!(all(1) == all(3), "{g:?}");
    }
}

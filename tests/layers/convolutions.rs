//! The convolution: loops, composition, differences and the formula agree over geometries.

use crate::agreement::{assert_close, check, random, randoms, wide};
use candle_core::{DType, Device, Result, Tensor};
use fnl::layers::{Convolution, Operation};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Input `(b, c, h, w)`, channels out and kernel `(o, kh, kw)`, and the rest.
#[derive(Clone, Copy, Debug)]
struct Case {
    input: [usize; 4],
    kernel: [usize; 3],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
}

impl Case {
    fn convolution(&self) -> Convolution {
        let mut convolution = Convolution::new(self.stride, self.padding);
        convolution.dilation = self.dilation;
        convolution.groups = self.groups;
        convolution
    }

    fn kernel_shape(&self) -> [usize; 4] {
        let [o, kh, kw] = self.kernel;
        [o, self.input[1] / self.groups, kh, kw]
    }

    /// The formula in f64, a loop for each letter.
    fn formula(&self, xs: &Tensor, kernel: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let ([b, c, h, w], [o, inner, kh, kw]) = (self.input, self.kernel_shape());
        let flat = |tensor: &Tensor| wide(tensor).flatten_all()?.to_vec1::<f64>();
        let (xs, kernel, bias) = (flat(xs)?, flat(kernel)?, flat(bias)?);
        let [height, width] = [(h, kh, 0), (w, kw, 1)].map(|(size, taps, axis)| {
            (size + 2 * self.padding[axis] - self.dilation[axis] * (taps - 1) - 1) / self.stride[axis] + 1
        });
        let mut ys = Vec::new();
        for (sample, out, p, q) in indices([b, o, height, width]) {
            let mut sum = bias[out];
            for (i, u, v, ()) in indices([inner, kh, kw, 1]).map(|(i, u, v, _)| (i, u, v, ())) {
                let y = (p * self.stride[0] + u * self.dilation[0]).checked_sub(self.padding[0]);
                let x = (q * self.stride[1] + v * self.dilation[1]).checked_sub(self.padding[1]);
                if let (Some(y), Some(x)) = (y.filter(|y| *y < h), x.filter(|x| *x < w)) {
                    let channel = out / (o / self.groups) * inner + i;
                    sum += kernel[((out * inner + i) * kh + u) * kw + v]
                        * xs[((sample * c + channel) * h + y) * w + x];
                }
            }
            ys.push(sum);
        }
        Tensor::from_vec(ys, &[b, o, height, width][..], &Device::Cpu)
    }

    /// Terms of the longest sum: of an output, of the gradient of an input, of a kernel, of the bias.
    fn terms(&self) -> usize {
        let ([b, _, h, w], [o, inner, kh, kw]) = (self.input, self.kernel_shape());
        let [ph, pw] = self.padding;
        (o.max(inner) * kh * kw).max(b * (h + 2 * ph) * (w + 2 * pw))
    }

    fn check(&self, seed: u64) -> Result<()> {
        let what = format!("{self:?}");
        let convolution = self.convolution();
        let make = || Arc::new(convolution) as Arc<dyn Operation>;
        let inputs = randoms(seed, &[&self.input, &self.kernel_shape(), &[self.kernel[0]]]);
        let expected = self.formula(&inputs[0], &inputs[1], &inputs[2])?;
        let exact: Vec<Tensor> = inputs.iter().map(wide).collect();
        assert_close(&what, &convolution.compose(&exact)?, &expected, self.terms());
        check(&what, &make, &inputs, self.terms())?;
        check(&what, &make, &inputs[..2], self.terms())
    }
}

fn indices([a, b, c, d]: [usize; 4]) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..a * b * c * d).map(move |at| (at / d / c / b, at / d / c % b, at / d % c, at % d))
}

const PLAIN: Case = Case {
    input: [3, 4, 8, 8],
    kernel: [6, 3, 3],
    stride: [1; 2],
    padding: [1; 2],
    dilation: [1; 2],
    groups: 1,
};

#[test]
fn kernels_of_networks() -> Result<()> {
    let cases = [
        PLAIN,
        Case { stride: [2, 2], ..PLAIN },
        Case { kernel: [6, 1, 1], padding: [0, 0], ..PLAIN },
        Case { kernel: [6, 1, 1], padding: [0, 0], stride: [2, 2], ..PLAIN },
        Case { input: [2, 3, 19, 18], kernel: [5, 7, 7], stride: [2, 2], padding: [3, 3], ..PLAIN },
        // a factored pair
        Case { kernel: [6, 1, 3], padding: [0, 1], stride: [1, 2], ..PLAIN },
        Case { kernel: [6, 3, 1], padding: [1, 0], stride: [2, 1], ..PLAIN },
        // depthwise, grouped
        Case { input: [3, 6, 7, 9], groups: 6, ..PLAIN },
        Case { input: [3, 6, 7, 9], kernel: [12, 3, 3], groups: 6, stride: [2, 2], ..PLAIN },
        Case { groups: 2, ..PLAIN },
        // many channels on few pixels, few on many
        Case { input: [3, 40, 4, 4], kernel: [37, 3, 3], ..PLAIN },
        Case { input: [1, 1, 33, 35], kernel: [1, 3, 3], ..PLAIN },
        Case { input: [1, 3, 32, 32], kernel: [16, 3, 3], ..PLAIN },
        Case { input: [5, 16, 2, 2], kernel: [18, 3, 3], ..PLAIN },
        Case { input: [3, 9, 1, 1], kernel: [8, 3, 3], ..PLAIN },
    ];
    for (seed, case) in (0..).zip(cases) {
        case.check(seed)?;
    }
    Ok(())
}

/// Where one side has few channels, compositions are products of what taps read, before it or after it.
#[test]
fn first_and_last_factors() -> Result<()> {
    let first = Case { input: [2, 40, 7, 6], kernel: [5, 1, 3], padding: [0, 1], ..PLAIN };
    let last = Case { input: [2, 3, 7, 6], kernel: [40, 3, 1], padding: [1, 0], ..PLAIN };
    let square = Case { input: [2, 40, 7, 6], kernel: [4, 3, 3], ..PLAIN };
    let tap = Case { input: [2, 40, 1, 2], kernel: [37, 1, 1], padding: [0, 0], ..PLAIN };
    let cases = [
        first,
        Case { stride: [1, 2], ..first },
        Case { stride: [2, 3], padding: [1, 2], dilation: [1, 2], ..first },
        last,
        Case { stride: [2, 1], ..last },
        Case { stride: [3, 2], padding: [2, 1], dilation: [2, 1], ..last },
        square,
        Case { stride: [2, 2], padding: [0, 2], ..square },
        // few positions for so many products
        tap,
        Case { input: [3, 2, 1, 3], kernel: [37, 1, 3], padding: [0, 1], ..PLAIN },
        // every channel of its own, with strides and dilations
        Case { input: [2, 6, 7, 9], groups: 6, stride: [2, 1], dilation: [1, 2], padding: [1, 2], ..PLAIN },
        // more taps than are read one by one
        Case { input: [2, 3, 8, 8], kernel: [48, 4, 4], stride: [4, 4], padding: [0, 0], ..PLAIN },
    ];
    for (seed, case) in (0..).zip(cases) {
        case.check(seed)?;
    }
    Ok(())
}

#[test]
fn axes_that_differ() -> Result<()> {
    let cases = [
        Case { kernel: [6, 5, 3], padding: [2, 1], ..PLAIN },
        Case { kernel: [6, 5, 3], padding: [0, 2], stride: [2, 3], input: [1, 4, 11, 12], ..PLAIN },
        Case { kernel: [6, 2, 4], padding: [1, 0], stride: [3, 1], input: [1, 4, 9, 10], ..PLAIN },
        Case { dilation: [2, 1], padding: [2, 1], ..PLAIN },
        Case { dilation: [1, 3], padding: [0, 3], input: [1, 4, 6, 13], ..PLAIN },
        Case { dilation: [2, 3], stride: [3, 2], padding: [1, 4], input: [3, 4, 12, 11], ..PLAIN },
        Case { dilation: [2, 2], stride: [2, 2], padding: [2, 2], input: [1, 4, 9, 12], ..PLAIN },
        Case { dilation: [3, 1], groups: 2, kernel: [4, 2, 3], input: [3, 4, 10, 7], ..PLAIN },
        Case { stride: [1, 2], groups: 4, kernel: [8, 3, 5], padding: [1, 2], ..PLAIN },
        Case { kernel: [6, 1, 5], padding: [0, 2], stride: [1, 3], input: [3, 4, 5, 16], ..PLAIN },
        Case { kernel: [6, 5, 1], padding: [2, 0], stride: [3, 1], input: [3, 4, 16, 5], ..PLAIN },
        Case {
            kernel: [6, 1, 5],
            padding: [3, 2],
            stride: [2, 3],
            dilation: [4, 2],
            input: [1, 4, 5, 16],
            ..PLAIN
        },
        // remainders that differ between the axes, one that reaches into the padding
        Case { input: [1, 4, 7, 8], stride: [2, 2], ..PLAIN },
        Case { input: [3, 4, 8, 7], stride: [3, 3], ..PLAIN },
        Case { input: [1, 2, 1, 1], kernel: [3, 1, 1], stride: [3, 3], padding: [1, 1], ..PLAIN },
        Case { input: [1, 2, 1, 5], kernel: [3, 1, 2], stride: [4, 2], padding: [2, 3], ..PLAIN },
    ];
    for (seed, case) in (0..).zip(cases) {
        case.check(seed)?;
    }
    Ok(())
}

#[test]
fn random_geometries() -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut checked = 0;
    while checked < 120 {
        let mut upto = |most: usize| random.random_range(1..=most);
        let groups = [1, 1, 2, 3][upto(4) - 1];
        let case = Case {
            input: [upto(3), groups * upto(4), upto(12), upto(19)],
            kernel: [groups * upto(5), upto(4), upto(5)],
            stride: [upto(3), upto(3)],
            padding: [upto(4) - 1, upto(4) - 1],
            dilation: [upto(3), upto(3)],
            groups,
        };
        if case.convolution().geometry(&case.input, &case.kernel_shape()).is_ok() {
            case.check(1000 + checked)?;
            checked += 1;
        }
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |case: Case, part: &str| {
        let convolution = case.convolution();
        let error = convolution.geometry(&case.input, &case.kernel_shape()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(Case { kernel: [6, 11, 3], ..PLAIN }, "does not fit the input [3, 4, 8, 8] with padding [1, 1]");
    refused(Case { stride: [1, 0], ..PLAIN }, "must not be zero");
    refused(Case { kernel: [5, 3, 3], groups: 2, ..PLAIN }, "in 2 groups expects 4 input channels");
    let tape = fnl::layers::Tape::inference();
    let inputs = randoms(1, &[&[1, 4, 8, 8], &[6, 4, 3, 3], &[5]]).into_iter();
    let inputs: Vec<_> = inputs.map(|input| tape.constant(&input)).collect();
    let error = tape.apply(PLAIN.convolution(), &inputs.iter().collect::<Vec<_>>()).unwrap_err();
    assert!(error.to_string().starts_with("expected a bias of 6 elements, found 5"), "{error}");
}

#[test]
fn an_empty_batch_stays_empty() -> Result<()> {
    let tape = fnl::layers::Tape::inference();
    let xs = Tensor::zeros((0, 4, 8, 8), DType::F32, &Device::Cpu)?;
    let ys =
        tape.apply(PLAIN.convolution(), &[&tape.constant(&xs), &tape.constant(&random(1, &[6, 4, 3, 3]))])?;
    assert_eq!(ys.dims(), [0, 6, 8, 8]);
    Ok(())
}

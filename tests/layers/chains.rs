//! Frobenius decay's closed forms, norms, products and diagnostics of chains.

use crate::agreement::{assert_close, norm, random, wide};
use candle_core::{DType, Device, Result, Tensor, Var};
use fnl::decompose::{Factor, Format, Layout, Pairs, Ranks, Scheme, Unfolding};
use fnl::layers::{Chain, Diagnostics, Tape, Weight};

/// Layout, scheme, shape and groups of weights of every kind.
pub(crate) const WEIGHTS: [(Layout, Scheme, &[usize], usize); 27] = [
    (Layout::Linear, Scheme::Matrix, &[6, 9], 1),
    (Layout::TransposedLinear, Scheme::Matrix, &[9, 6], 1),
    (Layout::Embedding, Scheme::Matrix, &[13, 5], 1),
    (Layout::Conv1d, Scheme::Channel, &[6, 4, 3], 1),
    (Layout::Conv1d, Scheme::Channel, &[6, 2, 3], 2),
    (Layout::Conv2d, Scheme::Spatial, &[6, 4, 3, 3], 1),
    (Layout::Conv2d, Scheme::Spatial, &[6, 4, 5, 2], 1),
    (Layout::Conv2d, Scheme::Spatial, &[6, 2, 3, 2], 2),
    (Layout::Conv2d, Scheme::Channel, &[6, 4, 3, 3], 1),
    (Layout::Conv2d, Scheme::Channel, &[6, 2, 2, 3], 3),
    (Layout::Conv2d, Scheme::Channel, &[6, 4, 1, 1], 1),
    (Layout::Linear, Scheme::Deep, &[6, 9], 1),
    (Layout::TransposedLinear, Scheme::Deep, &[9, 6], 1),
    (Layout::Embedding, Scheme::Deep, &[13, 5], 1),
    (Layout::Conv1d, Scheme::Deep, &[6, 4, 3], 1),
    (Layout::Conv2d, Scheme::Deep, &[6, 4, 3, 2], 1),
    (Layout::Conv2d, Scheme::Deep, &[6, 2, 2, 3], 2),
    (Layout::Conv2d, Scheme::Deep, &[6, 1, 3, 3], 6),
    (Layout::Conv2d, Scheme::Tucker, &[6, 4, 3, 2], 1),
    (Layout::Conv1d, Scheme::Tucker, &[6, 4, 3], 1),
    (Layout::Linear, Scheme::Tucker, &[6, 9], 1),
    (Layout::Conv2d, Scheme::Cp, &[6, 4, 3, 2], 1),
    (Layout::Conv1d, Scheme::Cp, &[6, 4, 3], 1),
    (Layout::Conv2d, Scheme::TensorTrain, &[6, 4, 3, 2], 1),
    (Layout::Linear, Scheme::TensorTrain, &[6, 9], 1),
    (Layout::TransposedLinear, Scheme::TensorTrain, &[9, 6], 1),
    (Layout::Embedding, Scheme::TensorTrain, &[12, 6], 1),
];

/// The longest sum in anything below: elements of a factor.
const TERMS: usize = 200;

pub(crate) fn chain(
    (layout, scheme, shape, groups): (Layout, Scheme, &[usize], usize),
    rank: usize,
    dtype: DType,
) -> Result<Chain> {
    let (format, ranks) = format((layout, scheme, shape, groups), rank);
    let factors = format.factor_shapes(&ranks).into_iter().zip(40..);
    let factor = |(shape, seed): (Vec<usize>, u64)| Var::from_tensor(&random(seed, &shape).to_dtype(dtype)?);
    let factors = factors.map(factor).collect::<Result<_>>()?;
    Chain::new(format, factors)
}

/// A weight's format, and ranks near one: of matrices also beyond the largest.
pub(crate) fn format(
    (layout, scheme, shape, groups): (Layout, Scheme, &[usize], usize),
    rank: usize,
) -> (Format, Ranks) {
    let format = Format::new(layout, scheme, shape, groups, &Pairs::default()).unwrap();
    let ranks = Ranks::from(rank);
    let ranks = if scheme.is_tensor() { format.ranks(&ranks).unwrap() } else { ranks };
    (format, ranks)
}

/// The weights that are matrices.
pub(crate) fn matrices() -> impl Iterator<Item = (Layout, Scheme, &'static [usize], usize)> {
    WEIGHTS.into_iter().filter(|(_, scheme, ..)| !scheme.is_tensor())
}

/// The dense weight as the room of decompositions multiplies it out.
fn collapsed(format: &Format, factors: &[Tensor]) -> Result<Tensor> {
    let factor = |tensor: &Tensor| {
        Ok(Factor { shape: tensor.dims().to_vec(), data: wide(tensor).flatten_all()?.to_vec1::<f64>()? })
    };
    let factors: Vec<Factor<f64>> = factors.iter().map(factor).collect::<Result<_>>()?;
    Tensor::from_vec(format.collapse(&factors, 1).unwrap(), format.shape(), &Device::Cpu)
}

fn each(act: impl Fn(&str, &Chain) -> Result<()>) -> Result<()> {
    for weight in WEIGHTS {
        for rank in [1, 3, 8] {
            act(&format!("{weight:?} at rank {rank}"), &chain(weight, rank, DType::F64)?)?;
        }
    }
    Ok(())
}

#[test]
fn products_are_those_of_decompositions() -> Result<()> {
    each(|what, chain| {
        let factors: Vec<Tensor> = chain.factors().iter().map(Var::as_detached_tensor).collect();
        let expected = collapsed(chain.format(), &factors)?;
        assert_close(what, &chain.collapse()?, &expected, TERMS);
        assert_close(what, chain.reconstruct(&Tape::candle())?.tensor(), &expected, TERMS);
        assert!((chain.norm()? - norm(&expected)).abs() <= 1e-13 * norm(&expected) * TERMS as f64, "{what}");
        assert_eq!(chain.parameters(), factors.iter().map(Tensor::elem_count).sum::<usize>());
        // other weights of that norm: |W - A B| by hand
        let weight = random(7, expected.dims());
        let by_hand = norm(&(wide(&weight) - &expected)?) / norm(&weight);
        assert!((chain.relative_error(&weight)? / by_hand - 1.0).abs() < 1e-13, "{what}");
        assert_eq!(chain.relative_error(&chain.collapse()?)?, 0.0);
        Ok(())
    })
}

#[test]
fn closed_forms_are_the_gradients_of_the_penalty() -> Result<()> {
    each(|what, chain| {
        let closed = chain.frobenius_gradients()?;
        // candle, of the Gram matrices' trace
        let by_gram = (chain.norm_squared()? * 0.5)?.backward()?;
        // candle, of the product's elements
        let product = chain.reconstruct(&Tape::candle())?;
        let by_product = (product.tensor().sqr()?.sum_all()? * 0.5)?.backward()?;
        for (factor, closed) in chain.factors().iter().zip(&closed) {
            assert_eq!(closed.dims(), factor.dims(), "{what}");
            assert_close(what, by_gram.get(factor).unwrap(), closed, TERMS);
            assert_close(what, by_product.get(factor).unwrap(), closed, TERMS);
        }
        Ok(())
    })
}

#[test]
fn closed_forms_are_those_of_differences() -> Result<()> {
    const STEP: f64 = 1e-5;
    each(|what, chain| {
        let factors: Vec<Tensor> = chain.factors().iter().map(Var::as_detached_tensor).collect();
        for (index, gradient) in chain.frobenius_gradients()?.iter().enumerate() {
            let direction = wide(&random(60 + index as u64, gradient.dims()));
            let penalty = |step: f64| -> Result<f64> {
                let mut moved = factors.clone();
                moved[index] = (&moved[index] + (&direction * step)?)?;
                Ok(norm(&collapsed(chain.format(), &moved)?).powi(2) / 2.0)
            };
            let found = (penalty(STEP)? - penalty(-STEP)?) / (2.0 * STEP);
            let expected = (gradient * &direction)?.sum_all()?.to_scalar::<f64>()?;
            // The penalty is quadratic in each factor: only its rounding is left, over the step.
            let allowed = 32.0 * f64::EPSILON * penalty(0.0)? / STEP;
            assert!((found - expected).abs() <= allowed, "{what}: {found} {expected}");
        }
        Ok(())
    })
}

#[test]
fn closed_forms_in_f32_are_those_in_f64() -> Result<()> {
    for weight in WEIGHTS {
        let (narrow, exact) = (chain(weight, 3, DType::F32)?, chain(weight, 3, DType::F64)?);
        for (found, expected) in narrow.frobenius_gradients()?.iter().zip(exact.frobenius_gradients()?) {
            assert_close(&format!("{weight:?}"), found, &expected, TERMS);
        }
    }
    Ok(())
}

/// What [`Diagnostics`] says, from faer's singular values and sums over elements.
fn by_hand(chain: &Chain, learning_rate: f64) -> Result<[f64; 6]> {
    let unfolding = chain.format().unfolding().unwrap();
    let (g, rows, cols) = (unfolding.groups(), unfolding.rows(), unfolding.cols());
    let rank = chain.ranks().largest();
    let transposed = matches!(unfolding.layout(), Layout::TransposedLinear | Layout::Embedding);
    let values: Vec<Vec<f64>> = chain
        .factors()
        .iter()
        .map(|factor| wide(factor.as_tensor()).flatten_all()?.to_vec1::<f64>())
        .collect::<Result<_>>()?;
    let kh = if unfolding.base_scheme() == Scheme::Spatial { unfolding.shape()[2] } else { 1 };
    let (mut squares, mut nuclear, mut largest, mut bound) = (0.0, 0.0, 0f64, 0.0);
    let (mut gram, mut off) = ([0.0; 2], [0.0; 2]);
    for group in 0..g {
        // as Unfolding says: A (rows, r) and B (r, cols), each stored as the layout wants it
        let (first, last) = (&values[0], &values[values.len() - 1]);
        let a = faer::Mat::from_fn(rows, rank, |i, k| match unfolding.layout() {
            Layout::TransposedLinear => last[k * rows + i],
            Layout::Embedding => first[i * rank + k],
            _ => last[((group * rows / kh + i / kh) * rank + k) * kh + i % kh],
        });
        let b = faer::Mat::from_fn(rank, cols, |k, j| match unfolding.layout() {
            Layout::TransposedLinear => first[j * rank + k],
            Layout::Embedding => last[j * rank + k],
            _ => first[(group * rank + k) * cols + j],
        });
        let m = faer::Mat::from_fn(rank, rank, |i, j| match values.len() {
            2 => f64::from(u8::from(i == j)),
            _ if transposed => values[1][j * rank + i],
            _ => values[1][(group * rank + i) * rank + j],
        });
        let am = &a * &m;
        let singular = (&am * &b).singular_values().unwrap();
        squares += singular.iter().map(|s| s * s).sum::<f64>();
        nuclear += singular.iter().sum::<f64>();
        largest = largest.max(singular[0]);
        bound += f64::midpoint(am.squared_norm_l2(), b.squared_norm_l2());
        for (index, gram_matrix) in [a.transpose() * &a, &b * b.transpose()].iter().enumerate() {
            gram[index] += gram_matrix.squared_norm_l2();
            for i in 0..rank {
                off[index] += (0..rank).filter(|&j| j != i).map(|j| gram_matrix[(i, j)].powi(2)).sum::<f64>();
            }
        }
    }
    let orthogonality = f64::midpoint((off[0] / gram[0]).sqrt(), (off[1] / gram[1]).sqrt());
    let stable_rank = squares / largest.powi(2);
    Ok([squares.sqrt(), nuclear, bound, learning_rate / squares, orthogonality, stable_rank])
}

fn listed(found: &Diagnostics) -> [f64; 6] {
    [
        found.norm,
        found.nuclear_norm,
        found.nuclear_bound,
        found.effective_step_size,
        found.non_orthogonality,
        found.stable_rank,
    ]
}

#[test]
fn diagnostics_are_those_of_faers_singular_values() -> Result<()> {
    each(|what, chain| {
        let found = chain.diagnostics(0.1)?;
        if chain.scheme().is_tensor() {
            let norm = norm(&chain.collapse()?);
            assert!((found.norm / norm - 1.0).abs() < 1e-12, "{what}");
            let squares = |factor: &Var| wide(factor.as_tensor()).sqr()?.sum_all()?.to_scalar::<f64>();
            let all = chain.factors().iter().map(squares).collect::<Result<Vec<f64>>>()?;
            assert!((found.nuclear_bound / (all.iter().sum::<f64>() / 2.0) - 1.0).abs() < 1e-12, "{what}");
            assert!((found.effective_step_size * norm * norm / 0.1 - 1.0).abs() < 1e-12, "{what}");
            assert!(found.stable_rank >= 1.0 - 1e-12 && found.nuclear_norm >= norm * (1.0 - 1e-12), "{what}");
            return Ok(());
        }
        for (found, expected) in listed(&found).into_iter().zip(by_hand(chain, 0.1)?) {
            // sums of at most TERMS squares; at rank one `non_orthogonality` is zero
            let allowed = 1e-12 * expected.abs() + 1e-14;
            assert!((found - expected).abs() <= allowed, "{what}: {found:?} {expected}");
        }
        assert!(found.nuclear_bound >= found.nuclear_norm, "{what}");
        assert!(found.stable_rank >= 1.0 - 1e-12 && found.nuclear_norm >= found.norm, "{what}");
        Ok(())
    })
}

#[test]
fn spectral_factors_are_balanced_and_orthogonal() -> Result<()> {
    for (layout, scheme, shape, groups) in matrices() {
        let what = format!("{layout:?} {scheme} {shape:?}");
        let weight = wide(&random(8, shape));
        let rank = Unfolding::new(layout, scheme, shape, groups).unwrap().max_rank();
        let factored = Weight::factored(&weight, layout, scheme, groups, rank)?;
        let found = factored.chain().unwrap().diagnostics(0.1)?;
        // equality in |A B|_* <= (|A|^2 + |B|^2) / 2 for A = U sqrt(S), B = sqrt(S) Vt
        assert!((found.nuclear_bound / found.nuclear_norm - 1.0).abs() < 1e-12, "{what}: {found:?}");
        // the root of what a difference of squares leaves: sqrt(eps) times a few
        assert!(found.non_orthogonality < 1e-6, "{what}: {found:?}");
        assert!((found.norm / norm(&weight) - 1.0).abs() < 1e-12, "{what}: {found:?}");
    }
    Ok(())
}

#[test]
fn what_is_moved_between_factors_changes_the_bound_alone() -> Result<()> {
    let chain = chain(WEIGHTS[0], 3, DType::F64)?;
    let before = chain.diagnostics(0.1)?;
    for (factor, by) in chain.factors().iter().zip([0.25, 4.0]) {
        factor.set(&factor.as_detached_tensor().affine(by, 0.0)?)?;
    }
    let after = chain.diagnostics(0.1)?;
    // powers of two: nothing is rounded
    assert_eq!([after.norm, after.nuclear_norm], [before.norm, before.nuclear_norm]);
    assert_eq!([after.stable_rank, after.non_orthogonality], [before.stable_rank, before.non_orthogonality]);
    assert!(after.nuclear_bound > 2.0 * before.nuclear_bound);
    Ok(())
}

#[test]
fn factors_of_other_shapes_are_refused() -> Result<()> {
    let unfolding = Unfolding::new(Layout::Conv2d, Scheme::Spatial, &[6, 4, 3, 3], 1).unwrap();
    let of = |shapes: &[&[usize]]| -> Result<String> {
        let factors =
            shapes.iter().map(|shape| Var::from_tensor(&random(1, shape))).collect::<Result<_>>()?;
        Ok(Chain::new(unfolding.clone(), factors).unwrap_err().to_string())
    };
    let expected =
        "do not form a weight of shape [6, 4, 3, 3]: expected such as [[1, 4, 1, 3], [6, 1, 3, 1]]";
    for shapes in [
        &[&[2usize, 4, 1, 3][..], &[6, 3, 3, 1]][..],
        &[&[2, 4, 1, 3]],
        &[&[2, 4, 1, 3], &[2, 2, 1, 1], &[6, 2, 3, 1]],
    ] {
        let error = of(shapes)?;
        assert!(error.contains(expected), "{error}");
    }
    assert!(of(&[&[6, 2, 3, 1], &[2, 4, 1, 3]])?.contains("do not form"));
    Ok(())
}

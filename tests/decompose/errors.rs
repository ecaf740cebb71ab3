//! What is refused, and what the refusal says.

use crate::reference::{numbers, rng};
use fnl::decompose::{DecomposeError, Factor, Layout, Scheme, Unfolding, error_of, factor, weight_spectrum};
use fnl::linalg::{LinalgError, SvdOptions};

#[test]
fn the_place_of_a_nan_is_its_index_in_the_stored_tensor() {
    let mut rng = rng(61);
    let cases: [(Layout, Scheme, &[usize], usize); 8] = [
        (Layout::Linear, Scheme::Matrix, &[5, 7], 1),
        (Layout::TransposedLinear, Scheme::Matrix, &[5, 7], 1),
        (Layout::Embedding, Scheme::Matrix, &[9, 4], 1),
        (Layout::Conv1d, Scheme::Channel, &[6, 4, 3], 2),
        (Layout::Conv2d, Scheme::Spatial, &[6, 4, 3, 2], 1),
        (Layout::Conv2d, Scheme::Spatial, &[6, 4, 2, 3], 3),
        (Layout::Conv2d, Scheme::Channel, &[6, 4, 3, 2], 1),
        (Layout::Conv2d, Scheme::Channel, &[6, 4, 2, 3], 2),
    ];
    for (layout, scheme, shape, groups) in cases {
        let unfolding = Unfolding::new(layout, scheme, shape, groups).unwrap();
        let count: usize = shape.iter().product();
        let sound: Vec<f32> = numbers(&mut rng, count).into_iter().map(|x| x as f32).collect();
        for flat in 0..count {
            for bad in [f32::NAN, f32::NEG_INFINITY] {
                let mut weight = sound.clone();
                weight[flat] = bad;
                let mut rest = flat;
                let mut expected: Vec<usize> = shape
                    .iter()
                    .rev()
                    .map(|axis| {
                        let at = rest % axis;
                        rest /= axis;
                        at
                    })
                    .collect();
                expected.reverse();
                let found = [
                    factor(&weight, &unfolding, 2, &SvdOptions::default()).err(),
                    weight_spectrum(&weight, &unfolding, 1).err(),
                ];
                for error in found {
                    match error {
                        Some(DecomposeError::NotFinite { index, value }) => {
                            assert_eq!(index, expected, "{layout:?} {scheme} {groups}");
                            assert!(
                                value.is_nan() == bad.is_nan() && (bad.is_nan() || value < 0.0),
                                "{value}"
                            );
                        }
                        other => panic!("{layout:?} {scheme}: {other:?}"),
                    }
                }
            }
        }
    }
}

#[test]
fn the_first_of_several_in_the_order_of_the_file_is_named() {
    // The matrix of the spatial scheme has another order than the file: (0, 1, 0, 0) is in its first row,
    // (0, 0, 1, 0) in its second.
    let unfolding = Unfolding::new(Layout::Conv2d, Scheme::Spatial, &[2, 2, 2, 2], 1).unwrap();
    let mut weight = vec![1.5f64; 16];
    weight[2] = f64::NAN; // (0, 0, 1, 0)
    weight[4] = f64::INFINITY; // (0, 1, 0, 0)
    let error = factor(&weight, &unfolding, 1, &SvdOptions::default()).unwrap_err();
    let DecomposeError::NotFinite { index, .. } = &error else { panic!("{error}") };
    assert!(*index == [0, 0, 1, 0] || *index == [0, 1, 0, 0], "{error}");
    assert!(error.to_string().starts_with(&format!("element {index:?} of the weight is ")), "{error}");
}

#[test]
fn shapes_that_are_not_the_layouts_are_refused() {
    let cases: [(Layout, Scheme, &[usize]); 12] = [
        (Layout::Linear, Scheme::Matrix, &[4]),
        (Layout::Linear, Scheme::Matrix, &[4, 4, 1]),
        (Layout::Linear, Scheme::Spatial, &[4, 4]),
        (Layout::Linear, Scheme::Matrix, &[0, 4]),
        (Layout::TransposedLinear, Scheme::Channel, &[4, 4]),
        (Layout::Embedding, Scheme::Matrix, &[4, 0]),
        (Layout::Conv1d, Scheme::Matrix, &[4, 4, 3]),
        (Layout::Conv1d, Scheme::Channel, &[4, 4, 3, 3]),
        (Layout::Conv2d, Scheme::Matrix, &[4, 4, 3, 3]),
        (Layout::Conv2d, Scheme::Spatial, &[4, 4, 3]),
        (Layout::Conv2d, Scheme::Spatial, &[4, 4, 0, 3]),
        (Layout::Conv2d, Scheme::Channel, &[]),
    ];
    for (layout, scheme, shape) in cases {
        let error = Unfolding::new(layout, scheme, shape, 1).unwrap_err();
        let expected =
            format!("scheme `{scheme}` does not apply to a {} weight of shape {shape:?}", layout.name());
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn groups_that_do_not_divide_are_refused() {
    for (layout, shape, groups) in [
        (Layout::Conv2d, &[8usize, 4, 3, 3][..], 3),
        (Layout::Conv2d, &[8, 4, 3, 3], 0),
        (Layout::Conv2d, &[8, 4, 3, 3], 16),
        (Layout::Conv1d, &[6, 4, 3], 4),
    ] {
        let error = Unfolding::new(layout, Scheme::Channel, shape, groups).unwrap_err();
        let DecomposeError::Groups { groups: found, out_channels } = error else { panic!("{error}") };
        assert_eq!((found, out_channels), (groups, shape[0]));
    }
    let error = Unfolding::new(Layout::Linear, Scheme::Matrix, &[8, 8], 2).unwrap_err();
    assert!(matches!(error, DecomposeError::Groups { groups: 2, out_channels: 8 }), "{error}");
}

#[test]
fn ranks_beyond_the_matrix_are_refused() {
    let unfolding = Unfolding::new(Layout::Conv2d, Scheme::Spatial, &[4, 2, 3, 3], 2).unwrap();
    let weight: Vec<f32> = (0..72).map(|i| (i as f32).sin()).collect();
    assert_eq!((unfolding.rows(), unfolding.cols()), (6, 6));
    for rank in [0, 7] {
        let error = factor(&weight, &unfolding, rank, &SvdOptions::default()).unwrap_err();
        let DecomposeError::Linalg(LinalgError::RankOutOfRange { rank: found, rows: 6, cols: 6 }) = error
        else {
            panic!("{error}")
        };
        assert_eq!(found, rank);
    }
}

#[test]
fn data_of_another_length_is_refused() {
    let unfolding = Unfolding::new(Layout::Linear, Scheme::Matrix, &[3, 4], 1).unwrap();
    for length in [0, 11, 13] {
        let error = factor(&vec![1.0f64; length], &unfolding, 1, &SvdOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("{length} elements, expected 12 for shape [3, 4]"));
    }
}

#[test]
fn factors_that_form_no_chain_are_refused() {
    let unfolding = Unfolding::new(Layout::Conv2d, Scheme::Spatial, &[4, 2, 3, 3], 2).unwrap();
    let sound: Vec<Factor<f64>> = unfolding
        .factor_shapes(2)
        .into_iter()
        .map(|shape| Factor { data: vec![0.5; shape.iter().product()], shape })
        .collect();
    assert_eq!(sound[0].shape, [4, 2, 1, 3]);
    assert_eq!(sound[1].shape, [4, 2, 3, 1]);
    let reshaped = |index: usize, shape: &[usize]| {
        let mut factors = sound.clone();
        factors[index] = Factor { shape: shape.to_vec(), data: vec![0.5; shape.iter().product()] };
        factors
    };
    let cases: [(Vec<Factor<f64>>, usize); 6] = [
        (Vec::new(), 0),
        (sound[..1].to_vec(), 1),
        // Five channels are not two groups of any rank.
        (reshaped(0, &[5, 2, 1, 3]), 0),
        (reshaped(0, &[4, 2, 3, 1]), 0),
        (reshaped(1, &[4, 3, 3, 1]), 1),
        (reshaped(1, &[4, 2, 1, 3]), 1),
    ];
    for (factors, place) in cases {
        let found = [
            unfolding.collapse(&factors, 1).unwrap_err(),
            error_of(&[0.5f64; 72], &unfolding, &factors, 1).unwrap_err(),
        ];
        for error in found {
            let DecomposeError::FactorShape { index, .. } = &error else { panic!("{error}") };
            assert_eq!(*index, place, "{error}");
        }
    }
    let mut short = sound;
    short[1].data.pop();
    let error = unfolding.collapse(&short, 1).unwrap_err();
    assert_eq!(error.to_string(), "23 elements, expected 24 for shape [4, 2, 3, 1]");
}

#[test]
#[ignore = "a chain that is too long is multiplied out without its last link"]
fn a_third_factor_is_refused() {
    let unfolding = Unfolding::new(Layout::Linear, Scheme::Matrix, &[4, 3], 1).unwrap();
    let factor =
        |shape: [usize; 2]| Factor { shape: shape.to_vec(), data: vec![0.5f64; shape[0] * shape[1]] };
    let chain = [factor([2, 3]), factor([4, 2]), factor([4, 4])];
    assert!(matches!(unfolding.collapse(&chain, 1), Err(DecomposeError::FactorShape { index: 2, .. })));
}

#[test]
#[ignore = "factors of rank 0 multiply out to zeros"]
fn factors_without_a_rank_are_refused() {
    let unfolding = Unfolding::new(Layout::Linear, Scheme::Matrix, &[4, 3], 1).unwrap();
    let empty = |shape: [usize; 2]| Factor::<f64> { shape: shape.to_vec(), data: Vec::new() };
    let found = unfolding.collapse(&[empty([0, 3]), empty([4, 0])], 1);
    assert!(matches!(found, Err(DecomposeError::FactorShape { index: 0, .. })), "{found:?}");
}

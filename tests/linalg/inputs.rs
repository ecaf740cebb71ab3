//! Inputs at the edges: refused with a reason, or handled.

use faer::{Mat, MatRef};
use fnl::linalg::{LinalgError, SvdMethod, SvdOptions, spectrum, truncated_svd, working_bytes};

use crate::matrices::{distance, double, orthonormality, single, uniform};

const METHODS: [SvdMethod; 3] = [SvdMethod::Auto, SvdMethod::Exact, SvdMethod::Iterative];

#[test]
fn ranks_outside_the_matrix_are_refused() {
    let w = single(&uniform(6, 4, 1));
    for rank in [0, 5, usize::MAX] {
        let error = truncated_svd(w.as_ref(), rank, &SvdOptions::default()).unwrap_err();
        assert_eq!(error, LinalgError::RankOutOfRange { rank, rows: 6, cols: 4 });
    }
}

#[test]
fn empty_matrices_are_refused() {
    for (rows, cols) in [(0, 3), (3, 0), (0, 0)] {
        let w = Mat::<f32>::zeros(rows, cols);
        assert_eq!(
            truncated_svd(w.as_ref(), 1, &SvdOptions::default()).unwrap_err(),
            LinalgError::Empty { rows, cols }
        );
        assert_eq!(spectrum(w.as_ref(), 1).unwrap_err(), LinalgError::Empty { rows, cols });
    }
}

#[test]
fn the_first_element_that_is_not_finite_is_named() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut w = single(&uniform(40, 600, 2));
        w[(17, 3)] = bad;
        w[(5, 401)] = bad;
        let error = truncated_svd(w.as_ref(), 2, &SvdOptions::default()).unwrap_err();
        let LinalgError::NotFinite { row, col, value } = error else { panic!("{error}") };
        assert_eq!((row, col, value.to_bits()), (5, 401, f64::from(bad).to_bits()));
        assert!(error.to_string().starts_with("element (5, 401) is "), "{error}");
    }
}

#[test]
fn zero_matrices_have_orthonormal_bases_and_no_error() {
    let w = Mat::<f32>::zeros(50, 30);
    for method in METHODS {
        let svd = truncated_svd(w.as_ref(), 7, &SvdOptions { method, ..SvdOptions::default() }).unwrap();
        assert_eq!(
            (svd.s.as_slice(), svd.tail_squared, svd.relative_error(), svd.energy()),
            (&[0.0; 7][..], 0.0, 0.0, 1.0)
        );
        assert!(orthonormality(&svd.u) < 1e-6 && orthonormality(&svd.v) < 1e-6);
    }
    let spectrum = spectrum(w.as_ref(), 1).unwrap();
    assert_eq!((spectrum.stable_rank(), spectrum.energy(1), spectrum.relative_error(3)), (0.0, 1.0, 0.0));
}

#[test]
fn magnitudes_near_the_limits_of_the_type_change_nothing_but_the_scale() {
    let w = single(&uniform(80, 60, 3));
    let plain = truncated_svd(w.as_ref(), 10, &SvdOptions::default()).unwrap();
    for exponent in [100, -100] {
        // a power of two is exact, and 2^100 is 1.3e30
        let scale = 2f64.powi(exponent);
        let scaled = Mat::from_fn(80, 60, |i, j| (f64::from(w[(i, j)]) * scale) as f32);
        let svd = truncated_svd(scaled.as_ref(), 10, &SvdOptions::default()).unwrap();
        for (a, b) in plain.s.iter().zip(&svd.s) {
            assert!((a * scale - b).abs() < 1e-6 * plain.s[0] * scale, "{a} {b}");
        }
        assert!((plain.relative_error() - svd.relative_error()).abs() < 1e-6);
        let spectra = [spectrum(w.as_ref(), 1).unwrap(), spectrum(scaled.as_ref(), 1).unwrap()];
        assert!((spectra[0].values()[59] * scale / spectra[1].values()[59] - 1.0).abs() < 1e-5);
        let (a, b) = svd.balanced_factors();
        assert!(a.col_iter().chain(b.col_iter()).all(|column| column.iter().all(|x| x.is_finite())));
    }
}

#[test]
fn any_strides_give_the_same_approximation() {
    let numbers = single(&uniform(70 * 40, 1, 4));
    let slice = numbers.col(0).try_as_col_major().expect("a column is contiguous").as_slice();
    // parts of wider matrices, in rows and in columns, forward and backward
    let rows = MatRef::from_row_major_slice_with_stride(slice, 60, 30, 40);
    let columns = MatRef::from_column_major_slice_with_stride(slice, 60, 30, 70);
    for view in [rows, columns] {
        for view in
            [view, view.transpose(), view.reverse_rows(), view.reverse_cols(), view.reverse_rows_and_cols()]
        {
            let plain = view.to_owned();
            for method in METHODS {
                let options = SvdOptions { method, ..SvdOptions::default() };
                let a = truncated_svd(view, 6, &options).unwrap();
                let b = truncated_svd(plain.as_ref(), 6, &options).unwrap();
                // c = 16, for two computations in f32
                let c = 16.0 * f64::from(f32::EPSILON) * 1800f64.sqrt();
                let difference = distance(&double(&a.reconstruct()), &double(&b.reconstruct()));
                assert!(difference < c * double(&plain).norm_l2(), "{difference}");
            }
        }
    }
}

#[test]
fn estimates_of_memory_grow_with_what_they_estimate() {
    let small = working_bytes(1024, 1024, 64, 4, SvdMethod::Auto);
    assert!(small >= 1024 * 1024 * 4 && working_bytes(2048, 1024, 64, 4, SvdMethod::Auto) > small);
    assert!(working_bytes(1024, 1024, 512, 4, SvdMethod::Auto) > small);
}

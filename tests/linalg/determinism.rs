//! Equal bits for equal input, on any number of threads.

use faer::Mat;
use fnl::linalg::{Scalar, SvdMethod, SvdOptions, matmul, residual_norm_squared, spectrum, truncated_svd};

use crate::matrices::{single, uniform};

fn bits<T: Scalar>(a: &Mat<T>) -> Vec<u64> {
    a.col_iter().flat_map(|column| column.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>()).collect()
}

fn decomposition<T: Scalar>(w: &Mat<T>, rank: usize, method: SvdMethod, threads: usize) -> Vec<u64> {
    let svd = truncated_svd(w.as_ref(), rank, &SvdOptions { method, threads }).unwrap();
    let mut all = bits(&svd.u);
    all.extend(bits(&svd.v));
    all.extend(svd.s.iter().chain([&svd.tail_squared, &svd.norm_squared]).map(|x| x.to_bits()));
    all
}

#[test]
fn decompositions_do_not_depend_on_threads() {
    // large enough that triangles, products and bisections are shared
    let w = uniform(1100, 1030, 5);
    let w32 = single(&w);
    for method in [SvdMethod::Exact, SvdMethod::Iterative] {
        let one = decomposition(&w32, 70, method, 1);
        for threads in [1, 2, 3] {
            assert!(one == decomposition(&w32, 70, method, threads), "{method:?} on {threads} threads");
        }
    }
    let one = decomposition(&w, 40, SvdMethod::Exact, 1);
    assert!(one == decomposition(&w, 40, SvdMethod::Exact, 3), "f64");
}

#[test]
fn spectra_products_and_residuals_do_not_depend_on_threads() {
    let w = single(&uniform(700, 530, 6));
    let (a, b) = (single(&uniform(700, 40, 7)), single(&uniform(40, 530, 8)));
    let one = spectrum(w.as_ref(), 1).unwrap();
    let product = bits(&matmul(a.as_ref(), b.as_ref(), 1));
    let residual = residual_norm_squared(w.as_ref(), a.as_ref(), b.as_ref(), 1);
    for threads in [2, 3] {
        assert_eq!(one, spectrum(w.as_ref(), threads).unwrap());
        assert!(product == bits(&matmul(a.as_ref(), b.as_ref(), threads)));
        assert_eq!(
            residual.to_bits(),
            residual_norm_squared(w.as_ref(), a.as_ref(), b.as_ref(), threads).to_bits()
        );
    }
}

#[test]
fn callers_inside_a_thread_pool_get_the_same_bits() {
    use rayon::prelude::*;
    let w = single(&uniform(300, 280, 9));
    let alone = decomposition(&w, 30, SvdMethod::Auto, 1);
    let many: Vec<_> =
        (0..4).into_par_iter().map(|i| decomposition(&w, 30, SvdMethod::Auto, 1 + i % 2)).collect();
    assert!(many.iter().all(|one| *one == alone));
}

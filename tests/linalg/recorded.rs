//! Numbers from `numpy`.

use faer::Mat;
use fnl::linalg::spectrum;

/// `numpy.linalg.svd(w)[1]`, version 2.4.6, for
/// `i, j = numpy.meshgrid(range(7), range(5), indexing='ij'); w = ((7*i + 3*j + i*i*j) % 11) / 11 - 0.4`.
const VALUES: [f64; 5] = [
    1.192_692_839_564_377_7,
    0.958_142_005_322_720_5,
    0.818_968_002_657_040_1,
    0.448_581_954_124_537_66,
    0.159_780_656_123_911_57,
];

#[test]
fn singular_values_are_numpys() {
    let w = Mat::from_fn(7, 5, |i, j| ((7 * i + 3 * j + i * i * j) % 11) as f64 / 11.0 - 0.4);
    let found = spectrum(w.as_ref(), 1).unwrap();
    for (value, expected) in found.values().iter().zip(VALUES) {
        // c = 4 roundings of the norm, on both sides
        assert!(
            (value - expected).abs() < 8.0 * f64::EPSILON * 35f64.sqrt() * VALUES[0],
            "{value} {expected}"
        );
    }
    // f32 goes through the Gram matrix: the rounding of the entries is all that is left
    let w32 = Mat::from_fn(7, 5, |i, j| w[(i, j)] as f32);
    for (value, expected) in spectrum(w32.as_ref(), 1).unwrap().values().iter().zip(VALUES) {
        assert!((value - expected).abs() < f64::from(f32::EPSILON) * VALUES[0], "{value} {expected}");
    }
}

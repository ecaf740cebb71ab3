//! What singular values say.

use fnl::linalg::{Spectrum, spectrum};

use crate::matrices::{reference_values, single, uniform, with_values};

#[test]
fn energies_and_errors_are_two_sides_of_one_number() {
    let spectrum = Spectrum::new(vec![1.0, 3.0, 2.0, 0.5]);
    assert!((spectrum.norm_squared() - 14.25).abs() < 16.0 * f64::EPSILON);
    for rank in 0..=5 {
        let (energy, error) = (spectrum.energy(rank), spectrum.relative_error(rank));
        assert!((energy + error * error - 1.0).abs() < 4.0 * f64::EPSILON);
        assert!((spectrum.tail_squared(rank) - error * error * 14.25).abs() < 64.0 * f64::EPSILON);
    }
    assert!((spectrum.stable_rank() - 14.25 / 9.0).abs() < 4.0 * f64::EPSILON);
}

#[test]
fn the_rank_for_an_energy_is_the_least_one() {
    let spectrum = spectrum(uniform(40, 25, 1).as_ref(), 1).unwrap();
    for percent in 0..=100 {
        let energy = f64::from(percent) / 100.0;
        let rank = spectrum.rank_for_energy(energy);
        assert!(
            spectrum.energy(rank) >= energy && (rank == 1 || spectrum.energy(rank - 1) < energy),
            "{energy} {rank}"
        );
    }
    assert_eq!(
        (spectrum.rank_for_energy(-1.0), spectrum.rank_for_energy(2.0), spectrum.rank_for_energy(f64::NAN)),
        (1, 25, 25)
    );
}

#[test]
fn values_agree_with_another_algorithm() {
    let w = uniform(300, 170, 2);
    let expected = reference_values(&w);
    let norm = expected[0];
    for (value, expected) in spectrum(w.as_ref(), 1).unwrap().values().iter().zip(&expected) {
        assert!((value - expected).abs() < 4.0 * f64::EPSILON * 300f64.sqrt() * norm);
    }
    for (value, expected) in spectrum(single(&w).transpose(), 1).unwrap().values().iter().zip(&expected) {
        // c = 1: rounding w to f32 moves a value by at most eps/2 of the norm of w, and its largest value by sqrt(n) less
        assert!((value - expected).abs() < f64::from(f32::EPSILON) * norm, "{value} {expected}");
    }
}

#[test]
fn repeated_and_zero_values_are_found_as_often_as_they_occur() {
    let w = single(&with_values(90, 80, &[2.0, 2.0, 2.0, 1.0, 1.0], 3));
    let spectrum = spectrum(w.as_ref(), 1).unwrap();
    assert_eq!(spectrum.values().len(), 80);
    for (value, expected) in spectrum.values().iter().zip([2.0, 2.0, 2.0, 1.0, 1.0, 0.0, 0.0]) {
        assert!((value - expected).abs() < 4.0 * f64::from(f32::EPSILON), "{value} {expected}");
    }
}

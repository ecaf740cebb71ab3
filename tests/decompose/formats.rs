//! Formats of weights: factors, what they multiply out to, and what curves foretell.

use fnl::decompose::{
    Certainty, DecomposeError, Factor, Format, FormatOptions, Layout, Pairs, Ranks, Scheme, curve,
};

const CASES: [(Layout, Scheme, &[usize]); 14] = [
    (Layout::Linear, Scheme::Matrix, &[12, 8]),
    (Layout::Conv2d, Scheme::Spatial, &[8, 6, 3, 3]),
    (Layout::Conv2d, Scheme::Channel, &[8, 6, 3, 3]),
    (Layout::Conv2d, Scheme::Tucker, &[8, 6, 3, 3]),
    (Layout::Conv2d, Scheme::Cp, &[8, 6, 3, 2]),
    (Layout::Conv2d, Scheme::TensorTrain, &[8, 6, 3, 3]),
    (Layout::Conv1d, Scheme::Tucker, &[8, 6, 5]),
    (Layout::Conv1d, Scheme::Cp, &[8, 6, 5]),
    (Layout::Conv1d, Scheme::TensorTrain, &[8, 6, 5]),
    (Layout::Linear, Scheme::Tucker, &[12, 8]),
    (Layout::Linear, Scheme::TensorTrain, &[12, 8]),
    (Layout::TransposedLinear, Scheme::TensorTrain, &[8, 12]),
    (Layout::Embedding, Scheme::TensorTrain, &[30, 8]),
    (Layout::Embedding, Scheme::Tucker, &[30, 8]),
];

/// A weight with a spectrum that falls.
fn weight(count: usize) -> Vec<f64> {
    (0..count).map(|i| ((i * i + 3 * i) as f64 * 0.37).sin() + 0.2 * (i as f64 * 0.011).cos()).collect()
}

fn format(layout: Layout, scheme: Scheme, shape: &[usize]) -> Format {
    Format::new(layout, scheme, shape, 1, &Pairs::default()).unwrap()
}

/// Every case with its usual pairs, and those that have pairs with others, one of them with a side of one.
fn formats() -> Vec<Format> {
    let mut all: Vec<Format> =
        CASES.iter().map(|&(layout, scheme, shape)| format(layout, scheme, shape)).collect();
    let sizes = |pairs: &[[usize; 2]]| Pairs::Sizes(pairs.to_vec());
    let others: [(Layout, Scheme, &[usize], Pairs); 7] = [
        (Layout::Linear, Scheme::TensorTrain, &[12, 8], Pairs::Count(3)),
        (Layout::Linear, Scheme::TensorTrain, &[12, 8], sizes(&[[3, 1], [2, 4], [2, 2]])),
        (Layout::TransposedLinear, Scheme::Tucker, &[8, 12], sizes(&[[2, 8], [6, 1]])),
        (Layout::Linear, Scheme::Tucker, &[12, 8], Pairs::Count(4)),
        (Layout::Conv2d, Scheme::TensorTrain, &[8, 6, 3, 3], Pairs::Count(1)),
        (Layout::Conv2d, Scheme::TensorTrain, &[8, 6, 3, 3], sizes(&[[2, 3], [4, 2]])),
        (Layout::Conv1d, Scheme::TensorTrain, &[8, 6, 5], Pairs::Count(3)),
    ];
    all.extend(
        others
            .iter()
            .map(|(layout, scheme, shape, pairs)| Format::new(*layout, *scheme, shape, 1, pairs).unwrap()),
    );
    all
}

#[test]
fn errors_are_those_of_what_factors_multiply_out_to() {
    for format in formats() {
        let (layout, scheme) = (format.layout(), format.scheme());
        let weight = weight(format.parameters());
        let most = format.max_ranks();
        for asked in [Ranks::from(1), Ranks::from(3), most] {
            let ranks = format.ranks(&asked).unwrap();
            let factored = format.factor(&weight, &ranks, None, &FormatOptions::default()).unwrap();
            let shapes: Vec<Vec<usize>> =
                factored.factors.iter().map(|factor| factor.shape.clone()).collect();
            assert_eq!(format.ranks_of(&shapes), Some(ranks), "{layout:?} {scheme}");
            let dense = format.collapse(&factored.factors, 1).unwrap();
            let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
            let difference = squares(&mut weight.iter().zip(&dense).map(|(w, d)| w - d));
            let by_hand = difference / squares(&mut weight.iter().copied());
            let what = format!("{layout:?} {scheme} {:?} {ranks}", format.pairs());
            assert!((factored.relative_error - by_hand).abs() < 1e-7, "{what}: {factored:?} {by_hand}");
            let measured = format.error_of(&weight, &factored.factors, 1).unwrap();
            assert!((measured - by_hand).abs() < 1e-9, "{what}");
            if asked == most {
                assert!(by_hand < 1e-7, "{what}: {by_hand} at full rank");
            }
            assert_eq!(factored.degeneracy.is_some(), scheme == Scheme::Cp);
        }
    }
}

#[test]
fn curves_foretell_errors() {
    for format in formats() {
        let (layout, scheme) = (format.layout(), format.scheme());
        let weight = weight(format.parameters());
        let found = curve(&weight, &format, 1, 1).unwrap();
        let points = found.points.clone();
        let rises = |pair: &[fnl::decompose::Point]| {
            pair[0].parameters < pair[1].parameters && pair[0].error_squared > pair[1].error_squared
        };
        assert!(points.windows(2).all(rises), "{layout:?} {scheme}");
        // of Tucker with many small modes nearly no ranks are smaller than the weight
        assert!(!points.is_empty(), "{layout:?} {scheme}");
        for point in points {
            assert!(point.parameters < format.parameters());
            assert_eq!(point.parameters, format.factored_parameters(&point.ranks));
            let factored = format.factor(&weight, &point.ranks, None, &FormatOptions::default()).unwrap();
            let foreseen = found.foreseen(&point.ranks).unwrap();
            let (least, foretold) = (foreseen.at_least_squared.sqrt(), point.error_squared.sqrt());
            let error = factored.relative_error;
            let what = format!("{layout:?} {scheme} {}: {error} of {least} to {foretold}", point.ranks);
            assert!((foreseen.error_squared - point.error_squared).abs() < 1e-12, "{what}");
            // What is found is no worse: a bound, or what more sweeps make better; and nothing falls below what cuts leave.
            assert!(error <= foretold + 1e-6, "{what}");
            match foreseen.certainty {
                Certainty::Exact => assert!((error - foretold).abs() < 1e-7, "{what}"),
                Certainty::AtMost => assert!(error >= least - 1e-7, "{what}"),
                _ => assert_eq!(scheme, Scheme::Cp),
            }
        }
    }
}

#[test]
fn ranks_of_two_modes_are_the_best_of_all() {
    let format = format(Layout::Conv2d, Scheme::Tucker, &[8, 6, 3, 3]);
    let curve = curve(&weight(format.parameters()), &format, 1, 1).unwrap();
    for a in 1..=8 {
        for b in 1..=6 {
            let ranks = Ranks::new(&[a, b]).unwrap();
            let (parameters, error) =
                (format.factored_parameters(&ranks), curve.foreseen(&ranks).unwrap().error_squared);
            let best = curve.within(parameters).map(|point| point.error_squared);
            assert!(parameters >= format.parameters() || best.is_some_and(|best| best <= error), "{ranks}");
        }
    }
}

#[test]
fn energy_is_of_every_mode() {
    let format = format(Layout::Conv2d, Scheme::Tucker, &[8, 6, 3, 3]);
    let curve = curve(&weight(format.parameters()), &format, 1, 1).unwrap();
    let ranks = curve.ranks_for_energy(0.8).unwrap();
    for (mode, &rank) in curve.modes.iter().zip(ranks.values()) {
        assert!(mode.energy(rank) >= 0.8 && mode.energy(rank - 1) < 0.8);
    }
}

#[test]
fn one_rank_costs_what_it_does_in_every_mode() {
    for (layout, scheme, shape) in [
        (Layout::Conv2d, Scheme::Tucker, vec![8, 6, 3, 3]),
        (Layout::Linear, Scheme::TensorTrain, vec![16, 24]),
        (Layout::Linear, Scheme::Tucker, vec![16, 24]),
    ] {
        let format = format(layout, scheme, &shape);
        let least: Vec<usize> = format.max_ranks().values().iter().map(|most| *most.min(&3)).collect();
        let (one, each) = (Ranks::from(3), Ranks::new(&least).unwrap());
        let costs = |ranks: &Ranks| {
            let work =
                (format.factored_multiply_adds(ranks, [1, 1]), format.reconstruction_multiply_adds(ranks));
            (format.factor_shapes(ranks), format.factored_parameters(ranks), work)
        };
        assert_eq!(costs(&one), costs(&each), "{scheme}");
    }
    let deep = format(Layout::Linear, Scheme::Deep, &[16, 24]);
    assert_eq!(
        deep.factored_multiply_adds(&Ranks::from(4), [1, 1]),
        deep.factored_parameters(&Ranks::from(4))
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let grouped = Format::new(Layout::Conv2d, Scheme::Cp, &[8, 3, 3, 3], 2, &Pairs::default());
    let text = grouped.unwrap_err().to_string();
    assert_eq!(text, "scheme `cp` is for convolutions of one group, found 2 groups");
    let pairs = Pairs::Sizes(vec![[4, 4], [2, 2]]);
    let wrong = Format::new(Layout::Linear, Scheme::TensorTrain, &[12, 8], 1, &pairs).unwrap_err();
    assert!(matches!(wrong, DecomposeError::Pairs { out: 12, inner: 8, .. }), "{wrong}");
    let format = format(Layout::Conv2d, Scheme::Tucker, &[8, 6, 3, 3]);
    let ranks = format.ranks(&Ranks::new(&[1, 2, 3]).unwrap()).unwrap_err();
    assert_eq!(ranks.to_string(), "found 3 ranks, expected 1, or 2 for a tensor of the modes [8, 6, 3, 3]");
    let whole = Format::new(Layout::Linear, Scheme::TensorTrain, &[12, 8], 1, &Pairs::Count(1)).unwrap_err();
    assert_eq!(whole.to_string(), "number of pairs: found 1, expected 2 to 7");
    let mut holed = weight(format.parameters());
    holed[55] = f64::NAN;
    let error = format.factor(&holed, &Ranks::from(2), None, &FormatOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "element [1, 0, 0, 1] of the weight is NaN");
    let factors = [Factor { shape: vec![2, 6, 1, 1], data: vec![0.0; 12] }];
    let error = format.collapse(&factors, 1).unwrap_err();
    assert!(error.to_string().starts_with("factor 0 has shape [2, 6, 1, 1]"), "{error}");
    assert!(Ranks::new(&[]).is_err() && Ranks::new(&[1; 8]).is_err());
}

//! BLEU against sacrebleu's, recorded by `sacrebleu_cases.py`.

use fnl::train::bleu;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    hypotheses: Vec<String>,
    references: Vec<String>,
    score: f64,
    precisions: [f64; 4],
    brevity_penalty: f64,
    tokens: [usize; 2],
}

#[test]
fn scores_are_those_of_sacrebleu() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("sacrebleu_cases.json")).unwrap();
    for case in cases {
        let found = bleu(&case.hypotheses, &case.references);
        assert_eq!([found.hypothesis_tokens, found.reference_tokens], case.tokens, "{:?}", case.hypotheses);
        // the same few operations in f64
        let near = |found: f64, expected: f64| (found - expected).abs() < 1e-10 * expected.max(1.0);
        assert!(near(found.score, case.score), "{:?}: {found:?}, expected {}", case.hypotheses, case.score);
        assert!(near(found.brevity_penalty, case.brevity_penalty), "{:?}: {found:?}", case.hypotheses);
        for (found, expected) in found.precisions.into_iter().zip(case.precisions) {
            assert!(near(found, expected), "{:?}: {found}, expected {expected}", case.hypotheses);
        }
    }
    let none: [&str; 0] = [];
    assert_eq!(bleu(&none, &none).score, 0.0);
}

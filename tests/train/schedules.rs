//! Learning rates are PyTorch's schedulers', and text and JSON say which they are.

use crate::recorded::recorded;
use fnl::train::{LearningRate, Schedule};

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap()
}

#[test]
fn rates_are_torchs() {
    for recorded in recorded().schedules {
        let rate = LearningRate { base: 0.4, schedule: schedule(&recorded.schedule), warmup_steps: 0 };
        for (step, expected) in recorded.rates.iter().enumerate() {
            let found = rate.at(step as u64, 20);
            // PyTorch multiplies from step to step: 20 roundings
            assert!(
                (found - expected).abs() < 20.0 * f64::EPSILON,
                "{} {step}: {found} {expected}",
                recorded.schedule
            );
        }
    }
}

#[test]
fn warmup_rises_to_the_schedule() {
    for text in ["constant", "step", "cosine", "inverse-sqrt", "linear:0.1"] {
        let rate = LearningRate { base: 2.0, schedule: schedule(text), warmup_steps: 4 };
        let rising: Vec<f64> = (0..4).map(|step| rate.at(step, 40)).collect();
        assert_eq!(rising, [0.5, 1.0, 1.5, 2.0], "{text}");
        let after: Vec<f64> = (3..50).map(|step| rate.at(step, 40)).collect();
        assert!(after.windows(2).all(|pair| pair[1] <= pair[0]), "{text}: {after:?}");
    }
    let rate = |text, step| schedule(text).factor(step, 40, 4);
    assert_eq!(rate("inverse-sqrt", 15), 0.5); // sqrt(4 / 16)
    assert_eq!(rate("linear", 4), 1.0);
    assert_eq!(rate("linear", 22), 0.5);
    assert_eq!(rate("cosine", 4), 1.0);
    assert!((rate("cosine", 13) - 0.853_553_390_593_273_8).abs() < 1e-15); // (1 + sqrt(1/2)) / 2
    assert_eq!(rate("linear:0.1", 40), 0.1);
    assert_eq!(rate("cosine:0.1", 1000), 0.1);
    assert_eq!(schedule("cosine").factor(7, 4, 4), 0.0); // nothing is left after warmup
}

#[test]
fn milestones_fall_on_whole_steps() {
    // 0.1 * 30 is a little more than 3 in binary
    let factors: Vec<f64> = (0..5).map(|step| schedule("step:0.1*0.5").factor(step, 30, 0)).collect();
    assert_eq!(factors, [1.0, 1.0, 1.0, 0.5, 0.5]);
}

#[test]
fn text_and_json_come_back() {
    for text in [
        "constant",
        "step",
        "step:0.3,0.6*0.2",
        "cosine",
        "cosine:0.01",
        "inverse-sqrt",
        "linear",
        "linear:0.5",
    ] {
        let parsed = schedule(text);
        assert_eq!(parsed.to_string(), text);
        let json = serde_json::to_string(&parsed).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), parsed);
    }
    assert_eq!(schedule("step:0.3,0.6").to_string(), "step:0.3,0.6*0.1");
    assert_eq!(serde_json::to_string(&schedule("inverse-sqrt")).unwrap(), r#"{"kind":"inverse-sqrt"}"#);
    assert_eq!(serde_json::from_str::<Schedule>(r#"{"kind":"step"}"#).unwrap(), Schedule::default());
}

#[test]
fn what_is_no_schedule_is_refused() {
    let refused = |text: &str| text.parse::<Schedule>().unwrap_err();
    let unknown = refused("cosin");
    assert_eq!(
        unknown.to_string(),
        "unknown schedule `cosin`, expected one of constant, step, cosine, inverse-sqrt, linear"
    );
    assert_eq!(unknown.hint().unwrap(), "did you mean `cosine`?");
    assert_eq!(refused("cosine:x").to_string(), "`cosine:x` is not of the form `cosine:FLOOR`");
    assert_eq!(refused("cosine:2").to_string(), "floor 2 is not between 0 and 1");
    assert_eq!(refused("cosine:NaN").to_string(), "floor NaN is not between 0 and 1");
    assert_eq!(refused("constant:1").to_string(), "`constant:1` is not of the form `constant`");
    assert_eq!(
        refused("step:0.5;0.7").to_string(),
        "`step:0.5;0.7` is not of the form `step:PART,PART*FACTOR`"
    );
    assert_eq!(refused("step:0.5,0.4").to_string(), "milestone 0.4 is not above the one before and below 1");
    let rate = LearningRate { base: f64::INFINITY, schedule: Schedule::Constant, warmup_steps: 0 };
    assert_eq!(rate.validate().unwrap_err().to_string(), "learning rate inf is not a number from 0");
}

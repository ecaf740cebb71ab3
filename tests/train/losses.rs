//! Losses are PyTorch's; their loops agree with candle's operations, and both with differences.

use crate::recorded::{farthest, recorded};
use candle_core::{DType, Device, Result, Tensor, Var};
use fnl::layers::{Operation, Parameters, Role, Tape};
use fnl::train::{Correct, CrossEntropy, Distillation, correct};

const SHAPE: (usize, usize) = (6, 7);

/// Every recorded loss as an operation, with its value and gradient.
fn all() -> Result<Vec<(Box<dyn Fn() -> Result<Loss>>, f64, Vec<f64>)>> {
    let recorded = recorded();
    let teacher = Tensor::from_slice(&recorded.teacher, SHAPE, &Device::Cpu)?;
    let mut all: Vec<(Box<dyn Fn() -> Result<Loss>>, f64, Vec<f64>)> = Vec::new();
    for loss in recorded.losses {
        let operation = CrossEntropy::new(&recorded.labels, loss.label_smoothing);
        let make = move || Ok(Loss::Labels(operation.clone()));
        all.push((Box::new(make), loss.value, loss.gradient));
    }
    for loss in recorded.distillations {
        let labels = CrossEntropy::new(&recorded.labels, loss.label_smoothing);
        let operation = Distillation::new(labels, &teacher, loss.temperature, loss.weight)?;
        let make = move || Ok(Loss::Teacher(operation.clone()));
        all.push((Box::new(make), loss.value, loss.gradient));
    }
    Ok(all)
}

enum Loss {
    Labels(CrossEntropy),
    Teacher(Distillation),
}

impl Loss {
    fn apply(self, tape: &Tape, node: &fnl::layers::Node) -> Result<fnl::layers::Node> {
        match self {
            Self::Labels(operation) => tape.apply(operation, &[node]),
            Self::Teacher(operation) => tape.apply(operation, &[node]),
        }
    }

    fn compose(&self, logits: &Tensor) -> Result<Tensor> {
        let inputs = std::slice::from_ref(logits);
        match self {
            Self::Labels(operation) => operation.compose(inputs),
            Self::Teacher(operation) => operation.compose(inputs),
        }
    }
}

#[test]
fn compositions_in_f64_are_torchs() -> Result<()> {
    let logits = Var::from_slice(&recorded().logits, SHAPE, &Device::Cpu)?;
    for (make, value, gradient) in all()? {
        let loss = make()?.compose(&logits)?;
        // sums of 42 terms below 20
        assert!((loss.to_scalar::<f64>()? - value).abs() < 1e-13);
        let found = loss.backward()?;
        assert!(farthest(found.get(&logits).unwrap(), &gradient)? < 1e-14);
    }
    Ok(())
}

#[test]
fn compositions_have_the_gradients_of_differences() -> Result<()> {
    let logits = recorded().logits;
    for (make, _, gradient) in all()? {
        let at = |index: usize, change: f64| -> Result<f64> {
            let mut moved = logits.clone();
            moved[index] += change;
            make()?.compose(&Tensor::from_slice(&moved, SHAPE, &Device::Cpu)?)?.to_scalar::<f64>()
        };
        for (index, expected) in gradient.iter().enumerate() {
            let difference = (at(index, 1e-5)? - at(index, -1e-5)?) / 2e-5;
            // third derivatives below 1 times 1e-10, and rounding of 1e-15 over 2e-5
            assert!((difference - expected).abs() < 1e-9, "{index}: {difference} {expected}");
        }
    }
    Ok(())
}

/// The loops of f32, on both tapes and with a gradient from above that is not 1.
#[test]
fn loops_are_the_compositions() -> Result<()> {
    let recorded = recorded();
    let logits = Tensor::from_slice(&recorded.logits, SHAPE, &Device::Cpu)?.to_dtype(DType::F32)?;
    for (make, value, gradient) in all()? {
        for tape in [Tape::training(), Tape::candle()] {
            let mut parameters = Parameters::new();
            let var = parameters.insert("logits", &logits, Role::Weight)?;
            let node = tape.parameter(&var);
            let loss = make()?.apply(&tape, &node)?;
            // logits up to 10 and rounded to f32, in sums of f64
            assert!((f64::from(loss.tensor().to_scalar::<f32>()?) - value).abs() < 4e-6);
            let found = tape.backward(&loss)?;
            assert!(farthest(found.get(&var).unwrap(), &gradient)? < 1e-7);
        }
        let composed = make()?.compose(&logits)?.to_scalar::<f32>()?;
        assert!((f64::from(composed) - value).abs() < 4e-6);
    }
    Ok(())
}

#[test]
fn large_logits_do_not_overflow() -> Result<()> {
    let logits = Tensor::new(&[[1e4f32, 0.0, -1e4], [300.0, 300.0, -300.0]], &Device::Cpu)?;
    let operation = CrossEntropy::new(&[1, 0], 0.0);
    let expected = f64::midpoint(1e4, 2f64.ln());
    let tape = Tape::inference();
    let loss = tape.apply(operation.clone(), &[&tape.constant(&logits)])?;
    assert!((f64::from(loss.tensor().to_scalar::<f32>()?) - expected).abs() < 1e-3);
    let composed = operation.compose(&[logits])?.to_scalar::<f32>()?;
    assert!((f64::from(composed) - expected).abs() < 1e-3);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let logits = Tensor::zeros(SHAPE, DType::F32, &Device::Cpu)?;
    let tape = Tape::inference();
    let refused = |labels: &[u32], logits: &Tensor| {
        let node = tape.constant(logits);
        let loops = tape.apply(CrossEntropy::new(labels, 0.0), &[&node]).unwrap_err().to_string();
        let composed = CrossEntropy::new(labels, 0.0).compose(std::slice::from_ref(logits)).unwrap_err();
        let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
        assert_eq!(first(composed.to_string()), first(loops.clone()));
        first(loops)
    };
    assert_eq!(refused(&[0; 5], &logits), "5 labels for logits of shape [6, 7]");
    assert_eq!(refused(&[0, 1, 2, 7, 4, 5], &logits), "label 7 of row 3 is not below 7 classes");
    assert_eq!(refused(&[0; 6], &logits.get(0)?), "logits need a shape (b, k), found [7]");
    let labels = CrossEntropy::new(&[0; 6], 0.0);
    let teacher = Distillation::new(labels.clone(), &logits.narrow(1, 0, 6)?, 1.0, 0.5)?;
    let error = tape.apply(teacher, &[&tape.constant(&logits)]).unwrap_err().to_string();
    assert!(error.starts_with("the teacher's logits have shape [6, 6], expected [6, 7]"), "{error}");
    for (temperature, weight) in [(0.0, 0.5), (f64::NAN, 0.5), (1.0, 1.5)] {
        Distillation::new(labels.clone(), &logits, temperature, weight).unwrap_err();
    }
    Ok(())
}

#[test]
fn counts_are_those_of_sorting() -> Result<()> {
    let (rows, classes) = (200, 9);
    let values: Vec<f32> =
        (0..rows * classes).map(|i| (((i * i * 7 + i * 3) % 101) as f32 / 10.0).floor()).collect();
    let labels: Vec<u32> = (0..rows as u32).map(|i| (i * 5) % classes as u32).collect();
    let mut expected = Correct::default();
    for (row, &label) in values.chunks(classes).zip(&labels) {
        let mut order: Vec<usize> = (0..classes).collect();
        order.sort_by(|&i, &j| row[j].total_cmp(&row[i])); // stable: the first of equals comes first
        let rank = order.iter().position(|&j| j == label as usize).unwrap();
        expected += Correct { top1: usize::from(rank < 1), top5: usize::from(rank < 5) };
    }
    assert!(expected.top1 > 5 && expected.top1 < expected.top5 && expected.top5 < rows);
    let logits = Tensor::from_vec(values, (rows, classes), &Device::Cpu)?;
    assert_eq!(correct(&logits, &labels)?, expected);
    let broken = Tensor::new(&[[f32::NAN, 1.0], [1.0, f32::NAN]], &Device::Cpu)?;
    assert_eq!(correct(&broken, &[0, 0])?, Correct { top1: 0, top5: 1 });
    correct(&broken, &[0, 2]).unwrap_err();
    correct(&broken, &[0]).unwrap_err();
    Ok(())
}

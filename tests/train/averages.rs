//! The average of weights is the formula's, goes on from its state, and serves as a snapshot.

use crate::recorded::farthest;
use candle_core::{DType, Device, Result, Tensor};
use fnl::layers::{Parameters, Role};
use fnl::train::Average;
use indexmap::IndexMap;

/// Weights that move, and a statistic that does; large enough to be cut into pieces.
const COUNT: usize = 70_001;

fn values(step: usize) -> Vec<f64> {
    (0..COUNT).map(|i| ((i + 31 * step) as f64 * 0.7).sin()).collect()
}

fn set(parameters: &Parameters, step: usize) -> Result<()> {
    for (_, parameter) in parameters.iter() {
        let var = parameter.var();
        var.set(&Tensor::from_vec(values(step), COUNT, &Device::Cpu)?.to_dtype(var.dtype())?)?;
    }
    Ok(())
}

fn parameters(dtype: DType) -> Result<Parameters> {
    let mut parameters = Parameters::new();
    let start = Tensor::from_vec(values(0), COUNT, &Device::Cpu)?.to_dtype(dtype)?;
    parameters.insert("w", &start, Role::Factor)?;
    parameters.insert("mean", &start, Role::Statistic)?;
    Ok(parameters)
}

#[test]
fn averages_are_the_formula() -> Result<()> {
    for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-15)] {
        let parameters = parameters(dtype)?;
        let mut average = Average::new(0.3, &parameters)?;
        let mut expected = values(0);
        for step in 1..=5 {
            set(&parameters, step)?;
            average.update(&parameters)?;
            let t = step as f64;
            let kept = ((1.0 + t) / (10.0 + t)).min(0.3); // 2/11, 1/4, then 0.3
            for (average, current) in expected.iter_mut().zip(values(step)) {
                *average = kept * *average + (1.0 - kept) * current;
            }
        }
        let snapshot = average.snapshot()?;
        assert!(farthest(&snapshot["w"], &expected)? < tolerance);
        assert!(farthest(&snapshot["mean"], &values(5))? < 1e-7);
        parameters.restore(&snapshot)?;
        assert!(farthest(parameters.get("w").unwrap().var(), &expected)? < tolerance);
    }
    Ok(())
}

#[test]
fn averages_go_on_from_their_state() -> Result<()> {
    let parameters = parameters(DType::F32)?;
    let run = |average: &mut Average, from: usize, until: usize| -> Result<()> {
        for step in from..until {
            set(&parameters, step)?;
            average.update(&parameters)?;
        }
        Ok(())
    };
    let values =
        |average: &Average| -> Result<Vec<f32>> { average.snapshot()?["w"].flatten_all()?.to_vec1::<f32>() };
    let mut through = Average::new(0.999, &parameters)?;
    run(&mut through, 1, 3)?;
    let state = through.state()?;
    run(&mut through, 3, 6)?;
    let mut resumed = Average::new(0.999, &parameters)?;
    resumed.load(&state)?;
    run(&mut resumed, 3, 6)?;
    assert_eq!(values(&through)?, values(&resumed)?);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let parameters = parameters(DType::F32)?;
    let first = |error: candle_core::Error| error.to_string().lines().next().unwrap().to_owned();
    let refused = first(Average::new(1.0, &parameters).unwrap_err());
    assert_eq!(refused, "the average's decay 1 is not from 0 to below 1");
    let mut average = Average::new(0.9, &parameters)?;
    let state = average.state()?;
    let refusal = |change: &dyn Fn(&mut IndexMap<String, Tensor>), average: &mut Average| {
        let mut state = state.clone();
        change(&mut state);
        first(average.load(&state).unwrap_err())
    };
    let lacks = refusal(&|state| drop(state.shift_remove("average.w")), &mut average);
    assert_eq!(lacks, "the average's state lacks `average.w`");
    let lacks = refusal(&|state| drop(state.shift_remove("updates")), &mut average);
    assert_eq!(lacks, "the average's state lacks `updates`");
    let other = Tensor::new(&[1f32], &Device::Cpu)?;
    let shape = refusal(&|state| drop(state.insert("average.w".to_owned(), other.clone())), &mut average);
    assert_eq!(shape, "`average.w` has shape [1], expected [70001]");
    Ok(())
}

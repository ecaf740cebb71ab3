//! A state that was saved and loaded gives the steps that would have followed, bit for bit, on any number of threads.

use candle_core::{DType, Device, Result, Tensor};
use fnl::layers::{Parameters, Role};
use fnl::train::{Decay, DecayTable, GradientSum, Optimizer, OptimizerOptions, Update};
use indexmap::IndexMap;
use std::collections::HashMap;

const SHAPES: [(&str, &[usize]); 3] = [("fc.weight", &[300, 401]), ("fc.bias", &[7]), ("scale", &[3])];

fn wave(shape: &[usize], seed: f64) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i as f64 + seed) * 12.9898).sin() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

fn parameters(dtype: DType) -> Result<Parameters> {
    let mut parameters = Parameters::new();
    for (name, shape) in SHAPES {
        parameters.insert(name, &wave(shape, 0.0)?.to_dtype(dtype)?, Role::Weight)?;
    }
    Ok(parameters)
}

fn steps(optimizer: &mut dyn Optimizer, parameters: &Parameters, from: u32, until: u32) -> Result<()> {
    let decay: DecayTable =
        [("fc.weight".to_owned(), Decay::Frobenius(0.1)), ("scale".to_owned(), Decay::Weight(0.1))]
            .into_iter()
            .collect();
    for step in from..until {
        let mut gradients = GradientSum::new();
        for (name, parameter) in parameters.iter() {
            let dtype = parameter.var().dtype();
            gradients.insert(name, wave(parameter.var().dims(), f64::from(step) + 0.3)?.to_dtype(dtype)?);
        }
        let weight = parameters.get("fc.weight").unwrap().var();
        let frobenius =
            IndexMap::from([("fc.weight".to_owned(), weight.as_detached_tensor().affine(0.5, 0.1)?)]);
        let update =
            Update { gradients: &gradients, decay: &decay, frobenius: &frobenius, learning_rate: 0.03 };
        optimizer.step(parameters, &update)?;
    }
    Ok(())
}

fn bits(parameters: &Parameters) -> Result<Vec<u64>> {
    let mut bits = Vec::new();
    for (_, parameter) in parameters.iter() {
        let wide = parameter.var().to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        bits.extend(wide.into_iter().map(f64::to_bits));
    }
    Ok(bits)
}

fn all() -> [OptimizerOptions; 4] {
    let plain = fnl::train::SgdOptions { momentum: 0.0, nesterov: false };
    [OptimizerOptions::Sgd(plain), "sgd".parse().unwrap(), "adamw".parse().unwrap(), "lamb".parse().unwrap()]
}

#[test]
fn steps_go_on_from_a_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        for options in all() {
            let through = parameters(dtype)?;
            let mut optimizer = options.build().unwrap();
            steps(optimizer.as_mut(), &through, 0, 3)?;
            let (saved, state) = (through.snapshot()?, optimizer.state()?);
            steps(optimizer.as_mut(), &through, 3, 6)?;

            let path = folder.path().join("state.safetensors");
            candle_core::safetensors::save(&state.into_iter().collect::<HashMap<_, _>>(), &path)?;
            let state = candle_core::safetensors::load(&path, &Device::Cpu)?.into_iter().collect();
            let resumed = parameters(dtype)?;
            resumed.restore(&saved)?;
            let mut optimizer = options.build().unwrap();
            optimizer.load(&resumed, &state)?;
            steps(optimizer.as_mut(), &resumed, 3, 6)?;
            assert_eq!(bits(&through)?, bits(&resumed)?, "{options:?} {dtype:?}");
        }
    }
    Ok(())
}

#[test]
fn threads_change_nothing() -> Result<()> {
    for options in all() {
        let run = |threads: usize| -> Result<Vec<u64>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let parameters = parameters(DType::F32)?;
                steps(options.build().unwrap().as_mut(), &parameters, 0, 3)?;
                bits(&parameters)
            })
        };
        assert_eq!(run(1)?, run(3)?, "{options:?}");
    }
    Ok(())
}

#[test]
fn a_state_before_the_first_step_is_loaded() -> Result<()> {
    for options in all() {
        let parameters = parameters(DType::F32)?;
        let state = options.build().unwrap().state()?;
        assert_eq!(state.keys().collect::<Vec<_>>(), ["step"]);
        options.build().unwrap().load(&parameters, &state)?;
    }
    Ok(())
}

#[test]
fn a_state_that_does_not_fit_is_refused_with_every_reason() -> Result<()> {
    let parameters = parameters(DType::F32)?;
    let mut optimizer = all()[1].build().unwrap();
    steps(optimizer.as_mut(), &parameters, 0, 1)?;
    let state = optimizer.state()?;
    let refusal = |change: &dyn Fn(&mut IndexMap<String, Tensor>)| {
        let mut state = state.clone();
        change(&mut state);
        let refused = all()[1].build().unwrap().load(&parameters, &state).unwrap_err().to_string();
        refused.lines().next().unwrap().to_owned()
    };
    let scalar = |value: i64| Tensor::new(value, &Device::Cpu).unwrap();
    assert_eq!(
        refusal(&|state| {
            state.shift_remove("step");
        }),
        "the optimizer's state lacks `step`"
    );
    assert_eq!(
        refusal(&|state| {
            state.insert("step".to_owned(), scalar(-1));
        }),
        "the optimizer's `step` is -1"
    );
    assert_eq!(
        refusal(&|state| {
            state.shift_remove("momentum.fc.bias");
            state.insert("momentum.scale".to_owned(), wave(&[4], 0.0).unwrap());
            state.insert("momentum.head.bias".to_owned(), wave(&[4], 0.0).unwrap());
            state.insert("first_moment.scale".to_owned(), wave(&[3], 0.0).unwrap());
        }),
        "the optimizer's state does not fit: `momentum.fc.bias` is missing; `momentum.scale` has shape [4], expected [3]; \
         `momentum.head.bias` belongs to no trained parameter; `first_moment.scale` belongs to no trained parameter"
    );
    Ok(())
}

#[test]
fn a_state_is_a_copy() -> Result<()> {
    let parameters = parameters(DType::F32)?;
    let mut optimizer = all()[2].build().unwrap();
    steps(optimizer.as_mut(), &parameters, 0, 1)?;
    let state = optimizer.state()?;
    let values = |state: &IndexMap<String, Tensor>| state["first_moment.scale"].to_vec1::<f32>();
    let before = values(&state)?;
    steps(optimizer.as_mut(), &parameters, 1, 2)?;
    assert_eq!(values(&state)?, before);
    let mut other = all()[2].build().unwrap();
    other.load(&parameters, &state)?;
    steps(other.as_mut(), &parameters, 1, 2)?;
    assert_eq!(values(&state)?, before);
    Ok(())
}

#[test]
fn masked_momentum_is_zero() -> Result<()> {
    for options in all() {
        let parameters = parameters(DType::F32)?;
        let mut optimizer = options.build().unwrap();
        steps(optimizer.as_mut(), &parameters, 0, 1)?;
        let before = optimizer.state()?;
        optimizer.mask("scale", &Tensor::new(&[1f32, 0.0, 1.0], &Device::Cpu)?)?;
        for (name, tensor) in optimizer.state()? {
            let mut expected = before[&name].flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            if name.split_once('.').is_some_and(|(_, name)| name == "scale") {
                expected[1] = 0.0;
                assert!(expected[0] != 0.0);
            }
            assert_eq!(tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?, expected, "{name}");
        }
    }
    Ok(())
}

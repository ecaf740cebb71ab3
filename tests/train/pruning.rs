//! Masks leave exactly as many elements as asked for, the largest, and never bring one back.

use candle_core::{DType, Device, Result, Tensor};
use fnl::layers::{Parameters, Role};
use fnl::train::{DecayTable, GradientSum, Masks, OptimizerOptions, Pruning, PruningSchedule, Update};
use indexmap::IndexMap;

/// Numbers of both signs, many of them of equal magnitude.
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| (((i + seed) * (i + seed) * 37) % 101) as f32 / 10.0 - 5.0).collect()
}

fn parameters(dtype: DType) -> Result<Parameters> {
    let mut parameters = Parameters::new();
    for (seed, (name, shape)) in [("a", (7, 9)), ("b", (30, 20)), ("c", (4, 4))].into_iter().enumerate() {
        let values = values(shape.0 * shape.1, seed);
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?;
        parameters.insert(name, &tensor, Role::Weight)?;
    }
    Ok(parameters)
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn all(parameters: &Parameters, names: &[&str]) -> Vec<f32> {
    names.iter().flat_map(|name| flat(parameters.get(name).unwrap().var())).collect()
}

#[test]
fn the_largest_are_left() -> Result<()> {
    let names = ["b", "a"];
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        for keep in [0.0, 0.1, 0.5, 0.777, 1.0] {
            let parameters = parameters(dtype)?;
            let before = all(&parameters, &names);
            let untouched = all(&parameters, &["c"]);
            let mut masks = Masks::new(&parameters, &names)?;
            let kept = masks.prune(&parameters, keep)?;
            assert_eq!((masks.count(), kept), (663, (keep * 663.0).round() as usize));
            masks.apply(&parameters)?;

            // A stable sort leaves equals in their order.
            let mut order: Vec<usize> = (0..before.len()).collect();
            order.sort_by(|&i, &j| before[j].abs().total_cmp(&before[i].abs()));
            let mut expected = vec![0.0; before.len()];
            for &index in &order[..kept] {
                expected[index] = before[index];
            }
            assert_eq!(all(&parameters, &names), expected, "{dtype:?} {keep}");
            assert_eq!(all(&parameters, &["c"]), untouched);
        }
    }
    Ok(())
}

#[test]
fn what_is_out_stays_out() -> Result<()> {
    let parameters = parameters(DType::F32)?;
    let mut masks = Masks::new(&parameters, &["a", "b"])?;
    let mut last = vec![true; 663];
    for keep in [0.8, 0.5, 0.6, 0.2] {
        masks.prune(&parameters, keep)?;
        let now: Vec<bool> = ["a", "b"]
            .iter()
            .flat_map(|name| flat(masks.get(name).unwrap()))
            .map(|mask| mask == 1.0)
            .collect();
        assert_eq!(now.iter().filter(|&&kept| kept).count(), masks.kept());
        assert!(now.iter().zip(&last).all(|(&now, &last)| last || !now));
        last = now;
        // Without the masks applied what is out grows large again.
        let b = parameters.get("b").unwrap().var();
        b.set(&Tensor::from_vec(values(600, masks.kept()), (30, 20), &Device::Cpu)?)?;
    }
    assert_eq!(masks.kept(), 133);
    Ok(())
}

#[test]
fn masked_weights_do_not_move() -> Result<()> {
    let parameters = parameters(DType::F32)?;
    let mut optimizer = OptimizerOptions::default().build().unwrap();
    let mut masks = Masks::new(&parameters, &["a"])?;
    let decay = DecayTable::new();
    for step in 0..3 {
        let mut gradients = GradientSum::new();
        for (name, parameter) in parameters.iter() {
            gradients.insert(name, parameter.var().affine(0.1, 1.0)?);
        }
        if step == 1 {
            masks.prune(&parameters, 0.3)?;
            masks.apply(&parameters)?;
            masks.apply_to_optimizer(optimizer.as_mut())?;
        }
        masks.apply_to_gradients(&mut gradients)?;
        let update =
            Update { gradients: &gradients, decay: &decay, frobenius: &IndexMap::new(), learning_rate: 0.1 };
        optimizer.step(&parameters, &update)?;
    }
    // No mask was applied after the steps: gradients and momentum of zero leave zeros.
    let mask = flat(masks.get("a").unwrap());
    assert!(all(&parameters, &["a"]).iter().zip(&mask).all(|(&w, &mask)| (w == 0.0) == (mask == 0.0)));
    Ok(())
}

#[test]
fn masks_come_back() -> Result<()> {
    let parameters = parameters(DType::F32)?;
    let mut masks = Masks::new(&parameters, &["a", "b"])?;
    masks.prune(&parameters, 0.4)?;
    let state = masks.state()?;
    assert_eq!(state["mask.a"].dtype(), DType::U8);
    let mut loaded = Masks::new(&parameters, &["a", "b"])?;
    loaded.load(&state)?;
    assert_eq!(loaded.kept(), masks.kept());
    for name in ["a", "b"] {
        assert_eq!(flat(loaded.get(name).unwrap()), flat(masks.get(name).unwrap()));
    }
    let first = |error: candle_core::Error| error.to_string().lines().next().unwrap().to_owned();
    let other = IndexMap::from([("mask.a".to_owned(), Tensor::full(2u8, (7, 9), &Device::Cpu)?)]);
    assert_eq!(first(loaded.load(&other).unwrap_err()), "`mask.a` has an element 2, expected 0 or 1");
    let shape = IndexMap::from([("mask.a".to_owned(), Tensor::full(1u8, 2, &Device::Cpu)?)]);
    assert_eq!(first(loaded.load(&shape).unwrap_err()), "`mask.a` has shape [2], expected [7, 9]");
    assert_eq!(first(loaded.load(&IndexMap::new()).unwrap_err()), "the saved state lacks `mask.a`");
    assert_eq!(first(Masks::new(&parameters, &["d"]).unwrap_err()), "no trained parameter is named `d`");
    assert_eq!(loaded.kept(), masks.kept());
    Ok(())
}

#[test]
fn schedules_are_the_papers() {
    let gradual = PruningSchedule::Gradual { begin: 0.1, end: 0.6, every_steps: 10 };
    let pruning = Pruning { keep: 0.1, schedule: gradual };
    for step in 0u32..100 {
        let expected = match step {
            0..10 => 1.0,
            60.. => 0.1,
            _ => {
                let done = (step - 10) / 10 * 10;
                // s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3 with s_i = 0
                let sparsity = 0.9 + (0.0 - 0.9) * (1.0 - f64::from(done) / 50.0).powi(3);
                1.0 - sparsity
            }
        };
        let found = pruning.keep_at(u64::from(step), 100);
        assert!((found - expected).abs() < 1e-15, "{step}: {found} {expected}");
    }
    let due: Vec<u64> = (0..100).filter(|&step| pruning.is_due(step, 100)).collect();
    assert_eq!(due, [20, 30, 40, 50, 60]);
    let once = Pruning { keep: 0.25, schedule: PruningSchedule::OneShot { at: 0.5 } };
    assert_eq!((once.keep_at(49, 100), once.keep_at(50, 100)), (1.0, 0.25));
    assert_eq!((0..100).filter(|&step| once.is_due(step, 100)).collect::<Vec<_>>(), [50]);
    let at_once = Pruning { keep: 0.25, schedule: PruningSchedule::OneShot { at: 0.0 } };
    assert!(at_once.is_due(0, 100));

    let refused = |pruning: Pruning| pruning.validate().unwrap_err().to_string();
    assert_eq!(refused(Pruning { keep: 1.5, ..once }), "keep 1.5 is not between 0 and 1");
    let backwards = PruningSchedule::Gradual { begin: 0.6, end: 0.5, every_steps: 1 };
    assert_eq!(refused(Pruning { keep: 0.5, schedule: backwards }), "end 0.5 is not after the beginning");
    let never = PruningSchedule::Gradual { begin: 0.0, end: 0.5, every_steps: 0 };
    assert_eq!(refused(Pruning { keep: 0.5, schedule: never }), "every_steps 0 is not a number from 1");
}

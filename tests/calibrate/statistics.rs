use crate::networks::{bert, llama, network, sequences};
use candle_core::{Device, Result, Tensor};
use fnl::calibrate::{
    CalibrationProgress, CalibrationRun, Damping, Statistics, calibrate_text, calibrate_translation,
};
use fnl::decompose::Method;
use fnl::layers::Tape;
use fnl::models::{TextNetwork, Tokens, TranslationConfig, TranslationNetwork};
use std::cell::Cell;

struct Counted(Cell<usize>);

impl CalibrationProgress for Counted {
    fn ran(&self, tokens: usize) {
        self.0.set(self.0.get() + tokens);
    }
}

fn run(network: &TextNetwork, gradients: bool, threads: usize) -> Statistics {
    let counted = Counted(Cell::new(0));
    let mut run = CalibrationRun::new(&counted);
    (run.gradients, run.threads) = (gradients, threads);
    calibrate_text(network, &sequences(40), &run).unwrap()
}

#[test]
fn layers_with_one_input_share_it_and_every_token_counts() {
    let network = network(&bert(), 1);
    let counted = Counted(Cell::new(0));
    let found = calibrate_text(&network, &sequences(40), &CalibrationRun::new(&counted)).unwrap();
    let tokens: usize = sequences(40).iter().map(Vec::len).sum();
    assert_eq!((counted.0.get(), found.tokens, found.samples), (tokens, tokens as u64, 40));
    let input = |layer: &str| found.input(&format!("bert.encoder.layer.1.{layer}")).unwrap();
    assert!(std::ptr::eq(input("attention.self.query"), input("attention.self.value")));
    assert!(!std::ptr::eq(input("attention.self.query"), input("attention.output.dense")));
    assert_eq!((input("output.dense").width(), input("output.dense").rows()), (20, tokens as u64));
    assert!(!found.has_gradients());
    assert_eq!(found.metrics(Method::Whitened, Damping::default()).len(), 12);
    assert!(found.metrics(Method::Fisher, Damping::default()).is_empty());
}

#[test]
fn networks_that_translate_are_run_over_pairs() {
    let mut config = TranslationConfig::small(60);
    (config.width, config.layers, config.inner) = (16, [2, 1], [24; 2]);
    let network = TranslationNetwork::fresh(&config, 2, &Device::Cpu).unwrap();
    let bare = sequences(30);
    let ended = |tokens: &Vec<u32>| tokens.iter().copied().chain([config.end]).collect();
    let sources: Vec<Vec<u32>> = bare.iter().map(ended).collect();
    let counted = Counted(Cell::new(0));
    let run = |gradients, threads| {
        let mut run = CalibrationRun::new(&counted);
        (run.gradients, run.threads) = (gradients, threads);
        calibrate_translation(&network, &sources, &bare, &run).unwrap()
    };
    let found = run(true, 1);
    let tokens: usize = bare.iter().map(|tokens| 2 * (tokens.len() + 1)).sum();
    assert_eq!((counted.0.get(), found.tokens, found.samples), (tokens, tokens as u64, 30));
    let input = |layer: &str| found.input(&format!("model.{layer}")).unwrap();
    // Keys and values of what is translated see the encoder's result, queries the decoder's own.
    let cross = "decoder.layers.0.encoder_attn";
    assert!(std::ptr::eq(input(&format!("{cross}.k_proj")), input(&format!("{cross}.v_proj"))));
    assert_eq!(input(&format!("{cross}.k_proj")).rows(), (tokens / 2) as u64);
    assert!(!std::ptr::eq(input(&format!("{cross}.k_proj")), input(&format!("{cross}.q_proj"))));
    assert_eq!(input("encoder.layers.1.fc2").width(), 24);
    // two layers of the encoder with six weights, one of the decoder with ten
    assert_eq!(found.metrics(Method::Fisher, Damping::default()).len(), 22);
    assert_eq!(found, run(true, 2));
    assert!(!run(false, 1).has_gradients());
}

/// The change of what a network says to the second order is what its gradients foretell: for one layer whose weight
/// changes a little, the mean of the squared change over samples is near the metric's error when inputs and gradients
/// are independent, and within a factor of it when they are not.
#[test]
fn errors_in_the_metric_are_about_what_the_network_loses() -> Result<()> {
    let plain = network(&bert(), 1);
    let counted = Counted(Cell::new(0));
    let mut run = CalibrationRun::new(&counted);
    (run.gradients, run.threads) = (true, 2);
    let statistics = calibrate_text(&plain, &sequences(400), &run)?;
    let metrics = statistics.metrics(Method::Fisher, Damping { inputs: 1e-9, outputs: 1e-9 });
    let tokens = Tokens::new(&sequences(400))?;
    let before = plain.embeddings(&Tape::inference(), &tokens)?.tensor().clone();
    for layer in ["attention.self.value", "attention.output.dense", "intermediate.dense", "output.dense"] {
        let name = format!("bert.encoder.layer.0.{layer}");
        let parameter = plain.parameters().get(&format!("{name}.weight")).unwrap().var().clone();
        let weight = parameter.as_tensor().copy()?;
        let (rows, cols) = weight.dims2()?;
        let change: Vec<f32> =
            (0..rows * cols).map(|i| 1e-3 * ((i * 37 % 101) as f32 / 50.0 - 1.0)).collect();
        let moved = Tensor::from_vec(change.clone(), (rows, cols), weight.device())?;
        parameter.set(&(&weight + &moved)?)?;
        let after = plain.embeddings(&Tape::inference(), &tokens)?.tensor().clone();
        parameter.set(&weight)?;
        let lost = f64::from((after - &before)?.sqr()?.sum_all()?.to_scalar::<f32>()?) / 400.0;
        let unfolding = fnl::decompose::Unfolding::new(
            fnl::decompose::Layout::Linear,
            fnl::decompose::Scheme::Matrix,
            &[rows, cols],
            1,
        )
        .unwrap();
        let spectrum = fnl::decompose::spectrum_in(&metrics[&name], &change, &unfolding, 1).unwrap();
        let ratio = spectrum.norm_squared() / lost;
        assert!((0.2..5.0).contains(&ratio), "{name}: foretold {}, lost {lost}", spectrum.norm_squared());
    }
    Ok(())
}

#[test]
fn sums_do_not_depend_on_the_number_of_threads() {
    for config in [bert(), llama()] {
        let network = network(&config, 1);
        assert_eq!(run(&network, true, 1), run(&network, true, 3));
    }
}

#[test]
fn files_hold_what_was_written_and_are_not_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.safetensors");
    let found = run(&network(&llama(), 1), true, 1).named("0123".to_owned(), "4567".to_owned());
    found.write(&path, false).unwrap();
    let read = Statistics::read(&path).unwrap();
    assert_eq!((read.model.as_str(), read.data.as_str(), read.samples), ("0123", "4567", 40));
    let pairs = |statistics: &Statistics| {
        statistics.metrics(Method::Fisher, Damping::default()).keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(pairs(&read), pairs(&found));
    assert_eq!(pairs(&read).len(), 15);
    // what stands above the diagonal says nothing, so what is read is written again
    let again = folder.path().join("again.safetensors");
    read.write(&again, false).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&again).unwrap());
    let error = found.write(&path, false).unwrap_err().to_string();
    assert!(error.ends_with("exists"), "{error}");
    found.write(&path, true).unwrap();
    std::fs::write(&again, "nothing").unwrap();
    assert!(Statistics::read(&again).is_err());
    let error = Statistics::read("fixtures/tiny-resnet.safetensors".as_ref()).unwrap_err().to_string();
    assert!(error.contains("holds no calibration statistics"), "{error}");
}

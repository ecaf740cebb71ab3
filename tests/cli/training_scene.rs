//! What the commands that train are tested on: small pictures that can be told apart, and a network for them.

use std::path::Path;

use fnl::checkpoint::OutputOptions;
use fnl::models::{Architecture, Network};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::harness::Place;

/// Pictures in each of the five files for training.
const IMAGES: usize = 12;
/// Pictures for testing.
pub(crate) const TEST_IMAGES: usize = 30;

/// A folder with `data`, in the form of CIFAR-10, and `dense.safetensors`, a random network for it.
pub(crate) struct Scene {
    pub(crate) place: Place,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        for file in 1..=5 {
            place.write(&format!("data/data_batch_{file}.bin"), records(file, IMAGES));
        }
        place.write("data/test_batch.bin", records(6, TEST_IMAGES));
        dense(&place.join("dense.safetensors"), "resnet8", 10, 1);
        Self { place }
    }

    /// The arguments of a command that trains, with a name for its folder.
    pub(crate) fn arguments(command: &[&str], out: &str) -> Vec<String> {
        let usual = ["--data=cifar10:data", "--batch-size=8", "-q", "--out", out];
        command.iter().chain(&usual).map(|&text| text.to_owned()).collect()
    }

    /// Runs a command that trains; it must succeed.
    #[track_caller]
    pub(crate) fn trains(&self, command: &[&str], out: &str) -> crate::harness::Run {
        self.place.run(Self::arguments(command, out)).exits(0)
    }

    /// The report of an evaluation on `data`.
    #[track_caller]
    pub(crate) fn evaluated(&self, checkpoint: &str) -> Value {
        self.place.run(["evaluate", checkpoint, "--data=cifar10:data", "--json", "-q"]).exits(0).json()
    }

    /// The records of a run, without what depends on the clock.
    pub(crate) fn metrics(&self, out: &str) -> Vec<Value> {
        let text = self.place.text(&format!("{out}/metrics.jsonl"));
        text.lines().map(|line| timeless(serde_json::from_str(line).expect("a record"))).collect()
    }

    /// The records of a run's epochs.
    pub(crate) fn epochs(&self, out: &str) -> Vec<Value> {
        self.metrics(out).into_iter().filter(|record| record["kind"] == "epoch").collect()
    }

    /// How far the state in a run's folder is; nothing where there is none.
    pub(crate) fn position(&self, out: &str) -> Option<Value> {
        self.place.position(out)
    }
}

/// The same without its times.
fn timeless(mut record: Value) -> Value {
    if let Some(object) = record.as_object_mut() {
        object.retain(|key, _| key != "elapsed_secs" && key != "samples_per_sec");
    }
    record
}

/// Pictures of ten classes in turn: a brightness for each class, and noise.
pub(crate) fn records(seed: u64, count: usize) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut bytes = Vec::with_capacity(count * 3073);
    for image in 0..count {
        let class = (image % 10) as u8;
        bytes.push(class);
        bytes.extend((0..3072).map(|_| 20 * class + random.random_range(0..50u8)));
    }
    bytes
}

/// A random network as a checkpoint.
pub(crate) fn dense(path: &Path, name: &str, classes: usize, seed: u64) {
    let architecture: Architecture = name.parse().expect("an architecture");
    let network = Network::fresh(&architecture.with_classes(classes), seed, &candle_core::Device::Cpu);
    let state = network.expect("a network").state().expect("its tensors");
    state.write(&OutputOptions::file(path), None).expect("a checkpoint");
}

/// A number of a document.
#[track_caller]
pub(crate) fn number(document: &Value, key: &str) -> f64 {
    document[key].as_f64().unwrap_or_else(|| panic!("`{key}` is no number in {document}"))
}

use candle_core::{Device, Tensor};
use fnl::checkpoint::Checkpoint;
use fnl::layers::{State, Statistics, Tape};
use fnl::models::{Architecture, Network};

#[test]
fn evaluates() {
    let cp = Checkpoint::open_path("/work/shared/data/checkpoints/resnet20-cifar10.safetensors".as_ref()).unwrap();
    let state = State::read(&cp).unwrap();
    let arch = Architecture::detect(&state).unwrap();
    println!("{arch}");
    let net = Network::new(&arch, &state, &Device::Cpu).unwrap();
    let bytes = std::fs::read("/tmp/lab/cifar10/test_batch.bin").unwrap();
    let mut right = 0;
    let start = std::time::Instant::now();
    for chunk in bytes.chunks(3073 * 100).take(10) {
        let mut px = Vec::new();
        let mut labels = Vec::new();
        for rec in chunk.chunks(3073) {
            labels.push(u32::from(rec[0]));
            for (i, b) in rec[1..].iter().enumerate() {
                let c = i / 1024;
                px.push((f32::from(*b) / 255.0 - [0.485, 0.456, 0.406][c]) / [0.229, 0.224, 0.225][c]);
            }
        }
        let n = labels.len();
        let tape = Tape::inference();
        let x = tape.constant(&Tensor::from_vec(px, (n, 3, 32, 32), &Device::Cpu).unwrap());
        let y = net.forward(&tape, &x, Statistics::Running).unwrap();
        let got = y.tensor().argmax(1).unwrap().to_vec1::<u32>().unwrap();
        right += got.iter().zip(&labels).filter(|(a, b)| a == b).count();
    }
    println!("{right} of 1000 in {:?}", start.elapsed());
}

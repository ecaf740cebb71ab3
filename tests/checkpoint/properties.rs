//! Whatever the bytes, no panic; whatever the tensors, writing and reading is the identity.

use fnl::checkpoint::{
    Checkpoint, Dtype, Header, OutputOptions, OutputTensor, Record, Source, Staging, natural_order,
};
use proptest::prelude::*;

use crate::fixture::{bytes_file, file, folder};

/// Reads a header, and checks that what is accepted is accepted by the reference as well, with the same places.
fn read(bytes: &[u8]) -> Result<(), TestCaseError> {
    let ours = Header::read(&mut &bytes[..], bytes.len() as u64).expect("a slice has no errors");
    if let Ok(header) = ours {
        let reference = safetensors::SafeTensors::deserialize(bytes);
        let Ok(reference) = reference else {
            return Err(TestCaseError::fail(format!("accepted what the reference refuses: {reference:?}")));
        };
        prop_assert_eq!(reference.len(), header.tensors.len());
        for tensor in &header.tensors {
            let view = reference.tensor(&tensor.name).unwrap();
            let range = tensor.start as usize..(tensor.start + tensor.len) as usize;
            prop_assert_eq!(view.data(), &bytes[range]);
            prop_assert_eq!(view.shape(), &tensor.shape[..]);
        }
    }
    Ok(())
}

fn dtype() -> impl Strategy<Value = Dtype> {
    prop::sample::select(vec![
        Dtype::BOOL,
        Dtype::U8,
        Dtype::BF16,
        Dtype::F16,
        Dtype::F32,
        Dtype::I64,
        Dtype::F64,
    ])
}

fn tensors() -> impl Strategy<Value = Vec<(OutputTensor, Vec<u8>)>> {
    let tensor = (dtype(), prop::collection::vec(0usize..5, 0..4), any::<u8>());
    prop::collection::btree_map(
        any::<String>().prop_filter("reserved", |name| name != "__metadata__"),
        tensor,
        0..12,
    )
    .prop_map(|tensors| {
        tensors
            .into_iter()
            .map(|(name, (dtype, shape, seed))| {
                let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
                let bytes = (0..len).map(|index| seed.wrapping_add(index as u8)).collect();
                (OutputTensor { name, dtype, shape }, bytes)
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&bytes)?;
    }

    #[test]
    fn arbitrary_headers(json in "[\\[\\]{}:,\"a-z0-9_ .-]{0,80}", data in prop::collection::vec(any::<u8>(), 0..8)) {
        read(&file(&json, &data))?;
    }

    #[test]
    fn mutated_sound_files(
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        metadata in prop::sample::select(vec!["", r#"{"format":"pt"}"#]),
    ) {
        let mut bytes = bytes_file(&[("a", 3), ("b", 0), ("layer.weight", 7)], metadata);
        read(&bytes)?;
        let at = position.index(bytes.len());
        bytes[at] = byte;
        read(&bytes)?;
        read(&bytes[..cut.index(bytes.len())])?;
    }

    #[test]
    fn arbitrary_places(places in prop::collection::vec((0u64..12, 0u64..12, 0u64..6), 1..5)) {
        let entries: Vec<String> = places
            .iter()
            .enumerate()
            .map(|(index, (start, end, dim))| {
                format!(r#""w{index}":{{"dtype":"U8","shape":[{dim}],"data_offsets":[{start},{end}]}}"#)
            })
            .collect();
        read(&file(&format!("{{{}}}", entries.join(",")), &[0; 9]))?;
    }

    #[test]
    fn sources_and_records_of_any_text(text in any::<String>(), rest in "[a-z/@.:]{0,20}") {
        let _ = Record::parse(&text);
        let _ = text.parse::<Source>();
        if let Ok(source) = format!("hf://{rest}").parse::<Source>() {
            prop_assert_eq!(source.to_string().parse::<Source>(), Ok(source));
        }
    }

    #[test]
    fn natural_order_is_an_order(names in prop::collection::vec("[a0-1.]{0,5}", 3)) {
        let order = |left: usize, right: usize| natural_order(&names[left], &names[right]);
        prop_assert_eq!(order(0, 1), order(1, 0).reverse());
        prop_assert_eq!(order(0, 1).is_eq(), names[0] == names[1]);
        if order(0, 1).is_le() && order(1, 2).is_le() {
            prop_assert!(order(0, 2).is_le());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn writing_then_reading_is_the_identity(tensors in tensors(), limit in 1u64..200, as_directory in any::<bool>()) {
        let folder = folder();
        let target = folder.path().join("out");
        let options = OutputOptions { as_directory, max_shard_bytes: limit, ..OutputOptions::file(&target) };
        let plan: Vec<OutputTensor> = tensors.iter().map(|(tensor, _)| tensor.clone()).collect();
        let staging = Staging::create(&options, &plan).unwrap();
        for (tensor, bytes) in tensors.iter().rev() {
            staging.write(&tensor.name, bytes).unwrap();
        }
        staging.publish(None).unwrap();
        let checkpoint = Checkpoint::open_path(&target).unwrap();
        prop_assert_eq!(checkpoint.tensors().len(), tensors.len());
        for (tensor, bytes) in &tensors {
            let entry = checkpoint.get(&tensor.name).unwrap();
            prop_assert_eq!((entry.dtype, &entry.shape), (tensor.dtype, &tensor.shape));
            prop_assert_eq!(&*checkpoint.bytes(entry).unwrap(), &bytes[..]);
        }
        for file in checkpoint.files() {
            let bytes = std::fs::read(file).unwrap();
            prop_assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok());
        }
    }
}

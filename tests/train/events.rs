//! Event files are read back by a reader that knows nothing of the writer.

use fnl::train::{EpochMetrics, EventWriter, LayerDiagnostics, MetricsRecord, StepMetrics};
use std::path::Path;

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| shift(crc)))
}

fn masked(bytes: &[u8]) -> u32 {
    let crc = crc32c(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The messages of a file, their checksums compared.
fn messages(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut messages = Vec::new();
    let u32_of = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    while !rest.is_empty() {
        let (length, after) = rest.split_at(8);
        assert_eq!(u32_of(&after[..4]), masked(length));
        let size = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let (message, after) = after[4..].split_at(size);
        assert_eq!(u32_of(&after[..4]), masked(message));
        messages.push(message.to_vec());
        rest = &after[4..];
    }
    messages
}

enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// The fields of a message with their numbers.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let size = match key & 7 {
            0 => {
                fields.push((key >> 3, Field::Number(varint(&mut bytes))));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            kind => panic!("kind {kind}"),
        };
        let (data, rest) = bytes.split_at(size);
        bytes = rest;
        fields.push((key >> 3, Field::Bytes(data.to_vec())));
    }
    fields
}

#[derive(Debug, PartialEq)]
enum Event {
    Version(String),
    Start(u64),
    Values(u64, Vec<(String, f32)>),
}

fn events(path: &Path) -> Vec<Event> {
    let event = |message: &Vec<u8>| {
        let mut step = 0;
        let mut found = None;
        for field in fields(message) {
            match field {
                (1, Field::Bytes(time)) => {
                    let time = f64::from_le_bytes(time.try_into().unwrap());
                    assert!((1.7e9..1e11).contains(&time), "{time}");
                }
                (2, Field::Number(number)) => step = number,
                (3, Field::Bytes(version)) => {
                    found = Some(Event::Version(String::from_utf8(version).unwrap()));
                }
                (5, Field::Bytes(summary)) => {
                    found = Some(Event::Values(step, fields(&summary).iter().map(value).collect()));
                }
                (7, Field::Bytes(session)) => {
                    assert_eq!(session, [8, 1]);
                    found = Some(Event::Start(step));
                }
                (number, _) => panic!("field {number}"),
            }
        }
        found.unwrap()
    };
    messages(path).iter().map(event).collect()
}

fn value(field: &(u64, Field)) -> (String, f32) {
    let (1, Field::Bytes(value)) = field else { panic!("field {}", field.0) };
    let fields = fields(value);
    let [(1, Field::Bytes(tag)), (2, Field::Bytes(number))] = fields.as_slice() else {
        panic!("fields of a value")
    };
    (String::from_utf8(tag.clone()).unwrap(), f32::from_le_bytes(number.as_slice().try_into().unwrap()))
}

#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283); // the check value of CRC-32C's catalogue
}

#[test]
fn curves_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let mut writer = EventWriter::create(&logs).unwrap();
    writer.scalars(0, &[("loss/train", 2.5)]).unwrap();
    let long = "x".repeat(300); // lengths and steps of more than seven bits
    writer.scalars(1_000_000, &[("loss/train", f64::NAN), (long.as_str(), -0.1)]).unwrap();
    let found = events(writer.path());
    let (last, first) = found.split_last().unwrap();
    assert_eq!(
        first,
        [Event::Version("brain.Event:2".to_owned()), Event::Values(0, vec![("loss/train".to_owned(), 2.5)])]
    );
    let Event::Values(1_000_000, values) = last else { panic!("{last:?}") };
    assert!(values[0].1.is_nan());
    assert_eq!(values[1], (long, -0.1));
}

#[test]
fn records_are_curves() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path()).unwrap();
    writer
        .record(&MetricsRecord::Step(StepMetrics {
            epoch: 1,
            step: 7,
            loss: 1.0,
            accuracy: 0.5,
            learning_rate: 0.25,
            gradient_norm: Some(2.0),
            samples_per_sec: 800.0,
        }))
        .unwrap();
    writer
        .record(&MetricsRecord::Epoch(EpochMetrics {
            epoch: 1,
            step: 9,
            train_loss: 1.0,
            train_accuracy: 0.5,
            test_loss: 2.0,
            test_accuracy: 0.25,
            scores: indexmap::IndexMap::new(),
            learning_rate: 0.25,
            elapsed_secs: 1.0,
            layers: vec![LayerDiagnostics {
                layer: "conv1".to_owned(),
                norm: 1.0,
                nuclear_norm: 2.0,
                nuclear_bound: 3.0,
                effective_step_size: 4.0,
                non_orthogonality: 5.0,
                stable_rank: 6.0,
            }],
        }))
        .unwrap();
    let named =
        |values: &[(&str, f32)]| values.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(
        events(writer.path())[1..],
        [
            Event::Values(
                7,
                named(&[
                    ("steps/loss", 1.0),
                    ("steps/accuracy", 0.5),
                    ("steps/learning_rate", 0.25),
                    ("steps/samples_per_sec", 800.0),
                    ("steps/gradient_norm", 2.0),
                ])
            ),
            Event::Values(
                9,
                named(&[
                    ("loss/train", 1.0),
                    ("loss/test", 2.0),
                    ("accuracy/train", 0.5),
                    ("accuracy/test", 0.25),
                    ("norm/conv1", 1.0),
                    ("nuclear_norm/conv1", 2.0),
                    ("nuclear_bound/conv1", 3.0),
                    ("effective_step_size/conv1", 4.0),
                    ("non_orthogonality/conv1", 5.0),
                    ("stable_rank/conv1", 6.0),
                ])
            ),
        ]
    );
}

#[test]
fn a_resumed_run_has_its_own_file_with_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let first = EventWriter::create(folder.path()).unwrap();
    let mut second = EventWriter::resume(folder.path(), 40).unwrap();
    assert_ne!(first.path(), second.path());
    second.scalars(41, &[("loss/train", 0.5)]).unwrap();
    assert_eq!(
        events(second.path()),
        [
            Event::Version("brain.Event:2".to_owned()),
            Event::Start(41),
            Event::Values(41, vec![("loss/train".to_owned(), 0.5)])
        ]
    );
}

//! A journal killed, cut, damaged or resumed at every byte.

use super::*;
use crate::measurement::Measurement;
use crate::quantity::Quantity;
use std::fs;

fn measurement(step: u64) -> Measurement {
    Measurement {
        run: "seed-1".into(),
        arm: "none".into(),
        learned_through: 2,
        step,
        quantity: Quantity::VariationalBound,
        level: None,
        examples: vec![1, 2],
        values: vec![0.1 * step as f64, 3.5],
    }
}

fn written(path: &Path, steps: std::ops::Range<u64>) -> Vec<u8> {
    let mut journal = Journal::open(path).unwrap();
    steps.for_each(|step| journal.append(&measurement(step)).unwrap());
    fs::read(path).unwrap()
}

#[test]
fn what_is_appended_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let bytes = written(&path, 0..3);
    let read = Journal::<Measurement>::read(&path).unwrap();
    assert_eq!(read, (0..3).map(measurement).collect::<Vec<_>>());
    assert_eq!(Journal::<Measurement>::open(&path).unwrap().offset(), bytes.len() as u64);
}

#[test]
fn a_kill_at_any_byte_loses_at_most_the_line_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let bytes = written(&path, 0..3);
    let line_length =
        |prefix: &[u8]| prefix.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    for length in 0..=bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let committed = line_length(&bytes[..length]);
        let (records, torn) = Journal::<Measurement>::read_committed(&path).unwrap();
        assert_eq!(torn, (length - committed) as u64);
        assert_eq!(Journal::<Measurement>::read(&path).is_err(), torn > 0);
        fs::write(&path, &bytes).unwrap();
        let until = Journal::<Measurement>::read_until(&path, length as u64).unwrap();
        assert_eq!(until, (records.clone(), torn), "what is behind is not read");
        fs::write(&path, &bytes[..length]).unwrap();

        let mut journal = Journal::open(&path).unwrap();
        assert_eq!((journal.offset(), journal.torn_bytes()), (committed as u64, torn));
        (records.len() as u64..3).for_each(|step| journal.append(&measurement(step)).unwrap());
        assert_eq!(fs::read(&path).unwrap(), bytes, "resumed after {length} bytes");
    }
}

#[test]
fn damage_in_the_middle_is_an_error_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let bytes = written(&path, 0..3);
    let second = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    for offset in [1, 30] {
        let mut damaged = bytes.clone();
        damaged[second + offset] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let errors = [
            Journal::<Measurement>::read(&path).unwrap_err().to_string(),
            Journal::<Measurement>::open(&path).unwrap_err().to_string(),
        ];
        for message in errors {
            assert!(message.contains("ledger.jsonl, line 2: checksum"), "{message}");
        }
        assert_eq!(fs::read(&path).unwrap(), damaged, "opening must not touch a damaged file");
    }
}

#[test]
fn a_checkpoint_cuts_the_lines_behind_it_even_damaged_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let first = written(&path, 0..1).len() as u64;
    let bytes = written(&path, 1..3);
    let mut damaged = bytes.clone();
    let last = damaged.len() - 2;
    damaged[last] = 0;
    fs::write(&path, &damaged).unwrap();
    assert!(Journal::<Measurement>::open(&path).is_err());

    let mut journal = Journal::resume(&path, first).unwrap();
    (1..3).for_each(|step| journal.append(&measurement(step)).unwrap());
    journal.sync().unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(journal.digest(), blake3::hash(&bytes).to_hex().to_string());

    journal.truncate_to(0).unwrap();
    assert_eq!((journal.offset(), fs::metadata(&path).unwrap().len()), (0, 0));
}

#[test]
fn an_offset_inside_a_line_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let bytes = written(&path, 0..2);
    let mut journal = Journal::<Measurement>::open(&path).unwrap();
    for offset in [1, bytes.len() as u64 - 1, bytes.len() as u64 + 1, u64::MAX] {
        let message = journal.truncate_to(offset).unwrap_err().to_string();
        assert!(
            message.contains(&format!("offset {offset} is not the end of a line")),
            "{message}"
        );
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);
    journal.append(&measurement(2)).unwrap();
    assert_eq!(Journal::<Measurement>::read(&path).unwrap().len(), 3);
}

#[test]
fn a_refused_record_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let bytes = written(&path, 0..1);
    let mut journal = Journal::open(&path).unwrap();
    let mut refused = measurement(1);
    refused.values[0] = f64::NAN;
    assert!(journal.append(&refused).is_err());
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

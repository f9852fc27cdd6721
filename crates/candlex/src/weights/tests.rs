//! Round trips, and every way in which a file can lie.

use super::*;
use crate::params::{Declarations, Init, ParamStore};
use crate::rng::Seed;
use candle_core::{DType, Device};
use std::collections::HashMap;
use std::path::PathBuf;

fn declarations() -> Declarations {
    let mut declarations = Declarations::default();
    declarations.declare("conv.weight", &[2, 3], Init::FanIn(3));
    declarations.declare("conv.bias", &[2], Init::FanIn(3));
    declarations
}

fn tensors() -> Vec<(&'static str, Tensor)> {
    let store =
        ParamStore::initialised(&declarations(), Seed(1), DType::F32, &Device::Cpu).unwrap();
    vec![("conv.weight", store.tensor(0).clone()), ("conv.bias", store.tensor(1).clone())]
}

fn write(folder: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("weights.safetensors");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn load_bytes(bytes: &[u8]) -> Result<Loaded, WeightsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, bytes);
    load(
        &declarations(),
        &[path],
        |name| name.replace("kernel", "weight"),
        DType::F32,
        &Device::Cpu,
    )
}

fn faults(tensors: &[(&str, Tensor)]) -> Vec<Fault> {
    match load_bytes(&serialize(tensors, None).unwrap()) {
        Err(WeightsError::Faults { faults, .. }) => faults,
        other => panic!("expected faults, got {other:?}"),
    }
}

#[test]
fn what_is_written_is_read_and_bytes_repeat() {
    let bytes = serialize(&tensors(), Some("{\"step\":1}")).unwrap();
    assert_eq!(bytes, serialize(&tensors(), Some("{\"step\":1}")).unwrap());
    let loaded = load_bytes(&bytes).unwrap();
    assert_eq!(
        loaded.store.tensor(0).to_vec2::<f32>().unwrap(),
        tensors()[0].1.to_vec2::<f32>().unwrap()
    );
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(WeightFile::open(&write(&folder, &bytes)).unwrap().note(), Some("{\"step\":1}"));
}

#[test]
fn an_older_name_is_read_under_the_new_one() {
    let mut old = tensors();
    old[0].0 = "conv.kernel";
    assert!(load_bytes(&serialize(&old, None).unwrap()).is_ok());
}

#[test]
fn every_fault_is_named_in_one_pass() {
    let [(_, weight), (_, bias)]: [(&str, Tensor); 2] = tensors().try_into().unwrap();
    let found = faults(&[("conv.weigth", weight.clone()), ("conv.bias", (&bias / 0.).unwrap())]);
    let lines: Vec<String> = found.iter().map(Fault::to_string).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("missing: `conv.weight`") && lines[0].contains("`conv.weigth`"));
    assert!(lines[1].contains("not finite: `conv.bias` at [0]"));
    assert!(lines[2].contains("unexpected: `conv.weigth`"));
    let transposed = faults(&[
        ("conv.weight", weight.t().unwrap().contiguous().unwrap()),
        ("conv.bias", bias.clone()),
    ]);
    assert!(transposed[0].to_string().contains("expected [2, 3], got [3, 2] (transposed?)"));
    let mixed = faults(&[
        ("conv.weight", weight.clone()),
        ("conv.bias", bias.to_dtype(DType::F64).unwrap()),
    ]);
    assert!(
        mixed[0].to_string().contains("expected F32") && mixed[0].to_string().contains("got F64")
    );
    let nan = Tensor::new(&[[1f32, 2., 3.], [4., f32::NAN, 6.]], &Device::Cpu).unwrap();
    let found = faults(&[("conv.weight", nan), ("conv.bias", bias)]);
    assert!(found[0].to_string().contains("`conv.weight` at [1, 1] is NaN"));
}

/// The faults of copying `tensors`, and the copy.
fn copied(tensors: &[(&str, Tensor)]) -> (Vec<Fault>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let mut file = WeightFile::open(&write(&folder, &serialize(tensors, None).unwrap())).unwrap();
    let rename = |name: &str| (name != "stray").then(|| name.replace("kernel", "weight"));
    let is_same = |_: &crate::params::Declaration, shape: &[usize]| shape == [2, 3, 1, 1];
    let copying = Copying::plan(&declarations(), &file, rename, is_same).unwrap();
    let path = folder.path().join("copy.safetensors");
    let mut faults = copying.write(&mut file, &path).unwrap();
    faults.extend(copying.faults);
    (faults, std::fs::read(path).unwrap())
}

#[test]
fn a_copy_has_the_numbers_under_the_declared_names_and_shapes() {
    let [(_, weight), (_, bias)]: [(&str, Tensor); 2] = tensors().try_into().unwrap();
    let older = weight.reshape((2, 3, 1, 1)).unwrap();
    let stray = Tensor::new(&[f32::NAN], &Device::Cpu).unwrap();
    let file = [("conv.kernel", older), ("conv.bias", bias.clone()), ("stray", stray)];
    let (faults, bytes) = copied(&file);
    assert_eq!(faults, []);
    let loaded = load_bytes(&bytes).unwrap();
    for (index, (_, tensor)) in tensors().iter().enumerate() {
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(loaded.store.tensor(index).dims(), tensor.dims());
        assert_eq!(values(loaded.store.tensor(index)), values(tensor));
    }
    assert_eq!(bytes, copied(&file).1);
    // And everything that does not fit, as a load would name it.
    let words = |tensors: &[(&str, Tensor)]| -> String {
        copied(tensors).0.iter().map(|fault| format!("{fault}; ")).collect()
    };
    let (flat, bad) = (weight.reshape(6).unwrap(), (&bias / 0.).unwrap());
    assert!(words(&[("conv.weight", flat), ("conv.bias", bias.clone())]).contains("got [6]"));
    let found = words(&[("conv.wight", weight.clone()), ("conv.bias", bad)]);
    for part in ["missing: `conv.weight`", "unexpected: `conv.wight`", "`conv.bias` at [0]"] {
        assert!(found.contains(part), "{found}");
    }
    let wide = bias.to_dtype(DType::F64).unwrap();
    assert!(words(&[("conv.weight", weight), ("conv.bias", wide)]).contains("got F64"));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = serialize(&tensors(), None).unwrap();
    for length in 0..bytes.len() {
        assert!(
            matches!(load_bytes(&bytes[..length]), Err(WeightsError::Format { .. })),
            "cut at {length}"
        );
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(load_bytes(&longer), Err(WeightsError::Format { .. })));
}

#[test]
fn lying_header_lengths_allocate_nothing() {
    let bytes = serialize(&tensors(), None).unwrap();
    for length in [0, 7, bytes.len() as u64 + 1, 100_000_001, 1 << 63, u64::MAX] {
        let mut lying = bytes.clone();
        lying[..8].copy_from_slice(&length.to_le_bytes());
        assert!(matches!(load_bytes(&lying), Err(WeightsError::Format { .. })), "{length}");
    }
}

#[test]
fn a_flipped_bit_never_panics() {
    let bytes = serialize(&tensors(), None).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let _ = load_bytes(&flipped);
        }
    }
}

#[test]
fn a_folder_and_nothing_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = WeightFile::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("it is a folder"), "{error}");
    let error = WeightFile::open(&folder.path().join("absent")).unwrap_err().to_string();
    assert!(error.contains("absent: cannot open"), "{error}");
}

/// The same tensors through the library itself: names to be escaped, no numbers at all, every dtype, a note to be escaped.
#[test]
fn the_bytes_are_those_of_the_library() {
    struct Whole(safetensors::Dtype, Vec<usize>, Vec<u8>);
    impl safetensors::View for Whole {
        fn dtype(&self) -> safetensors::Dtype {
            self.0
        }
        fn shape(&self) -> &[usize] {
            &self.1
        }
        fn data(&self) -> std::borrow::Cow<'_, [u8]> {
            (&self.2).into()
        }
        fn data_len(&self) -> usize {
            self.2.len()
        }
    }
    let long: Vec<f32> = (0..70_001).map(|i| i as f32 * 0.37 - 9.).collect();
    let tensors = [
        ("b", Tensor::new(long.as_slice(), &Device::Cpu).unwrap()),
        ("a\"\\ü", Tensor::new(&[[1f64, -2.], [3., 4.]], &Device::Cpu).unwrap()),
        ("none", Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap()),
        ("ids", Tensor::new(&[-1i64, 7], &Device::Cpu).unwrap()),
        ("counts", Tensor::new(&[7u32, 9, 11], &Device::Cpu).unwrap()),
        ("pixels", Tensor::new(&[1u8, 2, 255], &Device::Cpu).unwrap()),
    ];
    let bytes = |tensor: &Tensor| -> Whole {
        use safetensors::Dtype;
        let flat = tensor.flatten_all().unwrap();
        let (dtype, bytes) = match tensor.dtype() {
            DType::F64 => (
                Dtype::F64,
                flat.to_vec1::<f64>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
            ),
            DType::I64 => (
                Dtype::I64,
                flat.to_vec1::<i64>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
            ),
            DType::U32 => (
                Dtype::U32,
                flat.to_vec1::<u32>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
            ),
            DType::U8 => (Dtype::U8, flat.to_vec1::<u8>().unwrap()),
            _ => (
                Dtype::F32,
                flat.to_vec1::<f32>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
            ),
        };
        Whole(dtype, tensor.dims().to_vec(), bytes)
    };
    for note in [None, Some("{\"a\": \"ü\\\"\"}"), Some("")] {
        let wholes = tensors.iter().map(|(name, tensor)| (*name, bytes(tensor)));
        let info = note.map(|note| HashMap::from([("lethe".to_string(), note.to_string())]));
        let expected = safetensors::serialize(wholes, info).unwrap();
        // Without both files in the message.
        assert!(serialize(&tensors, note).unwrap() == expected, "{note:?}");
    }
}

/// Behind the first chunk and the first block, for stores of either width.
#[test]
fn the_first_number_that_is_not_finite_is_named_wherever_it_lies() {
    let mut declarations = Declarations::default();
    declarations.declare("w", &[600_000], Init::FanIn(1));
    for (at, also) in [(0, 599_999), (1_025, 1_026), (300_001, 599_999), (599_999, 599_999)] {
        let mut values = vec![0.5f32; 600_000];
        values[also] = f32::NAN;
        values[at] = f32::INFINITY;
        let tensor = Tensor::from_vec(values, 600_000, &Device::Cpu).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = write(&folder, &serialize(&[("w", tensor)], None).unwrap());
        for dtype in [DType::F32, DType::F64] {
            let path = path.clone();
            let loaded = load(&declarations, &[path], str::to_string, dtype, &Device::Cpu);
            let Err(WeightsError::Faults { faults, .. }) = loaded else { panic!("it was read") };
            let words = faults[0].to_string();
            assert!(words.contains(&format!("`w` at [{at}] is inf")), "{words}");
        }
    }
}

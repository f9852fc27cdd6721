//! Whether this machine and this build can do the work: real kernels on the device, memory, disk, driver.

use crate::cache;
use crate::device;
use crate::exit::{Fault, in_words};
use crate::plan::bytes;
use crate::plan::machine::{available_memory, free_disk};
use crate::whole::temporary;
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{DType, Device, Tensor};
use lethe_candlex::rng::Seed;
use lethe_kernels::conv2d::{self, Window};
use lethe_ledger::durable;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// How far a convolution in 32 bits may be from the one in 64 bits, as a share of the largest number; TF32 is beyond it.
const TOLERANCE: f64 = 1e-5;

/// Looks at everything that a run on `device` in a folder like `out` needs, and tells each finding in a line.
///
/// # Errors
/// The kind of the first thing that is wrong; the lines say what, and what to do.
pub fn examine(device: &str, out: &Path, tell: impl Fn(&str)) -> Result<()> {
    tell(&build());
    let mut first = None;
    let mut told = |what: &str, outcome: Result<String>| match outcome {
        Ok(words) => tell(&format!("ok   {what}: {words}")),
        Err(error) => {
            tell(&format!("BAD  {what}: {}", in_words(&error)));
            first.get_or_insert(error);
        }
    };
    told("processor", Ok(processor()));
    told("kernels on the processor", convolve(&Device::Cpu));
    told("memory", Ok(memory()));
    told(&format!("disk, {}", out.display()), disk(out));
    told("cache", cache_folder());
    told("temporary files", temporary().map(|folder| folder.path().display().to_string()));
    match device {
        "cpu" => tell(&format!("--   GPU: {}", gpu())),
        name => told(name, on_gpu(name)),
    }
    match first {
        None => {
            tell(&format!("ready to run on {device}"));
            Ok(())
        }
        Some(error) => Err(error.context("not ready: see BAD above")),
    }
}

fn build() -> String {
    let versions = device::versions();
    let version = |name: &str| versions.get(name).cloned().unwrap_or_default();
    let revision = option_env!("LETHE_REVISION").filter(|revision| !revision.is_empty());
    let features: Vec<&str> = [
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("hub", cfg!(feature = "hub")),
    ]
    .into_iter()
    .filter_map(|(name, is_on)| is_on.then_some(name))
    .collect();
    format!(
        "lethe {}, commit {}, candle {}, {}, features: {}",
        version("lethe"),
        revision.unwrap_or("not known"),
        version("candle"),
        version("rustc"),
        if features.is_empty() { "none".to_string() } else { features.join(", ") }
    )
}

fn processor() -> String {
    format!("{}, {} threads", device::in_words(&Device::Cpu), rayon::current_num_threads())
}

fn memory() -> String {
    available_memory().map_or_else(
        || "this system does not say how much is free".into(),
        |available| format!("{} are free", bytes(available)),
    )
}

/// A convolution on `device` beside the same in 64 bits on the processor, and its pace.
fn convolve(device: &Device) -> Result<String> {
    const SIDE: usize = 64;
    const CHANNELS: usize = 64;
    let draw = |name: &str, shape: &[usize]| {
        let keys: Vec<u64> = (0..shape[0] as u64).collect();
        Seed(1).stream(name).normal(0, &keys, &shape[1..], &Device::Cpu)
    };
    let x = draw("x", &[4, SIDE, SIDE, CHANNELS])?;
    let w = draw("w", &[CHANNELS, CHANNELS, 3, 3])?;
    let window = Window::same(3);
    let wide = |t: &Tensor| t.to_dtype(DType::F64);
    let expected = conv2d::forward(&wide(&x.narrow(0, 0, 1)?)?, &wide(&w)?, None, window)?;
    let (x, w) = (x.to_device(device)?, w.to_device(device)?);
    let convolved = || -> Result<Tensor> {
        let y = conv2d::forward(&x, &w, None, window)?;
        device.synchronize()?;
        Ok(y)
    };
    let y = convolved()?.narrow(0, 0, 1)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let largest = |t: Tensor| t.abs()?.max_all()?.to_scalar::<f64>();
    let distance = largest((&y - &expected)?)? / largest(expected)?;
    ensure!(
        distance <= TOLERANCE,
        "a convolution is off by {distance:.1e} of its largest number, expected at most {TOLERANCE:.0e}: do not trust this device"
    );
    let start = Instant::now();
    convolved()?;
    let operations = 2. * (4 * SIDE * SIDE * CHANNELS * CHANNELS * 9) as f64;
    let pace = operations / start.elapsed().as_secs_f64() / 1e9;
    Ok(format!(
        "a convolution equals its 64-bit reference to {distance:.0e}, at some {pace:.0} GFLOP/s"
    ))
}

/// Writes, syncs, renames and locks where a run would, and leaves nothing.
fn disk(out: &Path) -> Result<String> {
    let whole = std::path::absolute(out)?;
    let there = whole.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if !there.is_dir() {
        let why = "it is no folder; choose another --out";
        return Err(Fault::Disk.because(anyhow!("{}: {why}", there.display())));
    }
    let of_disk = |error: std::io::Error| {
        Fault::Disk.because(anyhow!("{}: {error}; choose another --out", there.display()))
    };
    let trial =
        tempfile::Builder::new().prefix(".lethe-doctor").tempdir_in(there).map_err(of_disk)?;
    let (partial, file) = (trial.path().join("partial"), trial.path().join("file"));
    let write = || -> std::io::Result<()> {
        let mut written = File::create(&partial)?;
        written.write_all(&[7; 4096])?;
        written.sync_all()?;
        fs::rename(&partial, &file)?;
        File::open(trial.path())?.sync_all()
    };
    write().map_err(of_disk)?;
    let locked = File::open(&file).map_err(of_disk)?;
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| of_disk(error.into()))
        .context("files cannot be locked there, so that two processes could write one run")?;
    Ok(format!(
        "{} are free; writing, syncing, renaming and locking work",
        bytes(free_disk(there)?)
    ))
}

fn cache_folder() -> Result<String> {
    let Some(folder) = cache::folder() else {
        return Ok(
            "none: neither LETHE_CACHE nor HOME is set; latents are made anew each time".into()
        );
    };
    durable::make_folders(&folder).and_then(|()| tempfile::tempfile_in(&folder)).map_err(
        |error| {
            let advice = "name a folder that can be written in LETHE_CACHE";
            Fault::Disk.because(anyhow!("{}: {error}; {advice}", folder.display()))
        },
    )?;
    Ok(folder.display().to_string())
}

/// What can be seen of a GPU without using it.
fn gpu() -> String {
    let advice = if cfg!(feature = "cuda") {
        "lethe doctor --device cuda tries it"
    } else {
        "this build cannot use it: build with --features cuda"
    };
    match driver() {
        Some(driver) => format!("{driver}; {advice}"),
        None => "no NVIDIA driver is loaded".into(),
    }
}

/// The loaded driver, in its own words.
fn driver() -> Option<String> {
    let text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    Some(text.lines().next()?.trim_start_matches("NVRM version:").trim().to_string())
}

/// A real kernel on the GPU, or what is wrong in plain words.
fn on_gpu(name: &str) -> Result<String> {
    let found = device::named(name).and_then(|device| convolve(&device));
    found.map_err(|error| {
        let words = in_words(&error);
        let driver = driver().unwrap_or_else(|| "no NVIDIA driver is loaded".into());
        match remedy(&words) {
            Some(remedy) => Fault::Missing.because(anyhow!("{words}\n     {driver}: {remedy}")),
            None => error.context(driver),
        }
    })
}

/// What to do about an error of CUDA, by the driver's own names.
fn remedy(error: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 8] = [
        ("without the feature", "build with `cargo build --release --features cuda`"),
        (
            "NO_DEVICE",
            "no GPU is visible: look at nvidia-smi, at CUDA_VISIBLE_DEVICES, and at what the container was given",
        ),
        ("INVALID_DEVICE", "there is no GPU of this number: `nvidia-smi -L` lists them from 0"),
        (
            "DRIVER_MISMATCH",
            "driver and its library differ in version: restart the machine, or mend the container's library",
        ),
        (
            "INSUFFICIENT_DRIVER",
            "the driver is older than the toolkit of this build: update it, or build with an older toolkit",
        ),
        (
            "UNSUPPORTED_PTX",
            "the driver is older than the toolkit of this build: update it, or build with an older toolkit",
        ),
        (
            "NO_BINARY_FOR_GPU",
            "this build is for another kind of GPU: set CUDA_COMPUTE_CAP to this one's (nvidia-smi --query-gpu=compute_cap --format=csv) and build again",
        ),
        ("OUT_OF_MEMORY", "other processes hold its memory: nvidia-smi lists them"),
    ];
    KNOWN.iter().find(|(sign, _)| error.contains(sign)).map(|(_, remedy)| *remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn lines(device: &str, out: &Path) -> (Result<()>, String) {
        let told = RefCell::new(String::new());
        let outcome = examine(device, out, |line| {
            told.borrow_mut().push_str(line);
            told.borrow_mut().push('\n');
        });
        (outcome, told.into_inner())
    }

    #[test]
    fn a_sound_machine_is_ready_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (outcome, told) = lines("cpu", &folder.path().join("runs"));
        assert!(outcome.is_ok() && told.contains("ready to run on cpu"), "{told}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_gpu_that_this_build_cannot_use_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (outcome, told) = lines("cuda", folder.path());
        assert_eq!(crate::exit::fault_of(&outcome.unwrap_err()), Fault::Missing);
        assert!(told.contains("BAD  cuda") && told.contains("--features cuda"), "{told}");
    }

    #[test]
    fn errors_of_the_driver_have_remedies() {
        let text = "DriverError(CUDA_ERROR_NO_DEVICE, \"no CUDA-capable device is detected\")";
        assert!(remedy(text).unwrap().contains("CUDA_VISIBLE_DEVICES"));
        assert_eq!(remedy("something else"), None);
    }
}

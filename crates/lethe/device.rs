//! Where tensors live, by name and in words.

use crate::exit::Fault;
use crate::run::Versions;
use anyhow::{Context, Result, anyhow};
use candle_core::Device;
use lethe_kernels::device_memory::keep_freed;

/// "cpu", "cuda" or "cuda:N".
///
/// # Errors
/// When this build or this machine has no such device; nothing else is taken in its place.
pub fn named(name: &str) -> Result<Device> {
    let number = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:").and_then(|number| number.parse().ok()),
    };
    let number =
        number.with_context(|| format!("--device: expected cpu, cuda or cuda:N, got `{name}`"));
    let number: usize = number.map_err(|error| Fault::Usage.because(error))?;
    if !cfg!(feature = "cuda") {
        let error = anyhow!("--device {name}: this build was made without the feature `cuda`");
        return Err(Fault::Missing.because(error));
    }
    let open = || {
        let device = Device::new_cuda(number)?;
        keep_freed(&device)?;
        candle_core::Result::Ok(device)
    };
    open().map_err(|error| Fault::Missing.because(anyhow!("--device {name}: {error}")))
}

/// For `run.json`.
pub fn in_words(device: &Device) -> String {
    match device {
        Device::Cpu => format!("cpu ({}, {:?})", processor(), lethe_kernels::instruction_set()),
        other => format!("{:?}", other.location()),
    }
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    model.unwrap_or(std::env::consts::ARCH).trim().to_string()
}

/// Versions of the parts that compute.
pub fn versions() -> Versions {
    let pairs = [
        ("lethe", env!("CARGO_PKG_VERSION")),
        ("candle", "0.11.1"),
        ("rustc", env!("LETHE_RUSTC")),
    ];
    pairs.into_iter().map(|(name, version)| (name.to_string(), version.to_string())).collect()
}

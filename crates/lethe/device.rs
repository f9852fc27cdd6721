//! Where tensors live, by name and in words.

use crate::exit::Fault;
use crate::run::Versions;
use anyhow::{Context, Result, anyhow};
use candle_core::Device;
use lethe_kernels::device;

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
    device::open(number)
        .map_err(|error| Fault::Missing.because(anyhow!("--device {name}: {error}")))
}

/// For `run.json`.
pub fn in_words(device: &Device) -> String {
    match device {
        Device::Cpu => format!("cpu ({}, {:?})", processor(), lethe_kernels::instruction_set()),
        other => format!("{:?}", other.location()),
    }
}

/// Peak memory so far: of this process, and of tensors on the device where that is another place.
///
/// # Errors
/// When the device does not answer.
pub fn peak(device: &Device) -> Result<String> {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
    let host = line.and_then(|kib| kib.parse::<u64>().ok()).map(|kib| mib(kib << 10));
    let there =
        device::peak(device)?.map(|bytes| format!("{} of tensors on the device", mib(bytes)));
    let parts: Vec<String> = host.into_iter().chain(there).collect();
    Ok(if parts.is_empty() { "unknown".into() } else { parts.join(", ") })
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

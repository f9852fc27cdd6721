//! Where ours runs, in which numbers, and what that costs in memory.

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use lethe_candlex::tape::{Tape, Value};
use lethe_diffusion::denoiser::{Network, Pass};
use lethe_kernels::device;
use lethe_train::Precision;
use std::time::Instant;

/// A device, and the numbers of the forward pass on it.
pub struct Place {
    pub device: Device,
    pub precision: Precision,
}

impl Place {
    /// "cpu" or "cuda".
    pub fn named(name: &str, precision: Precision) -> Result<Self> {
        let device = match name {
            "cpu" => Device::Cpu,
            "cuda" => device::open(0).context("--device cuda")?,
            other => bail!("--device: expected cpu or cuda, got `{other}`"),
        };
        Ok(Self { device, precision })
    }

    /// The numbers of the forward pass.
    pub fn dtype(&self) -> DType {
        match self.precision {
            Precision::F32 | Precision::Tf32 => DType::F32,
            Precision::Bf16 => DType::BF16,
        }
    }

    /// Seconds until the device has done what `f` asks of it.
    pub fn timed<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<f64> {
        self.device.synchronize()?;
        let start = Instant::now();
        f()?;
        self.device.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Peak memory in MiB: of tensors on the device, or of this process in host memory.
    pub fn peak(&self) -> Result<f64> {
        match device::peak(&self.device)? {
            Some(bytes) => Ok(bytes as f64 / f64::from(1 << 20)),
            None => resident(),
        }
    }
}

/// Peak resident memory of this process in MiB; NaN where the system does not say.
fn resident() -> Result<f64> {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return Ok(f64::NAN) };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    Ok(kib.context("VmHWM in /proc/self/status")? / 1024.)
}

/// A network evaluated in other numbers than those that go in and come out.
pub struct Rounded<'a, N> {
    pub network: &'a N,
    pub dtype: DType,
}

impl<N: Network> Network for Rounded<'_, N> {
    fn forward(
        &self,
        tape: &Tape,
        x: &Value,
        timesteps: &[f64],
        pass: &Pass,
    ) -> candle_core::Result<Value> {
        let rounded = Value::constant(x.tensor().to_dtype(self.dtype)?);
        let output = self.network.forward(tape, &rounded, timesteps, pass)?;
        Ok(Value::constant(output.tensor().to_dtype(x.tensor().dtype())?))
    }
}

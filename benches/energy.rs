//! Hopfield energies: many queries against many stored patterns.

use crate::child::serve_rounds;
use crate::place::Place;
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use lethe_candlex::rng::Seed;
use lethe_candlex::weights::serialize;
use lethe_kernels::hopfield_energy::{Answer, Form, Question, Wanted, energy};
use std::path::Path;

/// β at which a handful of the patterns matter to a query in the distance form.
const INVERSE_TEMPERATURE: f64 = 0.02;

fn ask(queries: &Tensor, patterns: &Tensor, form: Form) -> Result<Answer> {
    let question = Question {
        form,
        inverse_temperature: INVERSE_TEMPERATURE,
        masses: None,
        left_out: None,
        wanted: Wanted::Energy,
    };
    Ok(energy(queries, patterns, &question)?)
}

/// Standard normal vectors [n, d].
fn vectors(name: &str, n: u64, d: usize, device: &Device) -> Result<Tensor> {
    let rows: Vec<u64> = (0..n).collect();
    Ok(Seed(1).stream(name).normal(0, &rows, &[d], device)?)
}

/// Leaves a few energies in `folder` for the peer to find again, then runs rounds.
pub fn serve(place: &Place, form: Form, folder: &Path, quick: bool) -> Result<()> {
    let (n, m, d) = if quick { (300, 1_500, 64) } else { (10_000, 50_000, 3_072) };
    let (queries, patterns) =
        (vectors("queries", n, d, &place.device)?, vectors("patterns", m, d, &place.device)?);
    let (few, some) = (queries.narrow(0, 0, 200)?, patterns.narrow(0, 0, 1_200)?);
    let expected = Tensor::new(ask(&few, &some, form)?.energy, &Device::Cpu)?;
    let beta = Tensor::new(&[INVERSE_TEMPERATURE], &Device::Cpu)?;
    let sizes = Tensor::new(&[n as i64, m as i64, d as i64], &Device::Cpu)?;
    let tensors = [
        ("queries", few),
        ("patterns", some),
        ("energy", expected),
        ("inverse_temperature", beta),
        ("sizes", sizes),
    ];
    let path = folder.join("energy.safetensors");
    std::fs::write(&path, serialize(&tensors, None)?)
        .with_context(|| path.display().to_string())?;
    serve_rounds(place, || place.timed(|| ask(&queries, &patterns, form)))
}

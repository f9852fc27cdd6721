//! `lethe energy`: Hopfield energies of a user's own arrays.

use super::say;
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{DType, Device, Tensor};
use clap::{Args, ValueEnum};
use lethe::candlex::finite::ensure_finite;
use lethe::candlex::weights::{WeightFile, serialize};
use lethe::exit::Fault;
use lethe::kernels::hopfield_energy::{Form, Question, Wanted, energy};
use std::path::PathBuf;

/// Hopfield energies of queries under stored patterns.
///
/// With inverse temperature B and M patterns p, for a query x:
///   dot       E(x) = 1/2 |x|^2 - (1/B) log sum_m exp(B x.p_m)
///   distance  E(x) = -(1/B) log (1/M) sum_m exp(-B/2 |x - p_m|^2)
/// The output holds `energy` [n], `retrieved` [n, d] = sum_m softmax_m p_m and `gradient` [n, d] = x - retrieved,
/// in 64-bit floats; sums are taken in 64 bits, products in 64 bits where both inputs are F64 and in 32 bits otherwise.
/// The matrix of all similarities is never held: memory does not grow with n times M.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  lethe energy --queries q.safetensors --patterns x.safetensors --inverse-temperature 8 --form dot --out e.safetensors"
)]
pub struct Arguments {
    /// safetensors file with the tensor `queries` [n, d]
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// safetensors file with the tensor `patterns` [M, d]
    #[arg(long, value_name = "FILE")]
    patterns: PathBuf,
    /// B > 0, in the inverse unit of |x|^2
    #[arg(long, value_name = "B")]
    inverse_temperature: f64,
    /// The similarity
    #[arg(long, value_enum)]
    form: FormName,
    /// Query i leaves pattern i out: for queries that are the first patterns
    #[arg(long)]
    leave_one_out: bool,
    /// Where to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormName {
    Dot,
    Distance,
}

/// Reads, computes, writes.
pub fn run(arguments: &Arguments) -> Result<()> {
    if [&arguments.queries, &arguments.patterns].contains(&&arguments.out) {
        let out = arguments.out.display();
        return Err(Fault::Usage.because(anyhow!("--out: {out} is an input")));
    }
    let (mut queries, mut patterns) =
        (WeightFile::open(&arguments.queries)?, WeightFile::open(&arguments.patterns)?);
    let is_wide = is_wide(&queries, "queries")? && is_wide(&patterns, "patterns")?;
    let dtype = if is_wide { DType::F64 } else { DType::F32 };
    let (queries, patterns) =
        (read(&mut queries, "queries", dtype)?, read(&mut patterns, "patterns", dtype)?);
    let n = queries.dim(0)?;
    let own: Vec<Option<usize>> = (0..n).map(Some).collect();
    if arguments.leave_one_out && n > patterns.dim(0)? {
        let error = anyhow!(
            "--leave-one-out: query i leaves pattern i out, but there are {n} queries and {} patterns",
            patterns.dim(0)?
        );
        return Err(Fault::Usage.because(error));
    }
    let question = Question {
        form: match arguments.form {
            FormName::Dot => Form::Dot,
            FormName::Distance => Form::Distance,
        },
        inverse_temperature: arguments.inverse_temperature,
        masses: None,
        left_out: arguments.leave_one_out.then_some(own.as_slice()),
        wanted: Wanted::Retrieved,
    };
    let answer =
        energy(&queries, &patterns, &question).map_err(|error| Fault::Usage.because(error))?;
    let retrieved = answer.retrieved.context("retrieval was asked for")?;
    let gradient = (queries.to_dtype(DType::F64)? - &retrieved)?;
    let energy = Tensor::from_vec(answer.energy, n, &Device::Cpu)?;
    for (name, tensor) in [("energy", &energy), ("retrieved", &retrieved), ("gradient", &gradient)]
    {
        ensure_finite(name, tensor).map_err(|error| Fault::Data.because(error))?;
    }
    let bytes =
        serialize(&[("energy", energy), ("gradient", gradient), ("retrieved", retrieved)], None)?;
    lethe::ledger::durable::write_file(&arguments.out, &bytes)?;
    say(&format!("{}: energy, retrieved and gradient of {n} queries", arguments.out.display()));
    Ok(())
}

fn is_wide(file: &WeightFile, name: &str) -> Result<bool> {
    Ok(format!("{:?}", file.info(name)?.dtype) == "F64")
}

fn read(file: &mut WeightFile, name: &str, dtype: DType) -> Result<Tensor> {
    let path = file.path().display().to_string();
    let tensor = file.tensor(name)?;
    let check = || {
        ensure!(tensor.rank() == 2, "{path}: `{name}`: expected [n, d], got {:?}", tensor.dims());
        ensure!(tensor.elem_count() > 0, "{path}: `{name}`: empty: {:?}", tensor.dims());
        ensure_finite(&format!("{path}: `{name}`"), &tensor)?;
        Ok(())
    };
    check().map_err(|error: anyhow::Error| Fault::Data.because(error))?;
    Ok(tensor.to_dtype(dtype)?)
}

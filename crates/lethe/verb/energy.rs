//! `lethe energy`: Hopfield energies of a user's own arrays.

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor};
use clap::{Args, ValueEnum};
use lethe::candlex::finite::ensure_finite;
use lethe::candlex::weights::{WeightFile, serialize};
use lethe::destination;
use lethe::exit::{Fault, fault_of, of_output, tell};
use lethe::hopfield::Vectors;
use lethe::kernels::hopfield_energy::{Answer, Form, Question, Wanted, energy};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Hopfield energies of queries under stored patterns.
///
/// With inverse temperature B and M patterns p, for a query x:
///   dot       E(x) = 1/2 |x|^2 - (1/B) log sum_m exp(B x.p_m)
///   distance  E(x) = -(1/B) log (1/M) sum_m exp(-B/2 |x - p_m|^2)
/// The output holds `energy` [n], `entropy` [n] of the softmax in nats, `retrieved` [n, d] = sum_m softmax_m p_m and
/// `gradient` [n, d] = x - retrieved, in 64-bit floats; sums are taken in 64 bits, products in 64 bits where both
/// inputs are F64 and in 32 bits otherwise, the association always in 64. Energies and entropies of 32-bit inputs are
/// those of 32-bit products: where large logits nearly tie, an entropy may be off by some thousandths of itself.
/// The matrix of all similarities is never held, unless `--association` asks for it: memory does not grow with n times M.
/// With masses a_m, a pattern counts a_m times: exp(..) becomes a_m exp(..), and 1/M one over their sum.
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
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    inverse_temperature: f64,
    /// The similarity
    #[arg(long, value_enum)]
    form: FormName,
    /// Query i leaves pattern i out: for queries that are the first patterns
    #[arg(long)]
    leave_one_out: bool,
    /// safetensors file with the tensor `masses` [M] or [M, 1], integers or floats, positive: how often each pattern counts
    #[arg(long, value_name = "FILE")]
    masses: Option<PathBuf>,
    /// Write `association` [n, M] as well, the softmax itself
    #[arg(long)]
    association: bool,
    /// Follow N retrieval updates from each query: `path` [N + 1, n, d] and `path_energy` [N + 1, n], the query first
    #[arg(long, value_name = "N", conflicts_with = "leave_one_out")]
    updates: Option<usize>,
    /// Where to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormName {
    Dot,
    Distance,
}

impl FormName {
    fn form(self) -> Form {
        match self {
            Self::Dot => Form::Dot,
            Self::Distance => Form::Distance,
        }
    }
}

/// What was read.
struct Input {
    queries: Tensor,
    patterns: Tensor,
    masses: Option<Vec<f64>>,
    /// Query i's own pattern, where it is left out.
    own: Option<Vec<Option<usize>>>,
}

/// Reads, computes, writes.
pub fn run(arguments: &Arguments) -> Result<()> {
    let out = destination::of(&arguments.out)?;
    let input = input(arguments)?;
    let tensors = answers(arguments, &input)?;
    for (name, tensor) in &tensors {
        // What was read is finite.
        ensure_finite(name, tensor).map_err(|error| {
            Fault::Usage.because(anyhow!(
                "--inverse-temperature: out of all proportion to these numbers: {error}"
            ))
        })?;
    }
    let bytes = serialize(&tensors, None)?;
    lethe::ledger::durable::write_file(&out, &bytes).map_err(of_output)?;
    let names: Vec<&str> = tensors.iter().map(|(name, _)| *name).collect();
    let n = input.queries.dim(0)?;
    tell(&format!("{}: {} of {n} queries", arguments.out.display(), names.join(", ")))
}

fn input(arguments: &Arguments) -> Result<Input> {
    let inputs = [Some(&arguments.queries), Some(&arguments.patterns), arguments.masses.as_ref()];
    if inputs.into_iter().flatten().any(|input| is_same(input, &arguments.out)) {
        let out = arguments.out.display();
        return Err(Fault::Usage.because(anyhow!("--out: {out} is an input")));
    }
    let (mut queries, mut patterns) = (open(&arguments.queries)?, open(&arguments.patterns)?);
    let is_wide = is_wide(&queries, "queries")? && is_wide(&patterns, "patterns")?;
    let dtype = if is_wide { DType::F64 } else { DType::F32 };
    let (queries, patterns) =
        (read(&mut queries, "queries", dtype)?, read(&mut patterns, "patterns", dtype)?);
    let (n, m) = (queries.dim(0)?, patterns.dim(0)?);
    let (d, depth) = (queries.dim(1)?, patterns.dim(1)?);
    if d != depth {
        let error = anyhow!(
            "{}: `patterns`: expected [M, {d}] as `queries` are [{n}, {d}], got [{m}, {depth}]",
            arguments.patterns.display()
        );
        return Err(Fault::Data.because(error));
    }
    check_size("--updates", arguments.updates.unwrap_or(0), n * d)?;
    if arguments.association {
        check_size("--association: patterns", m, n)?;
    }
    expect_room(arguments, n, m, d)?;
    if arguments.leave_one_out && n > patterns.dim(0)? {
        let error = anyhow!(
            "--leave-one-out: query i leaves pattern i out, but there are {n} queries and {} patterns",
            patterns.dim(0)?
        );
        return Err(Fault::Usage.because(error));
    }
    let masses = arguments.masses.as_ref().map(|path| masses(path, m)).transpose()?;
    let own = arguments.leave_one_out.then(|| (0..n).map(Some).collect());
    Ok(Input { queries, patterns, masses, own })
}

/// Numbers of one output tensor: four gigabytes.
const LARGEST: usize = 1 << 29;

fn check_size(option: &str, count: usize, each: usize) -> Result<()> {
    let most = (LARGEST / each).saturating_sub(1);
    if count > most {
        let error = anyhow!(
            "{option}: expected at most {most}, as each is {each} numbers of the output, got {count}"
        );
        return Err(Fault::Usage.because(error));
    }
    Ok(())
}

/// Whether both names are those of one file, however they are spelled.
fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    one == other || identity(one).is_some_and(|one| Some(one) == identity(other))
}

/// Refuses what cannot fit, before it is computed: input, output, and the output's bytes, all in 64 bits.
fn expect_room(arguments: &Arguments, n: usize, m: usize, d: usize) -> Result<()> {
    let path = arguments.updates.map_or(0, |updates| n * (updates + 1) * (d + 1));
    let association = if arguments.association { n * m } else { 0 };
    let output = n * 2 * (d + 1) + path + association;
    expect_memory((8 * (2 * (n + m) * d + 3 * output)) as u64)
}

fn expect_memory(needed: u64) -> Result<()> {
    match lethe::plan::machine::available_memory() {
        Some(free) if needed > free => {
            let (needed, free) = (lethe::plan::bytes(needed), lethe::plan::bytes(free));
            Err(Fault::Held.because(anyhow!("{needed} of memory at least, {free} are free")))
        }
        _ => Ok(()),
    }
}

/// What is wrong with a user's own file is wrong with the data.
fn of_input(error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    match fault_of(&error) {
        Fault::Untrustworthy | Fault::Bug => Fault::Data.because(error),
        _ => error,
    }
}

fn open(path: &Path) -> Result<WeightFile> {
    if path.is_dir() {
        let error = anyhow!("{}: expected a safetensors file, got a folder", path.display());
        return Err(Fault::Data.because(error));
    }
    WeightFile::open(path)
        .map_err(|error| if is_numpy(path) { of_numpy(path) } else { of_input(error) })
}

fn is_numpy(path: &Path) -> bool {
    const MAGIC: &[u8] = b"\x93NUMPY";
    let mut start = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start));
    read.is_ok() && start == MAGIC
}

fn of_numpy(path: &Path) -> anyhow::Error {
    Fault::Data.because(anyhow!(
        "{}: expected a safetensors file, got a NumPy array; in Python, safetensors.numpy.save_file({{\"queries\": x}}, \
         \"x.safetensors\") writes one",
        path.display()
    ))
}

/// One positive number for each of `m` patterns.
fn masses(path: &Path, m: usize) -> Result<Vec<f64>> {
    let masses = open(path)?.tensor("masses").map_err(of_input)?;
    let masses = masses.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let check = || {
        let (path, n) = (path.display(), masses.len());
        ensure!(n == m, "{path}: `masses`: expected {m}, one for each pattern, got {n}");
        let bad = masses.iter().enumerate().find(|(_, mass)| !(**mass > 0. && mass.is_finite()));
        if let Some((i, mass)) = bad {
            bail!("{path}: `masses`: expected positive, finite numbers, got {mass} at {i}");
        }
        Ok(())
    };
    check().map_err(|error: anyhow::Error| Fault::Data.because(error))?;
    Ok(masses)
}

/// Every tensor that was asked for, in the order of their names.
fn answers(arguments: &Arguments, input: &Input) -> Result<Vec<(&'static str, Tensor)>> {
    let answer = ask(arguments, input, &input.queries)?;
    let retrieved = answer.retrieved.context("retrieval was asked for")?;
    let gradient = (input.queries.to_dtype(DType::F64)? - &retrieved)?;
    let n = input.queries.dim(0)?;
    let mut tensors = Vec::new();
    if arguments.association {
        tensors.push(("association", association(arguments, input)?));
    }
    tensors.push(("energy", Tensor::from_vec(answer.energy, n, &Device::Cpu)?));
    tensors.push(("entropy", Tensor::from_vec(answer.entropy, n, &Device::Cpu)?));
    tensors.push(("gradient", gradient));
    if let Some(updates) = arguments.updates {
        let (path, energies) = path(arguments, input, updates)?;
        tensors.extend([("path", path), ("path_energy", energies)]);
    }
    tensors.push(("retrieved", retrieved));
    Ok(tensors)
}

fn ask(arguments: &Arguments, input: &Input, queries: &Tensor) -> Result<Answer> {
    let question = Question {
        form: arguments.form.form(),
        inverse_temperature: arguments.inverse_temperature,
        masses: input.masses.as_deref(),
        left_out: input.own.as_deref(),
        wanted: Wanted::Retrieved,
    };
    energy(queries, &input.patterns, &question).map_err(|error| Fault::Usage.because(error))
}

fn association(arguments: &Arguments, input: &Input) -> Result<Tensor> {
    let vectors = |x: &Tensor| -> Result<Vectors> {
        Ok(Vectors::new(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?, x.dim(1)?)?)
    };
    let logs: Option<Vec<f64>> =
        input.masses.as_ref().map(|masses| masses.iter().map(|mass| mass.ln()).collect());
    let p = lethe::hopfield::association(
        arguments.form.form(),
        arguments.inverse_temperature,
        &vectors(&input.queries)?,
        &vectors(&input.patterns)?,
        logs.as_deref(),
        input.own.as_deref(),
    )?;
    let shape = (input.queries.dim(0)?, input.patterns.dim(0)?);
    Ok(Tensor::from_vec(p, shape, &Device::Cpu)?)
}

/// The states from the queries on, and their energies.
fn path(arguments: &Arguments, input: &Input, updates: usize) -> Result<(Tensor, Tensor)> {
    let n = input.queries.dim(0)?;
    let mut states = vec![input.queries.to_dtype(DType::F64)?];
    let mut energies = Vec::with_capacity(updates + 1);
    let mut state = input.queries.clone();
    for update in 0..=updates {
        let answer = ask(arguments, input, &state)?;
        energies.push(Tensor::from_vec(answer.energy, n, &Device::Cpu)?);
        if update < updates {
            let retrieved = answer.retrieved.context("retrieval was asked for")?;
            state = retrieved.to_dtype(input.queries.dtype())?;
            states.push(retrieved);
        }
    }
    Ok((Tensor::stack(&states, 0)?, Tensor::stack(&energies, 0)?))
}

fn is_wide(file: &WeightFile, name: &str) -> Result<bool> {
    Ok(format!("{:?}", file.info(name).map_err(of_input)?.dtype) == "F64")
}

fn read(file: &mut WeightFile, name: &str, dtype: DType) -> Result<Tensor> {
    let path = file.path().display().to_string();
    let n: usize = file.info(name).map_err(of_input)?.shape.iter().product();
    expect_memory(8 * n as u64)?;
    let tensor = file.tensor(name).map_err(of_input)?;
    let check = || {
        ensure!(tensor.rank() == 2, "{path}: `{name}`: expected [n, d], got {:?}", tensor.dims());
        ensure!(tensor.elem_count() > 0, "{path}: `{name}`: empty: {:?}", tensor.dims());
        ensure_finite(&format!("{path}: `{name}`"), &tensor)?;
        Ok(())
    };
    check().map_err(|error: anyhow::Error| Fault::Data.because(error))?;
    Ok(tensor.to_dtype(dtype)?)
}

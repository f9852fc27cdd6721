//! Time and memory of what takes long, alone or beside PyTorch.
//!
//! Every case runs in a process of its own, so that its peak memory is its own; the peer's as well.
//! A round runs the yardstick, then ours, then each peer, so that all see the same minutes of the machine.

#![allow(clippy::print_stdout, reason = "the table is the product")]

mod child;
mod energy;
mod latent;
mod network;
mod operation;
mod table;
mod theory;
mod yardstick;

use anyhow::{Context, Result, bail};
use child::{Child, Racer};
use clap::Parser;
use latent::Task;
use lethe_kernels::hopfield_energy::Form;
use operation::Operation;
use std::path::{Path, PathBuf};
use table::Row;

/// As in the `lethe` binary: candle gives every result fresh memory, and glibc's returns it to the system each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time and memory of training, sampling and energies.
#[derive(Parser)]
#[command(name = "pace", version)]
struct Arguments {
    /// Cases whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Rounds of every case; by default 7 of training and 3 of what takes longer.
    #[arg(long)]
    rounds: Option<usize>,
    /// Small sizes: whether everything runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// A Python with torch, diffusers, peft and safetensors, to race against.
    #[arg(long, value_name = "PYTHON")]
    peer: Option<PathBuf>,
    /// Threads of each side; by default all cores.
    #[arg(long)]
    threads: Option<usize>,
    /// Runs one case in this process, on orders from standard input.
    #[arg(long, hide = true, requires = "folder")]
    case: Option<String>,
    /// Where both sides of a case find the same weights and the expected results.
    #[arg(long, hide = true)]
    folder: Option<PathBuf>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is timed.
#[derive(Clone, Copy)]
enum Work {
    Train,
    /// So many stages of DDIM.
    Sample(usize),
    Energy(Form),
    /// Stable Diffusion's U-Net.
    Latent(latent::Task, latent::Size),
    /// One operation, forward and backward, so many times.
    Operation(Operation, usize),
    /// The solvable setting in closed form.
    Theory,
}

impl Work {
    /// How the peer does it, one race each: layouts of images, or ways to the same numbers.
    fn peers(self) -> &'static [&'static str] {
        match self {
            Self::Train | Self::Sample(_) => &["nchw", "nhwc"],
            Self::Operation(Operation::Convolution { .. } | Operation::GroupNorm { .. }, _) => {
                &["nchw", "nhwc"]
            }
            Self::Energy(_) | Self::Operation(..) => &["rows"],
            // Where its libraries bring the layout to themselves, one is enough.
            Self::Latent(latent::Task::Load, _) => &["nchw"],
            Self::Latent(..) => &["nchw", "nhwc"],
            Self::Theory => &["expm", "action"],
        }
    }
}

/// One line of the table.
struct Case {
    name: &'static str,
    work: Work,
    /// Network's name and batch, or nothing for energies.
    network: Option<(&'static str, usize)>,
    /// Operations of one round by the products' sizes alone, in 10⁹.
    giga_operations: f64,
    rounds: usize,
}

/// Forward operations of one image, 10⁹: `torch.utils.flop_counter` on the same networks.
const SMALL: f64 = 1.975;
const CIFAR: f64 = 12.14;
/// Of Stable Diffusion v1.5's U-Net at 512x512 and 256x256, and of one of half its widths.
const WHOLE_512: f64 = 803.3;
const WHOLE_256: f64 = 180.1;
const HALF_256: f64 = 47.91;

fn cases() -> Vec<Case> {
    let training = |name, network, batch, each: f64| Case {
        name,
        work: Work::Train,
        network: Some((network, batch)),
        giga_operations: 3. * each * batch as f64,
        rounds: 7,
    };
    let sampling = |name, network, batch, each: f64| Case {
        name,
        work: Work::Sample(50),
        network: Some((network, batch)),
        giga_operations: 50. * each * batch as f64,
        rounds: 3,
    };
    let energy = |name, form| Case {
        name,
        work: Work::Energy(form),
        network: None,
        giga_operations: 2. * 10_000. * 50_000. * 3_072. / 1e9,
        rounds: 3,
    };
    let stable_diffusion = |name, task, (divisor, side, batch), giga_operations| Case {
        name,
        work: Work::Latent(task, latent::Size { divisor, side, batch }),
        network: None,
        giga_operations,
        rounds: 5,
    };
    let mut cases = vec![
        training("train-small-b32", "small", 32, SMALL),
        training("train-cifar-b16", "cifar", 16, CIFAR),
        sampling("sample-small-b16", "small", 16, SMALL),
        sampling("sample-cifar-b4", "cifar", 4, CIFAR),
        energy("energy-dot", Form::Dot),
        energy("energy-distance", Form::Distance),
        stable_diffusion("sd-load", Task::Load, (1, 32, 1), 0.),
        stable_diffusion("sd-forward-512-b1", Task::Forward, (1, 64, 1), WHOLE_512),
        stable_diffusion("sd-lora-256-b1", Task::Lora, (1, 32, 1), 2. * WHOLE_256),
        stable_diffusion("sd-full-half-256-b2", Task::Full, (2, 32, 2), 6. * HALF_256),
        Case {
            name: "theory",
            work: Work::Theory,
            network: None,
            // Fourteen products of Ω with the 13 fixed points for each rotation.
            giga_operations: 2000. * 14. * 2. * 13. * 50. * 50. / 1e9,
            rounds: 7,
        },
    ];
    cases.extend(operations());
    cases
}

/// At the sizes of google/ddpm-cifar10-32 in batches of 16, and of Stable Diffusion v1.5.
fn operations() -> Vec<Case> {
    use Operation::{Attention, Convolution, Geglu, GroupNorm, LayerNorm, Optimizer};
    let all = [
        ("op-conv3", 4, Convolution { batch: 16, side: 32, channels: 128 }),
        ("op-conv3-few", 4, Convolution { batch: 2, side: 8, channels: 640 }),
        ("op-group-norm", 10, GroupNorm { batch: 16, side: 32, channels: 128 }),
        ("op-layer-norm", 10, LayerNorm { tokens: 4096, channels: 320 }),
        ("op-attention", 10, Attention { batch: 16, tokens: 256, heads: 1, depth: 256 }),
        ("op-attention-long", 2, Attention { batch: 1, tokens: 1024, heads: 8, depth: 40 }),
        ("op-geglu", 10, Geglu { tokens: 1024, channels: 1280 }),
        ("op-optimizer", 2, Optimizer { numbers: 35_746_307 }),
    ];
    let case = |(name, times, operation): (&'static str, usize, Operation)| Case {
        name,
        work: Work::Operation(operation, times),
        network: None,
        giga_operations: times as f64 * operation.giga_operations(),
        rounds: 7,
    };
    all.into_iter().map(case).collect()
}

fn main() -> Result<()> {
    lethe::allocator::keep_freed_memory();
    let arguments = Arguments::parse();
    let threads = match arguments.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism()?.get(),
    };
    if arguments.case.as_deref() == Some(yardstick::NAME) {
        return yardstick::serve();
    }
    let chosen: Vec<Case> =
        cases().into_iter().filter(|case| case.name.contains(&arguments.filter)).collect();
    if let Some(name) = &arguments.case {
        let case = chosen.iter().find(|case| case.name == name).context("no such case")?;
        let folder = arguments.folder.as_deref().context("--folder is missing")?;
        return serve(case, folder, arguments.quick);
    }
    if chosen.is_empty() {
        bail!("--filter {}: expected a part of a case's name", arguments.filter);
    }
    let folder = Folder::new()?;
    println!("{}", table::heading(threads, arguments.quick));
    for case in &chosen {
        for row in race(case, &arguments, threads, &folder.0)? {
            println!("{row}");
        }
    }
    Ok(())
}

/// A temporary folder, gone with this value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("lethe-pace-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One case on orders from standard input.
fn serve(case: &Case, folder: &Path, quick: bool) -> Result<()> {
    match (case.work, case.network) {
        (Work::Train, Some((name, batch))) => network::train(name, batch, folder, quick),
        (Work::Sample(stages), Some((name, batch))) => {
            network::sample(name, batch, stages, folder, quick)
        }
        (Work::Latent(task, size), _) => {
            latent::serve(task, if quick { size.quick() } else { size }, folder)
        }
        (Work::Operation(operation, times), _) => match quick {
            true => operation::serve(operation.quick(), 1, folder),
            false => operation::serve(operation, times, folder),
        },
        (Work::Energy(form), _) => energy::serve(form, folder, quick),
        (Work::Theory, _) => theory::serve(folder, quick),
        (_, None) => bail!("{}: a case without a network", case.name),
    }
}

/// All rounds of one case, ours first; a row for ours alone or one for each peer.
fn race(case: &Case, arguments: &Arguments, threads: usize, folder: &Path) -> Result<Vec<Row>> {
    let mut ours =
        Child::start(&Racer::Ours { case: case.name, quick: arguments.quick }, threads, folder)?;
    let mut peers = Vec::new();
    if let Some(python) = &arguments.peer {
        for layout in case.work.peers() {
            let racer = Racer::Peer { python, case: case.name, layout, quick: arguments.quick };
            peers.push((*layout, Child::start(&racer, threads, folder)?));
        }
    }
    let mut yardstick =
        Child::start(&Racer::Ours { case: yardstick::NAME, quick: false }, threads, folder)?;
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 1 } else { case.rounds });
    let (mut yards, mut seconds) = (Vec::new(), vec![Vec::new(); 1 + peers.len()]);
    for _ in 0..rounds {
        yards.push(yardstick::GIGA_OPERATIONS / yardstick.round()?);
        seconds[0].push(ours.round()?);
        for (k, (_, peer)) in peers.iter_mut().enumerate() {
            seconds[k + 1].push(peer.round()?);
        }
    }
    yardstick.finish()?;
    let ours = (seconds.remove(0), ours.finish()?);
    let mut rows = vec![Row::alone(case.name, case.giga_operations, ours, yards)];
    for ((layout, peer), seconds) in peers.into_iter().zip(seconds) {
        let row = rows[0].beside(layout, (seconds, peer.finish()?));
        rows.push(row);
    }
    if rows.len() > 1 {
        rows.remove(0);
    }
    Ok(rows)
}

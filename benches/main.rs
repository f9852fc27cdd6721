//! Time and memory of what takes long, alone or beside PyTorch.
//!
//! Every case runs in a process of its own, so that its peak memory is its own; the peer's as well.
//! A round runs the yardstick, then ours, then each peer, so that all see the same minutes of the machine.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is the product")]

mod child;
mod energy;
mod latent;
mod network;
mod operation;
mod place;
mod table;
mod theory;
mod yardstick;

use anyhow::{Context, Result, bail};
use child::{Child, Racer};
use clap::Parser;
use latent::Task;
use lethe_kernels::hopfield_energy::Form;
use lethe_train::Precision;
use operation::Operation;
use place::Place;
use std::path::{Path, PathBuf};
use table::{Row, Side};

/// As in the `lethe` binary: candle gives every result fresh memory, and glibc's returns it to the system each time.
#[global_allocator]
static ALLOCATOR: lethe::allocator::Allocator = lethe::allocator::Allocator;

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
    /// Of the peer's ways those whose name contains this, such as "eager" or "compile".
    #[arg(long, default_value = "")]
    ways: String,
    /// Leaves there what both sides of each case share, and takes what lies there: ours is not run a second time. On a GPU.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// "cpu", or "cuda" with its own cases.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Where peer.py lies; by default where this program was built.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches"))]
    scripts: PathBuf,
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
    fn peers(self, device: &str) -> &'static [&'static str] {
        match self {
            Self::Operation(Operation::Convolution { .. } | Operation::GroupNorm { .. }, _) => {
                &["nchw", "nhwc"]
            }
            Self::Energy(_) | Self::Operation(..) => &["rows"],
            // Compiling a second time what recomputes would take longer than all rounds.
            Self::Latent(latent::Task::Recomputed, _) => &["eager"],
            Self::Train | Self::Sample(_) | Self::Latent(..) if device != "cpu" => {
                &["eager", "compile"]
            }
            Self::Train | Self::Sample(_) => &["nchw", "nhwc"],
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
    precision: Precision,
}

/// Forward operations of one image, 10⁹: `torch.utils.flop_counter` on the same networks.
const SMALL: f64 = 1.975;
const CIFAR: f64 = 12.14;
/// Of Stable Diffusion v1.5's U-Net at 512x512 and 256x256, and of one of half its widths.
const WHOLE_512: f64 = 803.3;
const WHOLE_256: f64 = 180.1;
const HALF_256: f64 = 47.91;

fn cases(device: &str) -> Vec<Case> {
    let training = |name, network, batch, each: f64| Case {
        name,
        work: Work::Train,
        network: Some((network, batch)),
        giga_operations: 3. * each * batch as f64,
        rounds: 7,
        precision: Precision::F32,
    };
    let sampling = |name, network, batch, each: f64| Case {
        name,
        work: Work::Sample(50),
        network: Some((network, batch)),
        giga_operations: 50. * each * batch as f64,
        rounds: 3,
        precision: Precision::F32,
    };
    let energy = |name, form| Case {
        name,
        work: Work::Energy(form),
        network: None,
        giga_operations: 2. * 10_000. * 50_000. * 3_072. / 1e9,
        rounds: 3,
        precision: Precision::F32,
    };
    let stable_diffusion = |name, task, (divisor, side, batch), giga_operations| Case {
        name,
        work: Work::Latent(task, latent::Size { divisor, side, batch }),
        network: None,
        giga_operations,
        rounds: 5,
        precision: Precision::F32,
    };
    if device != "cpu" {
        let half = |case: Case| Case { precision: Precision::Bf16, ..case };
        let (whole, full) = ((1, 64, 4), 12. * WHOLE_512);
        return vec![
            half(training("train-cifar-b128", "cifar", 128, CIFAR)),
            training("train-cifar-f32-b128", "cifar", 128, CIFAR),
            half(sampling("sample-cifar-b256", "cifar", 256, CIFAR)),
            energy("energy-dot", Form::Dot),
            energy("energy-distance", Form::Distance),
            half(stable_diffusion("sd-full-512-b4", Task::Full, whole, full)),
            half(stable_diffusion("sd-recomputed-512-b4", Task::Recomputed, whole, full)),
        ];
    }
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
            precision: Precision::F32,
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
        precision: Precision::F32,
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
        return yardstick::serve(&Place::named(&arguments.device, Precision::F32)?);
    }
    let cases = cases(&arguments.device).into_iter();
    let chosen: Vec<Case> = cases.filter(|case| case.name.contains(&arguments.filter)).collect();
    if let Some(name) = &arguments.case {
        let case = chosen.iter().find(|case| case.name == name).context("no such case")?;
        let folder = arguments.folder.as_deref().context("--folder is missing")?;
        let place = Place::named(&arguments.device, case.precision)?;
        return serve(&place, case, folder, arguments.quick);
    }
    if chosen.is_empty() {
        bail!("--filter {}: expected a part of a case's name", arguments.filter);
    }
    if arguments.keep.is_some() && arguments.device == "cpu" {
        bail!("--keep: on a processor all sides run in the same minutes, each time anew");
    }
    println!("{}", table::heading(&arguments.device, threads, arguments.quick));
    for case in &chosen {
        let folder = Folder::new(arguments.keep.as_deref(), case.name)?;
        Racing { case, arguments: &arguments, threads, folder: &folder.path }.run()?;
    }
    Ok(())
}

/// What the sides of a case share; gone with this value, unless it is to be kept.
struct Folder {
    path: PathBuf,
    is_kept: bool,
}

impl Folder {
    fn new(keep: Option<&Path>, case: &str) -> Result<Self> {
        let path = match keep {
            Some(keep) => keep.join(case),
            None => std::env::temp_dir().join(format!("lethe-pace-{}", std::process::id())),
        };
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, is_kept: keep.is_some() })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// One case on orders from standard input.
fn serve(place: &Place, case: &Case, folder: &Path, quick: bool) -> Result<()> {
    match (case.work, case.network) {
        (Work::Train, Some((name, batch))) => network::train(place, name, batch, folder, quick),
        (Work::Sample(stages), Some(network)) => {
            network::sample(place, network, stages, folder, quick)
        }
        (Work::Latent(task, size), _) => {
            latent::serve(place, task, if quick { size.quick() } else { size }, folder)
        }
        (Work::Operation(operation, times), _) => match quick {
            true => operation::serve(place, operation.quick(), 1, folder),
            false => operation::serve(place, operation, times, folder),
        },
        (Work::Energy(form), _) => energy::serve(place, form, folder, quick),
        (Work::Theory, _) => theory::serve(place, folder, quick),
        (_, None) => bail!("{}: a case without a network", case.name),
    }
}

/// One case and all who run it.
struct Racing<'a> {
    case: &'a Case,
    arguments: &'a Arguments,
    threads: usize,
    folder: &'a Path,
}

impl Racing<'_> {
    /// Prints a row for ours alone or one for each peer.
    fn run(&self) -> Result<()> {
        match self.arguments.device.as_str() {
            "cpu" => self.together(),
            // A device has the memory for one of them at a time, and gives all the same.
            _ => self.one_by_one(),
        }
    }

    fn ours(&self) -> Racer<'_> {
        Racer::Ours { case: self.case.name, quick: self.arguments.quick }
    }

    /// The ways of the peer, if there is one.
    fn layouts(&self) -> Vec<&'static str> {
        let Arguments { peer, ways, device, .. } = self.arguments;
        let all = peer.iter().flat_map(|_| self.case.work.peers(device));
        all.copied().filter(|way| way.contains(ways.as_str())).collect()
    }

    fn peer(&self, layout: &'static str) -> Racer<'_> {
        let Arguments { peer, scripts, quick, .. } = self.arguments;
        let python = peer.as_deref().unwrap_or(Path::new("python3"));
        Racer::Peer { python, scripts, case: self.case.name, layout, quick: *quick }
    }

    fn start(&self, racer: &Racer) -> Result<Child> {
        Child::start(racer, &self.arguments.device, self.threads, self.folder)
    }

    fn rounds(&self) -> usize {
        let of_case = if self.arguments.quick { 1 } else { self.case.rounds };
        self.arguments.rounds.unwrap_or(of_case)
    }

    fn yardstick(&self) -> Result<Child> {
        self.start(&Racer::Ours { case: yardstick::NAME, quick: false })
    }

    /// The yardstick and every racer once a round.
    fn together(&self) -> Result<()> {
        let layouts = self.layouts();
        let racers = std::iter::once(self.ours()).chain(layouts.iter().map(|way| self.peer(way)));
        let mut children =
            racers.map(|racer| self.start(&racer)).collect::<Result<Vec<Child>>>()?;
        let mut yardstick = self.yardstick()?;
        let (mut yards, mut seconds) = (Vec::new(), vec![Vec::new(); children.len()]);
        for _ in 0..self.rounds() {
            yards.push(yardstick::giga_operations("cpu") / yardstick.round()?);
            for (seconds, child) in seconds.iter_mut().zip(&mut children) {
                seconds.push(child.round()?);
            }
        }
        yardstick.finish()?;
        let mut sides =
            seconds.into_iter().zip(children).map(|(s, child)| Ok((s, child.finish()?)));
        let ours = sides.next().context("nobody ran")??;
        let alone = Row::alone(self.case.name, self.case.giga_operations, ours, yards);
        let sides = sides.collect::<Result<Vec<Side>>>()?;
        if sides.is_empty() {
            println!("{alone}");
        }
        for (way, side) in layouts.iter().zip(sides) {
            println!("{}", alone.beside(way, side));
        }
        Ok(())
    }

    /// All rounds of one racer before the next begins; each is said at once, as the next may take longer than there is time.
    fn one_by_one(&self) -> Result<()> {
        let known = self.folder.join("ours.json");
        let (yards, ours) = match std::fs::read_to_string(&known) {
            Ok(text) => serde_json::from_str(&text).with_context(|| known.display().to_string())?,
            Err(_) => {
                let mut yardstick = self.yardstick()?;
                let device = &self.arguments.device;
                let yards = vec![yardstick::giga_operations(device) / yardstick.round()?];
                yardstick.finish()?;
                // Ours leaves what the peers compare with.
                let found = (yards, self.side(&self.ours())?);
                std::fs::write(&known, serde_json::to_string(&found)?)?;
                found
            }
        };
        let alone = Row::alone(self.case.name, self.case.giga_operations, ours, yards);
        if self.layouts().is_empty() {
            println!("{alone}");
        }
        for way in self.layouts() {
            match self.side(&self.peer(way)) {
                Ok(side) => println!("{}", alone.beside(way, side)),
                Err(error) => eprintln!("{}, {way}: {error:#}", self.case.name),
            }
        }
        Ok(())
    }

    /// All rounds of one racer.
    fn side(&self, racer: &Racer) -> Result<Side> {
        let mut child = self.start(racer)?;
        let seconds = (0..self.rounds()).map(|_| child.round()).collect::<Result<Vec<f64>>>()?;
        Ok((seconds, child.finish()?))
    }
}

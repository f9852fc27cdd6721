//! A protocol met with its data: everything that is decided before the first step.

use crate::dataset::{load_images, of_protocol};
use crate::exit::{Fault, otherwise};
use crate::given;
use crate::interrupt::{Interrupt, heed};
use crate::latent_system::{self, Extent, FEW, Latent};
use crate::make::Making;
use crate::model;
use crate::pipeline::{self, diffusion_of};
use crate::pixel_system;
use crate::prompts::told;
use crate::protocol::{DiffusionSpec, ModelSpec, ProbeSpec, ProtocolSpec, resolved_text};
use crate::select::expect_measured;
use crate::system::System;
use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::Device;
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_continual::{
    Arm, ClassId, ExampleId, LabelledExample, Mixture, ReplayPlan, Split, TaskStream,
};
use lethe_data::{ImageSet, split};
use lethe_diffusion::denoiser::Told;
use lethe_diffusion::schedule::NoiseSchedule;
use lethe_ledger::{ExampleRow, ExampleTable};
use lethe_probe::Examples;
use lethe_train::{Inputs, Pixels, Process, to_tensor};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Everything that a run needs and that does not move.
pub struct Study {
    /// What the protocol says.
    pub spec: ProtocolSpec,
    /// The same as text, every default filled in.
    pub text: String,
    /// The data.
    pub images: ImageSet,
    /// Where they come from, in words.
    pub source: String,
    /// Digest of the data and of the model that is started from; empty in a sketch.
    pub given: Option<String>,
    /// Which examples come in which task.
    pub stream: TaskStream,
    /// What is replayed.
    pub replay: ReplayPlan,
    /// K.
    pub capacity: usize,
    /// How a batch divides.
    pub mixture: Mixture,
    /// The diffusion process.
    pub process: Process,
    /// What is fine-tuned.
    pub system: System,
    /// Where tensors live.
    pub device: Device,
    /// Which examples are measured.
    pub probed: ExampleTable,
}

impl Study {
    /// Checks `spec`, reads its data and builds its network; trains nothing and writes nothing, but for a model that
    /// `[latent.make]` asks for, where `making` says where that may be, and for a cache of latents.
    ///
    /// # Errors
    /// Names the field of the protocol, or the file, that does not fit.
    pub fn prepare(spec: ProtocolSpec, device: Device, making: Option<Place>) -> Result<Self> {
        // What is wrong before anything has moved is wrong with the protocol, unless it says otherwise.
        Self::met(spec, device, making, Extent::Whole).map_err(otherwise(Fault::Usage))
    }

    /// The same to be looked at alone: of a Stable Diffusion model's inputs only those of the first images are made, and
    /// nothing is kept. [`Study::seen`] says which examples may be trained on.
    ///
    /// # Errors
    /// As [`Study::prepare`].
    pub fn sketch(spec: ProtocolSpec, device: Device, making: Option<Place>) -> Result<Self> {
        Self::met(spec, device, making, Extent::Few).map_err(otherwise(Fault::Usage))
    }

    fn met(
        mut spec: ProtocolSpec,
        device: Device,
        making: Option<Place>,
        extent: Extent,
    ) -> Result<Self> {
        validate(&spec)?;
        let plan = spec.stream.validate()?;
        let replay = spec.replay.validate()?;
        replay.arms().iter().try_for_each(|&arm| expect_measured("replay.arms", arm))?;
        let schedule = NoiseSchedule::new(&spec.diffusion.schedule())?;
        expect_timesteps(&spec.probe, &schedule)?;
        let mixture = replay.mixture(spec.training.batch)?;
        let (images, source) = load_images(&spec.data)?;
        if let Some(latent) = spec.latent.take() {
            latent.validate()?;
            spec.latent = Some(told(latent, &images)?);
        }
        let text = resolved_text(&spec)?;
        let stream = task_stream(&spec, &images, &plan.groups(images.classes().len() as u32)?)?;
        let capacity = replay.capacity(&stream)?;
        let probed = probed(&spec, &stream, &images)?;
        let system = system(&spec, &images, &stream, extent, &device, making)?;
        if let Some(path) = &system.pretrained {
            expect_process(&spec.diffusion, &schedule, path)?;
        }
        let parameters = system.declarations.n_elements();
        ensure!(
            parameters <= MOST_PARAMETERS,
            "model: expected at most {MOST_PARAMETERS} parameters, got {parameters}"
        );
        let given = match extent {
            Extent::Whole => given::digest(&system)?,
            // A sketch is never gone on with.
            Extent::Few => None,
        };
        let process = Process {
            schedule,
            parameterization: spec.diffusion.parameterization,
            weighting: spec.training.weighting,
        };
        Ok(Self {
            spec,
            text,
            images,
            source,
            given,
            stream,
            replay,
            capacity,
            mixture,
            process,
            system,
            device,
            probed,
        })
    }

    /// The weights from which task 1 starts.
    ///
    /// # Errors
    /// When pretrained weights do not fit.
    pub fn initial(&self, seed: Seed) -> Result<ParamStore> {
        self.system.initial(seed, &self.device)
    }

    /// What `use_inputs` makes of what networks see of the data: pixels, or latents and texts.
    pub fn with_inputs<R>(&self, use_inputs: impl FnOnce(&dyn Inputs) -> R) -> R {
        match self.system.latent() {
            Some(latent) => use_inputs(latent.inputs()),
            None => use_inputs(&self.pixels()),
        }
    }

    fn pixels(&self) -> Pixels<'_> {
        let is_conditional = self.system.is_conditional();
        Pixels { images: &self.images, is_conditional, device: &self.device }
    }

    /// Height, width and channels of what the network denoises.
    pub fn shape(&self) -> [usize; 3] {
        let pixels = self.images.shape();
        let of_pixels = || [pixels.height, pixels.width, pixels.channels];
        self.system.latent().map_or_else(of_pixels, Latent::shape)
    }

    /// The arms of the protocol.
    pub fn arms(&self) -> &[Arm] {
        self.replay.arms()
    }

    /// Examples as the probe sees them: pixels, or latents.
    ///
    /// # Errors
    /// When an id is not in the data.
    pub fn examples(&self, ids: &[u64]) -> Result<Examples> {
        self.with_inputs(|inputs| {
            Ok(Examples::new(ids.to_vec(), inputs.clean(ids, &[])?, inputs.told(ids)?)?)
        })
    }

    /// The images themselves, whatever the network sees.
    ///
    /// # Errors
    /// When an id is not in the data.
    pub fn pictures(&self, ids: &[u64]) -> Result<Examples> {
        let pixels = to_tensor(&self.images, ids, &[], &Device::Cpu)?;
        Ok(Examples::new(ids.to_vec(), pixels, Told::Nothing)?)
    }

    /// `n` ids, some perhaps several times, whose inputs are there whatever the extent of the study.
    pub fn seen(&self, n: usize) -> Vec<u64> {
        let known = if self.system.latent().is_some() { FEW } else { n };
        let ids = self.images.ids();
        (0..n).map(|i| ids[i % known.clamp(1, ids.len())]).collect()
    }

    /// Ids that are measured once tasks 1 to `task` are learned, in the order of the table.
    pub fn probed_through(&self, task: u32) -> Vec<u64> {
        self.probed.rows().iter().filter(|row| row.task <= task).map(|row| row.id).collect()
    }

    /// Training ids of one task.
    ///
    /// # Errors
    /// When there is no such task.
    pub fn train_ids(&self, task: u32) -> Result<Vec<u64>> {
        Ok(plain(self.stream.task(task)?.train()))
    }

    /// The perplexity of energies is a number of neighbours among the stored patterns: refuses one beyond them.
    ///
    /// # Errors
    /// Names the field.
    pub fn expect_perplexity(&self) -> Result<()> {
        let (n_stored, asked) = (self.train_ids(1)?.len(), self.spec.probe.perplexity);
        let most = n_stored.saturating_sub(1);
        if asked < most as f64 {
            return Ok(());
        }
        Err(Fault::Usage.because(anyhow!(
            "probe.perplexity: expected a number below {most} (task 1 has {n_stored} training images), got {asked} (10 by default)"
        )))
    }

    /// Held-out ids of one task.
    ///
    /// # Errors
    /// When there is no such task.
    pub fn held_out_ids(&self, task: u32) -> Result<Vec<u64>> {
        Ok(plain(self.stream.task(task)?.held_out()))
    }

    /// Number of tasks.
    pub fn n_tasks(&self) -> u32 {
        self.stream.tasks().len() as u32
    }
}

/// Parameters of a network, at most: what needs more is a mistake in `[model]`.
const MOST_PARAMETERS: usize = 1 << 33;

/// Where a model may be made, and who may stop it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
}

/// What `[model]` and `[latent]` say is fine-tuned.
fn system(
    spec: &ProtocolSpec,
    images: &ImageSet,
    stream: &TaskStream,
    extent: Extent,
    device: &Device,
    making: Option<Place>,
) -> Result<System> {
    if spec.latent.is_some() {
        ensure!(
            spec.making().is_some() || spec.model.pretrained.is_some(),
            "{NO_PIPELINE}, got none"
        );
        latent_system::expect_protocol(spec)?;
    }
    let made = made(spec, images, stream, device, making)?;
    let model = located(&spec.model)?;
    let root = made.or_else(|| model.pretrained.as_ref().map(PathBuf::from));
    let pipeline = root.filter(|root| lethe_latent::folder::is_pipeline(root));
    match (pipeline, &spec.latent) {
        (Some(root), latent) => {
            latent_system::expect_protocol(spec)?;
            let latent = told(latent.clone().unwrap_or_default(), images)?;
            let few = (extent == Extent::Few).then(|| images.first(FEW));
            let images = few.as_ref().unwrap_or(images);
            latent_system::build(&root, &model, &latent, images, extent, device)
        }
        (None, Some(_)) => {
            bail!("{NO_PIPELINE}, got {}", spec.model.pretrained.as_deref().unwrap_or("none"))
        }
        (None, None) => pixel_system::build(&model, images),
    }
}

const NO_PIPELINE: &str = "latent: expected model.pretrained to be the folder of a whole Stable Diffusion model, which holds \
                           unet/, vae/, text_encoder/, tokenizer/ and scheduler/";

/// `model`, its `pretrained` being the folder of what may be a single file or an id on the hub.
///
/// # Errors
/// When it cannot be read, unpacked or fetched.
pub fn located(model: &ModelSpec) -> Result<ModelSpec> {
    let Some(name) = &model.pretrained else { return Ok(model.clone()) };
    let path = Path::new(name);
    // Beside a single file, `like` is the folder whose configurations it is read with.
    let (like, others) = if model::is_single_file(path) {
        (model.like.as_deref().map(Path::new), None)
    } else {
        (None, model.like.clone())
    };
    let folder = model::folder_of(path, like).context("model.pretrained")?;
    let folder = pipeline::locate(&folder).context("model.pretrained")?;
    let folder = folder.to_str().context("model.pretrained: expected a path in UTF-8")?.to_string();
    Ok(ModelSpec { pretrained: Some(folder), like: others, ..model.clone() })
}

/// The model that `[latent.make]` asks for, made now or before.
fn made(
    spec: &ProtocolSpec,
    images: &ImageSet,
    stream: &TaskStream,
    device: &Device,
    making: Option<Place>,
) -> Result<Option<PathBuf>> {
    let Some(make) = spec.making() else { return Ok(None) };
    make.validate()?;
    let Some(Place { folder, interrupt }) = making else {
        bail!(
            "latent.make: only `lethe run` makes a model; set model.pretrained to the folder `model` of its run"
        );
    };
    let ids: Vec<u64> = stream.tasks().iter().flat_map(|task| plain(task.train())).collect();
    let seed = Seed(spec.seeds[0]);
    // One process at a time: two would write the same folder.
    let _lock = crate::hold::hold(folder.parent().unwrap_or(folder))?;
    let making = Making { spec: make, diffusion: &spec.diffusion, images, ids: &ids, seed, device };
    let _heeding = heed();
    making.make(folder, interrupt)?;
    interrupt.check()?;
    Ok(Some(folder.to_path_buf()))
}

/// Ids as numbers.
pub fn plain(ids: &[ExampleId]) -> Vec<u64> {
    ids.iter().map(|id| id.0).collect()
}

fn validate(spec: &ProtocolSpec) -> Result<()> {
    let is_file_name = (1..=200).contains(&spec.name.len())
        && !spec.name.starts_with('.')
        && !spec.name.contains(|c: char| c.is_control() || ['/', '\\'].contains(&c));
    ensure!(is_file_name, "name: expected the name of a folder, got {:?}", spec.name);
    ensure!(!spec.seeds.is_empty(), "seeds: expected at least one");
    let distinct: BTreeSet<u64> = spec.seeds.iter().copied().collect();
    ensure!(distinct.len() == spec.seeds.len(), "seeds: expected each once, got {:?}", spec.seeds);
    spec.probe.validate()?;
    Ok(spec.training.validate()?)
}

fn task_stream(
    spec: &ProtocolSpec,
    images: &ImageSet,
    groups: &[Vec<ClassId>],
) -> Result<TaskStream> {
    let parts = split(images, spec.data.held_out).map_err(of_protocol)?;
    let held_out: BTreeSet<u64> = parts.held_out.into_iter().collect();
    let label = |example: lethe_data::Example| LabelledExample {
        id: ExampleId(example.id),
        class: ClassId(example.label),
        split: if held_out.contains(&example.id) { Split::HeldOut } else { Split::Train },
    };
    let examples: Vec<LabelledExample> = images.iter().map(label).collect();
    let stream = TaskStream::new(groups, &examples).with_context(|| {
        format!("stream: over {} classes (data.classes names them)", images.classes().len())
    })?;
    for task in stream.tasks() {
        ensure!(
            task.train().len() > 1,
            "stream.tasks: task {}: expected at least two training examples, an energy being against the others",
            task.number()
        );
    }
    Ok(stream)
}

/// What is measured must be there in the schedule, each level once.
fn expect_timesteps(spec: &ProbeSpec, schedule: &NoiseSchedule) -> Result<()> {
    let total = schedule.timesteps();
    ensure!(
        spec.sample_stages <= total,
        "probe.sample_stages: expected at most diffusion.timesteps = {total}, got {}",
        spec.sample_stages
    );
    for pair in spec.levels.windows(2) {
        let timestep = schedule.timestep_at(pair[1]);
        ensure!(
            schedule.timestep_at(pair[0]) != timestep,
            "probe.levels: {} and {} are one timestep, {}",
            pair[0],
            pair[1],
            timestep.0
        );
    }
    Ok(())
}

/// A network goes on with the process that it was trained for, where its folder says it.
///
/// # Errors
/// When that is not the protocol's.
pub fn expect_process(spec: &DiffusionSpec, schedule: &NoiseSchedule, path: &Path) -> Result<()> {
    let Some(found) = diffusion_of(path)? else { return Ok(()) };
    ensure!(
        NoiseSchedule::new(&found.schedule())? == *schedule
            && found.parameterization == spec.parameterization,
        "diffusion: {} was trained for another process; expected {}",
        path.display(),
        toml::to_string(&found)?.trim_end().replace('\n', ", ")
    );
    Ok(())
}

/// The examples that are measured: of every class of a task equally many, chosen by id alone.
fn probed(spec: &ProtocolSpec, stream: &TaskStream, images: &ImageSet) -> Result<ExampleTable> {
    let mut rows = Vec::new();
    for task in stream.tasks() {
        let parts = [
            (task.train(), spec.probe.train_examples, lethe_ledger::Split::Train),
            (task.held_out(), spec.probe.held_out_examples, lethe_ledger::Split::HeldOut),
        ];
        for (ids, wanted, split) in parts {
            let each = wanted.div_ceil(task.classes().len());
            let mut chosen = Vec::new();
            for class in task.classes() {
                let of_class = |id: &&ExampleId| {
                    images.index_of(id.0).is_some_and(|i| images.label(i) == class.0)
                };
                let mut own: Vec<u64> = ids.iter().filter(of_class).map(|id| id.0).collect();
                own.sort_by_cached_key(|id| *blake3::hash(&id.to_le_bytes()).as_bytes());
                // From the end: the split took the held-out ones from the front of the same order.
                chosen.extend(own.into_iter().rev().take(each).map(|id| (id, class.0)));
            }
            chosen.sort_unstable();
            chosen.truncate(wanted.max(1));
            rows.extend(chosen.into_iter().map(|(id, class)| ExampleRow {
                id,
                class,
                task: task.number(),
                split,
            }));
        }
    }
    Ok(ExampleTable::new(rows)?)
}

//! What a run would take, before it begins: its work counted, its pace measured on a few real steps, its memory and disk.
//!
//! Nothing is kept: a model that `[latent.make]` asks for is made in a temporary folder, of one step.

pub mod machine;
mod pace;
mod room;
mod work;

use crate::exit::Fault;
use crate::interrupt::Interrupt;
use crate::leftover::Leftover;
use crate::make::Making;
use crate::meter::note;
use crate::protocol::{LatentSpec, ProtocolSpec};
use crate::study::{Place, Study, located};
use anyhow::{Result, anyhow};
use candle_core::Device;
use lethe_candlex::rng::Seed;
use lethe_candlex::weights::WeightFile;
use pace::{Pace, Paces};
use room::{Part, part, sum};
use serde::Serialize;
use std::fmt;
use std::path::Path;
use work::Work;

const FIRST: &str = "training, task 1";
const LATER: &str = "training, later tasks";
const CHOICE: &str = "choosing what to replay";
const CURVES: &str = "forgetting curves";
const BOUNDARIES: &str = "boundaries";
const DRAWN: &str = "drawn images";

/// What is not counted, such as energies and writing: the least that an estimate is uncertain by.
const LEAST_SPREAD: f64 = 0.1;

/// What a run would take, and whether it fits.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// Where it would be computed.
    pub device: String,
    /// Time, stage by stage.
    pub time: Vec<Stage>,
    /// Seconds in all; none where the pace could not be measured.
    pub seconds: Option<f64>,
    /// By what share the seconds may be off.
    pub uncertainty: f64,
    /// Memory at the run's peak; without activations where these could not be measured.
    pub memory: Vec<Part>,
    /// Bytes of memory that could be taken, where the system says it.
    pub memory_available: Option<u64>,
    /// What the run leaves on the disk.
    pub disk: Vec<Part>,
    /// Bytes that may still be written there.
    pub disk_available: u64,
    /// What a reader should know of these numbers.
    pub notes: Vec<String>,
    /// What does not fit, and what to change; empty where all fits.
    pub obstacles: Vec<String>,
}

/// One kind of work.
#[derive(Debug, Serialize)]
pub struct Stage {
    /// Its name.
    pub stage: &'static str,
    /// How often.
    pub count: f64,
    /// … of what.
    pub of: &'static str,
    /// Seconds in all.
    pub seconds: f64,
}

/// The plan of a run of `spec` in `folder`.
///
/// # Errors
/// What is wrong with the protocol or its data, as the run itself would say it; when weights alone do not fit.
pub fn plan(
    spec: ProtocolSpec,
    device: Device,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Plan> {
    let (available, program) = (machine::available_memory(), machine::resident());
    let steps = steps_of_making(&spec, folder);
    expect_room_for_weights(&spec, available)?;
    let temporary = crate::whole::temporary()?;
    let _leftover = Leftover::of(temporary.path());
    let inner = if steps > 0 { temporary.path().join("model") } else { folder.join("model") };
    let making = Place { folder: &inner, interrupt };
    let study = Study::sketch(hurried(&spec, steps), device, Some(making))?;
    study.expect_perplexity()?;
    let work = work::count(&study)?;
    let model = if steps > 0 { room::below(&inner) } else { 0 };
    let mut plan = Plan {
        device: crate::device::in_words(&study.device),
        time: Vec::new(),
        seconds: None,
        uncertainty: LEAST_SPREAD,
        memory: room::lasting(&study, &work),
        memory_available: available,
        disk: room::disk(&study, &work, model)?,
        disk_available: machine::free_disk(folder)?,
        notes: crate::remarks::remarks(&study.spec, study.images.classes(), &study.device),
        obstacles: Vec::new(),
    };
    let least = sum(&plan.memory);
    match available {
        Some(available) if study.device.is_cpu() && least > available => plan
            .notes
            .push("nothing was measured: what is known to lie in memory does not fit".to_string()),
        _ => plan.measure(&study, &work, steps, program)?,
    }
    plan.judge(&study, machine::expect_writable(folder).err());
    Ok(plan)
}

/// Steps of making the model that `[latent.make]` asks for; 0 where there is none to be made.
fn steps_of_making(spec: &ProtocolSpec, folder: &Path) -> u64 {
    let is_made = folder.join("model").join(lethe_train::checkpoint::MANIFEST).exists();
    spec.making().filter(|_| !is_made).map_or(0, |make| make.vae_steps)
}

/// The protocol with a model that is made in one step, which has the same size and pace.
fn hurried(spec: &ProtocolSpec, steps: u64) -> ProtocolSpec {
    let mut spec = spec.clone();
    let make = spec.latent.as_mut().and_then(|latent: &mut LatentSpec| latent.make.as_mut());
    if let (Some(make), true) = (make, steps > 0) {
        make.vae_steps = 1;
    }
    spec
}

/// Refuses a pretrained model whose weights alone do not fit into memory, before any is read.
fn expect_room_for_weights(spec: &ProtocolSpec, available: Option<u64>) -> Result<()> {
    let (Some(root), Some(available)) = (located(&spec.model)?.pretrained, available) else {
        return Ok(());
    };
    let mut bytes = 0;
    for part in ["", "unet", "vae", "text_encoder"] {
        let Ok(entries) = std::fs::read_dir(Path::new(&root).join(part)) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|ending| ending == "safetensors") {
                let Ok(file) = WeightFile::open(&path) else { continue };
                let size =
                    |name: &str| file.info(name).map_or(0, |info| info.shape.iter().product());
                bytes += 4 * file.names().map(size).sum::<usize>() as u64;
            }
        }
    }
    if bytes <= available {
        return Ok(());
    }
    Err(Fault::Held.because(anyhow!(
        "does not fit: the weights of {root} take {} of memory, {} are free; take a smaller model or a larger machine",
        self::bytes(bytes),
        self::bytes(available)
    )))
}

/// Of what takes days, the stage that takes most, and what decides it.
fn longest(time: &[Stage]) -> Option<String> {
    const DAY: f64 = 86_400.;
    const FIELDS: [(&str, &str); 6] = [
        (FIRST, "training.steps, training.batch, seeds"),
        (LATER, "training.later_steps, training.batch, replay.arms, seeds"),
        (CHOICE, "data.per_class, probe.draws, replay.arms"),
        (CURVES, "probe.curve_every, probe.curve_examples, probe.draws, probe.stages"),
        (
            BOUNDARIES,
            "probe.train_examples, probe.held_out_examples, probe.stages, probe.draws, probe.bound_points",
        ),
        (DRAWN, "probe.samples, probe.sample_stages"),
    ];
    let whole: f64 = time.iter().map(|stage| stage.seconds).sum();
    let most = time.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
    let (_, fields) = FIELDS.iter().find(|(name, _)| *name == most.stage)?;
    let share = 100. * most.seconds / whole;
    (whole > DAY).then(|| format!("{share:.0} % of the time: {}, by {fields}", most.stage))
}

impl Plan {
    /// Adds what only a trial can say: paces, and memory at the peak.
    fn measure(
        &mut self,
        study: &Study,
        work: &Work,
        steps: u64,
        program: Option<u64>,
    ) -> Result<()> {
        let making = (steps > 0).then(|| making_pace(study)).transpose()?.flatten();
        note("measuring the pace of steps and evaluations");
        let paces = pace::measured(study, self.memory_available)?;
        self.stages(&paces, work);
        if let Some(pace) = making {
            self.time.insert(0, stage("making the model", steps as f64, "steps", pace.each));
        }
        self.seconds = Some(self.time.iter().map(|stage| stage.seconds).sum());
        self.notes.extend(longest(&self.time));
        let [encoding, decoding] = paces.coding.map_or([None; 2], |pair| pair.map(Some));
        let all = [
            ("a training step", Some(paces.step)),
            ("network evaluations", Some(paces.evaluation)),
            ("encoding", encoding),
            ("decoding", decoding),
            ("encoding texts", paces.text),
            ("making the model", making),
        ];
        let known: Vec<(&str, Pace)> =
            all.into_iter().filter_map(|(name, pace)| Some((name, pace?))).collect();
        let spread = |(_, pace): &(&str, Pace)| pace.spread;
        self.uncertainty = known.iter().map(spread).fold(LEAST_SPREAD, f64::max);
        for (name, pace) in known.iter().filter(|(_, pace)| pace.measured < pace.batch) {
            self.notes.push(format!(
                "{name}: measured with {} images and drawn out to {}",
                pace.measured, pace.batch
            ));
        }
        if study.device.is_cpu() {
            self.peak(study, work, program, &known);
        } else {
            self.notes.push(
                "on a GPU, memory is what is known exactly; what a step needs besides was not measured".into(),
            );
        }
        Ok(())
    }

    fn stages(&mut self, paces: &Paces, work: &Work) {
        let [first, later] = work.training;
        let (step, look) = (paces.step.each, paces.evaluation.each);
        let evaluations = "evaluations";
        self.time = vec![
            stage(FIRST, first, "images", step),
            stage(LATER, later, "images", step),
            stage("validation losses", work.validation, evaluations, look),
            stage(CHOICE, work.selection, evaluations, look),
            stage(CURVES, work.curve, evaluations, look),
            stage(BOUNDARIES, work.boundaries, evaluations, look),
            stage(DRAWN, work.samples, evaluations, look),
        ];
        if let (Some([encoding, decoding]), Some(text)) = (paces.coding, paces.text) {
            self.time.insert(0, stage("encoding texts", work.texts, "texts", text.each));
            self.time.insert(0, stage("encoding images", work.encoding, "images", encoding.each));
            self.time.push(stage("decoding latents", work.decoding, "images", decoding.each));
        }
        self.time.retain(|stage| stage.count > 0.);
    }

    /// The peak is the highest of all stages; what is not known exactly of it are activations and the program itself.
    fn peak(&mut self, study: &Study, work: &Work, program: Option<u64>, known: &[(&str, Pace)]) {
        let unseen = room::unseen(study, work);
        let exact = sum(&self.memory);
        let Some(program) = program else {
            self.notes.push(
                "this system does not say what a process holds: activations come on top".into(),
            );
            return;
        };
        let at_rest = program + exact;
        let mut peaks: Vec<(&str, u64)> =
            known.iter().filter_map(|(name, pace)| Some((*name, pace.peak? + unseen))).collect();
        peaks.push(("writing a checkpoint", at_rest + room::merged(study)));
        peaks.push(("a boundary's images", at_rest + room::pictures(study)));
        if let Some((stage, peak)) = peaks.into_iter().max_by_key(|(_, peak)| *peak) {
            let rest = peak.saturating_sub(exact);
            self.memory.push(part(format!("everything else, at the peak: {stage}"), rest));
        }
    }

    fn judge(&mut self, study: &Study, unwritable: Option<anyhow::Error>) {
        self.obstacles.extend(unwritable.map(|error| format!("disk: {error}")));
        let (memory, disk) = (sum(&self.memory), sum(&self.disk));
        let available = self.memory_available.filter(|_| study.device.is_cpu());
        if let Some(available) = available.filter(|&available| memory > available) {
            let (peak, free) = (bytes(memory), bytes(available));
            let remedy = remedy(study);
            self.obstacles.push(format!("memory: {peak} at the peak, {free} are free; {remedy}"));
        }
        if disk > self.disk_available {
            self.obstacles.push(format!(
                "disk: {} are left behind, {} are free; take another disk (--out), fewer replay.arms or fewer seeds",
                bytes(disk),
                bytes(self.disk_available)
            ));
        }
    }

    /// Whether the run fits, in one line.
    pub fn verdict(&self) -> String {
        match self.obstacles.as_slice() {
            [] if self.memory_available.is_none() => {
                "fits the disk; what memory is free is not known".into()
            }
            [] => "fits".into(),
            obstacles => format!("does not fit: {}", obstacles.join("; ")),
        }
    }
}

fn remedy(study: &Study) -> String {
    let mut remedies = vec!["raise training.parts", "lower training.batch or probe.batch"];
    let is_recomputing = study.spec.training.recompute;
    remedies.extend((!is_recomputing).then_some("set training.recompute = true"));
    if let Some(latent) = study.system.latent() {
        let spec = latent.spec();
        remedies.extend(spec.lora.is_none().then_some("train adapters ([latent.lora])"));
    }
    remedies.extend(["take fewer probe.train_examples", "a smaller data.resolution"]);
    remedies.join(", ")
}

/// The pace of making a model, a step at a time.
fn making_pace(study: &Study) -> Result<Option<Pace>> {
    let Some(spec) = study.spec.latent.as_ref().and_then(|latent| latent.make.as_ref()) else {
        return Ok(None);
    };
    let making = Making {
        spec,
        diffusion: &study.spec.diffusion,
        images: &study.images,
        ids: &study.train_ids(1)?,
        seed: Seed(study.spec.seeds[0]),
        device: &study.device,
    };
    let mut trial = making.trial()?;
    let pace = pace::climb(1, None, |_| {
        trial()?;
        Ok(study.device.synchronize()?)
    })?;
    Ok(Some(pace))
}

fn stage(stage: &'static str, count: f64, of: &'static str, each: f64) -> Stage {
    Stage { stage, count, of, seconds: count * each }
}

/// Bytes in words.
pub fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes as f64 / 1024., 0);
    while size >= 1000. && unit + 1 < units.len() {
        (size, unit) = (size / 1024., unit + 1);
    }
    format!("{size:.*} {}", usize::from(size < 100.), units[unit])
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "on {}", self.device)?;
        writeln!(f, "\n{:<58}{:>22}{:>12}", "time", "work", "")?;
        for Stage { stage, count, of, seconds } in &self.time {
            let work = format!("{count:.0} {of}");
            writeln!(f, "  {stage:<56}{work:>22}{:>12}", crate::meter::span(*seconds))?;
        }
        match self.seconds {
            Some(seconds) => {
                let around =
                    |sign: f64| crate::meter::span(seconds * (1. + sign * self.uncertainty));
                let range = format!("{} to {}", around(-1.), around(1.));
                writeln!(f, "  {:<56}{range:>22}{:>12}", "in all", crate::meter::span(seconds))?;
            }
            None => writeln!(f, "  not measured")?,
        }
        let free = self.memory_available.map_or("not known".into(), bytes);
        table(f, "memory", &self.memory, &free)?;
        table(f, "disk", &self.disk, &bytes(self.disk_available))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        write!(f, "{}", self.verdict())
    }
}

fn table(f: &mut fmt::Formatter<'_>, name: &str, parts: &[Part], free: &str) -> fmt::Result {
    writeln!(f, "\n{name}")?;
    for Part { what, bytes } in parts {
        writeln!(f, "  {what:<78}{:>12}", self::bytes(*bytes))?;
    }
    let free = format!("{free} free");
    writeln!(f, "  {:<56}{free:>22}{:>12}", "in all", self::bytes(sum(parts)))
}

#[cfg(test)]
mod tests;

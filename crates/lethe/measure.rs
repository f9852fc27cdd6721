//! What is measured at a moment of an arm, and the images that go with it.

use crate::exit::Fault;
use crate::interrupt::Interrupt;
use crate::learn::Place;
use crate::meter::Meter;
use crate::session::Session;
use crate::sheet::Sheet;
use crate::study::Study;
use crate::system::AnyNetwork;
use anyhow::{Result, anyhow};
use candle_core::Tensor;
use lethe_candlex::params::ParamStore;
use lethe_candlex::rng::Seed;
use lethe_diffusion::denoiser::{Denoiser, NetworkDenoiser, Told};
use lethe_diffusion::guidance::Guided;
use lethe_diffusion::objective::mean_squares;
use lethe_diffusion::sampler::{Ddim, Spacing, walk};
use lethe_ledger::{Quantity, SpriteLayout};
use lethe_probe::bound::Bound;
use lethe_probe::energy::{StoredSet, Temperatures};
use lethe_probe::facts::facts;
use lethe_probe::reconstruction::Reconstruction;
use lethe_probe::{Examples, Moment, Reading};

/// Tiles in a row of a sheet of probed examples, and of drawn samples.
const COLUMNS: usize = 25;
const SAMPLE_COLUMNS: usize = 10;

/// The network of `study` with the numbers of `store`.
pub fn denoiser<'a>(study: &'a Study, store: &'a ParamStore) -> NetworkDenoiser<'a, AnyNetwork> {
    NetworkDenoiser {
        network: &study.system.network,
        store,
        schedule: &study.process.schedule,
        parameterization: study.process.parameterization,
    }
}

/// The training examples of a task, stored in a Hopfield network.
///
/// # Errors
/// When they have no energies: images that are all alike.
pub fn stored_of(study: &Study, task: u32) -> Result<StoredSet> {
    let examples = study.examples(&study.train_ids(task)?)?;
    StoredSet::new(&examples).map_err(|error| {
        let which = format!("{}: the training images of task {task}", study.source);
        Fault::Data.because(anyhow!("{which} have no energies: {error}; are they all alike?"))
    })
}

/// Shows `examples` to `look` in chunks that take some seconds against `stored`, so that a stop is heard.
///
/// # Errors
/// Those of `look`, and when the process was asked to stop.
pub fn by_chunks(
    interrupt: &Interrupt,
    stored: &StoredSet,
    examples: &Examples,
    mut look: impl FnMut(&Examples) -> Result<()>,
) -> Result<()> {
    /// Products of two numbers in a chunk, each taken up to four times: some 10^11 a second on a few processors.
    const WORK: usize = 1 << 34;
    let each = stored.distance().patterns().elem_count().max(1);
    for chunk in examples.chunks((WORK / each).max(1))? {
        interrupt.check()?;
        look(&chunk)?;
    }
    Ok(())
}

/// A probe at work: where readings go, and who is told.
pub struct Measuring<'a> {
    /// The protocol and its data.
    pub study: &'a Study,
    /// The inverse temperatures of the energies.
    pub temperatures: Temperatures,
    /// The repetition's seed: the noise of every measurement follows from it.
    pub seed: Seed,
    /// Who is told.
    pub meter: &'a Meter,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
}

impl Measuring<'_> {
    /// Facts of all probed examples, and their energies against the stored set of every task.
    ///
    /// # Errors
    /// When an example has no direction from a stored mean, or the disk refuses.
    pub fn data(&self, session: &mut Session, run: &str) -> Result<()> {
        let study = self.study;
        let ids = study.probed_through(study.n_tasks());
        let (all, pictures) = (study.examples(&ids)?, study.pictures(&ids)?);
        let at = |learned_through| Moment { run, arm: "data", learned_through, step: 0 };
        append(session, facts(&pictures)?, &at(0))?;
        for task in study.stream.tasks() {
            let stored = stored_of(study, task.number())?;
            append(session, self.energies(&stored, &all)?, &at(task.number()))?;
            let own: Vec<u64> = study
                .probed
                .rows()
                .iter()
                .filter(|row| row.task == task.number())
                .map(|row| row.id)
                .collect();
            let mut nearest = Vec::new();
            by_chunks(self.interrupt, &stored, &study.examples(&own)?, |chunk| {
                join(&mut nearest, vec![stored.nearest(chunk)?]);
                Ok(())
            })?;
            append(session, nearest, &at(0))?;
        }
        self.write_sheet(session, "images/examples.png", pictures.ids(), pictures.pixels())
    }

    /// Everything at the boundary behind a task: what its network knows of all tasks so far, and what it draws.
    ///
    /// `stored`: the examples that the network was last trained on.
    ///
    /// # Errors
    /// When a number is not finite, or the disk refuses.
    pub fn boundary(
        &self,
        session: &mut Session,
        place: &Place,
        step: u64,
        store: &ParamStore,
        stored: &[u64],
    ) -> Result<()> {
        let study = self.study;
        let examples = study.examples(&study.probed_through(place.task))?;
        let moment = Moment { run: &place.run, arm: &place.arm, learned_through: place.task, step };
        if place.task > 1 {
            let stored = StoredSet::new(&study.examples(stored)?)?;
            append(session, self.energies(&stored, &examples)?, &moment)?;
        }
        let denoiser = denoiser(study, store);
        for &level in &study.spec.probe.levels {
            let found = self.reconstruct(&denoiser, &examples, level, &place.label())?;
            append(session, found.0, &moment)?;
            let is_headline = level == study.spec.probe.headline;
            let images = match study.system.latent() {
                Some(latent) => {
                    let decoded = latent.decode(&found.1)?;
                    let pictures = study.pictures(examples.ids())?;
                    append(session, vec![decoded_error(&pictures, &decoded, level)?], &moment)?;
                    decoded
                }
                None => found.1,
            };
            if is_headline {
                let name = sheet_name(place, "reconstruction");
                self.write_sheet(session, &name, examples.ids(), &images)?;
            }
        }
        self.bound(session, &denoiser, &examples, &moment, place)?;
        self.draw(session, &denoiser, place)
    }

    /// The headline's reconstruction error of the curve's examples.
    ///
    /// # Errors
    /// When a number is not finite, or the disk refuses.
    pub fn curve(
        &self,
        session: &mut Session,
        place: &Place,
        step: u64,
        store: &ParamStore,
    ) -> Result<()> {
        let study = self.study;
        let moment = Moment { run: &place.run, arm: &place.arm, learned_through: place.task, step };
        let denoiser = denoiser(study, store);
        let level = study.spec.probe.headline;
        let examples = study.examples(&curve_ids(study))?;
        let label = format!("{} · curve at step {step}", place.label());
        append(session, self.reconstruct(&denoiser, &examples, level, &label)?.0, &moment)
    }

    fn energies(&self, stored: &StoredSet, examples: &Examples) -> Result<Vec<Reading>> {
        let mut readings = Vec::new();
        by_chunks(self.interrupt, stored, examples, |chunk| {
            join(&mut readings, stored.energies(chunk, self.temperatures)?);
            Ok(())
        })?;
        Ok(readings)
    }

    /// (readings, reconstructions), batch by batch so that progress shows and a stop is heard.
    fn reconstruct(
        &self,
        denoiser: &dyn Denoiser,
        examples: &Examples,
        level: f64,
        label: &str,
    ) -> Result<(Vec<Reading>, Tensor)> {
        let probe = &self.study.spec.probe;
        let setting = Reconstruction {
            stages: probe.stages,
            draws: probe.draws,
            batch: probe.batch,
            seed: self.seed,
            stream: "probe reconstruction",
        };
        let (mut readings, mut images): (Vec<Reading>, Vec<Tensor>) = (Vec::new(), Vec::new());
        for chunk in examples.chunks(probe.batch)? {
            self.interrupt.check()?;
            let found =
                setting.measure(denoiser, &chunk, level).map_err(|error| unsound(label, error))?;
            images.push(found.images);
            join(&mut readings, found.readings);
            self.meter.add(
                (chunk.len() * probe.draws * probe.stages) as f64,
                &format!("{label} · measuring at {level}"),
            );
        }
        Ok((readings, Tensor::cat(&images, 0)?))
    }

    fn bound(
        &self,
        session: &mut Session,
        denoiser: &dyn Denoiser,
        examples: &Examples,
        moment: &Moment,
        place: &Place,
    ) -> Result<()> {
        let probe = &self.study.spec.probe;
        if probe.bound_points == 0 {
            return Ok(());
        }
        let setting = Bound {
            points: probe.bound_points,
            pairs: probe.bound_pairs,
            batch: probe.batch,
            seed: self.seed,
        };
        let mut readings = Vec::new();
        for chunk in examples.chunks(probe.batch)? {
            self.interrupt.check()?;
            let reading = setting.measure(denoiser, &chunk);
            let reading = reading.map_err(|error| unsound(&place.label(), error))?;
            join(&mut readings, vec![reading]);
            let work = chunk.len() * 2 * probe.bound_pairs * (probe.bound_points + 1);
            self.meter.add(work as f64, &format!("{} · variational bound", place.label()));
        }
        append(session, readings, moment)
    }

    /// Images that the network draws, the same noise after every task and in every arm.
    fn draw(&self, session: &mut Session, denoiser: &dyn Denoiser, place: &Place) -> Result<()> {
        let (study, probe) = (self.study, &self.study.spec.probe);
        if probe.samples == 0 {
            return Ok(());
        }
        let shape = study.images.shape();
        let mut sheet = Sheet::blank(
            (shape.height, shape.width),
            shape.channels,
            SAMPLE_COLUMNS,
            probe.samples,
        );
        let numbers: Vec<u64> = (0..probe.samples as u64).collect();
        let classes = self.classes_to_draw(place.task, probe.samples)?;
        for (chunk, numbers) in numbers.chunks(probe.batch).enumerate() {
            self.interrupt.check()?;
            let first = chunk * probe.batch;
            let told = self.told(&classes[first..first + numbers.len()]);
            let images = sample(study, denoiser, self.seed, numbers, probe.sample_stages, &told)?;
            sheet.place(&images, &(first..first + numbers.len()).collect::<Vec<_>>())?;
            self.meter.add(
                (numbers.len() * probe.sample_stages) as f64,
                &format!("{} · drawing", place.label()),
            );
        }
        session.drew(&sheet_name(place, "samples"), &sheet.png()?)
    }

    /// What a network is told of images that it draws of `classes`.
    fn told(&self, classes: &[u32]) -> Told {
        let system = &self.study.system;
        match system.latent() {
            Some(latent) => latent.told_classes(classes),
            None if system.is_conditional() => Told::Classes(classes.to_vec()),
            None => Told::Nothing,
        }
    }

    /// The classes learned so far, in turn.
    fn classes_to_draw(&self, task: u32, n: usize) -> Result<Vec<u32>> {
        let mut classes = Vec::new();
        for number in 1..=task {
            classes.extend(self.study.stream.task(number)?.classes().iter().map(|class| class.0));
        }
        Ok((0..n).map(|i| classes[i % classes.len()]).collect())
    }

    fn write_sheet(
        &self,
        session: &mut Session,
        name: &str,
        ids: &[u64],
        images: &Tensor,
    ) -> Result<()> {
        let (shape, table) = (self.study.images.shape(), &self.study.probed);
        let mut sheet =
            Sheet::blank((shape.height, shape.width), shape.channels, COLUMNS, table.rows().len());
        let positions: Vec<usize> = ids.iter().filter_map(|&id| table.position(id)).collect();
        sheet.place(images, &positions)?;
        session.drew(name, &sheet.png()?)
    }
}

/// Images from noise: `numbers` name the noises, of which the same number always gives the same.
///
/// # Errors
/// When shapes do not fit.
pub fn sample(
    study: &Study,
    denoiser: &dyn Denoiser,
    seed: Seed,
    numbers: &[u64],
    stages: usize,
    told: &Told,
) -> Result<Tensor> {
    let noise = seed.stream("samples").normal(0, numbers, &study.shape(), &study.device)?;
    let total = denoiser.schedule().timesteps();
    let Some(latent) = study.system.latent() else {
        let timesteps = Spacing::Leading.timesteps(total, stages, 0);
        let sampler = Ddim { eta: 0., clip: true };
        let condition = told.condition();
        return Ok(walk(&sampler, denoiser, &timesteps, &noise, condition, |_| Ok(noise.clone()))?);
    };
    let guided = Guided { denoiser, nothing: &latent.nothing()?, weight: latent.spec().guidance };
    let latents = latent.ending.walk(&guided, stages, &noise, told.condition())?;
    latent.decode(&latents)
}

/// Mean squared error of decoded reconstructions, each against the image itself: the autoencoder's own error included.
fn decoded_error(pictures: &Examples, decoded: &Tensor, level: f64) -> Result<Reading> {
    let difference = (decoded.to_device(pictures.pixels().device())? - pictures.pixels())?;
    Ok(Reading {
        quantity: Quantity::DecodedError,
        level: Some(level),
        examples: pictures.ids().to_vec(),
        values: mean_squares(&difference)?,
    })
}

/// The training examples of task 1 on the forgetting curve.
pub fn curve_ids(study: &Study) -> Vec<u64> {
    let train = study
        .probed
        .rows()
        .iter()
        .filter(|row| row.task == 1 && row.split == lethe_ledger::Split::Train);
    let ids: Vec<u64> = train.map(|row| row.id).collect();
    let n = study.spec.probe.curve_examples.min(ids.len());
    (0..n).map(|i| ids[i * ids.len() / n]).collect()
}

/// How sheets of probed examples are laid out.
pub fn layout(study: &Study) -> SpriteLayout {
    let shape = study.images.shape();
    SpriteLayout {
        tile_width: shape.width as u32,
        tile_height: shape.height as u32,
        channels: shape.channels as u32,
        columns: COLUMNS as u32,
    }
}

/// 1 for the ids of the buffer, 0 for the other training examples that are measured.
pub fn replayed(study: &Study, task: u32, buffered: &[u64]) -> Reading {
    let rows = study.probed.rows().iter().filter(|row| row.task < task);
    let examples: Vec<u64> = rows.map(|row| row.id).collect();
    let values = examples.iter().map(|id| f64::from(u8::from(buffered.contains(id)))).collect();
    Reading { quantity: Quantity::Replayed, level: None, examples, values }
}

/// Appends readings taken at `moment`.
///
/// # Errors
/// When a number is not finite, or the disk refuses.
pub fn append(session: &mut Session, readings: Vec<Reading>, moment: &Moment) -> Result<()> {
    for reading in readings {
        session.measured(&reading.at(moment))?;
    }
    Ok(())
}

/// A network whose predictions are not finite has diverged, whoever trained it.
fn unsound(label: &str, error: candle_core::Error) -> anyhow::Error {
    let words = error.to_string();
    if !words.contains("not finite") {
        return error.into();
    }
    // Behind the first line candle may show a backtrace.
    let error = words.lines().next().unwrap_or_default();
    Fault::Diverged.because(anyhow!(
        "{label}: {error}: the network has diverged, or its weights are not what they should be; begin anew with a lower \
         training.learning_rate and another --out"
    ))
}

/// Adds a batch's readings to those of the batches before.
fn join(readings: &mut Vec<Reading>, more: Vec<Reading>) {
    if readings.is_empty() {
        *readings = more;
        return;
    }
    for (reading, more) in readings.iter_mut().zip(more) {
        reading.examples.extend(more.examples);
        reading.values.extend(more.values);
    }
}

/// Where a sheet lies in the run's folder.
fn sheet_name(place: &Place, kind: &str) -> String {
    format!("images/{}/{}-task{}-{kind}.png", place.run, place.arm, place.task)
}

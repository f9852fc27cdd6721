//! What an arm keeps of the tasks behind it: the policies' numbers, from the probe.

use crate::coverage::KernelCoverage;
use crate::interrupt::Interrupt;
use crate::learn::words;
use crate::measure::by_chunks;
use crate::meter::Meter;
use crate::study::{Study, plain};
use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor};
use lethe_candlex::rng::Seed;
use lethe_continual::{
    Arm, Balance, Candidate, ClassId, Coverage, Evidence, ExampleId, Features, Needs, Policy,
    ReplayBuffer, SelectionRequest, Selector,
};
use lethe_diffusion::denoiser::Denoiser;
use lethe_hopfield::Representation;
use lethe_probe::Examples;
use lethe_probe::energy::{StoredSet, Temperatures};
use lethe_probe::reconstruction::Reconstruction;
use std::collections::BTreeMap;

/// Old examples whose coverage greedy selection looks at, at most.
const TARGETS: usize = 2_000;

/// Level t/T of the denoising loss that `top-loss` ranks by, and the noises it is averaged over.
const LOSS_LEVELS: [f64; 3] = [0.1, 0.3, 0.5];

/// Everything that a policy may ask for.
pub struct Selecting<'a> {
    /// The protocol and its data.
    pub study: &'a Study,
    /// The policy.
    pub policy: Policy,
    /// The repetition's seed.
    pub seed: Seed,
    /// The inverse temperatures of the energies.
    pub temperatures: Temperatures,
    /// The network as the finished task left it.
    pub denoiser: &'a dyn Denoiser,
    /// Who is told, where many examples pass the network.
    pub meter: &'a Meter,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
}

/// Work of choosing among the examples of task `finished`, in network evaluations of one image.
pub fn selection_work(study: &Study, arm: Arm, finished: u32) -> f64 {
    let Arm::Replay(policy) = arm else { return 0. };
    if policy.needs() != Needs::Loss {
        return 0.;
    }
    let candidates = study.train_ids(finished).map_or(0, |ids| ids.len());
    (candidates * study.spec.probe.draws * LOSS_LEVELS.len()) as f64
}

/// What `arm` selects by must be what a run measures; `field` says where the arm was asked for.
///
/// # Errors
/// When it is not.
pub fn expect_measured(field: &str, arm: Arm) -> Result<()> {
    let Arm::Replay(policy) = arm else { return Ok(()) };
    let wanted = match policy.needs() {
        Needs::Gradients => "the gradient of every single example",
        Needs::Interference => "losses around a virtual step on the next task",
        Needs::Forgetting => "what a pilot run without replay forgot",
        Needs::Nothing
        | Needs::Energy
        | Needs::Loss
        | Needs::NeighbourDistance
        | Needs::Features
        | Needs::Coverage => return Ok(()),
    };
    bail!(
        "{field}: `{policy}` selects by {wanted}, which this run does not measure; \
         it belongs to `lethe mhn images`"
    )
}

impl Selecting<'_> {
    /// What the arm keeps once task `last` is over: `kept`, or nothing, with every task since closed in turn.
    ///
    /// # Errors
    /// When a number that the policy asks for is not finite.
    pub fn through(&self, kept: Option<ReplayBuffer>, last: u32) -> Result<ReplayBuffer> {
        let mut buffer = match kept {
            Some(buffer) => buffer,
            None => ReplayBuffer::new(self.study.capacity)?,
        };
        for finished in buffer.n_finished() + 1..=last {
            buffer
                .finish_task(self.study.stream.task(finished)?, |request| self.choose(&request))?;
        }
        buffer.verify(&self.study.stream)?;
        Ok(buffer)
    }

    fn choose(&self, request: &SelectionRequest) -> Result<Vec<ExampleId>> {
        let ids = plain(request.ids);
        let priorities = self.priorities(&ids, request.task)?;
        let class = |id: u64| {
            self.study.images.index_of(id).map(|index| ClassId(self.study.images.label(index)))
        };
        let mut candidates = Vec::with_capacity(ids.len());
        for (i, &id) in ids.iter().enumerate() {
            let class =
                class(id).with_context(|| format!("example {id} is not in the data set"))?;
            candidates.push(Candidate {
                id: ExampleId(id),
                class,
                priority: priorities.as_ref().map(|p| p[i]),
            });
        }
        let directions = self.directions(&ids)?;
        let coverage = self.coverage(&ids, request.finished)?;
        let evidence = Evidence {
            features: directions.as_ref().map(|directions| directions as &dyn Features),
            coverage: coverage.as_ref().map(|coverage| coverage as &dyn Coverage),
        };
        let balance: Balance = self.study.replay.balance();
        let selector = Selector { policy: self.policy, balance };
        let mut draws = words(self.seed)(request.key());
        Ok(selector.select(&candidates, request.quota, evidence, &mut draws)?)
    }

    /// The number by which the policy ranks, for each id of task `task`.
    fn priorities(&self, ids: &[u64], task: u32) -> Result<Option<Vec<f64>>> {
        let examples = self.study.examples(ids)?;
        let stored = || -> Result<StoredSet> { crate::measure::stored_of(self.study, task) };
        Ok(match self.policy.needs() {
            Needs::Energy => {
                let beta = self.temperatures.distance;
                let energies = |stored: &StoredSet, chunk: &Examples| {
                    stored.distance().leave_one_out(&chunk.vectors()?, chunk.ids(), beta)
                };
                Some(self.asked(&stored()?, &examples, energies)?)
            }
            Needs::NeighbourDistance => {
                let distances =
                    |stored: &StoredSet, chunk: &Examples| Ok(stored.nearest(chunk)?.values);
                Some(self.asked(&stored()?, &examples, distances)?)
            }
            Needs::Loss => Some(self.losses(&examples)?),
            Needs::Nothing | Needs::Features | Needs::Coverage => None,
            // Refused before anything is learned: [`expect_measured`].
            Needs::Gradients | Needs::Interference | Needs::Forgetting => None,
        })
    }

    /// A number for each example, from `stored`.
    fn asked(
        &self,
        stored: &StoredSet,
        examples: &Examples,
        ask: impl Fn(&StoredSet, &Examples) -> candle_core::Result<Vec<f64>>,
    ) -> Result<Vec<f64>> {
        let mut numbers = Vec::with_capacity(examples.len());
        by_chunks(self.interrupt, stored, examples, |chunk| {
            numbers.extend(ask(stored, chunk)?);
            Ok(())
        })?;
        Ok(numbers)
    }

    /// Mean denoising loss over a few levels, under the network that the finished task left.
    fn losses(&self, examples: &Examples) -> Result<Vec<f64>> {
        let probe = &self.study.spec.probe;
        let single = Reconstruction {
            stages: 1,
            draws: probe.draws,
            batch: probe.batch,
            seed: self.seed,
            stream: "selection",
        };
        let mut means = Vec::with_capacity(examples.len());
        for chunk in examples.chunks(probe.batch)? {
            self.interrupt.check()?;
            let mut sums = vec![0.; chunk.len()];
            for level in LOSS_LEVELS {
                let found = single.measure(self.denoiser, &chunk, level)?;
                let losses = &found.readings[1].values;
                sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
            }
            means.extend(sums.iter().map(|sum| sum / LOSS_LEVELS.len() as f64));
            let work = chunk.len() * probe.draws * LOSS_LEVELS.len();
            self.meter.add(work as f64, &format!("{} · choosing what to replay", self.policy));
        }
        Ok(means)
    }

    /// Unit vectors from the candidates' mean: what herding averages and k-center covers.
    fn directions(&self, ids: &[u64]) -> Result<Option<BTreeMap<ExampleId, Vec<f32>>>> {
        if self.policy.needs() != Needs::Features {
            return Ok(None);
        }
        let vectors = self.study.examples(ids)?.vectors()?;
        let stored = lethe_hopfield::HopfieldEnergy::new(Representation::Unit, &vectors, ids)?;
        let rows = stored.patterns().to_dtype(DType::F32)?.to_vec2::<f32>()?;
        Ok(Some(ids.iter().map(|&id| ExampleId(id)).zip(rows).collect()))
    }

    /// What greedy selection needs. It alone looks at the next task's examples, unlabelled, before they are learned:
    /// the gain of a replay is what it gives back of the energy that they take (science: replay gain, F(R)).
    fn coverage(&self, ids: &[u64], finished: u32) -> Result<Option<KernelCoverage>> {
        if self.policy.needs() != Needs::Coverage {
            return Ok(None);
        }
        let study = self.study;
        let step = ids.len().div_ceil(TARGETS).max(1);
        let targets: Vec<u64> = ids.iter().copied().step_by(step).collect();
        let beta = self.temperatures.distance;
        let next = study.examples(&study.train_ids(finished + 1)?)?;
        let new = StoredSet::new(&next)?;
        let (targets, to) = (study.examples(&targets)?, study.examples(ids)?.vectors()?);
        // log Z_new(x) = −β·E(x | new) + log M, the distance form being the mean.
        let energies = self.asked(&new, &targets, |new, chunk| {
            new.distance().full(&chunk.vectors()?, chunk.ids(), beta)
        })?;
        let log_partition =
            energies.iter().map(|energy| (next.len() as f64).ln() - beta * energy).collect();
        Ok(Some(KernelCoverage::new(
            affinities(&targets.vectors()?, &to, beta)?,
            log_partition,
            ids,
        )))
    }
}

/// −β/2 ‖x_k − ξ_r‖², [candidates][targets].
fn affinities(targets: &Tensor, candidates: &Tensor, beta: f64) -> Result<Vec<Vec<f32>>> {
    let norms = |x: &Tensor| -> Result<Tensor> { Ok((x.sqr()?.sum(1)? * 0.5)?) };
    let products = candidates.matmul(&targets.t()?)?; // [candidates, targets]
    let squares = products
        .broadcast_sub(&norms(targets)?)?
        .broadcast_sub(&norms(candidates)?.unsqueeze(1)?)?
        .minimum(0f64)?;
    Ok((squares * beta)?.to_vec2::<f32>()?)
}

//! Endless exact samples of a machine, the same ones for every rotation of it.

use super::batch::{Batch, Source};
use super::machine::{BoltzmannMachine, choose, cumulated};
use super::softmax::{Matrix, multiply};
use crate::error::{Result, refuse};
use lethe_candlex::rng::{Draws, Stream};

/// How far V Vᵀ may be from the identity.
const ORTHOGONAL: f64 = 1e-9;

/// How the samples of one batch hang together; each alone is an exact sample of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// Not at all.
    #[default]
    Independent,
    /// Each unit gets its share of the batch, to one sample, and samples 2i and 2i + 1 lie opposite each other around
    /// theirs: gradients are less noisy, and half the noise is drawn.
    ///
    /// Units by systematic sampling (one uniform number for all strata), noise by antithetic pairs.
    Balanced,
}

/// Batches x ~ p of a machine, or V x: a pure function of (stream, step, place in the batch), and of the batch's size where
/// it is balanced.
///
/// The draws do not depend on V: batches of a rotated task are exactly V times those of the task that it came from,
/// noise included, as far as the product rounds. Arms of one rotation share its stream, so that they differ by what is
/// compared alone; rotations that are to count as independent each have a stream of their own.
#[derive(Clone, Debug)]
pub struct Teacher {
    machine: BoltzmannMachine,
    stream: Stream,
    samples: usize,
    sampling: Sampling,
    /// V, [d, d].
    rotation: Option<Vec<f64>>,
    /// Running sums of π.
    cumulated: Vec<f64>,
}

impl Teacher {
    /// Batches of `samples` samples of `machine`, from the numbers of `stream`.
    ///
    /// # Errors
    /// When `samples` is 0.
    pub fn new(machine: BoltzmannMachine, stream: Stream, samples: usize) -> Result<Self> {
        if samples == 0 {
            return refuse("samples in a batch", "at least one", samples);
        }
        let cumulated = cumulated(&machine.mixture_weights());
        let sampling = Sampling::default();
        Ok(Self { machine, stream, samples, sampling, rotation: None, cumulated })
    }

    /// The same teacher with batches whose samples are each drawn alone, or balanced.
    pub fn sampling(self, sampling: Sampling) -> Self {
        Self { sampling, ..self }
    }

    /// The teacher of V x, with `rotation` V [d, d], row after row; given again, it replaces the former.
    ///
    /// # Errors
    /// When V is not [d, d] or V Vᵀ is further from the identity than 1e-9.
    pub fn rotated(self, rotation: Vec<f64>) -> Result<Self> {
        let d = self.machine.d();
        if rotation.len() != d * d {
            return refuse("rotation", format!("{d} × {d} numbers"), rotation.len());
        }
        let mut gram = vec![0.; d * d];
        let (v, transposed) = (Matrix::rows(&rotation, d), Matrix::transposed(&rotation, d));
        multiply(&mut gram, [0., 1.], v, transposed, [d, d, d]);
        gram.iter_mut().step_by(d + 1).for_each(|diagonal| *diagonal -= 1.);
        if let Some(off) = gram.iter().find(|off| off.is_nan() || off.abs() > ORTHOGONAL) {
            return refuse(
                "rotation",
                "V Vᵀ within 1e-9 of the identity",
                format!("{off:e} off it"),
            );
        }
        Ok(Self { rotation: Some(rotation), ..self })
    }

    /// The machine that is drawn from, before the rotation.
    pub fn machine(&self) -> &BoltzmannMachine {
        &self.machine
    }

    /// Writes the samples of `step` over `x` [samples, d], not rotated.
    fn write(&self, step: u32, x: &mut [f64]) {
        let d = self.machine.d();
        match self.sampling {
            Sampling::Independent => {
                for (index, row) in x.chunks_exact_mut(d).enumerate() {
                    let mut draws = self.stream.at(step, index as u64);
                    let unit = choose(&self.cumulated, draws.uniform());
                    self.machine.sample_around(unit, &mut draws, row);
                }
            }
            Sampling::Balanced => {
                let pairs = self.samples.div_ceil(2) as f64;
                // No sample has this number.
                let shift = self.stream.at(step, u64::MAX).uniform();
                for (index, rows) in x.chunks_mut(2 * d).enumerate() {
                    let unit = choose(&self.cumulated, (index as f64 + shift) / pairs);
                    self.write_pair(unit, &mut self.stream.at(step, index as u64), rows);
                }
            }
        }
    }

    /// Writes a sample of a unit, and the one opposite it where there is room.
    fn write_pair(&self, unit: usize, draws: &mut Draws, rows: &mut [f64]) {
        let (first, second) = rows.split_at_mut(self.machine.d());
        self.machine.sample_around(unit, draws, first);
        let w = self.machine.unit(unit);
        for ((to, x), w) in second.iter_mut().zip(first).zip(w) {
            *to = 2. * w - *x;
        }
    }
}

impl Source for Teacher {
    fn batch(&self, step: u32) -> Result<Batch> {
        let d = self.machine.d();
        let mut batch = Batch::new(vec![0.; self.samples * d], d)?;
        self.rewrite(step, &mut batch)?;
        Ok(batch)
    }

    fn rewrite(&self, step: u32, batch: &mut Batch) -> Result<()> {
        let d = self.machine.d();
        if batch.d() != d || batch.samples().len() != self.samples * d {
            *batch = Batch::new(vec![0.; self.samples * d], d)?;
        }
        batch.rewrite(|samples, scratch| match &self.rotation {
            None => self.write(step, samples),
            Some(v) => {
                self.write(step, scratch);
                let (x, v) = (Matrix::rows(scratch, d), Matrix::transposed(v, d));
                multiply(samples, [0., 1.], x, v, [self.samples, d, d]);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boltzmann::softmax::dot;
    use lethe_candlex::rng::Seed;

    const D: usize = 4;

    fn teacher(samples: usize) -> Teacher {
        let machine =
            BoltzmannMachine::random(3, D, 2., &mut Seed(1).stream("machine").at(0, 0)).unwrap();
        Teacher::new(machine, Seed(2).stream("teacher"), samples).unwrap()
    }

    /// A rotation in each of two planes.
    fn rotation() -> Vec<f64> {
        let [(a, b), (c, d)] = [0.3f64, -1.2].map(f64::sin_cos);
        #[rustfmt::skip]
        let v = vec![b, -a, 0., 0., a, b, 0., 0., 0., 0., d, -c, 0., 0., c, d];
        v
    }

    #[test]
    fn a_sample_depends_on_its_place_alone() {
        let batch =
            |samples: usize, step: u32| teacher(samples).batch(step).unwrap().samples().to_vec();
        assert_eq!(batch(10, 7), batch(50, 7)[..10 * D]);
        assert_ne!(batch(10, 7), batch(10, 8));
        let mut again = teacher(10).batch(3).unwrap();
        teacher(10).rewrite(7, &mut again).unwrap();
        assert_eq!(again.samples(), batch(10, 7));
        // A batch of another shape is replaced.
        let mut other = Batch::new(vec![0.; 3], 1).unwrap();
        teacher(10).rewrite(7, &mut other).unwrap();
        assert_eq!(other.samples(), batch(10, 7));
        // It is the machine's own sample.
        let draws = &mut Seed(2).stream("teacher").at(7, 4);
        assert_eq!(teacher(1).machine().sample(draws), batch(10, 7)[4 * D..5 * D]);
    }

    #[test]
    fn a_rotated_task_sees_the_same_draws_rotated() {
        let v = rotation();
        for sampling in [Sampling::Independent, Sampling::Balanced] {
            let own = teacher(100).sampling(sampling);
            let x = own.batch(5).unwrap();
            let rotated = own.clone().rotated(v.clone()).unwrap().batch(5).unwrap();
            for (x, found) in x.samples().chunks(D).zip(rotated.samples().chunks(D)) {
                for (row, found) in v.chunks(D).zip(found) {
                    assert!((dot(row, x) - found).abs() <= 1e-14);
                }
            }
        }
    }

    #[test]
    fn balanced_batches_are_even_and_have_the_same_moments() {
        let teacher = teacher(60_001).sampling(Sampling::Balanced);
        let batch = teacher.batch(0).unwrap();
        let units: Vec<&[f64]> = teacher.machine().weights().chunks(D).collect();
        let pi = teacher.machine().mixture_weights();
        let mut pairs = [0.; 3];
        for pair in batch.samples().chunks_exact(2 * D) {
            let mean: Vec<f64> = (0..D).map(|i| 0.5 * (pair[i] + pair[i + D])).collect();
            let is_near = |w: &&[f64]| w.iter().zip(&mean).all(|(w, m)| (w - m).abs() <= 1e-14);
            pairs[units.iter().position(is_near).unwrap()] += 1.;
        }
        for (pairs, pi) in pairs.iter().zip(&pi) {
            assert!((pairs - 30_000.5 * pi).abs() <= 2., "{pairs} {pi}");
        }
        // Mean and mean square are those of the mixture.
        let n = 60_001.;
        let mean = batch.samples().chunks(D).map(|x| x[1]).sum::<f64>() / n;
        let square = batch.samples().chunks(D).map(|x| x[1] * x[1]).sum::<f64>() / n;
        let exact = |moment: fn(f64) -> f64| -> f64 {
            units.iter().zip(&pi).map(|(w, pi)| pi * moment(w[1])).sum()
        };
        assert!((mean - exact(|w| w)).abs() <= 4. * (1.5 / n).sqrt());
        assert!((square - exact(|w| w * w) - 0.5).abs() <= 4. * (6. / n).sqrt());
    }

    #[test]
    fn what_is_no_teacher_is_refused() {
        let machine = BoltzmannMachine::new(vec![0.; 2], 2, 1.).unwrap();
        let stream = Seed(1).stream("s");
        assert!(Teacher::new(machine.clone(), stream, 0).is_err());
        let teacher = Teacher::new(machine, stream, 1).unwrap();
        for v in [vec![1.; 4], vec![1.], vec![f64::NAN; 4], vec![1., 0., 0., 1.001]] {
            let error = teacher.clone().rotated(v).unwrap_err().to_string();
            assert!(error.starts_with("rotation"), "{error}");
        }
        assert!(teacher.rotated(vec![0., 1., -1., 0.]).is_ok());
    }
}

//! What the experiments on the solvable setting have in common: geometry, temperature, angles, rotations, seed.

use super::bounds;
use anyhow::{Result, ensure};
use clap::Args;
use lethe_candlex::rng::{Seed, Stream};
use lethe_hopfield::geometry::Equiangular;
use lethe_hopfield::rise::{Rises, energy_rises};
use lethe_hopfield::{Arrival, Network, Recall, Vectors};
use lethe_ledger::statistics::{Bootstrap, Interval, Side};
use std::collections::BTreeSet;

/// The cluster and the outlier, their temperature, and the seed.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Setting {
    /// n, patterns in the equiangular cluster, up to 128
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub cluster: usize,
    /// c, overlap of any two patterns of the cluster, from 0 to below 1
    #[arg(long, value_name = "C", default_value_t = 0.35, allow_negative_numbers = true)]
    pub overlap: f64,
    /// d, at least n + 2, up to 512
    #[arg(long, value_name = "D", default_value_t = 50)]
    pub dimension: usize,
    /// The inverse temperature, in the inverse unit of |x|^2
    #[arg(long, value_name = "BETA", default_value_t = 8., allow_negative_numbers = true)]
    pub inverse_temperature: f64,
    /// The seed from which all rotations follow
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
}

impl Default for Setting {
    /// The paper's geometry and temperature, seed 1.
    fn default() -> Self {
        let Equiangular { cluster, overlap, dimension } = Equiangular::default();
        Self { cluster, overlap, dimension, inverse_temperature: 8., seed: 1 }
    }
}

impl Setting {
    /// Refuses what no experiment can be made of, before anything is computed.
    ///
    /// # Errors
    /// Naming the option.
    pub fn check(&self) -> Result<()> {
        bounds::within("--cluster", self.cluster, 1, bounds::CLUSTER)?;
        bounds::within("--dimension", self.dimension, self.cluster + 2, bounds::DIMENSION)?;
        let Self { overlap, .. } = self;
        ensure!(
            (0. ..1.).contains(overlap),
            "--overlap: expected a number from 0 to below 1, got {overlap:?}"
        );
        bounds::inverse_temperature("--inverse-temperature", self.inverse_temperature)
    }

    /// Whether geometry and temperature are the paper's, so that its replication's figures apply.
    pub fn is_of_the_paper(&self) -> bool {
        self.geometry() == Equiangular::default() && self.inverse_temperature == 8.
    }

    /// The cluster and its outlier.
    pub fn geometry(&self) -> Equiangular {
        Equiangular { cluster: self.cluster, overlap: self.overlap, dimension: self.dimension }
    }

    /// Where Ω comes from.
    pub fn rotations(&self) -> Stream {
        Seed(self.seed).stream("rotations")
    }

    /// Intervals over rotations.
    pub fn bootstrap(&self) -> Bootstrap {
        Bootstrap { seed: self.seed, ..Bootstrap::default() }
    }

    /// The setting in one line.
    pub fn in_words(&self) -> String {
        let Self { cluster, overlap, dimension, inverse_temperature, .. } = self;
        format!("{cluster} + 1 patterns · c {overlap} · d {dimension} · β {inverse_temperature}")
    }
}

/// How far and how often the task turns.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Turns {
    /// Angles eps of the rotations exp(eps Omega); the paper's main text has 0.05, its appendices E and H 0.02
    #[arg(long, value_name = "EPS,..", value_delimiter = ',', default_values_t = [0.05, 0.02], allow_negative_numbers = true)]
    pub angles: Vec<f64>,
    /// Random rotations, at least 2; claims are decided from 30 on
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub rotations: usize,
}

impl Default for Turns {
    /// 2000 rotations by the paper's two angles.
    fn default() -> Self {
        Self { angles: vec![0.05, 0.02], rotations: 2000 }
    }
}

impl Turns {
    /// Refuses what cannot be turned by, or not within a machine's memory.
    ///
    /// # Errors
    /// Naming the option.
    pub fn check(&self, setting: &Setting) -> Result<()> {
        let Self { angles, rotations } = self;
        ensure!(!angles.is_empty(), "--angles: expected at least one");
        angles.iter().try_for_each(|&angle| bounds::angle("--angles", angle))?;
        let distinct: BTreeSet<u64> = angles.iter().map(|angle| angle.to_bits()).collect();
        ensure!(distinct.len() == angles.len(), "--angles: expected each once, got {angles:?}");
        let most = bounds::RISES / (angles.len() * (setting.cluster + 1));
        bounds::within("--rotations", *rotations, 2, most)
    }
}

/// The network of a setting, its fixed points, and their energy rises: what E1 and E2 are made of.
pub struct Turning {
    /// What was asked.
    pub setting: Setting,
    /// Task 1.
    pub network: Network,
    /// Fixed points of task 1, [n + 1, d], in the patterns' order.
    pub points: Vectors,
    /// What the network says at each of them.
    pub recalls: Vec<Recall>,
    /// ΔE of each under every rotation, one entry an angle.
    pub rises: Vec<Rises>,
}

impl Turning {
    /// Measures every rotation at every angle.
    ///
    /// # Errors
    /// When the setting lies outside its domain.
    pub fn measure(setting: &Setting, turns: &Turns) -> Result<Self> {
        let Turns { angles, rotations } = turns;
        setting.check()?;
        turns.check(setting)?;
        let network = Network::new(setting.geometry().patterns()?, setting.inverse_temperature)?;
        let points = network.fixed_points(Arrival::default())?;
        let recalls = points.rows().map(|x| network.recall(x)).collect::<Result<_, _>>()?;
        let stream = setting.rotations();
        let rises = energy_rises(&network, &points, angles, *rotations, stream)?;
        Ok(Self { setting: setting.clone(), network, points, recalls, rises })
    }

    /// Mean ΔE of the cluster in each rotation.
    pub fn cluster_rises(&self, rises: &Rises) -> Vec<f64> {
        let n = self.setting.cluster;
        rises.rotations().map(|rises| rises[..n].iter().sum::<f64>() / n as f64).collect()
    }

    /// ΔE of the outlier in each rotation.
    pub fn outlier_rises(&self, rises: &Rises) -> Vec<f64> {
        rises.of_state(self.setting.cluster)
    }
}

/// Whether an interval lies above zero; undecided where it holds zero.
pub fn is_above(interval: &Interval) -> Option<bool> {
    match interval.side() {
        Side::Above => Some(true),
        Side::Below => Some(false),
        Side::Straddles => None,
    }
}

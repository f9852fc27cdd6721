//! Figures of the public replication of the paper's closed form, for the paper's geometry and temperature.
//!
//! Source: keymen6303-lgtm/memory-replay-lab, `replication_summary.json`: means over 2000 rotations.

use super::family::Family;

/// Means at one angle.
pub struct Reference {
    /// ε.
    pub angle: f64,
    /// ΔE of the outlier, and of the cluster.
    pub rises: [f64; 2],
    /// Net gain of each family, in the order of [`Family::ALL`].
    pub net_gains: [f64; Family::ALL.len()],
}

/// Rotations behind each mean.
pub const ROTATIONS: usize = 2000;

/// What was published, by angle.
pub const REFERENCES: [Reference; 2] = [
    Reference {
        angle: 0.05,
        rises: [0.030_051_2, 0.026_227_3],
        net_gains: [0.015_931_78, 0.013_179_55, 2.477_0e-4, 1.461_8e-5, 1.195_9e-5],
    },
    Reference {
        angle: 0.02,
        rises: [0.004_853_28, 0.004_255_33],
        net_gains: [0.002_446_07, 0.002_041_17, 3.662_8e-5, 2.159_7e-6, 1.733_9e-6],
    },
];

/// The figures at `angle`, where there are any.
pub fn at(angle: f64) -> Option<&'static Reference> {
    REFERENCES.iter().find(|reference| reference.angle == angle)
}

/// How many standard errors of their difference lie between our mean of `values` and a published mean.
///
/// The published mean has the standard error of [`ROTATIONS`] values that vary as ours.
pub fn standard_errors(values: &[f64], published: f64) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.);
    (mean - published) / (variance * (1. / n + 1. / ROTATIONS as f64)).sqrt()
}

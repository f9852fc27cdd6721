//! What replaying patterns gains: how much of an old state's energy rise it takes back.
//!
//! Law, at a state x whose association to the replayed pattern ξ_r was p_r and whose energy rose by ΔE:
//! G_r(x) = E(x | X_new) − E(x | X_new ∪ {ξ_r}) (the paper's eq. 13) = (1/β) log(1 + p_r e^{βΔE}) (eq. 14),
//! as Z_old/Z_new = e^{βΔE} at a fixed x. Without a change of task the same copy would gain G⁰ = (1/β) log(1 + p_r);
//! the net gain G − G⁰ is ρ ΔE to first order, ρ = p_r/(1 + p_r): replay susceptibility times energy rise.
//! It is convex in ΔE, hence never below its first order where ΔE ≥ 0.
//! For a set R with masses a_r, p_r becomes Σ_r a_r p_r; Σ_x G_R(x) is monotone and submodular in R, which is what the
//! policy `greedy` of the room `continual` rests on.

use crate::error::Result;
use crate::network::Network;

/// G: the gain from replaying association `p`, in all, where the energy rose by `rise` (eq. 14).
///
/// A rise of 0 gives G⁰, the gain of the copy alone.
pub fn gain(p: f64, rise: f64, inverse_temperature: f64) -> f64 {
    let logit = p.ln() + inverse_temperature * rise;
    // log(1 + e^l), whatever the size of l.
    (logit.max(0.) + (-logit.abs()).exp().ln_1p()) / inverse_temperature
}

/// G − G⁰ = (1/β) log(1 + ρ (e^{βΔE} − 1)), as a function of the susceptibility ρ: what replay gains because the task
/// changed, where the energy rose by `rise`.
pub fn net_gain(rise: f64, inverse_temperature: f64) -> impl Fn(f64) -> f64 {
    let growth = (inverse_temperature * rise).exp_m1();
    move |susceptibility| {
        // One logarithm: at small rises the difference of two would cancel.
        if growth.is_finite() {
            (susceptibility * growth).ln_1p() / inverse_temperature
        } else {
            // 1 is nothing beside e^{βΔE}.
            susceptibility.ln() / inverse_temperature + rise
        }
    }
}

/// ρ = p/(1 + p): net gain for each unit of energy rise, to first order.
pub fn susceptibility(p: f64) -> f64 {
    p / (1. + p)
}

/// G by adding the pattern and asking again (eq. 13): the definition, at any state `x` [d].
///
/// # Errors
/// When the state or the pattern does not fit.
pub fn gain_by_adding(new: &Network, pattern: &[f64], x: &[f64]) -> Result<f64> {
    Ok(new.energy(x)? - new.with_pattern(pattern)?.energy(x)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed_point::Arrival;
    use crate::geometry::Equiangular;
    use crate::rotation::Generator;
    use lethe_candlex::rng::Seed;

    #[test]
    fn adding_a_pattern_and_the_logarithm_agree() {
        let old = Network::new(Equiangular::default().patterns().unwrap(), 8.).unwrap();
        let points = old.fixed_points(Arrival::default()).unwrap();
        for (example, angle) in [(0, 0.02), (1, 0.05), (2, 0.2), (3, 3.)] {
            let generator = Generator::draw(50, &mut Seed(2).stream("rotations").at(0, example));
            let turned = generator.rotate(&[angle], old.patterns()).unwrap().remove(0);
            let new = Network::new(turned, 8.).unwrap();
            for x in points.rows() {
                let recall = old.recall(x).unwrap();
                let rise = new.energy(x).unwrap() - recall.energy;
                for (p, pattern) in recall.association.iter().zip(old.patterns().rows()) {
                    let added = gain_by_adding(&new, pattern, x).unwrap();
                    assert!((added - gain(*p, rise, 8.)).abs() <= 1e-12, "{angle}");
                    let net = gain(*p, rise, 8.) - gain(*p, 0., 8.);
                    assert!((net - net_gain(rise, 8.)(susceptibility(*p))).abs() <= 1e-14);
                    assert!(
                        rise < 0.
                            || net_gain(rise, 8.)(susceptibility(*p)) >= susceptibility(*p) * rise
                    );
                }
            }
        }
    }

    /// The limits in which a naive logarithm fails.
    #[test]
    fn gains_are_numbers_at_any_size() {
        assert_eq!(gain(0., 1., 8.), 0.);
        assert!((gain(0.5, 1000., 8.) - (1000. + 0.5f64.ln() / 8.)).abs() <= 1e-9);
        assert!((net_gain(1000., 8.)(1. / 3.) - (1000. + (1f64 / 3.).ln() / 8.)).abs() <= 1e-9);
        assert!(
            (net_gain(1e-3, 8.)(1e-300) / (1e-300 * 8e-3_f64.exp_m1() / 8.) - 1.).abs() <= 1e-12
        );
        assert_eq!(gain(0.5, -1e6, 8.), 0.);
        // Finite differences in the rise give the susceptibility at 0.
        let slope = (net_gain(1e-6, 8.)(0.3) - net_gain(-1e-6, 8.)(0.3)) / 2e-6;
        assert!((slope - 0.3).abs() <= 1e-9);
    }

    #[test]
    fn the_gain_of_sets_is_monotone_and_submodular() {
        let (targets, sources, beta) = (6, 7, 4.);
        for trial in 0..20 {
            let mut draws = Seed(3).stream("sets").at(0, trial);
            let p: Vec<f64> =
                (0..targets * sources).map(|_| draws.uniform() / sources as f64).collect();
            let rises: Vec<f64> = (0..targets).map(|_| 0.5 * draws.uniform() - 0.1).collect();
            let of_set = |set: u32| -> f64 {
                let sum = |row: &[f64]| -> f64 {
                    (0..sources).filter(|s| set >> s & 1 == 1).map(|s| row[s]).sum()
                };
                p.chunks_exact(sources)
                    .zip(&rises)
                    .map(|(row, rise)| gain(sum(row), *rise, beta))
                    .sum()
            };
            for small in 0..1u32 << sources {
                let large = small | draws.below(1 << sources);
                for added in (0..sources).map(|s| 1 << s).filter(|added| large & added == 0) {
                    let (first, later) = (
                        of_set(small | added) - of_set(small),
                        of_set(large | added) - of_set(large),
                    );
                    assert!(later >= 0. && first >= later - 1e-12, "{first} {later}");
                }
            }
        }
    }
}

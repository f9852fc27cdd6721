//! Examples that pull the network in different directions (`gradient-diversity`).

use super::{
    Candidate, Evidence, Group, SelectionPolicy,
    feature::{dot, first_maximum, gather, norm_squared, required},
    k_center::farthest_first,
};
use crate::{ContinualError, ExampleId, draws::Draws, error::Result};

/// Greedy gradient-based selection: always adds the member whose largest cosine to the gradients of
/// the kept ones is smallest; equal cosines go to the lower id.
///
/// It starts with the member whose gradient lies nearest to the mean direction,
/// argmax of u . mean u for the unit gradients u.
/// As ||a - b||^2 = 2 - 2 cos(a, b), the choice is [`KCenter`](super::KCenter) over directions.
///
/// Source: Aljundi et al. 2019, "Gradient based sample selection for online continual learning",
/// section 3.4 (GSS-Greedy).
/// Unlike there, where a stream passes once and chance decides who gives way, the whole group is at
/// hand: cosines are to all of the kept ones and nothing is random.
#[derive(Debug, Clone, Copy)]
pub struct GradientDiversity;

impl SelectionPolicy for GradientDiversity {
    fn select(
        &self,
        groups: &[Group],
        evidence: Evidence<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Vec<ExampleId>> {
        let needed = "the gradient of every example as its features";
        let gradients = required(evidence.features, "gradient-diversity", needed)?;
        let mut kept = Vec::new();
        for group in groups {
            let g = gather(gradients, &group.members)?;
            let norms = norms(&g, &group.members)?;
            kept.extend(diverse(&g, &norms, group.quota).into_iter().map(|i| group.members[i].id));
        }
        Ok(kept)
    }
}

/// ||g|| of every member, above zero.
fn norms(g: &[&[f32]], members: &[Candidate]) -> Result<Vec<f64>> {
    let norms: Vec<f64> = g.iter().map(|g| norm_squared(g).sqrt()).collect();
    match norms.iter().position(|&norm| norm == 0.0) {
        Some(i) => Err(ContinualError::Feature {
            example: members[i].id,
            expected: "a gradient with a direction".to_owned(),
            got: "zeros".to_owned(),
        }),
        None => Ok(norms),
    }
}

/// Indices into `g` in order of choice.
fn diverse(g: &[&[f32]], norms: &[f64], quota: usize) -> Vec<usize> {
    let unit = |i: usize| g[i].iter().map(|&x| f64::from(x) / norms[i]).collect::<Vec<_>>();
    // -cos grows with the angle, and loses nothing where 1 - cos would round.
    let from =
        |u: &[f64]| g.iter().zip(norms).map(|(g, norm)| -dot(u, g) / norm).collect::<Vec<_>>();
    let mut sum = vec![0.0; g.first().map_or(0, |g| g.len())];
    for i in 0..g.len() {
        sum.iter_mut().zip(unit(i)).for_each(|(sum, u)| *sum += u);
    }
    let first = first_maximum(from(&sum).iter().map(|opposed| -opposed));
    farthest_first(g.len(), quota, first, |kept| from(&unit(kept)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ClassId;

    fn choose(g: &[Vec<f32>], quota: usize) -> Result<Vec<usize>> {
        let slices: Vec<&[f32]> = g.iter().map(Vec::as_slice).collect();
        let member = |i| Candidate { id: ExampleId(i), class: ClassId(0), priority: None };
        let members: Vec<Candidate> = (0..g.len() as u64).map(member).collect();
        Ok(diverse(&slices, &norms(&slices, &members)?, quota))
    }

    /// The definition of a cosine.
    fn cosine(a: &[f64], b: &[f32]) -> f64 {
        let product: f64 = a.iter().zip(b).map(|(&a, &b)| a * f64::from(b)).sum();
        let norm_of_a = a.iter().map(|a| a.powi(2)).sum::<f64>().sqrt();
        product / norm_of_a / b.iter().map(|&b| f64::from(b).powi(2)).sum::<f64>().sqrt()
    }

    fn wide(a: &[f32]) -> Vec<f64> {
        a.iter().map(|&x| f64::from(x)).collect()
    }

    /// The largest cosine of x to those of `kept`.
    fn nearest(g: &[Vec<f32>], kept: &[usize], x: usize) -> f64 {
        kept.iter().map(|&k| cosine(&wide(&g[k]), &g[x])).fold(f64::NEG_INFINITY, f64::max)
    }

    fn gradients() -> impl Strategy<Value = Vec<Vec<f32>>> {
        (1_usize..20).prop_flat_map(|d| {
            let gradient = prop::collection::vec(-10.0_f32..10.0, d);
            let has_direction = |g: &Vec<f32>| g.iter().any(|x| x.abs() > 1e-3);
            prop::collection::vec(gradient.prop_filter("zeros", has_direction), 1..14)
        })
    }

    #[test]
    fn the_typical_comes_first_then_its_opposite_then_what_is_across() {
        let g = [vec![1.0, 0.1], vec![3.0, 0.0], vec![0.0, 0.2], vec![-1.0, 0.0], vec![2.0, -0.2]];
        assert_eq!(choose(&g, 3).unwrap(), [0, 3, 2]);
    }

    #[test]
    fn equal_cosines_go_to_the_lower_id() {
        assert_eq!(choose(&vec![vec![1.0, 1.0]; 4], 3).unwrap(), [0, 1, 2]);
        // Directions that cancel have no mean: every start is as good.
        let g = [vec![0.0, 1.0], vec![0.0, -2.0], vec![4.0, 0.0], vec![-8.0, 0.0]];
        assert_eq!(choose(&g, 4).unwrap(), [0, 1, 2, 3]);
        assert!(choose(&g, 0).unwrap().is_empty() && choose(&[], 0).unwrap().is_empty());
    }

    #[test]
    fn a_gradient_without_direction_is_refused_by_name() {
        let error = choose(&[vec![1.0, 0.0], vec![0.0, -0.0]], 1).unwrap_err().to_string();
        assert_eq!(error, "example 1: expected a gradient with a direction, got zeros");
        // As small as numbers come, and a direction still.
        assert_eq!(choose(&[vec![f32::from_bits(1), 0.0], vec![0.0, 3e38]], 2).unwrap(), [0, 1]);
    }

    proptest! {
        #![proptest_config(crate::draws::tests::repeatable())]

        #[test]
        fn every_choice_is_the_argmin_of_the_definition(g in gradients(), quota in 1_usize..8) {
            let chosen = choose(&g, quota)?;
            prop_assert_eq!(chosen.len(), quota.min(g.len()));
            let mut mean = vec![0.0; g[0].len()];
            for g in &g {
                let norm = wide(g).iter().map(|x| x.powi(2)).sum::<f64>().sqrt();
                mean.iter_mut().zip(wide(g)).for_each(|(mean, x)| *mean += x / norm);
            }
            // Directions that cancel leave a mean of rounding errors, to which anything is near.
            if mean.iter().any(|x| x.abs() > 1e-6) {
                let most = g.iter().map(|g| cosine(&mean, g)).fold(f64::NEG_INFINITY, f64::max);
                prop_assert!(most - cosine(&mean, &g[chosen[0]]) <= 1e-8);
            }
            for k in 1..chosen.len() {
                let left = (0..g.len()).filter(|i| !chosen[..k].contains(i));
                let least = left.map(|x| nearest(&g, &chosen[..k], x)).fold(f64::INFINITY, f64::min);
                // Two members may tie up to rounding.
                prop_assert!(nearest(&g, &chosen[..k], chosen[k]) - least <= 1e-12);
                prop_assert!(!chosen[..k].contains(&chosen[k]));
            }
        }

        #[test]
        fn lengths_do_not_matter(
            g in gradients(), exponents in prop::collection::vec(-20_i32..20, 14), quota in 1_usize..8,
        ) {
            // Powers of two leave every rounding as it is.
            let scaled: Vec<Vec<f32>> = (g.iter().zip(&exponents))
                .map(|(g, &e)| g.iter().map(|x| x * 2_f32.powi(e)).collect())
                .collect();
            prop_assert_eq!(choose(&scaled, quota)?, choose(&g, quota)?);
        }
    }
}

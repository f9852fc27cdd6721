//! The streamed sums against the reference, at the edges of blocks and of floating point.

use super::*;
use crate::testing::{f32 as narrow, filled};

fn question(form: Form, beta: f64) -> Question<'static> {
    Question {
        form,
        inverse_temperature: beta,
        masses: None,
        left_out: None,
        wanted: Wanted::Retrieved,
    }
}

/// |a − b| / (1 + |b|), largest over queries, of energy, entropy and retrieved.
fn errors(queries: &Tensor, patterns: &Tensor, question: &Question) -> [f64; 3] {
    let answer = energy(queries, patterns, question).unwrap();
    let exact = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let (x, xi) =
        (exact(queries).to_vec2::<f64>().unwrap(), exact(patterns).flatten_all().unwrap());
    let xi = xi.to_vec1::<f64>().unwrap();
    let retrieved = answer.retrieved.unwrap().to_vec2::<f64>().unwrap();
    let mut worst = [0f64; 3];
    for (i, x) in x.iter().enumerate() {
        let left_out = question.left_out.and_then(|left_out| left_out[i]);
        let (energy, entropy, row) = reference::energy(x, &xi, left_out, question);
        let off = |a: f64, b: f64| (a - b).abs() / (1. + b.abs());
        let rows = row.iter().zip(&retrieved[i]).map(|(a, b)| off(*a, *b));
        let found = [
            off(answer.energy[i], energy),
            off(answer.entropy[i], entropy),
            rows.fold(0., nan_max),
        ];
        for (worst, found) in worst.iter_mut().zip(found) {
            *worst = nan_max(*worst, found);
        }
    }
    worst
}

fn nan_max(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

#[test]
fn streamed_sums_equal_the_law() {
    // Patterns just beyond one and two blocks, queries too.
    for (n, m, d) in [(1, 1, 1), (3, 2, 5), (1025, 37, 3), (7, 1025, 4), (5, 2100, 6)] {
        let (queries, patterns) = (filled(&[n, d], 1), filled(&[m, d], 2));
        let masses: Vec<f64> = (0..m).map(|mu| 10f64.powi(mu as i32 % 7 - 3)).collect();
        for form in [Form::Dot, Form::Distance] {
            for beta in [1e-4, 0.1, 1., 8., 100.] {
                let plain = question(form, beta);
                let weighted = Question { masses: Some(&masses), ..plain };
                for question in [&plain, &weighted] {
                    let worst = errors(&queries, &patterns, question);
                    // The reference itself takes the logarithm of a mean near 1 and divides it by β.
                    let tolerance = 1e-12f64.max(4e-15 / beta);
                    assert!(
                        worst.iter().all(|&worst| worst <= tolerance),
                        "{n} {m} {d} {form:?} {beta}: {worst:?}"
                    );
                    let worst = errors(&narrow(&queries), &narrow(&patterns), question);
                    let tolerance = if beta < 1e-3 { 4e-4 } else { 1e-5 };
                    assert!(
                        worst.iter().all(|&worst| worst <= tolerance),
                        "{n} {m} {d} {form:?} {beta}: {worst:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn leaving_one_out_forgets_exactly_it() {
    let patterns = filled(&[40, 3], 1);
    let left_out: Vec<Option<usize>> = (0..40).map(|i| (i % 3 != 0).then_some(i)).collect();
    for form in [Form::Dot, Form::Distance] {
        let question = Question { left_out: Some(&left_out), ..question(form, 5.) };
        assert!(errors(&patterns, &patterns, &question).iter().all(|&worst| worst <= 1e-12));
    }
}

#[test]
fn duplicates_are_masses() {
    let (queries, patterns) = (filled(&[5, 4], 1), filled(&[3, 4], 2));
    let doubled = Tensor::cat(&[&patterns, &patterns.narrow(0, 1, 1).unwrap()], 0).unwrap();
    for form in [Form::Dot, Form::Distance] {
        let masses = [1., 2., 1.];
        let question = question(form, 3.);
        let twice = energy(&queries, &doubled, &question).unwrap().energy;
        let heavy = energy(&queries, &patterns, &Question { masses: Some(&masses), ..question })
            .unwrap()
            .energy;
        assert!(twice.iter().zip(heavy).all(|(a, b)| (a - b).abs() <= 1e-13));
    }
}

#[test]
fn extreme_logits_and_masses_stay_finite() {
    let (queries, patterns) =
        ((filled(&[6, 4], 1) * 100.).unwrap(), (filled(&[9, 4], 2) * 100.).unwrap());
    let masses: Vec<f64> = (0..9).map(|mu| 10f64.powi(3 * mu - 12)).collect();
    for form in [Form::Dot, Form::Distance] {
        for beta in [1e-9, 1., 1e6] {
            let question = Question { masses: Some(&masses), ..question(form, beta) };
            let worst = errors(&queries, &patterns, &question);
            assert!(worst.iter().all(|&worst| worst <= 1e-6), "{form:?} {beta} {worst:?}");
        }
    }
}

#[test]
fn near_pairs_far_from_the_origin_keep_their_digits() {
    let patterns = (filled(&[20, 6], 1) + 100.).unwrap();
    let queries = (&patterns + (filled(&[20, 6], 2) * 1e-3).unwrap()).unwrap();
    for beta in [1., 100., 1e4] {
        let worst = errors(&narrow(&queries), &narrow(&patterns), &question(Form::Distance, beta));
        assert!(worst[0] <= 1e-12 && worst[1] <= 1e-12, "{beta}: {worst:?}");
    }
}

#[test]
fn nan_shows_in_its_own_query_alone() {
    let patterns = filled(&[9, 4], 2);
    let mut rows = filled(&[3, 4], 1).to_vec2::<f64>().unwrap();
    rows[1][2] = f64::NAN;
    let queries = Tensor::new(rows, &Device::Cpu).unwrap();
    for form in [Form::Dot, Form::Distance] {
        let energy = energy(&queries, &patterns, &question(form, 1.)).unwrap().energy;
        assert!(
            energy[0].is_finite() && energy[1].is_nan() && energy[2].is_finite(),
            "{form:?} {energy:?}"
        );
    }
}

#[test]
fn impossible_questions_are_refused_in_words() {
    let patterns = filled(&[3, 4], 2);
    let fault =
        |question: &Question| energy(&patterns, &patterns, question).unwrap_err().to_string();
    for beta in [0., -1., f64::INFINITY, f64::NAN] {
        assert!(fault(&question(Form::Dot, beta)).contains("inverse temperature"));
    }
    let masses = [1., 0., 1.];
    assert!(
        fault(&Question { masses: Some(&masses), ..question(Form::Dot, 1.) })
            .contains("got 0 for pattern 1")
    );
    let one = filled(&[1, 4], 1);
    let left_out = [Some(0)];
    let alone = Question { left_out: Some(&left_out), ..question(Form::Dot, 1.) };
    assert!(energy(&one, &one, &alone).unwrap_err().to_string().contains("only pattern"));
    assert!(energy(&filled(&[2, 3], 1), &patterns, &question(Form::Dot, 1.)).is_err());
}

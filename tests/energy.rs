//! Hopfield energies, retrieval and temperatures against values in 50 digits, and the laws that they obey.

use crate::golden::{Tensors, absolute, distance, largest, numbers};
use candle_core::{DType, Device, Tensor};
use lethe::candlex::rng::Seed;
use lethe::hopfield::{HopfieldEnergy, Representation, nearest_neighbour_distance, temperature};
use lethe::kernels::hopfield_energy::{Answer, Form, Question, Wanted, energy};

const BETAS: [f64; 5] = [1e-4, 0.1, 1., 8., 100.];

fn golden() -> Tensors {
    Tensors::open("hopfield.safetensors")
}

/// Tolerance of an energy: the logarithm of a mean near 1 is divided by β.
fn tolerance(form: &str, beta: f64, dtype: DType) -> f64 {
    match (dtype, form) {
        (DType::F64, _) => 1e-12,
        (_, "distance") if beta < 1e-3 => 4e-4,
        _ => 4e-6,
    }
}

/// max |a − b| / (1 + |b|).
fn off(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    largest(found.iter().zip(expected).map(|(a, b)| (a - b).abs() / (1. + b.abs())))
}

/// Centred on the mean of `patterns`, of length one.
fn directions(vectors: &Tensor, patterns: &Tensor) -> Tensor {
    let centred = vectors.broadcast_sub(&patterns.mean_keepdim(0).unwrap()).unwrap();
    let lengths = centred.sqr().unwrap().sum_keepdim(1).unwrap().sqrt().unwrap();
    centred.broadcast_div(&lengths).unwrap()
}

/// Entropy in nats of each row of [n, m].
fn entropies(softmax: &Tensor) -> Vec<f64> {
    let nats = |p: &f64| if *p > 0. { -p * p.ln() } else { 0. };
    softmax.to_vec2::<f64>().unwrap().iter().map(|row| row.iter().map(nats).sum()).collect()
}

/// What is asked under one name of the file.
struct Asked<'a> {
    name: String,
    form: &'static str,
    beta: f64,
    masses: Option<&'a [f64]>,
    leave_one_out: bool,
}

fn asked(masses: &[f64]) -> Vec<Asked<'_>> {
    let mut all = Vec::new();
    for form in ["dot", "distance", "unit"] {
        for beta in BETAS {
            for (heavy, masses) in [("", None), (".masses", Some(masses))] {
                for (out, leave_one_out) in [("", false), (".leave_one_out", true)] {
                    let name = format!("{form}.beta{beta}{heavy}{out}");
                    all.push(Asked { name, form, beta, masses, leave_one_out });
                }
            }
        }
    }
    all
}

/// The answer of the kernel, and the queries that it was asked about in their own precision.
fn answer(golden: &mut Tensors, asked: &Asked, dtype: DType) -> (Answer, Tensor) {
    let (queries, patterns) = (golden.get("queries"), golden.get("patterns"));
    let n = queries.dim(0).unwrap();
    let queries = if asked.leave_one_out { patterns.narrow(0, 0, n).unwrap() } else { queries };
    let (queries, patterns) = match asked.form {
        "unit" => (directions(&queries, &patterns), directions(&patterns, &patterns)),
        _ => (queries, patterns),
    };
    let cast = |x: &Tensor| x.to_dtype(dtype).unwrap().contiguous().unwrap();
    let own: Vec<Option<usize>> = (0..n).map(Some).collect();
    let question = Question {
        form: if asked.form == "distance" { Form::Distance } else { Form::Dot },
        inverse_temperature: asked.beta,
        masses: asked.masses,
        left_out: asked.leave_one_out.then_some(own.as_slice()),
        wanted: Wanted::Retrieved,
    };
    (energy(&cast(&queries), &cast(&patterns), &question).unwrap(), queries)
}

#[test]
fn the_kernel_equals_fifty_digits() {
    let mut golden = golden();
    let masses = golden.numbers("masses");
    let mut seen = 0;
    for asked in asked(&masses) {
        let name = &asked.name;
        let Some(expected) = golden.find(&format!("{name}.energy")) else { continue };
        seen += 1;
        let retrieved = golden.get(&format!("{name}.retrieved"));
        let gradient = golden.find(&format!("{name}.gradient"));
        let softmax = golden.find(&format!("{name}.softmax"));
        for dtype in [DType::F64, DType::F32] {
            let (answer, queries) = answer(&mut golden, &asked, dtype);
            let error = off(&answer.energy, &numbers(&expected));
            let bound = tolerance(asked.form, asked.beta, dtype);
            assert!(error <= bound, "{name} in {dtype:?}: the energy is off by {error:e}");
            let bound = if dtype == DType::F64 { 1e-12 } else { 5e-6 };
            let found = answer.retrieved.unwrap();
            let error = distance(&found, &retrieved);
            assert!(error <= bound, "{name} in {dtype:?}: retrieved is off by {error:e}");
            if let Some(gradient) = &gradient {
                let error = distance(&(queries - found).unwrap(), gradient);
                assert!(error <= bound, "{name} in {dtype:?}: the gradient is off by {error:e}");
            }
            if let Some(softmax) = &softmax {
                let error = off(&answer.entropy, &entropies(softmax));
                assert!(error <= bound, "{name} in {dtype:?}: the entropy is off by {error:e}");
            }
        }
    }
    let names = golden.names();
    assert_eq!(seen, names.iter().filter(|name| name.ends_with(".energy")).count());
}

const REPRESENTATIONS: [(&str, Representation); 2] =
    [("distance", Representation::Distance), ("unit", Representation::Unit)];

fn stored(representation: Representation, golden: &mut Tensors, dtype: DType) -> HopfieldEnergy {
    let patterns = golden.get("patterns").to_dtype(dtype).unwrap();
    let ids: Vec<u64> = (0..patterns.dim(0).unwrap() as u64).collect();
    HopfieldEnergy::new(representation, &patterns, &ids).unwrap()
}

#[test]
fn a_stored_set_answers_with_the_same_energies() {
    let mut golden = golden();
    for (form, representation) in REPRESENTATIONS {
        for dtype in [DType::F64, DType::F32] {
            let stored = stored(representation, &mut golden, dtype);
            let queries = golden.get("queries").to_dtype(dtype).unwrap();
            let n = queries.dim(0).unwrap();
            let own = golden.get("patterns").narrow(0, 0, n).unwrap().to_dtype(dtype).unwrap();
            let (ids, strangers): (Vec<u64>, Vec<u64>) =
                (0..n as u64).map(|i| (i, 1000 + i)).unzip();
            for beta in BETAS {
                let full = stored.full(&queries, &strangers, beta).unwrap();
                let out = stored.leave_one_out(&own, &ids, beta).unwrap();
                for (found, variant) in [(full, ""), (out, ".leave_one_out")] {
                    let name = format!("{form}.beta{beta}{variant}.energy");
                    let error = off(&found, &golden.numbers(&name));
                    let bound = tolerance(form, beta, dtype);
                    assert!(error <= bound, "{name} in {dtype:?} is off by {error:e}");
                }
            }
        }
    }
}

#[test]
fn perplexities_and_the_temperature_of_ten_neighbours_are_exact() {
    let mut golden = golden();
    for (form, representation) in REPRESENTATIONS {
        let stored = stored(representation, &mut golden, DType::F64);
        let patterns = stored.patterns();
        let own: Vec<Option<usize>> = (0..patterns.dim(0).unwrap()).map(Some).collect();
        let perplexities = |beta| -> Vec<f64> {
            let question = Question {
                form: stored.form(),
                inverse_temperature: beta,
                masses: None,
                left_out: Some(&own),
                wanted: Wanted::Energy,
            };
            energy(patterns, patterns, &question).unwrap().entropy.iter().map(|h| h.exp()).collect()
        };
        let found: Vec<f64> = BETAS.into_iter().flat_map(perplexities).collect();
        let error = off(&found, &golden.numbers(&format!("perplexity.{form}")));
        assert!(error <= 1e-12, "perplexities in the {form} form are off by {error:e}");
        let expected = golden.number(&format!("perplexity10.{form}.beta"));
        let beta = temperature::at_perplexity(&stored, 10.).unwrap();
        let error = (beta / expected - 1.).abs();
        assert!(error <= 1e-9, "the temperature in the {form} form is off by {error:e}");
        let error = off(&perplexities(expected), &golden.numbers(&format!("perplexity10.{form}")));
        assert!(error <= 1e-12, "perplexities at ten in the {form} form are off by {error:e}");
    }
}

#[test]
fn the_distance_form_lies_between_its_two_limits() {
    let mut golden = golden();
    let stored = stored(Representation::Distance, &mut golden, DType::F64);
    let nearest = golden.numbers("limit.large_beta.leave_one_out");
    let mean = golden.numbers("limit.small_beta.leave_one_out");
    let n = nearest.len();
    let (own, ids) =
        (golden.get("patterns").narrow(0, 0, n).unwrap(), (0..n as u64).collect::<Vec<_>>());
    let found = nearest_neighbour_distance(&stored, &own, &ids).unwrap();
    let halves: Vec<f64> = found.iter().map(|d| 0.5 * d * d).collect();
    assert!(off(&halves, &nearest) <= 1e-11, "{:e}", off(&halves, &nearest));
    let others = (stored.patterns().dim(0).unwrap() - 1) as f64;
    for beta in BETAS {
        let energies = stored.leave_one_out(&own, &ids, beta).unwrap();
        for ((energy, nearest), mean) in energies.iter().zip(&nearest).zip(&mean) {
            let slack = 1e-12 * mean;
            assert!(*energy >= nearest - slack && *energy <= nearest + others.ln() / beta + slack);
            // Jensen: the logarithm of a mean is above the mean of logarithms.
            assert!(*energy <= mean + slack, "{energy} {mean} {beta}");
        }
    }
}

fn ask(form: Form, beta: f64, queries: &Tensor, patterns: &Tensor) -> Answer {
    let question = Question {
        form,
        inverse_temperature: beta,
        masses: None,
        left_out: None,
        wanted: Wanted::Retrieved,
    };
    energy(queries, patterns, &question).unwrap()
}

/// Retrieval is a step of the concave-convex procedure (dot) or of mean shift (distance).
#[test]
fn retrieval_lowers_the_energy_until_it_stands() {
    let mut golden = golden();
    let (start, patterns) = (golden.get("queries"), golden.get("patterns"));
    for form in [Form::Dot, Form::Distance] {
        for beta in BETAS {
            let mut queries = start.clone();
            let mut before = ask(form, beta, &queries, &patterns);
            for _ in 0..20 {
                let retrieved = before.retrieved.unwrap();
                let after = ask(form, beta, &retrieved, &patterns);
                let moved =
                    numbers(&(&retrieved - &queries).unwrap().sqr().unwrap().sum(1).unwrap());
                for ((after, before), moved) in after.energy.iter().zip(&before.energy).zip(&moved)
                {
                    // Both forms: E(x) − E(F(x)) ≥ ½‖x − F(x)‖².
                    let slack = 1e-12 * (1. + before.abs()) * (1. + 1. / beta);
                    assert!(
                        before - after >= 0.5 * moved - slack,
                        "{form:?} {beta}: {before} {after} {moved}"
                    );
                }
                (queries, before) = (retrieved, after);
            }
        }
    }
}

/// An orthogonal matrix [d, d]: the product of reflections at random hyperplanes.
fn orthogonal(d: usize) -> Tensor {
    let mut product = Tensor::eye(d, DType::F64, &Device::Cpu).unwrap();
    for k in 0..d as u64 {
        let draw = Seed(1).stream("reflections").normal(0, &[k], &[d], &Device::Cpu).unwrap();
        let normal = draw.to_dtype(DType::F64).unwrap(); // [1, d]
        let square = normal.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        let outer = normal.t().unwrap().matmul(&normal).unwrap();
        let reflected = product.matmul(&(outer * (2. / square)).unwrap()).unwrap();
        product = (product - reflected).unwrap();
    }
    product
}

/// E(x | VΞ) = E(Vᵀx | Ξ): what a rotated task does to an old query.
#[test]
fn rotating_the_patterns_is_rotating_the_query_back() {
    let mut golden = golden();
    let (queries, patterns) = (golden.get("queries"), golden.get("patterns"));
    let v = orthogonal(patterns.dim(1).unwrap());
    let identity = v.matmul(&v.t().unwrap()).unwrap();
    assert!(absolute(&identity, &Tensor::eye(12, DType::F64, &Device::Cpu).unwrap()) <= 1e-14);
    let rotated = patterns.matmul(&v.t().unwrap()).unwrap(); // rows V ξ
    let back = queries.matmul(&v).unwrap(); // rows Vᵀ x
    for form in [Form::Dot, Form::Distance] {
        for beta in BETAS {
            let (new, old) =
                (ask(form, beta, &queries, &rotated), ask(form, beta, &back, &patterns));
            assert!(off(&new.energy, &old.energy) <= 1e-12 * (1. + 1. / beta), "{form:?} {beta}");
            let forth = old.retrieved.unwrap().matmul(&v.t().unwrap()).unwrap();
            assert!(distance(&new.retrieved.unwrap(), &forth) <= 1e-11, "{form:?} {beta}");
            // And the rotation matters: without it the energies differ.
            let plain = ask(form, beta, &queries, &patterns);
            assert!(off(&plain.energy, &new.energy) >= 1e-3, "{form:?} {beta}");
        }
    }
}

//! The Boltzmann machine whose energy is the modern Hopfield network's: exact density, samples, training.
//!
//! Law, with hidden units w_μ, μ = 1..k, biases c_μ (0 unless given) and inverse temperature β:
//! E(x) = ½‖x‖² − (1/β) log Σ_μ e^{β w_μ·x + c_μ}, p(x) = e^{−βE(x)} / Z,
//! log Z = (d/2) log(2π/β) + log Σ_μ e^{½β‖w_μ‖² + c_μ}.
//! Completing the square, p(x) = Σ_μ π_μ N(x; w_μ, I/β) with π = softmax(½β‖w_μ‖² + c_μ): a mixture of Gaussians whose
//! weights are tied to the norms, or free where there are biases. Sampling, density and conditionals are exact.
//! Gradient of the mean of −log p: −β⟨r_μ(x) x⟩ + β π_μ w_μ for w_μ and −⟨r_μ(x)⟩ + π_μ for c_μ, r(x) = softmax(β w_μ·x + c_μ).
//! Source: Ota & Karakida 2023, "Attention in a family of Boltzmann machines emerging from modern Hopfield networks",
//! eqs. for AttnBM. Unlike there, β is explicit and the visible biases are 0.
//!
//! Where the patterns themselves are the data, a machine at small β forgets them (its likelihood is higher with fewer
//! distinct units); with endless samples of [`Teacher`] it finds them again, from a random start too, though with as
//! many units as patterns about one start in twenty misses one: train several on the same draws and keep the best.
//!
//! [`Teacher`] draws batches from a machine, [`train`] learns from them by Adam, [`descend`] fits a fixed set by L-BFGS.
//! All numbers are 64-bit; each machine is trained on one thread, so that no result depends on how many there are:
//! many machines are trained by a parallel loop outside.

mod adam;
mod batch;
mod lbfgs;
mod loss;
mod machine;
mod softmax;
mod teacher;

pub use adam::{Learner, Portion, Recipe, train};
pub use batch::{Batch, Source};
pub use lbfgs::{Descent, Fit, Stop, descend};
pub use loss::Gradient;
pub use machine::BoltzmannMachine;
pub use teacher::{Sampling, Teacher};

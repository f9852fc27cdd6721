//! Laws that cross rooms.
//!
//! - `architecture`: which room may know which, and which may not know candle.
//! - `boltzmann`: the Boltzmann machine in 50 digits, and claim B1 in machines that were trained.
//! - `bound`: the variational bound, term by term, against an exact denoiser.
//! - `canary`: the faults of candle around which the house is built, each shown to be there still.
//! - `cuda`: a CUDA device beside the processor, where there is one.
//! - `datasets`: idx files beside candle-datasets' reader.
//! - `determinism`: same seed, same bytes, in another process and on any number of threads.
//! - `energy`: Hopfield energies and retrieval against values in 50 digits, and the laws that they obey.
//! - `golden`: reading golden files, and the distances in which tolerances are stated.
//! - `gradient`: every trainable name receives the gradient that a difference quotient finds.
//! - `hub`: models by id, from a server in the test: fetched, checked, and never looked for where none may be.
//! - `lab`: the theory lab's verbs end to end: tables that agree, same bytes, refusals.
//! - `latent`: the same in latents: a model is made, fine-tuned whole and by adapters, drawn from, and refused in words.
//! - `manifests`: networks declare exactly the parameters that models/ names.
//! - `optimizer`: AdamW, clipping and moving averages against torch.
//! - `parity`: networks against golden tensors from the Python originals.
//! - `precision`: training in bfloat16 beside 32 bits.
//! - `river`: the real binary end to end: killed and taken up again to the same bytes, refused in words.
//! - `sampler`: stages and walks of DDIM and DDPM against diffusers.
//! - `schedule`: noise schedules, timesteps, weights and conversions against golden tables.
//! - `single_file`: Stable Diffusion in one file, unpacked to the very tensors, used directly, and refused in words.
//! - `theory`: the closed form of the modern Hopfield network in 50 digits, and the claims that rest on it.
//! - `trust`: whether a run is whole, file by file; and what an edited protocol may do.
//! - `tidy`: lengths, headers, names, words, and the size of the house.

mod architecture;
mod boltzmann;
mod bound;
mod canary;
mod cuda;
#[cfg(feature = "hub")]
mod datasets;
mod determinism;
mod energy;
mod golden;
mod gradient;
#[cfg(feature = "hub")]
mod hub;
mod lab;
mod latent;
mod manifests;
mod optimizer;
mod parity;
mod precision;
mod river;
mod sampler;
mod schedule;
mod single_file;
mod theory;
mod tidy;
mod trust;

//! Lethe: what a diffusion model forgets when it is fine-tuned on one task after another.
//!
//! The facade: the rooms of the house under one roof, and what the commands of `lethe` are made of.
//! [`protocol`] → [`study`] → [`run`] is the main river; each of its reaches is a module of its own.

pub mod allocator;
pub mod alone;
pub mod cache;
pub mod changes;
pub mod check;
pub mod coverage;
pub mod dataset;
pub mod destination;
pub mod device;
pub mod doctor;
pub mod exit;
pub mod given;
pub mod hold;
pub mod hub;
pub mod interrupt;
pub mod lab;
pub mod latent_system;
pub mod learn;
pub mod leftover;
pub mod make;
pub mod measure;
pub mod meter;
pub mod model;
pub mod painter;
pub mod pipeline;
pub mod pixel_system;
pub mod plan;
pub mod progress;
pub mod prompts;
pub mod protocol;
pub mod provenance;
pub mod published;
pub mod random;
pub mod remarks;
pub mod run;
pub mod select;
pub mod session;
pub mod sheet;
pub mod study;
pub mod system;
pub mod text_reader;
pub mod unpack;
pub mod verify;
pub mod whole;

pub use lethe_candlex as candlex;
pub use lethe_continual as continual;
pub use lethe_data as data;
pub use lethe_diffusion as diffusion;
pub use lethe_hopfield as hopfield;
pub use lethe_kernels as kernels;
pub use lethe_latent as latent;
pub use lethe_layers as layers;
pub use lethe_ledger as ledger;
pub use lethe_models as models;
pub use lethe_pixel as pixel;
pub use lethe_probe as probe;
pub use lethe_report as report;
pub use lethe_train as train;
pub use lethe_vector as vector;

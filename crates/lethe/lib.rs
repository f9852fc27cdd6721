//! Lethe: what a diffusion model forgets when it is fine-tuned on one task after another.
//!
//! The facade: the rooms of the house under one roof, and the commands that `lethe` runs.

pub mod verify;

pub use lethe_candlex as candlex;
pub use lethe_continual as continual;
pub use lethe_data as data;
pub use lethe_diffusion as diffusion;
pub use lethe_hopfield as hopfield;
pub use lethe_kernels as kernels;
pub use lethe_layers as layers;
pub use lethe_ledger as ledger;
pub use lethe_models as models;
pub use lethe_pixel as pixel;
pub use lethe_probe as probe;
pub use lethe_report as report;
pub use lethe_train as train;

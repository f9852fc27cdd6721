//! Noise schedules, parameterizations, the denoiser trait, objectives and samplers.

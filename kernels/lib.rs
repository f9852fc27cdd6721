//! Fused operations: law, slow reference, fast version.

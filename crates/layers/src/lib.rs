//! Differentiable building blocks under the names that checkpoints use.

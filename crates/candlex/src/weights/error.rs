//! What can be wrong with a file of weights, and in which words it is said.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong with one tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The network has it, the files do not; the nearest name among those that nobody claims.
    Missing {
        /// Name in the network.
        name: String,
        /// Nearest unclaimed name in the files.
        nearest: Option<String>,
    },
    /// The files have it, the network does not.
    Unexpected {
        /// Name in the file.
        name: String,
    },
    /// Another shape than the network's.
    Shape {
        /// Its name.
        name: String,
        /// The network's shape.
        expected: Vec<usize>,
        /// The file's shape.
        got: Vec<usize>,
    },
    /// Another type than its neighbours', or one that weights do not have.
    Type {
        /// Its name.
        name: String,
        /// The type of the file's other tensors.
        expected: String,
        /// Its own.
        got: String,
    },
    /// A number that is not finite.
    NotFinite {
        /// Its name.
        name: String,
        /// Index of the first such number.
        index: Vec<usize>,
        /// The number.
        value: f64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, nearest: Some(nearest) } => {
                write!(f, "missing: `{name}` (nearest unclaimed name: `{nearest}`)")
            }
            Self::Missing { name, nearest: None } => write!(f, "missing: `{name}`"),
            Self::Unexpected { name } => write!(f, "unexpected: `{}`", name.escape_debug()),
            Self::Shape { name, expected, got } => {
                let mut reversed = got.clone();
                reversed.reverse();
                let hint = if &reversed == expected { " (transposed?)" } else { "" };
                write!(f, "shape of `{name}`: expected {expected:?}, got {got:?}{hint}")
            }
            Self::Type { name, expected, got } => {
                write!(f, "type of `{name}`: expected {expected}, got {got}")
            }
            Self::NotFinite { name, index, value } => {
                write!(f, "not finite: `{name}` at {index:?} is {value:e}")
            }
        }
    }
}

/// Why weights were not read or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
    /// The file is not a whole safetensors file.
    #[error("{}: not a whole safetensors file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A tensor that was asked for is not there.
    #[error("{}: no tensor `{name}`; it has {}", path.display(), list(names))]
    NoTensor {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        names: Vec<String>,
    },
    /// The tensors are not those of the network.
    #[error("{}: {} of {expected} tensors do not fit:\n{}", path.display(), faults.len(), lines(faults))]
    Faults {
        /// The file, or the first of several.
        path: PathBuf,
        /// Tensors that the network has.
        expected: usize,
        /// All that is wrong.
        faults: Vec<Fault>,
    },
    /// A tensor cannot be held or written.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
}

const SHOWN: usize = 20;

fn lines(faults: &[Fault]) -> String {
    let mut lines: Vec<String> =
        faults.iter().take(SHOWN).map(|fault| format!("  {fault}")).collect();
    if faults.len() > SHOWN {
        lines.push(format!("  … and {} more", faults.len() - SHOWN));
    }
    lines.join("\n")
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        names if names.len() > SHOWN => {
            format!("{} … ({} in all)", names[..SHOWN].join(", "), names.len())
        }
        names => names.join(", "),
    }
}

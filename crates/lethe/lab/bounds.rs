//! What a command line may ask of the lab: sizes that fit a machine, numbers that are some, each refused by its option.

use anyhow::{Result, ensure};
use std::fmt::Debug;

/// Patterns of a cluster: the eigenvalues of as many matrices of as many rows are taken.
pub const CLUSTER: usize = 128;
/// Dimensions.
pub const DIMENSION: usize = 512;
/// Energy rises, each a row of a table: a gigabyte.
pub const RISES: usize = 5_000_000;
/// Places of a map, each a cell of a figure.
pub const PLACES: usize = 2500;
/// Numbers of a matrix that is held: half a gigabyte, of which training needs some four.
pub const NUMBERS: usize = 1 << 26;

/// Refuses a `value` outside `least` to `most`.
///
/// # Errors
/// Naming the option.
pub fn within<T: PartialOrd + Debug>(option: &str, value: T, least: T, most: T) -> Result<()> {
    ensure!(
        value >= least && value <= most,
        "{option}: expected {}, got {value:?}",
        if value < least { format!("at least {least:?}") } else { format!("at most {most:?}") }
    );
    Ok(())
}

/// Refuses an inverse temperature that is none, or at which energies overflow.
///
/// # Errors
/// Naming the option.
pub fn inverse_temperature(option: &str, beta: f64) -> Result<()> {
    ensure!(
        (1e-9..=1e9).contains(&beta),
        "{option}: expected a positive number from 1e-9 to 1e9, got {beta:?}"
    );
    Ok(())
}

/// Refuses an angle that is no number, or a thousand times those of the paper.
///
/// # Errors
/// Naming the option.
pub fn angle(option: &str, angle: f64) -> Result<()> {
    ensure!(angle.abs() <= 100., "{option}: expected numbers from -100 to 100, got {angle:?}");
    Ok(())
}

/// Refuses a learning rate that is none.
///
/// # Errors
/// Naming the option.
pub fn learning_rate(rate: f64) -> Result<()> {
    ensure!(
        rate > 0. && rate.is_finite(),
        "--learning-rate: expected a positive, finite number, got {rate:?}"
    );
    Ok(())
}

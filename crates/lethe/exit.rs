//! How a command ends: exit codes that a scheduler can act on.

use lethe_data::DataError;
use lethe_train::TrainError;
use std::fmt;
use std::io::Write;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 64: the command line or the protocol asks for something impossible.
    Usage,
    /// 65: data that are not what they should be.
    Data,
    /// 66: an input that is not there.
    Missing,
    /// 70: a fault of the program itself.
    Bug,
    /// 71: the machine refused memory or threads.
    Memory,
    /// 73: the result cannot be created, or another process holds the run.
    Held,
    /// 74: the disk or the device refused.
    Disk,
    /// 75: interrupted; the same command goes on.
    Interrupted,
    /// 76: a number that is not finite.
    Diverged,
    /// 77: something is not as it was written.
    Untrustworthy,
}

impl Fault {
    /// The exit code, after BSD's sysexits where it has one.
    pub fn code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Data => 65,
            Self::Missing => 66,
            Self::Bug => 70,
            Self::Memory => 71,
            Self::Held => 73,
            Self::Disk => 74,
            Self::Interrupted => 75,
            Self::Diverged => 76,
            Self::Untrustworthy => 77,
        }
    }

    /// `error`, as a failure of this kind.
    pub fn because(self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        let error = error.into();
        let message = chain_in_words(&error);
        error.context(Kind { fault: self, message })
    }
}

/// The kind of a failure, carried along an error chain; shown as the failure itself.
#[derive(Debug)]
struct Kind {
    fault: Fault,
    message: String,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// `error` as a failure of kind `fault`, unless it says itself of which kind it is.
pub fn otherwise(fault: Fault) -> impl Fn(anyhow::Error) -> anyhow::Error {
    move |error| if fault_of(&error) == Fault::Bug { fault.because(error) } else { error }
}

/// `error` of writing a result: what is missing then is the disk's refusal, no input.
pub fn of_output(error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    if fault_of(&error) == Fault::Missing { Fault::Disk.because(error) } else { error }
}

/// A result's line on standard output; a reader that went away is no failure, a full disk is one.
///
/// # Errors
/// When it cannot be written.
pub fn tell(line: &str) -> anyhow::Result<()> {
    tell_to(&mut std::io::stdout(), line)
}

fn tell_to(out: &mut impl Write, line: &str) -> anyhow::Result<()> {
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let error = anyhow::Error::from(error).context("standard output: cannot write");
            Err(Fault::Disk.because(error))
        }
        _ => Ok(()),
    }
}

/// What a person reads of `error`: the whole chain of causes, once.
pub fn in_words(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Kind>() {
        Some(kind) => kind.message.clone(),
        None => chain_in_words(error),
    }
}

/// Each cause once: many errors end in the words of their cause.
fn chain_in_words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // candle's errors show a backtrace where the environment asks for one.
        let cause = cause.split("\n   0: ").next().unwrap_or_default().trim_end().to_string();
        if words.is_empty() {
            words = cause;
        } else if !words.ends_with(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

/// What kind of failure `error` is: as it was marked, or by what it is.
pub fn fault_of(error: &anyhow::Error) -> Fault {
    if let Some(kind) = error.downcast_ref::<Kind>() {
        return kind.fault;
    }
    if error.chain().any(is_of_memory) {
        return Fault::Memory;
    }
    error.chain().find_map(known).unwrap_or(Fault::Bug)
}

/// A device's memory that is used up is known by the driver's words alone, whatever carries them; that of the machine may be
/// refused to any call of the system.
fn is_of_memory(cause: &(dyn std::error::Error + 'static)) -> bool {
    let system = cause.downcast_ref::<std::io::Error>();
    system.is_some_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory)
        || cause.is::<candle_core::Error>() && cause.to_string().contains("OUT_OF_MEMORY")
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<Fault> {
    if let Some(error) = cause.downcast_ref::<TrainError>() {
        return Some(of_training(error));
    }
    if let Some(error) = cause.downcast_ref::<DataError>() {
        return Some(of_data(error));
    }
    if let Some(error) = cause.downcast_ref::<lethe_latent::LatentError>() {
        return Some(of_latent(error));
    }
    if let Some(error) = cause.downcast_ref::<lethe_pixel::PixelError>() {
        return Some(of_network(error));
    }
    if let Some(error) = cause.downcast_ref::<lethe_candlex::weights::WeightsError>() {
        return Some(of_weights(error));
    }
    if let Some(error) = cause.downcast_ref::<lethe_hopfield::HopfieldError>() {
        return Some(match error {
            lethe_hopfield::HopfieldError::Field { .. } => Fault::Usage,
            lethe_hopfield::HopfieldError::Diverged { .. } => Fault::Diverged,
        });
    }
    if cause.is::<lethe_continual::ContinualError>()
        || cause.is::<lethe_diffusion::DiffusionError>()
    {
        return Some(Fault::Usage);
    }
    if let Some(error) = cause.downcast_ref::<lethe_ledger::Error>() {
        return Some(of_ledger(error));
    }
    if let Some(error) = cause.downcast_ref::<lethe_vector::VectorError>() {
        return Some(of_learning(error));
    }
    if let Some(error) = cause.downcast_ref::<lethe_report::Error>() {
        return Some(of_report(error));
    }
    cause.downcast_ref::<std::io::Error>().map(of_io)
}

fn of_io(error: &std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::NotFound => Fault::Missing,
        std::io::ErrorKind::ResourceBusy | std::io::ErrorKind::AlreadyExists => Fault::Held,
        _ => Fault::Disk,
    }
}

fn of_training(error: &TrainError) -> Fault {
    match error {
        TrainError::Spec { .. } | TrainError::Continual(_) => Fault::Usage,
        TrainError::Diverged { .. } => Fault::Diverged,
        TrainError::NoGradient { .. } | TrainError::Damaged { .. } | TrainError::Stray { .. } => {
            Fault::Untrustworthy
        }
        TrainError::NoExample { .. } => Fault::Data,
        TrainError::Io { .. } => Fault::Disk,
        TrainError::Weights(error) => of_weights(error),
        TrainError::Ledger(error) => of_ledger(error),
        TrainError::Tensor(_) => Fault::Bug,
    }
}

fn of_data(error: &DataError) -> Fault {
    match error {
        DataError::Unreadable { path, .. } if !path.exists() => Fault::Missing,
        DataError::Option { .. } | DataError::TooFew { .. } | DataError::Classes { .. } => {
            Fault::Usage
        }
        _ => Fault::Data,
    }
}

fn of_network(error: &lethe_pixel::PixelError) -> Fault {
    use lethe_pixel::PixelError;
    match error {
        PixelError::Io { source, .. } => of_io(source),
        PixelError::Weights(error) => of_weights(error),
        PixelError::Json { .. } => Fault::Untrustworthy,
        PixelError::Config { .. } => Fault::Usage,
    }
}

fn of_latent(error: &lethe_latent::LatentError) -> Fault {
    use lethe_latent::LatentError;
    match error {
        LatentError::Io { source, .. } => of_io(source),
        LatentError::Weights(error) => of_weights(error),
        LatentError::Content { .. } => Fault::Untrustworthy,
        LatentError::Config { .. } => Fault::Usage,
        LatentError::Tensor(_) => Fault::Data,
    }
}

fn of_weights(error: &lethe_candlex::weights::WeightsError) -> Fault {
    use lethe_candlex::weights::WeightsError;
    match error {
        WeightsError::Io { source, .. } => of_io(source),
        WeightsError::NoTensor { .. } => Fault::Data,
        _ => Fault::Untrustworthy,
    }
}

fn of_learning(error: &lethe_vector::VectorError) -> Fault {
    use lethe_vector::VectorError;
    match error {
        VectorError::Spec { .. } => Fault::Usage,
        VectorError::Diverged { .. } => Fault::Diverged,
        _ => Fault::Bug,
    }
}

fn of_report(error: &lethe_report::Error) -> Fault {
    match error {
        lethe_report::Error::Io { source, .. } => of_io(source),
        lethe_report::Error::Ledger(error) => of_ledger(error),
        lethe_report::Error::Taken { .. } => Fault::Held,
        lethe_report::Error::Article { .. } => Fault::Bug,
        _ => Fault::Untrustworthy,
    }
}

fn of_ledger(error: &lethe_ledger::Error) -> Fault {
    match error {
        lethe_ledger::Error::Io { source, action, .. } => match of_io(source) {
            // Where something is written, its folder is gone.
            Fault::Missing if !["open", "read"].contains(action) => Fault::Disk,
            other => other,
        },
        lethe_ledger::Error::NotFinite { .. } => Fault::Diverged,
        // It is written here alone, of what was checked before.
        lethe_ledger::Error::Parquet { .. } => Fault::Disk,
        _ => Fault::Untrustworthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn kinds_survive_context_and_show_the_cause() {
        let error = Fault::Held.because(anyhow!("run is locked")).context("while starting");
        assert_eq!(fault_of(&Fault::Held.because(anyhow!("run is locked"))), Fault::Held);
        assert!(format!("{error:#}").contains("run is locked"));
        assert_eq!(in_words(&Fault::Held.because(anyhow!("b").context("a"))), "a: b");
        let io = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Err::<(), _>(TrainError::Io { path: "x".into(), action: "write", source: io });
        assert_eq!(fault_of(&error.context("saving").unwrap_err()), Fault::Disk);
        let io = std::io::Error::from_raw_os_error(libc::ENOMEM);
        let error = TrainError::Io { path: "x".into(), action: "list", source: io };
        assert_eq!(fault_of(&error.into()), Fault::Memory);
        assert_eq!(fault_of(&anyhow!("surprise")), Fault::Bug);
    }
}

//! Signals set a flag; the loop looks at it where it can stop without losing anything.

use crate::exit::Fault;
use anyhow::{Result, anyhow};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static OF_PROCESS: OnceLock<Interrupt> = OnceLock::new();

/// Whether the process was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A flag that SIGTERM, SIGINT and SIGUSR1 raise; a second SIGINT or SIGTERM ends the process at once.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    pub fn listening() -> Result<Self> {
        let interrupt = Self::default();
        #[cfg(unix)]
        {
            use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
            for signal in [SIGINT, SIGTERM] {
                // Registered first: it acts on the second signal, when the flag is already up.
                signal_hook::flag::register_conditional_shutdown(signal, 75, interrupt.0.clone())?;
            }
            for signal in [SIGINT, SIGTERM, SIGUSR1] {
                signal_hook::flag::register(signal, interrupt.0.clone())?;
            }
        }
        // The first one that listens is the process's own; in tests there may be several.
        let _ = OF_PROCESS.set(interrupt.clone());
        Ok(interrupt)
    }

    /// The flag that this process's signals raise, for long work that is done before a run has begun; one that is never
    /// raised where nobody listens.
    pub fn of_process() -> Self {
        OF_PROCESS.get().cloned().unwrap_or_default()
    }

    /// Whether the flag is up.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// When the flag is up.
    pub fn check(&self) -> Result<()> {
        if self.is_raised() {
            return Err(Fault::Interrupted
                .because(anyhow!("interrupted; run the same command again to go on")));
        }
        Ok(())
    }
}

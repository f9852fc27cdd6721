//! Signals set a flag; the loop looks at it where it can stop without losing anything.

use crate::exit::Fault;
use anyhow::{Result, anyhow};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXCPU, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// What asks a process to stop; SIGXCPU comes when its share of processor time is used up, a while before its end.
const STOP: [i32; 4] = [SIGTERM, SIGINT, SIGUSR1, SIGXCPU];

static OF_PROCESS: OnceLock<Interrupt> = OnceLock::new();

/// Whether the process was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A flag that the signals in [`STOP`] raise; a second SIGINT or SIGTERM ends the process at once.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    pub fn listening() -> Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // Registered first: it acts on the second signal, when the flag is already up.
            let code = i32::from(Fault::Interrupted.code());
            signal_hook::flag::register_conditional_shutdown(signal, code, interrupt.0.clone())?;
        }
        for signal in STOP {
            signal_hook::flag::register(signal, interrupt.0.clone())?;
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

/// From here on a signal that asks to stop ends the process at once, after `last_words`: for work that writes its result at
/// its end, and has nothing to go on from.
///
/// # Errors
/// When the operating system refuses the handlers.
pub fn end_when_asked(last_words: impl FnOnce(anyhow::Error) + Send + 'static) -> Result<()> {
    let mut signals = Signals::new(STOP)?;
    let listen = move || {
        if signals.forever().next().is_some() {
            let error =
                anyhow!("interrupted; nothing is half written, the same command begins anew");
            last_words(Fault::Interrupted.because(error));
            signal_hook::low_level::exit(i32::from(Fault::Interrupted.code()));
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(listen)?;
    Ok(())
}

/// Lets a file that grows beyond the process's limit be an error of that write, with its name, and no signal that kills.
///
/// # Errors
/// When the operating system refuses the handler.
pub fn outlive_large_files() -> Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    Ok(())
}

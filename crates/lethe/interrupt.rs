//! Signals that ask a process to stop. While it does work that can be gone on with, they raise a flag, and the work stops
//! where nothing is lost; at any other time the process ends at once.

use crate::exit::Fault;
use crate::leftover;
use anyhow::{Result, anyhow};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXCPU, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What asks a process to stop; SIGXCPU comes when its share of processor time is used up, a while before its end.
const STOP: [i32; 4] = [SIGTERM, SIGINT, SIGUSR1, SIGXCPU];

static OF_PROCESS: LazyLock<Interrupt> = LazyLock::new(Interrupt::default);

/// How much work is going on that heeds the flag.
static HEEDING: Mutex<usize> = Mutex::new(0);

/// Whether the process was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// The flag that this process's signals raise; one that is never raised where nobody listens.
    pub fn of_process() -> Self {
        OF_PROCESS.clone()
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

/// Work that looks at the flag again and again, as long as this lives.
pub struct Heeding(());

/// From here on the flag is looked at.
pub fn heed() -> Heeding {
    *heeding() += 1;
    Heeding(())
}

impl Drop for Heeding {
    fn drop(&mut self) {
        *heeding() -= 1;
    }
}

fn heeding() -> MutexGuard<'static, usize> {
    HEEDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a signal counts as the one before: `timeout` and some schedulers send each to a process and to its group.
const ONE: Duration = Duration::from_secs(1);

/// Listens to signals. Where nobody heeds the flag, or a second SIGINT or SIGTERM comes, the process ends at once, after
/// `last_words`.
///
/// # Errors
/// When the operating system refuses the handlers.
pub fn listen(last_words: impl Fn(&anyhow::Error) + Send + 'static) -> Result<()> {
    // `nohup` has it ignored, and means it.
    let hang_up = if is_ignored(SIGHUP) { None } else { Some(SIGHUP) };
    let mut signals = Signals::new(STOP.into_iter().chain(hang_up))?;
    let listen = move || {
        let flag = Interrupt::of_process();
        let mut first = None;
        for signal in signals.forever() {
            // No work begins behind it.
            let heeding = heeding();
            let is_second = first.is_some_and(|first: Instant| first.elapsed() > ONE)
                && [SIGINT, SIGTERM].contains(&signal);
            if *heeding == 0 || is_second {
                end(&last_words);
            }
            flag.0.store(true, Ordering::Relaxed);
            first.get_or_insert_with(Instant::now);
        }
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(listen);
    thread.map(drop).map_err(|error| Fault::Memory.because(anyhow!("no threads: {error}")))
}

fn end(last_words: impl Fn(&anyhow::Error)) -> ! {
    // Nothing is half filled behind it.
    let _none = leftover::remove_all();
    let error = anyhow!("interrupted; nothing is half written; run the same command again");
    last_words(&Fault::Interrupted.because(error));
    signal_hook::low_level::exit(i32::from(Fault::Interrupted.code()))
}

/// Whether whoever started this process had it ignore `signal`.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Lets a file that grows beyond the process's limit be an error of that write, with its name, and no signal that kills.
///
/// # Errors
/// When the operating system refuses the handler.
pub fn outlive_large_files() -> Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    Ok(())
}

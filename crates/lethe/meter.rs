//! Where a command stands: a bar with the time left on a terminal, one plain line every few seconds elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two plain lines.
const PERIOD: Duration = Duration::from_secs(5);

/// Progress through a known amount of work, on standard error.
pub struct Meter {
    bar: ProgressBar,
    plain: Option<RefCell<Plain>>,
    total: f64,
}

struct Plain {
    started: Instant,
    last: Option<Instant>,
    /// Work done, and how much of it was done before this process began.
    done: f64,
    before: f64,
    label: String,
}

impl Meter {
    /// A meter for `total` units of work.
    pub fn new(total: f64) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let target =
            if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(1_000_000), target);
        let style = ProgressStyle::with_template(
            "{bar:24} {percent:>3}%  {msg}  ({elapsed} gone, {eta} left)",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        let plain = Plain {
            started: Instant::now(),
            last: None,
            done: 0.,
            before: 0.,
            label: String::new(),
        };
        Self { bar, plain: (!is_terminal).then(|| RefCell::new(plain)), total: total.max(1e-9) }
    }

    /// Work that an earlier process did.
    pub fn skip(&self, work: f64) {
        match &self.plain {
            Some(plain) => {
                let mut plain = plain.borrow_mut();
                plain.done += work;
                plain.before += work;
            }
            None => {
                self.advance_bar(work);
                self.bar.reset_eta();
            }
        }
    }

    /// Work that was done just now, on what.
    pub fn add(&self, work: f64, label: &str) {
        match &self.plain {
            Some(plain) => plain.borrow_mut().add(work, label, self.total),
            None => {
                self.advance_bar(work);
                self.bar.set_message(label.to_string());
            }
        }
    }

    fn advance_bar(&self, work: f64) {
        self.bar.inc((work / self.total * 1e6).round() as u64);
    }

    /// A line of its own.
    pub fn say(&self, line: &str) {
        match &self.plain {
            Some(_) => print_line(line),
            None => self.bar.println(line),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Plain {
    fn add(&mut self, work: f64, label: &str, total: f64) {
        self.done += work;
        self.label = label.to_string();
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < PERIOD) {
            return;
        }
        self.last = Some(now);
        let elapsed = self.started.elapsed().as_secs_f64();
        let fresh = (self.done - self.before).max(1e-9);
        let left = elapsed * (total - self.done).max(0.) / fresh;
        let share = (100. * self.done / total).min(100.);
        print_line(&format!(
            "{share:3.0}%  {label}  ({} gone, {} left)",
            span(elapsed),
            span(left)
        ));
    }
}

/// A line about something that a user should know, though it stops nothing.
pub fn note(line: &str) {
    print_line(&format!("note: {line}"));
}

fn print_line(line: &str) {
    // Nobody may be reading: that is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Seconds in words that fit a line.
pub fn span(seconds: f64) -> String {
    let whole = seconds.round().min(1e9) as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        assert_eq!(
            [span(0.4), span(59.6), span(3599.), span(7260.)],
            ["0s", "1m00s", "59m59s", "2h01m"]
        );
    }
}

//! Numbers in a protocol that no machine has room or time for: refused by their field, at once.

use crate::process::{Ended, Rule, lethe, run, start};
use crate::runs::{LATENT, TINY};
use crate::tally::{Place, Suite, Tally};
use std::process::Command;
use std::time::Duration;

/// Every field of a protocol that counts or measures something.
const FIELDS: [&str; 44] = [
    "data.resolution",
    "data.per_class",
    "data.held_out",
    "stream.classes_per_task",
    "model.channels",
    "model.layers_per_block",
    "model.norm_groups",
    "model.head_channels",
    "model.dropout",
    "training.steps",
    "training.later_steps",
    "training.batch",
    "training.parts",
    "training.warm_up",
    "training.learning_rate",
    "training.ema_half_life",
    "training.checkpoint_every",
    "training.log_every",
    "training.validate_every",
    "training.weight_decay",
    "replay.budget",
    "replay.per_batch",
    "probe.train_examples",
    "probe.held_out_examples",
    "probe.levels",
    "probe.headline",
    "probe.stages",
    "probe.draws",
    "probe.bound_points",
    "probe.bound_pairs",
    "probe.perplexity",
    "probe.curve_every",
    "probe.curve_examples",
    "probe.samples",
    "probe.sample_stages",
    "probe.batch",
    "diffusion.timesteps",
    "diffusion.beta_start",
    "diffusion.beta_end",
    "latent.make.vae_channels",
    "latent.make.vae_batch",
    "latent.make.channels",
    "latent.make.text_channels",
    "seeds",
];

/// What such a field may be told.
const VALUES: [&str; 12] = [
    "9223372036854775807",
    "1000000000000",
    "4294967296",
    "0",
    "-1",
    "1e308",
    "nan",
    "-inf",
    "[]",
    "[9223372036854775807, 1]",
    "[1000000, 1000000, 1000000, 1000000]",
    "\"100000000000000%\"",
];

/// Refused by its name, or planned; never a panic, a wait, or a machine without memory.
///
/// `lethe plan` meets the protocol with its data and builds its networks as a run does. What is legal and merely takes
/// long is not waited for: a plan that is measuring is a plan that was accepted.
pub fn protocol(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let (tiny, latent) = (place.write("tiny.toml", TINY), place.write("latent.toml", LATENT));
    let mut chance = suite.chance("numbers");
    let all = FIELDS.iter().flat_map(|field| VALUES.map(|value| (*field, value)));
    let mut all: Vec<(&str, &str)> = all.collect();
    // The quick part takes some of them, others every time.
    while all.len() > suite.tries(100, usize::MAX) {
        all.swap_remove(chance.below(all.len()));
    }
    for (field, value) in all {
        let file = if field.starts_with("latent") { &latent } else { &tiny };
        let mut command = lethe();
        command.arg("run").arg(file).arg("--set").arg(format!("{field}={value}"));
        command.arg("--out").arg(place.path("run")).env("LETHE_CACHE", place.path("cache"));
        let section = field.split('.').next().unwrap_or(field);
        // A number may be legal, and lead nowhere.
        let name = field.rsplit('.').next().unwrap_or(field);
        let ended = tried(&mut command);
        let said = if ended.err.contains(section) { section } else { name };
        let rule = Rule::codes(&[0, 64, 75, 76]).saying(said).memory(1024).within(12);
        tally.saw(ended.outcome(), ended.wall, ended.peak);
        let was_accepted = [75, 76].contains(&ended.code());
        let rule = if was_accepted { Rule { words: Vec::new(), ..rule } } else { rule };
        tally.count(|| format!("{field} = {value}"), rule.verdict(&ended));
        std::fs::remove_dir_all(place.path("run")).unwrap_or_default();
    }
}

/// A run that has begun was accepted: it is asked to stop, and says so.
fn tried(command: &mut Command) -> Ended {
    for pause in [300, 3000] {
        let running = start(command);
        std::thread::sleep(Duration::from_millis(pause));
        running.signal(libc::SIGTERM);
        let ended = running.end(Duration::from_millis(pause) + Duration::from_secs(8));
        // On a busy machine it had not begun to listen.
        if ended.status.code().is_some() || ended.is_late {
            return ended;
        }
    }
    run(command, Duration::from_secs(10))
}

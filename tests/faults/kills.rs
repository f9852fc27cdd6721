//! Kills: by whatever signal, at whatever moment, the same command ends in the bytes of an unbroken run.

use crate::chance::Chance;
use crate::process::{Rule, run, start};
use crate::runs::{LATENT, TINY, broken_at, goes_on, river, same, unbroken};
use crate::tally::{Place, Suite, Tally};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Longest time from a signal to the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A moment of a run that takes `whole`; one in four at its very start or end.
fn moment(chance: &mut Chance, whole: Duration) -> Duration {
    let share = match chance.below(8) {
        0 => 0.1 * chance.share(),
        1 => 0.8 + 0.3 * chance.share(),
        _ => chance.share(),
    };
    whole.mul_f64(share)
}

/// Each kill is a try: it survives if the run that it hit ends in the right bytes.
pub fn kill_minus_nine(suite: &Suite, tally: &mut Tally) {
    let (place, wanted) = (Place::new(), suite.tries(24, 200));
    let mut chance = suite.chance("kill -9");
    let (expected, whole) = unbroken(&place, TINY, &place.path("whole"));
    let out = place.path("killed");
    let (mut kills, mut tried) = (Vec::new(), 0);
    while tried < wanted {
        let life = moment(&mut chance, whole);
        let mut running = start(&mut river(&place, TINY, &out));
        std::thread::sleep(life);
        let was_killed = running.ended().is_none();
        if was_killed {
            running.signal(libc::SIGKILL);
            running.end(PATIENCE);
            kills.push(life);
            tried += 1;
        }
        if !was_killed || kills.len() == 8 || tried == wanted {
            let verdict = goes_on(&mut river(&place, TINY, &out), &out, &expected);
            for life in &kills {
                let what = || format!("one of {} kills, after {life:?}", kills.len());
                tally.count(what, verdict.clone());
            }
            kills.clear();
            fs::remove_dir_all(&out).unwrap();
        }
    }
}

/// The last checkpoint of a task is there, and the one before it is not let go yet.
pub fn at_the_last_checkpoint(_: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let (expected, _) = unbroken(&place, TINY, &place.path("whole"));
    for lesson in ["seed-7/task-1", "seed-7/none/task-2", "seed-7/top-energy/task-3"] {
        let out = place.path("broken");
        let last = format!("{lesson}/step-00000004");
        broken_at(&place, TINY, &out, &last);
        // The kill may have come a little later than the moment that is meant: put the older one back.
        let older = out.join(lesson).join("step-00000002");
        fs::create_dir_all(older.join("unet")).unwrap();
        fs::write(older.join("checkpoint.json"), "{}").unwrap();
        let half = out.join(lesson).join(".step-00000002.partial");
        fs::create_dir_all(half).unwrap();
        let verdict = goes_on(&mut river(&place, TINY, &out), &out, &expected);
        tally.count(|| format!("at {last}"), verdict);
        fs::remove_dir_all(&out).unwrap();
    }
}

/// What asks a run to stop: to add one, add it here.
const SIGNALS: [(&str, i32); 4] = [
    ("SIGTERM", libc::SIGTERM),
    ("SIGINT", libc::SIGINT),
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGXCPU", libc::SIGXCPU),
];

/// 75 within seconds, in words that say to run the command again; then the right bytes.
pub fn signals(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let mut chance = suite.chance("signals");
    let (expected, whole) = unbroken(&place, TINY, &place.path("whole"));
    let out = place.path("stopped");
    for number in 0..suite.tries(12, 100) {
        let (name, signal) = SIGNALS[number % SIGNALS.len()];
        // Now and then a second one comes behind the first, which ends the process at once.
        let is_twice = signal == libc::SIGINT && chance.below(3) == 0;
        let life = moment(&mut chance, whole);
        let running = start(&mut river(&place, TINY, &out));
        std::thread::sleep(life);
        running.signal(signal);
        if is_twice {
            std::thread::sleep(Duration::from_millis(2));
            running.signal(signal);
        }
        let ended = running.end(life + PATIENCE);
        tally.saw(ended.outcome(), ended.wall.saturating_sub(life), ended.peak);
        // Before the program listens, a signal ends it as it ends any program: nothing is there yet to be lost.
        let is_early = ended.status.code().is_none() && !ended.is_late && life < whole.mul_f64(0.1);
        let rule = Rule::codes(&[0, 75]);
        let rule = if is_twice { rule } else { rule.saying("run the same command again") };
        let stopped = match (is_early, is_twice && ended.code() == 75) {
            (true, _) | (_, true) => Ok(()),
            _ => rule.verdict(&ended),
        };
        let verdict = stopped.and_then(|()| match chance.below(3) {
            // Often it goes on to be stopped again.
            0 => goes_on(&mut river(&place, TINY, &out), &out, &expected),
            _ => Ok(()),
        });
        tally.count(|| format!("{name} after {life:?}"), verdict);
        if ended.code() == 0 && out.exists() {
            let verdict = same(&out, &expected);
            tally.count(|| format!("{name} after {life:?}, at the end"), verdict);
            fs::remove_dir_all(&out).unwrap();
        }
    }
    let verdict = goes_on(&mut river(&place, TINY, &out), &out, &expected);
    tally.count(|| "the last of them".into(), verdict);
}

/// Before its first step a run in latents encodes all its images, which may take hours: it stops there, too, and goes on
/// behind what it kept.
pub fn while_encoding(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let protocol = LATENT.replace("per_class = 8", "per_class = 400");
    let protocol = protocol.replace("vae_channels = [8, 8]", "vae_channels = [32, 32]");
    for (name, signal) in &SIGNALS[..suite.tries(2, 4)] {
        let (out, mut kept) = (place.path("run"), BTreeMap::new());
        for time in ["the first time", "the second time"] {
            let mut running = start(&mut river(&place, &protocol, &out));
            while encoded(&place).len() <= kept.len() {
                assert!(running.ended().is_none(), "no latents were kept");
                std::thread::sleep(Duration::from_millis(1));
            }
            running.signal(*signal);
            let signalled = Instant::now();
            let ended = running.end(Duration::from_secs(60));
            tally.saw(ended.outcome(), signalled.elapsed(), ended.peak);
            let rule = Rule::codes(&[75]).saying("run the same command again").within(60);
            let verdict = rule.verdict(&ended).and_then(|()| {
                let (late, now) = (signalled.elapsed(), encoded(&place));
                match kept.iter().find(|(name, made)| now.get(*name) != Some(*made)) {
                    _ if late > Duration::from_secs(2) => {
                        Err(format!("{late:?} from the signal on"))
                    }
                    Some((name, _)) => Err(format!("{name} was made again")),
                    None => Ok(()),
                }
            });
            tally.count(|| format!("{name} while images are encoded, {time}"), verdict);
            kept = encoded(&place);
        }
        fs::remove_dir_all(&out).unwrap();
        fs::remove_dir_all(place.path("cache")).unwrap();
    }
}

/// Files of latents in the cache, and when they were made.
fn encoded(place: &Place) -> BTreeMap<String, SystemTime> {
    let entries = fs::read_dir(place.path("cache")).into_iter().flatten().flatten();
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry));
    let latents = named.filter(|(name, _)| name.starts_with("latents-"));
    latents.map(|(name, entry)| (name, entry.metadata().unwrap().modified().unwrap())).collect()
}

/// The second process names the first and leaves; what a dead one held is taken over.
pub fn two_processes(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let (expected, _) = unbroken(&place, TINY, &place.path("whole"));
    let out = place.path("shared");
    for number in 0..suite.tries(3, 20) {
        let mut first = start(&mut river(&place, TINY, &out));
        while !holder(&out).contains(&first.id().to_string()) {
            assert!(first.ended().is_none(), "the first process ended before it held the run");
        }
        // It holds still, so that the second one comes in time.
        first.signal(libc::SIGSTOP);
        let rule = Rule::codes(&[73]).saying(format!("process {}", first.id()));
        let rule = rule.saying(out.display().to_string());
        rule.try_on(tally, "a second process", &mut river(&place, TINY, &out));
        if number % 2 == 0 {
            first.signal(libc::SIGKILL);
            first.end(PATIENCE);
            let verdict = goes_on(&mut river(&place, TINY, &out), &out, &expected);
            tally.count(|| "a stale lock".into(), verdict);
        } else {
            first.signal(libc::SIGCONT);
            let verdict = Rule::codes(&[0]).verdict(&first.end(Duration::from_secs(20)));
            let verdict = verdict.and_then(|()| same(&out, &expected));
            tally.count(|| "the first one, undisturbed".into(), verdict);
        }
        fs::remove_dir_all(&out).unwrap();
    }
}

fn holder(out: &Path) -> String {
    fs::read_to_string(out.join("lock")).unwrap_or_default()
}

/// Two processes that would make the same model at once: one does, the other is told so.
pub fn two_makers(suite: &Suite, tally: &mut Tally) {
    let place = Place::new();
    let (expected, whole) = unbroken(&place, LATENT, &place.path("whole"));
    let mut chance = suite.chance("two makers");
    let out = place.path("shared");
    for _ in 0..suite.tries(2, 10) {
        let first = start(&mut river(&place, LATENT, &out));
        std::thread::sleep(whole.mul_f64(0.3 * chance.share()));
        let second = run(&mut river(&place, LATENT, &out), Duration::from_secs(60));
        let first = first.end(Duration::from_secs(60));
        for (name, ended) in [("the first", &first), ("the second", &second)] {
            tally.saw(ended.outcome(), ended.wall, ended.peak);
            let rule = Rule::codes(&[0, 73]).within(60);
            tally.count(|| name.into(), rule.verdict(ended));
        }
        let verdict = match first.code() == 0 || second.code() == 0 {
            true => same(&out, &expected),
            false => Err("neither of them came to its end".into()),
        };
        tally.count(|| "what they leave".into(), verdict);
        fs::remove_dir_all(&out).unwrap();
    }
}

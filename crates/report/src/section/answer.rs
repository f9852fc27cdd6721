//! The answer in three sentences, with figures.

use super::{Context, paragraph, section};
use crate::analysis::headline::{self, Finding, Headline};
use crate::analysis::trainings::{Spread, Training};
use crate::analysis::{CONTROL, NONE, Outcome, View, arms, correlations, sentence};
use crate::markup::Markup;
use crate::number;
use crate::study::complete;
use lethe_ledger::Split;
use lethe_ledger::statistics::{Deciles, Interval, Side};
use std::collections::BTreeMap;

/// Writes the section.
pub(crate) fn write(context: &Context<'_>, trainings: &[Training], page: &mut Markup) {
    let view = &context.view;
    section(page, "answer", "The answer", |body| {
        let found = headline::measure(view);
        let sentences = [
            forgetting(context, &found, trainings),
            who_forgot(view),
            what_replay_did(context, &found, trainings),
        ];
        body.element("div", &[("class", "answer")], |answer| {
            for sentence in sentences {
                paragraph(answer, &sentence);
            }
        });
        body.leaf("p", &[("class", "note")], &caution(view)).line();
        for notice in &context.folder.notices {
            body.leaf("p", &[("class", "note warning")], notice).line();
        }
    });
}

fn forgetting(context: &Context<'_>, found: &Outcome<Headline>, trainings: &[Training]) -> String {
    let found = match found {
        Ok(found) => found,
        Err(why) => return format!("Whether there was forgetting is not known: {why}."),
    };
    let is_any = |finding: Finding| {
        trainings
            .iter()
            .filter_map(|one| one.headline.as_ref().ok())
            .any(|one| one.finding == finding)
    };
    let verdict = match found.finding {
        Finding::Forgot if is_any(Finding::DidNotForget) => {
            "The model forgot on average, not in every training."
        }
        Finding::Forgot if is_any(Finding::Undecided) => {
            "The model forgot on average; of some training alone it is undecided."
        }
        Finding::Forgot => "The model forgot.",
        Finding::DidNotForget if is_any(Finding::Forgot) => {
            "The model did not forget on average, but it did in some training."
        }
        Finding::DidNotForget => "The model did not forget.",
        Finding::Undecided => "Whether the model forgot is undecided.",
    };
    let increments =
        trainings.iter().map(|training| Some(&training.headline.as_ref().ok()?.increment));
    let control = match (&found.control, &found.excess) {
        (Ok(control), Ok(excess)) => format!(
            "; as many steps on task 1 alone (the control) changed it by {}, a difference of {}",
            number::interval(control),
            number::interval(excess)
        ),
        _ if context.view.study.manifest().arms.iter().any(|arm| arm == CONTROL) => {
            "; the control, to compare it with, was not measured".to_owned()
        }
        _ => "; there is no control arm to compare it with".to_owned(),
    };
    format!(
        "{verdict} Without replay, the mean reconstruction error of the {} training examples of task 1 at {} went from {} to {}: an increment of {} ({}){}{control}.",
        number::count(found.increment.n as u64),
        context.level(),
        number::short(found.before.estimate),
        number::short(found.after.estimate),
        number::interval(&found.increment),
        relative(found.increment.estimate, found.before.estimate),
        range(Spread::of(increments)),
    )
}

/// The smallest and the largest estimate of the trainings; nothing where there is one training.
fn range(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |Spread { lowest, highest, .. }| {
        let [lowest, highest] = [lowest, highest].map(number::short);
        format!(" (trainings one by one: from {lowest} to {highest})")
    })
}

fn relative(change: f64, base: f64) -> String {
    let share = number::percent(change / base);
    if change >= 0.0 { format!("+{share}") } else { share }
}

fn who_forgot(view: &View<'_>) -> String {
    match (by_decile(view), by_class(view)) {
        (Ok(deciles), Ok(class)) => format!("{deciles} {class}"),
        (Ok(only), Err(_)) | (Err(_), Ok(only)) => only,
        (Err(why), Err(_)) => format!("Who forgot most is not known: {why}."),
    }
}

fn by_decile(view: &View<'_>) -> Outcome<String> {
    let (form, energy) = view.leading_energy()?;
    let rise = view.increment(NONE, view.headline())?;
    let (_, columns) = complete(&view.first_task(Split::Train), &[&energy, &rise]);
    let deciles = Deciles::by(&columns[0]).map_err(sentence)?;
    let means = deciles.means(&columns[1], &view.bootstrap).map_err(sentence)?;
    let (Some(lowest), Some(highest)) = (means.first(), means.last()) else {
        return Err("there are no deciles".into());
    };
    let target = correlations::Target::Increment;
    let found = correlations::measure(view, form, Split::Train, target)?;
    let (correlation, within) = (found.spearman?, found.within?);
    let trend = match correlation.side() {
        Side::Above => "Examples of high energy forgot more",
        Side::Below => "Examples of low energy forgot more",
        Side::Straddles => "Energy did not decide who forgot",
    };
    let holds = if within.side() == correlation.side() { "" } else { ", but not among like ones" };
    Ok(format!(
        "{trend}{holds}: the increment was {} in the highest and {} in the lowest energy decile, and its Spearman correlation with energy was {}; within classes, at equal R before, total variation, contrast and norm, it was {}.",
        number::interval(highest),
        number::interval(lowest),
        number::interval(&correlation),
        number::interval(&within)
    ))
}

fn by_class(view: &View<'_>) -> Outcome<String> {
    let rise = view.increment(NONE, view.headline())?;
    let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for position in view.first_task(Split::Train) {
        groups.entry(view.study.examples()[position].class).or_default().push(position);
    }
    let means: Vec<(u32, Interval)> = groups
        .iter()
        .filter_map(|(&class, positions)| Some((class, view.mean(&rise, positions).ok()?)))
        .collect();
    let by_mean =
        |a: &&(u32, Interval), b: &&(u32, Interval)| a.1.estimate.total_cmp(&b.1.estimate);
    let (Some(most), Some(least)) = (means.iter().max_by(by_mean), means.iter().min_by(by_mean))
    else {
        return Err("there are no classes".into());
    };
    Ok(format!(
        "Of the classes of task 1, “{}” forgot most ({}) and “{}” least ({}).",
        view.study.class_name(most.0),
        number::interval(&most.1),
        view.study.class_name(least.0),
        number::interval(&least.1)
    ))
}

fn what_replay_did(
    context: &Context<'_>,
    found: &Outcome<Headline>,
    trainings: &[Training],
) -> String {
    let view = &context.view;
    let manifest = view.study.manifest();
    let mut saved: Vec<(&String, Interval)> =
        arms::replaying(view).filter_map(|arm| Some((arm, arms::saved(view, arm).ok()?))).collect();
    saved.sort_by(|a, b| b.1.estimate.total_cmp(&a.1.estimate));
    let Some((best, interval)) = saved.first() else {
        return "What replay does is not known: no replay arm was measured.".into();
    };
    let share = match found {
        Ok(found) if found.increment.estimate > 0.0 && view.last() == 2 => {
            format!(
                ", {} of the increment",
                number::percent(interval.estimate / found.increment.estimate)
            )
        }
        _ => String::new(),
    };
    let place = arms::replaying(view).position(|arm| arm == *best);
    let one_by_one = || trainings.iter().map(|one| one.saved.get(place?)?.as_ref().ok());
    let is_any = |side: Side| one_by_one().flatten().any(|interval| interval.side() == side);
    let effect = match interval.side() {
        Side::Above if is_any(Side::Below) => "Replay helped on average, not in every training",
        Side::Above => "Replay helped",
        Side::Below if is_any(Side::Above) => "Replay did harm on average, not in every training",
        Side::Below => "Replay did harm",
        Side::Straddles => "Replay had no clear effect",
    };
    let range = range(Spread::of(one_by_one()));
    let others = others(&saved[1..]);
    format!(
        "{effect}: with a buffer of {}, the arm {best} lowered the error of old examples most, by {}{range}{share}{others}.",
        number::counted(manifest.budget as usize, "example"),
        number::interval(interval)
    )
}

/// The arms after the best: random by name, and the last.
fn others(saved: &[(&String, Interval)]) -> String {
    let Some((last, least)) = saved.last() else { return String::new() };
    let random = saved.iter().find(|(arm, _)| *arm == "random" && arm != last);
    let random = random.map_or_else(String::new, |(arm, interval)| {
        format!("; {arm} lowered it by {}", number::interval(interval))
    });
    let n = saved.len() + 1;
    format!("{random}; {last}, the last of {n} arms, by {}", number::interval(least))
}

fn caution(view: &View<'_>) -> String {
    match view.repetitions().len() {
        0 => "The manifest names no run.".into(),
        1 => "All intervals are over examples of one training, not over trainings: another seed may answer differently.".into(),
        2 => "All intervals are over examples of the mean of two trainings, not over trainings: two are too few to say how much another seed would differ.".into(),
        n => format!("All intervals are over examples of the mean of {n} trainings; verdicts are given for each training, and for all only where they agree."),
    }
}

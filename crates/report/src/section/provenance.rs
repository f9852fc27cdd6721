//! Where every number comes from, and how to make it again.

use super::{Context, paragraph, section};
use crate::markup::Markup;
use crate::number;
use crate::table::{Column, Table};
use lethe_ledger::{
    ChosenTemperature, LevelMeaning, Orientation, Quantity, Repetition, RunManifest,
};

/// Writes the section.
pub(crate) fn write(context: &Context<'_>, page: &mut Markup) {
    let manifest = context.view.study.manifest();
    section(page, "provenance", "Provenance", |body| {
        facts(manifest, context).write_html(body);
        body.leaf("h3", &[], "Tasks");
        tasks(manifest).write_html(body);
        body.leaf("h3", &[], "How to reproduce");
        paragraph(
            body,
            "Save the protocol below as protocol.toml and run “lethe run protocol.toml” with the versions above on the same kind of device. The same seeds give the same batches, noise and buffers. The ledger opens in one line, for example pandas.read_parquet(\"ledger.parquet\") or polars.read_parquet(\"ledger.parquet\"); its metadata hold run.json. The tables of this page are in tables/*.csv.",
        );
        body.leaf("h3", &[], "Protocol");
        body.leaf("pre", &[("tabindex", "0")], &manifest.protocol).line();
        body.leaf("h3", &[], "Definitions");
        paragraph(body, DEFINITIONS);
        quantities().write_html(body);
    });
}

const DEFINITIONS: &str = "Pixels are in [−1, 1]. R(x) is the reconstruction error of example x. The increment ΔR is R after the last task minus R after task 1. The mitigation of an arm is R without replay minus R in the arm. In the energies, b is the inverse temperature; lower energy is deeper in the stored set. The ledger's column level is t/T for errors and the denoising loss, the inverse temperature for energies, and null for all others. Deciles hold equally many examples, ties by order of the table of examples.";

fn facts(manifest: &RunManifest, context: &Context<'_>) -> Table {
    let mut table = Table::new(&[Column::words("what", "What"), Column::words("value", "Value")]);
    let mut row = |what: &str, value: String| table.row(vec![what.into(), value.as_str().into()]);
    let data = &manifest.data;
    row("protocol", format!("{}, digest {}", manifest.name, manifest.protocol_digest));
    row(
        "data",
        format!(
            "{}; {} examples of {}×{} pixels, {}; digest {}",
            data.source,
            number::count(data.examples),
            data.resolution,
            data.resolution,
            number::counted(data.channels as usize, "channel"),
            data.digest
        ),
    );
    if let Some(model) = &manifest.model {
        row("model before task 1", format!("digest {model}"));
    }
    for change in &manifest.changes {
        row("protocol edited on the way", change.clone());
    }
    row("runs", runs(&context.view.repetitions()));
    let left_out = context.view.study.left_out();
    if !left_out.is_empty() {
        row("runs left out of the means", runs(&left_out));
    }
    row("arms", manifest.arms.join(", "));
    row("replay buffer", number::counted(manifest.budget as usize, "example"));
    row("probed examples", number::count(context.view.study.examples().len() as u64));
    let levels: Vec<String> = manifest.levels.iter().map(f64::to_string).collect();
    row("noise levels t/T", format!("{}; headline {}", levels.join(", "), manifest.headline_level));
    let temperatures = &manifest.inverse_temperatures;
    row("inverse temperature, distance form", temperature(temperatures.distance.as_ref()));
    row("inverse temperature, unit form", temperature(temperatures.unit.as_ref()));
    row("device", manifest.device.clone());
    let revision = manifest.git_revision.clone();
    row("source revision", revision.unwrap_or_else(|| "not known".into()));
    let versions: Vec<String> =
        manifest.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    row("versions", versions.join(", "));
    for (name, digest) in &context.folder.digests {
        row(name, format!("BLAKE3 {digest}"));
    }
    table
}

fn runs(repetitions: &[&Repetition]) -> String {
    let named = |run: &&Repetition| format!("{} (seed {})", run.run, run.seed);
    repetitions.iter().map(named).collect::<Vec<String>>().join(", ")
}

fn temperature(chosen: Option<&ChosenTemperature>) -> String {
    let Some(chosen) = chosen else { return "not measured".into() };
    let timestep = chosen.timestep.map_or_else(String::new, |t| format!(", matching timestep {t}"));
    let time =
        chosen.time.map_or_else(String::new, |time| format!(" (t/T = {})", number::short(time)));
    format!(
        "{} (median perplexity {}){timestep}{time}",
        number::short(chosen.value),
        number::short(chosen.perplexity)
    )
}

fn tasks(manifest: &RunManifest) -> Table {
    let mut table =
        Table::new(&[Column::words("task", "Task"), Column::words("classes", "Classes")]);
    for (index, classes) in manifest.tasks.iter().enumerate() {
        let names: Vec<String> = classes
            .iter()
            .map(|&class| {
                let name = manifest.data.classes.get(class as usize).map_or("", String::as_str);
                format!("{name} ({class})")
            })
            .collect();
        table.row(vec![format!("{}", index + 1).as_str().into(), names.join(", ").as_str().into()]);
    }
    table
}

fn quantities() -> Table {
    let mut table = Table::new(&[
        Column::words("quantity", "Quantity"),
        Column::words("unit", "Unit"),
        Column::words("level", "Level"),
        Column::words("worse", "Worse when"),
        Column::words("definition", "Definition"),
    ]);
    for quantity in Quantity::ALL {
        let level = match quantity.level() {
            LevelMeaning::None => "–",
            LevelMeaning::InverseTemperature => "inverse temperature",
            LevelMeaning::Time => "t/T",
        };
        let worse = match quantity.orientation() {
            Orientation::HigherIsWorse => "higher",
            Orientation::Neutral => "–",
        };
        table.row(vec![
            quantity.name().into(),
            quantity.unit().into(),
            level.into(),
            worse.into(),
            quantity.description().into(),
        ]);
    }
    table
}

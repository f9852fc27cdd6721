//! The page of a run folder: its sections in order, and the tables beside it.

use crate::analysis::trainings;
use crate::document::Document;
use crate::error::Result;
use crate::folder::RunFolder;
use crate::markup::Markup;
use crate::number;
use crate::section::{self, Context};
use crate::table::Table;
use lethe_ledger::statistics::Bootstrap;

/// The page and the tables that stand beside it.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) html: String,
    /// File name and table.
    pub(crate) tables: Vec<(&'static str, Table)>,
}

/// Sections: id and name in the contents.
const CONTENTS: [(&str, &str); 11] = [
    ("answer", "Answer"),
    ("curves", "Forgetting curves"),
    ("deciles", "Energy"),
    ("correlations", "Correlations"),
    ("arms", "Replay"),
    ("matrix", "Task matrix"),
    ("examples", "Examples"),
    ("samples", "Samples"),
    ("claims", "Claims"),
    ("training", "Training"),
    ("provenance", "Provenance"),
];

/// Renders a run folder with intervals from this bootstrap.
pub(crate) fn render(folder: &RunFolder, bootstrap: Bootstrap) -> Result<Page> {
    let context = Context::new(folder, bootstrap);
    let mut main = Markup::new();
    let mut tables = Vec::new();
    let trainings = trainings::measure(&context.view);
    section::answer::write(&context, &trainings, &mut main);
    section::curves::write(&context, &mut main);
    tables.push(("deciles.csv", section::deciles::write(&context, &mut main)));
    tables.push(("correlations.csv", section::correlations::write(&context, &mut main)));
    tables.push(("arms.csv", section::arms::write(&context, &trainings, &mut main)));
    if !trainings.is_empty() {
        tables.push(("trainings.csv", section::trainings::table(&context.view, &trainings)));
    }
    tables.push(("task_matrix.csv", section::matrix::write(&context, &mut main)));
    section::grids::write(&context, &mut main)?;
    section::samples::write(&context, &mut main)?;
    tables.push(("claims.csv", section::claims::write(&context, &mut main)));
    section::training::write(&context, &mut main);
    section::provenance::write(&context, &mut main);
    Ok(Page { html: document(&context, &main), tables })
}

fn document(context: &Context<'_>, main: &Markup) -> String {
    let manifest = context.view.study.manifest();
    let facts = format!(
        "{} · {} · {} · {} probed · {}",
        manifest.data.source,
        tasks(&manifest.tasks),
        number::counted(context.view.repetitions().len(), "run"),
        number::counted(context.view.study.examples().len(), "example"),
        manifest.device
    );
    let title = format!("{}: what did the model forget?", manifest.name);
    Document { title: &title, facts: &facts, contents: &CONTENTS }.around(main)
}

/// `2 tasks of 5 classes`, or the sizes one by one.
fn tasks(tasks: &[Vec<u32>]) -> String {
    let mut sizes: Vec<String> = tasks.iter().map(|classes| classes.len().to_string()).collect();
    sizes.dedup();
    format!("{} of {} classes", number::counted(tasks.len(), "task"), sizes.join(", then "))
}

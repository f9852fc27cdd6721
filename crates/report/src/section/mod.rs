//! The sections of the page, top to bottom, and what they share.

pub(crate) mod answer;
pub(crate) mod arms;
pub(crate) mod claims;
pub(crate) mod correlations;
pub(crate) mod curves;
pub(crate) mod deciles;
pub(crate) mod grids;
pub(crate) mod matrix;
pub(crate) mod provenance;
pub(crate) mod samples;
pub(crate) mod training;
pub(crate) mod trainings;

use crate::analysis::View;
use crate::figure::{Figure, Ink, write_legend};
use crate::folder::RunFolder;
use crate::gauge::Scope;
use crate::markup::Markup;
use crate::number;
use lethe_ledger::statistics::Bootstrap;

/// What every section is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) folder: &'a RunFolder,
    /// The mean over all runs, or over those that have come furthest.
    pub(crate) view: View<'a>,
}

impl<'a> Context<'a> {
    /// A run folder, seen over all runs.
    pub(crate) fn new(folder: &'a RunFolder, bootstrap: Bootstrap) -> Self {
        Self { folder, view: View { study: &folder.study, scope: Scope::All, bootstrap } }
    }

    /// Runs and seeds in words: the beginning of every caption.
    pub(crate) fn runs(&self) -> String {
        let runs = self.view.repetitions();
        let seeds: Vec<String> = runs.iter().map(|run| run.seed.to_string()).collect();
        match runs.as_slice() {
            [] => "No run".to_owned(),
            [only] => format!("Run {} (seed {})", only.run, only.seed),
            _ => format!("Mean over {} runs (seeds {})", runs.len(), seeds.join(", ")),
        }
    }

    /// How intervals were made: the end of every caption with intervals.
    pub(crate) fn intervals(&self) -> String {
        format!(
            "{} % bootstrap intervals over examples, {} draws.",
            (self.view.bootstrap.confidence * 100.0).round(),
            number::count(self.view.bootstrap.draws as u64)
        )
    }

    /// The headline's level as `t/T = 0.3`.
    pub(crate) fn level(&self) -> String {
        level(self.view.study.manifest().headline_level)
    }
}

/// A noise level in words.
pub(crate) fn level(level: f64) -> String {
    format!("t/T = {level}")
}

/// A section with its heading.
pub(crate) fn section(page: &mut Markup, id: &str, title: &str, inside: impl FnOnce(&mut Markup)) {
    page.line().element("section", &[("id", id)], |section| {
        section.leaf("h2", &[], title).line();
        inside(section);
    });
}

/// A paragraph.
pub(crate) fn paragraph(page: &mut Markup, text: &str) {
    page.leaf("p", &[], text).line();
}

/// What is missing, and why.
pub(crate) fn missing(page: &mut Markup, why: &str) {
    let mut text = String::from("Not shown: ");
    text.push_str(why);
    text.push('.');
    page.leaf("p", &[("class", "note")], &text).line();
}

/// Panels beside each other with one legend and one caption.
pub(crate) fn figure(
    page: &mut Markup,
    panels: &[Figure],
    legend: &[(Ink, String)],
    caption: &str,
) {
    page.element("figure", &[], |figure| {
        let class = if panels.len() > 1 { "panels" } else { "single" };
        figure.element("div", &[("class", class)], |row| {
            for panel in panels {
                row.append(&panel.markup);
            }
        });
        if !legend.is_empty() {
            write_legend(figure, legend);
        }
        figure.leaf("figcaption", &[], caption);
    });
    page.line();
}

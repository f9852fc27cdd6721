//! Pages that are of no run folder: text, laws, tables, figures and verdicts, as their author
//! arranges them.
//!
//! ```
//! use lethe_report::article::Article;
//! use lethe_report::figure::{Axis, Caption, Ink, LineChart, Series};
//! use lethe_report::table::{Column, Table};
//!
//! let mut table = Table::new(&[Column::numbers("beta", "β"), Column::numbers("rise", "ΔE")]);
//! table.row(vec![8.0.into(), 0.03.into()]);
//! let line = Series::plain(Ink::BLUE, vec![(1.0, 0.01), (8.0, 0.03)]);
//! let caption = Caption::new("rise-line", "Rise over β", "From 0.01 to 0.03.");
//! let chart = LineChart::new(caption, Axis::log10("β"), Axis::new("ΔE"), vec![line]);
//!
//! let mut article = Article::new("Energy rise", "d 50 · seed 1");
//! article.section("rise", "Energy rise", |section| {
//!     section.paragraph("What rises when the task turns.");
//!     section.law("ΔE(x) = E(x|VX) − E(x|X)");
//!     section.figure(&[chart.draw()], &[], "Two temperatures.");
//!     section.table("rise", table);
//!     section.verdict(true, "A2", "ΔE rises with β", "from 0.01 to 0.03");
//! });
//! let folder = tempfile::tempdir().unwrap();
//! let written = article.write(folder.path(), "rise").unwrap();
//! assert_eq!(written, [folder.path().join("rise.html"), folder.path().join("rise.csv")]);
//! ```

use crate::document::{Document, MARK};
use crate::error::{Error, Result};
use crate::figure::{Figure, Ink};
use crate::markup::Markup;
use crate::number;
use crate::section;
use crate::table::Table;
use lethe_ledger::durable;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One page in the making. The same calls give the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Article {
    title: String,
    facts: String,
    sections: Vec<Section>,
}

/// A part of an article under a heading; what is added stands in the order of the calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    id: String,
    title: String,
    body: Markup,
    tables: Vec<(String, Table)>,
    /// Names of the figures.
    figures: Vec<String>,
    /// Each verdict in one line.
    claims: Vec<String>,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The evidence is for it.
    Holds,
    /// The evidence is against it.
    DoesNotHold,
    /// The evidence decides nothing.
    Undecided,
}

impl Article {
    /// An article without sections; `facts` stand in one line below the title.
    pub fn new(title: impl Into<String>, facts: impl Into<String>) -> Self {
        Self { title: title.into(), facts: facts.into(), sections: Vec::new() }
    }

    /// Appends a section that `write` fills, and returns what `write` returns; `id` is its address within the page.
    pub fn section<T>(
        &mut self,
        id: impl Into<String>,
        title: impl Into<String>,
        write: impl FnOnce(&mut Section) -> T,
    ) -> T {
        let (body, tables, figures) = (Markup::new(), Vec::new(), Vec::new());
        let (id, title, claims) = (id.into(), title.into(), Vec::new());
        let mut section = Section { id, title, body, tables, figures, claims };
        let outcome = write(&mut section);
        self.sections.push(section);
        outcome
    }

    /// Every claim in one line, with its verdict and evidence, in the page's order.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().flat_map(|section| &section.claims).map(String::as_str)
    }

    /// Writes `folder/<name>.html` and `folder/<table>.csv` for each table, and returns their
    /// paths, the page first. The folder is the page's own, and made where it is missing.
    ///
    /// # Errors
    /// [`Error::Article`] for a name that is no file name or stands twice, and for a table with a
    /// row that does not fit, and what [`claim`] refuses: nothing is written then. [`Error::Io`] and
    /// [`Error::Ledger`] for what the operating system refuses.
    pub fn write(&self, folder: impl AsRef<Path>, name: &str) -> Result<Vec<PathBuf>> {
        self.check(name)?;
        let folder = folder.as_ref();
        claim(folder, name)?;
        let mut written = vec![folder.join(format!("{name}.html"))];
        // The page first: it marks the folder as ours, so that what was broken off can be written again.
        durable::write_file(&written[0], self.page().as_bytes())?;
        for (table, content) in self.tables() {
            let path = folder.join(csv(table));
            durable::write_file(&path, content.to_csv().as_bytes())?;
            written.push(path);
        }
        Ok(written)
    }

    fn tables(&self) -> impl Iterator<Item = &(String, Table)> {
        self.sections.iter().flat_map(|section| &section.tables)
    }

    fn page(&self) -> String {
        let contents: Vec<(&str, &str)> =
            self.sections.iter().map(|part| (part.id.as_str(), part.title.as_str())).collect();
        let mut main = Markup::new();
        for part in &self.sections {
            section::section(&mut main, &part.id, &part.title, |place| {
                place.append(&part.body);
            });
        }
        Document { title: &self.title, facts: &self.facts, contents: &contents }.around(&main)
    }

    /// Refuses what would be no page: see [`Self::write`].
    fn check(&self, name: &str) -> Result<()> {
        let mut files = Names::new(self);
        let mut ids = Names::new(self);
        files.take("page", name, ".html")?;
        for section in &self.sections {
            ids.take("section", &section.id, "")?;
            for figure in &section.figures {
                ids.take("figure", figure, "-title")?;
                ids.take("figure", figure, "-desc")?;
            }
            for (name, table) in &section.tables {
                files.take("table", name, ".csv")?;
                if let Some((row, expected, got)) = table.misfit() {
                    let got = number::counted(got, "cell");
                    let thing = format!("table {name:?}, row {row}");
                    return Err(self.error(thing, format!("{expected}, one a column"), got));
                }
            }
        }
        Ok(())
    }

    fn error(&self, thing: String, expected: impl Into<String>, got: String) -> Error {
        Error::Article { article: self.title.clone(), thing, expected: expected.into(), got }
    }
}

/// Makes the folder of the page `name`, where it is missing: before anything is computed.
///
/// # Errors
/// [`Error::Taken`] for a folder that has files but not this page as [`Article::write`] writes it;
/// [`Error::Io`] for what the operating system refuses.
pub fn claim(folder: impl AsRef<Path>, name: &str) -> Result<()> {
    let folder = folder.as_ref();
    durable::make_folders(folder).map_err(Error::io(folder, "create"))?;
    let entries = fs::read_dir(folder).map_err(Error::io(folder, "read"))?;
    let mut names = entries.flatten().map(|entry| entry.file_name());
    // Hidden files are those of file managers, and of writing that was broken off.
    if names.all(|name| name.as_encoded_bytes().starts_with(b".")) {
        return Ok(());
    }
    let page = format!("{name}.html");
    match durable::read(folder.join(&page)) {
        Ok(bytes) if bytes.windows(MARK.len()).any(|part| part == MARK.as_bytes()) => Ok(()),
        _ => Err(Error::Taken { folder: folder.to_owned(), page }),
    }
}

/// Names that are taken, in lower case: some file systems know no other.
struct Names<'a> {
    article: &'a Article,
    taken: BTreeSet<String>,
}

impl<'a> Names<'a> {
    fn new(article: &'a Article) -> Self {
        Self { article, taken: BTreeSet::new() }
    }

    /// Takes `name` with this ending, once; it may stand in an address, an id and a file name.
    fn take(&mut self, what: &str, name: &str, ending: &str) -> Result<()> {
        let is_fit = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        let is_first = |letter: char| letter.is_ascii_alphanumeric();
        let error = |expected: &str, got: &str| {
            Err(self.article.error(format!("{what} {name:?}"), expected, got.to_owned()))
        };
        if !name.starts_with(is_first) || !name.chars().all(is_fit) {
            return error("ASCII letters, digits, `-`, `_` and `.`", "another name");
        }
        if !self.taken.insert(format!("{name}{ending}").to_ascii_lowercase()) {
            return error("a name of its own on the page", "one that is taken");
        }
        Ok(())
    }
}

/// The file name of a table.
fn csv(table: &str) -> String {
    format!("{table}.csv")
}

impl Section {
    /// Appends a paragraph.
    pub fn paragraph(&mut self, text: &str) {
        section::paragraph(&mut self.body, text);
    }

    /// Appends an equation in a line of its own.
    pub fn law(&mut self, equation: &str) {
        self.body.leaf("p", &[("class", "law")], equation).line();
    }

    /// Appends a list of points.
    pub fn list(&mut self, points: &[impl AsRef<str>]) {
        self.body.element("ul", &[("class", "points")], |list| {
            for point in points {
                list.leaf("li", &[], point.as_ref());
            }
        });
        self.body.line();
    }

    /// Appends `Not shown: <why>.`: what a reader would look for and does not find.
    pub fn missing(&mut self, why: &str) {
        section::missing(&mut self.body, why);
    }

    /// Appends a table, which is also written in full precision as `<name>.csv`.
    pub fn table(&mut self, name: impl Into<String>, table: Table) {
        let name = name.into();
        if table.rows.is_empty() {
            section::missing(&mut self.body, &format!("the table {name}, it has no row"));
        } else {
            table.write_html(&mut self.body);
        }
        self.point_to(&csv(&name), "The same in full precision");
        self.tables.push((name, table));
    }

    /// Writes a table that is too long for the page as `<name>.csv`, and names it on the page.
    pub fn hidden_table(&mut self, name: impl Into<String>, table: Table) {
        let name = name.into();
        let rows = number::counted(table.rows.len(), "row");
        self.point_to(&csv(&name), &format!("A table of {rows} beside this page"));
        self.tables.push((name, table));
    }

    fn point_to(&mut self, file: &str, words: &str) {
        self.body.element("p", &[("class", "note")], |note| {
            note.text(words).text(": ").leaf("a", &[("href", file)], file).text(".");
        });
        self.body.line();
    }

    /// Appends panels beside each other with one legend and one caption.
    pub fn figure(&mut self, panels: &[Figure], legend: &[(Ink, String)], caption: &str) {
        self.figures.extend(panels.iter().map(|panel| panel.name.clone()));
        section::figure(&mut self.body, panels, legend, caption);
    }

    /// Appends a claim with its verdict: a [`Verdict`], a `bool`, or `None` for an undecided one.
    pub fn verdict(&mut self, verdict: impl Into<Verdict>, id: &str, claim: &str, evidence: &str) {
        let verdict = verdict.into();
        self.body.element("article", &[("class", "claim")], |article| {
            article.element("p", &[], |line| {
                line.leaf("span", &[("class", "id")], id).text(" ").text(claim).text(" ");
                let class = format!("verdict {}", verdict.class());
                line.leaf("strong", &[("class", &class)], verdict.words());
            });
            article.leaf("p", &[("class", "rule")], evidence);
        });
        self.body.line();
        self.claims.push(format!("{id}: {claim}: {} ({evidence})", verdict.words()));
    }
}

impl Verdict {
    /// The verdict as readers see it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::DoesNotHold => "does not hold",
            Self::Undecided => "undecided",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Holds => "supported",
            Self::DoesNotHold => "refuted",
            Self::Undecided => "undecided",
        }
    }
}

impl From<bool> for Verdict {
    fn from(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::DoesNotHold }
    }
}

impl From<Option<bool>> for Verdict {
    fn from(decided: Option<bool>) -> Self {
        decided.map_or(Self::Undecided, Self::from)
    }
}

#[cfg(test)]
mod tests;

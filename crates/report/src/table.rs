//! A table, once: as HTML for the page and as CSV for a spreadsheet.

use crate::markup::Markup;
use crate::number;
use lethe_ledger::statistics::Interval;
use std::borrow::Cow;

/// One cell. A number that is not finite is shown as missing, and its field of a CSV is empty.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A name or a sentence.
    Text(String),
    /// A symbol on the page and a plain name in a CSV.
    Term {
        /// On the page.
        symbol: &'static str,
        /// In a CSV.
        name: &'static str,
    },
    /// A measured number.
    Number(f64),
    /// A number that was chosen, with all its digits.
    Given(f64),
    /// A probability.
    Probability(f64),
    /// A whole number.
    Count(u64),
    /// A number with its interval: three columns of a CSV.
    Interval(Interval),
    /// Nothing, and why.
    Missing(String),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Cell {
    fn from(n: usize) -> Self {
        Self::Count(n as u64)
    }
}

impl From<Interval> for Cell {
    fn from(interval: Interval) -> Self {
        Self::Interval(interval)
    }
}

impl From<Result<Interval, String>> for Cell {
    fn from(outcome: Result<Interval, String>) -> Self {
        outcome.map_or_else(Self::Missing, Self::Interval)
    }
}

/// A column: its name in a CSV and its title on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    name: Cow<'static, str>,
    title: Cow<'static, str>,
    kind: Kind,
    digits: Digits,
}

/// What the cells of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Words,
    Numbers,
    Intervals,
}

/// How many decimals a number has on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digits {
    /// The same in the whole column.
    OfColumn,
    /// Three significant digits in every cell.
    OfCell,
}

impl Column {
    /// A column of names or sentences.
    pub const fn words(name: &'static str, title: &'static str) -> Self {
        Self::of_kind(Kind::Words, name, title)
    }

    /// A column of numbers, probabilities or counts.
    pub const fn numbers(name: &'static str, title: &'static str) -> Self {
        Self::of_kind(Kind::Numbers, name, title)
    }

    /// A column of intervals: `name`, `name_low` and `name_high` of a CSV.
    pub const fn intervals(name: &'static str, title: &'static str) -> Self {
        Self::of_kind(Kind::Intervals, name, title)
    }

    const fn of_kind(kind: Kind, name: &'static str, title: &'static str) -> Self {
        let (name, title) = (Cow::Borrowed(name), Cow::Borrowed(title));
        Self { name, title, kind, digits: Digits::OfColumn }
    }

    /// The same column of something that a run names.
    pub(crate) fn named(self, name: String, title: String) -> Self {
        Self { name: name.into(), title: title.into(), ..self }
    }

    /// The same column with digits for every number by itself, not decimals in common: for numbers
    /// of many powers of ten.
    pub const fn of_any_size(mut self) -> Self {
        self.digits = Digits::OfCell;
        self
    }
}

/// What scrolls must be reachable by keyboard, and named.
const FRAME: [(&str, &str); 4] =
    [("class", "table"), ("tabindex", "0"), ("role", "region"), ("aria-label", "Table")];

/// Rows under columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Appends a row: a cell for each column. What holds another number of cells cannot be written
    /// as part of an article.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The first row that does not fit: its place from 1, the number of columns, and of its cells.
    pub(crate) fn misfit(&self) -> Option<(usize, usize, usize)> {
        let width = self.columns.len();
        let lengths = self.rows.iter().map(Vec::len).enumerate();
        let mut misfits = lengths.filter(|&(_, length)| length != width);
        misfits.next().map(|(index, length)| (index + 1, width, length))
    }

    /// Appends the table to a page, in a frame that scrolls where the screen is narrow.
    pub(crate) fn write_html(&self, page: &mut Markup) {
        page.element("div", &FRAME, |frame| {
            frame.element("table", &[], |table| {
                table.element("thead", &[], |head| {
                    head.element("tr", &[], |row| {
                        for column in &self.columns {
                            row.leaf(
                                "th",
                                &[("scope", "col"), ("class", column.class())],
                                &column.title,
                            );
                        }
                    });
                });
                table.element("tbody", &[], |body| {
                    let decimals: Vec<Option<i32>> =
                        (0..self.columns.len()).map(|column| self.decimals(column)).collect();
                    for cells in &self.rows {
                        body.line().element("tr", &[], |row| self.write_row(cells, &decimals, row));
                    }
                });
            });
        });
        page.line();
    }

    fn write_row(&self, cells: &[Cell], decimals: &[Option<i32>], row: &mut Markup) {
        let columns = self.columns.iter().zip(decimals);
        for (index, (cell, (column, &decimals))) in cells.iter().zip(columns).enumerate() {
            let class = ("class", column.class());
            if index == 0 {
                let attributes = [("scope", "row"), class];
                row.element("th", &attributes, |place| cell.write_html(decimals, place));
            } else {
                row.element("td", &[class], |place| cell.write_html(decimals, place));
            }
        }
    }

    /// Decimals of a column on the page: three digits of its largest number, none for whole numbers.
    fn decimals(&self, column: usize) -> Option<i32> {
        if self.columns[column].digits == Digits::OfCell {
            return None;
        }
        let numbers = |row: &Vec<Cell>| match row.get(column) {
            Some(Cell::Number(value)) => vec![*value],
            Some(Cell::Interval(interval)) => vec![interval.estimate, interval.low, interval.high],
            _ => Vec::new(),
        };
        let mut numbers: Vec<f64> = self.rows.iter().flat_map(numbers).collect();
        numbers.retain(|number| number.is_finite());
        if numbers.iter().all(|number| number.fract() == 0.0) {
            return Some(0);
        }
        let largest = numbers.iter().fold(0.0, |largest, number| number.abs().max(largest));
        Some(number::decimals(largest))
    }

    /// The table as CSV (RFC 4180), full precision.
    pub(crate) fn to_csv(&self) -> String {
        let mut names = Vec::new();
        for column in &self.columns {
            names.push(quote(&column.name));
            if column.kind == Kind::Intervals {
                names.push(quote(&format!("{}_low", column.name)));
                names.push(quote(&format!("{}_high", column.name)));
            }
        }
        let mut text = names.join(",");
        text.push_str("\r\n");
        for row in &self.rows {
            let fields: Vec<String> = row
                .iter()
                .zip(&self.columns)
                .flat_map(|(cell, column)| cell.csv_fields(column.kind))
                .collect();
            text.push_str(&fields.join(","));
            text.push_str("\r\n");
        }
        text
    }
}

impl Column {
    fn class(&self) -> &'static str {
        match self.kind {
            Kind::Words => "words",
            Kind::Numbers | Kind::Intervals => "number",
        }
    }
}

impl Cell {
    /// Into its place on a page, with these decimals or as many as it deserves.
    fn write_html(&self, decimals: Option<i32>, place: &mut Markup) {
        let fixed = |value: f64| {
            decimals.map_or_else(|| number::short(value), |n| number::with_decimals(value, n))
        };
        let missing = [("class", "missing"), ("title", "not a finite number")];
        match self {
            Self::Number(value) | Self::Interval(Interval { estimate: value, .. })
                if !value.is_finite() =>
            {
                place.leaf("span", &missing, "–")
            }
            Self::Text(text) => place.text(text),
            Self::Term { symbol, .. } => place.text(symbol),
            Self::Number(value) => place.text(&fixed(*value)),
            Self::Given(value) => place.text(&value.to_string().replace('-', "\u{2212}")),
            Self::Probability(p) => place.text(&number::probability(*p)),
            Self::Count(n) => place.text(&number::count(*n)),
            Self::Interval(interval) => {
                let [estimate, low, high] = match decimals {
                    Some(_) => [interval.estimate, interval.low, interval.high].map(fixed),
                    None => number::interval_parts(interval),
                };
                let range = format!("[{low}, {high}]");
                place.text(&estimate).text(" ").leaf("span", &[("class", "range")], &range)
            }
            Self::Missing(why) => place.leaf("span", &[("class", "missing"), ("title", why)], "–"),
        };
    }

    fn csv_fields(&self, kind: Kind) -> Vec<String> {
        let first = match self {
            Self::Text(text) => quote(text),
            Self::Term { name, .. } => quote(name),
            Self::Number(value) | Self::Given(value) | Self::Probability(value) => full(*value),
            Self::Count(n) => n.to_string(),
            Self::Interval(interval) => {
                return [interval.estimate, interval.low, interval.high].map(full).into();
            }
            Self::Missing(_) => String::new(),
        };
        let width = if kind == Kind::Intervals { 3 } else { 1 };
        std::iter::once(first).chain(std::iter::repeat_n(String::new(), width - 1)).collect()
    }
}

/// A number in full; nothing for one that is not finite.
fn full(number: f64) -> String {
    if number.is_finite() { number.to_string() } else { String::new() }
}

/// A text field: one that a spreadsheet would take for a formula gets an apostrophe before it.
fn quote(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[
            Column::words("arm", "Arm"),
            Column::intervals("gain", "Gain"),
            Column::numbers("n", "n"),
        ]);
        let interval = Interval { estimate: -0.5, low: -1.0, high: 0.25, n: 3 };
        table.row(vec![Cell::from("=cmd|' /C calc'!A0"), Cell::Interval(interval), Cell::Count(3)]);
        table.row(vec!["a,\"b\"".into(), Cell::Missing("no images".into()), Cell::Number(0.1)]);
        table
    }

    #[test]
    fn csv_defuses_formulas_but_keeps_negative_numbers() {
        assert_eq!(
            table().to_csv(),
            "arm,gain,gain_low,gain_high,n\r\n'=cmd|' /C calc'!A0,-0.5,-1,0.25,3\r\n\"a,\"\"b\"\"\",,,,0.1\r\n"
        );
        for text in ["+1", "-1", "@x", "\tx", "\rx"] {
            assert!(quote(text).trim_start_matches('"').starts_with('\''), "{text:?}");
        }
    }

    #[test]
    fn a_column_has_common_decimals() {
        let mut table = Table::new(&[Column::numbers("a", "A"), Column::numbers("b", "B")]);
        table.row(vec![Cell::Number(0.0614), Cell::Number(3.0)]);
        table.row(vec![Cell::Number(-0.00098), Cell::Number(225.0)]);
        let mut page = Markup::new();
        table.write_html(&mut page);
        for expected in [">0.0614<", ">\u{2212}0.0010<", ">3<", ">225<"] {
            assert!(page.as_str().contains(expected), "{expected}: {}", page.as_str());
        }
    }

    #[test]
    fn digits_are_of_the_column_or_of_the_cell() {
        let interval = Interval { estimate: 1.2196e-5, low: 1.1e-5, high: 1.3e-5, n: 9 };
        let mut table = Table::new(&[
            Column::numbers("a", "A").of_any_size(),
            Column::intervals("b", "B").of_any_size(),
        ]);
        table.row(vec![0.015_93.into(), interval.into()]);
        table.row(vec![
            1.196e-9.into(),
            Interval { estimate: 0.5, low: 0.4, high: 0.6, n: 9 }.into(),
        ]);
        let mut page = Markup::new();
        table.write_html(&mut page);
        for expected in
            [">0.0159<", ">1.20·10⁻⁹<", ">1.22·10⁻⁵ ", ">[1.10·10⁻⁵, 1.30·10⁻⁵]<", ">0.50 "]
        {
            assert!(page.as_str().contains(expected), "{expected}: {}", page.as_str());
        }
    }

    #[test]
    fn what_is_no_number_is_missing() {
        let mut table = Table::new(&[Column::numbers("a", "A"), Column::intervals("b", "B")]);
        let unknown = Interval { estimate: f64::NAN, low: 0.25, high: f64::INFINITY, n: 0 };
        table.row(vec![f64::NAN.into(), unknown.into()]);
        table.row(vec![f64::INFINITY.into(), Interval { estimate: 0.5, ..unknown }.into()]);
        assert_eq!(table.to_csv(), "a,b,b_low,b_high\r\n,,0.25,\r\n,0.5,0.25,\r\n");
        let mut page = Markup::new();
        table.write_html(&mut page);
        assert_eq!(page.as_str().matches("title=\"not a finite number\">–<").count(), 3);
        assert!(page.as_str().contains(">0.500 <span class=\"range\">[0.250, –]<"));
    }

    #[test]
    fn html_escapes_cells_and_says_why_one_is_empty() {
        let mut page = Markup::new();
        let mut table = table();
        table.row(vec!["<b>".into(), Cell::Missing("not <measured>".into()), Cell::Count(0)]);
        table.write_html(&mut page);
        assert!(page.as_str().contains("<th scope=\"row\" class=\"words\">&lt;b&gt;</th>"));
        assert!(page.as_str().contains("title=\"not &lt;measured&gt;\">–</span>"));
    }
}

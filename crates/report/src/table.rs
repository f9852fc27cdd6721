//! A table, once: as HTML for the page and as CSV for a spreadsheet.

use crate::markup::Markup;
use crate::number;
use lethe_ledger::statistics::Interval;

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// A name or a sentence.
    Text(String),
    /// A symbol on the page and a plain name in a CSV.
    Term { symbol: &'static str, name: &'static str },
    /// A measured number.
    Number(f64),
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

impl From<Result<Interval, String>> for Cell {
    fn from(outcome: Result<Interval, String>) -> Self {
        outcome.map_or_else(Self::Missing, Self::Interval)
    }
}

/// A column: its name in a CSV and its title on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Whether its cells are intervals.
    pub(crate) kind: Kind,
}

/// What the cells of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Words,
    Numbers,
    Intervals,
}

impl Column {
    pub(crate) const fn words(name: &'static str, title: &'static str) -> Self {
        Self { name, title, kind: Kind::Words }
    }

    pub(crate) const fn numbers(name: &'static str, title: &'static str) -> Self {
        Self { name, title, kind: Kind::Numbers }
    }

    pub(crate) const fn intervals(name: &'static str, title: &'static str) -> Self {
        Self { name, title, kind: Kind::Intervals }
    }
}

/// What scrolls must be reachable by keyboard, and named.
const FRAME: [(&str, &str); 4] =
    [("class", "table"), ("tabindex", "0"), ("role", "region"), ("aria-label", "Table")];

/// Rows under columns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Appends a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
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
                                column.title,
                            );
                        }
                    });
                });
                table.element("tbody", &[], |body| {
                    let decimals: Vec<i32> =
                        (0..self.columns.len()).map(|column| self.decimals(column)).collect();
                    for cells in &self.rows {
                        body.line().element("tr", &[], |row| self.write_row(cells, &decimals, row));
                    }
                });
            });
        });
        page.line();
    }

    fn write_row(&self, cells: &[Cell], decimals: &[i32], row: &mut Markup) {
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
    fn decimals(&self, column: usize) -> i32 {
        let numbers = |row: &Vec<Cell>| match row.get(column) {
            Some(Cell::Number(value)) => vec![*value],
            Some(Cell::Interval(interval)) => vec![interval.estimate, interval.low, interval.high],
            _ => Vec::new(),
        };
        let numbers: Vec<f64> = self.rows.iter().flat_map(numbers).collect();
        if numbers.iter().all(|number| number.fract() == 0.0) {
            return 0;
        }
        number::decimals(numbers.iter().fold(0.0, |largest, number| number.abs().max(largest)))
    }

    /// The table as CSV (RFC 4180), full precision.
    pub(crate) fn to_csv(&self) -> String {
        let mut names = Vec::new();
        for column in &self.columns {
            names.push(column.name.to_owned());
            if column.kind == Kind::Intervals {
                names.push(format!("{}_low", column.name));
                names.push(format!("{}_high", column.name));
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
    fn write_html(&self, decimals: i32, place: &mut Markup) {
        let fixed = |value: f64| number::with_decimals(value, decimals);
        match self {
            Self::Text(text) => place.text(text),
            Self::Term { symbol, .. } => place.text(symbol),
            Self::Number(value) => place.text(&fixed(*value)),
            Self::Probability(p) => place.text(&number::probability(*p)),
            Self::Count(n) => place.text(&number::count(*n)),
            Self::Interval(interval) => {
                let range = format!("[{}, {}]", fixed(interval.low), fixed(interval.high));
                place.text(&fixed(interval.estimate)).text(" ").leaf(
                    "span",
                    &[("class", "range")],
                    &range,
                )
            }
            Self::Missing(why) => place.leaf("span", &[("class", "missing"), ("title", why)], "–"),
        };
    }

    fn csv_fields(&self, kind: Kind) -> Vec<String> {
        let first = match self {
            Self::Text(text) => quote(text),
            Self::Term { name, .. } => quote(name),
            Self::Number(value) | Self::Probability(value) => value.to_string(),
            Self::Count(n) => n.to_string(),
            Self::Interval(interval) => {
                return [interval.estimate, interval.low, interval.high]
                    .iter()
                    .map(f64::to_string)
                    .collect();
            }
            Self::Missing(_) => String::new(),
        };
        let width = if kind == Kind::Intervals { 3 } else { 1 };
        std::iter::once(first).chain(std::iter::repeat_n(String::new(), width - 1)).collect()
    }
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
    fn html_escapes_cells_and_says_why_one_is_empty() {
        let mut page = Markup::new();
        let mut table = table();
        table.row(vec!["<b>".into(), Cell::Missing("not <measured>".into()), Cell::Count(0)]);
        table.write_html(&mut page);
        assert!(page.as_str().contains("<th scope=\"row\" class=\"words\">&lt;b&gt;</th>"));
        assert!(page.as_str().contains("title=\"not &lt;measured&gt;\">–</span>"));
    }
}

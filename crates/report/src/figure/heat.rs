//! A matrix of numbers as shaded cells with the numbers in them.

use super::frame::{self, svg};
use super::{Caption, Size, coordinate};
use crate::markup::Markup;
use crate::number;

/// A matrix; darker is higher.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeatMap {
    pub(crate) caption: Caption,
    /// What the matrix is of.
    pub(crate) heading: String,
    pub(crate) rows: Vec<String>,
    pub(crate) columns: Vec<String>,
    /// By row, then by column; none where nothing was measured.
    pub(crate) cells: Vec<Vec<Option<f64>>>,
    /// The numbers of the lightest and the darkest shade, common to all maps beside each other.
    pub(crate) range: (f64, f64),
}

const LEFT: f64 = 30.0;
const TOP: f64 = 60.0;
const HEIGHT: f64 = 34.0;
const WIDEST: f64 = 76.0;
/// Room for the line above the columns.
const NARROWEST: f64 = 200.0;

impl HeatMap {
    /// The figure.
    pub(crate) fn draw(&self) -> Markup {
        let width = (300.0 / self.columns.len().max(1) as f64).min(WIDEST);
        let size = Size {
            width: (LEFT + width * self.columns.len() as f64 + 8.0).max(NARROWEST),
            height: TOP + HEIGHT * self.rows.len() as f64 + 6.0,
        };
        svg(size, &self.caption, |figure| {
            frame::text(figure, "label strong", (2.0, 14.0), &self.heading);
            frame::text(figure, "tick", (2.0, 31.0), "↓ after task   → examples of task");
            for (column, name) in self.columns.iter().enumerate() {
                let x = LEFT + width * (column as f64 + 0.5);
                frame::text(figure, "tick middle", (x, TOP - 8.0), name);
            }
            for (row, (name, cells)) in self.rows.iter().zip(&self.cells).enumerate() {
                let top = TOP + HEIGHT * row as f64;
                frame::text(figure, "tick end", (LEFT - 8.0, top + HEIGHT / 2.0 + 4.0), name);
                for (column, cell) in cells.iter().enumerate() {
                    let place = (LEFT + width * column as f64, top);
                    self.draw_cell(*cell, place, width, figure);
                }
            }
        })
    }

    fn draw_cell(&self, cell: Option<f64>, (x, y): (f64, f64), width: f64, figure: &mut Markup) {
        let shade = cell.map_or(0.0, |value| self.shade(value));
        let [left, top, cell_width, height, opacity] =
            [x + 1.0, y + 1.0, width - 2.0, HEIGHT - 2.0, 0.06 + 0.5 * shade].map(coordinate);
        let class = if cell.is_some() { "cell" } else { "cell empty" };
        figure.void(
            "rect",
            &[
                ("class", class),
                ("x", &left),
                ("y", &top),
                ("width", &cell_width),
                ("height", &height),
                ("rx", "3"),
                ("fill-opacity", &opacity),
            ],
        );
        let text = cell.map_or_else(|| "–".to_owned(), number::short);
        frame::text(figure, "value middle", (x + width / 2.0, y + HEIGHT / 2.0 + 4.5), &text);
    }

    /// 0 at the lower end of the range, 1 at the upper.
    fn shade(&self, value: f64) -> f64 {
        let (low, high) = self.range;
        let share = (value - low) / (high - low);
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.5 }
    }
}

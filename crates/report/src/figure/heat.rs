//! A matrix of numbers as shaded cells, with the numbers in them where they fit.

use super::frame::{self, breadth, svg};
use super::{Caption, Figure, Size, Spacing, coordinate};
use crate::markup::Markup;
use crate::number;

/// Numbers by row, then by column; none where nothing was measured.
pub type Cells = Vec<Vec<Option<f64>>>;

/// A matrix; darker is higher, or farther from the middle.
///
/// Pointing at a cell shows its number in full. A number without a place is shown as missing.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// Its name, title and description.
    pub caption: Caption,
    /// What the matrix is of.
    pub heading: String,
    /// What the rows are.
    pub row_label: String,
    /// Names of the rows, from the top.
    pub rows: Vec<String>,
    /// What the columns are.
    pub column_label: String,
    /// Names of the columns, from the left.
    pub columns: Vec<String>,
    /// What is shown.
    pub cells: Cells,
    /// The numbers of the lightest and the darkest shade, common to all maps beside each other.
    pub range: (f64, f64),
    /// Whether shades follow the numbers or their logarithms.
    pub spacing: Spacing,
    /// The number without shade, if those below and above it have a hue each.
    pub middle: Option<f64>,
    /// Whether a strip below the map says what each shade means.
    pub has_scale: bool,
}

const LEFT: f64 = 30.0;
const TOP: f64 = 60.0;
const WIDEST: f64 = 76.0;
/// Room for the line above the columns.
const NARROWEST: f64 = 200.0;
/// More columns than this need the width of the page.
const MANY_COLUMNS: usize = 8;
/// Pieces of the strip, and their size.
const PIECES: usize = 30;
const PIECE: (f64, f64) = (6.0, 10.0);
/// Sine and cosine of the angle (50°) of names that are broader than their column.
const TURNED: (f64, f64) = (0.766, 0.643);

/// Where cells lie, in units of the figure.
#[derive(Debug, Clone, Copy)]
struct Grid {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    has_turned_names: bool,
    has_numbers: bool,
}

impl HeatMap {
    /// A map of these cells over their own range, with a strip, from labels and names of the rows
    /// and of the columns.
    pub fn new(
        caption: Caption,
        (row_label, rows): (&str, Vec<String>),
        (column_label, columns): (&str, Vec<String>),
        cells: Cells,
    ) -> Self {
        Self {
            heading: caption.title.clone(),
            caption,
            row_label: row_label.to_owned(),
            rows,
            column_label: column_label.to_owned(),
            columns,
            range: Self::range_of(&cells),
            cells,
            spacing: Spacing::Linear,
            middle: None,
            has_scale: true,
        }
    }

    /// The same map with shades by logarithm.
    pub fn by_logarithm(mut self) -> Self {
        self.spacing = Spacing::Log10;
        let is_held = |cell: &Option<f64>| cell.filter(|&value| Spacing::Log10.holds(value));
        let held = self.cells.iter().map(|row| row.iter().map(is_held).collect()).collect();
        self.range = Self::range_of(&held);
        self
    }

    /// The same map with one hue below and another above this number.
    pub fn around(self, middle: f64) -> Self {
        Self { middle: Some(middle), ..self }
    }

    /// The lowest and the highest finite number; 0 and 1 if there is none.
    pub fn range_of(cells: &Cells) -> (f64, f64) {
        let finite = cells.iter().flatten().flatten().filter(|value| value.is_finite());
        let ends = (f64::INFINITY, f64::NEG_INFINITY);
        let ends = finite.fold(ends, |(low, high), &value| (low.min(value), high.max(value)));
        if ends.0 > ends.1 { (0.0, 1.0) } else { ends }
    }

    /// The figure.
    pub fn draw(&self) -> Figure {
        let grid = self.grid();
        let axes = format!("↓ {}   → {}", self.row_label, self.column_label);
        let bottom = grid.top + grid.height * self.rows.len() as f64;
        let size = Size { width: self.width(&grid, &axes), height: bottom + self.foot() };
        svg(size, &self.caption, |figure| {
            frame::text(figure, "label strong", (2.0, 14.0), &self.heading);
            frame::text(figure, "tick", (2.0, 31.0), &axes);
            for (column, name) in self.columns.iter().enumerate() {
                let x = grid.left + grid.width * (column as f64 + 0.5);
                draw_name(name, (x, grid.top - 8.0), grid.has_turned_names, figure);
            }
            for (row, (name, cells)) in self.rows.iter().zip(&self.cells).enumerate() {
                let y = grid.top + grid.height * (row as f64 + 0.5) + 4.0;
                frame::text(figure, "tick end", (grid.left - 8.0, y), name);
                for column in 0..cells.len().min(self.columns.len()) {
                    self.draw_cell((row, column), &grid, figure);
                }
            }
            if self.has_scale {
                self.draw_scale((grid.left, bottom + 12.0), figure);
            }
        })
    }

    fn grid(&self) -> Grid {
        let widest = |names: &[String]| names.iter().map(|name| breadth(name)).fold(0.0, f64::max);
        let n = self.columns.len();
        let room = if n > MANY_COLUMNS { 540.0 } else { 300.0 };
        let width = (room / n.max(1) as f64).min(WIDEST);
        let numbers: Vec<String> = (0..self.rows.len())
            .flat_map(|row| (0..n).filter_map(move |column| self.value(row, column)))
            .map(number::short)
            .collect();
        let has_turned_names = widest(&self.columns) > width - 2.0;
        let turned = 44.0 + widest(&self.columns) * TURNED.0 + 8.0;
        Grid {
            left: LEFT.max(widest(&self.rows) + 12.0),
            top: if has_turned_names { TOP.max(turned) } else { TOP },
            width,
            height: if self.rows.len() > 12 { 24.0 } else { 34.0 },
            has_turned_names,
            has_numbers: widest(&numbers) * 1.08 <= width - 4.0,
        }
    }

    fn width(&self, grid: &Grid, axes: &str) -> f64 {
        let cells = grid.left + grid.width * self.columns.len() as f64 + 8.0;
        let last = self.columns.last().map_or(0.0, |name| breadth(name) * TURNED.1);
        let turned = if grid.has_turned_names { (last - grid.width / 2.0).max(0.0) } else { 0.0 };
        let strip = if self.has_scale { grid.left + PIECE.0 * PIECES as f64 + 24.0 } else { 0.0 };
        let words = (breadth(axes) + 2.0).max(breadth(&self.heading) * 1.1 + 2.0);
        (cells + turned).max(strip).max(words).max(NARROWEST)
    }

    fn foot(&self) -> f64 {
        if self.has_scale { 46.0 } else { 6.0 }
    }

    /// The number of a cell, if it has a place.
    fn value(&self, row: usize, column: usize) -> Option<f64> {
        let value = (*self.cells.get(row)?.get(column)?)?;
        self.spacing.holds(value).then_some(value)
    }

    fn draw_cell(&self, (row, column): (usize, usize), grid: &Grid, figure: &mut Markup) {
        let value = self.value(row, column);
        let (x, y) = (grid.left + grid.width * column as f64, grid.top + grid.height * row as f64);
        let words = match self.cells[row][column] {
            Some(number) => number.to_string(),
            None => "not measured".to_owned(),
        };
        let place = format!(
            "{} {}, {} {}: {words}",
            self.row_label, self.rows[row], self.column_label, self.columns[column]
        );
        let text = match value {
            Some(value) if grid.has_numbers => number::short(value),
            Some(_) => String::new(),
            None => "–".to_owned(),
        };
        figure.element("g", &[], |cell| {
            cell.leaf("title", &[], &place);
            let corner = (x + 1.0, y + 1.0);
            let size = (grid.width - 2.0, grid.height - 2.0);
            let spaced = value.map(|value| self.spacing.spaced(value));
            self.draw_shade(spaced, corner, size, "3", cell);
            if !text.is_empty() {
                let middle = (x + grid.width / 2.0, y + grid.height / 2.0 + 4.5);
                frame::text(cell, "value middle", middle, &text);
            }
        });
    }

    /// A rectangle with round corners in the shade of a number in units of the scale.
    fn draw_shade(
        &self,
        spaced: Option<f64>,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        radius: &str,
        figure: &mut Markup,
    ) {
        let shade = spaced.map_or(0.0, |spaced| self.shade(spaced));
        let class = match (spaced, self.middle) {
            (None, _) => "cell empty",
            (_, Some(_)) if shade > 0.0 => "cell above",
            _ => "cell",
        };
        let [x, y, width, height, opacity] =
            [x, y, width, height, 0.06 + 0.5 * shade.abs()].map(coordinate);
        figure.void(
            "rect",
            &[
                ("class", class),
                ("x", &x),
                ("y", &y),
                ("width", &width),
                ("height", &height),
                ("rx", radius),
                ("fill-opacity", &opacity),
            ],
        );
    }

    /// 0 at the lower end of the range and 1 at the upper; around a middle from -1 to 1, equally
    /// dark at equal distances.
    fn shade(&self, spaced: f64) -> f64 {
        let [low, high] = [self.range.0, self.range.1].map(|number| self.spacing.spaced(number));
        match self.middle.map(|middle| self.spacing.spaced(middle)) {
            None => {
                let share = (spaced - low) / (high - low);
                if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.5 }
            }
            Some(middle) => {
                let farthest = (high - middle).abs().max((low - middle).abs());
                let share = (spaced - middle) / farthest;
                if share.is_finite() { share.clamp(-1.0, 1.0) } else { 0.0 }
            }
        }
    }

    /// The strip of shades with the numbers at its ends and at the middle.
    fn draw_scale(&self, (left, top): (f64, f64), figure: &mut Markup) {
        let [low, high] = [self.range.0, self.range.1].map(|number| self.spacing.spaced(number));
        for piece in 0..PIECES {
            let share = (piece as f64 + 0.5) / PIECES as f64;
            let corner = (left + PIECE.0 * piece as f64, top);
            self.draw_shade(Some(low + share * (high - low)), corner, PIECE, "0", figure);
        }
        let (length, y) = (PIECE.0 * PIECES as f64, top + PIECE.1 + 14.0);
        frame::text(figure, "tick", (left, y), &number::short(self.range.0));
        frame::text(figure, "tick end", (left + length, y), &number::short(self.range.1));
        if let Some(middle) = self.middle {
            let share = (self.spacing.spaced(middle) - low) / (high - low);
            if (0.25..0.75).contains(&share) {
                frame::text(
                    figure,
                    "tick middle",
                    (left + share * length, y),
                    &number::short(middle),
                );
            }
        }
    }
}

fn draw_name(name: &str, (x, y): (f64, f64), is_turned: bool, figure: &mut Markup) {
    if !is_turned {
        return frame::text(figure, "tick middle", (x, y), name);
    }
    let [x, y] = [x + 3.0, y].map(coordinate);
    let turn = format!("rotate(-50 {x} {y})");
    figure.leaf("text", &[("class", "tick"), ("x", &x), ("y", &y), ("transform", &turn)], name);
}

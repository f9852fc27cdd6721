//! Estimates with their intervals, one row each: a forest plot.

use super::frame::{self, breadth, svg};
use super::scale::{Scale, Spacing};
use super::{Caption, Figure, Ink, Size, coordinate};
use crate::markup::Markup;
use lethe_ledger::statistics::Interval;

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Stands on the left.
    pub name: String,
    /// Its look.
    pub ink: Ink,
    /// A dot at the estimate, a line from low to high.
    pub interval: Interval,
    /// The heading under which the row stands with its neighbours of the same group, if any.
    pub group: Option<String>,
}

impl Bar {
    /// A row without a group.
    pub fn new(name: impl Into<String>, ink: Ink, interval: Interval) -> Self {
        Self { name: name.into(), ink, interval, group: None }
    }

    /// The same row under a heading.
    pub fn under(self, group: impl Into<String>) -> Self {
        Self { group: Some(group.into()), ..self }
    }
}

/// A chart of rows; on a linear axis zero is always shown.
///
/// On a logarithmic axis an interval that reaches zero or below is drawn to the left end, and a row
/// whose estimate has no place holds a dash.
#[derive(Debug, Clone, PartialEq)]
pub struct BarChart {
    /// Its name, title and description.
    pub caption: Caption,
    /// The quantity and its unit.
    pub label: String,
    /// How the numbers lie.
    pub spacing: Spacing,
    /// At least so wide: the width of [`Size::PANEL`] or of [`Size::WIDE`].
    pub width: f64,
    /// From the top.
    pub bars: Vec<Bar>,
}

const LEFT: f64 = 116.0;
const RIGHT: f64 = 10.0;
const ROW: f64 = 21.0;
const TOP: f64 = 30.0;
/// What long names leave for the plot at least.
const PLOT: f64 = 194.0;

/// One line of the chart.
enum Row<'a> {
    Heading(&'a str),
    Estimate(&'a Bar),
}

impl BarChart {
    /// A panel with a linear axis.
    pub fn new(caption: Caption, label: impl Into<String>, bars: Vec<Bar>) -> Self {
        let (spacing, width) = (Spacing::Linear, Size::PANEL.width);
        Self { caption, label: label.into(), spacing, width, bars }
    }

    /// The figure.
    pub fn draw(&self) -> Figure {
        let rows = self.rows();
        let widest = self.bars.iter().map(|bar| breadth(&bar.name)).fold(0.0, f64::max);
        // In a broad font a long name reaches into the gap beside the figure, which is 16 at least.
        let left = LEFT.max(1.1 * widest);
        let right = left + PLOT.max(self.width - left - RIGHT);
        let bottom = TOP + ROW * rows.len() as f64;
        let size = Size { width: right + RIGHT, height: bottom + 24.0 };
        let ends = self.bars.iter().map(|bar| bar.interval);
        let ends = ends.flat_map(|interval| [interval.low, interval.high, interval.estimate]);
        let scale = Scale::over(self.spacing, ends.chain([0.0]), left, right).with_room(0.04);
        svg(size, &self.caption.leaving_out(self.left_out()), |figure| {
            frame::text(figure, "label strong", (2.0, 14.0), &self.label);
            draw_grid(&scale, if right - left < 400.0 { 3 } else { 6 }, bottom, figure);
            for (row, content) in rows.iter().enumerate() {
                let y = TOP + ROW * (row as f64 + 0.5);
                match content {
                    Row::Heading(name) => frame::text(figure, "strong", (2.0, y + 4.0), name),
                    Row::Estimate(bar) => draw_bar(bar, y, left, &scale, figure),
                }
            }
        })
    }

    /// Bars, with a heading wherever the group changes.
    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        let mut last = None;
        for bar in &self.bars {
            if let Some(group) = bar.group.as_deref().filter(|group| last != Some(*group)) {
                rows.push(Row::Heading(group));
            }
            last = bar.group.as_deref();
            rows.push(Row::Estimate(bar));
        }
        rows
    }

    fn left_out(&self) -> usize {
        self.bars.iter().filter(|bar| !self.spacing.holds(bar.interval.estimate)).count()
    }
}

fn draw_grid(scale: &Scale, n_ticks: usize, bottom: f64, figure: &mut Markup) {
    for (number, label) in scale.ticks(n_ticks) {
        let x = scale.place(number);
        let class = if number == 0.0 { "zero" } else { "grid" };
        frame::line(figure, class, (x, TOP), (x, bottom));
        frame::text(figure, "tick middle", (x, bottom + 16.0), &label);
    }
    for x in scale.minor_ticks().into_iter().map(|number| scale.place(number)) {
        frame::line(figure, "mark", (x, bottom), (x, bottom - 4.0));
    }
}

fn draw_bar(bar: &Bar, y: f64, left: f64, scale: &Scale, figure: &mut Markup) {
    let Interval { estimate, low, high, .. } = bar.interval;
    frame::text(figure, "tick end", (left - 8.0, y + 4.0), &bar.name);
    if !scale.spacing.holds(estimate) {
        return frame::text(figure, "tick", (left + 6.0, y + 4.0), "–");
    }
    if scale.spacing.holds(high) && !low.is_nan() {
        let [low, high] = [low, high].map(|number| scale.place(number));
        frame::line(figure, &format!("whisker {}", bar.ink.0), (low, y), (high, y));
    }
    let [x, y] = [scale.place(estimate), y].map(coordinate);
    let class = format!("dot {}", bar.ink.0);
    figure.void("circle", &[("class", &class), ("cx", &x), ("cy", &y), ("r", "4")]);
}

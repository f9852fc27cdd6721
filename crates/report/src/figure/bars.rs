//! Estimates with their intervals, one row each: a forest plot.

use super::frame::{self, svg};
use super::scale::Scale;
use super::{Caption, Ink, Size, coordinate};
use crate::markup::Markup;
use lethe_ledger::statistics::Interval;

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) ink: Ink,
    pub(crate) interval: Interval,
}

/// A chart of rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BarChart {
    pub(crate) caption: Caption,
    pub(crate) label: String,
    pub(crate) bars: Vec<Bar>,
}

const LEFT: f64 = 116.0;
const RIGHT: f64 = 10.0;
const ROW: f64 = 21.0;
const TOP: f64 = 30.0;
const WIDTH: f64 = 320.0;

impl BarChart {
    /// The figure.
    pub(crate) fn draw(&self) -> Markup {
        let bottom = TOP + ROW * self.bars.len() as f64;
        let size = Size { width: WIDTH, height: bottom + 24.0 };
        let ends = self.bars.iter().flat_map(|bar| [bar.interval.low, bar.interval.high]);
        let scale = Scale::over(ends.chain([0.0]), LEFT, WIDTH - RIGHT).with_room(0.04);
        svg(size, &self.caption, |figure| {
            frame::text(figure, "label strong", (2.0, 14.0), &self.label);
            for (number, label) in scale.ticks(3) {
                let x = scale.place(number);
                let class = if number == 0.0 { "zero" } else { "grid" };
                frame::line(figure, class, (x, TOP), (x, bottom));
                frame::text(figure, "tick middle", (x, bottom + 16.0), &label);
            }
            for (row, bar) in self.bars.iter().enumerate() {
                draw_bar(bar, TOP + ROW * (row as f64 + 0.5), &scale, figure);
            }
        })
    }
}

fn draw_bar(bar: &Bar, y: f64, scale: &Scale, figure: &mut Markup) {
    let [low, middle, high] = [bar.interval.low, bar.interval.estimate, bar.interval.high]
        .map(|number| scale.place(number));
    frame::text(figure, "tick end", (LEFT - 8.0, y + 4.0), &bar.name);
    frame::line(figure, &format!("whisker {}", bar.ink.0), (low, y), (high, y));
    let [x, y] = [middle, y].map(coordinate);
    let class = format!("dot {}", bar.ink.0);
    figure.void("circle", &[("class", &class), ("cx", &x), ("cy", &y), ("r", "4")]);
}

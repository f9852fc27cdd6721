//! The frame of a chart: its axes, grid and labels, and the SVG around them.

use super::scale::Scale;
use super::{Caption, coordinate};
use crate::markup::Markup;

/// Size of a figure in its own units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size {
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Size {
    /// A figure that stands alone.
    pub(crate) const WIDE: Self = Self { width: 600.0, height: 340.0 };
    /// One of several panels.
    pub(crate) const PANEL: Self = Self { width: 320.0, height: 225.0 };
}

/// An axis: what it shows and, where the reader needs them, the ticks by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Axis {
    pub(crate) label: String,
    /// Ticks at these numbers instead of round ones.
    pub(crate) ticks: Option<Vec<(f64, String)>>,
}

impl Axis {
    /// An axis with round ticks.
    pub(crate) fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), ticks: None }
    }

    /// An axis of ten deciles.
    pub(crate) fn deciles(label: impl Into<String>) -> Self {
        let ticks = (1..=10).map(|decile| (f64::from(decile), decile.to_string())).collect();
        Self { label: label.into(), ticks: Some(ticks) }
    }
}

const LEFT: f64 = 50.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;

/// Two scales inside a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub(super) size: Size,
    pub(super) x: Scale,
    pub(super) y: Scale,
}

impl Frame {
    /// A frame around these numbers.
    pub(super) fn around(
        size: Size,
        x: impl IntoIterator<Item = f64>,
        y: impl IntoIterator<Item = f64>,
    ) -> Self {
        Self {
            size,
            x: Scale::over(x, LEFT, size.width - RIGHT).with_room(0.02),
            y: Scale::over(y, size.height - BOTTOM, TOP).with_room(0.05),
        }
    }

    /// Top and bottom of the plotted area.
    pub(super) fn top_and_bottom(&self) -> (f64, f64) {
        (TOP, self.size.height - BOTTOM)
    }

    /// The whole figure: grid and axes, then what `inside` draws.
    pub(super) fn draw(
        &self,
        caption: &Caption,
        axes: (&Axis, &Axis),
        inside: impl FnOnce(&mut Markup),
    ) -> Markup {
        svg(self.size, caption, |figure| {
            self.draw_y_axis(axes.1, figure);
            self.draw_x_axis(axes.0, figure);
            inside(figure);
        })
    }

    fn draw_y_axis(&self, axis: &Axis, figure: &mut Markup) {
        let ticks = axis.ticks.clone().unwrap_or_else(|| self.y.ticks(5));
        for (number, label) in ticks {
            let class = if number == 0.0 { "zero" } else { "grid" };
            let y = self.y.place(number);
            line(figure, class, (LEFT, y), (self.size.width - RIGHT, y));
            text(figure, "tick end", (LEFT - 7.0, y + 4.0), &label);
        }
        text(figure, "label strong", (2.0, 14.0), &axis.label);
    }

    fn draw_x_axis(&self, axis: &Axis, figure: &mut Markup) {
        let (_, bottom) = self.top_and_bottom();
        let round = if self.size.width < 500.0 { 5 } else { 7 };
        for (number, label) in axis.ticks.clone().unwrap_or_else(|| self.x.ticks(round)) {
            let x = self.x.place(number);
            line(figure, "mark", (x, bottom), (x, bottom + 4.0));
            text(figure, "tick middle", (x, bottom + 18.0), &label);
        }
        line(figure, "axis", (LEFT, bottom), (self.size.width - RIGHT, bottom));
        let place = (self.size.width - RIGHT, self.size.height - 6.0);
        text(figure, "label end", place, &axis.label);
    }
}

/// An SVG with title and description.
pub(super) fn svg(size: Size, caption: &Caption, inside: impl FnOnce(&mut Markup)) -> Markup {
    let view = format!("0 0 {} {}", coordinate(size.width), coordinate(size.height));
    let (title, description) =
        (format!("{}-title", caption.name), format!("{}-desc", caption.name));
    let labels = format!("{title} {description}");
    let class = match size.width {
        width if width > 500.0 => "figure wide",
        width if width > 300.0 => "figure panel",
        _ => "figure small",
    };
    let mut figure = Markup::new();
    figure.element(
        "svg",
        &[("class", class), ("viewBox", &view), ("role", "img"), ("aria-labelledby", &labels)],
        |svg| {
            svg.leaf("title", &[("id", &title)], &caption.title);
            svg.leaf("desc", &[("id", &description)], &caption.description);
            inside(svg);
        },
    );
    figure.line();
    figure
}

/// A straight line.
pub(super) fn line(figure: &mut Markup, class: &str, from: (f64, f64), to: (f64, f64)) {
    let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(coordinate);
    figure.void("line", &[("class", class), ("x1", &x1), ("y1", &y1), ("x2", &x2), ("y2", &y2)]);
}

/// A text at a place.
pub(super) fn text(figure: &mut Markup, class: &str, place: (f64, f64), content: &str) {
    let [x, y] = [place.0, place.1].map(coordinate);
    figure.leaf("text", &[("class", class), ("x", &x), ("y", &y)], content);
}

//! The frame of a chart: its axes, grid and labels, and the SVG around them.

use super::scale::{Scale, Spacing};
use super::{Caption, Figure, coordinate};
use crate::markup::Markup;

/// Size of a figure in its own units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// From left to right.
    pub width: f64,
    /// From top to bottom.
    pub height: f64,
}

impl Size {
    /// A figure that stands alone.
    pub const WIDE: Self = Self { width: 600.0, height: 340.0 };
    /// One of several panels.
    pub const PANEL: Self = Self { width: 320.0, height: 225.0 };
}

/// An axis: what it shows, how, and where the reader needs them, the ticks by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Axis {
    /// The quantity and its unit.
    pub label: String,
    /// How its numbers lie.
    pub spacing: Spacing,
    /// Ticks at these numbers instead of round ones.
    pub ticks: Option<Vec<(f64, String)>>,
}

impl Axis {
    /// An axis with round ticks.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), ..Self::default() }
    }

    /// A logarithmic axis with ticks at powers of ten; numbers not above zero are left out.
    pub fn log10(label: impl Into<String>) -> Self {
        Self { spacing: Spacing::Log10, ..Self::new(label) }
    }

    /// The same axis with ticks at these numbers.
    pub fn with_ticks(self, ticks: Vec<(f64, String)>) -> Self {
        Self { ticks: Some(ticks), ..self }
    }

    /// An axis of ten deciles.
    pub fn deciles(label: impl Into<String>) -> Self {
        let ticks = (1..=10).map(|decile| (f64::from(decile), decile.to_string())).collect();
        Self::new(label).with_ticks(ticks)
    }

    /// The ticks that have a place, about `n` if they are not given.
    fn ticks_on(&self, scale: &Scale, n: usize) -> Vec<(f64, String)> {
        let mut ticks = self.ticks.clone().unwrap_or_else(|| scale.ticks(n));
        ticks.retain(|(number, _)| self.spacing.holds(*number));
        ticks
    }
}

const LEFT: f64 = 50.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;
const Y_TICKS: usize = 5;

/// Two scales inside a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame<'a> {
    size: Size,
    x_axis: &'a Axis,
    y_axis: &'a Axis,
    pub(super) x: Scale,
    pub(super) y: Scale,
    /// Left and right end of the plotted area.
    ends: (f64, f64),
    /// How many of the points have no place.
    left_out: usize,
}

impl<'a> Frame<'a> {
    /// A frame around `points` and `heights`, further numbers of the y axis, with room for words
    /// of length `aside` on the right.
    pub(super) fn around(
        size: Size,
        (x_axis, y_axis): (&'a Axis, &'a Axis),
        points: &[(f64, f64)],
        heights: impl IntoIterator<Item = f64>,
        aside: f64,
    ) -> Self {
        let holds = |&(x, y): &(f64, f64)| x_axis.spacing.holds(x) && y_axis.spacing.holds(y);
        let held: Vec<(f64, f64)> = points.iter().copied().filter(holds).collect();
        let ys = held.iter().map(|point| point.1).chain(heights);
        let y = Scale::over(y_axis.spacing, ys, size.height - BOTTOM, TOP).with_room(0.05);
        let labels = y_axis.ticks_on(&y, Y_TICKS);
        let widest = labels.iter().map(|(_, label)| breadth(label)).fold(0.0, f64::max);
        let ends = (LEFT.max(widest + 9.0), size.width - RIGHT - aside);
        let xs = held.iter().map(|point| point.0);
        let x = Scale::over(x_axis.spacing, xs, ends.0, ends.1).with_room(0.02);
        Self { size, x_axis, y_axis, x, y, ends, left_out: points.len() - held.len() }
    }

    /// The place of a point, if it has one.
    pub(super) fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let is_held = self.x.spacing.holds(x) && self.y.spacing.holds(y);
        is_held.then(|| (self.x.place(x), self.y.place(y)))
    }

    /// Top and bottom of the plotted area.
    pub(super) fn top_and_bottom(&self) -> (f64, f64) {
        (TOP, self.size.height - BOTTOM)
    }

    /// The right end of the plotted area.
    pub(super) fn right(&self) -> f64 {
        self.ends.1
    }

    /// The whole figure: grid and axes, then what `inside` draws.
    pub(super) fn draw(&self, caption: &Caption, inside: impl FnOnce(&mut Markup)) -> Figure {
        svg(self.size, &caption.leaving_out(self.left_out), |figure| {
            self.draw_y_axis(figure);
            self.draw_x_axis(figure);
            if self.left_out > 0 {
                let words = format!("{} left out", self.left_out);
                text(figure, "tick", (2.0, self.size.height - 6.0), &words);
            }
            inside(figure);
        })
    }

    fn draw_y_axis(&self, figure: &mut Markup) {
        let (left, right) = self.ends;
        for (number, label) in self.y_axis.ticks_on(&self.y, Y_TICKS) {
            let class = if number == 0.0 { "zero" } else { "grid" };
            let y = self.y.place(number);
            line(figure, class, (left, y), (right, y));
            text(figure, "tick end", (left - 7.0, y + 4.0), &label);
        }
        for y in self.y.minor_ticks().into_iter().map(|number| self.y.place(number)) {
            line(figure, "mark", (left, y), (left + 4.0, y));
        }
        text(figure, "label strong", (2.0, 14.0), &self.y_axis.label);
    }

    fn draw_x_axis(&self, figure: &mut Markup) {
        let (left, right) = self.ends;
        let (_, bottom) = self.top_and_bottom();
        let round = if self.size.width < 500.0 { 5 } else { 7 };
        for (number, label) in self.x_axis.ticks_on(&self.x, round) {
            let x = self.x.place(number);
            line(figure, "mark", (x, bottom), (x, bottom + 4.0));
            text(figure, "tick middle", (x, bottom + 18.0), &label);
        }
        for x in self.x.minor_ticks().into_iter().map(|number| self.x.place(number)) {
            line(figure, "mark", (x, bottom), (x, bottom - 4.0));
        }
        line(figure, "axis", (left, bottom), (right, bottom));
        text(figure, "label end", (right, self.size.height - 6.0), &self.x_axis.label);
    }
}

/// An SVG with title and description.
pub(super) fn svg(size: Size, caption: &Caption, inside: impl FnOnce(&mut Markup)) -> Figure {
    let view = format!("0 0 {} {}", coordinate(size.width), coordinate(size.height));
    let (title, description) =
        (format!("{}-title", caption.name), format!("{}-desc", caption.name));
    let labels = format!("{title} {description}");
    let class = match size.width {
        width if width > 500.0 => "figure wide",
        width if width > 300.0 => "figure panel",
        _ => "figure small",
    };
    let mut markup = Markup::new();
    markup.element(
        "svg",
        &[("class", class), ("viewBox", &view), ("role", "img"), ("aria-labelledby", &labels)],
        |svg| {
            svg.leaf("title", &[("id", &title)], &caption.title);
            svg.leaf("desc", &[("id", &description)], &caption.description);
            inside(svg);
        },
    );
    markup.line();
    Figure { name: caption.name.clone(), markup }
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

/// About how broad a text of the figures' size is: no font is known here.
pub(super) fn breadth(text: &str) -> f64 {
    let of = |character: char| match character {
        ' ' | '.' | ',' | ':' | ';' | '\'' | '|' | '(' | ')' | '[' | ']' | '-' | '·' => 3.9,
        'f' | 'i' | 'j' | 'l' | 'r' | 't' | 'I' => 3.9,
        '⁰' | '¹' | '²' | '³' | '⁴'..='⁹' | '⁻' => 4.8,
        'm' | 'w' | 'M' | 'W' | '→' | '↓' => 10.5,
        _ => 7.1,
    };
    text.chars().map(of).sum()
}

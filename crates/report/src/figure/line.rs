//! Lines with bands: a quantity over steps or deciles.

use super::frame::{self, Frame};
use super::{Axis, Caption, Figure, Ink, Size, coordinate, path};
use crate::markup::Markup;

/// One line; `band` holds low and high at each point.
///
/// A point without a place breaks the line; a band is cut where a logarithmic axis ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its look.
    pub ink: Ink,
    /// Stands beside the end of the line; empty for a series that the legend names.
    pub name: String,
    /// x and y, in the order in which the line goes through them.
    pub points: Vec<(f64, f64)>,
    /// Low and high for each point, or nothing.
    pub band: Vec<(f64, f64)>,
    /// Whether each point has a dot.
    pub has_markers: bool,
    /// A band alone, without its line.
    pub is_range: bool,
}

impl Series {
    /// A line through points, without name, band or markers.
    pub fn plain(ink: Ink, points: Vec<(f64, f64)>) -> Self {
        let (name, band) = (String::new(), Vec::new());
        Self { ink, name, points, band, has_markers: false, is_range: false }
    }
}

/// More series than this make a crowd.
const CROWD: usize = 5;

/// Height of a line of text.
const TEXT: f64 = 15.0;

/// A chart of lines.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// Its name, title and description.
    pub caption: Caption,
    /// [`Size::WIDE`] alone, [`Size::PANEL`] beside others.
    pub size: Size,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// The lines, the uppermost last.
    pub series: Vec<Series>,
    /// Vertical lines at these numbers, in a wide figure with a word for what begins there.
    pub marks: Vec<(f64, String)>,
    /// Whether zero is part of the y axis, if that is linear.
    pub includes_zero: bool,
}

impl LineChart {
    /// A wide chart without marks whose y axis need not reach zero.
    pub fn new(caption: Caption, x: Axis, y: Axis, series: Vec<Series>) -> Self {
        Self { caption, size: Size::WIDE, x, y, series, marks: Vec::new(), includes_zero: false }
    }

    /// The figure.
    pub fn draw(&self) -> Figure {
        let points: Vec<(f64, f64)> =
            self.series.iter().flat_map(|series| series.points.iter().copied()).collect();
        let names = self.series.iter().map(|series| frame::breadth(&series.name));
        let widest = names.fold(0.0, f64::max);
        let aside = if widest > 0.0 { widest + 6.0 } else { 0.0 };
        let frame = Frame::around(self.size, (&self.x, &self.y), &points, self.heights(), aside);
        frame.draw(&self.caption, |figure| {
            self.draw_marks(&frame, figure);
            // Many bands on one spot would drown the lines: they are fainter then.
            let class = if self.series.len() > CROWD { "crowded" } else { "bands" };
            figure.element("g", &[("class", class)], |bands| {
                self.series.iter().for_each(|series| draw_band(series, &frame, bands));
            });
            self.series.iter().for_each(|series| draw_line(series, &frame, figure));
            self.draw_names(&frame, figure);
        })
    }

    /// Numbers of the y axis beside the points.
    fn heights(&self) -> impl Iterator<Item = f64> + '_ {
        let zero = self.includes_zero.then_some(0.0);
        let bands = self.series.iter().flat_map(|series| &series.band);
        zero.into_iter().chain(bands.flat_map(|&(low, high)| [low, high]))
    }

    fn draw_marks(&self, frame: &Frame<'_>, figure: &mut Markup) {
        let (top, bottom) = frame.top_and_bottom();
        for (number, word) in self.marks.iter().filter(|mark| self.x.spacing.holds(mark.0)) {
            let x = frame.x.place(*number);
            frame::line(figure, "boundary", (x, top), (x, bottom));
            if self.size == Size::WIDE {
                frame::text(figure, "tick", (x, top - 4.0), word);
            }
        }
    }

    /// Names beside the last points, moved apart where lines end close together.
    fn draw_names(&self, frame: &Frame<'_>, figure: &mut Markup) {
        let end = |series: &Series| series.points.iter().rev().find_map(|&at| frame.place(at));
        let named = self.series.iter().filter(|series| !series.name.is_empty());
        let mut names: Vec<(f64, &Series)> =
            named.filter_map(|series| Some((end(series)?.1, series))).collect();
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        for index in 1..names.len() {
            names[index].0 = names[index].0.max(names[index - 1].0 + TEXT);
        }
        let mut lowest = frame.top_and_bottom().1 + TEXT;
        for (y, series) in names.iter().rev() {
            lowest = y.min(lowest - TEXT);
            let class = format!("name {}", series.ink.0);
            frame::text(figure, &class, (frame.right() + 6.0, lowest + 4.0), &series.name);
        }
    }
}

fn draw_band(series: &Series, frame: &Frame<'_>, figure: &mut Markup) {
    let place = |(&(x, _), &(low, high)): (&(f64, f64), &(f64, f64))| {
        let (x, high) = frame.place((x, high))?;
        (!low.is_nan()).then(|| (x, frame.y.place(low), high))
    };
    let mut outline = String::new();
    for stretch in stretches(series.points.iter().zip(&series.band).map(place)) {
        let high = stretch.iter().map(|&(x, _, high)| (x, high));
        let low = stretch.iter().map(|&(x, low, _)| (x, low));
        outline.push_str(&path(high.chain(low.rev())));
        outline.push('Z');
    }
    if !outline.is_empty() {
        figure.void("path", &[("class", &format!("band {}", series.ink.0)), ("d", &outline)]);
    }
}

/// Appends the line of a series and its markers.
pub(super) fn draw_line(series: &Series, frame: &Frame<'_>, figure: &mut Markup) {
    if series.is_range {
        return;
    }
    let places = stretches(series.points.iter().map(|&point| frame.place(point)));
    let class = format!("line {}", series.ink.0);
    let line: String = places.iter().map(|stretch| path(stretch.iter().copied())).collect();
    figure.void("path", &[("class", &class), ("d", &line)]);
    if series.has_markers {
        let class = format!("dot {}", series.ink.0);
        for (x, y) in places.into_iter().flatten() {
            let [x, y] = [x, y].map(coordinate);
            figure.void("circle", &[("class", &class), ("cx", &x), ("cy", &y), ("r", "2.6")]);
        }
    }
}

/// The runs of places without a gap between them.
fn stretches<T>(places: impl IntoIterator<Item = Option<T>>) -> Vec<Vec<T>> {
    let mut all = vec![Vec::new()];
    for place in places {
        match (place, all.last_mut()) {
            (Some(place), Some(stretch)) => stretch.push(place),
            _ => all.push(Vec::new()),
        }
    }
    all.retain(|stretch| !stretch.is_empty());
    all
}

//! Clouds of points: one point for each example.

use super::frame::Frame;
use super::line::draw_line;
use super::{Axis, Caption, Figure, Ink, Series, Size, coordinate, path};
use crate::markup::Markup;

/// Points of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Cloud {
    /// Its look.
    pub ink: Ink,
    /// x and y of each point.
    pub points: Vec<(f64, f64)>,
    /// Of each dot, in units of the figure.
    pub radius: f64,
}

impl Cloud {
    /// The radius of a dot among hundreds; the style's own.
    pub const RADIUS: f64 = 1.7;

    /// A cloud of small dots.
    pub fn new(ink: Ink, points: Vec<(f64, f64)>) -> Self {
        Self { ink, points, radius: Self::RADIUS }
    }
}

/// Clouds, and lines through them.
#[derive(Debug, Clone, PartialEq)]
pub struct Scatter {
    /// Its name, title and description.
    pub caption: Caption,
    /// [`Size::WIDE`] alone, [`Size::PANEL`] beside others.
    pub size: Size,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// The clouds, the uppermost last.
    pub clouds: Vec<Cloud>,
    /// Lines over the clouds, such as a fit; their names are not drawn.
    pub lines: Vec<Series>,
    /// Whether y = x is drawn, dotted, as far as both axes reach.
    pub has_diagonal: bool,
}

impl Scatter {
    /// A panel without lines.
    pub fn new(caption: Caption, x: Axis, y: Axis, clouds: Vec<Cloud>) -> Self {
        let size = Size::PANEL;
        Self { caption, size, x, y, clouds, lines: Vec::new(), has_diagonal: false }
    }

    /// The figure: each cloud as one path of dots, so that thousands stay small.
    pub fn draw(&self) -> Figure {
        let clouds = self.clouds.iter().map(|cloud| &cloud.points);
        let lines = self.lines.iter().map(|line| &line.points);
        let points: Vec<(f64, f64)> = clouds.chain(lines).flatten().copied().collect();
        let frame = Frame::around(self.size, (&self.x, &self.y), &points, [], 0.0);
        frame.draw(&self.caption, |figure| {
            if self.has_diagonal {
                draw_diagonal(&frame, figure);
            }
            self.clouds.iter().for_each(|cloud| draw_cloud(cloud, &frame, figure));
            self.lines.iter().for_each(|line| draw_line(line, &frame, figure));
        })
    }
}

fn draw_cloud(cloud: &Cloud, frame: &Frame<'_>, figure: &mut Markup) {
    let mut dots = String::new();
    for (x, y) in cloud.points.iter().filter_map(|&point| frame.place(point)) {
        // A line of length zero with round ends is a dot.
        dots.push_str(&format!("M{},{}h0", coordinate(x), coordinate(y)));
    }
    let class = format!("cloud {}", cloud.ink.0);
    let width = format!("stroke-width:{}", coordinate(2.0 * cloud.radius));
    let attributes = [("class", class.as_str()), ("d", &dots), ("style", &width)];
    let n = if cloud.radius == Cloud::RADIUS { 2 } else { 3 };
    figure.void("path", &attributes[..n]);
}

/// One piece where both axes are of one spacing, else a curve of many.
fn draw_diagonal(frame: &Frame<'_>, figure: &mut Markup) {
    let ((left, right), (bottom, top)) = (frame.x.ends(), frame.y.ends());
    let (low, high) = (left.max(bottom), right.min(top));
    let spacing = frame.x.spacing;
    let n = if spacing == frame.y.spacing { 1 } else { 48 };
    let [first, last] = [low, high].map(|number| spacing.spaced(number));
    let number =
        |piece: u32| spacing.number(first + f64::from(piece) / f64::from(n) * (last - first));
    if low < high {
        let places = (0..=n).map(number).filter_map(|number| frame.place((number, number)));
        figure.void("path", &[("class", "boundary"), ("d", &path(places))]);
    }
}

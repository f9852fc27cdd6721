//! One point for each example.

use super::frame::Frame;
use super::{Axis, Caption, Ink, Size, coordinate};
use crate::markup::Markup;

/// A cloud of points.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scatter {
    pub(crate) caption: Caption,
    pub(crate) size: Size,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) ink: Ink,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Scatter {
    /// The figure: all points as one path of dots, so that thousands stay small.
    pub(crate) fn draw(&self) -> Markup {
        let frame = Frame::around(
            self.size,
            self.points.iter().map(|point| point.0),
            self.points.iter().map(|point| point.1),
        );
        let mut dots = String::new();
        for (x, y) in &self.points {
            // A line of length zero with round ends is a dot.
            let (x, y) = (coordinate(frame.x.place(*x)), coordinate(frame.y.place(*y)));
            dots.push_str(&format!("M{x},{y}h0"));
        }
        let class = format!("cloud {}", self.ink.0);
        frame.draw(&self.caption, (&self.x, &self.y), |figure| {
            figure.void("path", &[("class", &class), ("d", &dots)]);
        })
    }
}

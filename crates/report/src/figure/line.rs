//! Lines with bands: a quantity over steps or deciles.

use super::frame::{self, Frame};
use super::{Axis, Caption, Ink, Size, path};
use crate::markup::Markup;

/// One line; `band` holds low and high at each point.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) ink: Ink,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) band: Vec<(f64, f64)>,
    pub(crate) has_markers: bool,
    /// A band alone, without its line.
    pub(crate) is_range: bool,
}

impl Series {
    /// A line through points, without band or markers.
    pub(crate) fn plain(ink: Ink, points: Vec<(f64, f64)>) -> Self {
        Self { ink, points, band: Vec::new(), has_markers: false, is_range: false }
    }
}

/// More series than this make a crowd.
const CROWD: usize = 5;

/// A chart of lines.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LineChart {
    pub(crate) caption: Caption,
    pub(crate) size: Size,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    /// Vertical lines at these numbers, in a wide figure with a word for what begins there.
    pub(crate) marks: Vec<(f64, String)>,
    /// Whether zero is part of the y axis.
    pub(crate) includes_zero: bool,
}

impl LineChart {
    /// The figure.
    pub(crate) fn draw(&self) -> Markup {
        let x = self.series.iter().flat_map(|series| series.points.iter().map(|point| point.0));
        let frame = Frame::around(self.size, x, self.y_numbers());
        frame.draw(&self.caption, (&self.x, &self.y), |figure| {
            let (top, bottom) = frame.top_and_bottom();
            for (number, word) in &self.marks {
                let x = frame.x.place(*number);
                frame::line(figure, "boundary", (x, top), (x, bottom));
                if self.size == Size::WIDE {
                    frame::text(figure, "tick", (x, top - 4.0), word);
                }
            }
            // Many bands on one spot would drown the lines: they are fainter then.
            let class = if self.series.len() > CROWD { "crowded" } else { "bands" };
            figure.element("g", &[("class", class)], |bands| {
                self.series.iter().for_each(|series| draw_band(series, &frame, bands));
            });
            self.series.iter().for_each(|series| draw_line(series, &frame, figure));
        })
    }

    fn y_numbers(&self) -> impl Iterator<Item = f64> + '_ {
        let zero = self.includes_zero.then_some(0.0);
        let of_series = |series: &Series| {
            let line: Vec<f64> = series.points.iter().map(|point| point.1).collect();
            let band = series.band.iter().flat_map(|&(low, high)| [low, high]);
            line.into_iter().chain(band).collect::<Vec<f64>>()
        };
        zero.into_iter().chain(self.series.iter().flat_map(of_series))
    }
}

fn draw_band(series: &Series, frame: &Frame, figure: &mut Markup) {
    let place =
        |(point, number): (&(f64, f64), f64)| (frame.x.place(point.0), frame.y.place(number));
    let high = series.points.iter().zip(series.band.iter().map(|band| band.1)).map(place);
    let low = series.points.iter().zip(series.band.iter().map(|band| band.0)).map(place);
    let mut outline = path(high.chain(low.rev()));
    if !outline.is_empty() {
        outline.push('Z');
        figure.void("path", &[("class", &format!("band {}", series.ink.0)), ("d", &outline)]);
    }
}

fn draw_line(series: &Series, frame: &Frame, figure: &mut Markup) {
    if series.is_range {
        return;
    }
    let places: Vec<(f64, f64)> = series
        .points
        .iter()
        .map(|point| (frame.x.place(point.0), frame.y.place(point.1)))
        .collect();
    let class = format!("line {}", series.ink.0);
    figure.void("path", &[("class", &class), ("d", &path(places.iter().copied()))]);
    if series.has_markers {
        let class = format!("dot {}", series.ink.0);
        for (x, y) in places {
            let [x, y] = [x, y].map(super::coordinate);
            figure.void("circle", &[("class", &class), ("cx", &x), ("cy", &y), ("r", "2.6")]);
        }
    }
}

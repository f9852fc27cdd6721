//! Figures as SVG inside the page: text stays text, colours are the page's variables.
//!
//! A figure has a title and a description for those who cannot see it. It scales with its place;
//! lengths here are in units of its own grid, about one pixel on a screen of medium width.

mod bars;
mod frame;
mod heat;
mod line;
mod scale;
mod scatter;

pub(crate) use bars::{Bar, BarChart};
pub(crate) use frame::{Axis, Size};
pub(crate) use heat::HeatMap;
pub(crate) use line::{LineChart, Series};
pub(crate) use scatter::Scatter;

use crate::markup::Markup;

/// Name, title and description of a figure; the name is unique on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caption {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) description: String,
}

/// How a line, a bar or a point looks: a class of the page's style.
///
/// Six hues that stay apart for colour-blind readers, each solid, dashed or dotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ink(pub(crate) &'static str);

impl Ink {
    /// The reference: the colour of the text.
    pub(crate) const REFERENCE: Self = Self("ink0");
    /// The control: what changes without a new task.
    pub(crate) const CONTROL: Self = Self("ink6 dashed");
    /// A range without a line: what chance gives.
    pub(crate) const RANGE: Self = Self("ink6 range");
    pub(crate) const BLUE: Self = Self("ink1");
    pub(crate) const RED: Self = Self("ink2");
    pub(crate) const GREEN: Self = Self("ink3");

    /// The look of an arm, the same in every figure.
    pub(crate) fn of_arm(arm: &str) -> Self {
        Self(match arm {
            "none" | "task-1" => "ink0",
            "control" => "ink6 dashed",
            "random" => "ink1",
            "class-balanced" => "ink1 dashed",
            "top-energy" => "ink2",
            "stratified-energy" => "ink2 dashed",
            "energy-weighted" => "ink2 dotted",
            "joint" => "ink3",
            "herding" => "ink3 dashed",
            "k-center" => "ink3 dotted",
            "bottom-energy" => "ink4",
            "greedy" => "ink4 dashed",
            "gradient-diversity" => "ink4 dotted",
            "top-loss" => "ink5",
            "nearest-neighbour" => "ink5 dashed",
            "interference" => "ink5 dotted",
            "most-forgotten" => "ink1 dotted",
            _ => "ink6",
        })
    }
}

/// Appends the legend of a figure: a swatch and a name for each entry.
pub(crate) fn write_legend(page: &mut Markup, entries: &[(Ink, String)]) {
    page.element("ul", &[("class", "legend")], |list| {
        for (ink, name) in entries {
            list.element("li", &[], |item| {
                let size = [("viewBox", "0 0 28 10"), ("aria-hidden", "true")];
                item.element("svg", &size, |swatch| draw_swatch(*ink, swatch));
                item.text(name);
            });
        }
    });
}

fn draw_swatch(ink: Ink, swatch: &mut Markup) {
    if ink == Ink::RANGE {
        swatch.void("path", &[("class", "band ink6"), ("d", "M0,0H28V10H0Z")]);
    } else {
        let class = format!("line {}", ink.0);
        swatch.void("path", &[("class", &class), ("d", "M1,5H27")]);
    }
}

/// A coordinate with two decimals, without a tail of zeros: short and the same on every machine.
fn coordinate(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// `M x,y L x,y ...` through the points.
fn path(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut text = String::new();
    for (x, y) in points {
        text.push(if text.is_empty() { 'M' } else { 'L' });
        text.push_str(&coordinate(x));
        text.push(',');
        text.push_str(&coordinate(y));
    }
    text
}

#[cfg(test)]
mod tests;

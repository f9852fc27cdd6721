//! Figures as SVG inside the page: text stays text, colours are the page's variables.
//!
//! A figure has a title and a description for those who cannot see it. It scales with its place;
//! lengths here are in units of its own grid, about one pixel on a screen of medium width.
//! Numbers without a place (not finite, or not above zero on a logarithmic axis) are left out, and
//! the figure and its description say how many.

mod bars;
mod frame;
mod heat;
mod ink;
mod line;
mod scale;
mod scatter;

pub use bars::{Bar, BarChart};
pub use frame::{Axis, Size};
pub use heat::{Cells, HeatMap};
pub use ink::Ink;
pub use line::{LineChart, Series};
pub use scale::Spacing;
pub use scatter::{Cloud, Scatter};

pub(crate) use ink::write_legend;

use crate::markup::Markup;
use crate::number;

/// Name, title and description of a figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// Unique on the page: ASCII letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What the figure shows, in a few words.
    pub title: String,
    /// What a reader would see: its message in numbers.
    pub description: String,
}

impl Caption {
    /// A caption of three texts, as the fields are.
    pub fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), title: title.into(), description: description.into() }
    }

    /// The caption of a figure that leaves out `n` numbers.
    fn leaving_out(&self, n: usize) -> Self {
        let mut caption = self.clone();
        if n > 0 {
            let what = number::counted(n, "value");
            let why = "not finite, or not above zero on a logarithmic axis";
            caption.description.push_str(&format!(" Left out: {what}, {why}."));
        }
        caption
    }
}

/// A drawn figure, ready for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The name of its [`Caption`].
    pub(crate) name: String,
    pub(crate) markup: Markup,
}

impl Figure {
    /// The figure as SVG.
    pub fn as_str(&self) -> &str {
        self.markup.as_str()
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

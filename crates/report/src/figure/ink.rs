//! How things look, and the legend that says what looks how.

use crate::markup::Markup;

/// How a line, a bar or a point looks: a class of the page's style.
///
/// Six hues that stay apart for colour-blind readers, each solid, dashed or dotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ink(pub(crate) &'static str);

impl Ink {
    /// The reference: the colour of the text.
    pub const REFERENCE: Self = Self("ink0");
    /// The control: what changes without a new task.
    pub const CONTROL: Self = Self("ink6 dashed");
    /// A range without a line: what chance gives.
    pub const RANGE: Self = Self("ink6 range");
    /// What comes before, or the lower of two ends.
    pub const BLUE: Self = Self("ink1");
    /// What the figure is about, or the higher of two ends.
    pub const RED: Self = Self("ink2");
    /// A third hue.
    pub const GREEN: Self = Self("ink3");
    /// A fourth hue.
    pub const PLUM: Self = Self("ink4");
    /// A fifth hue.
    pub const OCHRE: Self = Self("ink5");
    /// A sixth hue, the faintest.
    pub const GREY: Self = Self("ink6");

    /// The hues in the order in which series without a meaning of their own take them.
    pub const HUES: [Self; 6] =
        [Self::BLUE, Self::RED, Self::GREEN, Self::PLUM, Self::OCHRE, Self::GREY];

    /// The same hue with a dashed line.
    pub fn dashed(self) -> Self {
        Self(match self.0 {
            "ink0" => "ink0 dashed",
            "ink1" => "ink1 dashed",
            "ink2" => "ink2 dashed",
            "ink3" => "ink3 dashed",
            "ink4" => "ink4 dashed",
            "ink5" => "ink5 dashed",
            "ink6" => "ink6 dashed",
            dashed_or_range => dashed_or_range,
        })
    }

    /// The look of an arm, the same in every figure.
    pub fn of_arm(arm: &str) -> Self {
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

//! From a range of numbers to round ticks and places on the paper.

use crate::number;

/// How numbers lie along an axis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Spacing {
    /// Equal differences at equal distances.
    #[default]
    Linear,
    /// Equal ratios at equal distances: only numbers above zero have a place.
    Log10,
}

/// Beyond this no range can be widened without overflow.
const LARGEST: f64 = 1e300;

impl Spacing {
    /// Whether a number has a place on such an axis.
    pub(super) fn holds(self, number: f64) -> bool {
        number.abs() <= LARGEST && (self == Self::Linear || number > 0.0)
    }

    /// The number in units of the axis: itself, or its decimal logarithm.
    pub(super) fn spaced(self, number: f64) -> f64 {
        match self {
            Self::Linear => number,
            Self::Log10 => number.log10(),
        }
    }

    /// The inverse of [`Self::spaced`].
    pub(super) fn number(self, spaced: f64) -> f64 {
        match self {
            Self::Linear => spaced,
            Self::Log10 => 10f64.powf(spaced),
        }
    }
}

/// A range of numbers laid on a stretch of the paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) spacing: Spacing,
    /// Ends of the range in units of the axis.
    pub(super) low: f64,
    pub(super) high: f64,
    start: f64,
    end: f64,
}

impl Scale {
    /// The range of the numbers that have a place, widened where it is empty.
    pub(super) fn over(
        spacing: Spacing,
        numbers: impl IntoIterator<Item = f64>,
        start: f64,
        end: f64,
    ) -> Self {
        let held = numbers.into_iter().filter(|&number| spacing.holds(number));
        let ends = (f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) = held
            .map(|number| spacing.spaced(number))
            .fold(ends, |(low, high), number| (low.min(number), high.max(number)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let least = f64::EPSILON * low.abs().max(high.abs()).max(1e-300) * 64.0;
        let (low, high) = if high - low > least {
            (low, high)
        } else {
            let is_half = low == 0.0 || spacing == Spacing::Log10;
            let half = if is_half { 0.5 } else { (low.abs() * 0.1).max(f64::MIN_POSITIVE) };
            (low - half, high + half)
        };
        Self { spacing, low, high, start, end }
    }

    /// The same range with room at both ends.
    pub(super) fn with_room(self, share: f64) -> Self {
        let room = (self.high - self.low) * share;
        Self { low: self.low - room, high: self.high + room, ..self }
    }

    /// The numbers at both ends.
    pub(super) fn ends(&self) -> (f64, f64) {
        (self.spacing.number(self.low), self.spacing.number(self.high))
    }

    /// Place of a number on the paper; of one that is too low for a logarithm, the lower end.
    pub(super) fn place(&self, number: f64) -> f64 {
        let spaced = match self.spacing {
            Spacing::Linear => number,
            Spacing::Log10 => number.log10().max(self.low),
        };
        self.start + (spaced - self.low) / (self.high - self.low) * (self.end - self.start)
    }

    /// About `n` round numbers within the range, and their labels.
    pub(super) fn ticks(&self, n: usize) -> Vec<(f64, String)> {
        match self.spacing {
            Spacing::Linear => self.round_ticks(n),
            Spacing::Log10 => self.powers_of_ten(n),
        }
    }

    fn round_ticks(&self, n: usize) -> Vec<(f64, String)> {
        let step = round_step((self.high - self.low) / n.max(1) as f64);
        let first = (self.low / step).ceil();
        let last = (self.high / step).floor();
        let count = (last - first).clamp(0.0, 50.0) as usize;
        (0..=count)
            .map(|index| (first + index as f64) * step)
            .filter(|tick| (self.low..=self.high).contains(tick))
            .map(|tick| (tick, label(tick, step)))
            .collect()
    }

    /// Every power of ten, or every second, third, ...; where only one is inside, 1, 2 and 5 times
    /// a power, and where that is nothing, round numbers.
    fn powers_of_ten(&self, n: usize) -> Vec<(f64, String)> {
        let inside: Vec<i32> = (self.low.ceil() as i32..=self.high.floor() as i32).collect();
        let stride = inside.len().div_ceil(n + 1).max(1) as i32;
        let ticks = if inside.len() > 1 {
            self.multiples(&[1], inside.into_iter().filter(|exponent| exponent % stride == 0))
        } else {
            self.multiples(&[1, 2, 5], self.decades())
        };
        if ticks.len() < 2 {
            let (low, high) = self.ends();
            return Self { spacing: Spacing::Linear, low, high, ..*self }.round_ticks(n);
        }
        let is_plain = ticks.iter().all(|(_, exponent)| (-4..=4).contains(exponent));
        let named = |(mantissa, exponent): (i32, i32)| {
            let tick = power(mantissa, exponent);
            let words = match (is_plain, mantissa) {
                (true, _) => number::with_decimals(tick, -exponent),
                (false, 1) => number::power_of_ten(exponent),
                (false, _) => format!("{mantissa}·{}", number::power_of_ten(exponent)),
            };
            (tick, words)
        };
        ticks.into_iter().map(named).collect()
    }

    /// Numbers between the powers of ten, as far as they are few: marks that say "logarithm".
    pub(super) fn minor_ticks(&self) -> Vec<f64> {
        if self.spacing == Spacing::Linear || self.high - self.low > 4.5 {
            return Vec::new();
        }
        let marks = self.multiples(&[2, 3, 4, 5, 6, 7, 8, 9], self.decades());
        marks.into_iter().map(|(mantissa, exponent)| power(mantissa, exponent)).collect()
    }

    /// The exponents of the decades that the range touches.
    fn decades(&self) -> impl Iterator<Item = i32> {
        self.low.floor() as i32..=self.high.floor() as i32
    }

    /// Mantissa and exponent of what lies within the range, in rising order.
    fn multiples(
        &self,
        mantissas: &[i32],
        exponents: impl IntoIterator<Item = i32>,
    ) -> Vec<(i32, i32)> {
        let is_inside = |&(mantissa, exponent): &(i32, i32)| {
            let tick = power(mantissa, exponent);
            self.spacing.holds(tick) && (self.low..=self.high).contains(&tick.log10())
        };
        let of = |exponent| mantissas.iter().map(move |&mantissa| (mantissa, exponent));
        exponents.into_iter().flat_map(of).filter(is_inside).collect()
    }
}

/// `mantissa` times ten to the `exponent`, as exact as a decimal literal.
fn power(mantissa: i32, exponent: i32) -> f64 {
    format!("{mantissa}e{exponent}").parse().unwrap_or(f64::NAN)
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|&s| s >= step * 0.999)
        .unwrap_or(power * 10.0)
}

fn label(tick: f64, step: f64) -> String {
    let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as i32;
    let is_zero = tick.abs() < step * 1e-6;
    if is_zero { "0".to_owned() } else { number::with_decimals(tick, decimals) }
}

#[cfg(test)]
mod tests {
    use super::Spacing::{Linear, Log10};
    use super::*;

    fn labels(spacing: Spacing, low: f64, high: f64, n: usize) -> Vec<String> {
        let scale = Scale::over(spacing, [low, high], 0.0, 1.0);
        scale.ticks(n).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(labels(Linear, 0.0, 1.0, 5), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(Linear, -0.013, 0.021, 4), ["−0.01", "0", "0.01", "0.02"]);
        assert_eq!(labels(Linear, 0.0, 3000.0, 3), ["0", "1000", "2000", "3000"]);
        assert_eq!(labels(Linear, 1.0, 10.0, 5), ["2", "4", "6", "8", "10"]);
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten() {
        assert_eq!(labels(Log10, 0.0004, 30.0, 5), ["0.001", "0.01", "0.1", "1", "10"]);
        assert_eq!(labels(Log10, 3e-6, 0.02, 5), ["10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²"]);
        assert_eq!(
            labels(Log10, 1e-20, 1.0, 5),
            ["10⁻²⁰", "10⁻¹⁶", "10⁻¹²", "10⁻⁸", "10⁻⁴", "10⁰"]
        );
        assert_eq!(labels(Log10, 1.5, 60.0, 5), ["2", "5", "10", "20", "50"]);
        assert_eq!(labels(Log10, 2.9e-7, 8.1e-7, 5), ["4.00·10⁻⁷", "6.00·10⁻⁷", "8.00·10⁻⁷"]);
        assert_eq!(labels(Log10, 8.0, 8.4, 5), ["8.0", "8.1", "8.2", "8.3", "8.4"]);
    }

    #[test]
    fn logarithms_place_equal_ratios_at_equal_distances() {
        let scale = Scale::over(Log10, [0.01, 100.0, -3.0, 0.0, f64::NAN], 0.0, 400.0);
        for (number, place) in [(0.01, 0.0), (0.1, 100.0), (10.0, 300.0), (-3.0, 0.0), (0.0, 0.0)] {
            assert!((scale.place(number) - place).abs() <= 1e-9, "{number}");
        }
        let marks = scale.minor_ticks();
        assert_eq!((marks.len(), marks[0], marks[31]), (32, 0.02, 90.0));
        assert!(Scale::over(Linear, [1.0, 2.0], 0.0, 1.0).minor_ticks().is_empty());
    }

    #[test]
    fn no_range_is_too_strange() {
        let strange = [
            vec![],
            vec![f64::NAN],
            vec![0.0],
            vec![-3.0, -3.0],
            vec![1e300, -1e300],
            vec![5e-324],
            vec![5e-324, 1e300, f64::MAX, f64::NEG_INFINITY],
        ];
        for (numbers, spacing) in
            strange.iter().flat_map(|numbers| [(numbers, Linear), (numbers, Log10)])
        {
            let scale = Scale::over(spacing, numbers.clone(), 10.0, 20.0).with_room(0.05);
            assert!(scale.high > scale.low, "{numbers:?}");
            let ticks = scale.ticks(5);
            assert!(
                ticks.len() <= 51 && ticks.iter().all(|(tick, _)| scale.place(*tick).is_finite())
            );
        }
        let scale = Scale::over(Linear, [2.0, 4.0], 100.0, 0.0);
        assert_eq!((scale.place(2.0), scale.place(3.0), scale.place(4.0)), (100.0, 50.0, 0.0));
    }
}

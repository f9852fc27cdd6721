//! Numbers as a reader wants them: three significant digits, intervals with common decimals.

use lethe_ledger::statistics::Interval;

/// The minus sign of running text.
const MINUS: char = '\u{2212}';

/// Three significant digits.
pub fn short(value: f64) -> String {
    with_decimals(value, decimals(value.abs()))
}

/// Estimate and interval with the same decimals: those that the interval's width deserves.
pub fn interval(interval: &Interval) -> String {
    let [estimate, low, high] = interval_parts(interval);
    format!("{estimate} [{low}, {high}]")
}

/// Estimate, low and high of [`interval()`].
pub(crate) fn interval_parts(interval: &Interval) -> [String; 3] {
    let decimals = interval_decimals(interval);
    [interval.estimate, interval.low, interval.high].map(|value| with_decimals(value, decimals))
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    let percentage = share * 100.0;
    let decimals = if percentage.abs() < 10.0 { 1 } else { 0 };
    format!("{} %", with_decimals(percentage, decimals))
}

/// A probability; a tiny one as a bound.
pub fn probability(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { with_decimals(p, 4) }
}

/// A count with thin spaces between thousands.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && digits.len() > 4 {
            text.push('\u{202F}');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun: `1 run`, `3 runs`.
pub fn counted(n: usize, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(n as u64))
}

/// Fixed decimals, or powers of ten where they would need more than six.
pub fn with_decimals(value: f64, decimals: i32) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let magnitude = value.abs();
    let digits = if decimals > 6 || magnitude >= 1e7 {
        scientific(magnitude)
    } else {
        format!("{magnitude:.*}", decimals.max(0) as usize)
    };
    let is_zero = digits.chars().all(|digit| matches!(digit, '0' | '.'));
    if value < 0.0 && !is_zero { format!("{MINUS}{digits}") } else { digits }
}

fn scientific(magnitude: f64) -> String {
    let text = format!("{magnitude:.2e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            format!("{mantissa}·10{}", raised(exponent))
        }
        None => text,
    }
}

/// `10⁻³`.
pub fn power_of_ten(exponent: i32) -> String {
    format!("10{}", raised(&exponent.to_string()))
}

fn raised(exponent: &str) -> String {
    exponent.chars().map(superscript).collect()
}

fn superscript(character: char) -> char {
    match character {
        '-' => '⁻',
        '0' => '⁰',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        '9' => '⁹',
        other => other,
    }
}

/// Decimals that show three significant digits.
pub fn decimals(magnitude: f64) -> i32 {
    if magnitude == 0.0 || !magnitude.is_finite() {
        return 0;
    }
    (2 - magnitude.log10().floor() as i32).max(0)
}

/// Decimals that show two significant digits of the width, and at least two of the estimate.
fn interval_decimals(interval: &Interval) -> i32 {
    let of_width = decimals(interval.high - interval.low) - 1;
    let of_estimate = decimals(interval.estimate.abs()) - 1;
    let widest = interval.low.abs().max(interval.high.abs());
    if interval.high <= interval.low {
        decimals(widest)
    } else {
        of_width.max(of_estimate.min(of_width + 1)).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_enough() {
        let cases = [
            (0.012_345, "0.0123"),
            (-0.5, "\u{2212}0.500"),
            (123.456, "123"),
            (0.0, "0"),
            (-0.0, "0"),
            (1.5e-9, "1.50·10⁻⁹"),
            (2.0e9, "2.00·10⁹"),
            (f64::NAN, "–"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn an_interval_has_common_decimals() {
        let show = |estimate, low, high| interval(&Interval { estimate, low, high, n: 9 });
        assert_eq!(show(0.012_345, 0.010_111, 0.014_555), "0.0123 [0.0101, 0.0146]");
        assert_eq!(show(-0.25, -0.5, 0.000_1), "\u{2212}0.25 [\u{2212}0.50, 0.00]");
        assert_eq!(show(1.0, 1.0, 1.0), "1.00 [1.00, 1.00]");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!((count(600), count(5000)), ("600".into(), "5000".into()));
        assert_eq!(count(1_234_567), "1\u{202F}234\u{202F}567");
        assert_eq!((power_of_ten(-12), power_of_ten(0)), ("10⁻¹²".into(), "10⁰".into()));
        assert_eq!((counted(1, "run"), counted(3, "run")), ("1 run".into(), "3 runs".into()));
        assert_eq!((percent(0.0432), percent(0.5)), ("4.3 %".into(), "50 %".into()));
        assert_eq!((probability(1e-9), probability(0.04321)), ("< 0.0001".into(), "0.0432".into()));
    }
}

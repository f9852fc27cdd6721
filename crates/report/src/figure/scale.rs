//! From a range of numbers to round ticks and places on the paper.

/// A range of numbers laid on a stretch of the paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    start: f64,
    end: f64,
}

impl Scale {
    /// The range of the finite numbers, widened where it is empty.
    pub(super) fn over(numbers: impl IntoIterator<Item = f64>, start: f64, end: f64) -> Self {
        let finite = numbers.into_iter().filter(|number| number.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| {
            (low.min(number), high.max(number))
        });
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let least = f64::EPSILON * low.abs().max(high.abs()).max(1e-300) * 64.0;
        let (low, high) = if high - low > least {
            (low, high)
        } else {
            let half = if low == 0.0 { 0.5 } else { (low.abs() * 0.1).max(f64::MIN_POSITIVE) };
            (low - half, high + half)
        };
        Self { low, high, start, end }
    }

    /// The same range with room at both ends.
    pub(super) fn with_room(self, share: f64) -> Self {
        let room = (self.high - self.low) * share;
        Self { low: self.low - room, high: self.high + room, ..self }
    }

    /// Place of a number on the paper.
    pub(super) fn place(&self, number: f64) -> f64 {
        self.start + (number - self.low) / (self.high - self.low) * (self.end - self.start)
    }

    /// About `n` round numbers within the range, and their labels.
    pub(super) fn ticks(&self, n: usize) -> Vec<(f64, String)> {
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
    if is_zero { "0".to_owned() } else { crate::number::with_decimals(tick, decimals) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, n: usize) -> Vec<String> {
        Scale::over([low, high], 0.0, 1.0).ticks(n).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(labels(0.0, 1.0, 5), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(-0.013, 0.021, 4), ["−0.01", "0", "0.01", "0.02"]);
        assert_eq!(labels(0.0, 3000.0, 3), ["0", "1000", "2000", "3000"]);
        assert_eq!(labels(1.0, 10.0, 5), ["2", "4", "6", "8", "10"]);
    }

    #[test]
    fn no_range_is_too_strange() {
        for numbers in
            [vec![], vec![f64::NAN], vec![0.0], vec![-3.0, -3.0], vec![1e300, -1e300], vec![5e-324]]
        {
            let scale = Scale::over(numbers.clone(), 10.0, 20.0);
            assert!(scale.high > scale.low, "{numbers:?}");
            assert!(scale.ticks(5).len() <= 51);
        }
        let scale = Scale::over([2.0, 4.0], 100.0, 0.0);
        assert_eq!((scale.place(2.0), scale.place(3.0), scale.place(4.0)), (100.0, 50.0, 0.0));
    }
}

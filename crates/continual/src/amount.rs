//! Amounts in a protocol: a count, or a percentage of something that the field names.

use serde::{Deserialize, Serialize};

use crate::error::{Result, field};

/// An amount as the protocol file writes it: `200`, or `"5%"` with the quotes.
///
/// Anything that TOML can write is held as it is, so that the refusal can name the field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a count such as 200, or a percentage such as \"5%\"")]
pub enum AmountSpec {
    /// A count.
    Count(i64),
    /// A percentage, if it ends in `%`.
    Text(String),
    /// Never valid: 0.05 would leave open what it is a fraction of.
    Number(f64),
}

/// A valid amount.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Amount {
    /// One or more.
    Count(u64),
    /// More than 0 and at most 100 percent.
    Percent(f64),
}

impl AmountSpec {
    /// # Errors
    /// Neither a count of at least one nor a percentage above 0 and up to 100.
    pub(crate) fn validate(&self, name: &'static str) -> Result<Amount> {
        let amount = match self {
            Self::Count(count) => u64::try_from(*count).ok().filter(|&n| n > 0).map(Amount::Count),
            Self::Text(text) => percent(text).map(Amount::Percent),
            Self::Number(_) => None,
        };
        let expected =
            "a count of at least 1 (such as 200) or a percentage up to 100 (such as \"5%\")";
        amount.ok_or_else(|| field(name, expected, self.describe()))
    }

    fn describe(&self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::Text(text) => format!("{text:?}"),
            Self::Number(number) => format!("{number:?}"),
        }
    }
}

fn percent(text: &str) -> Option<f64> {
    let number: f64 = text.strip_suffix('%')?.trim_end().parse().ok()?;
    (number > 0.0 && number <= 100.0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_percentages_are_read() {
        let read = |spec: AmountSpec| spec.validate("replay.budget").unwrap();
        assert_eq!(read(AmountSpec::Count(200)), Amount::Count(200));
        assert_eq!(read(AmountSpec::Text("5%".into())), Amount::Percent(5.0));
        assert_eq!(read(AmountSpec::Text("2.5 %".into())), Amount::Percent(2.5));
        assert_eq!(read(AmountSpec::Text("100%".into())), Amount::Percent(100.0));
    }

    #[test]
    fn everything_else_is_refused_by_the_name_of_its_field() {
        let texts = ["5", "%", "0%", "-1%", "101%", "NaN%", "inf%", "five%", ""];
        let texts = texts.map(|text| AmountSpec::Text(text.to_owned()));
        let numbers = [AmountSpec::Count(0), AmountSpec::Count(-3), AmountSpec::Number(0.05)];
        for spec in texts.into_iter().chain(numbers) {
            let error = spec.validate("replay.budget").unwrap_err().to_string();
            assert!(error.starts_with("`replay.budget`: expected a count"), "{error}");
            assert!(error.ends_with(&format!("got {}", spec.describe())), "{error}");
        }
    }
}

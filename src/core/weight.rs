//! The part of a route's traffic that the extracted service answers, and other parts of a whole.

use std::fmt;
use std::str::FromStr;

/// Why a weight was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightError {
    /// `5`: is it 5 % or 500 %?
    #[error("a weight is written with a `%`, as in `5%`")]
    NoPercentSign,
    /// Letters, signs, more than two decimals.
    #[error("a weight is a number with at most two decimals, as in `0.05%`")]
    NotANumber,
    /// More than all.
    #[error("a weight lies between `0%` and `100%`")]
    OutOfRange,
}

/// A part of a whole in basis points (1/10,000), written `5%` or `0.05%`.
///
/// The `%` is demanded, so that a bare `5` is never read as 500 %; two decimals at most, because a
/// caller's bucket is one of 10,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

impl Weight {
    /// All of it: 100 %.
    pub const ALL: Weight = Weight(10_000);
    /// None of it: 0 %.
    pub const NONE: Weight = Weight(0);
    /// One in a hundred.
    pub const ONE_PERCENT: Weight = Weight(100);

    /// From basis points, 0..=10,000; `None` beyond.
    pub const fn from_basis_points(points: u16) -> Option<Weight> {
        if points <= 10_000 { Some(Weight(points)) } else { None }
    }

    /// In basis points, 0..=10,000.
    pub const fn basis_points(self) -> u16 {
        self.0
    }

    /// As a ratio, 0.0..=1.0, for metrics.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Whether users are split: neither none nor all.
    pub const fn is_split(self) -> bool {
        self.0 > 0 && self.0 < 10_000
    }

    /// This part of `whole`, rounded down.
    pub const fn of(self, whole: u64) -> u64 {
        // Split so that it cannot overflow.
        whole / 10_000 * self.0 as u64 + whole % 10_000 * self.0 as u64 / 10_000
    }
}

impl FromStr for Weight {
    type Err = WeightError;

    fn from_str(text: &str) -> Result<Weight, WeightError> {
        let number = text.strip_suffix('%').ok_or(WeightError::NoPercentSign)?;
        let (whole, cents) = number.split_once('.').unwrap_or((number, "00"));
        let is_written_well = !whole.is_empty() && matches!(cents.len(), 1 | 2);
        if !is_written_well || !whole.bytes().chain(cents.bytes()).all(|byte| byte.is_ascii_digit()) {
            // A minus sign is a range question to the person who wrote it.
            let is_negative = number.strip_prefix('-').is_some_and(|rest| rest.parse::<f64>().is_ok());
            return Err(if is_negative { WeightError::OutOfRange } else { WeightError::NotANumber });
        }
        let digits = format!("{whole}{cents:0<2}");
        digits.parse().ok().and_then(Weight::from_basis_points).ok_or(WeightError::OutOfRange)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, cents) = (self.0 / 100, self.0 % 100);
        match (cents, cents % 10) {
            (0, _) => write!(f, "{whole}%"),
            (_, 0) => write!(f, "{whole}.{}%", cents / 10),
            _ => write!(f, "{whole}.{cents:02}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_weight_is_written_with_a_percent_sign_and_two_decimals_at_most() {
        for (text, expect) in [
            ("5%", Ok(500)),
            ("0.05%", Ok(5)),
            ("0.5%", Ok(50)),
            ("100%", Ok(10_000)),
            ("100.00%", Ok(10_000)),
            ("0%", Ok(0)),
            ("5", Err(WeightError::NoPercentSign)),
            ("", Err(WeightError::NoPercentSign)),
            ("%", Err(WeightError::NotANumber)),
            ("5.%", Err(WeightError::NotANumber)),
            (".5%", Err(WeightError::NotANumber)),
            ("5.005%", Err(WeightError::NotANumber)),
            ("+5%", Err(WeightError::NotANumber)),
            ("5 %", Err(WeightError::NotANumber)),
            ("-1%", Err(WeightError::OutOfRange)),
            ("101%", Err(WeightError::OutOfRange)),
            ("100.01%", Err(WeightError::OutOfRange)),
            ("99999999999999999999%", Err(WeightError::OutOfRange)),
        ] {
            assert_eq!(text.parse::<Weight>().map(Weight::basis_points), expect, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(points in 0u16..=10_000) {
            let weight = Weight::from_basis_points(points).expect("in range");
            prop_assert_eq!(weight.to_string().parse::<Weight>(), Ok(weight));
        }

        #[test]
        fn a_part_is_never_more_than_the_whole(points in 0u16..=10_000, whole: u64) {
            let weight = Weight::from_basis_points(points).expect("in range");
            prop_assert!(weight.of(whole) <= whole);
        }
    }
}

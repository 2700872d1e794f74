//! Percentage points, and how strict an errors gate is at which weight.

use std::fmt;
use std::str::FromStr;

use crate::weight::Weight;

/// A difference of two shares in hundredths of a percentage point, written `0.5pp`.
///
/// Not `0.5%`: that would leave open whether a share of 2 % may become 2.5 % or 2.01 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Points(u16);

/// Why percentage points were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointsError {
    /// `0.5` or `0.5%`.
    #[error("percentage points are written with `pp`, as in `0.5pp`")]
    NoUnit,
    /// Letters, signs, more than two decimals.
    #[error("percentage points are a number with at most two decimals, as in `0.25pp`")]
    NotANumber,
    /// None, or more than all.
    #[error("percentage points lie between `0.01pp` and `100pp` here")]
    OutOfRange,
}

impl Points {
    /// From hundredths of a percentage point, 1..=10,000; `None` beyond.
    pub const fn from_hundredths(hundredths: u16) -> Option<Points> {
        if hundredths >= 1 && hundredths <= 10_000 { Some(Points(hundredths)) } else { None }
    }

    /// As a difference of ratios: `1pp` is 0.01.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// What is tolerated at a weight where nobody says otherwise: 2 percentage points below 5 %, 1 below 25 %, and half a one from there on.
    ///
    /// The more users there are on a side, the less is tolerated; and the more of them there are, the sooner less can be proven.
    pub const fn by_schedule(weight: Weight) -> Points {
        match weight.basis_points() {
            0..500 => Points(200),
            500..2_500 => Points(100),
            _ => Points(50),
        }
    }
}

impl FromStr for Points {
    type Err = PointsError;

    fn from_str(text: &str) -> Result<Points, PointsError> {
        let number = text.strip_suffix("pp").ok_or(PointsError::NoUnit)?.trim_end();
        let (whole, cents) = number.split_once('.').unwrap_or((number, "00"));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !matches!(cents.len(), 1 | 2) || !is_digits(whole) || !is_digits(cents) {
            return Err(PointsError::NotANumber);
        }
        format!("{whole}{cents:0<2}").parse().ok().and_then(Points::from_hundredths).ok_or(PointsError::OutOfRange)
    }
}

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, cents) = (self.0 / 100, self.0 % 100);
        match (cents, cents % 10) {
            (0, _) => write!(f, "{whole}pp"),
            (_, 0) => write!(f, "{whole}.{}pp", cents / 10),
            _ => write!(f, "{whole}.{cents:02}pp"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_a_unit_and_come_back_as_they_were_written() {
        for text in ["0.5pp", "0.01pp", "1pp", "0.25pp", "100pp", "12.3pp"] {
            assert_eq!(text.parse::<Points>().map(|points| points.to_string()), Ok(text.to_owned()));
        }
        for (text, error) in [
            ("0.5", PointsError::NoUnit),
            ("0.5%", PointsError::NoUnit),
            ("pp", PointsError::NotANumber),
            ("-1pp", PointsError::NotANumber),
            ("0.125pp", PointsError::NotANumber),
            ("1.pp", PointsError::NotANumber),
            ("0pp", PointsError::OutOfRange),
            ("100.01pp", PointsError::OutOfRange),
        ] {
            assert_eq!(text.parse::<Points>(), Err(error), "{text}");
        }
    }

    #[test]
    fn the_schedule_narrows_with_the_weight() {
        let at = |weight: &str| Points::by_schedule(weight.parse().expect("a weight")).to_string();
        for (weight, points) in
            [("1%", "2pp"), ("4.99%", "2pp"), ("5%", "1pp"), ("10%", "1pp"), ("25%", "0.5pp"), ("100%", "0.5pp")]
        {
            assert_eq!(at(weight), points, "{weight}");
        }
    }
}

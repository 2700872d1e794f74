//! What the command line says.

use std::str::FromStr;
use std::time::Duration;

use crate::target::Target;

/// The most requests per second.
pub const RATE_MAX: u32 = 5_000;

/// Sends what shoppers send: browsing 70 %, carts 20 %, checkouts 7 %, accounts 3 %, with double clicks and people who leave early.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "estate-load", version)]
pub struct Args {
    /// The proxy or the monolith, http only.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub target: Target,
    /// Requests per second, at most 5000.
    #[arg(long, value_name = "N/s", default_value = "50")]
    pub rate: Rate,
    /// How long, e.g. `30s`, `5m`, `1h`; 0 is until stopped.
    #[arg(long = "for", value_name = "DURATION", default_value = "0")]
    pub lasting: Lasting,
    /// How many customers come, at most 5000. The most active of them come most.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub users: u32,
    /// The same seed draws the same customers and wishes.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Requests that may run at the same time, each on a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub concurrency: u32,
    /// No progress, only the summary.
    #[arg(long)]
    pub quiet: bool,
}

/// Requests per second, 1 to [`RATE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u32);

impl Rate {
    pub fn per_second(self) -> u32 {
        self.0
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a whole number of 1 to {RATE_MAX} per second")]
pub struct RateError;

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Rate, RateError> {
        let number = text.strip_suffix("/s").unwrap_or(text);
        let rate = number.parse().map_err(|_| RateError)?;
        if (1..=RATE_MAX).contains(&rate) { Ok(Rate(rate)) } else { Err(RateError) }
    }
}

/// How long to go on; `None` until stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasting(pub Option<Duration>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a duration is a whole number with ms, s, m or h, or 0")]
pub struct LastingError;

impl FromStr for Lasting {
    type Err = LastingError;

    fn from_str(text: &str) -> Result<Lasting, LastingError> {
        let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u32 = number.parse().map_err(|_| LastingError)?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "" if number == 0 => 1,
            _ => return Err(LastingError),
        };
        let lasting = Duration::from_millis(u64::from(number) * unit_ms);
        Ok(Lasting((!lasting.is_zero()).then_some(lasting)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_bound_on_both_sides() {
        assert_eq!("5000".parse(), Ok(Rate(5_000)));
        assert_eq!("20/s".parse(), Ok(Rate(20)));
        for bad in ["0", "5001", "-1", "1.5", "", "20/m"] {
            assert_eq!(bad.parse::<Rate>(), Err(RateError), "{bad}");
        }
    }

    #[test]
    fn a_duration_has_a_unit_and_zero_is_no_end() {
        assert_eq!("90s".parse(), Ok(Lasting(Some(Duration::from_secs(90)))));
        assert_eq!("250ms".parse(), Ok(Lasting(Some(Duration::from_millis(250)))));
        assert_eq!(["0".parse(), "0s".parse()], [Ok(Lasting(None)), Ok(Lasting(None))]);
        for bad in ["5", "s", "", "1.5s", "5d", "99999999999s"] {
            assert_eq!(bad.parse::<Lasting>(), Err(LastingError), "{bad}");
        }
    }
}

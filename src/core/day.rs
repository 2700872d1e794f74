//! Days of the calendar, counted; no clock and no zone.

use std::fmt;
use std::str::FromStr;

/// A day, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(i32);

/// Not a day as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a day is written as in `2026-12-01`")]
pub struct NotADay;

impl Day {
    /// The day of a moment, in UTC.
    pub fn of_unix_ms(unix_ms: u64) -> Day {
        Day(i32::try_from(unix_ms / 86_400_000).unwrap_or(i32::MAX))
    }

    /// Of the Gregorian calendar; `None`: there is no such day.
    pub fn new(year: i32, month: u32, day: u32) -> Option<Day> {
        if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
            return None;
        }
        // Years begin in March here, so that the day that leap years have more is the last one.
        let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * month + 2) / 5 + day - 1;
        let days = of_era * 365 + of_era / 4 - of_era / 100 + i32::try_from(of_year).ok()?;
        Some(Day(era * 146_097 + days - 719_468))
    }

    /// Days since 1970-01-01.
    pub const fn number(self) -> i32 {
        self.0
    }
}

fn days_in(year: i32, month: u32) -> u32 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl FromStr for Day {
    type Err = NotADay;

    fn from_str(text: &str) -> Result<Day, NotADay> {
        let mut parts = text.splitn(3, '-');
        let mut next = |length: usize| {
            parts.next().filter(|part| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let (year, month, day) = (next(4).ok_or(NotADay)?, next(2).ok_or(NotADay)?, next(2).ok_or(NotADay)?);
        let [Ok(month), Ok(day)] = [month, day].map(str::parse) else { return Err(NotADay) };
        Day::new(year.parse().map_err(|_| NotADay)?, month, day).ok_or(NotADay)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shifted = self.0.saturating_add(719_468);
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        write!(f, "{:04}-{month:02}-{day:02}", year + era * 400 + next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_are_counted_as_calendars_do() {
        for (text, number) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11_016),
            ("2026-12-01", 20_788),
            ("2100-03-01", 47_541),
        ] {
            assert_eq!(text.parse::<Day>().map(Day::number), Ok(number), "{text}");
        }
        assert_eq!(Day::of_unix_ms(20_788 * 86_400_000 + 86_399_999), "2026-12-01".parse().expect("a day"));
        for text in [
            "",
            "2026-13-01",
            "2026-02-29",
            "2026-1-1",
            "26-01-01",
            "2026-00-10",
            "2026-01-00",
            "2026/01/01",
            "+026-01-01",
        ] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number in -700_000i32..2_900_000) {
            prop_assert_eq!(Day(number).to_string().parse::<Day>(), Ok(Day(number)));
        }
    }
}

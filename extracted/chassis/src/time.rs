//! Points in time as milliseconds since 1970, written as RFC 3339 in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 00:00 UTC.
pub type UnixMs = i64;

pub const SECOND_MS: UnixMs = 1_000;
pub const MINUTE_MS: UnixMs = 60 * SECOND_MS;
pub const DAY_MS: UnixMs = 24 * 60 * MINUTE_MS;

/// The present, by the machine's clock. 0 on a clock set before 1970.
pub fn now_ms() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
}

/// Writes `2026-11-21T10:31:08.250Z`.
pub fn rfc3339(at: UnixMs) -> String {
    let (year, month, day) = civil(at.div_euclid(DAY_MS));
    let in_day = at.rem_euclid(DAY_MS);
    let (hour, minute) = (in_day / (60 * MINUTE_MS), in_day / MINUTE_MS % 60);
    let (second, ms) = (in_day / SECOND_MS % 60, in_day % SECOND_MS);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Writes the UTC date, `2026-11-21`.
pub fn utc_date(at: UnixMs) -> String {
    let (year, month, day) = civil(at.div_euclid(DAY_MS));
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a number of days since 1970 (Howard Hinnant's algorithm; eras of 400 years from 1 March of year 0).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_right() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_826_154_250), "2000-02-29T12:09:14.250Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(utc_date(1_735_689_599_999), "2024-12-31");
    }
}

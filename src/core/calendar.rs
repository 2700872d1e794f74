//! When weights may rise: hours of the week in a zone, and days on which nothing does. Lowering asks no calendar.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Weekday;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, Zoned};

use crate::day::Day;

const MINUTES_OF_A_DAY: u16 = 24 * 60;

/// `Mon-Thu 09:00-16:00 Europe/Berlin`: the end is the first minute outside.
///
/// A window that ends before it begins (`22:00-04:00`) goes on into the next day and belongs to the day on which it begins. Where the
/// clock of the zone is changed, what its own clocks show counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Monday first.
    days: [bool; 7],
    /// Minutes since midnight.
    begins: u16,
    /// Minutes since midnight; 24:00 is 1,440.
    ends: u16,
    zone: TimeZone,
    text: String,
}

/// Why a window is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Not three words.
    #[error("a window is days, hours and a zone, as in `Mon-Thu 09:00-16:00 Europe/Berlin`")]
    Form,
    /// Not `Mon`, `Mon-Thu` or `Mon,Wed`.
    #[error("`{0}` are no days; they are written `Mon`, `Mon-Thu` or `Mon,Wed-Fri`")]
    Days(String),
    /// Not `09:00-16:00`.
    #[error("`{0}` are no hours; they are written `09:00-16:00`, and differ")]
    Hours(String),
    /// Not in the database of zones.
    #[error("there is no time zone `{0}`; they are written `Europe/Berlin` or `UTC`")]
    Zone(String),
}

impl Window {
    /// Whether weights may rise at `unix_ms`.
    pub fn is_open(&self, unix_ms: u64) -> bool {
        let Some(now) = local(&self.zone, unix_ms) else { return false };
        let minute = minute_of(&now);
        let today = self.has(now.weekday());
        if self.begins < self.ends {
            return today && (self.begins..self.ends).contains(&minute);
        }
        let yesterday = self.has(now.weekday().previous());
        (today && minute >= self.begins) || (yesterday && minute < self.ends)
    }

    /// When it next opens, in milliseconds since 1970; `unix_ms` itself while it is open. `None`: not within eight days, which no window
    /// takes.
    pub fn opens(&self, unix_ms: u64) -> Option<u64> {
        if self.is_open(unix_ms) {
            return Some(unix_ms);
        }
        // By quarters of an hour first and by minutes then: an hour that a zone leaves out needs no rule of its own.
        let minute_ms = 60_000;
        let from = unix_ms - unix_ms % minute_ms;
        let minutes = 8 * u64::from(MINUTES_OF_A_DAY);
        (1..=minutes).map(|minute| from + minute * minute_ms).find(|at| self.is_open(*at))
    }

    /// The zone, in which days on which nothing rises are meant, too.
    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    fn has(&self, day: Weekday) -> bool {
        self.days.get(usize::from(day.to_monday_zero_offset().unsigned_abs())).copied().unwrap_or(false)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Window, WindowError> {
        let mut words = text.split_whitespace();
        let (Some(days), Some(hours), Some(zone), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(WindowError::Form);
        };
        let days_set = days_of(days).ok_or_else(|| WindowError::Days(days.to_owned()))?;
        let (begins, ends) = hours_of(hours).ok_or_else(|| WindowError::Hours(hours.to_owned()))?;
        let zone = zone_of(zone).ok_or_else(|| WindowError::Zone(zone.to_owned()))?;
        Ok(Window { days: days_set, begins, ends, zone, text: text.split_whitespace().collect::<Vec<_>>().join(" ") })
    }
}

/// `2026-11-27/2026-12-01`, both days included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// The first day.
    pub first: Day,
    /// The last day.
    pub last: Day,
}

/// Why days are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreezeError {
    /// Not one or two days.
    #[error("a freeze is its first and its last day, as in `2026-11-27/2026-12-01`, or one day")]
    Form,
    /// It ends before it begins.
    #[error("the last day comes before the first")]
    Backwards,
}

impl Freeze {
    /// Whether it holds at `unix_ms` where `zone`'s calendars hang; `None`: UTC.
    pub fn holds(self, unix_ms: u64, zone: Option<&TimeZone>) -> bool {
        let today = match zone.and_then(|zone| local(zone, unix_ms)) {
            None => Some(Day::of_unix_ms(unix_ms)),
            Some(now) => {
                let number = |part: i8| u32::from(part.unsigned_abs());
                Day::new(i32::from(now.year()), number(now.month()), number(now.day()))
            }
        };
        today.is_some_and(|today| (self.first..=self.last).contains(&today))
    }
}

impl FromStr for Freeze {
    type Err = FreezeError;

    fn from_str(text: &str) -> Result<Freeze, FreezeError> {
        let (first, last) = text.split_once('/').unwrap_or((text, text));
        let day = |text: &str| text.parse::<Day>().map_err(|_| FreezeError::Form);
        let (first, last) = (day(first)?, day(last)?);
        if last < first { Err(FreezeError::Backwards) } else { Ok(Freeze { first, last }) }
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.last)
    }
}

fn local(zone: &TimeZone, unix_ms: u64) -> Option<Zoned> {
    let at = Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
    Some(at.to_zoned(zone.clone()))
}

fn minute_of(now: &Zoned) -> u16 {
    u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs())
}

/// From the database that the program brings: the same windows on every host.
fn zone_of(name: &str) -> Option<TimeZone> {
    if name == "UTC" { Some(TimeZone::UTC) } else { TimeZoneDatabase::bundled().get(name).ok() }
}

fn days_of(text: &str) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (day_of(from)?, day_of(to)?);
        // `Fri-Mon` goes over the week's end.
        let many = (to + 7 - from) % 7;
        for step in 0..=many {
            *days.get_mut((from + step) % 7)? = true;
        }
    }
    Some(days)
}

fn day_of(text: &str) -> Option<usize> {
    ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].iter().position(|day| *day == text)
}

fn hours_of(text: &str) -> Option<(u16, u16)> {
    let (begins, ends) = text.split_once('-')?;
    let (begins, ends) = (time_of(begins)?, time_of(ends)?);
    (begins != ends && begins < MINUTES_OF_A_DAY).then_some((begins, ends))
}

fn time_of(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let is_written_well =
        [hours, minutes].iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()));
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let at = hours * 60 + minutes;
    (is_written_well && minutes < 60 && at <= MINUTES_OF_A_DAY).then_some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond().unsigned_abs()
    }

    fn is_open(window: &str, when: &str) -> bool {
        window.parse::<Window>().unwrap().is_open(at(when))
    }

    #[test]
    fn a_window_is_open_in_its_hours_on_its_days_in_its_zone() {
        let window = "Mon-Thu 09:00-16:00 Europe/Berlin";
        // 2026-11-23 is a Monday; Berlin is an hour ahead in winter and two in summer.
        assert!(!is_open(window, "2026-11-23T07:59:59Z"));
        assert!(is_open(window, "2026-11-23T08:00:00Z"));
        assert!(is_open(window, "2026-11-23T14:59:59Z"));
        assert!(!is_open(window, "2026-11-23T15:00:00Z"));
        assert!(!is_open(window, "2026-11-27T10:00:00Z"), "a Friday");
        assert!(is_open(window, "2026-07-06T07:00:00Z"), "summer time");
        assert!(is_open("Mon,Wed 00:00-24:00 UTC", "2026-11-25T23:59:59Z"));
        assert!(!is_open("Mon,Wed 00:00-24:00 UTC", "2026-11-24T00:00:00Z"));
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let window = "Fri 22:00-04:00 UTC";
        assert!(is_open(window, "2026-11-27T22:00:00Z"));
        assert!(is_open(window, "2026-11-28T03:59:00Z"));
        assert!(!is_open(window, "2026-11-28T04:00:00Z"));
        assert!(!is_open(window, "2026-11-27T03:00:00Z"), "that is Thursday's night");
        assert!(is_open("Fri-Mon 22:00-04:00 UTC", "2026-11-24T01:00:00Z"), "Monday's night");
    }

    #[test]
    fn it_tells_when_it_opens_next() {
        let window: Window = "Mon-Thu 09:00-16:00 Europe/Berlin".parse().unwrap();
        assert_eq!(window.opens(at("2026-11-26T16:30:00Z")), Some(at("2026-11-30T08:00:00Z")));
        assert_eq!(window.opens(at("2026-11-26T10:00:01Z")), Some(at("2026-11-26T10:00:01Z")));
        // The hour that does not exist on the day of the change: 02:30 to 03:30 is open from 03:00 on.
        let early: Window = "Sun 02:30-03:30 Europe/Berlin".parse().unwrap();
        assert_eq!(early.opens(at("2026-03-29T00:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
    }

    #[test]
    fn a_freeze_holds_on_both_of_its_days_where_its_calendar_hangs() {
        let freeze: Freeze = "2026-11-27/2026-12-01".parse().unwrap();
        assert!(!freeze.holds(at("2026-11-26T23:59:00Z"), None));
        assert!(freeze.holds(at("2026-11-27T00:00:00Z"), None));
        assert!(freeze.holds(at("2026-12-01T23:59:59Z"), None));
        assert!(!freeze.holds(at("2026-12-02T00:00:00Z"), None));
        let berlin = zone_of("Europe/Berlin").unwrap();
        assert!(freeze.holds(at("2026-11-26T23:30:00Z"), Some(&berlin)), "it is past midnight there");
        assert_eq!("2026-12-24".parse::<Freeze>().map(|freeze| freeze.first == freeze.last), Ok(true));
    }

    #[test]
    fn what_is_no_window_says_why() {
        let error = |text: &str| text.parse::<Window>().unwrap_err().to_string();
        assert!(error("always").contains("Mon-Thu 09:00-16:00 Europe/Berlin"));
        assert!(error("Mon-Thursday 09:00-16:00 UTC").contains("`Mon-Thursday`"));
        for hours in ["9:00-16:00", "09:00-09:00", "09:60-10:00", "24:00-03:00", "09:00-25:00", "09:00"] {
            assert!(error(&format!("Mon {hours} UTC")).contains("are no hours"), "{hours}");
        }
        assert!(error("Mon 09:00-16:00 Europe/Berlim").contains("Europe/Berlim"));
        assert_eq!("2026-12-02/2026-12-01".parse::<Freeze>(), Err(FreezeError::Backwards));
        assert_eq!("2026-13-01".parse::<Freeze>(), Err(FreezeError::Form));
    }

    proptest! {
        #[test]
        fn when_it_opens_it_is_open_and_a_minute_before_it_was_not(hour in 0u64..24, ends in 0u64..24, now in 1_700_000_000_000u64..1_900_000_000_000) {
            prop_assume!(hour != ends);
            let window: Window = format!("Tue {hour:02}:00-{ends:02}:00 America/New_York").parse().unwrap();
            let opens = window.opens(now).unwrap();
            prop_assert!(window.is_open(opens));
            prop_assert!(opens == now || !window.is_open(opens - 60_000));
        }
    }
}

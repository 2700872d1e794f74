//! Moments as services write them: RFC 3339, the dates of mail and HTTP, and counts since 1970.

use crate::day::Day;
use crate::json::number::Number;

/// In nanoseconds.
const SECOND: i128 = 1_000_000_000;

/// Nanoseconds since 1970-01-01T00:00:00Z, of a text; `None`: it names no moment.
///
/// A moment without a zone is taken for UTC, and a day for its beginning.
pub(crate) fn of_text(text: &str) -> Option<i128> {
    let text = text.trim();
    if text.len() > 64 || !text.is_ascii() {
        return None;
    }
    if text.len() >= 10 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return of_number(&Number::new(text));
    }
    internet(text).or_else(|| mail(text))
}

/// Of a count: seconds, milliseconds, microseconds or nanoseconds, by its size.
pub(crate) fn of_number(number: &Number<'_>) -> Option<i128> {
    let (digits, power) = number.canonical().parts()?;
    // To nanoseconds of whatever unit, as if it were seconds.
    let shift = power.checked_add(9)?;
    let nanoseconds = match u32::try_from(shift) {
        Ok(shift) if shift <= 30 => digits.checked_mul(10i128.pow(shift))?,
        Ok(_) => return None,
        Err(_) => digits / 10i128.checked_pow(u32::try_from(-shift).ok()?)?,
    };
    Some(match nanoseconds.abs() {
        size if size < 100_000_000_000 * SECOND => nanoseconds,
        size if size < 100_000_000_000_000 * SECOND => nanoseconds / 1_000,
        size if size < 100_000_000_000_000_000 * SECOND => nanoseconds / 1_000_000,
        _ => nanoseconds / SECOND,
    })
}

/// `2026-01-01T00:00:00.900Z`; the letter may be a space, seconds and zone may be missing.
fn internet(text: &str) -> Option<i128> {
    let day: Day = text.get(..10)?.parse().ok()?;
    let rest = text.get(10..)?;
    if rest.is_empty() {
        return moment(day, 0, 0);
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let end = rest.find(['Z', 'z', '+', '-', ' ']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(end);
    moment(day, time_of_day(clock)?, offset(zone.trim_start())?)
}

/// `Mon, 18 Jun 2018 11:46:23 GMT` (RFC 5322, RFC 9110 §5.6.7).
fn mail(text: &str) -> Option<i128> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let text = text.split_once(',').map_or(text, |(_, rest)| rest);
    let mut words = text.split_ascii_whitespace();
    let (day, month, year) = (words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| month.eq_ignore_ascii_case(name))? + 1;
    let day = Day::new(number(year, 4)?, u32::try_from(month).ok()?, u32::try_from(number(day, 2)?).ok()?)?;
    let clock = time_of_day(words.next()?)?;
    let zone = offset(words.next().unwrap_or_default())?;
    if words.next().is_some() { None } else { moment(day, clock, zone) }
}

fn moment(day: Day, nanoseconds: i128, offset_minutes: i128) -> Option<i128> {
    let seconds = i128::from(day.number()) * 86_400 - offset_minutes * 60;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// Nanoseconds since midnight of `11:46`, `11:46:23` or `11:46:23.87`.
fn time_of_day(text: &str) -> Option<i128> {
    let mut parts = text.splitn(3, ':');
    let (hours, minutes) = (two_digits(parts.next()?, 23)?, two_digits(parts.next()?, 59)?);
    let (seconds, fraction) = parts.next().map_or(Some(("00", "")), |part| {
        part.split_once(['.', ','])
            .map_or(Some((part, "")), |(whole, rest)| (!rest.is_empty()).then_some((whole, rest)))
    })?;
    // A leap second is written 60.
    let seconds = two_digits(seconds, 60)?;
    if fraction.len() > 18 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i128 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + nanoseconds)
}

/// Minutes east of Greenwich.
fn offset(text: &str) -> Option<i128> {
    if text.is_empty() || ["z", "gmt", "utc", "ut"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Some(0);
    }
    let (sign, rest) = if let Some(rest) = text.strip_prefix('+') { (1, rest) } else { (-1, text.strip_prefix('-')?) };
    let (hours, minutes) = match rest.split_once(':') {
        Some(parts) => parts,
        None if rest.len() == 2 => (rest, "00"),
        None => rest.split_at_checked(2)?,
    };
    Some(sign * (two_digits(hours, 23)? * 60 + two_digits(minutes, 59)?))
}

fn two_digits(text: &str, most: i128) -> Option<i128> {
    let is_written_well = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_written_well && *number <= most)
}

fn number(text: &str, digits: usize) -> Option<i32> {
    let is_written_well = (1..=digits).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_written_well)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_moment_has_many_spellings() {
        for texts in [
            &[
                "2026-01-01T00:00:01.200Z",
                "2026-01-01T00:00:01.2+00:00",
                "2026-01-01 01:00:01,200 +0100",
                "2025-12-31t23:00:01.200-01",
            ][..],
            &[
                "Mon, 18 Jun 2018 11:46:23 GMT",
                "18 jun 2018 13:46:23 +0200",
                "2018-06-18T11:46:23",
                "1529322383",
                "1529322383000",
            ],
            &["2026-01-01", "2026-01-01T00:00Z"],
        ] {
            let moments: Vec<_> = texts.iter().map(|text| of_text(text).unwrap_or_else(|| panic!("{text}"))).collect();
            assert!(moments.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?} {moments:?}");
        }
        let number = |text| of_number(&Number::new(text));
        assert_eq!(number("1529322383.5"), number("1529322383500"));
        assert_eq!(number("1529322383.5e0"), number("1529322383500000000"));
        assert_eq!(number("-1"), Some(-1_000_000_000));
    }

    #[test]
    fn what_names_no_moment_is_none() {
        for text in [
            "",
            "now",
            "2026-13-01",
            "2026-01-01T25:00:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01X",
            "12:00",
            "1.5",
            "99",
            "Mon, 32 Jun 2018 11:46:23 GMT",
            "18 Jun 2018 11:46:23 XYZ",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1",
        ] {
            assert_eq!(of_text(text), None, "{text}");
        }
        assert_eq!(of_number(&Number::new("1e400")), None);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "[0-9TZ:+\\-., a-zA-Z]{0,40}", other in "\\PC{0,40}") {
            let _ = (of_text(&text), of_text(&other));
        }

        #[test]
        fn no_number_breaks_the_reader(text in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,20})?(e-?[0-9]{1,40})?") {
            let _ = of_number(&Number::new(&text));
        }
    }
}

//! Which of many records of one cause are kept.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::route::KeepHow;

/// What a record is worth keeping: of one cause, those with the greatest numbers stay.
///
/// Newest: its time. Reservoir: its time and a chance drawn from its `id`, so that of a cause which has come up a thousand times an
/// hour there are some records of now and some of each hour before, fewer the longer ago: no first few that go stale, no last few
/// that are all of one minute. What is an eighth of `age` older is kept less often by the factor e.
pub fn score_ms(how: KeepHow, age: Duration, at_unix_ms: u64, id: &str) -> i64 {
    let at = i64::try_from(at_unix_ms).unwrap_or(i64::MAX);
    match how {
        KeepHow::Newest => at,
        KeepHow::Reservoir => {
            // Gumbel's distribution: the greatest of such numbers are a weighted draw without putting back (Efraimidis, Spirakis).
            let bits = u32::try_from(xxh3_64(id.as_bytes()) >> 32).unwrap_or_default();
            let chance = (f64::from(bits) + 0.5) / 4_294_967_296.0;
            let draw = -(-chance.ln()).ln();
            let scale = Duration::as_secs_f64(&age) * 1_000.0 / 8.0;
            at.saturating_add(rounded(draw * scale))
        }
    }
}

/// The draw is between -4 and 23, the scale a few years at most.
#[expect(clippy::cast_possible_truncation, reason = "bounded, see above; and a cast of a float saturates")]
fn rounded(number: f64) -> i64 {
    number as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservoir_has_some_of_now_and_some_of_long_ago() {
        let day = Duration::from_hours(24);
        let hour_ms = 3_600_000;
        // One a minute for a day.
        let mut kept: Vec<(i64, u64)> = (0..24 * 60)
            .map(|minute| {
                let at = 1_795_000_000_000 + minute * 60_000;
                (score_ms(KeepHow::Reservoir, day, at, &format!("{at:012x}id")), at)
            })
            .collect();
        kept.sort_unstable();
        let last = 1_795_000_000_000 + 24 * hour_ms;
        let ages: Vec<u64> = kept.iter().rev().take(20).map(|(_, at)| (last - at) / hour_ms).collect();
        let newest = ages.iter().filter(|age| **age < 3).count();
        let older = ages.iter().filter(|age| **age >= 6).count();
        assert!((5..=17).contains(&newest) && older >= 1, "{ages:?}");
    }

    #[test]
    fn the_newest_are_just_that() {
        assert_eq!(score_ms(KeepHow::Newest, Duration::ZERO, 7, "any"), 7);
        assert_eq!(score_ms(KeepHow::Reservoir, Duration::ZERO, 7, "any"), 7);
    }
}

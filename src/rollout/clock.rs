//! The clock on the wall, which windows and freezes go by, held against one that nobody sets.

use std::time::Duration;

/// A clock on the wall that has gone otherwise than ours by so much between two looks has jumped.
const JUMP_MIN: Duration = Duration::from_secs(60);
/// How long it is not believed after that.
const DOUBT: Duration = Duration::from_secs(600);

/// Whether the clock on the wall, which people and programs set, goes as ours does.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// What both said at the last look: milliseconds since 1970, and since the process began.
    last: Option<(u64, Duration)>,
    /// Until when it is not believed, by our own.
    doubted_until: Duration,
    ours: Duration,
}

impl Clock {
    pub(super) fn look(&mut self, unix_ms: u64, ours: Duration) {
        if let Some((before_ms, before)) = self.last.replace((unix_ms, ours)) {
            let passed_ms = u64::try_from(ours.saturating_sub(before).as_millis()).unwrap_or(u64::MAX);
            let off = Duration::from_millis(unix_ms.abs_diff(before_ms.saturating_add(passed_ms)));
            if off >= JUMP_MIN {
                tracing::warn!(
                    ?off,
                    "the clock on the wall has jumped: for a while no window and no freeze is believed"
                );
                self.doubted_until = ours + DOUBT;
            }
        }
        self.ours = ours;
    }

    pub(super) fn is_doubtful(&self) -> bool {
        self.ours < self.doubted_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_by_an_hour_is_not_believed_for_a_while() {
        let begun_ms = 1_795_428_000_000;
        for jump_ms in [3_600_000i64, -3_600_000] {
            let mut clock = Clock::default();
            let mut at = |second: u64, off_ms: i64| {
                let unix_ms = (begun_ms + second * 1_000).saturating_add_signed(off_ms);
                clock.look(unix_ms, Duration::from_secs(second));
                clock.is_doubtful()
            };
            assert!(!at(1, 0) && !at(2, 0) && !at(4, 900), "what a busy machine does is no jump");
            assert!(at(5, jump_ms) && at(6, jump_ms) && at(604, jump_ms));
            assert!(!at(606, jump_ms), "then it is the time");
            assert!(at(607, 0), "and back");
        }
    }
}

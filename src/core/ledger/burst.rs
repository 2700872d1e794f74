//! How many failures came at once.

use std::time::Duration;

use crate::weight::Weight;

/// Seconds that are looked at together: a process that is back after two has failed within three, as clocks cut them, and some connections
/// take one more.
const SECONDS: usize = 4;

/// The failures of the last seconds, by second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Burst {
    weight: Weight,
    /// The newest second, and what came in it and in those before.
    second: u64,
    counts: [u64; SECONDS],
}

impl Burst {
    /// Takes so many; answers how many there were in the last seconds, these included.
    pub(super) fn note(&mut self, weight: Weight, at: Duration, more: u64) -> u64 {
        if weight != self.weight {
            *self = Burst { weight, ..Burst::default() };
        }
        let passed = at.as_secs().saturating_sub(self.second);
        for _ in 0..passed.min(SECONDS as u64) {
            self.counts.rotate_right(1);
            if let Some(now) = self.counts.first_mut() {
                *now = 0;
            }
        }
        self.second = self.second.max(at.as_secs());
        if let Some(now) = self.counts.first_mut() {
            *now += more;
        }
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_the_last_four_seconds_are_one_burst() {
        let mut burst = Burst::default();
        let mut note = |at| burst.note(Weight::ALL, Duration::from_millis(at), 1);
        assert_eq!([note(1_000), note(1_900), note(2_000), note(4_999), note(5_000), note(60_000)], [1, 2, 3, 4, 3, 1]);
    }
}

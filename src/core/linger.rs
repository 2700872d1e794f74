//! How long a client that was answered early is still listened to.
//!
//! Who is cut off while it sends loses the answer: over HTTP/1 a reset takes it out of the client's hands, and many clients of HTTP/2
//! read a reset stream as a failure, whatever came before it. So what it still sends is read and thrown away, within bounds.

use std::time::Duration;

/// Bytes that are thrown away, at most.
pub const BYTES_MAX: u64 = 64 << 20;
/// Time that every client gets.
pub const GRACE: Duration = Duration::from_secs(2);
/// Time that none gets more than.
const PATIENCE_MAX: Duration = Duration::from_secs(30);
/// Bytes that earn one second more: a client that trickles is not listened to for longer than one that is silent.
const RATE: u64 = 256 << 10;

/// For how long in all a client is listened to that has sent `drained` bytes since its answer; `None`: no more.
///
/// ```
/// # use std::time::Duration;
/// # use strangler_core::linger::patience;
/// assert_eq!(patience(0), Some(Duration::from_secs(2)));
/// assert_eq!(patience(1 << 20), Some(Duration::from_secs(6)));
/// assert_eq!(patience(64 << 20), None);
/// ```
pub fn patience(drained: u64) -> Option<Duration> {
    let earned = Duration::from_millis(drained.saturating_mul(1_000) / RATE);
    (drained < BYTES_MAX).then(|| GRACE.saturating_add(earned).min(PATIENCE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_client_is_listened_to_for_a_bounded_time_and_no_shorter_for_having_sent_more(drained in 0..2 * BYTES_MAX, more in 0u64..1 << 20) {
            let (now, later) = (patience(drained), patience(drained + more));
            prop_assert!(now.is_none_or(|now| (GRACE..=PATIENCE_MAX).contains(&now)));
            prop_assert!(later.is_none() || later >= now);
        }
    }
}

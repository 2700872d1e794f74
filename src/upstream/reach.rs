//! Whether connections to an endpoint can be made, and why not: said aloud now and then, and shown.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use strangler_core::chain::chain;
use strangler_core::health;
use strangler_core::observation::Failure;

use crate::upstream::pool::DialError;
use crate::upstream::{UpstreamState, since_begun};

/// Longest reason that is kept, in characters.
const WHY_CHARS_MAX: usize = 300;

/// Why the last connection could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// In the words of whoever said it: the system, or TLS.
    pub why: String,
    /// When, in Unix milliseconds.
    pub at_unix_ms: u64,
    /// How often in a row.
    pub times: u64,
}

/// How the last connections to an endpoint went.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// `None`: the last one stood.
    last: ArcSwapOption<Unreached>,
    /// In ms since the process began, plus one; 0: never.
    said_ms: AtomicU64,
    /// Whether the end of the present trouble is worth a line, as its beginning was.
    is_said: AtomicBool,
}

impl Reach {
    /// Why not; `None`: it can be reached, as far as is known.
    pub(crate) fn unreached(&self) -> Option<Unreached> {
        self.last.load().as_deref().cloned()
    }

    /// Notes one more, and answers whether it is to be said.
    fn failed(&self, why: &str, now: Duration) -> bool {
        let times = self.last.load().as_ref().map_or(0, |last| last.times) + 1;
        let at_unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let at_unix_ms = u64::try_from(at_unix_ms).unwrap_or(u64::MAX);
        let why = why.chars().take(WHY_CHARS_MAX).collect();
        self.last.store(Some(std::sync::Arc::new(Unreached { why, at_unix_ms, times })));
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX >> 1);
        let said = self.said_ms.load(Ordering::Relaxed);
        let last = (said > 0).then(|| Duration::from_millis(said - 1));
        let is_due = health::is_said_again(last, now)
            && self.said_ms.compare_exchange(said, now_ms + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_due {
            self.is_said.store(true, Ordering::Relaxed);
        }
        is_due
    }

    /// It stood. Answers whether that is to be said.
    fn stood(&self) -> bool {
        // Looked at first: every connection comes by here, and a write would move the line between cores.
        self.last.load().is_some() && self.last.swap(None).is_some() && self.is_said.swap(false, Ordering::Relaxed)
    }
}

impl UpstreamState {
    /// A connection to an endpoint was had, and whether it was there already, or was not.
    pub(crate) fn note_connection<T>(&self, endpoint: usize, outcome: &Result<(T, bool), DialError>) {
        let Some(state) = self.endpoints.get(endpoint) else { return };
        let (failure, cause) = match outcome {
            // One that another request had done with says nothing new; and where there was no room, nobody tried.
            Ok((_, true)) | Err((Failure::Full, _)) => return,
            Ok((_, false)) => {
                if state.reach.stood() {
                    tracing::info!(upstream = %self.config.name, endpoint = %state.endpoint, "connections to an endpoint can be made again");
                }
                return;
            }
            Err((failure, cause)) => (failure, cause),
        };
        let why = cause.as_ref().map_or_else(|| "no connection in time".to_owned(), |cause| chain(cause));
        if state.reach.failed(&why, since_begun(Instant::now())) {
            tracing::warn!(upstream = %self.config.name, endpoint = %state.endpoint, failure = failure.as_str(), why, "a connection to an endpoint cannot be made");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_at_once_then_seldom_and_forgotten_when_a_connection_stands() {
        let (reach, second) = (Reach::default(), Duration::from_secs(1));
        assert!(!reach.stood(), "no news");
        assert!(reach.failed("refused", second));
        assert!(!reach.failed("refused", 2 * second));
        assert!(reach.failed("UnknownIssuer", 60 * second));
        let last = reach.unreached().unwrap();
        assert_eq!((last.why.as_str(), last.times), ("UnknownIssuer", 3));
        assert!(reach.stood() && !reach.stood());
        assert_eq!(reach.unreached(), None);
    }
}

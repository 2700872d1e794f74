//! What happens after a failed try: the same side again, legacy instead, or the failure is the answer.
//!
//! Rule 1 stands above all: a request with side effects is never sent twice. It may be tried again only when provably
//! nothing of it was sent.

use http::Method;

use crate::facts::is_safe;
use crate::observation::Failure;
use crate::route::{FallbackPolicy, Retry, Route, UnsafeFallback};
use crate::side::Side;

/// How much of a request may have reached the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sent {
    /// Provably nothing.
    Nothing,
    /// Perhaps something: a byte was handed to the kernel.
    Maybe,
}

/// What is known when a try has failed.
#[derive(Clone, Copy, Debug)]
pub struct FailedTry {
    /// How.
    pub failure: Failure,
    /// What may have left.
    pub sent: Sent,
    /// Whether the connection came from the pool: its end is then no news of the endpoint.
    pub was_pooled: bool,
    /// Tries on this side so far, this one included.
    pub tries: u8,
    /// Whether the request's body can be sent once more, whole.
    pub is_replayable: bool,
    /// Whether the upstream's retry budget has one left.
    pub has_budget: bool,
    /// Whether there is time left before the deadline.
    pub has_time: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextMove {
    /// The same side once more.
    Retry,
    /// Legacy instead; charged to extracted.
    TryLegacy,
    /// The failure is the answer.
    Answer,
}

/// Whether the try may be repeated on the same side.
fn may_retry(retry: Retry, method: &Method, failed: &FailedTry) -> bool {
    let may_resend = failed.sent == Sent::Nothing || is_safe(method);
    if !may_resend || !failed.is_replayable || !failed.has_time {
        return false;
    }
    // One transparent retry on another connection when a pooled one was found dead (RFC 9112 §9.3.1): no news of the
    // endpoint, so it costs no budget.
    if failed.was_pooled && failed.failure == Failure::Reset && failed.tries == 1 {
        return true;
    }
    let is_listed = match failed.failure {
        Failure::Connect | Failure::ConnectTimeout => retry.on_connect_failure,
        Failure::Reset => retry.on_reset_before_response,
        Failure::Timeout | Failure::Garbage | Failure::Truncated | Failure::Full | Failure::Status(_) => false,
    };
    is_listed && failed.tries <= retry.times && failed.has_budget
}

/// Whether legacy may be asked after extracted failed. `data` stands above the policy (DESIGN §5.8).
fn may_fall_back(route: &Route, policy: &FallbackPolicy, method: &Method, failed: &FailedTry) -> bool {
    let is_listed = match failed.failure {
        Failure::Connect | Failure::ConnectTimeout | Failure::Full => policy.on_connect_failure,
        Failure::Timeout => policy.on_timeout,
        Failure::Status(_) | Failure::Reset | Failure::Garbage => policy.on_5xx,
        // Bytes of the answer have reached the client.
        Failure::Truncated => false,
    };
    let may_resend = is_safe(method)
        || match policy.unsafe_requests {
            UnsafeFallback::Unsent => failed.sent == Sent::Nothing,
            UnsafeFallback::Never => false,
        };
    is_listed && may_resend && failed.is_replayable && failed.has_time && route.data.may_go_back()
}

/// After a failed try on `side`. `route` is `None` for what falls through.
pub fn after_failure(side: Side, route: Option<&Route>, retry: Retry, method: &Method, failed: &FailedTry) -> NextMove {
    if may_retry(retry, method, failed) {
        return NextMove::Retry;
    }
    let fallback = route.and_then(|route| route.fallback.as_ref().map(|policy| (route, policy)));
    match (side, fallback) {
        (Side::Extracted, Some((route, policy))) if may_fall_back(route, policy, method, failed) => NextMove::TryLegacy,
        (Side::Extracted | Side::Legacy, _) => NextMove::Answer,
    }
}

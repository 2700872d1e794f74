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
    /// Tries on this side so far, this one included; a pooled connection that was found dead and replaced is none.
    pub tries: u8,
    /// Whether a dead pooled connection has been replaced on this side already.
    pub has_replaced: bool,
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

/// Whether a retry of this try replaces a pooled connection that was found dead: it then counts as no try and costs no budget.
pub fn is_replacement(failed: &FailedTry) -> bool {
    failed.was_pooled && failed.failure == Failure::Reset && !failed.has_replaced
}

/// Whether the try may be repeated on the same side.
fn may_retry(retry: Retry, method: &Method, failed: &FailedTry) -> bool {
    let may_resend = failed.sent == Sent::Nothing || is_safe(method);
    if !may_resend || !failed.is_replayable || !failed.has_time {
        return false;
    }
    // One transparent retry on another connection when a pooled one was found dead (RFC 9112 §9.3.1): no news of the
    // endpoint, so it costs no budget.
    if is_replacement(failed) {
        return true;
    }
    let is_listed = match failed.failure {
        Failure::Connect | Failure::ConnectTimeout => retry.on_connect_failure,
        Failure::Reset => retry.on_reset_before_response,
        Failure::Timeout
        | Failure::Garbage
        | Failure::Truncated
        | Failure::Full
        | Failure::NoHealthy
        | Failure::BreakerOpen
        | Failure::Status(_) => false,
    };
    is_listed && failed.tries <= retry.times && failed.has_budget
}

/// Whether legacy may be asked after extracted failed. `data` stands above the policy (DESIGN §5.8).
fn may_fall_back(route: &Route, policy: &FallbackPolicy, method: &Method, failed: &FailedTry) -> bool {
    let is_listed = match failed.failure {
        Failure::Connect | Failure::ConnectTimeout | Failure::Full | Failure::NoHealthy => policy.on_connect_failure,
        Failure::BreakerOpen => policy.on_breaker_open,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Data;
    use crate::samples;
    use proptest::prelude::*;

    const FAILED: FailedTry = FailedTry {
        failure: Failure::Connect,
        sent: Sent::Nothing,
        was_pooled: false,
        tries: 2,
        has_replaced: true,
        is_replayable: true,
        has_budget: true,
        has_time: true,
    };

    fn on_extracted(method: &Method, failed: &FailedTry) -> NextMove {
        after_failure(Side::Extracted, Some(&samples::route("r", "/r")), Retry::default(), method, failed)
    }

    #[test]
    fn a_failed_connection_is_tried_again_and_then_falls_back() {
        let first = FailedTry { tries: 1, ..FAILED };
        assert_eq!(on_extracted(&Method::POST, &first), NextMove::Retry);
        assert_eq!(on_extracted(&Method::POST, &FAILED), NextMove::TryLegacy);
        assert_eq!(on_extracted(&Method::POST, &FailedTry { has_budget: false, ..first }), NextMove::TryLegacy);
        assert_eq!(on_extracted(&Method::POST, &FailedTry { has_time: false, ..FAILED }), NextMove::Answer);
    }

    #[test]
    fn a_dead_pooled_connection_is_replaced_once_without_a_budget() {
        let dead = FailedTry {
            failure: Failure::Reset,
            was_pooled: true,
            tries: 1,
            has_replaced: false,
            has_budget: false,
            sent: Sent::Maybe,
            ..FAILED
        };
        assert_eq!(on_extracted(&Method::GET, &dead), NextMove::Retry);
        assert_eq!(on_extracted(&Method::POST, &dead), NextMove::Answer);
        assert_eq!(on_extracted(&Method::POST, &FailedTry { sent: Sent::Nothing, ..dead }), NextMove::Retry);
        assert_eq!(on_extracted(&Method::GET, &FailedTry { has_replaced: true, ..dead }), NextMove::TryLegacy);
    }

    #[test]
    fn a_5xx_falls_back_for_safe_requests_only() {
        let failed = FailedTry { failure: Failure::Status(503), sent: Sent::Maybe, ..FAILED };
        assert_eq!(on_extracted(&Method::GET, &failed), NextMove::TryLegacy);
        assert_eq!(on_extracted(&Method::POST, &failed), NextMove::Answer);
        assert_eq!(on_extracted(&Method::DELETE, &failed), NextMove::Answer);
    }

    #[test]
    fn data_that_extracted_owns_never_goes_back_by_itself() {
        let mut route = samples::route("r", "/r");
        route.data = Data::Extracted;
        let retry = Retry::default();
        assert_eq!(after_failure(Side::Extracted, Some(&route), retry, &Method::GET, &FAILED), NextMove::Answer);
    }

    #[test]
    fn legacy_has_nothing_to_fall_back_to() {
        let route = samples::route("r", "/r");
        assert_eq!(
            after_failure(Side::Legacy, Some(&route), Retry::default(), &Method::GET, &FAILED),
            NextMove::Answer
        );
        assert_eq!(after_failure(Side::Legacy, None, Retry::default(), &Method::GET, &FAILED), NextMove::Answer);
    }

    fn failures() -> impl Strategy<Value = Failure> {
        prop_oneof![
            Just(Failure::Connect),
            Just(Failure::ConnectTimeout),
            Just(Failure::Timeout),
            Just(Failure::Reset),
            Just(Failure::Garbage),
            Just(Failure::Truncated),
            Just(Failure::Full),
            Just(Failure::NoHealthy),
            Just(Failure::BreakerOpen),
            (500u16..600).prop_map(Failure::Status),
        ]
    }

    proptest! {
        #[test]
        fn a_request_with_side_effects_is_never_sent_twice(
            failure in failures(),
            was_pooled: bool, has_replaced: bool, tries in 1u8..4, is_replayable: bool, has_budget: bool, has_time: bool, is_extracted: bool,
            method in prop_oneof![Just(Method::POST), Just(Method::PUT), Just(Method::PATCH), Just(Method::DELETE)],
        ) {
            let failed = FailedTry { failure, sent: Sent::Maybe, was_pooled, tries, has_replaced, is_replayable, has_budget, has_time };
            let side = if is_extracted { Side::Extracted } else { Side::Legacy };
            let route = samples::route("r", "/r");
            prop_assert_eq!(after_failure(side, Some(&route), Retry::default(), &method, &failed), NextMove::Answer);
        }

        #[test]
        fn tries_have_an_end(failure in failures(), was_pooled: bool, sent_maybe: bool, times in 0u8..=5) {
            let sent = if sent_maybe { Sent::Maybe } else { Sent::Nothing };
            let retry = Retry { times, ..Retry::default() };
            let tries = times.max(1) + 1;
            let failed = FailedTry { failure, sent, was_pooled, tries, has_replaced: true, is_replayable: true, has_budget: true, has_time: true };
            let route = samples::route("r", "/r");
            prop_assert_ne!(after_failure(Side::Extracted, Some(&route), retry, &Method::GET, &failed), NextMove::Retry);
        }
    }
}

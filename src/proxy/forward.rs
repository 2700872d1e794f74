//! Sends a request to the side that was decided on, and does after each failure what the core says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use strangler_core::breaker::Leave;
use strangler_core::fallback::{FailedTry, NextMove, Sent, after_failure, is_replacement};
use strangler_core::observation::Failure;
use strangler_core::route::{HostPolicy, Retry, Route};
use strangler_core::side::Side;

use crate::proxy::Proxy;
use crate::proxy::attached::RouteRuntime;
use crate::proxy::kept::KeptFields;
use crate::proxy::tunnel;
use crate::upstream::body::OutBody;
use crate::upstream::chance;
use crate::upstream::pool::{self, Exchange, Lane, TryLimits, UploadProgress};
use crate::upstream::{Admission, UpstreamState};

/// A request ready to be sent.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    /// What extracted is asked for instead.
    pub(crate) rewritten: Option<PathAndQuery>,
    /// With the `Host` that the client asked for.
    pub(crate) headers: HeaderMap,
    pub(crate) body: OutBody,
    /// Of a streamed body.
    pub(crate) progress: Option<Arc<UploadProgress>>,
}

/// An answer that may be given to the client.
pub(crate) struct Forwarded {
    pub(crate) exchange: Exchange,
    pub(crate) admission: Admission,
    pub(crate) side: Side,
    pub(crate) upstream: Arc<UpstreamState>,
    /// From the dispatch to this side to its head.
    pub(crate) upstream_time: Duration,
    /// From the first dispatch to any side to this head.
    pub(crate) waited: Duration,
    /// When this head came.
    pub(crate) now: Instant,
    /// Why legacy answers instead of extracted.
    pub(crate) fallback: Option<Failure>,
}

/// No side answered.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    /// The side that failed last; not charged yet, for the client may have been at fault.
    pub(crate) side: Side,
    pub(crate) failure: Failure,
    pub(crate) fallback: Option<Failure>,
    /// When the side that was asked first had failed.
    pub(crate) failed_at: Instant,
}

/// What stays the same over all tries of a request.
pub(crate) struct Forwarder<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) runtime: &'a RouteRuntime,
    pub(crate) route: Option<&'a Arc<Route>>,
    pub(crate) deadline: Option<Instant>,
    /// Whether its outcome says something of the route; a forced request's does not, and no breaker stands in its way.
    pub(crate) is_evidence: bool,
    /// Of a request for another protocol.
    pub(crate) tunnel: Option<&'a tunnel::Asked>,
}

/// A request that may be sent once more.
struct Again {
    fields: KeptFields,
    body: OutBody,
}

impl Forwarder<'_> {
    /// Sends `outgoing` to `side`, and on as the core decides.
    pub(crate) async fn forward(&self, mut side: Side, outgoing: Outgoing) -> Result<Forwarded, NoAnswer> {
        let Outgoing { method, target, rewritten, headers, body, progress } = outgoing;
        let begun = Instant::now();
        let mut limits = TryLimits {
            now: begun,
            is_fresh: false,
            needs_own: self.tunnel.is_some(),
            deadline: self.deadline,
            progress,
        };
        let is_safe = strangler_core::facts::is_safe(&method);
        let authority = headers.get(header::HOST).cloned();
        let build = |mut headers: HeaderMap, body: OutBody| {
            // Without a length the library sends a GET's body only when it is told how.
            if body.size_hint().exact().is_none() {
                headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            let mut request = Box::new(Request::new(body));
            *request.method_mut() = method.clone();
            *request.uri_mut() = Uri::from(target.clone());
            *request.headers_mut() = headers;
            request
        };
        // Only a safe request can be sent once more after a byte of it has left, so only then a second one is kept; or where the
        // other end can say of one that has left that it did not look at it.
        let can_come_back = is_safe || self.runtime.upstream(side).has_shared();
        let again =
            can_come_back.then(|| body.replay().map(|body| Again { fields: KeptFields::of(&headers), body })).flatten();
        let mut request = Some(build(headers, body));
        let mut side_begun = begun;
        let mut fallback = None;
        let mut tries: u8 = 0;
        let mut has_replaced = false;
        let mut tried = None;
        let leave = self.leave(side, begun);
        loop {
            let upstream = self.runtime.upstream(side);
            tries = tries.saturating_add(1);
            let Some(mut next) = request
                .take()
                .or_else(|| again.as_ref().and_then(|kept| Some(build(kept.fields.to_map()?, kept.body.replay()?))))
            else {
                // The core never asks for what cannot be sent; should it, the failure is the answer.
                return Err(NoAnswer {
                    side,
                    failure: fallback.unwrap_or(Failure::Reset),
                    fallback,
                    failed_at: side_begun,
                });
            };
            let is_refused = side == Side::Extracted && leave == Leave::Refused;
            let way = match upstream.pick(chance::next_u64(), limits.now, tried) {
                _ if is_refused => Err(Failure::BreakerOpen),
                None => Err(Failure::NoHealthy),
                Some(endpoint) => match upstream.admit(fallback.is_some()) {
                    None => Err(Failure::Full),
                    Some(admission) => Ok((endpoint, admission)),
                },
            };
            let failed = match way {
                Err(failure) => Attempt { failure, sent: Sent::Nothing, was_pooled: false, request: Some(next) },
                Ok((endpoint, admission)) => {
                    tried = Some(endpoint);
                    set_host(next.headers_mut(), upstream, endpoint, fallback.and(authority.as_ref()));
                    if let Some(rewritten) = &rewritten {
                        let target = if side == Side::Extracted { rewritten } else { &target };
                        *next.uri_mut() = Uri::from(target.clone());
                    }
                    upstream.note_request();
                    match pool::send(upstream, endpoint, Lane::User, next, &limits).await {
                        Ok(exchange) => match self.fault_at(side, endpoint, &exchange) {
                            Some(failure) if self.leads_to_legacy(side, &method, failure, tries, again.is_some()) => {
                                Attempt { failure, sent: Sent::Maybe, was_pooled: false, request: None }
                            }
                            Some(Failure::Garbage) => Attempt {
                                failure: Failure::Garbage,
                                sent: Sent::Maybe,
                                was_pooled: false,
                                request: None,
                            },
                            fault => {
                                let now = Instant::now();
                                self.settle(side, fault, leave, now);
                                return Ok(Forwarded {
                                    exchange,
                                    admission,
                                    side,
                                    upstream: Arc::clone(upstream),
                                    upstream_time: now.saturating_duration_since(side_begun),
                                    waited: now.saturating_duration_since(begun),
                                    now,
                                    fallback,
                                });
                            }
                        },
                        Err(error) => {
                            let is_stale = error.was_pooled && error.failure == Failure::Reset;
                            // A body that its client never finished is not the endpoint's fault.
                            let is_clients = limits.progress.as_ref().is_some_and(|progress| !progress.is_done());
                            if !is_stale && !is_clients {
                                upstream.note(endpoint, Some(error.failure), Instant::now());
                            }
                            tracing::debug!(upstream = %upstream.config.name, failure = error.failure.as_str(), cause = ?error.cause, "a try failed");
                            Attempt {
                                failure: error.failure,
                                sent: error.sent,
                                was_pooled: error.was_pooled,
                                request: error.request,
                            }
                        }
                    }
                }
            };
            let failure = failed.failure;
            limits.now = Instant::now();
            // A refused connection puts no load on anybody, and another endpoint gets what it would get were this one known to be gone.
            let moves_on = failure == Failure::Connect && upstream.endpoints().len() > 1;
            let what = FailedTry {
                failure,
                sent: failed.sent,
                was_pooled: failed.was_pooled,
                tries,
                has_replaced,
                is_replayable: failed.request.is_some() || again.is_some(),
                has_budget: moves_on || (is_retried(failure) && upstream.has_retry(self.proxy.begun.elapsed())),
                has_time: self.deadline.is_none_or(|deadline| limits.now < deadline),
            };
            // Legacy is tried once: a fallback must not double what it is asked for.
            let retry =
                if fallback.is_some() { Retry { times: 0, ..upstream.config.retry } } else { upstream.config.retry };
            match after_failure(side, self.route.map(|route| &**route), retry, &method, &what) {
                NextMove::Retry => {
                    limits.is_fresh = what.was_pooled;
                    // A dead pooled connection is no news of the endpoint, and its replacement costs nothing.
                    if is_replacement(&what) {
                        has_replaced = true;
                        tries = tries.saturating_sub(1);
                    } else if !moves_on {
                        upstream.take_retry();
                    }
                    self.runtime.metrics.count_retry();
                    request = failed.request;
                }
                NextMove::TryLegacy => {
                    self.settle(side, Some(failure), leave, limits.now);
                    self.runtime.metrics.count_fallback(failure);
                    side_begun = Instant::now();
                    fallback = Some(failure);
                    side = Side::Legacy;
                    limits.is_fresh = false;
                    (tries, has_replaced, tried) = (0, false, None);
                    request = failed.request;
                }
                NextMove::Answer => {
                    let failed_at = if fallback.is_some() { side_begun } else { limits.now };
                    return Err(NoAnswer { side, failure, fallback, failed_at });
                }
            }
        }
    }

    /// Whether extracted may be asked.
    fn leave(&self, side: Side, now: Instant) -> Leave {
        let breaker = self.runtime.breaker.as_ref().filter(|_| side == Side::Extracted && self.is_evidence);
        breaker.map_or(Leave::Pass, |breaker| breaker.enter(|| now.saturating_duration_since(self.proxy.begun)))
    }

    /// A side has answered, well or not, or another one is asked in its place.
    fn settle(&self, side: Side, failure: Option<Failure>, leave: Leave, now: Instant) {
        let since = || now.saturating_duration_since(self.proxy.begun);
        match (failure, &self.runtime.breaker) {
            (Some(failure), _) => self.runtime.charge(side, failure, self.is_evidence, since()),
            (None, Some(breaker)) if side == Side::Extracted && self.is_evidence => breaker.succeeded(leave, since()),
            (None, _) => {}
        }
    }

    /// As [`Forwarder::fault_of`], and the endpoint's state is told.
    fn fault_at(&self, side: Side, endpoint: usize, exchange: &Exchange) -> Option<Failure> {
        let fault = self.fault_of(side, &exchange.response);
        let upstream = self.runtime.upstream(side);
        if upstream.config.outlier_detection.is_some() {
            upstream.note(endpoint, fault, Instant::now());
        }
        fault
    }

    /// Whether an answer is a failure of its side. A 101 that nobody asked for is no answer at all.
    fn fault_of<B>(&self, side: Side, response: &Response<B>) -> Option<Failure> {
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let is_asked_for = self.tunnel.is_some_and(|asked| asked.is_answered_by(response));
            return (!is_asked_for).then_some(Failure::Garbage);
        }
        let is_failure = match self.route.filter(|_| side == Side::Extracted) {
            Some(route) => !route.success.contains(status.as_u16()),
            None => status.is_server_error(),
        };
        is_failure.then_some(Failure::Status(status.as_u16()))
    }

    /// Asked before an answer is thrown away: a failing answer that nothing better follows is still the answer.
    fn leads_to_legacy(&self, side: Side, method: &Method, failure: Failure, tries: u8, is_replayable: bool) -> bool {
        let what = FailedTry {
            failure,
            sent: Sent::Maybe,
            was_pooled: false,
            tries,
            has_replaced: true,
            is_replayable,
            has_budget: false,
            has_time: self.deadline.is_none_or(|deadline| Instant::now() < deadline),
        };
        let retry = self.runtime.upstream(side).config.retry;
        after_failure(side, self.route.map(|route| &**route), retry, method, &what) == NextMove::TryLegacy
    }
}

/// A retry is taken from the budget only where one could follow.
fn is_retried(failure: Failure) -> bool {
    matches!(failure, Failure::Connect | Failure::ConnectTimeout | Failure::Reset)
}

struct Attempt {
    failure: Failure,
    sent: Sent,
    was_pooled: bool,
    request: Option<Box<Request<OutBody>>>,
}

/// `authority` is what the client asked for, where another try may have put something else in its place.
fn set_host(headers: &mut HeaderMap, upstream: &UpstreamState, endpoint: usize, authority: Option<&HeaderValue>) {
    let host = match &upstream.config.host {
        HostPolicy::Preserve => authority,
        HostPolicy::Upstream => upstream.endpoints().get(endpoint).map(|endpoint| &endpoint.authority),
        HostPolicy::Literal(host) => Some(host),
    };
    if let Some(host) = host {
        headers.insert(header::HOST, host.clone());
    }
}

/// The target in its one spelling: the parsed one when it was spelled so, else made anew.
pub(crate) fn target_of(uri: &Uri, path: &str) -> Option<PathAndQuery> {
    let given = uri.path_and_query()?;
    if given.path() == path {
        return Some(given.clone());
    }
    let text = given.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    PathAndQuery::from_maybe_shared(Bytes::from(text)).ok()
}

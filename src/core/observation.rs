//! What was seen of one side's answer, and the job that asks for a copy of a request: what travels between the proxy and the shadow.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};

use crate::route::Route;
use crate::shadow::Manner;
use crate::side::Side;

/// One side's answer to one request, as far as it was seen.
#[derive(Clone, Debug)]
pub struct Observation {
    /// What came.
    pub outcome: Outcome,
    /// From the request's dispatch to the answer's head (or the failure).
    pub first_byte: Duration,
    /// From the request's dispatch to the answer's last byte (or the failure).
    pub total: Duration,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A whole answer (its body may have been larger than was kept).
    Answered(Answer),
    /// No answer, or a broken one.
    Failed(Failure),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers as the side sent them, before anything of ours was changed.
    pub headers: HeaderMap,
    /// Its trailers, if it had any. Boxed: few have.
    pub trailers: Option<Box<HeaderMap>>,
    /// The body as it came over the wire (still content-encoded); its beginning when `is_truncated`.
    pub body: Bytes,
    /// Bytes of the whole body, those not kept included.
    pub body_bytes: u64,
    /// Whether `body` lacks a part that was there.
    pub is_truncated: bool,
}

/// How a side failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// No connection: refused, unreachable, no such name, none free in time.
    Connect,
    /// No connection within `timeouts.connect`.
    ConnectTimeout,
    /// No head within `timeouts.response_header`, or the deadline passed.
    Timeout,
    /// The connection broke before the head had ended.
    Reset,
    /// What came was not HTTP, or must not be forwarded.
    Garbage,
    /// The body broke off.
    Truncated,
    /// More requests under way than the upstream may have.
    Full,
    /// Every endpoint is known to be ill.
    NoHealthy,
    /// The route's breaker is open: extracted was not asked.
    BreakerOpen,
    /// It answered a status outside `success`.
    Status(u16),
}

impl Failure {
    /// As written in labels, logs and the `strangler-error` header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Failure::Connect => "connect_failure",
            Failure::ConnectTimeout => "connect_timeout",
            Failure::Timeout => "timeout",
            Failure::Reset => "reset",
            Failure::Garbage => "bad_response",
            Failure::Truncated => "truncated",
            Failure::Full => "upstream_full",
            Failure::NoHealthy => "no_healthy_endpoint",
            Failure::BreakerOpen => "breaker_open",
            Failure::Status(_) => "5xx",
        }
    }
}

/// A request to be sent to the side that does not answer it.
///
/// `A` is where the user's own answer will arrive once it is complete; it closes without one when the user goes away, and
/// then the copy is cancelled. (The shell uses a oneshot receiver; the core knows no channels.)
#[derive(Debug)]
pub struct CopyJob<A> {
    /// The route that asked for it.
    pub route: Arc<Route>,
    /// The route's index in the table it was matched in.
    pub route_index: usize,
    /// The side that answers the user.
    pub answered_by: Side,
    /// The side that gets the copy: the other one.
    pub target: Side,
    /// The request.
    pub method: Method,
    /// Path and query as they are forwarded to legacy.
    pub path_and_query: PathAndQuery,
    /// What extracted is asked for instead, where the route rewrites it.
    pub rewritten: Option<PathAndQuery>,
    /// When the request was dispatched, since the process began.
    pub begun: Duration,
    /// What sort of copy it is.
    pub manner: Manner,
    /// Whether the request may be asked again.
    pub may_repeat: bool,
    /// Headers as they were forwarded, hop-by-hop ones left out; the shadow adds its mark and drops validators.
    pub headers: HeaderMap,
    /// The whole request body.
    pub body: Bytes,
    /// Keyed hash of the caller's key, if it had one.
    pub caller: Option<u64>,
    /// The user's answer.
    pub answer: A,
}

//! One event per request, written by a thread of its own; a full queue loses lines, never time.

use std::time::Duration;

use strangler_core::decide::{Decision, Reason};
use strangler_core::observation::Failure;
use strangler_core::side::Side;

/// Target of the events, to be chosen by a filter.
pub const TARGET: &str = "access";

/// What is told of a request. Neither query nor header values: they may be secrets.
#[derive(Debug)]
pub struct Line<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its host.
    pub host: &'a str,
    /// The path template of its route, or the path itself for what falls through.
    pub path: &'a str,
    /// The client's address.
    pub client: &'a str,
    /// Its route's name.
    pub route: &'a str,
    /// Who answered; `None`: the proxy itself.
    pub side: Option<Side>,
    /// Why that side.
    pub reason: Option<Reason>,
    /// What was decided at first.
    pub decision: Option<&'a Decision>,
    /// What the client was told; 0 when nothing.
    pub status: u16,
    /// The upstream that answered.
    pub upstream: Option<&'a str>,
    /// The whole request.
    pub total: Duration,
    /// Until the upstream's head.
    pub upstream_time: Option<Duration>,
    /// Body bytes sent to the client.
    pub bytes: u64,
    /// The trace's id.
    pub trace: &'a str,
    /// Why legacy answered instead of extracted.
    pub fallback: Option<Failure>,
    /// How it ended, if not well.
    pub error: Option<&'a str>,
}

impl Line<'_> {
    /// Writes it.
    pub fn write(&self) {
        tracing::info!(
            target: TARGET,
            method = self.method,
            host = self.host,
            path = self.path,
            client = self.client,
            route = self.route,
            side = self.side.map_or("none", Side::as_str),
            reason = self.reason.map(Reason::as_str),
            bucket = self.decision.and_then(|decision| decision.bucket).map(strangler_core::split::Bucket::number),
            status = self.status,
            upstream = self.upstream,
            ms = milliseconds(self.total),
            upstream_ms = self.upstream_time.map(milliseconds),
            bytes = self.bytes,
            trace = self.trace,
            fallback = self.fallback.map(Failure::as_str),
            error = self.error,
        );
    }
}

/// To the microsecond: more digits are noise.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

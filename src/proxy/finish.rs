//! The end of a request, however it comes: counted once, logged once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::HeaderValue;
use strangler_core::cidr::Cidr;
use strangler_core::decide::{Decision, Reason};
use strangler_core::grpc;
use strangler_core::observation::Failure;
use strangler_core::side::Side;
use strangler_core::unit::{End, Ended, Unit};

use crate::live::witness::Seen;
use crate::proxy::Worker;
use crate::proxy::attached::RouteRuntime;
use crate::telemetry::access_log::Line;

/// A request under way. Dropped, it is over; what was noted until then is what is told.
pub(crate) struct Finish {
    worker: Arc<Worker>,
    begun: Instant,
    /// Where it belongs; `None` until it is known.
    pub(crate) place: Option<Place>,
    /// Who answered; `None`: the proxy itself.
    pub(crate) answered_by: Option<Side>,
    /// What the client was told; 0: nothing.
    pub(crate) status: u16,
    /// From the dispatch to the upstream's head.
    pub(crate) upstream_time: Option<Duration>,
    /// Why legacy answered instead of extracted.
    pub(crate) fallback: Option<Failure>,
    /// How the side that it was assigned to failed, whoever answered then.
    pub(crate) failure: Option<Failure>,
    /// Whether its status is a failure by the route's `success`.
    pub(crate) is_bad_status: bool,
    /// How a gRPC call ended.
    pub(crate) call: Call,
    /// Body bytes handed to the client's connection.
    pub(crate) bytes: u64,
    /// How it ended, if not well.
    pub(crate) error: Option<&'static str>,
    log: Option<Box<Logged>>,
}

/// How a gRPC call ended: whatever happened, the answer's own status is 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// It was none.
    None,
    /// Its status has not come yet.
    Open,
    /// As a status of HTTP.
    Ended(u16),
}

impl Call {
    /// Of an answer with this head: one without a body has its status there.
    pub(crate) fn begun(status: http::StatusCode, headers: &http::HeaderMap) -> Call {
        if status != http::StatusCode::OK || !grpc::is_call(headers) {
            return Call::None;
        }
        headers.get(grpc::STATUS).map_or(Call::Open, |status| Call::Ended(grpc::as_http(Some(status))))
    }

    /// With these trailers.
    pub(crate) fn trailers(&mut self, trailers: &http::HeaderMap) {
        if *self == Call::Open {
            *self = Call::Ended(grpc::as_http(trailers.get(grpc::STATUS)));
        }
    }

    /// Its status; one that never came is a failure.
    fn status(self) -> Option<u16> {
        match self {
            Call::None => None,
            Call::Open => Some(grpc::as_http(None)),
            Call::Ended(status) => Some(status),
        }
    }
}

/// Where a request belongs.
pub(crate) struct Place {
    pub(crate) route: Arc<RouteRuntime>,
    pub(crate) decision: Decision,
    /// Of whom it is evidence, on routes with a rollout. Boxed: few have one.
    pub(crate) unit: Option<Box<Unit>>,
}

/// What only the log wants.
pub(crate) struct Logged {
    pub(crate) method: http::Method,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) client: HeaderValue,
    pub(crate) trace: HeaderValue,
    pub(crate) upstream: Option<String>,
}

impl Finish {
    pub(crate) fn new(worker: Arc<Worker>, begun: Instant) -> Finish {
        Finish {
            worker,
            begun,
            place: None,
            answered_by: None,
            status: 0,
            upstream_time: None,
            fallback: None,
            failure: None,
            is_bad_status: false,
            call: Call::None,
            bytes: 0,
            error: None,
            log: None,
        }
    }

    pub(crate) fn is_logged(&self) -> bool {
        self.worker.proxy.settings.access_log
    }

    /// Whose word on the client is taken.
    pub(crate) fn trusted_proxies(&self) -> &[Cidr] {
        &self.worker.proxy.settings.server.trusted_proxies
    }

    pub(crate) fn log(&mut self, logged: Logged) {
        self.log = Some(Box::new(logged));
    }

    /// A request was refused.
    pub(crate) fn count_rejected(&self, reason: &'static str) {
        self.worker.proxy.metrics.count_rejected(reason);
    }

    pub(crate) fn note_upstream(&mut self, name: &str) {
        if let Some(log) = &mut self.log {
            log.upstream = Some(name.to_owned());
        }
    }

    /// Decided: from now on it is under way on a side.
    pub(crate) fn place(&mut self, place: Place) {
        if let Some(gauge) = self.worker.proxy.in_flight.get(place.decision.side as usize) {
            gauge.inc();
        }
        place.route.metrics.count_decision(place.decision.side, place.decision.reason);
        self.place = Some(place);
    }

    /// The side that answers broke off in the middle.
    pub(crate) fn broke_off(&mut self, how: &'static str) {
        self.error = Some(how);
        self.failure = self.failure.or(Some(Failure::Truncated));
        if let (Some(place), Some(side)) = (&self.place, self.answered_by) {
            let is_evidence = place.decision.reason != Reason::Forced;
            place.route.charge(side, Failure::Truncated, is_evidence, self.worker.proxy.begun.elapsed());
        }
    }

    /// Says what this request proves. Last: the route goes along.
    fn testify(&mut self) {
        let Some(Place { route, unit: Some(unit), .. }) = self.place.take() else { return };
        let call = self.call.status();
        let ended = Ended {
            failure: self.failure,
            took: self.upstream_time,
            status: call.unwrap_or(self.status),
            is_bad_status: self.is_bad_status || call.is_some_and(|status| status >= 500),
            is_whole: self.error.is_none(),
        };
        let proxy = &self.worker.proxy;
        if let Some(end) = End::of(&ended) {
            proxy.settings.witnesses.push(Seen {
                route: Arc::clone(&route.name),
                unit: *unit,
                end,
                at: proxy.begun.elapsed(),
            });
        }
    }

    /// The head of the answer is on its way: what the proxy itself has added until here is known.
    ///
    /// `waited` is how long upstreams were waited for, all tries together.
    pub(crate) fn note_head(&self, now: Instant, waited: Duration) {
        let added = now.saturating_duration_since(self.begun).saturating_sub(waited);
        self.worker.proxy.metrics.overhead.observe(added.as_secs_f64());
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let total = self.begun.elapsed();
        if let Some(place) = &self.place {
            let metrics = &place.route.metrics;
            if let Some(gauge) = self.worker.proxy.in_flight.get(place.decision.side as usize) {
                gauge.dec();
            }
            if self.status != 0 {
                metrics.count_request(self.answered_by, self.status);
                metrics.observe_request(self.answered_by, total);
            }
            if let (Some(side), Some(took)) = (self.answered_by, self.upstream_time) {
                metrics.observe_upstream(side, took);
            }
            if self.answered_by == Some(Side::Legacy) {
                metrics
                    .note_legacy(i64::try_from(self.worker.proxy.unix_s.load(Ordering::Relaxed)).unwrap_or_default());
            }
        }
        if let Some(log) = &self.log {
            let place = self.place.as_ref();
            let template = place.map_or("", |place| &*place.route.path);
            Line {
                method: log.method.as_str(),
                host: &log.host,
                path: if template.is_empty() { &log.path } else { template },
                client: log.client.to_str().unwrap_or_default(),
                route: place.map_or("none", |place| &*place.route.name),
                side: self.answered_by,
                reason: place.map(|place| place.decision.reason),
                decision: place.map(|place| &place.decision),
                status: self.status,
                upstream: log.upstream.as_deref(),
                total,
                upstream_time: self.upstream_time,
                bytes: self.bytes,
                trace: log.trace.to_str().ok().and_then(|text| text.get(3..35)).unwrap_or_default(),
                fallback: self.fallback,
                error: self.error,
            }
            .write();
        }
        self.testify();
    }
}

//! One request of ours to one side: made of what the user sent, sent over the shadow's own connections, its answer read up to a bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use strangler_core::observation::{Answer, Failure, Observation, Outcome};
use strangler_core::route::HostPolicy;
use strangler_core::shadow::copy_headers;
use strangler_core::side::Side;

use crate::shadow::Job;
use crate::upstream::UpstreamState;
use crate::upstream::body::OutBody;
use crate::upstream::budget::Held;
use crate::upstream::chance;
use crate::upstream::pool::{self, Exchange, Lane, TryLimits};

/// Bytes of a body that are read when nothing is compared; beyond, the connection is closed.
const UNCOMPARED_BYTES_MAX: u64 = 1 << 20;
/// Idle connections that may turn out closed before a copy is given up.
const STALE_MAX: usize = 3;

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Bounds on one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// From its dispatch to its last byte.
    timeout: Duration,
    /// Of its answer's body.
    kept_bytes: u64,
    /// Likewise; never less than what is kept.
    read_bytes: u64,
}

impl Bounds {
    /// As the route says; `None`: it copies nothing.
    pub(super) fn of(job: &Job) -> Option<Bounds> {
        let compare = job.route.compare.as_ref();
        Some(Bounds {
            timeout: job.route.shadow.as_ref()?.timeout,
            kept_bytes: compare.map_or(0, |compare| compare.body_bytes_max),
            read_bytes: compare.map_or(UNCOMPARED_BYTES_MAX, |compare| compare.body_bytes_max),
        })
    }
}

/// Asks the job's target for what nobody waits for but a person: the body is kept up to `kept_bytes`.
pub(super) async fn ask(
    mut job: Job,
    upstream: &Arc<UpstreamState>,
    timeout: Duration,
    kept_bytes: u64,
    held: &mut Held,
) -> Observation {
    let side = job.target;
    let outgoing = Outgoing::of(&mut job, side, false);
    outgoing.observe(upstream, Bounds { timeout, kept_bytes, read_bytes: kept_bytes }, held).await
}

/// A request as it is sent.
pub(super) struct Outgoing {
    request: Box<Request<OutBody>>,
    /// What the client sent as `Host`.
    host: Option<HeaderValue>,
    /// It has side effects: sent once, whatever happens.
    is_once: bool,
}

impl Outgoing {
    /// For `side`. The headers are taken out of the job unless they are kept to ask again.
    pub(super) fn of(job: &mut Job, side: Side, is_kept: bool) -> Outgoing {
        let headers = if is_kept { job.headers.clone() } else { std::mem::take(&mut job.headers) };
        let trace = own_trace(headers.get(TRACEPARENT));
        let headers = copy_headers(headers, trace, job.manner);
        // As the client sent it; where that was replaced on the way to the other side, we have noted it.
        let host = headers.get(header::HOST).or_else(|| headers.get(X_FORWARDED_HOST)).cloned();
        let mut request = Box::new(Request::new(OutBody::whole(job.body.clone())));
        *request.method_mut() = job.method.clone();
        let rewritten = job.rewritten.as_ref().filter(|_| side == Side::Extracted);
        *request.uri_mut() = Uri::from(rewritten.unwrap_or(&job.path_and_query).clone());
        *request.headers_mut() = headers;
        Outgoing { request, host, is_once: job.manner.is_unsafe() }
    }

    /// Sends it and reads the answer.
    pub(super) async fn observe(self, upstream: &Arc<UpstreamState>, bounds: Bounds, held: &mut Held) -> Observation {
        let begun = Instant::now();
        let deadline = begun + bounds.timeout;
        let mut first_byte = None;
        let outcome = match self.exchange(upstream, deadline).await {
            Ok(exchange) => {
                first_byte = Some(begun.elapsed());
                let answer = tokio::time::timeout_at(deadline.into(), read(exchange, bounds, held)).await;
                answer.unwrap_or(Err(Failure::Timeout))
            }
            Err(failure) => Err(failure),
        };
        let total = begun.elapsed();
        let outcome = outcome.map_or_else(Outcome::Failed, Outcome::Answered);
        Observation { outcome, first_byte: first_byte.unwrap_or(total), total }
    }

    async fn exchange(self, upstream: &Arc<UpstreamState>, deadline: Instant) -> Result<Exchange, Failure> {
        let Outgoing { mut request, host, is_once } = self;
        let endpoint = upstream.choose(chance::next_u64());
        let host = match &upstream.config.host {
            HostPolicy::Preserve => host.as_ref(),
            HostPolicy::Upstream => upstream.endpoints().get(endpoint).map(|endpoint| &endpoint.authority),
            HostPolicy::Literal(host) => Some(host),
        };
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, host.clone());
        }
        let mut limits = TryLimits {
            now: Instant::now(),
            is_fresh: is_once,
            needs_own: false,
            deadline: Some(deadline),
            progress: None,
        };
        let mut stale = if is_once { STALE_MAX } else { 0 };
        loop {
            let error = match pool::send(upstream, endpoint, Lane::Shadow, request, &limits).await {
                Ok(exchange) => return Ok(exchange),
                Err(error) => error,
            };
            // The other end closed the connection while it lay idle: no answer, and no news of it. Once more where the request
            // came back whole; else the copy is dropped, for a second one is not kept.
            let is_stale = error.was_pooled && error.failure == Failure::Reset && stale < STALE_MAX;
            request = match error.request {
                Some(request) if is_stale => request,
                None if is_stale => return Err(Failure::Full),
                Some(_) | None => return Err(error.failure),
            };
            stale += 1;
            limits.now = Instant::now();
        }
    }
}

/// Bytes that a request takes while it is kept to be asked again.
pub(super) fn kept_bytes(headers: &HeaderMap, body: &Bytes) -> u64 {
    /// Of a field beside its name and value.
    const FIELD_BYTES: usize = 64;
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
    fields.sum::<usize>() as u64 + body.len() as u64
}

/// Reads an answer's body up to the bounds; what is beyond is left unread, and its connection closed.
async fn read(exchange: Exchange, bounds: Bounds, held: &mut Held) -> Result<Answer, Failure> {
    let Exchange { response, mut lease } = exchange;
    let (parts, mut body) = response.into_parts();
    let mut kept_body = Gathered::default();
    let mut trailers = None;
    let (mut kept, mut seen) = (0u64, 0u64);
    let mut is_full = false;
    let is_cut = loop {
        let data = match std::future::poll_fn(|cx| lease.poll_frame(&mut body, cx)).await {
            None => break false,
            Some(Err(_)) => return Err(Failure::Truncated),
            Some(Ok(frame)) => frame.into_data().unwrap_or_else(|frame| {
                trailers = frame.into_trailers().ok().map(Box::new);
                Bytes::new()
            }),
        };
        seen += data.len() as u64;
        let room = usize::try_from(bounds.kept_bytes - kept).unwrap_or(usize::MAX);
        let piece = data.slice(..data.len().min(room));
        is_full |= piece.len() < data.len() || !held.grow(piece.len() as u64);
        if !is_full {
            kept += piece.len() as u64;
            kept_body.add(piece);
        }
        if seen > bounds.read_bytes || (is_full && bounds.kept_bytes > 0) {
            break true;
        }
    };
    if !is_cut {
        lease.finish();
    }
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        trailers,
        body: kept_body.into_bytes(),
        body_bytes: if is_cut { length.unwrap_or(seen) } else { seen },
        is_truncated: is_cut || is_full,
    })
}

/// A body as it comes. One piece is kept as it is; of several, each would hold the whole buffer that it was read into, however small it
/// is, so they are copied together.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    all: BytesMut,
}

impl Gathered {
    fn add(&mut self, piece: Bytes) {
        if self.first.is_empty() && self.all.is_empty() {
            self.first = piece;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&piece);
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

/// A trace of the copy's own, sampled if the user's is (W3C Trace Context §3.2).
fn own_trace(of_user: Option<&HeaderValue>) -> HeaderValue {
    let flags = of_user.and_then(|value| value.as_bytes().get(53..55)?.try_into().ok()).filter(|flags| is_hex(*flags));
    chance::traceparent(None, flags.unwrap_or(*b"01"))
}

fn is_hex(flags: [u8; 2]) -> bool {
    flags.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
}

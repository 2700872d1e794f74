//! One copy: sent, read up to a cap, and put beside the user's answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use strangler_core::observation::{Answer, Failure, Observation, Outcome};
use strangler_core::redact::noted;
use strangler_core::route::HostPolicy;
use strangler_core::shadow::{copy_headers, trace_id};

use crate::shadow::worker::Pair;
use crate::shadow::{Job, Shadow};
use crate::upstream::UpstreamState;
use crate::upstream::body::OutBody;
use crate::upstream::budget::Held;
use crate::upstream::chance;
use crate::upstream::pool::{self, Exchange, Lane, TryLimits};

/// Bytes of a body that are read when nothing is compared; beyond, the connection is closed.
const UNCOMPARED_BYTES_MAX: u64 = 1 << 20;
/// How much longer than the route's deadline the user's answer is waited for.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// Longest wait for the user's answer on a route without a deadline.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);
/// Idle connections that may turn out closed before a copy is given up.
const STALE_MAX: usize = 3;

/// What came of a copy; label of `strangler_shadow_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyOutcome {
    /// Answered.
    Sent,
    /// Not sent: too many under way, or too fast.
    Dropped,
    /// Not answered in time.
    Timeout,
    /// No answer, or a broken one.
    Error,
    /// The user went away first.
    Cancelled,
}

impl CopyOutcome {
    /// As written in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            CopyOutcome::Sent => "sent",
            CopyOutcome::Dropped => "dropped",
            CopyOutcome::Timeout => "timeout",
            CopyOutcome::Error => "error",
            CopyOutcome::Cancelled => "cancelled",
        }
    }

    fn of(outcome: &Outcome) -> CopyOutcome {
        match outcome {
            Outcome::Answered(_) => CopyOutcome::Sent,
            Outcome::Failed(Failure::Timeout | Failure::ConnectTimeout) => CopyOutcome::Timeout,
            Outcome::Failed(Failure::Full) => CopyOutcome::Dropped,
            Outcome::Failed(_) => CopyOutcome::Error,
        }
    }
}

impl Shadow {
    /// Makes a copy to its end; cancelled when the user goes away while it is under way.
    pub(super) async fn copy(&self, mut job: Job) {
        let (Some(upstream), Some(policy)) = ((self.find_upstream)(&job.route, job.target), &job.route.shadow) else {
            // Taken out by a reload in between.
            return self.count(&job.route, CopyOutcome::Dropped);
        };
        let bounds = Bounds {
            timeout: policy.timeout,
            kept_bytes: job.route.compare.as_ref().map_or(0, |compare| compare.body_bytes_max),
            read_bytes: job.route.compare.as_ref().map_or(UNCOMPARED_BYTES_MAX, |compare| compare.body_bytes_max),
        };
        let mut held = self.budget.hold(0).unwrap_or_default();
        let trace_of_user = job.headers.get(TRACEPARENT).cloned();
        let request_headers = if job.route.compare.is_some() { noted(&job.headers) } else { HeaderMap::new() };
        let request_bytes = job.body.len() as u64;
        let outgoing = Outgoing::of(&mut job, own_trace(trace_of_user.as_ref()));
        let mut user = None;
        let copied = {
            let mut copying = std::pin::pin!(outgoing.observe(&upstream, bounds, &mut held));
            tokio::select! {
                // Looked at first: once the user is gone, nothing more is to be sent.
                biased;
                answered = &mut job.answer => match answered {
                    Ok(seen) => {
                        user = Some(self.keep(seen));
                        copying.as_mut().await
                    }
                    Err(_) => return self.count(&job.route, CopyOutcome::Cancelled),
                },
                copied = &mut copying => copied,
            }
        };
        self.count(&job.route, CopyOutcome::of(&copied.outcome));
        let Some(policy) = job.route.compare.clone() else { return };
        let user = if let Some(user) = user {
            user
        } else {
            let patience = job.route.deadline.map_or(ANSWER_WAIT_MAX, |deadline| deadline + ANSWER_GRACE);
            let answered = tokio::time::timeout(patience, &mut job.answer).await;
            answered.ok().and_then(Result::ok).and_then(|seen| self.keep(seen))
        };
        let Some(Kept { seen: user, held: user_held }) = user else { return };
        let trace_id = trace_of_user.as_ref().and_then(trace_id).map(str::to_owned);
        self.compare(Pair {
            route: job.route,
            route_index: job.route_index,
            policy,
            answered_by: job.answered_by,
            method: job.method,
            path_and_query: job.path_and_query,
            request_headers,
            request_bytes,
            caller: job.caller,
            trace_id,
            user,
            copied,
            _held: [held, user_held],
        });
    }

    /// Counts the bytes of the user's answer, which has to wait for the copy's; `None`: no room.
    fn keep(&self, seen: Observation) -> Option<Kept> {
        let bytes = match &seen.outcome {
            Outcome::Answered(answer) => answer.body.len() as u64,
            Outcome::Failed(_) => 0,
        };
        let held = self.budget.hold(bytes);
        if held.is_none() {
            self.metrics.count_queue_dropped("comparisons");
        }
        Some(Kept { seen, held: held? })
    }
}

/// The user's answer, its bytes counted.
struct Kept {
    seen: Observation,
    held: Held,
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Bounds on one copy.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// From its dispatch to its last byte.
    timeout: Duration,
    /// Of its answer's body.
    kept_bytes: u64,
    /// Likewise; never less than what is kept.
    read_bytes: u64,
}

/// Asks one side for what nobody waits for but a person: the body is kept up to `kept_bytes`.
pub(super) async fn ask(
    mut job: Job,
    upstream: &Arc<UpstreamState>,
    timeout: Duration,
    kept_bytes: u64,
    held: &mut Held,
) -> Observation {
    let outgoing = Outgoing::of(&mut job, own_trace(None));
    outgoing.observe(upstream, Bounds { timeout, kept_bytes, read_bytes: kept_bytes }, held).await
}

/// A copy as it is sent.
struct Outgoing {
    request: Box<Request<OutBody>>,
    /// What the client sent as `Host`.
    host: Option<HeaderValue>,
}

impl Outgoing {
    /// Takes the headers out of the job: nobody needs them afterwards.
    fn of(job: &mut Job, traceparent: HeaderValue) -> Outgoing {
        let body = OutBody::whole(job.body.clone());
        let headers = copy_headers(std::mem::take(&mut job.headers), traceparent);
        // As the client sent it; where that was replaced on the way to the other side, we have noted it.
        let host = headers.get(header::HOST).or_else(|| headers.get(X_FORWARDED_HOST)).cloned();
        let mut request = Box::new(Request::new(body));
        *request.method_mut() = job.method.clone();
        *request.uri_mut() = Uri::from(job.path_and_query.clone());
        *request.headers_mut() = headers;
        Outgoing { request, host }
    }

    /// Sends it and reads the answer.
    async fn observe(self, upstream: &Arc<UpstreamState>, bounds: Bounds, held: &mut Held) -> Observation {
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
        let Outgoing { mut request, host } = self;
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
            is_fresh: false,
            needs_own: false,
            deadline: Some(deadline),
            progress: None,
        };
        let mut stale = 0;
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

/// Reads an answer's body up to the bounds; what is beyond is left unread, and its connection closed.
async fn read(exchange: Exchange, bounds: Bounds, held: &mut Held) -> Result<Answer, Failure> {
    let Exchange { response, mut lease } = exchange;
    let (parts, mut body) = response.into_parts();
    let mut pieces: Vec<Bytes> = Vec::new();
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
            pieces.push(piece);
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
        body: joined(pieces, kept),
        body_bytes: if is_cut { length.unwrap_or(seen) } else { seen },
        is_truncated: is_cut || is_full,
    })
}

fn joined(pieces: Vec<Bytes>, bytes: u64) -> Bytes {
    match <[Bytes; 1]>::try_from(pieces) {
        Ok([one]) => one,
        Err(pieces) => {
            let mut all = BytesMut::with_capacity(usize::try_from(bytes).unwrap_or_default());
            for piece in &pieces {
                all.extend_from_slice(piece);
            }
            all.freeze()
        }
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

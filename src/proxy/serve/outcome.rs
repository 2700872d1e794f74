//! What came of a request, as the client gets it.

use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderValue, Response, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as _;
use strangler_core::decide::{Decision, Reason};
use strangler_core::door::Refusal;
use strangler_core::observation::Failure;
use strangler_core::runtime::Release;
use strangler_core::side::Side;

use crate::proxy::attached::RouteRuntime;
use crate::proxy::body::{ClientBody, UpstreamBody};
use crate::proxy::finish::{Call, Finish, Place};
use crate::proxy::forward::{Forwarded, NoAnswer};
use crate::proxy::headers::{self, Peer};
use crate::proxy::serve::{Decided, log_own};
use crate::proxy::tee::Tee;
use crate::proxy::tunnel::{self, Asked};
use crate::proxy::{Worker, answer, lease, rewrite};
use crate::upstream::body::BodyError;

pub(super) fn answered(
    worker: &Worker,
    mut finish: Finish,
    decided: &Decided,
    asked: &Uri,
    forwarded: Forwarded,
    tee: Option<Tee>,
    deadline: Option<Instant>,
) -> Response<ClientBody> {
    let Forwarded { exchange, admission, side, upstream, upstream_time, waited, now, fallback } = forwarded;
    let (mut parts, incoming) = exchange.response.into_parts();
    let tee = match (tee, fallback) {
        (Some(tee), None) => Some(tee.head(parts.status, &parts.headers)),
        (Some(tee), Some(failure)) => {
            // The user's answer is not the asked side's: what is compared is that side's failure.
            tee.failed(failure, now.checked_sub(upstream_time).unwrap_or(now));
            None
        }
        (None, _) => None,
    };
    if let Some((header, place)) =
        decided.route.as_ref().and_then(|route| route.release_header.as_ref()).zip(finish.place.as_ref())
        && side == Side::Extracted
    {
        let named = parts.headers.get(header).and_then(|value| Release::new(value.to_str().ok()?));
        worker.proxy.settings.witnesses.push_release(&place.route.name, named);
    }
    headers::prepare_response(&mut parts.headers);
    let rewriting = decided.route.as_deref().filter(|_| side == Side::Extracted);
    rewrite::answer(parts.status, &mut parts.headers, &upstream, rewriting, asked);
    parts.extensions.clear();
    parts.version = http::Version::HTTP_11;
    // A forced answer is one person's, too.
    if decided.is_split || decided.decision.reason == Reason::Forced {
        headers::keep_from_shared_caches(&mut parts.headers);
    }
    if let Some(id) = &decided.decision.cookie {
        headers::set_cookie(&mut parts.headers, id, decided.is_secure);
    }
    if let (Some(keeping), Some(route)) = (&decided.keeping, &decided.route) {
        lease::set_cookies(&worker.proxy, route, &decided.decision, keeping, side, &mut parts.headers);
    }
    if let Some(route) = &decided.route {
        headers::edit(&mut parts.headers, &route.response_headers);
    }
    if worker.proxy.settings.expose_decision {
        expose(&mut parts.headers, decided, side);
    }
    finish.answered_by = Some(side);
    finish.status = parts.status.as_u16();
    finish.upstream_time = Some(upstream_time);
    finish.fallback = fallback;
    finish.failure = fallback;
    finish.is_bad_status = decided.route.as_ref().is_some_and(|route| !route.success.contains(finish.status));
    finish.call = Call::begun(parts.status, &parts.headers);
    if finish.is_logged() {
        finish.note_upstream(upstream.config.name.as_str());
    }
    finish.note_head(now, waited);
    let body = ClientBody::upstream(UpstreamBody {
        incoming,
        lease: Some(exchange.lease),
        admission: Some(admission),
        tee,
        finish: Some(finish),
        idle: upstream.config.timeouts.idle,
        deadline: deadline.map(Into::into),
        timer: None,
        error: None,
    });
    Response::from_parts(parts, body)
}

/// The answer to a request for another protocol: from here on bytes are carried.
pub(super) fn switched(
    worker: &Worker,
    peer: &Arc<Peer>,
    mut finish: Finish,
    forwarded: Forwarded,
    tunnel: Asked,
) -> Response<ClientBody> {
    let Forwarded { mut exchange, admission, side, upstream, upstream_time, waited, now, fallback } = forwarded;
    let to_upstream = hyper::upgrade::on(&mut exchange.response);
    let (mut parts, _) = exchange.response.into_parts();
    headers::prepare_response(&mut parts.headers);
    tunnel.ask(&mut parts.headers);
    parts.extensions.clear();
    finish.answered_by = Some(side);
    finish.status = parts.status.as_u16();
    finish.upstream_time = Some(upstream_time);
    finish.fallback = fallback;
    if finish.is_logged() {
        finish.note_upstream(upstream.config.name.as_str());
    }
    finish.note_head(now, waited);
    let proxy = Arc::clone(&worker.proxy);
    let peer = Arc::clone(peer);
    let held = tunnel::Held { proxy, peer, upstream, lease: exchange.lease, admission, finish };
    Response::from_parts(parts, tunnel::open(tunnel, to_upstream, held))
}

/// A client that asks for more than its route gives it.
pub(super) fn limited(
    finish: Finish,
    peer: &Peer,
    parts: &Parts,
    route: Arc<RouteRuntime>,
    decision: Decision,
    response: Response<ClientBody>,
) -> Response<ClientBody> {
    finish.count_rejected("rate_limited");
    let mut finish = log_own(finish, peer, parts);
    finish.error = Some("rate_limited");
    finish.place(Place { route, decision, unit: None });
    own_answer(finish, response)
}

/// Largest answer without a length that a client of HTTP/1.0 gets.
const UNMEASURED_BYTES_MAX: usize = 16 << 20;

/// To a client of HTTP/1.0 the end of the connection is the end of the answer, so one that breaks off would look whole. It is
/// read to its end first, and sent with its length.
pub(super) async fn whole(response: Response<ClientBody>) -> Response<ClientBody> {
    if response.body().is_end_stream() || response.headers().contains_key(header::CONTENT_LENGTH) {
        return response;
    }
    let (parts, body) = response.into_parts();
    match Limited::new(body, UNMEASURED_BYTES_MAX).collect().await {
        Ok(collected) => Response::from_parts(parts, ClientBody::full(collected.to_bytes())),
        Err(_) => answer::failed(Failure::Truncated),
    }
}

fn expose(headers: &mut http::HeaderMap, decided: &Decided, side: Side) {
    headers.insert("strangler-side", HeaderValue::from_static(side.as_str()));
    let route = decided.route.as_ref().map_or(strangler_core::name::FALL_THROUGH, |route| route.name.as_str());
    if let Ok(route) = HeaderValue::from_str(route) {
        headers.insert("strangler-route", route);
    }
}

pub(super) fn unanswered(mut finish: Finish, no_answer: &NoAnswer, tee: Option<Tee>) -> Response<ClientBody> {
    if let Some(tee) = tee {
        tee.failed(no_answer.fallback.unwrap_or(no_answer.failure), no_answer.failed_at);
    }
    finish.fallback = no_answer.fallback;
    finish.failure = Some(no_answer.fallback.unwrap_or(no_answer.failure));
    finish.error = Some(no_answer.failure.as_str());
    own_answer(finish, answer::failed(no_answer.failure))
}

pub(super) fn upload_failed(worker: &Worker, mut finish: Finish, error: BodyError) -> Response<ClientBody> {
    let (reason, response) = match error {
        BodyError::TooLarge => ("body_too_large", answer::refused(Refusal::BodyTooLarge)),
        BodyError::Idle => ("body_timeout", answer::slow_body()),
        BodyError::Malformed => ("bad_framing", answer::refused(Refusal::Framing)),
        // Read by a client that has only closed its own half; anybody else is gone. No failure of a side's.
        BodyError::ClientGone => ("body_cut", answer::refused(Refusal::BodyCut)),
    };
    worker.proxy.metrics.count_rejected(reason);
    finish.error = Some(reason);
    own_answer(finish, response)
}

pub(super) fn own_answer(mut finish: Finish, response: Response<ClientBody>) -> Response<ClientBody> {
    finish.status = response.status().as_u16();
    finish.bytes = response.body().bytes_at_hand();
    response
}

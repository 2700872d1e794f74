//! One request: let in, matched, decided, forwarded, copied, answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as _;
use strangler_core::decide::{Decision, Reason, caller_key, decide};
use strangler_core::door::{Admitted, Refusal, STAND_IN, admit};
use strangler_core::facts::RequestFacts;
use strangler_core::observation::Failure;
use strangler_core::override_token;
use strangler_core::route::Route;
use strangler_core::side::Side;
use strangler_core::snapshot::Snapshot;
use strangler_core::sni;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::proxy::attached::RouteRuntime;
use crate::proxy::body::{ClientBody, UpstreamBody};
use crate::proxy::connection::Busy;
use crate::proxy::copies::CopyPlan;
use crate::proxy::finish::{Finish, Logged, Place};
use crate::proxy::forward::{Forwarded, Forwarder, NoAnswer, Outgoing, target_of};
use crate::proxy::headers::{self, Peer};
use crate::proxy::lease::{self, Keeping};
use crate::proxy::pins::Pinning;
use crate::proxy::request_body::RequestBody;
use crate::proxy::tee::Tee;
use crate::proxy::tunnel::{self, Asked};
use crate::proxy::upload::{Pacer, ReadAhead, Upload, UploadBounds, UploadFault, read_ahead};
use crate::proxy::writes::Write;
use crate::proxy::{Worker, answer, rewrite, shed};
use crate::telemetry::metrics::SideGauge;
use crate::upstream::body::{BodyError, OutBody, length};
use crate::upstream::budget::Held;
use crate::upstream::chance;
use crate::upstream::pool::UploadProgress;

/// What is known of a request once it has been decided on.
struct Decided {
    route: Option<Arc<Route>>,
    index: usize,
    decision: Decision,
    /// Whether users of this route are split now.
    is_split: bool,
    /// Keyed hash of the caller's key.
    caller: Option<u64>,
    /// Whether a cookie of ours is for TLS only.
    is_secure: bool,
    /// On routes that remember something of a request.
    keeping: Option<Box<Keeping>>,
}

impl Decided {
    /// The idempotency key of the request, where one counts.
    fn take_pin(&mut self) -> Option<Box<Pinning>> {
        self.keeping.as_mut()?.pin.as_mut().ok()?.take()
    }
}

/// Answers one request. Never fails: what goes wrong is an answer, too.
pub(crate) async fn respond(
    worker: Arc<Worker>,
    peer: Arc<Peer>,
    busy: &Arc<Busy>,
    request: Request<RequestBody>,
) -> Response<ClientBody> {
    let begun = Instant::now();
    let mut finish = Finish::new(Arc::clone(&worker), begun);
    let proxy = &worker.proxy;
    let (mut parts, body) = request.into_parts();
    let version = parts.version;
    // The one load of the request; what it needs of it is taken out before the first wait.
    let published = proxy.live.load();

    let admitted = match admit(&parts.method, &parts.uri, parts.version, &parts.headers, &proxy.settings.limits.head) {
        Ok(admitted) => admitted,
        Err(refusal) => return refuse(finish, &peer, &parts, refusal),
    };
    if peer.opened_for.as_ref().is_some_and(|name| !sni::agrees(name, &admitted.host)) {
        return refuse(finish, &peer, &parts, Refusal::Misdirected);
    }
    let forwards_left = if parts.method == Method::OPTIONS { max_forwards(&parts) } else { None };
    if forwards_left == Some(0) {
        return own_answer(log_own(finish, &peer, &parts), answer::options());
    }
    let is_overloaded = proxy.in_flight.iter().map(SideGauge::get).sum::<i64>() >= proxy.settings.limits.in_flight;
    if is_overloaded || shed::takes_next() {
        proxy.metrics.count_rejected("overloaded");
        return own_answer(log_own(finish, &peer, &parts), answer::overloaded());
    }
    let mut decided = decide_on(&worker, &published.snapshot, &parts, &admitted);
    let runtime = decided.route.as_ref().and_then(|_| published.attached.routes.get(decided.index));
    let runtime = Arc::clone(runtime.unwrap_or(&published.attached.fall_through));
    let write = {
        let (settings, facts) = (&proxy.settings, facts_of(&parts, &admitted));
        let route = decided.route.as_deref();
        let now = proxy.begun.elapsed();
        Write::begin(&published.attached.principals, &settings.writes, route, &facts, settings.caller_seed, now)
    };
    drop(published);
    if let Some(limiter) = &runtime.limiter
        && let Err(wait) = limiter.take(&facts_of(&parts, &admitted), peer.ip)
    {
        let response = limiter.refused(wait);
        return limited(finish, &peer, &parts, runtime, decided.decision, response);
    }
    let Some(target) = target_of(&parts.uri, &admitted.path) else {
        return refuse(finish, &peer, &parts, Refusal::Target);
    };
    // The usual authority is the field itself; only an absolute target brings another one.
    let given = parts.headers.get(header::HOST).filter(|host| host.as_bytes() == admitted.authority.as_bytes());
    let is_given = given.is_some();
    let Some(authority) = given.cloned().or_else(|| HeaderValue::from_str(admitted.authority).ok()) else {
        return refuse(finish, &peer, &parts, Refusal::Host);
    };
    let plan = decided.route.as_ref().and_then(|route| {
        let facts = facts_of(&parts, &admitted);
        CopyPlan::of(&worker, &peer, route, decided.index, &decided.decision, decided.caller, &facts)
    });
    let wanted = admitted.upgrade.cloned();
    let host = if finish.is_logged() { admitted.host.clone().into_owned() } else { String::new() };
    drop(admitted);
    let tunnel =
        wanted.and_then(|wanted| Asked::of(&mut parts, &wanted, decided.route.as_deref(), !body.is_end_stream()));
    let prepared = match headers::prepare_request(&mut parts.headers, &peer, &authority) {
        Ok(prepared) => prepared,
        Err(refusal) => return refuse(finish, &peer, &parts, refusal),
    };
    if !is_given {
        parts.headers.insert(header::HOST, authority.clone());
    }
    if let Some(keeping) = &mut decided.keeping {
        keeping.note_scheme(&parts.headers);
    }
    if let Some(left) = forwards_left {
        parts.headers.insert(header::MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
    if finish.is_logged() {
        finish.log(Logged {
            method: parts.method.clone(),
            host,
            path: target.path().to_owned(),
            client: prepared.client.clone(),
            trace: prepared.traceparent.clone(),
            upstream: None,
        });
    }
    if let Some(tunnel) = &tunnel {
        tunnel.ask(&mut parts.headers);
    }
    if let Some(route) = &decided.route {
        if let Some(name) = &route.override_header {
            // Read already; a signed token is no business of an upstream.
            parts.headers.remove(name);
        }
        headers::edit(&mut parts.headers, &route.request_headers);
    }
    decided.is_secure = decided.decision.cookie.is_some() && headers::came_by_tls(&parts.headers);
    finish.place(Place { route: Arc::clone(&runtime), decision: decided.decision.clone() });
    if let Some(refusal) = decided.keeping.as_ref().and_then(|keeping| keeping.pin.as_ref().err()) {
        proxy.metrics.count_rejected(refusal.as_str());
        return own_answer(finish, answer::not_again(*refusal));
    }

    let deadline = decided.route.as_ref().and_then(|route| route.deadline).map(|deadline| begun + deadline);
    let taken = if body.is_end_stream() {
        Ok(Uploading { body: OutBody::Empty, progress: None, fault: None, _held: Held::default() })
    } else {
        // Boxed: most requests have no body, and this one's state would lie in every idle connection.
        let taking = Box::pin(take_body(&worker, &parts, body, &decided, busy));
        match deadline {
            Some(at) => Box::pin(tokio::time::timeout_at(at.into(), taking)).await.unwrap_or(Err(BodyError::Idle)),
            None => taking.await,
        }
    };
    let Uploading { body, progress, fault, _held } = match taken {
        Ok(uploading) => uploading,
        Err(error) => return upload_failed(&worker, finish, error),
    };
    let rewritten = decided.route.as_ref().and_then(|route| rewrite::target(route, &target));
    let tee = plan.and_then(|plan| plan.dispatch(&worker, &parts, &target, rewritten.as_ref(), &body));
    let is_evidence = decided.decision.reason != Reason::Forced;
    let mut pin = decided.take_pin();
    if let Some(pin) = &mut pin {
        pin.sending();
    }
    let tunnel_asked = tunnel.as_deref();
    let route = decided.route.as_ref();
    let forwarder = Forwarder { proxy, runtime: &runtime, route, deadline, is_evidence, tunnel: tunnel_asked };
    let outgoing = Outgoing { method: parts.method, target, rewritten, headers: parts.headers, body, progress };
    // Boxed: its state is large, and an idle connection should not carry it.
    let forwarded = Box::pin(forwarder.forward(decided.decision.side, outgoing)).await;
    if let Some(write) = &write {
        write.note(proxy.begun.elapsed());
    }
    match forwarded {
        Ok(forwarded) => {
            if let Some(pin) = &mut pin {
                pin.answered(forwarded.side);
            }
            if forwarded.exchange.response.status() == StatusCode::SWITCHING_PROTOCOLS
                && let Some(tunnel) = tunnel
            {
                return switched(&worker, &peer, finish, forwarded, *tunnel);
            }
            let response = answered(&worker, finish, &decided, &parts.uri, forwarded, tee, deadline);
            if version == Version::HTTP_10 { Box::pin(whole(response)).await } else { response }
        }
        Err(no_answer) => {
            if let Some(pin) = &mut pin {
                pin.unanswered(no_answer.side, no_answer.failure);
            }
            if let Some(error) = fault.as_ref().and_then(|fault| fault.read()) {
                return upload_failed(&worker, finish, error);
            }
            runtime.charge(no_answer.side, no_answer.failure, is_evidence, proxy.begun.elapsed());
            unanswered(finish, &no_answer, tee)
        }
    }
}

/// Counts and logs a request that is refused at the door.
fn refuse(finish: Finish, peer: &Peer, parts: &Parts, refusal: Refusal) -> Response<ClientBody> {
    finish.count_rejected(refusal.as_str());
    let mut finish = log_own(finish, peer, parts);
    finish.error = Some(refusal.as_str());
    own_answer(finish, answer::refused(refusal))
}

/// Of a request that goes no further: what it said, as far as it was understood.
fn log_own(mut finish: Finish, peer: &Peer, parts: &Parts) -> Finish {
    if finish.is_logged() {
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        // What stands in for a request that could not be read has no path of its own.
        let path = if parts.method.as_str() == STAND_IN { "" } else { parts.uri.path() };
        finish.log(Logged {
            method: parts.method.clone(),
            host: host.chars().take(LOGGED_CHARS_MAX).collect(),
            path: path.chars().take(LOGGED_CHARS_MAX).collect(),
            client: peer.text.clone(),
            trace: HeaderValue::from_static(""),
            upstream: None,
        });
    }
    finish
}

/// Characters of a refused request's host and path that are logged.
const LOGGED_CHARS_MAX: usize = 256;

/// `Max-Forwards` (RFC 9110 §7.6.2): at 0 we are asked ourselves; else it is counted down.
fn max_forwards(parts: &Parts) -> Option<u32> {
    parts.headers.get(header::MAX_FORWARDS)?.to_str().ok()?.parse().ok()
}

fn decide_on(worker: &Worker, snapshot: &Arc<Snapshot>, parts: &Parts, admitted: &Admitted<'_>) -> Decided {
    let facts = facts_of(parts, admitted);
    let Some((index, route)) =
        snapshot.table().find(&facts).and_then(|index| Some((index, snapshot.table().routes().get(index)?)))
    else {
        return Decided {
            route: None,
            index: 0,
            decision: Decision::FALL_THROUGH,
            is_split: false,
            caller: None,
            keeping: None,
            is_secure: false,
        };
    };
    let forced = forced_side(worker, route, &facts);
    let mut decision = decide(snapshot, index, route, &facts, forced, chance::caller_id);
    let mut keeping = Keeping::of(route, &facts);
    let mut route = Arc::clone(route);
    if let Some(keeping) = &mut keeping {
        route = lease::decide_by(&worker.proxy, snapshot, (index, &route), &facts, keeping, &mut decision);
    }
    let is_split = snapshot.state(index).is_some_and(|state| state.weight.is_split() && !state.killed);
    // Only a copy takes it along.
    let key = route.shadow.as_ref().and_then(|_| caller_key(&route, &facts));
    let caller = key.map(|(key, _)| xxh3_64_with_seed(key, worker.proxy.settings.caller_seed));
    Decided { route: Some(route), index, decision, is_split, caller, keeping, is_secure: false }
}

fn facts_of<'a>(parts: &'a Parts, admitted: &'a Admitted<'_>) -> RequestFacts<'a> {
    RequestFacts {
        method: &parts.method,
        host: &admitted.host,
        path: &admitted.path,
        query: admitted.query,
        headers: &parts.headers,
    }
}

/// What a rightly signed override says. A wrong one is counted and otherwise not there.
fn forced_side(worker: &Worker, route: &Route, facts: &RequestFacts<'_>) -> Option<Side> {
    let name: &HeaderName = route.override_header.as_ref()?;
    let token = facts.header(name)?;
    let now_s = worker.proxy.unix_s.load(std::sync::atomic::Ordering::Relaxed);
    let keys = &worker.proxy.settings.keys;
    let token = std::str::from_utf8(token).ok()?;
    match override_token::verify(keys, token, facts.host, route.name.as_str(), now_s) {
        Ok(side) => Some(side),
        Err(error) => {
            worker.proxy.metrics.count_rejected("bad_override");
            tracing::debug!(route = %route.name, %error, "an override was not believed; the request goes where it would have gone");
            None
        }
    }
}

struct Uploading {
    body: OutBody,
    progress: Option<Arc<UploadProgress>>,
    fault: Option<Arc<UploadFault>>,
    /// The bytes read ahead, until the request is over.
    _held: Held,
}

/// Bytes of a small body with side effects that are read before a connection is taken: a client that trickles them holds none.
const SMALL_BODY: u64 = 64 << 10;

/// A safe request's body is read ahead, so that it can be sent twice, and so is a small one whose length is known; any other streams.
async fn take_body(
    worker: &Worker,
    parts: &Parts,
    mut incoming: RequestBody,
    decided: &Decided,
    busy: &Arc<Busy>,
) -> Result<Uploading, BodyError> {
    let (idle, min_rate) = (worker.proxy.settings.limits.body_idle, worker.proxy.settings.limits.body_min_rate);
    let mut pace = Pacer::new(idle, min_rate);
    let bytes_max = decided.route.as_ref().map_or(u64::MAX, |route| route.max_body);
    let mut held = worker.proxy.read_ahead.hold(0).unwrap_or_default();
    if incoming.size_hint().lower() > bytes_max {
        return Err(BodyError::TooLarge);
    }
    let is_small = incoming.size_hint().exact().is_some_and(|bytes| bytes <= SMALL_BODY);
    let mut head = VecDeque::new();
    if is_small || strangler_core::facts::is_safe(&parts.method) {
        let kept_max =
            decided.route.as_ref().and_then(|route| route.fallback).map_or(1 << 20, |fallback| fallback.max_body);
        let kept_max = if is_small { SMALL_BODY } else { kept_max };
        match read_ahead(&mut incoming, kept_max.min(bytes_max), &mut pace, &mut held).await? {
            ReadAhead::Whole(pieces) => {
                return Ok(Uploading { body: OutBody::pieces(pieces), progress: None, fault: None, _held: held });
            }
            ReadAhead::Part(pieces) if length(&pieces) > bytes_max => return Err(BodyError::TooLarge),
            ReadAhead::Part(pieces) => head = pieces,
        }
    }
    let (progress, fault) = (UploadProgress::new(), Arc::<UploadFault>::default());
    let bounds = UploadBounds { bytes_max, pace };
    let body = Upload::stream(head, incoming, bounds, Arc::clone(&progress), Arc::clone(&fault), Arc::clone(busy));
    Ok(Uploading { body, progress: Some(progress), fault: Some(fault), _held: held })
}

fn answered(
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
            tee.failed(failure);
            None
        }
        (None, _) => None,
    };
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
fn switched(
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
fn limited(
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
    finish.place(Place { route, decision });
    own_answer(finish, response)
}

/// Largest answer without a length that a client of HTTP/1.0 gets.
const UNMEASURED_BYTES_MAX: usize = 16 << 20;

/// To a client of HTTP/1.0 the end of the connection is the end of the answer, so one that breaks off would look whole. It is
/// read to its end first, and sent with its length.
async fn whole(response: Response<ClientBody>) -> Response<ClientBody> {
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

fn unanswered(mut finish: Finish, no_answer: &NoAnswer, tee: Option<Tee>) -> Response<ClientBody> {
    if let Some(tee) = tee {
        tee.failed(no_answer.fallback.unwrap_or(no_answer.failure));
    }
    finish.fallback = no_answer.fallback;
    finish.error = Some(no_answer.failure.as_str());
    own_answer(finish, answer::failed(no_answer.failure))
}

fn upload_failed(worker: &Worker, mut finish: Finish, error: BodyError) -> Response<ClientBody> {
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

fn own_answer(mut finish: Finish, response: Response<ClientBody>) -> Response<ClientBody> {
    finish.status = response.status().as_u16();
    finish.bytes = response.body().bytes_at_hand();
    response
}

//! One request: let in, matched, decided, forwarded, copied, answered.

mod intake;
mod outcome;

use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Body as _;
use strangler_core::coverage::MethodKind;
use strangler_core::decide::{Decision, Reason, caller_key, decide};
use strangler_core::door::{Admitted, Refusal, STAND_IN, admit};
use strangler_core::facts::RequestFacts;
use strangler_core::override_token;
use strangler_core::route::Route;
use strangler_core::side::Side;
use strangler_core::snapshot::Snapshot;
use strangler_core::sni;
use strangler_core::unit::Unit;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::live::sightings::Sighting;
use crate::proxy::body::ClientBody;
use crate::proxy::connection::Busy;
use crate::proxy::copies::CopyPlan;
use crate::proxy::finish::{Finish, Logged, Place};
use crate::proxy::forward::{Forwarder, Outgoing, target_of};
use crate::proxy::headers::{self, Peer};
use crate::proxy::lease::{self, Keeping};
use crate::proxy::pins::Pinning;
use crate::proxy::request_body::RequestBody;
use crate::proxy::serve::intake::{Uploading, take_body};
use crate::proxy::serve::outcome::{answered, limited, own_answer, switched, unanswered, upload_failed, whole};
use crate::proxy::tunnel::Asked;
use crate::proxy::witness::unit_of;
use crate::proxy::writes::Write;
use crate::proxy::{Worker, answer, coverage, rewrite, shed};
use crate::telemetry::metrics::SideGauge;
use crate::upstream::body::{BodyError, OutBody};
use crate::upstream::budget::Held;
use crate::upstream::chance;

/// What is known of a request once it has been decided on.
struct Decided {
    route: Option<Arc<Route>>,
    index: usize,
    decision: Decision,
    /// Whether users of this route are split now.
    is_split: bool,
    /// Keyed hash of the caller's key.
    caller: Option<u64>,
    /// Whether its shadow is asked: not once a rollout was rolled back to `legacy`.
    is_copied: bool,
    /// Whether a cookie of ours is for TLS only.
    is_secure: bool,
    /// Of whom it is evidence, on routes with a rollout.
    unit: Option<Box<Unit>>,
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
    let mut decided = decide_on(&worker, &published.snapshot, &peer, &parts, &admitted);
    let runtime = decided.route.as_ref().and_then(|_| published.attached.routes.get(decided.index));
    let runtime = Arc::clone(runtime.unwrap_or(&published.attached.fall_through));
    let write = {
        let (settings, facts) = (&proxy.settings, facts_of(&parts, &admitted));
        let route = decided.route.as_deref();
        Write::begin(&published.attached.principals, &settings.writes, route, &facts, settings.caller_seed, proxy.begun)
    };
    drop(published);
    let trusted = &proxy.settings.server.trusted_proxies;
    if let Some(limiter) = &runtime.limiter
        && let Err(wait) = limiter.take(&facts_of(&parts, &admitted), peer.client(&parts.headers, trusted))
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
    let plan = decided.route.as_ref().filter(|_| decided.is_copied).and_then(|route| {
        let facts = facts_of(&parts, &admitted);
        CopyPlan::of(&worker, &peer, route, decided.index, &decided.decision, decided.caller, &facts)
    });
    let wanted = admitted.upgrade.cloned();
    let host = if finish.is_logged() { admitted.host.clone().into_owned() } else { String::new() };
    drop(admitted);
    let tunnel =
        wanted.and_then(|wanted| Asked::of(&mut parts, &wanted, decided.route.as_deref(), !body.is_end_stream()));
    let client = finish.is_logged().then(|| peer.client_text(&parts.headers, trusted));
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
    if let Some(client) = client {
        finish.log(Logged {
            method: parts.method.clone(),
            host,
            path: target.path().to_owned(),
            client,
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
    finish.place(Place { route: Arc::clone(&runtime), decision: decided.decision.clone(), unit: decided.unit.take() });
    if let Some(refusal) = decided.keeping.as_ref().and_then(|keeping| keeping.pin.as_ref().err()) {
        proxy.metrics.count_rejected(refusal.as_str());
        return own_answer(finish, answer::not_again(*refusal));
    }

    let deadline = decided.route.as_ref().and_then(|route| route.deadline).map(|deadline| begun + deadline);
    let taken = if body.is_end_stream() {
        Ok(Uploading { body: OutBody::Empty, progress: None, fault: None, held: Held::default() })
    } else {
        // Boxed: most requests have no body, and this one's state would lie in every idle connection.
        let taking = Box::pin(take_body(&worker, &parts, body, &decided, busy));
        match deadline {
            Some(at) => Box::pin(tokio::time::timeout_at(at.into(), taking)).await.unwrap_or(Err(BodyError::Idle)),
            None => taking.await,
        }
    };
    let Uploading { body, progress, fault, held: _held } = match taken {
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
    let method = MethodKind::of(&parts.method);
    let sightings = Some(&proxy.settings.sightings).filter(|it| decided.route.is_none() && it.is_wanted());
    let agent = sightings.and_then(|_| parts.headers.get(header::USER_AGENT).cloned());
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
            if let (Some(key), Some(route), Side::Legacy) = (runtime.coverage, &decided.route, forwarded.side)
                && is_evidence
            {
                let (response, query) = (&forwarded.exchange.response, parts.uri.query().unwrap_or_default());
                coverage::note(key, route, method, query, response.status(), response.headers());
            }
            if let Some(sightings) = sightings {
                let response = &forwarded.exchange.response;
                let (asked, answered) = (
                    (method, &parts.uri, agent.as_ref()),
                    (response.status(), response.headers().get(header::CONTENT_TYPE)),
                );
                let size = (response.body().size_hint().exact().unwrap_or_default(), forwarded.upstream_time);
                if let Some(sighting) = Sighting::new(asked, answered, size) {
                    sightings.push(sighting);
                }
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
            client: peer.client_text(&parts.headers, finish.trusted_proxies()),
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

fn decide_on(
    worker: &Worker,
    snapshot: &Arc<Snapshot>,
    peer: &Peer,
    parts: &Parts,
    admitted: &Admitted<'_>,
) -> Decided {
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
            is_copied: false,
            unit: None,
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
    let unit = unit_of(worker, snapshot, (index, &route), &decision, peer, &facts);
    let is_copied = snapshot.state(index).is_some_and(|state| state.is_copied);
    Decided { route: Some(route), index, decision, is_split, caller, is_copied, unit, keeping, is_secure: false }
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

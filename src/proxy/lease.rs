//! Leases on their way: read from a request's cookies, set on its answer. Only routes that have one come here.

use http::Method;
use http::header::{self, HeaderMap, HeaderValue};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use strangler_core::affinity;
use strangler_core::caching::is_out_of_shared_caches;
use strangler_core::decide::{Decision, Reason, Remembered, keep};
use strangler_core::facts::{RequestFacts, is_safe};
use strangler_core::idempotency::Refusal;
use strangler_core::lease::{self, Lease};
use strangler_core::route::{LeasePolicy, Route};
use strangler_core::side::Side;
use strangler_core::signing::Signing;
use strangler_core::snapshot::Snapshot;

use crate::proxy::pins::Pinning;
use crate::proxy::{Proxy, headers};

/// What is kept of a request until its answer, on routes that remember something of it.
#[derive(Debug)]
pub(crate) struct Keeping {
    pub(crate) method: Method,
    /// Whether the client came by TLS, here or at somebody we trust.
    is_secure: bool,
    /// The request's idempotency key, or why it goes nowhere.
    pub(crate) pin: Result<Option<Box<Pinning>>, Refusal>,
}

impl Keeping {
    /// `None` for the usual route, which remembers nothing.
    pub(crate) fn of(route: &Route, facts: &RequestFacts<'_>) -> Option<Box<Keeping>> {
        let is_any = route.lease.is_some() || route.form.is_some() || route.idempotency.is_some();
        is_any.then(|| Box::new(Keeping { method: facts.method.clone(), is_secure: false, pin: Ok(None) }))
    }

    /// Reads off the request's fields, once they say what we vouch for, how the client came.
    pub(crate) fn note_scheme(&mut self, headers: &HeaderMap) {
        let scheme = headers.get("x-forwarded-proto");
        self.is_secure = scheme.is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"));
    }
}

fn signing(proxy: &Proxy) -> Signing<'_> {
    Signing { keys: &proxy.settings.keys, now_s: proxy.unix_s.load(Ordering::Relaxed) }
}

/// Gives the leases and the idempotency key that the request brings their say. Answers the route that is to be followed: a write that
/// is tried again is sent to no other side, for the first try may have been done.
pub(crate) fn decide_by(
    proxy: &Proxy,
    snapshot: &Snapshot,
    (index, route): (usize, &Arc<Route>),
    facts: &RequestFacts<'_>,
    keeping: &mut Keeping,
    decision: &mut Decision,
) -> Arc<Route> {
    let decided = std::mem::replace(decision, Decision::FALL_THROUGH);
    *decision = decide_by_leases(proxy, snapshot, (index, route), facts, decided);
    let pasts = snapshot.state(index).and_then(|state| state.pasts.as_deref()).unwrap_or_default();
    keeping.pin = proxy.settings.pins.settle(route, facts, decision, pasts, signing(proxy).now_s);
    let is_again = keeping.pin.as_ref().is_ok_and(|pin| pin.as_ref().is_some_and(|pin| pin.is_again()));
    if is_again && route.fallback.is_some() {
        return Arc::new(Route { fallback: None, ..Route::clone(route) });
    }
    Arc::clone(route)
}

fn decide_by_leases(
    proxy: &Proxy,
    snapshot: &Snapshot,
    (index, route): (usize, &Arc<Route>),
    facts: &RequestFacts<'_>,
    decision: Decision,
) -> Decision {
    let form = route.form.as_ref().filter(|_| affinity::sends_form(facts.method));
    let remembered =
        Remembered { journey: read(proxy, route, route.lease.as_ref(), facts), form: read(proxy, route, form, facts) };
    keep(snapshot, index, route, decision, remembered, signing(proxy).now_s)
}

/// A lease that is not believed is counted, and otherwise not there.
fn read(proxy: &Proxy, route: &Route, policy: Option<&Arc<LeasePolicy>>, facts: &RequestFacts<'_>) -> Option<Lease> {
    match lease::read(policy?, facts, signing(proxy)) {
        Ok(lease) => lease,
        Err(error) => {
            proxy.metrics.count_rejected(error.as_str());
            tracing::debug!(route = %route.name, %error, "a lease was not believed; the request goes where it would have gone");
            None
        }
    }
}

/// Sets what the client is to bring along from now on. `side` is who answered.
pub(crate) fn set_cookies(
    proxy: &Proxy,
    route: &Route,
    decision: &Decision,
    keeping: &Keeping,
    side: Side,
    headers: &mut HeaderMap,
) {
    let Keeping { method, is_secure, .. } = keeping;
    // Others may be on the other side, even where the weight no longer splits them.
    if decision.reason == Reason::Leased {
        headers::keep_from_shared_caches(headers);
    }
    let begins = decision.lease.as_ref().zip(route.lease.as_ref());
    // A shared cache would hand one user's lease to all; an answer that it may keep is left as it is, and the next one tried.
    if let Some((lease, policy)) = begins.filter(|_| !is_safe(method) || is_out_of_shared_caches(headers)) {
        append(proxy, policy, lease, *is_secure, headers);
    }
    if let Some(policy) = &route.form {
        let content_type = headers.get(header::CONTENT_TYPE);
        if let Some(lease) = affinity::remember(method, content_type, decision, side, signing(proxy).now_s) {
            headers::keep_from_shared_caches(headers);
            append(proxy, policy, &lease, *is_secure, headers);
        }
    }
}

fn append(proxy: &Proxy, policy: &LeasePolicy, lease: &Lease, is_secure: bool, headers: &mut HeaderMap) {
    let cookie = lease::set_cookie(policy, lease, signing(proxy));
    let cookie = cookie.map(|cookie| if is_secure { cookie + "; Secure" } else { cookie });
    if let Some(value) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        headers.append(header::SET_COOKIE, value);
    }
}

//! What the data plane attaches to a snapshot: counters and upstreams, found by a route's index.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use strangler_core::breaker::is_charged;
use strangler_core::coverage::{self, Seen};
use strangler_core::name::{FALL_THROUGH, UpstreamName};
use strangler_core::observation::Failure;
use strangler_core::route::{Route, Upstream};
use strangler_core::side::Side;
use strangler_core::snapshot::Snapshot;

use crate::proxy::breaker::RouteBreaker;
use crate::proxy::rate::Limiter;
use crate::proxy::writes::Principals;
use crate::telemetry::metrics::{Metrics, RouteMetrics};
use crate::upstream::UpstreamState;

/// Routes up to which every label set is made beforehand; beyond, the scrape would drown in zeros.
const PREPARED_ROUTES_MAX: usize = 1_000;

/// Attached to one snapshot.
#[derive(Debug)]
pub struct Attached {
    /// By route index.
    pub(crate) routes: Vec<Arc<RouteRuntime>>,
    /// Of what no route covers.
    pub(crate) fall_through: Arc<RouteRuntime>,
    upstreams: BTreeMap<UpstreamName, Arc<UpstreamState>>,
    /// Where callers are known by whose answers are compared.
    pub(crate) principals: Principals,
}

/// A route's counters and upstreams.
#[derive(Debug)]
pub(crate) struct RouteRuntime {
    pub(crate) name: Arc<str>,
    /// The path template, for the log; empty for the fall-through.
    pub(crate) path: Arc<str>,
    pub(crate) metrics: Arc<RouteMetrics>,
    pub(crate) legacy: Arc<UpstreamState>,
    pub(crate) extracted: Arc<UpstreamState>,
    /// `None`: the route has none.
    pub(crate) breaker: Option<Arc<RouteBreaker>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    /// What its requests are counted under; `None`: they are not.
    pub(crate) coverage: Option<u64>,
}

impl RouteRuntime {
    pub(crate) fn upstream(&self, side: Side) -> &Arc<UpstreamState> {
        match side {
            Side::Legacy => &self.legacy,
            Side::Extracted => &self.extracted,
        }
    }

    /// A failure of a side that nobody else is to blame for. `is_evidence`: not a forced request's, which proves nothing.
    pub(crate) fn charge(&self, side: Side, failure: Failure, is_evidence: bool, now: Duration) {
        if failure == Failure::BreakerOpen {
            // Nobody was asked.
            return;
        }
        self.metrics.count_failure(side, failure);
        let breaker = self.breaker.as_ref().filter(|_| side == Side::Extracted && is_evidence);
        if let Some(breaker) = breaker.filter(|_| is_charged(failure)) {
            breaker.failed(&self.name, now);
        }
    }
}

impl Attached {
    /// Made for `snapshot`. Upstreams that are as they were keep their state, and with it pools and counts.
    pub fn new(snapshot: &Arc<Snapshot>, before: Option<&Attached>, metrics: &Arc<Metrics>) -> Attached {
        let table = snapshot.table();
        let keep = |upstream: &Arc<Upstream>| {
            let known = before
                .and_then(|before| before.upstreams.get(&upstream.name))
                .filter(|known| known.config == *upstream);
            known.map_or_else(|| Arc::new(UpstreamState::new(Arc::clone(upstream))), Arc::clone)
        };
        let mut upstreams: BTreeMap<UpstreamName, Arc<UpstreamState>> =
            table.upstreams().iter().map(|(name, upstream)| (name.clone(), keep(upstream))).collect();
        let mut state_of = |upstream: &Arc<Upstream>| {
            Arc::clone(upstreams.entry(upstream.name.clone()).or_insert_with(|| keep(upstream)))
        };
        let legacy = state_of(table.legacy());
        let is_small = table.routes().len() <= PREPARED_ROUTES_MAX;
        let known: BTreeMap<&str, &Arc<RouteRuntime>> =
            before.iter().flat_map(|before| before.routes.iter().map(|route| (&*route.name, route))).collect();
        // As it stands, where the route's own service and policy are as they were.
        let breaker_of = |route: &Route| {
            let policy = route.breaker.as_ref()?;
            let kept =
                known.get(route.name.as_str()).filter(|known| known.extracted.config.name == route.extracted.name);
            let kept = kept.and_then(|known| known.breaker.as_ref()).filter(|breaker| breaker.policy() == policy);
            Some(kept.map_or_else(|| Arc::new(RouteBreaker::new(*policy)), Arc::clone))
        };
        // Buckets outlive a reload that leaves their bound as it is: nobody is given a full one by it.
        let limiter_of = |route: &Route| {
            let limit = route.rate_limit.as_ref()?;
            let kept = known.get(route.name.as_str()).and_then(|known| known.limiter.as_ref());
            let kept = kept.filter(|limiter| limiter.limit == *limit);
            Some(kept.map_or_else(|| Arc::new(Limiter::new(limit.clone())), Arc::clone))
        };
        let runtime = |name: &str, path: String, extracted: Arc<UpstreamState>, breaker, limiter, coverage| {
            if is_small {
                metrics.prepare_route(name);
            }
            let metrics = metrics.route(name);
            Arc::new(RouteRuntime {
                name: name.into(),
                path: path.into(),
                metrics,
                legacy: Arc::clone(&legacy),
                extracted,
                breaker,
                limiter,
                coverage,
            })
        };
        let coverage_of = |index: usize, route: &Route| {
            let weight = snapshot.state(index).map_or(route.weight, |state| state.weight);
            coverage::is_counted(route, weight).then(|| Seen::key_of(route.name.as_str()))
        };
        let routes = table.routes().iter().enumerate();
        let routes: Vec<Arc<RouteRuntime>> = routes
            .map(|(index, route)| {
                let (path, extracted) = (route.conditions.path.to_string(), state_of(&route.extracted));
                let (breaker, limiter, coverage) = (breaker_of(route), limiter_of(route), coverage_of(index, route));
                runtime(route.name.as_str(), path, extracted, breaker, limiter, coverage)
            })
            .collect();
        if let Some(before) = before {
            forget_gone(before, &routes, &upstreams, metrics);
        }
        Attached {
            routes,
            fall_through: runtime(FALL_THROUGH, String::new(), Arc::clone(&legacy), None, None, None),
            upstreams,
            principals: Principals::of(snapshot),
        }
    }

    /// Forgets clients that a rate limit no longer needs to know. For the background: it walks whole tables.
    pub fn tidy(&self) {
        self.routes.iter().filter_map(|route| route.limiter.as_ref()).for_each(|limiter| limiter.tidy());
    }

    /// Of the routes whose breaker is not closed: how it stands.
    pub fn open_breakers(&self) -> BTreeMap<String, &'static str> {
        let states =
            self.routes.iter().filter_map(|route| Some((&route.name, route.breaker.as_ref()?.if_not_closed()?)));
        states.map(|(name, state)| (name.to_string(), state.as_str())).collect()
    }

    /// Whether that route's breaker stands open. Looks at one route after the other: not for requests.
    pub fn is_breaker_open(&self, route: &str) -> bool {
        let found = self.routes.iter().find(|known| &*known.name == route).and_then(|known| known.breaker.as_ref());
        found.is_some_and(|breaker| breaker.if_not_closed().is_some())
    }

    /// Those in force, for the background look-up of names.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<UpstreamState>> {
        self.upstreams.values()
    }

    /// The state of the upstream with this name.
    pub fn upstream(&self, name: &UpstreamName) -> Option<&Arc<UpstreamState>> {
        self.upstreams.get(name)
    }

    /// Shows which endpoints get requests, and how breakers stand.
    pub fn show(&self, metrics: &Metrics) {
        for upstream in self.upstreams.values() {
            for (endpoint, is_up) in upstream.up() {
                metrics.show_endpoint(upstream.config.name.as_str(), &endpoint.to_string(), is_up);
            }
        }
        let is_small = self.routes.len() <= PREPARED_ROUTES_MAX;
        for route in &self.routes {
            if let Some(state) = route.breaker.as_ref().and_then(|breaker| breaker.news(is_small)) {
                metrics.show_breaker(&route.name, state);
            }
        }
    }

    /// Likewise, without keeping them alive.
    pub fn upstreams_weak(&self) -> Vec<Weak<UpstreamState>> {
        self.upstreams.values().map(Arc::downgrade).collect()
    }
}

/// Takes the gauges of endpoints and breakers away that are no longer there.
fn forget_gone(
    before: &Attached,
    routes: &[Arc<RouteRuntime>],
    upstreams: &BTreeMap<UpstreamName, Arc<UpstreamState>>,
    metrics: &Metrics,
) {
    for (name, upstream) in &before.upstreams {
        let is_kept = upstreams.get(name).is_some_and(|now| Arc::ptr_eq(now, upstream));
        for endpoint in upstream.endpoints().iter().filter(|_| !is_kept) {
            metrics.forget_endpoint(name.as_str(), &endpoint.endpoint.to_string());
        }
    }
    let without: BTreeSet<&str> = routes.iter().filter(|it| it.breaker.is_none()).map(|it| &*it.name).collect();
    for route in before.routes.iter().filter(|it| it.breaker.is_some() && without.contains(&*it.name)) {
        metrics.forget_breaker(&route.name);
    }
}

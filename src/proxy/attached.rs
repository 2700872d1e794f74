//! What the data plane attaches to a snapshot: counters and upstreams, found by a route's index.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use strangler_core::name::{FALL_THROUGH, UpstreamName};
use strangler_core::route::Upstream;
use strangler_core::side::Side;
use strangler_core::snapshot::Snapshot;

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
}

impl RouteRuntime {
    pub(crate) fn upstream(&self, side: Side) -> &Arc<UpstreamState> {
        match side {
            Side::Legacy => &self.legacy,
            Side::Extracted => &self.extracted,
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
        let runtime = |name: &str, path: String, extracted: Arc<UpstreamState>| {
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
            })
        };
        let routes = table.routes().iter();
        let routes = routes
            .map(|route| runtime(route.name.as_str(), route.conditions.path.to_string(), state_of(&route.extracted)))
            .collect();
        Attached { routes, fall_through: runtime(FALL_THROUGH, String::new(), Arc::clone(&legacy)), upstreams }
    }

    /// Those in force, for the background look-up of names.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<UpstreamState>> {
        self.upstreams.values()
    }

    /// The state of the upstream with this name.
    pub fn upstream(&self, name: &UpstreamName) -> Option<&Arc<UpstreamState>> {
        self.upstreams.get(name)
    }

    /// Likewise, without keeping them alive.
    pub fn upstreams_weak(&self) -> Vec<Weak<UpstreamState>> {
        self.upstreams.values().map(Arc::downgrade).collect()
    }
}

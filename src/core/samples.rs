//! Values that tests start from; a test changes what it is about.

use std::sync::Arc;

use crate::route::{
    Balance, Conditions, Data, Endpoint, FallbackPolicy, HeaderEdits, HostPattern, HostPolicy, Retry, Route, Scheme,
    StatusSet, Timeouts, Tls, Upstream,
};
use crate::table::{Journey, Revision, RoutingTable};
use crate::template::{PathPattern, PathTemplate};
use crate::weight::Weight;

/// An upstream of one endpoint, with every default.
pub(crate) fn upstream(name: &str) -> Arc<Upstream> {
    Arc::new(Upstream {
        name: name.parse().unwrap(),
        endpoints: vec![Endpoint { scheme: Scheme::Http, host: "127.0.0.1".into(), port: 1 }],
        host: HostPolicy::Preserve,
        balance: Balance::RoundRobin,
        timeouts: Timeouts::default(),
        max_connections: 256,
        max_in_flight: 1_024,
        fallback_share: Weight::from_basis_points(5_000).unwrap(),
        retry: Retry::default(),
        health_check: None,
        outlier_detection: None,
        tls: Tls::default(),
        own_names: crate::rewrite::OwnNames::default(),
    })
}

/// A route of that path, with every default and a weight of 0 %.
pub(crate) fn route(name: &str, path: &str) -> Route {
    let path = match path.strip_prefix("regex:") {
        Some(regex) => PathPattern::regex(regex).unwrap(),
        None => PathPattern::Template(PathTemplate::parse(path).unwrap()),
    };
    Route {
        name: name.parse().unwrap(),
        owner: None,
        journey: None,
        salt: name.into(),
        sticky_on: Arc::new([]),
        conditions: Conditions {
            host: HostPattern::Any,
            path,
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
        },
        extracted: upstream("extracted"),
        rewrite: None,
        upgrades: Vec::new(),
        rate_limit: None,
        data: Data::Legacy,
        weight: Weight::NONE,
        deadline: None,
        override_header: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        fallback: Some(FallbackPolicy::default()),
        breaker: None,
        success: StatusSet::default(),
        max_body: 10 << 20,
        shadow: None,
        compare: None,
        locate: None,
        lease: None,
        form: None,
        rollout: None,
        release_header: None,
        idempotency: None,
    }
}

/// A table of these routes, which do not tie.
pub(crate) fn table(routes: Vec<Route>) -> Arc<RoutingTable> {
    let routes: Vec<Arc<Route>> = routes.into_iter().map(Arc::new).collect();
    Arc::new(RoutingTable {
        revision: Revision::of(b"sample"),
        upstreams: routes.iter().map(|route| (route.extracted.name.clone(), Arc::clone(&route.extracted))).collect(),
        legacy: upstream("monolith"),
        removed: std::collections::BTreeSet::new(),
        fall_through: crate::route::FallThrough::default(),
        journeys: journeys(&routes),
        written: vec![crate::table::Written::default(); routes.len()],
        matcher: crate::matching::Matcher::new(&routes).unwrap(),
        routes,
    })
}

/// Of what the routes say of themselves.
fn journeys(routes: &[Arc<Route>]) -> std::collections::BTreeMap<crate::name::JourneyName, Journey> {
    let mut journeys = std::collections::BTreeMap::new();
    for (index, route) in routes.iter().enumerate() {
        let Some(name) = &route.journey else { continue };
        let journey = journeys.entry(name.clone()).or_insert_with(|| Journey {
            salt: Arc::clone(&route.salt),
            sticky_on: Arc::clone(&route.sticky_on),
            lease: route.lease.as_ref().map(|lease| lease.life),
            is_together: false,
            routes: Vec::new(),
            is_salt_written: false,
            is_lease_written: false,
        });
        journey.routes.push(index);
    }
    journeys
}

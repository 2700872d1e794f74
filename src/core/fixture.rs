//! Small tables for tests, made without a file. Compiled for tests only (feature `fixture`).

#![expect(clippy::unwrap_used, reason = "a fixture that is wrong should stop the test at once")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::matching::Matcher;
use crate::route::{
    Balance, Conditions, Data, Endpoint, FallbackPolicy, HeaderEdits, HostPattern, HostPolicy, Retry, Route, Scheme,
    StatusSet, Timeouts, Upstream,
};
use crate::table::{Revision, RoutingTable};
use crate::template::{PathPattern, PathTemplate};
use crate::weight::Weight;

/// An upstream at a loopback port.
pub fn upstream(name: &str, port: u16) -> Upstream {
    Upstream {
        name: name.parse().unwrap(),
        endpoints: vec![Endpoint { scheme: Scheme::Http, host: "127.0.0.1".into(), port }],
        host: HostPolicy::default(),
        balance: Balance::default(),
        timeouts: Timeouts::default(),
        max_connections: 256,
        max_in_flight: 1_024,
        fallback_share: Weight::from_basis_points(5_000).unwrap(),
        retry: Retry::default(),
    }
}

/// `GET <path>` at `weight`, everything else as if nothing were written.
pub fn route(name: &str, path: &str, weight: &str) -> Route {
    Route {
        name: name.parse().unwrap(),
        owner: None,
        journey: None,
        salt: name.into(),
        sticky_on: Arc::from([]),
        conditions: Conditions {
            host: HostPattern::Any,
            path: PathPattern::Template(PathTemplate::parse(path).unwrap()),
            methods: vec![http::Method::GET],
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
        },
        extracted: Arc::new(upstream("extracted", 8_102)),
        data: Data::Legacy,
        weight: weight.parse().unwrap(),
        deadline: Some(Duration::from_secs(60)),
        override_header: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        fallback: Some(FallbackPolicy::default()),
        success: StatusSet::default(),
        max_body: 10 << 20,
        shadow: None,
        compare: None,
        locate: None,
    }
}

/// A table of these routes; its revision is that of their names and weights.
pub fn table(routes: Vec<Route>) -> Arc<RoutingTable> {
    let text: String = routes.iter().map(|route| format!("{} {}\n", route.name, route.weight)).collect();
    let routes: Vec<Arc<Route>> = routes.into_iter().map(Arc::new).collect();
    let legacy = Arc::new(upstream("monolith", 8_000));
    Arc::new(RoutingTable {
        revision: Revision::of(text.as_bytes()),
        upstreams: BTreeMap::from([(legacy.name.clone(), Arc::clone(&legacy))]),
        legacy,
        matcher: Matcher::new(&routes).unwrap(),
        routes,
        removed: BTreeSet::new(),
    })
}

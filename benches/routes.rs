//! Tables for the benches, built by hand: they measure the index, not the loader.

use std::sync::Arc;

use http::{HeaderMap, Method};
use strangler_core::facts::RequestFacts;
use strangler_core::matching::Matcher;
use strangler_core::rewrite::OwnNames;
use strangler_core::route::{
    Balance, Conditions, Data, Endpoint, HeaderEdits, HostPattern, HostPolicy, Retry, Route, Scheme, StatusSet,
    Timeouts, Tls, Upstream,
};
use strangler_core::template::{PathPattern, PathTemplate};
use strangler_core::weight::Weight;

/// A table and paths to ask it for.
pub(crate) struct Bench {
    pub(crate) matcher: Matcher,
    /// One for each route, shuffled.
    pub(crate) hits: Vec<String>,
    /// Of the shape of a hit, but no route's.
    pub(crate) misses: Vec<String>,
}

impl Bench {
    /// What an API looks like: in each group of four a literal, two with parameters (one inside, one last), and a rest;
    /// groups hang below fifty areas.
    pub(crate) fn mixed(count: usize) -> Bench {
        let shape = |index: usize| {
            let (area, group) = (index / 4 % 50, index / 4);
            let stem = format!("/api/v1/area-{area}/thing-{group}");
            match index % 4 {
                0 => (format!("{stem}/summary"), format!("{stem}/summary")),
                1 => (format!("{stem}/{{id}}/detail"), format!("{stem}/{}/detail", 7 * index)),
                2 => (format!("{stem}/{{id}}"), format!("{stem}/{}", 9_973 * index)),
                _ => (format!("{stem}/files/{{*rest}}"), format!("{stem}/files/a/b/c-{index}.pdf")),
            }
        };
        Bench::of((0..count).map(shape))
    }

    /// The flat worst case: every route is a literal child of one node.
    pub(crate) fn literal_children(count: usize) -> Bench {
        Bench::of((0..count).map(|index| (format!("/thing-{index}"), format!("/thing-{index}"))))
    }

    fn of(shapes: impl Iterator<Item = (String, String)>) -> Bench {
        let (templates, mut hits): (Vec<String>, Vec<String>) = shapes.unzip();
        let upstream = Arc::new(upstream());
        let routes: Vec<Arc<Route>> =
            templates.iter().enumerate().map(|(index, path)| Arc::new(route(index, path, &upstream))).collect();
        let misses = hits.iter().map(|path| path.replace("/thing-", "/thang-")).collect();
        shuffle(&mut hits);
        Bench { matcher: Matcher::new(&routes).expect("the routes of a bench do not tie"), hits, misses }
    }
}

/// Asks for one path.
pub(crate) fn find(matcher: &Matcher, path: &str, headers: &HeaderMap) -> Option<usize> {
    matcher.find(&RequestFacts { method: &Method::GET, host: "shop.example.com", path, query: "", headers })
}

fn route(index: usize, path: &str, upstream: &Arc<Upstream>) -> Route {
    let name = format!("route-{index}");
    Route {
        salt: Arc::from(name.as_str()),
        name: name.parse().expect("a name"),
        owner: None,
        journey: None,
        sticky_on: Arc::from([]),
        conditions: Conditions {
            host: HostPattern::Any,
            path: PathPattern::Template(PathTemplate::parse(path).expect("a template")),
            methods: vec![Method::GET],
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
        },
        extracted: Arc::clone(upstream),
        data: Data::Legacy,
        weight: Weight::NONE,
        deadline: None,
        override_header: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        fallback: None,
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
        rewrite: None,
        upgrades: Vec::new(),
        rate_limit: None,
        breaker: None,
    }
}

fn upstream() -> Upstream {
    Upstream {
        name: "extracted".parse().expect("a name"),
        endpoints: vec![Endpoint { scheme: Scheme::Http, host: Arc::from("127.0.0.1"), port: 9 }],
        host: HostPolicy::Preserve,
        balance: Balance::RoundRobin,
        timeouts: Timeouts::default(),
        max_connections: 256,
        max_in_flight: 1_024,
        fallback_share: Weight::NONE,
        retry: Retry::default(),
        health_check: None,
        outlier_detection: None,
        tls: Tls::default(),
        own_names: OwnNames::default(),
    }
}

/// By a fixed generator: every run asks in the same order, and no cache line is found by going straight on.
fn shuffle(items: &mut [String]) {
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    for last in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = usize::try_from(state >> 33).unwrap_or_default() % (last + 1);
        items.swap(last, drawn);
    }
}

use super::*;
use crate::samples;
use http::HeaderMap;
use proptest::prelude::*;

fn matcher(routes: &[(&str, &str)]) -> (Vec<Arc<Route>>, Matcher) {
    let routes: Vec<_> = routes.iter().map(|(name, path)| Arc::new(samples::route(name, path))).collect();
    let matcher = Matcher::new(&routes).unwrap();
    (routes, matcher)
}

fn found(routes: &[Arc<Route>], matcher: &Matcher, host: &str, path: &str) -> Option<String> {
    let headers = HeaderMap::new();
    let facts = RequestFacts { method: &Method::GET, host, path, query: "", headers: &headers };
    matcher.find(&facts).map(|index| routes[index].name.to_string())
}

#[test]
fn the_narrower_path_wins_whatever_the_order() {
    let mut written = vec![
        ("literal", "/a/b/c/d"),
        ("more", "/a/{x}/c/d"),
        ("fewer", "/a/b/{y}/{z}"),
        ("rest", "/a/b/c/{*r}"),
        ("all", "/{*r}"),
        ("regex", "regex:^/a/[0-9]+$"),
        ("nested", "/a/{x}/{*r}"),
    ];
    for _ in 0..written.len() {
        written.rotate_left(1);
        let (routes, matcher) = matcher(&written);
        let found = |path| found(&routes, &matcher, "shop", path);
        assert_eq!(found("/a/b/c/d").as_deref(), Some("literal"));
        // Three literals against two, although the second one's come first.
        assert_eq!(found("/a/q/c/d").as_deref(), Some("more"));
        assert_eq!(found("/a/b/q/d").as_deref(), Some("fewer"));
        assert_eq!(found("/a/b/c/q/r").as_deref(), Some("rest"));
        assert_eq!(found("/a/b/c").as_deref(), Some("rest"));
        assert_eq!(found("/a/7").as_deref(), Some("nested"));
        assert_eq!(found("/").as_deref(), Some("all"));
    }
}

#[test]
fn a_regex_comes_after_every_template() {
    let (routes, matcher) = matcher(&[("regex", "regex:^/a/[0-9]+$"), ("template", "/a/{x}/b")]);
    assert_eq!(found(&routes, &matcher, "shop", "/a/7").as_deref(), Some("regex"));
    assert_eq!(found(&routes, &matcher, "shop", "/a/7/b").as_deref(), Some("template"));
    assert_eq!(found(&routes, &matcher, "shop", "/a/x"), None);
}

#[test]
fn an_exact_host_wins_over_a_wildcard_and_that_over_none() {
    let with_host = |name: &str, host| {
        let mut route = samples::route(name, "/{*r}");
        route.conditions.host = host;
        Arc::new(route)
    };
    let routes = [
        with_host("any", HostPattern::Any),
        with_host("wild", HostPattern::Wildcard(".example.com".into())),
        with_host("deeper", HostPattern::Wildcard(".eu.example.com".into())),
        with_host("exact", HostPattern::Exact("shop.example.com".into())),
    ];
    let matcher = Matcher::new(&routes).unwrap();
    for (host, expect) in [
        ("shop.example.com", "exact"),
        ("www.example.com", "wild"),
        ("www.eu.example.com", "deeper"),
        ("example.com", "any"),
        ("badexample.com", "any"),
    ] {
        assert_eq!(found(&routes, &matcher, host, "/x").as_deref(), Some(expect), "{host}");
    }
}

#[test]
fn methods_and_conditions_narrow_a_route() {
    let plain = samples::route("plain", "/a/{x}");
    let mut get = samples::route("get", "/a/{x}");
    get.conditions.methods = vec![Method::GET];
    let mut beta = samples::route("beta", "/a/{x}");
    beta.conditions.methods = vec![Method::GET];
    beta.conditions.cookies = vec![("beta".into(), TextCondition::Exact("1".into()))];
    let routes = [Arc::new(plain), Arc::new(get), Arc::new(beta)];
    let matcher = Matcher::new(&routes).unwrap();
    let find = |method: Method, cookie: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", cookie.parse().unwrap());
        let facts = RequestFacts { method: &method, host: "shop", path: "/a/1", query: "", headers: &headers };
        matcher.find(&facts).map(|index| routes[index].name.as_str())
    };
    assert_eq!(find(Method::GET, "beta=1"), Some("beta"));
    assert_eq!(find(Method::GET, "beta=0"), Some("get"));
    assert_eq!(find(Method::POST, "beta=1"), Some("plain"));
}

#[test]
fn two_routes_that_one_request_could_be_tie() {
    let tie = |a: &Route, b: &Route| Matcher::new(&[Arc::new(a.clone()), Arc::new(b.clone())]).err();
    let one = samples::route("one", "/a/{x}");
    let other = samples::route("other", "/a/{y}");
    assert_eq!(tie(&one, &other), Some(vec![Tie { first: 0, second: 1 }]));
    assert_eq!(tie(&one, &samples::route("other", "/b/{y}")), None);
    assert_eq!(tie(&one, &samples::route("other", "/{x}/a")), None);
    let with = |name: &str, value: &str| {
        let mut route = samples::route(name, "/a/{x}");
        route.conditions.query = vec![("currency".into(), TextCondition::Exact(value.into()))];
        route
    };
    assert_eq!(tie(&with("eur", "EUR"), &with("usd", "USD")), None);
    assert_eq!(tie(&with("eur", "EUR"), &with("also", "EUR")), Some(vec![Tie { first: 0, second: 1 }]));
    let methods = |name: &str, methods: &[Method]| {
        let mut route = samples::route(name, "/a/{x}");
        route.conditions.methods = methods.to_vec();
        route
    };
    assert_eq!(tie(&methods("get", &[Method::GET]), &methods("post", &[Method::POST])), None);
    let both = [Method::GET, Method::POST];
    assert_eq!(tie(&methods("get", &[Method::GET]), &methods("both", &both)), Some(vec![Tie { first: 0, second: 1 }]));
}

fn paths() -> impl Strategy<Value = String> {
    let segment = prop_oneof![3 => "[ab]".prop_map(|s| s), 2 => Just("{@}".to_owned())];
    (proptest::collection::vec(segment, 1..5), any::<bool>()).prop_map(|(segments, has_rest)| {
        let mut text = String::new();
        for (at, segment) in segments.iter().enumerate() {
            text.push('/');
            text.push_str(&segment.replace('@', &format!("p{at}")));
        }
        if has_rest { text + "/{*rest}" } else { text }
    })
}

proptest! {
    #[test]
    fn the_index_finds_what_a_look_at_every_route_finds(
        written in proptest::collection::btree_set(paths(), 1..12),
        asked in proptest::collection::vec("(/[abc]?){1,6}", 20),
    ) {
        let routes: Vec<_> =
            written.iter().enumerate().map(|(at, path)| Arc::new(samples::route(&format!("r{at}"), path))).collect();
        if let Ok(matcher) = Matcher::new(&routes) {
            let headers = HeaderMap::new();
            for path in &asked {
                let facts = RequestFacts { method: &Method::GET, host: "shop", path, query: "", headers: &headers };
                let fitting = routes.iter().enumerate().filter(|(_, route)| miss(&route.conditions, &facts).is_none());
                let best = fitting.min_by_key(|(_, route)| Precedence::of(&route.conditions)).map(|(index, _)| index);
                prop_assert_eq!(matcher.find(&facts), best, "{}", path);
            }
        }
    }
}

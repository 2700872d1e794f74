//! Routes files that are wrong for certain, each in a way of its own: for whoever must refuse them all.

use std::fmt::Write as _;

/// One of them.
pub(crate) struct Invalid {
    /// What is wrong with it.
    pub(crate) what: &'static str,
    /// The file.
    pub(crate) bytes: Vec<u8>,
}

/// Mistakes in the keys of a route that is otherwise right.
const ROUTE_KEYS: &[(&str, &str)] = &[
    ("a weight above all", "weight: 101%"),
    ("a weight below none", "weight: -1%"),
    ("a weight without a sign", "weight: 5"),
    ("a weight with three decimals", "weight: 5.005%"),
    ("a weight in words", "weight: half"),
    ("a weight of nothing", "weight:"),
    ("a weight as a list", "weight: [5%]"),
    ("a weight beside locate", "weight: 5%, locate: {param: x, rules: [], else: legacy}"),
    ("an unknown key", "wieght: 5%"),
    ("a key of YAML 1.1", "on: true"),
    ("a key twice", "owner: a, owner: b"),
    ("a merge key", "<<: {weight: 5%}"),
    ("an unknown journey", "journey: nowhere"),
    ("an unknown owner of data", "data: both"),
    ("a deadline without a unit", "deadline: 60"),
    ("a deadline in parts", "deadline: 1.5s"),
    ("a deadline of centuries", "deadline: 100000d"),
    ("a size in parts", "max_body: 1.5MiB"),
    ("a size of too much", "max_body: 99999999GiB"),
    ("a header of ours", "request_headers: {set: {strangler-side: x}}"),
    ("the host as a header", "request_headers: {set: {Host: x}}"),
    ("a hop-by-hop header", "response_headers: {remove: [connection]}"),
    ("a header that is none", "request_headers: {remove: ['a b']}"),
    ("a header value with a line break", "request_headers: {set: {x-a: \"a\\nb\"}}"),
    ("an unknown fallback", "fallback: always"),
    ("a fallback on nothing known", "fallback: {when: [4xx]}"),
    ("a fallback where data forbids it", "data: extracted, fallback: unsent"),
    ("a status that is none", "success: {status: [600]}"),
    ("a status class that is none", "success: {status: [6xx]}"),
    ("a shadow of a maybe", "shadow: maybe"),
    ("a shadow of writes", "shadow: {methods: [POST]}"),
    ("a shadow without a bound", "shadow: {timeout: 0s}"),
    ("a shadow of too many", "shadow: {max_in_flight: 10001}"),
    ("a comparison of a number", "compare: 5"),
    ("a rule that forgives nothing", "compare: {rules: [{path: /a}]}"),
    ("a rule with no pointer", "compare: {rules: [{path: a, ignore: true}]}"),
    ("a yes", "compare: {rules: [{path: /a, ignore: yes}]}"),
    ("a parameter that is not there", "locate: {param: y, rules: [], else: legacy}"),
    ("a range the wrong way round", "locate: {param: x, rules: [{min: 2, max: 1, to: legacy}], else: legacy}"),
    ("a side that is none", "locate: {param: x, rules: [], else: both}"),
    ("something of a later version", "retired: true"),
    ("something of a later version, switched off", "retired: false"),
    ("a tag", "owner: !secret x"),
    ("an alias of nothing", "owner: *nobody"),
    ("an alias of itself", "compare: &a {rules: [*a]}"),
    ("a map for a key", "? {a: b} : c"),
    ("an override that is cookies", "override: {header: cookie}"),
    ("a form that is a maybe", "affinity: {form: maybe}"),
    ("an affinity to nothing known", "affinity: {cookie: x}"),
    ("a form where data decides", "affinity: {form: true}, locate: {param: x, rules: [], else: legacy}"),
    ("an idempotency key that is cookies", "idempotency: {header: cookie}"),
    ("an unknown way with a killed key", "idempotency: {on_kill: ignore}"),
];

/// Mistakes in what a request must look like.
const MATCHES: &[(&str, &str)] = &[
    ("a path without a slash", "a"),
    ("a path with a query", "\"/a?b=c\""),
    ("a path with dots", "/a/../b"),
    ("half a parameter", "\"/a/{x\""),
    ("a parameter twice", "\"/a/{x}/{x}\""),
    ("a rest that is not last", "\"/a/{*x}/b\""),
    ("a method in small letters", "get /a"),
    ("a method with a slip", "GTE /a"),
    ("a tunnel", "CONNECT /a"),
    ("no path", "{methods: [GET]}"),
    ("two paths", "{path: /a, regex: '^/a$'}"),
    ("a bad expression", "{path: {regex: '^/a($'}}"),
    ("an expression without an anchor", "{regex: '/a'}"),
    ("an expression of a size", "{regex: '^/((a{100}){100}){100}$'}"),
    ("a host with a port", "{path: /a, host: 'a.example:80'}"),
    ("a wildcard in the middle", "{path: /a, host: 'a.*.example'}"),
    ("two conditions on one value", "{path: /a, headers: {x-a: {prefix: a, contains: b}}}"),
    ("a condition on nothing", "{path: /a, cookies: {a: {}}}"),
    ("a bad expression in a condition", "{path: /a, query: {a: {regex: '('}}}"),
    ("a braced path without quotes", "{x}"),
];

/// Services that are none.
const TARGETS: &[(&str, &str)] = &[
    ("an unknown upstream", "prizing"),
    ("a URL without a scheme", "127.0.0.1:8102"),
    ("a URL with a path", "http://127.0.0.1:8102/api"),
    ("a URL with a password", "http://u:p@127.0.0.1:8102"),
    ("a URL with no port in it", "http://127.0.0.1:"),
    ("a URL with port 0", "http://127.0.0.1:0"),
    ("a URL with too large a port", "http://127.0.0.1:65536"),
    ("an address that is none", "http://127.0.0.256:80"),
    ("a scheme that is none", "ftp://127.0.0.1:8102"),
    ("a scheme of a later version", "h3://127.0.0.1:8102"),
    ("an upstream of nothing", "{}"),
];

/// All of them; `legacy` is a URL. Each has one mistake.
pub(crate) fn all(legacy: &str) -> Vec<Invalid> {
    let head = format!("version: 1\nlegacy: {legacy}\nroutes:\n");
    let route = |name: &str, matching: &str, target: &str, keys: &str| {
        format!("  - {{name: {name}, match: {matching}, extracted: {target}{keys}}}\n")
    };
    let good = route("good", "\"GET /good/{x}\"", legacy, "");
    let mut all = Vec::new();
    let mut add = |what, bytes: Vec<u8>| all.push(Invalid { what, bytes });
    for (what, keys) in ROUTE_KEYS {
        let bad = route("bad", "\"GET /bad/{x}\"", legacy, &format!(", {keys}"));
        add(what, format!("{head}{good}{bad}").into_bytes());
    }
    for (what, matching) in MATCHES {
        add(what, format!("{head}{good}{}", route("bad", matching, legacy, "")).into_bytes());
    }
    for (what, target) in TARGETS {
        add(what, format!("{head}{good}{}", route("bad", "/bad", target, "")).into_bytes());
    }
    for (what, name) in [
        ("a name twice", "good"),
        ("a reserved name", "fall-through"),
        ("a name in capitals", "Bad"),
        ("a name of nothing", "''"),
        ("a name of a length", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ] {
        add(what, format!("{head}{good}{}", route(name, "/bad", legacy, "")).into_bytes());
    }
    add("a tie", format!("{head}{good}{}", route("bad", "\"GET,HEAD /good/{y}\"", legacy, "")).into_bytes());
    add("a route without a name", format!("{head}{good}  - {{match: /bad, extracted: {legacy}}}\n").into_bytes());
    add("a route without a service", format!("{head}{good}  - {{name: bad, match: /bad}}\n").into_bytes());
    add("a removed route that is there", format!("removed: [good]\n{head}{good}").into_bytes());
    add("no version", format!("{head}{good}").replace("version: 1\n", "").into_bytes());
    add("another version", format!("{head}{good}").replace("version: 1\n", "version: 2\n").into_bytes());
    add("no monolith", format!("version: 1\nroutes:\n{good}").into_bytes());
    add("routes of nothing", head.clone().into_bytes());
    add("two documents", format!("{head}{good}---\n{head}{good}").into_bytes());
    add("an open bracket", format!("{head}{good}  - {{name: bad, match: /bad").into_bytes());
    add("an open quote", format!("{head}{good}  - {{name: \"bad").into_bytes());
    add("a tab for indentation", format!("{head}{good}\t- name: bad\n").into_bytes());
    add("bytes that are not UTF-8", [head.as_bytes(), good.as_bytes(), b"  # caf\xe9\n"].concat());
    add("a list", b"- version: 1\n".to_vec());
    add("a depth", format!("{head}{good}  - {}\n", "[".repeat(5_000)).into_bytes());
    add("an alias bomb", bomb(&format!("{head}{good}")).into_bytes());
    for (what, upstream) in [
        ("an upstream without endpoints", "{}"),
        ("an upstream with an empty list", "{endpoints: []}"),
        ("an endpoint twice", "{endpoints: ['http://a', 'http://a:80']}"),
        ("a negative count", "{endpoints: ['http://a'], max_connections: -1}"),
        ("a count of none", "{endpoints: ['http://a'], max_in_flight: 0}"),
        ("too many retries", "{endpoints: ['http://a'], retry: {times: 6}}"),
        ("an unknown balance", "{endpoints: ['http://a'], balance: random}"),
        ("TLS of a later version", "{endpoints: ['http://a'], tls: {}}"),
    ] {
        add(what, format!("upstreams: {{pricing: {upstream}}}\n{head}{good}").into_bytes());
    }
    for (what, journey) in [
        ("a key in no known place", "{sticky_on: [x-user-id]}"),
        ("a key in one place twice", "{sticky_on: [header:a, header:A]}"),
        ("an empty salt", "{salt: ''}"),
        ("a lease of a week", "{lease: 7d}"),
        ("a lease without a unit", "{lease: 30}"),
        ("a maybe", "{together: maybe}"),
    ] {
        add(what, format!("journeys: {{walk: {journey}}}\n{head}{good}").into_bytes());
    }
    all
}

fn bomb(base: &str) -> String {
    let mut text = format!("{base}x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n");
    for level in 1..12 {
        let all = [format!("*x{}", level - 1).as_str(); 10].join(", ");
        writeln!(text, "x{level}: &x{level} [{all}]").expect("memory");
    }
    text
}

//! What is refused, where, and in which words.

use std::fmt::Write as _;

use super::*;

/// A routes file with one route that has `keys` beside its name, match and service.
fn with(keys: &str) -> String {
    format!(
        "version: 1\nlegacy: http://127.0.0.1:1\nroutes:\n  - {{name: a, match: \"GET /a/{{x}}\", extracted: http://127.0.0.1:2, {keys}}}\n"
    )
}

fn said(text: &[u8]) -> Vec<String> {
    load(text).faults.iter().map(ToString::to_string).collect()
}

/// Refused, with a fault that begins so.
#[track_caller]
fn refused(text: impl AsRef<[u8]>, beginning: &str) {
    let loaded = load(text.as_ref());
    let said = said(text.as_ref());
    assert!(loaded.table.is_none(), "taken: {}", String::from_utf8_lossy(text.as_ref()));
    assert!(said.iter().any(|fault| fault.starts_with(beginning)), "{beginning}\n{said:#?}");
}

#[test]
fn a_weight_is_a_percentage() {
    refused(with("weight: 101%"), "4:75: error: routes[0].weight: `101%`: a weight lies between `0%` and `100%`");
    refused(with("weight: -1%"), "4:75: error: routes[0].weight: `-1%`: a weight lies between");
    refused(with("weight: 5"), "4:75: error: routes[0].weight: `5`: a weight is written with a `%`");
    refused(with("weight: 5.005%"), "4:75: error: routes[0].weight: `5.005%`: a weight is a number with at most two");
    refused(with("weight:"), "4:73: error: routes[0].weight: there is no value");
    assert_eq!(said(with("weight: \"5%\"").as_bytes()), [""; 0]);
}

#[test]
fn all_faults_are_said_at_once_in_the_order_of_the_file() {
    let text = "\
version: 1
legacy: monolit
upstreams:
  monolith: {endpoints: [http://127.0.0.1:8000], max_conections: 5}
  pricing: {endpoints: [ftp://127.0.0.1:1]}
routes:
  - {name: a, match: /a, extracted: pricing, weight: 101%}
  - {name: a, match: GTE /b, extracted: prizing}
  - {name: C, match: a, extracted: pricing, deadline: 5, shadow: maybe}
  - {name: d, match: '/d/{x}', extracted: pricing, journey: none}
  - {name: e, match: '/d/{y}', extracted: pricing}
";
    let said = said(text.as_bytes());
    let expect = [
        "2:9: error: legacy: there is no upstream `monolit`",
        "4:50: error: upstreams.monolith.max_conections: unknown key `max_conections`",
        "5:25: error: upstreams.pricing.endpoints[0]: `ftp://` is not spoken; expected `http://`, `https://`, `h2c://` or `h2://`",
        "7:54: error: routes[0].weight: `101%`: a weight lies between `0%` and `100%`",
        "8:12: error: routes[1].name: the name `a` is taken; every route needs its own",
        "8:22: error: routes[1].match: \"GTE\" is no method; they are written in capitals",
        "8:41: error: routes[1].extracted: there is no upstream `prizing`",
        "9:12: error: routes[2].name: `C`: 'C' cannot be in a name; use a-z, 0-9 and `-`",
        "9:22: error: routes[2].match: `a`: a path starts with `/`",
        "9:55: error: routes[2].deadline: `5`: a duration is a whole number with `ms`, `s`, `m`, `h` or `d`, as in `30s`",
        "9:66: error: routes[2].shadow: expected `true`, `false`, a part as in `25%`, or a map; found `maybe`",
        "10:61: error: routes[3].journey: there is no journey `none`",
        "11:12: error: routes[4].match: the routes `d` and `e` tie: one request could be both, and neither is narrower",
    ];
    assert_eq!(said, expect);
    let faults = load(text.as_bytes()).faults;
    let helps: Vec<&str> = faults.iter().filter_map(|fault| fault.help.as_deref()).collect();
    for help in [
        "did you mean `monolith`?",
        "did you mean `max_connections`?",
        "did you mean `GET`?",
        "did you mean `pricing`?",
    ] {
        assert!(helps.contains(&help), "{help}: {helps:?}");
    }
}

#[test]
fn a_tie_names_both_routes_and_both_places() {
    let text = "version: 1\nlegacy: http://127.0.0.1:1\nroutes:\n  - {name: a, match: \"GET /{x}\", extracted: http://127.0.0.1:2}\n  - {name: b, match: \"GET,POST /{y}\", extracted: http://127.0.0.1:2}\n";
    refused(text, "5:12: error: routes[1].match: the routes `a` and `b` tie");
    assert_eq!(load(text.as_bytes()).faults[0].also.as_ref().map(|(span, _)| (span.line, span.column)), Some((4, 12)));
}

#[test]
fn many_routes_on_one_path_that_differ_in_a_header_do_not_tie() {
    let mut text = String::from("version: 1\nlegacy: http://127.0.0.1:1\nroutes:\n");
    for tenant in 0..300 {
        writeln!(
            text,
            "  - {{name: t{tenant}, match: {{path: /a, methods: [GET, PUT], headers: {{x-tenant: t{tenant}}}}}, extracted: http://127.0.0.1:2}}"
        )
        .expect("memory");
    }
    assert_eq!(said(text.as_bytes()), [""; 0]);
    text.push_str("  - {name: twice, match: {path: /a, methods: [PUT], headers: {X-Tenant: t7}}, extracted: http://127.0.0.1:2}\n");
    refused(&text, "304:12: error: routes[300].match: the routes `t7` and `twice` tie");
    text.push_str(
        "  - {name: vague, match: {path: /a, methods: [PUT], headers: {other: t7}}, extracted: http://127.0.0.1:2}\n",
    );
    let ties = said(text.as_bytes());
    assert_eq!(ties.len(), 100, "a bound on what is said");
}

#[test]
fn an_upstream_that_could_not_work_is_refused() {
    let upstream = |keys: &str| format!("version: 1\nlegacy: a\nupstreams:\n  a: {{{keys}}}\n");
    for (keys, expect) in [
        ("endpoints: [http://a], tls: {ca: x}", "no endpoint is spoken to over TLS"),
        ("endpoints: [https://a], tls: {server_name: ''}", "must not be empty"),
        ("endpoints: [https://a], tls: {server_name: 'a b'}", "`a b` is not the name of a host"),
        ("endpoints: [https://a], tls: {client_cert: x}", "tls: `client_cert` needs `client_key`"),
        ("endpoints: [h2://a], tls: {client_key: x}", "tls: `client_key` needs `client_cert`"),
        ("endpoints: [h2://a], tls: {verify: false}", "unknown key `verify`"),
        ("endpoints: [http://a], health_check: {interval: 5s}", "`path` is missing"),
        ("endpoints: [http://a], health_check: {path: healthz}", "\"healthz\" is no path"),
        ("endpoints: [http://a], health_check: {path: /, interval: 50ms}", "at least 100 ms"),
        ("endpoints: [http://a], health_check: {path: /, healthy_after: 0}", "from 1 to 1000"),
        ("endpoints: [http://a], outlier_detection: {consecutive_failures: 0}", "from 1 to 1000"),
        ("endpoints: [http://a], outlier_detection: {eject_for: 0s}", "there must be a bound here"),
    ] {
        let said = said(upstream(keys).as_bytes());
        assert!(said.iter().any(|fault| fault.contains(expect)), "{keys}: {said:#?}");
    }
    for keys in
        ["breaker: always", "breaker: {error_ratio: 0%}", "breaker: {window: 500ms}", "breaker: {min_requests: 0}"]
    {
        assert!(load(with(keys).as_bytes()).table.is_none(), "{keys}");
    }
}

#[test]
fn what_an_upstream_and_a_breaker_say_is_what_holds() {
    let text = "\
version: 1
legacy: a
upstreams:
  a:
    endpoints: [https://one, h2://two:8443, h2c://three]
    health_check: {path: /healthz?deep=1}
    outlier_detection: {consecutive_failures: 3}
    tls: {server_name: api.internal}
routes:
  - {name: on, match: /on, extracted: a}
  - {name: some, match: /some, extracted: a, breaker: {min_requests: 7}}
  - {name: off, match: /off, extracted: a, breaker: never}
";
    let loaded = load(text.as_bytes());
    let table = loaded.table.expect("it is right");
    let upstream = &table.upstreams()["a"];
    let endpoints: Vec<String> = upstream.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["https://one:443", "h2://two:8443", "h2c://three:80"]);
    assert_eq!(upstream.tls.server_name.as_deref(), Some("api.internal"));
    let check = upstream.health_check.as_ref().expect("written");
    assert_eq!(
        (check.path.as_str(), check.healthy_after.get(), check.unhealthy_after.get()),
        ("/healthz?deep=1", 2, 3)
    );
    assert_eq!(upstream.outlier_detection.map(|detection| detection.consecutive_failures.get()), Some(3));
    let least: Vec<Option<u32>> =
        table.routes().iter().map(|route| route.breaker.map(|breaker| breaker.min_requests.get())).collect();
    assert_eq!(least, [Some(20), Some(7), None]);
}

#[test]
fn what_is_not_built_is_refused_as_such() {
    for (keys, what) in [
        ("retired: true", "retired"),
        ("target: 2027-03-01", "target"),
        ("brownout: [{at: x, for: 1m}]", "brownout"),
        ("shared_cache: keep", "shared_cache"),
    ] {
        let said = said(with(keys).as_bytes());
        let expect = format!("`{what}` is not supported yet");
        assert!(said.iter().any(|fault| fault.contains(&expect)), "{keys}: {said:?}");
    }
    refused(with("extracted: {upstream: a, rewrite: {}, x: y}").replace("extracted: http://127.0.0.1:2, ", ""), "4:");
}

#[test]
fn whom_a_rollout_asks_and_tells_must_make_sense() {
    for (keys, expect) in [
        ("hooks: [{key_file: k, when: [event]}]", "where to? `webhook` is missing"),
        ("hooks: [{webhook: 'https://a', webhook_file: b, key_file: k, when: [event]}]", "say the same"),
        ("hooks: [{webhook: 'https://a', when: [event]}]", "`key_file` is missing"),
        ("hooks: [{webhook: 'https://a', key_file: k, when: []}]", "on no occasion"),
        ("hooks: [{webhook: 'https://a', key_file: k, when: [pre_stp]}]", "expected one of `pre_step`"),
        ("hooks: [{webhook: 'https://a', key_file: k, when: [event], timeout: 6m}]", "at most 5 minutes"),
        ("notify: [{webhook: 'http://192.0.2.1/x'}]", "in the clear only loopback and private addresses"),
        ("notify: [{webhook: 'https://a', format: slak}]", "expected one of `json`, `slack`"),
        ("notify: [{webhok: 'https://a'}]", "unknown key `webhok`"),
        ("gates: {prometheus: [{query: up}]}", "forbids nothing"),
        ("gates: {prometheus: [{query: up, max: 1, min: 2}]}", "so no value would do"),
        ("gates: {prometheus: [{query: up, max: 1, every: 10ms}]}", "from 1s to an hour"),
        ("gates: {prometheus: [{query: up, max: 1, no_data: fail}]}", "expected one of `hold`, `pass`"),
        ("slo: {success: 100%}", "an objective lies between"),
    ] {
        let said = said(with(&format!("rollout: {{{keys}}}")).as_bytes());
        assert!(said.iter().any(|fault| fault.contains(expect)), "{keys}: {said:?}");
    }
}

#[test]
fn what_is_asked_again_and_copied_must_make_sense() {
    for (keys, expect) in [
        ("shadow: {unsafe: sandbox}", "`sandbox` needs an `upstream`"),
        ("shadow: {unsafe: sandbox, upstream: 'http://127.0.0.1:2'}", "one that users are served by"),
        ("shadow: {unsafe: sandbox, upstream: nowhere}", "there is no upstream `nowhere`"),
        ("shadow: {unsafe: verify_read}", "needs to know what to read"),
        ("shadow: {unsafe: {verify_read: {get: '/orders/7'}}}", "no place for what the write's answer says"),
        ("shadow: {unsafe: {verify_read: {}}}", "`get` is missing"),
        ("shadow: {unsafe: {verify_read: {get: '/orders/{json:/no}'}}}", "the route has no `compare`"),
        ("shadow: {unsafe: replay}", "expected one of `refuse`, `sandbox`, `dry_run`"),
        ("shadow: {safe_posts: [{graphql: query}]}", "`path` is missing"),
        ("shadow: {safe_posts: [{path: /g, graphql: mutation}]}", "expected one of `query`"),
        ("shadow: {breaker: {window: 10ms}}", "a window is at least `1s`"),
        ("compare: {a_a: {mode: always}}", "expected one of `on_mismatch`, `never`"),
        ("compare: {a_a: {sample: 101%}}", "101%"),
        ("compare: {a_a: {max_rps: 0}}", "0"),
        ("compare: {a_a: {order: fixed}}", "expected `random`"),
        ("compare: {recheck: {times: 6}}", "6"),
        ("compare: {recheck: {delay: 61s}}", "at most `60s`"),
        ("compare: {verdict: {alpha: 1.5}}", "no number between 0 and 1"),
        ("compare: {settle: 3}", "3"),
    ] {
        let said = said(with(keys).as_bytes());
        assert!(said.iter().any(|fault| fault.contains(expect)), "{keys}: {said:?}");
    }
    for keys in [
        "shadow: {unsafe: sandbox, upstream: 'http://127.0.0.1:9'}",
        "shadow: {unsafe: dry_run, breaker: never, safe_posts: [{path: /search}, {path: /graphql, graphql: query}]}",
        "shadow: {unsafe: {verify_read: {get: '/orders/{json:/order_no}'}}, breaker: {error_ratio: 50%, window: 30s}}, compare: true",
        "shadow: true, compare: {a_a: {mode: never, sample: auto, max_rps: 5, order: random}, settle: 0s, recheck: {times: 0, delay: 0s}}",
        "shadow: true, compare: {a_a: {sample: 2%}, verdict: {min_pairs: 200, alpha: 0.01, min_effect: 0.001, fdr: 0.05}}",
    ] {
        assert_eq!(said(with(keys).as_bytes()), Vec::<String>::new(), "{keys}");
    }
}

#[test]
fn what_is_done_anyhow_may_be_written_out() {
    for keys in [
        "compare: {during: [shadow, canary], status: exact, headers: {mode: listed}}, shadow: true",
        "compare: {body: {decode: [gzip, br, zstd], over_limit: hash}, json: {null_equals_absent: false, numeric: value}}, shadow: true",
        "shadow: {dispatch: concurrent, unsafe: refuse}",
        "fallback: never",
        "shadow: false, compare: false",
    ] {
        assert_eq!(said(with(keys).as_bytes()), [""; 0], "{keys}");
    }
}

#[test]
fn contradictions_are_refused() {
    let locate = "locate: {param: x, rules: [{min: 1, to: extracted}], else: legacy}";
    refused(with(&format!("{locate}, weight: 5%")), "4:143: error: routes[0].weight: `locate` decides");
    refused(with(&locate.replace("param: x", "param: y")), "4:83: error: routes[0].locate.param: `y` is no parameter");
    refused(with(&locate.replace("min: 1", "min: 5, max: 4")), "4:");
    refused(with("data: extracted, fallback: unsent"), "4:");
    assert_eq!(said(with("data: extracted, fallback: never").as_bytes()), [""; 0]);
    refused(
        with("weight: 5%").replace("routes:", "removed: [a]\nroutes:"),
        "3:11: error: removed[0]: the route `a` is said",
    );
}

#[test]
fn the_proxys_own_headers_are_not_to_be_changed() {
    for name in [
        "Host",
        "connection",
        "Content-Length",
        "transfer-encoding",
        "strangler-side",
        "X-Strangler-Foo",
        "te",
        "keep-alive",
    ] {
        refused(with(&format!("request_headers: {{set: {{{name}: b}}}}")), "4:");
        refused(with(&format!("response_headers: {{remove: [{name}]}}")), "4:");
    }
    refused(with("request_headers: {set: {x-a: \"b\\nc\"}}"), "4:");
    refused(with("request_headers: {set: {x-a: b, X-A: c}}"), "4:");
}

#[test]
fn an_unknown_key_is_refused_everywhere() {
    for (keys, expect) in [
        ("shaddow: true", "did you mean `shadow`?"),
        ("shadow: {smaple: 5%}", "did you mean `sample`?"),
        ("compare: {ruls: []}", "did you mean `rules`?"),
        ("fallback: {usafe: never}", "did you mean `unsafe`?"),
        ("override: {heder: x}", "did you mean `header`?"),
        ("<<: {weight: 5%}", "write the keys out, or use `defaults:`"),
    ] {
        let faults = load(with(keys).as_bytes()).faults;
        assert!(faults.iter().any(|fault| fault.help.as_deref() == Some(expect)), "{keys}: {faults:?}");
    }
}

#[test]
fn text_that_is_no_document_is_refused_with_its_line() {
    refused("", "error: the file is empty");
    refused("# nothing\n\n", "error: the file is empty");
    refused("version: 1\nlegacy: [a", "2:");
    refused("version: 1\nlegacy: \"a", "2:");
    refused("version: 1\n\tlegacy: a\n", "1:");
    refused("version: 1\nlegacy: http://a\n---\nversion: 1\n", "3:");
    refused("version: 1\nversion: 1\nlegacy: http://a\n", "2:1: error: version: the key `version` is there twice");
    refused(b"version: 1\nlegacy: http://a # \xff\n", "2:20: error: the byte 0xff is not UTF-8");
    refused("version: 2\nlegacy: http://a\n", "1:10: error: version: version 2 is not known");
    refused("legacy: http://a\n", "1:1: error: `version` is missing");
    refused("version: 1\n", "1:1: error: `legacy` is missing");
    refused("version: 1\nlegacy: http://a\nroutes:\n", "3:");
    refused("[1, 2]", "1:1: error: expected a map, found a list");
    refused("version: 1\nlegacy: !url http://a\n", "2:");
    refused("version: 1\nlegacy: *nowhere\n", "2:");
    refused("version: 1\nlegacy: &a [*a]\n", "2:");
    refused("version: 1\n? {a: b}\n: c\n", "2:");
    refused(format!("version: 1\nlegacy: {}", "[".repeat(100)), "2:");
    refused(format!("version: 1\nlegacy: {}", "[".repeat(100_000)), "2:");
    let deep: String = (0..70).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    refused(deep, "65:");
}

#[test]
fn an_alias_bomb_is_refused_before_it_goes_off() {
    let mut bomb = String::from("version: 1\nlegacy: http://a\nx0: &x0 [a, a, a, a, a, a, a, a, a, a]\n");
    for level in 1..12 {
        let below = format!("*x{}", level - 1);
        let all = [below.as_str(); 10].join(", ");
        writeln!(bomb, "x{level}: &x{level} [{all}]").expect("memory");
    }
    refused(bomb, "8:");
    // A tower of single aliases is no bomb, and is too deep.
    let mut tower = String::from("version: 1\nx0: &x0 [a]\n");
    for level in 1..80 {
        writeln!(tower, "x{level}: &x{level} [*x{}]", level - 1).expect("memory");
    }
    let said = said(tower.as_bytes());
    assert!(said[0].contains("more than 64 levels deep"), "{:?}", said[0]);
}

#[test]
fn an_alias_stands_for_what_it_names() {
    let text = "version: 1\nlegacy: http://127.0.0.1:1\nroutes:\n  - {name: a, match: /a, extracted: http://127.0.0.1:2, shadow: &s {max_rps: 7}}\n  - {name: b, match: /b, extracted: http://127.0.0.1:2, shadow: *s}\n";
    let loaded = load(text.as_bytes());
    assert_eq!(loaded.faults, []);
    let table = loaded.table.expect("a table");
    assert_eq!(table.routes()[0].shadow, table.routes()[1].shadow);
}

#[test]
fn warnings_refuse_nothing() {
    let text = "\
version: 1
legacy: monolith
upstreams:
  monolith: {endpoints: [http://127.0.0.1:8000]}
  idle: {endpoints: [http://127.0.0.1:8001]}
journeys: {walk: {}}
defaults: {shadow: {max_rps: 5}}
routes:
  - {name: a, match: 'GET /a/{*rest}', extracted: http://127.0.0.1:2, compare: true}
  - {name: b, match: {path: {regex: '^/a/[0-9]+$'}, methods: [GET]}, extracted: http://127.0.0.1:2}
  - {name: c, match: {path: {regex: '^/a?[0-9]+$'}, methods: [GET]}, extracted: http://127.0.0.1:2}
  - {name: d, match: /d, extracted: monolith}
";
    let loaded = load(text.as_bytes());
    assert!(loaded.table.is_some());
    let said = said(text.as_bytes());
    let expect = [
        "5:3: warning: upstreams.idle: nothing uses the upstream `idle`",
        "6:12: warning: journeys.walk: no route is on the journey `walk`",
        "7:20: warning: defaults.shadow: no route writes `shadow`, so this fills nothing; defaults switch nothing on",
        "9:80: warning: routes[0].compare: nothing is compared: the route has no `shadow`, and its weight gives all to one side",
        "10:12: warning: routes[1].match: no request reaches `b`: `a` takes all of them first",
        "12:12: warning: routes[3].extracted: `extracted` is the monolith itself, so the weight changes nothing",
    ];
    assert_eq!(said, expect);
}

#[test]
fn urls_become_upstreams_with_names_of_their_own() {
    let text = "\
version: 1
legacy: http://a-b:80
upstreams: {c-1-80: {endpoints: [http://elsewhere]}}
routes:
  - {name: a, match: /a, extracted: http://a.b}
  - {name: b, match: /b, extracted: 'http://c.1:80/'}
  - {name: c, match: /c, extracted: c-1-80}
  - {name: d, match: /d, extracted: 'http://[::1]:81'}
  - {name: e, match: /e, extracted: 'http://[::1]:81'}
";
    let table = load(text.as_bytes()).table.expect("a table");
    assert_eq!(table.upstreams().len(), 5);
    let names: Vec<&str> = table.routes().iter().map(|route| route.extracted.name.as_str()).collect();
    assert!(names[0].starts_with("a-b-80-") && table.legacy().name.as_str().starts_with("a-b-80-"));
    assert_ne!(names[0], table.legacy().name.as_str());
    assert!(names[1].starts_with("c-1-80-"));
    assert_eq!(&names[2..], ["c-1-80", "--1-81", "--1-81"]);
}

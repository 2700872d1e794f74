//! The loader from text to table.

mod cut;
mod faults;
mod keep;
mod rollout;

use std::fs;
use std::path::PathBuf;

use super::*;

/// The file that the repository ships.
pub(super) fn shipped() -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("routes.yaml")).expect("it is shipped")
}

#[test]
fn the_shipped_file_loads_without_a_word() {
    let loaded = load(shipped().as_bytes());
    assert_eq!(loaded.faults, []);
    let table = loaded.table.expect("a table");
    let weights: Vec<String> = table.routes().iter().map(|route| format!("{} {}", route.name, route.weight)).collect();
    assert_eq!(weights, ["cart-total 10%", "prices 0%", "product-detail 0%", "product-list 0%", "pay 100%"]);
    let cart = table.routes()[0].compare.as_ref().expect("compared");
    assert_eq!(cart.keep_values.len(), 4);
}

#[test]
fn a_large_file_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("routes.yaml");
    // Sparse: it takes no room on the disk, and would take 100 MiB of memory.
    fs::File::create(&path).expect("made").set_len(100 << 20).expect("stretched");
    assert!(matches!(read(&path), Err(ReadError::TooLarge { .. })));
    fs::File::create(&path).expect("made").set_len(yaml::BYTES_MAX as u64).expect("stretched");
    assert_eq!(read(&path).expect("just small enough").len(), yaml::BYTES_MAX);
}

#[test]
fn what_is_no_file_is_refused_and_nothing_waits_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(matches!(read(dir.path()), Err(ReadError::NotAFile { .. })));
    assert!(matches!(read(&dir.path().join("none")), Err(ReadError::Read { .. })));
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success());
    assert!(matches!(read(&pipe), Err(ReadError::NotAFile { .. })));
}

#[test]
fn the_short_form_loads() {
    let text = r#"
version: 1
legacy: http://127.0.0.1:8000                     # a URL or an upstream's name
upstreams:
  pricing: {endpoints: [http://127.0.0.1:8102]}
  payment: {endpoints: [http://127.0.0.1:8103]}
routes:
  - {name: cart-total, match: "GET /api/v1/carts/{cart_id}/total", extracted: http://127.0.0.1:8102, weight: 5%}
  - {name: prices, match: "GET /api/v1/products/{*rest}", extracted: pricing, shadow: 25%, compare: {rules: [{path: /as_of, ignore: true}]}}
  - {name: pay, match: "POST /api/v1/payments", extracted: payment, weight: 100%, data: synced, fallback: unsent}
"#;
    let loaded = load(text.as_bytes());
    assert_eq!(loaded.faults, []);
    let table = loaded.table.expect("a table");
    assert_eq!(table.routes().len(), 3);
    assert_eq!(table.upstreams().len(), 4);
    assert_eq!(table.legacy().name.as_str(), "127-0-0-1-8000");
}

#[test]
fn the_long_form_loads() {
    let text = r#"
version: 1
upstreams:
  monolith:
    endpoints: ["http://127.0.0.1:8000", "http://[::1]:8000"]
    host: preserve
    balance: round_robin
    timeouts: {connect: 1s, response_header: 30s, idle: 0s}
    max_connections: 256
    max_in_flight: 1024
    fallback_share: 50%
    retry: {times: 1, when: [connect_failure, reset_before_response], budget: 20%}
  pricing: {endpoints: [http://pricing:8102], host: upstream, balance: least_requests}
legacy: monolith
journeys:
  checkout: {sticky_on: ["header:x-user-id", "cookie:SHOPSID"], salt: checkout-2026}
defaults: {compare: {keep: {per_signature: 7}}, fallback: {max_body: 64KiB}, shadow: {max_rps: 9}}
removed: [old-route]
routes:
  - name: cart-total
    owner: team-pricing
    journey: checkout
    match:
      host: shop.example.com
      path: /api/v1/carts/{cart_id}/total
      methods: [GET]
      headers: {accept: {contains: vnd.shop.v2}, x-version: 1.10}
      query: {currency: EUR}
      cookies: {beta: "1"}
    extracted: {upstream: pricing}
    data: legacy
    weight: 5%
    deadline: 60s
    override: {header: strangler-side}
    request_headers: {set: {x-a: b}, remove: [x-c]}
    response_headers: {set: {x-a: b}, remove: [x-c]}
    fallback: {when: [connect_failure, timeout, 5xx], unsafe: unsent}
    success: {status: [2xx, 3xx, 404]}
    max_body: 10MiB
    shadow: {sample: 25%, methods: [GET, HEAD], dispatch: concurrent, max_in_flight: 100, timeout: 5s, max_request_body: 64KiB, never: [/logout, /auth/**], unsafe: refuse}
    compare: {status: exact, headers: {mode: listed, listed: [content-type]}, body: {max_bytes: 1MiB, decode: [gzip, br, zstd], over_limit: hash}, json: {array_order: strict}, rules: [{path: /**/updated_at, ignore: true}], keep: {values: [/total_cents], max_age: 24h}}
  - name: orders
    match: "GET /api/v1/orders/{order_no}"
    extracted: pricing
    locate: {param: order_no, rules: [{min: 10000000, to: extracted}], else: legacy}
  - {name: odd, match: {path: {regex: "^/odd/[0-9]+$"}}, extracted: pricing, data: extracted}
"#;
    let loaded = load(text.as_bytes());
    assert_eq!(loaded.faults, []);
    let table = loaded.table.expect("a table");
    let route = &table.routes()[0];
    assert_eq!(route.weight.basis_points(), 500);
    assert_eq!(&*route.salt, "checkout-2026");
    assert_eq!(route.fallback.map(|fallback| fallback.max_body), Some(64 << 10));
    assert_eq!(route.shadow.as_ref().map(|shadow| (shadow.max_rps, shadow.sample.basis_points())), Some((9, 2_500)));
    assert_eq!(route.compare.as_ref().map(|compare| compare.keep_per_signature), Some(7));
    assert!(route.success.contains(404) && !route.success.contains(500));
    assert_eq!(table.legacy().timeouts.idle, None);
    assert_eq!(table.routes()[2].fallback, None);
}

#[test]
fn a_comparison_rule_that_ran_out_is_warned_of_where_it_stands() {
    let text = "version: 1
legacy: http://127.0.0.1:1
routes:
  - name: cart
    match: GET /cart
    extracted: http://127.0.0.1:2
    shadow: true
    compare:
      rules:
        - {path: /a, ignore: true, until: 2999-12-31}
        - {path: /b, expect: missing, until: 2020-02-29}
";
    let loaded = load(text.as_bytes());
    assert!(loaded.table.is_some(), "a warning refuses nothing");
    let [fault] = loaded.faults.as_slice() else { panic!("one warning: {:?}", loaded.faults) };
    assert_eq!((fault.severity, fault.span.line), (Severity::Warning, 11));
    assert_eq!(fault.path, "routes[0].compare.rules[1]");
    assert!(fault.message.contains("ran out on 2020-02-29"), "{}", fault.message);
}

//! The loader from outside: held against another reader of YAML, against its own schema, and against what must be refused.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::json;
use strangler::config::{load, yaml};
use strangler_core::fault::Severity;
use strangler_core::schema::schema;
use strangler_core::tree::{Kind, Node};

use crate::support::invalid_routes;

#[test]
fn files_that_are_wrong_for_certain_are_refused_with_a_line() {
    let all = invalid_routes::all("http://127.0.0.1:8000");
    let kinds: BTreeSet<&str> = all.iter().map(|invalid| invalid.what).collect();
    assert!(kinds.len() == all.len() && kinds.len() >= 100, "{} kinds", kinds.len());
    for invalid in &all {
        let shown = String::from_utf8_lossy(&invalid.bytes[..invalid.bytes.len().min(500)]);
        let loaded = load(&invalid.bytes);
        assert!(loaded.table.is_none(), "{} was taken:\n{shown}", invalid.what);
        let has_line = loaded.faults.iter().any(|fault| fault.severity == Severity::Error && fault.span.line > 0);
        assert!(has_line, "{}: {:?}\n{shown}", invalid.what, loaded.faults);
    }
}

/// What both readers must agree on. Numbers are compared as what they are, since one of them keeps no spelling.
fn as_value(node: &Node) -> serde_yaml::Value {
    match &node.kind {
        Kind::Null => serde_yaml::Value::Null,
        Kind::Bool { value, .. } => serde_yaml::Value::Bool(*value),
        Kind::Number(text) => serde_yaml::from_str(text).expect("a number"),
        Kind::String(text) => serde_yaml::Value::String(text.to_string()),
        Kind::Seq(items) => serde_yaml::Value::Sequence(items.iter().map(as_value).collect()),
        Kind::Map(entries) => {
            let pairs = entries.iter().map(|entry| ((*entry.key).into(), as_value(&entry.value)));
            serde_yaml::Value::Mapping(pairs.collect())
        }
    }
}

/// Texts that readers of YAML have read in many ways.
fn texts() -> impl Strategy<Value = String> {
    let odd = [
        "",
        " ",
        "yes",
        "no",
        "on",
        "off",
        "y",
        "~",
        "null",
        "true",
        "True",
        "1",
        "1.10",
        "1e3",
        "0x1F",
        "0o17",
        "017",
        "1_000",
        ".5",
        "-1",
        "+1",
        ".inf",
        ".nan",
        "5%",
        "30s",
        "12:30:45",
        "2026-12-01",
        "- a",
        "a: b",
        "#a",
        "a #b",
        "{a}",
        "[a]",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a`",
        "'",
        "\"",
        "a\nb",
        "a\n",
        "\na",
        "a\tb",
        "\\",
        "<<",
        "=",
        "---",
        "...",
        "é",
        "日本",
        "\u{1f600}",
        "a\\nb",
        "x: |",
    ];
    prop_oneof![
        proptest::sample::select(odd.to_vec()).prop_map(str::to_owned),
        "[a-zA-Z0-9 _./:%#{}\\[\\]&*!|>'\"-]{0,12}",
        "\\PC{0,6}",
    ]
}

fn documents() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<u32>().prop_map(|value| json!(f64::from(value) / 64.0)),
        texts().prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| json!(items)),
            prop::collection::btree_map(texts(), inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

fn weights() -> impl Strategy<Value = String> {
    (0u16..=10_000)
        .prop_map(|points| strangler_core::weight::Weight::from_basis_points(points).expect("in range").to_string())
}

/// Keys of a route, each of them right.
fn route_keys() -> impl Strategy<Value = serde_json::Map<String, serde_json::Value>> {
    let optional = |key: &'static str, values: Vec<serde_json::Value>| {
        prop::option::of(proptest::sample::select(values)).prop_map(move |value| (key, value))
    };
    let fixed = (
        optional("owner", vec![json!("team"), json!("yes"), json!("1.10")]),
        optional("journey", vec![json!("walk")]),
        optional("deadline", vec![json!("60s"), json!("0s"), json!("1500ms")]),
        optional("override", vec![json!({"header": "strangler-side"})]),
        optional("request_headers", vec![json!({"set": {"x-a": "b"}, "remove": ["x-c"]}), json!({})]),
        optional(
            "fallback",
            vec![json!("never"), json!("unsent"), json!({"when": ["5xx"], "unsafe": "never", "max_body": 4096})],
        ),
        optional("success", vec![json!({"status": ["2xx", 404]})]),
        optional("max_body", vec![json!("10MiB"), json!(1024)]),
        optional(
            "shadow",
            vec![
                json!(true),
                json!(false),
                json!("25%"),
                json!({"methods": ["GET"], "never": ["/logout", "/a/**"], "timeout": "1s"}),
            ],
        ),
        optional(
            "compare",
            vec![
                json!(true),
                json!({"status": "exact", "json": {"null_equals_absent": false}}),
                json!({"rules": [{"path": "/**/at", "ignore": true}], "keep": {"values": ["/total"], "per_signature": 3}}),
                json!({"headers": {"mode": "listed", "listed": ["etag"]}, "body": {"decode": ["zstd", "gzip", "br"]}}),
            ],
        ),
    );
    let weight = prop::option::of(weights()).prop_map(|weight| ("weight", weight.map(|weight| json!(weight))));
    (fixed, weight).prop_map(|((a, b, c, d, e, f, g, h, i, j), weight)| {
        let all = [a, b, c, d, e, f, g, h, i, j, weight];
        all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    })
}

fn configurations() -> impl Strategy<Value = serde_json::Value> {
    let matching = proptest::sample::select(vec![
        json!("GET /p/{x}"),
        json!("/p/{*rest}"),
        json!({"path": "/p/{a}/{b}", "host": "*.example.com", "methods": ["GET", "PURGE"]}),
        json!({"path": {"regex": "^/p/[0-9]+$"}, "headers": {"accept": {"contains": "v2"}, "x-flag": true}}),
        json!({"regex": "^/p/(?<x>[a-z]+)$", "query": {"a": {"present": false}}, "cookies": {"beta": "1"}}),
    ]);
    let target = proptest::sample::select(vec![
        json!("pricing"),
        json!("http://127.0.0.1:8102"),
        json!({"upstream": "pricing"}),
    ]);
    let routes = prop::collection::vec((matching, target, route_keys()), 0..6);
    routes.prop_map(|routes| {
        let routes: Vec<serde_json::Value> = routes
            .into_iter()
            .enumerate()
            .map(|(index, (matching, target, mut keys))| {
                // A place of its own for each, so that none ties.
                let text = matching.to_string().replace("/p", &format!("/p{index}"));
                keys.insert("name".to_owned(), json!(format!("route-{index}")));
                keys.insert("match".to_owned(), serde_json::from_str(&text).expect("still JSON"));
                keys.insert("extracted".to_owned(), target);
                json!(keys)
            })
            .collect();
        json!({
            "version": 1,
            "legacy": "monolith",
            "upstreams": {
                "monolith": {"endpoints": ["http://127.0.0.1:8000", "http://[::1]:8000"], "timeouts": {"idle": "0s"}},
                "pricing": {"endpoints": ["http://pricing"], "host": "upstream", "retry": {"times": 0, "when": [], "budget": "20%"}},
            },
            "journeys": {"walk": {"sticky_on": ["header:x-user-id", "cookie:SID"], "salt": "1.10", "lease": "45m"}},
            "defaults": {"shadow": {"max_rps": 5}, "compare": {}, "fallback": {}},
            "removed": ["gone"],
            "routes": routes,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn both_readers_read_the_same_document(document in documents()) {
        let text = serde_yaml::to_string(&document).expect("written");
        let theirs: serde_yaml::Value = serde_yaml::from_str(&text).expect("what it wrote itself");
        match yaml::read(text.as_bytes()) {
            (Some(ours), faults) => {
                prop_assert_eq!(&faults, &[]);
                prop_assert_eq!(as_value(&ours), theirs, "{}", text);
            }
            (None, faults) => prop_assert!(theirs.is_null(), "{:?}\n{}", faults, text),
        }
    }

    #[test]
    fn a_right_configuration_is_taken_and_is_what_both_readers_say(config in configurations()) {
        let text = serde_yaml::to_string(&config).expect("written");
        let (ours, faults) = yaml::read(text.as_bytes());
        prop_assert_eq!(&faults, &[]);
        let theirs: serde_yaml::Value = serde_yaml::from_str(&text).expect("what it wrote itself");
        prop_assert_eq!(as_value(&ours.expect("a tree")), theirs);
        let loaded = load(text.as_bytes());
        prop_assert_eq!(loaded.errors(), 0, "{:?}\n{}", loaded.faults, text);
        prop_assert!(loaded.table.is_some());
    }

    #[test]
    fn no_bytes_break_the_loader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let loaded = load(&bytes);
        prop_assert!(loaded.table.is_some() || loaded.errors() > 0);
    }

    #[test]
    fn no_scribble_in_a_right_file_breaks_the_loader(at in 0usize..4_000, length in 0usize..40, scribble in texts()) {
        let mut text = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/routes.yaml")).expect("it is shipped");
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        text.splice(at..end, scribble.into_bytes());
        let loaded = load(&text);
        prop_assert!(loaded.table.is_some() || loaded.errors() > 0);
    }
}

#[test]
fn right_configurations_are_right_by_the_schema() {
    let validator = jsonschema::draft202012::new(&schema()).expect("a schema");
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..200 {
        let config = configurations().new_tree(&mut runner).expect("a configuration").current();
        let wrong: Vec<String> = validator.iter_errors(&config).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:?}\n{config:#}");
    }
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/routes.yaml")).expect("it is shipped");
    let shipped: serde_json::Value = serde_yaml::from_str(&shipped).expect("YAML");
    assert!(validator.is_valid(&shipped));
    assert!(!validator.is_valid(&json!({"version": 1, "legacy": "http://a", "routs": []})));
    assert!(!validator.is_valid(&json!({"version": 1, "legacy": "http://a", "removed": "x"})));
}

mod agreement;
mod pairs;
mod properties;
mod reference;
mod types;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;

use super::rules::tests::pattern;
use super::*;
use crate::raw::RawConfig;
use crate::route::{CompareRule, RuleAction};
use crate::table::{Revision, RoutingTable};
use crate::tree::{self, Entry, Node};

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<http::HeaderName>().expect("a name"), value.parse().expect("a value"));
    }
    Answer {
        status: StatusCode::from_u16(status).expect("a status"),
        headers: map,
        trailers: None,
        body: Bytes::copy_from_slice(body.as_bytes()),
        body_bytes: body.len() as u64,
        is_truncated: false,
    }
}

fn seen(outcome: Outcome) -> Observation {
    Observation { outcome, first_byte: Duration::ZERO, total: Duration::ZERO }
}

fn policy(ignored: &[&str]) -> ComparePolicy {
    let rules = ignored.iter().map(|path| CompareRule::new(pattern(path), RuleAction::Ignore));
    ComparePolicy { rules: rules.collect(), ..ComparePolicy::default() }
}

fn today() -> Day {
    "2026-11-21".parse().expect("a day")
}

/// What stands in a document of JSON, as a reader of YAML would hand it on.
fn node(value: &serde_json::Value) -> Node {
    let kind = match value {
        serde_json::Value::String(text) => tree::Kind::String(text.as_str().into()),
        serde_json::Value::Array(items) => tree::Kind::Seq(items.iter().map(node).collect()),
        serde_json::Value::Object(members) => {
            let entry = |(key, value): (&String, &serde_json::Value)| Entry {
                key: key.as_str().into(),
                key_span: tree::Span::default(),
                value: node(value),
            };
            tree::Kind::Map(members.iter().map(entry).collect())
        }
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {
            tree::plain(&value.to_string())
        }
    };
    Node { kind, span: tree::Span::default() }
}

/// A `compare:` block as the loader takes it, or all that it has to say against it.
fn loaded(block: &str) -> Result<Arc<ComparePolicy>, String> {
    let block: serde_json::Value = serde_json::from_str(block).expect("a block");
    let file = serde_json::json!({
        "version": 1,
        "legacy": "http://127.0.0.1:1",
        "routes": [{"name": "r", "match": "GET /", "extracted": "http://127.0.0.1:2", "shadow": true, "compare": block}],
    });
    let (table, faults) = RoutingTable::parse(RawConfig::read(&node(&file), Vec::new()), Revision::of(b"test"));
    let said =
        || faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect::<Vec<_>>().join("\n");
    let route = table.and_then(|table| table.routes().first().cloned()).ok_or_else(said)?;
    Ok(route.compare.clone().expect("it compares"))
}

fn block(block: &str) -> Arc<ComparePolicy> {
    loaded(block).unwrap_or_else(|said| panic!("{block}: {said}"))
}

fn view(outcome: &Outcome) -> BodyView<'_> {
    match outcome {
        Outcome::Answered(answer) if answer.is_truncated => BodyView::Beginning(&answer.body),
        Outcome::Answered(answer) => BodyView::Whole(&answer.body),
        Outcome::Failed(_) => BodyView::Whole(b""),
    }
}

fn pair(legacy: Outcome, extracted: Outcome, policy: &ComparePolicy) -> Comparison {
    let (legacy, extracted) = (seen(legacy), seen(extracted));
    let bodies = Bodies { legacy: view(&legacy.outcome), extracted: view(&extracted.outcome) };
    compare(&legacy, &extracted, bodies, policy, today())
}

fn answers(legacy: Answer, extracted: Answer) -> Comparison {
    pair(Outcome::Answered(legacy), Outcome::Answered(extracted), &policy(&[]))
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const PDF: &[(&str, &str)] = &[("content-type", "application/pdf")];
const TEXT: &[(&str, &str)] = &[("content-type", "text/plain")];

fn json(legacy: &str, extracted: &str, ignored: &[&str]) -> Comparison {
    let [legacy, extracted] = [legacy, extracted].map(|body| Outcome::Answered(answer(200, JSON, body)));
    pair(legacy, extracted, &policy(ignored))
}

fn named(comparison: &Comparison) -> String {
    comparison.differences.iter().map(|d| format!("{}@{}", d.kind, d.path)).collect::<Vec<_>>().join(" ")
}

#[test]
fn json_differs_where_its_values_do() {
    for (legacy, extracted, expect) in [
        ("1", "1.0", ""),
        ("[1,2e0]", " [ 1.0 , 2 ] ", ""),
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, ""),
        (r#"{"id":9007199254740993}"#, r#"{"id":9007199254740992}"#, "value@/id"),
        (r#"{"total_cents":9781}"#, r#"{"total_cents":9782}"#, "value@/total_cents"),
        ("null", "{}", "type@"),
        (r#"{"a":"5"}"#, r#"{"a":5}"#, "type@/a"),
        (r#"{"a":null}"#, "{}", "missing@/a"),
        ("{}", r#"{"a":null}"#, "extra@/a"),
        (r#"{"a":[1]}"#, r#"{"a":[1,2]}"#, "array_length@/a"),
        ("[1,2,3]", "[3,2,1]", "array_order@"),
        (r#"[{"id":1},{"id":2}]"#, r#"[{"id":2.0},{"id":1}]"#, "array_order@"),
        ("[[1,2],[3,4]]", "[[2,1],[3,4]]", "array_order@/0"),
        ("[[1,2],[3,4]]", "[[3,4],[1,2]]", "array_order@"),
        ("[5,5]", "[5,7]", "value@/1"),
        ("[1,2,3]", "[2,1,4]", "value@/0 value@/1 value@/2"),
        (r#"{"a/b":1,"c~d":{"":1}}"#, r#"{"a/b":2,"c~d":{"":2}}"#, "value@/a~1b value@/c~0d/"),
        (r#"{"a":1,"a":2}"#, r#"{"a": 1,"a":2}"#, ""),
        (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#, "duplicate_key@/a"),
        (r#"{"a":1,"a":1}"#, r#"{"a":1}"#, "duplicate_key@/a"),
        (r#"{"x":1,"a":1}"#, r#"{"a":1,"x":1,"y":{"z":1}}"#, "extra@/y"),
    ] {
        assert_eq!(named(&json(legacy, extracted, &[])), expect, "{legacy} / {extracted}");
    }
}

#[test]
fn a_rule_forgives_its_subtree_and_nothing_beside_it() {
    for (legacy, extracted, ignored, expect) in [
        (r#"{"a":1,"b":1}"#, r#"{"a":2,"b":2}"#, "/a", "value@/b"),
        (r#"{"a":{"b":1}}"#, r#"{"a":[1]}"#, "/a", ""),
        (r#"{"a":1}"#, "{}", "/a", ""),
        (r#"{"id":1,"u":{"id":1}}"#, r#"{"id":2,"u":{"id":2}}"#, "/id", "value@/u/id"),
        (r#"{"id":1,"u":{"id":1}}"#, r#"{"id":2,"u":{"id":2}}"#, "/**/id", ""),
        (r#"[{"id":1,"k":1}]"#, r#"[{"id":2,"k":2}]"#, "/*/id", "value@/0/k"),
        (r#"[{"t":1,"k":1},{"t":2,"k":2}]"#, r#"[{"t":3,"k":2},{"t":4,"k":1}]"#, "/*/t", "array_order@"),
        (r#"[{"t":1,"k":1},{"k":2}]"#, r#"[{"k":2},{"k":1}]"#, "/*/t", "array_order@"),
        ("[1,2,3]", "[3,1,2]", "/0", "array_order@"),
        (r#"["a","b","c","d"]"#, r#"["a","x","c","y"]"#, "/1", "value@/3"),
        ("1", "2", "", ""),
    ] {
        let comparison = json(legacy, extracted, &[ignored]);
        assert_eq!(named(&comparison), expect, "{legacy} / {extracted} without {ignored}");
        let is_match = comparison.result == ComparisonResult::Match;
        assert_eq!(is_match, expect.is_empty());
    }
    let comparison = json(r#"{"a":1,"b":1}"#, r#"{"a":2,"b":1}"#, &["/x", "/a", "/a"]);
    assert_eq!((comparison.forgiven, comparison.rules_hit), (1, vec![1]));
}

#[test]
fn a_failing_side_is_a_difference_and_both_failing_alike_are_none() {
    let ok = || Outcome::Answered(answer(200, JSON, "1"));
    let status = |status| Outcome::Answered(answer(status, TEXT, "x"));
    let failed = Outcome::Failed;
    for (legacy, extracted, result, expect) in [
        (ok(), failed(Failure::Reset), ComparisonResult::Failed, "extracted_error@status"),
        (ok(), failed(Failure::Timeout), ComparisonResult::Failed, "extracted_timeout@status"),
        (failed(Failure::Connect), ok(), ComparisonResult::Failed, "legacy_error@status"),
        (failed(Failure::Timeout), ok(), ComparisonResult::Failed, "legacy_error@status"),
        (ok(), status(503), ComparisonResult::Failed, "extracted_error@status"),
        (status(500), ok(), ComparisonResult::Failed, "legacy_error@status"),
        (ok(), failed(Failure::Status(503)), ComparisonResult::Failed, "extracted_error@status"),
        (failed(Failure::Reset), failed(Failure::Reset), ComparisonResult::BothError, ""),
        (status(500), failed(Failure::Status(500)), ComparisonResult::BothError, ""),
        (status(500), status(500), ComparisonResult::BothError, ""),
        (status(500), status(503), ComparisonResult::Mismatch, "status@status"),
        (
            failed(Failure::Reset),
            failed(Failure::Timeout),
            ComparisonResult::Failed,
            "legacy_error@status extracted_timeout@status",
        ),
        (ok(), failed(Failure::Full), ComparisonResult::NotComparable(NotComparable::NotAsked), ""),
        (status(404), failed(Failure::Status(404)), ComparisonResult::NotComparable(NotComparable::Truncated), ""),
    ] {
        let label = format!("{legacy:?} / {extracted:?}");
        let comparison = pair(legacy, extracted, &policy(&[]));
        assert_eq!((comparison.result, named(&comparison).as_str()), (result, expect), "{label}");
    }
    let comparison = answers(answer(500, TEXT, "error"), answer(500, TEXT, "ERROR"));
    assert_eq!((comparison.result, named(&comparison).as_str()), (ComparisonResult::Mismatch, "value@"));
}

#[test]
fn a_status_is_exact_and_some_pairs_of_them_say_nothing() {
    for (legacy, extracted, result, expect) in [
        (200, 201, ComparisonResult::Mismatch, "status@status value@"),
        (200, 404, ComparisonResult::Mismatch, "status@status value@"),
        (200, 401, ComparisonResult::Mismatch, "auth_mismatch@status"),
        (403, 200, ComparisonResult::Mismatch, "auth_mismatch@status"),
        (401, 403, ComparisonResult::Mismatch, "status@status value@"),
        (304, 200, ComparisonResult::NotComparable(NotComparable::Conditional), ""),
        (206, 200, ComparisonResult::NotComparable(NotComparable::Range), ""),
        (304, 404, ComparisonResult::Mismatch, "status@status value@"),
    ] {
        let comparison = answers(answer(legacy, TEXT, "a"), answer(extracted, TEXT, "b"));
        assert_eq!((comparison.result, named(&comparison).as_str()), (result, expect), "{legacy} / {extracted}");
    }
}

#[test]
fn what_is_of_no_known_type_is_compared_by_its_bytes() {
    let html = &[("content-type", "text/html")];
    for (legacy, extracted, expect) in [
        (answer(200, html, "<p>a"), answer(200, html, "<p>a"), ""),
        (answer(200, PDF, "<p>a"), answer(200, PDF, "<p>b"), "value@"),
        (answer(200, JSON, "{}"), answer(200, html, "{ }"), "content_type@header:content-type value@"),
        (answer(200, JSON, "{}"), answer(200, JSON, "{"), "format@"),
        (answer(200, JSON, "{,}"), answer(200, JSON, "{"), "value@"),
        (answer(200, JSON, "{}"), answer(200, JSON, ""), "missing@"),
        (answer(200, JSON, ""), answer(200, JSON, "{}"), "extra@"),
        (answer(200, &[], "{\"a\":1}"), answer(200, &[], "{\"a\": 2}"), "value@/a"),
        (answer(200, &[], "a"), answer(200, &[], "b"), "value@"),
        (answer(200, JSON, "{}"), answer(200, &[], "{ }"), "missing@header:content-type"),
    ] {
        let label = format!("{:?} / {:?}", legacy.body, extracted.body);
        assert_eq!(named(&answers(legacy, extracted)), expect, "{label}");
    }
}

#[test]
fn a_body_that_was_cut_off_is_never_called_equal() {
    let cut = |headers, body: &str, bytes: u64| {
        let mut answer = Answer { is_truncated: true, body_bytes: bytes, ..answer(200, headers, body) };
        answer.headers.insert("content-length", bytes.into());
        answer
    };
    let chunked = |bytes| Answer { is_truncated: true, body_bytes: bytes, ..answer(200, TEXT, "abc") };
    let truncated = ComparisonResult::NotComparable(NotComparable::Truncated);
    for (legacy, extracted, result) in [
        (cut(TEXT, "abc", 9), cut(TEXT, "abc", 9), truncated),
        (cut(TEXT, "abc", 9), cut(TEXT, "abc", 8), ComparisonResult::Mismatch),
        (cut(TEXT, "abc", 9), cut(TEXT, "abd", 9), ComparisonResult::Mismatch),
        (cut(TEXT, "abc", 9), answer(200, TEXT, "ab"), ComparisonResult::Mismatch),
        (cut(TEXT, "abc", 9), answer(200, TEXT, "abcde"), truncated),
        (chunked(9), chunked(8), truncated),
        (cut(JSON, "[1,", 9), cut(JSON, "[2,", 8), truncated),
        (cut(JSON, "[1,", 9), answer(200, JSON, "[2]"), truncated),
    ] {
        let comparison = answers(legacy, extracted);
        assert_eq!((comparison.result, named(&comparison).as_str()), (result, "truncated@"));
    }
}

#[test]
fn a_body_that_cannot_be_read_is_never_called_equal() {
    let (left, right) = (answer(200, JSON, "a"), answer(200, JSON, "b"));
    let of = |legacy, extracted| {
        let (left, right) = (Outcome::Answered(left.clone()), Outcome::Answered(right.clone()));
        compare(&seen(left), &seen(right), Bodies { legacy, extracted }, &policy(&[]), today())
    };
    let unreadable = ComparisonResult::NotComparable(NotComparable::Unreadable);
    let (unknown, corrupt) =
        (BodyView::Unreadable(Unreadable::UnknownCoding), BodyView::Unreadable(Unreadable::Corrupt));
    assert_eq!(of(unknown, BodyView::Whole(b"1")).result, unreadable);
    assert_eq!(of(corrupt, corrupt).result, unreadable);
    assert_eq!(named(&of(BodyView::Whole(b"1"), corrupt)), "format@");
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert_eq!(json(&deep, "[]", &[]).result, unreadable);
}

#[test]
fn differences_are_kept_up_to_a_bound_and_all_counted() {
    let list = |from: u32| serde_json::to_string(&(from..from + 500).collect::<Vec<_>>()).expect("json");
    let comparison = json(&list(0), &list(1_000), &[]);
    assert_eq!((comparison.differences.len(), comparison.total), (DIFFERENCES_MAX, 500));
    assert_eq!(comparison.by_kind, [(Kind::Value, 500)]);
}

fn documents() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        (-3i64..3).prop_map(Into::into),
        "[ab]{0,2}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map("[abc]", inner, 0..4)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn no_bodies_break_the_comparer_and_only_equal_ones_match(
        left in r#"[\[\]{}:," 01ae.\-\\]{0,12}"#,
        right in r#"[\[\]{}:," 01ae.\-\\]{0,12}"#,
        is_json: bool,
    ) {
        let headers = if is_json { JSON } else { TEXT };
        let result = answers(answer(200, headers, &left), answer(200, headers, &right)).result;
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        // The other reader takes the last of two members with one key, and floats for numbers; so it may call more alike than we do.
        let may_match = left == right || (is_json && parsed(&left).is_some() && parsed(&right).is_some());
        prop_assert!(result != ComparisonResult::Match || may_match);
    }

    #[test]
    fn a_document_equals_itself_and_only_itself(left in documents(), right in documents(), rule in "(/(a|b|\\*|\\*\\*|0)){1,3}") {
        let (one, other) = (left.to_string(), right.to_string());
        let spaced = serde_json::to_string_pretty(&left).expect("json");
        prop_assert_eq!(json(&one, &spaced, &[]).result, ComparisonResult::Match);
        prop_assert_eq!(json(&one, &spaced, &[&rule]).result, ComparisonResult::Match);
        prop_assert_eq!(json(&one, &other, &[]).result == ComparisonResult::Match, left == right);
    }

    #[test]
    fn the_sides_can_be_exchanged(left in documents(), right in documents()) {
        let mirrored = |kind| {
            let pairs = [(Kind::Missing, Kind::Extra), (Kind::Extra, Kind::Missing)];
            pairs.into_iter().find(|(from, _)| *from == kind).map_or(kind, |(_, to)| to)
        };
        let there = json(&left.to_string(), &right.to_string(), &[]);
        let back = json(&right.to_string(), &left.to_string(), &[]);
        let there: Vec<_> = there.differences.into_iter().map(|d| (d.path, d.kind, d.legacy, d.extracted)).collect();
        let back: Vec<_> =
            back.differences.into_iter().map(|d| (d.path, mirrored(d.kind), d.extracted, d.legacy)).collect();
        prop_assert_eq!(there, back);
    }

    #[test]
    fn one_more_rule_never_finds_more(
        items in proptest::collection::vec(documents(), 1..5),
        others in proptest::collection::vec(documents(), 1..5),
        is_shuffled: bool,
        turn in 0usize..4,
        rule in "(/(a|b|\\*|\\*\\*|0|1)){1,3}",
    ) {
        let mut right = if is_shuffled { items.clone() } else { others };
        let turn = turn % right.len();
        right.rotate_left(turn);
        let [left, right] = [items, right].map(|items| serde_json::Value::from(items).to_string());
        let (without, with) = (json(&left, &right, &[]), json(&left, &right, &[&rule]));
        prop_assert!(with.total <= without.total, "{} with {rule}: {} against {}", named(&with), with.total, without.total);
    }
}

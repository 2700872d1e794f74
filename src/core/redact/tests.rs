use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::compare::rules::tests::pattern;
use crate::compare::{Bodies, BodyView, compare};
use crate::day::Day;
use crate::observation::{Answer, Failure, Observation, Outcome};
use crate::route::{ComparePolicy, CompareRule, HeaderPolicy, RuleAction};
use crate::shadow::tests::route;

const KEY: [u8; 32] = [7; 32];

fn seen(headers: &[(&str, &str)], body: &str) -> Observation {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
    }
    let answer = Answer {
        status: StatusCode::OK,
        headers: map,
        trailers: None,
        body: Bytes::copy_from_slice(body.as_bytes()),
        body_bytes: body.len() as u64,
        is_truncated: false,
    };
    Observation {
        outcome: Outcome::Answered(answer),
        first_byte: Duration::from_micros(1_500),
        total: Duration::from_millis(2),
    }
}

fn body(seen: &Observation) -> BodyView<'_> {
    match &seen.outcome {
        Outcome::Answered(answer) => BodyView::Whole(&answer.body),
        Outcome::Failed(_) => BodyView::Whole(b""),
    }
}

fn record(target: &str, legacy: &Observation, extracted: &Observation, keep: &[&str]) -> Divergence {
    const LISTED: [&str; 6] = ["content-type", "location", "authorization", "x-session-token", "set-cookie", "x-plain"];
    let listed = LISTED.into_iter().map(HeaderName::from_static).collect();
    let policy =
        ComparePolicy { headers: HeaderPolicy { listed, ..HeaderPolicy::default() }, ..ComparePolicy::default() };
    let bodies = Bodies { legacy: body(legacy), extracted: body(extracted) };
    let comparison = compare(legacy, extracted, bodies, &policy, Day::of_unix_ms(1_795_000_000_000));
    let policy = ComparePolicy { keep_values: keep.iter().map(|text| pattern(text)).collect(), ..policy };
    let redactor = Redactor::new(KEY);
    with_circumstances(target, |about| redactor.divergence(about, &comparison, legacy, extracted, &policy))
}

fn with_circumstances(target: &str, make: impl FnOnce(&Circumstances<'_>) -> Divergence) -> Divergence {
    make(&Circumstances {
        id: "0001",
        at_unix_ms: 1_795_000_000_000,
        route: &route(None),
        phase: Phase::Canary,
        answered_by: Side::Legacy,
        method: &Method::GET,
        request_headers: &HeaderMap::new(),
        request_bytes: 0,
        path_and_query: target,
        caller: Some(0xabc),
        trace_id: Some("0af7651916cd43dd8448eb211c80319c"),
        revision: &Revision::of(b"routes"),
        release: None,
    })
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

#[test]
fn the_record_names_the_place_and_shows_what_may_be_kept() {
    let legacy = seen(JSON, r#"{"total_cents":9781,"note":"for Ada","lines":[{"sku":"A"}]}"#);
    let extracted = seen(JSON, r#"{"total_cents":9782,"note":"for Bob","lines":[{"sku":"B"}]}"#);

    let record = record("/carts/4711/total?coupon=SAVE10&x", &legacy, &extracted, &["/total_cents", "/lines/*/sku"]);

    let shown: Vec<(&str, &str, &str, &str)> = record
        .differences
        .iter()
        .map(|d| {
            let text = |value: &'_ Option<String>| value.clone().unwrap_or_default().leak() as &str;
            (d.path.as_str(), d.kind.as_str(), text(&d.legacy), text(&d.extracted))
        })
        .collect();
    let redactor = Redactor::new(KEY);
    assert_eq!(
        shown,
        [
            ("/lines/0/sku", "value", "\"A\"", "\"B\""),
            ("/note", "value", redactor.text("for Ada").as_str(), redactor.text("for Bob").as_str()),
            ("/total_cents", "value", "9781", "9782"),
        ]
    );
    assert!(redactor.text("for Ada").starts_with("<str len=7 #"));
    assert_eq!(
        record.target,
        format!("/carts/{}/total?coupon={}&{}", redactor.text("4711"), redactor.text("SAVE10"), redactor.text("x"))
    );
    assert_eq!((record.template.as_str(), record.direction.as_str()), ("/carts/{id}/total", "legacy->extracted"));
    assert_eq!((record.phase.as_str(), record.legacy.ttfb_ms), ("canary", 1.5));
    let back: Divergence = serde_json::from_str(&serde_json::to_string(&record).expect("json")).expect("reads back");
    assert_eq!(back, record);
}

#[test]
fn equal_values_look_equal_and_another_key_hides_that() {
    let (one, other) = (Redactor::new(KEY), Redactor::new([8; 32]));
    assert_eq!(one.text("abc"), one.text("abc"));
    assert_ne!(one.text("abc"), one.text("abd"));
    assert_ne!(one.text("abc"), other.text("abc"));
    assert_ne!(one.hash("str", b"1", 8), one.hash("number", b"1", 8));
}

#[test]
fn credentials_are_dropped_and_other_headers_hashed() {
    let redactor = Redactor::new(KEY);
    let shown = |name: &'static str, value: &str| redactor.header(&HeaderName::from_static(name), value.as_bytes());
    for name in
        ["authorization", "cookie", "set-cookie", "proxy-authorization", "x-auth-token", "client-secret", "x-api-key"]
    {
        assert_eq!(shown(name, "abc"), "<dropped>", "{name}");
    }
    assert_eq!(shown("content-type", "Application/JSON; charset=\"UTF-8\""), "application/json; charset=utf-8");
    assert_eq!(shown("content-type", "text/html; boundary=x"), "text/html");
    assert!(shown("content-type", "x-secret/abc").starts_with("<str len=12 #"));
    assert!(shown("location", "/account").starts_with("<str len=8 #"));
}

#[test]
fn a_signature_does_not_depend_on_positions_or_values() {
    let of = |left: &str, right: &str| record("/", &seen(JSON, left), &seen(JSON, right), &[]).cause.signature;
    let first = of(r#"{"lines":[{"tax":1}]}"#, r#"{"lines":[{"tax":2}]}"#);
    assert_eq!(first, of(r#"{"lines":[{"tax":5},{"tax":1}]}"#, r#"{"lines":[{"tax":5},{"tax":9}]}"#));
    assert_ne!(first, of(r#"{"lines":[{"tax":1}]}"#, r#"{"lines":[{"tax":"1"}]}"#));
    assert_ne!(first, of(r#"{"lines":[{"net":1}]}"#, r#"{"lines":[{"net":2}]}"#));
    assert_eq!(of(r#"{"4f9a8c":1}"#, r#"{"4f9a8c":2}"#), of(r#"{"77b1ff":1}"#, r#"{"77b1ff":2}"#));
}

#[test]
fn a_side_that_failed_is_recorded_with_its_failure() {
    let failed = Observation {
        outcome: Outcome::Failed(Failure::Timeout),
        first_byte: Duration::from_secs(5),
        total: Duration::from_secs(5),
    };
    let record = record("/", &seen(JSON, "{}"), &failed, &[]);
    assert_eq!((record.extracted.status, record.extracted.failure.as_deref()), (None, Some("timeout")));
    assert_eq!(record.differences[0].kind, "extracted_timeout");
    assert_eq!(record.result, "failed");
}

#[test]
fn what_an_element_is_paired_by_and_what_a_page_says_is_hidden() {
    const SECRET: &str = "4f9a8c77b1ff";
    let list = |value: &str| format!(r#"[{{"id":"{SECRET}","a":"{value} {SECRET}"}},{{"id":"x{SECRET}"}}]"#);
    let page =
        |value: &str| format!("<p data-{SECRET}={SECRET}{value}>{value}{SECRET}</p><x-{SECRET}>{value}</x-{SECRET}>");
    let xml = |value: &str| format!("<a xmlns='urn:{SECRET}' id='{SECRET}{value}'>{SECRET}{value}</a>");
    let text = |value: &str| format!("{SECRET}\n{SECRET} {value}\n");
    let rules = vec![CompareRule::new(pattern(""), RuleAction::ArrayKey("id".into()))];
    let policy = ComparePolicy { rules, ..ComparePolicy::default() };
    for (media, bodies) in [
        ("application/json", ["a", "b"].map(list)),
        ("application/json", [list("a"), "[]".to_owned()]),
        ("text/html", ["a", "b"].map(page)),
        ("text/xml", ["a", "b"].map(xml)),
        ("text/plain", ["a", "b"].map(text)),
        (
            "application/x-www-form-urlencoded",
            ["a", "b"].map(|value| format!("{SECRET}={SECRET}{value}&{SECRET}={value}")),
        ),
        ("text/event-stream", ["a", "b"].map(|value| format!("id: {SECRET}{value}\n\n"))),
    ] {
        let [legacy, extracted] = bodies.map(|body| seen(&[("content-type", media)], &body));
        let views = Bodies { legacy: body(&legacy), extracted: body(&extracted) };
        let comparison = compare(&legacy, &extracted, views, &policy, Day::of_unix_ms(1_795_000_000_000));
        assert!(comparison.total > 0, "{media}");
        let redactor = Redactor::new(KEY);
        let record = with_circumstances("/", |about| {
            redactor.divergence(about, &comparison, &legacy, &extracted, &ComparePolicy::default())
        });
        let json = serde_json::to_string(&record).expect("json");
        assert!(!json.contains(SECRET), "{media}: {json}");
    }
}

/// A card number, an e-mail address, a JWT, an IBAN or a key: what a detector must see wherever it stands.
fn shaped_secrets() -> impl Strategy<Value = String> {
    let card = "4[0-9]{14}".prop_map(|head| {
        let sum: u32 = head
            .bytes()
            .rev()
            .enumerate()
            .map(|(place, byte)| {
                let digit = u32::from(byte - b'0') * if place % 2 == 0 { 2 } else { 1 };
                digit / 10 + digit % 10
            })
            .sum();
        format!("{head}{}", (10 - sum % 10) % 10)
    });
    prop_oneof![
        card,
        "[a-z]{3,8}\\.[a-z]{3,8}@[a-z]{3,8}\\.(com|de)",
        "eyJ[A-Za-z0-9_-]{10,20}\\.eyJ[A-Za-z0-9_-]{10,20}\\.[A-Za-z0-9_-]{10,20}",
        "AKIA[A-Z0-9]{16}",
        "sk_live_[a-zA-Z0-9]{24}",
        "\\+49 30 [0-9]{6,8}",
        Just("DE89370400440532013000".to_owned()),
        "[a-zA-Z]{10}[0-9]{2}[a-zA-Z]{10}",
    ]
}

proptest! {
    #[test]
    fn no_value_is_in_the_record_without_leave(
        secret in "[a-zA-Z0-9]{16,32}",
        other in "[a-zA-Z0-9]{16,32}",
        id in "[a-f]{4}[0-9]{5}[a-f]{9}",
    ) {
        let body = |value: &str| format!(r#"{{"a":"{value}","b":["{value}"],"n":{{"x {id}":"{value}","{id}":1}},"c":null}}"#);
        let headers = |value: &'static str| {
            [
                ("content-type", "application/json"), ("location", value), ("authorization", value),
                ("x-session-token", value), ("set-cookie", value), ("x-plain", value),
            ]
        };
        let leaked: &'static str = secret.clone().leak();
        let legacy = seen(&headers(leaked), &body(&secret));
        let extracted = seen(JSON, &body(&other).replace("null", &format!("{{\"k\":\"{secret}\"}}")));

        let record = record(&format!("/carts/{secret}/{secret}?{secret}&q={secret}&{id}=1"), &legacy, &extracted, &[]);

        let text = serde_json::to_string(&record).expect("json");
        prop_assert!(!text.contains(&secret), "{text}");
        prop_assert!(!text.contains(&other) && !text.contains(&id), "{text}");
        prop_assert!(text.contains("\"/b/0\"") || secret == other, "{text}");
    }

    #[test]
    fn a_shaped_secret_is_in_no_record_even_where_values_may_be_kept(
        secret in shaped_secrets(),
        before in "[a-z ]{0,6}",
        after in "( [a-z ]{0,6})?",
    ) {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let key = quoted(&secret);
        let value = quoted(&format!("{before} {secret}{after}"));
        let legacy = seen(JSON, &format!(r#"{{"a":{value},{key}:1,"b":{{{key}:{value}}}}}"#));
        let extracted = seen(JSON, &format!(r#"{{"a":1,{key}:2,"b":{{{key}:3}}}}"#));

        let record = record(&format!("/carts/1/total?mail={secret}"), &legacy, &extracted, &["/**"]);

        let text = serde_json::to_string(&record).expect("json");
        prop_assert!(!text.contains(&secret), "{text}");
        prop_assert!(text.contains("\"/a\""), "{text}");
    }

    #[test]
    fn no_text_breaks_a_detector(text in "\\PC{0,60}") {
        let _ = detectors::is_sensitive(&text);
        let _ = names::is_plain(&text);
    }
}

//! How long it takes to compare two answers: `cargo bench -p strangler-bench --bench compare`.
//!
//! Wanted: 300 µs for 16 KiB of JSON in which three leaves differ, parsing included; 5 µs for identical bytes.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use strangler_core::compare::{Bodies, BodyView, Comparison, ComparisonResult, compare};
use strangler_core::day::Day;
use strangler_core::observation::{Answer, Observation, Outcome};
use strangler_core::route::{ArrayOrder, ComparePolicy, CompareRule, JsonPolicy, RuleAction};

const BYTES: usize = 16 << 10;

/// A list of orders as a shop answers it: texts, numbers, moments, nested lists. `change` may alter a price.
fn document(change: impl Fn(usize) -> usize) -> String {
    let mut orders = Vec::new();
    let mut bytes = 0;
    while bytes < BYTES {
        let id = orders.len();
        let price = change(id);
        let order = format!(
            r#"{{"id":{},"order_no":"SO-2026-{id:06}","customer":{{"id":{},"name":"Jane Doe","tier":"gold"}},"lines":[{{"sku":"SKU-{id:04}","qty":2,"unit_cents":{price},"tags":["new","blue"]}},{{"sku":"SKU-9{id:03}","qty":1,"unit_cents":1999,"tags":[]}}],"total":{}.50,"paid":true,"note":null,"created_at":"2026-11-21T10:20:30Z"}}"#,
            9_007_199_254_740_000_u64 + id as u64,
            40_000 + id,
            price * 2 + 1_999,
        );
        bytes += order.len() + 1;
        orders.push(order);
    }
    format!(r#"{{"orders":[{}],"page":1}}"#, orders.join(","))
}

fn seen(body: &str) -> Observation {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let answer = Answer {
        status: StatusCode::OK,
        headers,
        trailers: None,
        body: Bytes::copy_from_slice(body.as_bytes()),
        body_bytes: body.len() as u64,
        is_truncated: false,
    };
    Observation { outcome: Outcome::Answered(answer), first_byte: Duration::ZERO, total: Duration::ZERO }
}

fn compared(left: &Observation, right: &Observation, policy: &ComparePolicy, today: Day) -> Comparison {
    let body = |seen: &'_ Observation| match &seen.outcome {
        Outcome::Answered(answer) => answer.body.clone(),
        Outcome::Failed(_) => Bytes::new(),
    };
    let (one, other) = (body(left), body(right));
    compare(left, right, Bodies { legacy: BodyView::Whole(&one), extracted: BodyView::Whole(&other) }, policy, today)
}

fn comparing(criterion: &mut Criterion) {
    let today: Day = "2026-11-21".parse().expect("a day");
    let plain = ComparePolicy::default();
    let json = JsonPolicy { array_order: ArrayOrder::Ignore, ..JsonPolicy::default() };
    let unordered = ComparePolicy { json, ..ComparePolicy::default() };
    let rules = ["/**/created_at", "/orders/*/note", "/**/tags", "/page"];
    let rules = rules.map(|path| CompareRule::new(path.parse().expect("a pointer"), RuleAction::Ignore)).to_vec();
    let ruled = ComparePolicy { rules, ..ComparePolicy::default() };

    let left = document(|id| 1_000 + id);
    // A price stands in `unit_cents` and in `total`; the third is a text.
    let right = document(|id| 1_000 + id + usize::from(id == 7)).replacen("SKU-9020", "SKU-9120", 1);
    let same = document(|id| 1_000 + id);
    assert!((BYTES..BYTES + 512).contains(&left.len()), "{} bytes", left.len());
    let (left, right, same) = (seen(&left), seen(&right), seen(&same));

    let mut group = criterion.benchmark_group("compare");
    group.throughput(Throughput::Bytes(BYTES as u64));
    for (name, policy, total) in [
        ("three-leaves", &plain, 3),
        ("three-leaves-four-rules", &ruled, 3),
        ("three-leaves-without-order", &unordered, 1),
    ] {
        assert_eq!(compared(&left, &right, policy, today).total, total, "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| compared(black_box(&left), black_box(&right), policy, today));
        });
    }
    assert_eq!(compared(&left, &same, &plain, today).result, ComparisonResult::Match);
    group.bench_function("identical", |bencher| {
        bencher.iter(|| compared(black_box(&left), black_box(&same), &plain, today));
    });
    group.finish();
}

criterion_group!(benches, comparing);
criterion_main!(benches);

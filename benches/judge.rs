//! What a verdict costs: `cargo bench -p strangler-bench --bench judge`.
//!
//! Wanted: a look at 500 routes, with forecasts, well under 100 ms.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use strangler_core::judge::evidence::{Comparisons, Evidence, SideCounts, Split, StageEvidence};
use strangler_core::judge::gates::{Gates, LatencyGate, MismatchGate};
use strangler_core::judge::{judge, judge_without_forecast};
use strangler_core::weight::Weight;

/// A route on its way: three steps behind it, every gate but coverage open.
fn evidence(route: u64) -> Evidence {
    let side = |units: u64| SideCounts {
        units,
        errors: units / 200 + route % 3,
        timed: units,
        slow_p50: units / 2,
        slow_p95: units / 20,
        slow_p99: units / 100,
        classed: units,
        status_3xx: units / 50,
        status_4xx: units / 30,
    };
    let stages = [100u16, 500, 1_000].into_iter().filter_map(|points| {
        let weight = Weight::from_basis_points(points)?;
        let extracted = 900 + route;
        let legacy = extracted * u64::from(10_000 - points) / u64::from(points);
        let split = Split { extracted, legacy };
        let stage = StageEvidence {
            extracted: side(extracted),
            legacy: side(legacy),
            assignments: split,
            completions: split,
            seconds: 3_600,
            ..StageEvidence::default()
        };
        Some((weight, stage))
    });
    Evidence {
        stages: stages.collect(),
        comparisons: Comparisons { compared: 2_000 + route, ..Comparisons::default() },
        ..Evidence::default()
    }
}

fn judging(criterion: &mut Criterion) {
    let gates =
        Gates { latency: Some(LatencyGate::default()), mismatch: Some(MismatchGate::default()), ..Gates::by_default() };
    let routes: Vec<Evidence> = (0..500).map(evidence).collect();
    criterion
        .bench_function("judge/one route", |bencher| bencher.iter(|| judge(black_box(&gates), black_box(&routes[0]))));
    criterion.bench_function("judge/one route, no forecast", |bencher| {
        bencher.iter(|| judge_without_forecast(black_box(&gates), black_box(&routes[0])));
    });
    criterion.bench_function("judge/500 routes", |bencher| {
        bencher.iter(|| routes.iter().map(|one| judge(black_box(&gates), black_box(one)).gates.len()).sum::<usize>());
    });
}

criterion_group!(benches, judging);
criterion_main!(benches);

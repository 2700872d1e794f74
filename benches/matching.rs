//! How long it takes to find a request's route: `cargo bench -p strangler-bench --bench matching`.
//!
//! Wanted: under 1 µs at 10,000 routes.

mod routes;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use routes::{Bench, find};

fn matching(criterion: &mut Criterion) {
    let headers = HeaderMap::new();
    let mut group = criterion.benchmark_group("matching");
    for count in [1, 10, 1_000, 10_000] {
        for (shape, bench) in [("mixed", Bench::mixed(count)), ("literals", Bench::literal_children(count))] {
            assert!(bench.hits.iter().all(|path| find(&bench.matcher, path, &headers).is_some()), "a hit hits");
            assert!(bench.misses.iter().all(|path| find(&bench.matcher, path, &headers).is_none()), "a miss misses");
            for (kind, paths) in [("hit", &bench.hits), ("miss", &bench.misses)] {
                let mut turn = paths.iter().cycle();
                group.bench_function(BenchmarkId::new(format!("{shape}-{kind}"), count), |bencher| {
                    bencher.iter(|| turn.next().map(|path| find(black_box(&bench.matcher), black_box(path), &headers)));
                });
            }
        }
    }
    group.finish();
}

fn building(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("building");
    group.sample_size(10);
    group.bench_function("mixed/10000", |bencher| bencher.iter(|| Bench::mixed(10_000)));
    group.finish();
}

criterion_group!(benches, matching, building);
criterion_main!(benches);

//! How long it takes to give a caller their bucket and side: `cargo bench -p strangler-bench --bench split`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use strangler_core::split::{Bucket, choose_side};
use strangler_core::weight::Weight;

fn split(criterion: &mut Criterion) {
    let weight = Weight::from_basis_points(500).expect("5 %");
    let mut group = criterion.benchmark_group("split");
    for (name, key) in [("short-key", "1187".to_owned()), ("session-key", "0123456789abcdef".repeat(4))] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| choose_side(Bucket::of(black_box("checkout"), black_box(key.as_bytes())), weight));
        });
    }
    group.finish();
}

criterion_group!(benches, split);
criterion_main!(benches);

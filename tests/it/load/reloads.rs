//! Reloads under every kind of traffic.

use std::time::{Duration, Instant};

use crate::load::{judged_row, seconds, size};
use crate::support::origin;
use crate::support::pauses;
use crate::support::proxy::{PATIENCE, Plan};
use crate::support::traffic::{Kind, Plan as Asking, Tally, quantile_ms};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_fail_no_request_of_any_kind() {
    let (legacy, extracted) = (origin::start().await, origin::start().await);
    let routes = |tag: usize| {
        format!(
            "version: 1\nlegacy: monolith\nupstreams:\n  monolith: {{endpoints: [\"{}\"], max_connections: 2000}}\n  extracted: {{endpoints: [\"{}\"]}}\nroutes:\n  - {{name: r, match: '/r', extracted: extracted, weight: 50%, response_headers: {{set: {{x-tag: v{tag}}}}}}}\n",
            legacy.url(),
            extracted.url()
        )
    };
    let proxy = Plan::file(&routes(0)).start().await;
    let _pauses = pauses::watch(proxy.pid());
    let (reloads, time, per_second) = (size(10, 500), seconds(2, 60), size(200, 2_000));
    let each = time / u32::try_from(reloads).unwrap();
    let kinds = [(Kind::Kept, 20), (Kind::New, 20), (Kind::H2, 4)];
    let mut traffic: Vec<_> = kinds
        .into_iter()
        .map(|(kind, clients)| Asking::new(kind, proxy.address, clients, per_second / 3).start())
        .collect();
    traffic.push(Asking::new(Kind::WebSocket, proxy.address, size(20, 200), size(20, 200)).target("/ws").start());
    tokio::time::sleep(Duration::from_millis(500)).await;

    let begun = Instant::now();
    let mut seen_us = Vec::new();
    for number in 1..=reloads {
        let written = Instant::now();
        proxy.write_routes(&routes(number));
        let tag = format!("v{number}");
        while proxy.get("/r").await.header("x-tag") != Some(&tag) {
            assert!(written.elapsed() < PATIENCE, "{tag} was never seen");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        seen_us.push(u32::try_from(written.elapsed().as_micros()).unwrap());
        tokio::time::sleep(each.saturating_sub(written.elapsed())).await;
    }
    let took = begun.elapsed();

    let mut all = Tally::default();
    let mut parts = Vec::new();
    for part in traffic {
        let tally = part.stop().await;
        parts.push(tally.good);
        all.add(tally);
    }
    judged_row(
        &format!("{reloads} reloads at {per_second} requests/s (kept, new, h2) and WebSockets"),
        "0 failed, seen in 200 ms (p99)",
        &format!(
            "{} of {} failed {:?}; kept/new/h2/messages {parts:?} in {took:.1?}; seen p50 {:.0} ms, p99 {:.0} ms",
            all.failed,
            all.good + all.failed,
            all.whys,
            quantile_ms(&seen_us, 500),
            quantile_ms(&seen_us, 990)
        ),
        all.failed == 0 && quantile_ms(&seen_us, 990) <= 200.0,
    );
    assert_eq!(all.failed, 0, "{:?}", all.whys);
    assert!(parts.iter().all(|good| *good > 0), "{parts:?}");
}

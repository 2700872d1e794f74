//! Copies to targets that misbehave, beside the same traffic without copies.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::load::{MIB, row, seconds, size};
use crate::support::backend::Backend;
use crate::support::fault::Unreachable;
use crate::support::origin;
use crate::support::pauses;
use crate::support::process::memory;
use crate::support::proxy::{Plan, Proxy};
use crate::support::traffic::{Kind, Plan as Asking, Tally};

/// Most that a median, and a 99th part, may be apart in like runs and still be the same: of the clock's own noise.
const NOISE_LEAST_MS: f64 = 0.1;

async fn proxy(legacy: &Backend, target: &str, shadow: &str) -> Proxy {
    let text = format!(
        "version: 1\nlegacy: {}\nupstreams: {{extracted: {{endpoints: ['{target}']}}}}\nroutes:\n  - {{name: r, match: /r, extracted: extracted, weight: 0%{shadow}}}\n",
        legacy.url()
    );
    Plan::file(&text).start().await
}

async fn turn(proxy: &Proxy) -> Tally {
    let traffic = Asking::new(Kind::Kept, proxy.address, 16, size(200, 1_000)).start();
    tokio::time::sleep(seconds(1, 4)).await;
    traffic.stop().await
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_target_of_copies_does_users_notice_nothing() {
    let legacy = origin::start().await;
    let dark = Unreachable::new();
    // Each reads a request at once: what these cost is taken from those who are measured.
    let hanging = Backend::serving(Arc::default(), |mut stream| async move {
        let _ = stream.read(&mut [0u8; 4096]).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
    })
    .await;
    let resetting = Backend::serving(Arc::default(), |mut stream| async move {
        let _ = stream.read(&mut [0u8; 4096]).await;
        let _ = stream.set_zero_linger();
    })
    .await;
    let endless = Backend::serving(Arc::default(), |mut stream| async move {
        let _ = stream.read(&mut [0u8; 4096]).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        // Not as fast as it can: the machine is shared with those who are measured.
        while stream.write_all(b"10\r\n1111111111111111\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Each pair is looked at again, as far as that may be: a sample of legacy beside it, and both sides some seconds later.
    let differing = Backend::answering(200, "something else").await;
    for (what, target) in [
        ("whose answers differ", differing.url()),
        ("in a black hole", dark.url()),
        ("hanging", hanging.url()),
        ("resetting", resetting.url()),
        ("endless", endless.url()),
    ] {
        let copied = ", shadow: true, compare: true";
        let (plain, again, faulty) = (
            proxy(&legacy, &target, "").await,
            proxy(&legacy, &target, "").await,
            proxy(&legacy, &target, copied).await,
        );
        let _pauses = [&plain, &again, &faulty].map(|proxy| pauses::watch(proxy.pid()));
        for proxy in [&plain, &again, &faulty] {
            turn(proxy).await;
        }
        let before = memory(faulty.pid(), "VmRSS");
        let (mut noise50, mut noise99, mut added50, mut added99) = (vec![], vec![], vec![], vec![]);
        let (mut good, mut failed) = (0, 0);
        for _ in 0..size(1, 10) {
            let (a, a_again, with) = (turn(&plain).await, turn(&again).await, turn(&faulty).await);
            noise50.push(a_again.within_ms(500) - a.within_ms(500));
            noise99.push(a_again.within_ms(990) - a.within_ms(990));
            added50.push(with.within_ms(500) - a.within_ms(500));
            added99.push(with.within_ms(990) - a.within_ms(990));
            good += with.good;
            failed += with.failed;
        }
        let grown = memory(faulty.pid(), "VmHWM").saturating_sub(before) as f64 / MIB;
        let mut outcomes = Vec::new();
        for outcome in ["sent", "dropped", "timeout", "error", "breaker_open"] {
            outcomes.push((
                outcome,
                faulty.count(&format!("strangler_shadow_total{{outcome=\"{outcome}\",route=\"r\"}}")).await,
            ));
        }
        let worst = |noise: &[f64]| noise.iter().fold(NOISE_LEAST_MS, |most, value| most.max(value.abs()));
        row(
            &format!("copies to a target {what}"),
            "added within the noise of like runs, 0 failed, memory bounded, drops counted",
            &format!(
                "added p50 {:+.3} ms, p99 {:+.3} ms (like runs differ by {:.3} and {:.3} at most); {failed} of {} failed; {grown:.1} MiB more; {outcomes:?}",
                median(&added50),
                median(&added99),
                worst(&noise50),
                worst(&noise99),
                good + failed
            ),
            failed == 0 && median(&added50) <= worst(&noise50) && median(&added99) <= worst(&noise99) && grown <= 64.0,
        );
        assert_eq!(failed, 0);
        let counted: u64 = outcomes.iter().map(|(_, count)| count).sum();
        assert!(counted > good / 2, "{outcomes:?} of {good}");
    }
}

//! More requests than there is room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::Method;

use crate::load::{judged_row, seconds, size};
use crate::support::origin;
use crate::support::pauses;
use crate::support::process::{busy_s, raise_own_descriptors};
use crate::support::proxy::{Plan, ask_admin};
use crate::support::traffic::{Kind, Plan as Asking, quantile_ms};
use crate::support::wire::Wire;

/// How late the service answers.
const LATE: Duration = Duration::from_millis(40);
/// Requests under way that are allowed: 800 a second.
const IN_FLIGHT: u32 = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_is_refused_at_once_and_the_rest_is_served() {
    raise_own_descriptors();
    let legacy = origin::late(LATE).await;
    let proxy = Plan::file(&format!("version: 1\nlegacy: {}\n", legacy.url()))
        .argument(&format!("--limit-in-flight={IN_FLIGHT}"))
        .start()
        .await;
    let _pauses = pauses::watch(proxy.pid());
    let refused = {
        // One that is refused says when to come again.
        let holders = Asking::new(Kind::Kept, proxy.address, 64, 1_600).also(&[503]).start();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut told = None;
        for _ in 0..200 {
            let reply =
                Wire::connect(proxy.address).await.unwrap().ask(b"GET /r HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            if reply.status == 503 {
                told = Some(reply.header("retry-after").map(str::to_owned));
                break;
            }
        }
        holders.stop().await;
        told.flatten()
    };
    assert!(refused.is_some(), "a 503 with Retry-After");

    let mut peak = 0.0;
    for times in [1u32, 2, 5] {
        let stop = Arc::<AtomicBool>::default();
        let health = tokio::spawn({
            let (admin, state_dir, stop) = (proxy.admin, proxy.state_dir(), Arc::clone(&stop));
            async move {
                let mut waits_us = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let answer = ask_admin(admin, &state_dir, Method::GET, "/livez", "").await;
                    assert_eq!(answer.unwrap().status, 200);
                    let awake = pauses::awake(begun, Instant::now());
                    waits_us.push(u32::try_from(awake.as_micros()).unwrap());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                waits_us
            }
        });
        let traffic = Asking::new(Kind::Kept, proxy.address, 60 * times, 800 * times).also(&[503]).start();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (begun, before) = (Instant::now(), traffic.good());
        tokio::time::sleep(seconds(1, 10)).await;
        let rate = (traffic.good() - before) as f64 / pauses::awake(begun, Instant::now()).as_secs_f64();
        let tally = traffic.stop().await;
        stop.store(true, Ordering::Relaxed);
        let health = health.await.unwrap();
        peak = f64::max(peak, rate);
        let sheds_p99 = quantile_ms(&tally.also_waits_us, 990);
        judged_row(
            &format!("{times} x what {IN_FLIGHT} requests in flight allow"),
            "goodput 90 % of the peak, sheds 503 in 5 ms (p99), /livez in 100 ms",
            &format!(
                "{rate:.0} good/s ({:.0} % of the peak), p50 {:.1} p99 {:.1} ms; {} shed, p50 {:.2} p99 {sheds_p99:.2} ms; {} failed {:?}; /livez worst {:.1} ms of {}",
                100.0 * rate / peak,
                tally.within_ms(500),
                tally.within_ms(990),
                tally.also,
                quantile_ms(&tally.also_waits_us, 500),
                tally.failed,
                tally.whys,
                quantile_ms(&health, 1_000),
                health.len()
            ),
            tally.failed == 0 && rate >= 0.9 * peak && sheds_p99 <= 5.0 && quantile_ms(&health, 1_000) <= 100.0,
        );
        assert_eq!(tally.failed, 0, "{:?}", tally.whys);
    }
}

/// Without a bound that somebody wrote: more than the processors can do, over connections that each wait for their answer. Judged
/// by answers per second of the proxy's processor: whoever asks runs beside it, and costs the more the more clients it plays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_more_than_the_processor_can_do_answers_go_on_and_so_does_health() {
    let legacy = origin::start().await;
    let text = format!(
        "version: 1\nlegacy: m\nupstreams: {{m: {{endpoints: ['{}'], max_connections: 4000, max_in_flight: 50000}}}}\n",
        legacy.url()
    );
    let proxy = Plan::file(&text).without("--threads").argument("--threads=1").start().await;
    let _pauses = pauses::watch(proxy.pid());
    let mut peak = 0.0;
    for clients in [32u32, size(64, 256), size(128, 2_000)] {
        // Each client asks again as soon as it has been answered.
        let traffic = Asking::new(Kind::Kept, proxy.address, clients, 1_000_000).also(&[503]).start();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (begun, before, busy_before) = (Instant::now(), traffic.good(), busy_s(proxy.pid()));
        let mut health_us = Vec::new();
        while begun.elapsed() < seconds(1, 8) {
            let asked = Instant::now();
            assert_eq!(proxy.admin(Method::GET, "/livez", "").await.status, 200);
            health_us.push(u32::try_from(pauses::awake(asked, Instant::now()).as_micros()).unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let good = (traffic.good() - before) as f64;
        let (per_s, rate) =
            (good / pauses::awake(begun, Instant::now()).as_secs_f64(), good / (busy_s(proxy.pid()) - busy_before));
        let tally = traffic.stop().await;
        peak = f64::max(peak, rate);
        judged_row(
            &format!("{clients} clients that never rest, one core"),
            "goodput does not collapse (75 % of the peak), /livez answers",
            &format!(
                "{per_s:.0} good/s, {rate:.0} per busy second ({:.0} % of the peak), p99 {:.1} ms; {} shed; {} failed {:?}; /livez p99 {:.1} worst {:.1} ms",
                100.0 * rate / peak,
                tally.within_ms(990),
                tally.also,
                tally.failed,
                tally.whys,
                quantile_ms(&health_us, 990),
                quantile_ms(&health_us, 1_000)
            ),
            tally.failed == 0 && rate >= 0.75 * peak,
        );
        assert_eq!(tally.failed, 0, "{:?}", tally.whys);
    }
}

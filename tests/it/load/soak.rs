//! Hours of ordinary traffic in a few minutes: memory stays what it is.

use std::time::{Duration, Instant};

use crate::load::{MIB, is_full, judged_row, size, told};
use crate::support::origin;
use crate::support::pauses;
use crate::support::process::{busy_s, descriptors, memory};
use crate::support::proxy::Plan;
use crate::support::secure::Authority;
use crate::support::traffic::{Kind, Plan as Asking, Tally};

/// How often the memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// `SOAK_SECONDS` and `SOAK_RATE` say otherwise than 30 minutes and 800 requests a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_flat_under_traffic_of_every_kind() {
    let (legacy, extracted) = (origin::start().await, origin::start().await);
    let authority = Authority::new();
    let text = format!(
        "version: 1\nlegacy: m\nupstreams: {{m: {{endpoints: ['{}'], max_connections: 1000}}, e: {{endpoints: ['{}']}}}}\nroutes:\n  - {{name: split, match: /r, extracted: e, weight: 30%, shadow: {{max_rps: 10000}}, compare: true}}\n  - {{name: copied, match: /copied, extracted: e, weight: 0%, shadow: {{max_rps: 10000}}, compare: true}}\n  - {{name: write, match: 'POST /write', extracted: e, weight: 50%, rate_limit: {{key: 'header:x-user-id', rate: 1000000/s}}}}\n",
        legacy.url(),
        extracted.url()
    );
    let plan = Plan::file(&text).without("--listen").argument("--access-log=json");
    authority.identity(&["shop.example.com"]).write(plan.dir(), "shop");
    let config = "listeners:\n  - {address: 127.0.0.1:0}\n  - {address: 127.0.0.1:0, tls: {certificates: [{cert: shop.pem, key: shop.key}]}}\n";
    let proxy = plan.config(config).start().await;
    let _pauses = pauses::watch(proxy.pid());
    let secure = proxy.tls.unwrap();
    let rate = u32::try_from(told("SOAK_RATE", size(200, 800))).unwrap();
    let part = |hundredths: u32| (rate * hundredths / 100).max(1);
    let traffic = [
        Asking::new(Kind::Kept, proxy.address, 20, part(30)).start(),
        Asking::new(Kind::New, proxy.address, 10, part(15)).start(),
        Asking::new(Kind::H2, proxy.address, 4, part(15)).start(),
        Asking::new(Kind::WebSocket, proxy.address, 20, part(10)).start(),
        Asking::new(Kind::Post, proxy.address, 8, part(10)).target("/write").start(),
        Asking::new(Kind::Tls(authority.client()), secure, 8, part(10)).start(),
        Asking::new(Kind::Kept, proxy.address, 8, part(10)).target("/copied").start(),
    ];
    let (begun, lasts) = (Instant::now(), Duration::from_secs(told("SOAK_SECONDS", size(3, 1_800))));
    let mut samples: Vec<(f64, f64)> = Vec::new();
    let mut next = begun;
    while begun.elapsed() < lasts {
        next += LOOK_EVERY.min(lasts / 3);
        tokio::time::sleep_until(next.into()).await;
        let mib = memory(proxy.pid(), "VmRSS") as f64 / MIB;
        // What piles up at a process that is stopped is not what it keeps.
        let lately = Instant::now().checked_sub(4 * LOOK_EVERY).unwrap_or(begun);
        if samples.is_empty() || pauses::paused(lately, Instant::now()).is_zero() {
            samples.push((begun.elapsed().as_secs_f64(), mib));
        }
        if is_full() {
            eprintln!(
                "soak: {:6.0} s {mib:.2} MiB, {} descriptors, busy {:.1} s",
                begun.elapsed().as_secs_f64(),
                descriptors(proxy.pid()),
                busy_s(proxy.pid())
            );
        }
        // What the test itself keeps must not fill the disk.
        let log = std::fs::OpenOptions::new().write(true).open(proxy.dir.path().join("access.log")).unwrap();
        log.set_len(0).unwrap();
    }
    let mut all = Tally::default();
    let mut parts = Vec::new();
    for part in traffic {
        let tally = part.stop().await;
        parts.push(tally.good);
        all.add(tally);
    }
    // The first sixth is for what is filled once: pools, tables, the allocator's own.
    let settled: Vec<(f64, f64)> = samples.iter().copied().skip(samples.len() / 6).collect();
    let slope = slope(&settled) * 600.0;
    let at = |one_of: usize| samples[samples.len() / one_of].1;
    judged_row(
        &format!("{} s of {rate}/s: kept, new, h2, WebSocket, POST, TLS, copies", lasts.as_secs()),
        "resident memory flat (under 1 MiB more in 10 minutes), 0 failed",
        &format!(
            "{:.2} MiB at first, {:.2} after a sixth, {:.2} at half, {:.2} at the end; {slope:+.2} MiB in 10 minutes; {} of {} failed {:?}; {parts:?}",
            samples[0].1,
            at(6),
            at(2),
            samples[samples.len() - 1].1,
            all.failed,
            all.good + all.failed,
            all.whys
        ),
        all.failed == 0 && slope < 1.0,
    );
    assert_eq!(all.failed, 0, "{:?}", all.whys);
    assert!(parts.iter().all(|good| *good > 0), "{parts:?}");
}

/// Of a line through the points, by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
    });
    if below == 0.0 { 0.0 } else { above / below }
}

//! Rate limits with more clients than are told apart.

use std::time::Instant;

use crate::load::{MIB, judged_row, seconds, size};
use crate::support::origin;
use crate::support::pauses;
use crate::support::process::{busy_s, memory};
use crate::support::proxy::Plan;
use crate::support::traffic::{Kind, Plan as Asking};
use crate::support::wire::Wire;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_table_of_clients_costs_the_others_no_time() {
    let legacy = origin::start().await;
    let text = format!(
        "version: 1\nlegacy: m\nupstreams: {{m: {{endpoints: ['{0}'], max_in_flight: 10000}}, e: {{endpoints: ['{0}']}}}}\nroutes:\n  - {{name: limited, match: /limited, extracted: e, rate_limit: {{key: 'header:x-who', rate: 1/h, burst: 2}}}}\n",
        legacy.url()
    );
    let proxy = Plan::file(&text).start().await;
    let _pauses = pauses::watch(proxy.pid());
    let others = || Asking::new(Kind::Kept, proxy.address, 8, size(100, 400));
    let warm = others().start();
    tokio::time::sleep(seconds(1, 2)).await;
    warm.stop().await;
    let empty = others().start();
    let (begun, busy_before) = (Instant::now(), busy_s(proxy.pid()));
    tokio::time::sleep(seconds(1, 8)).await;
    let busy_empty = (busy_s(proxy.pid()) - busy_before) / begun.elapsed().as_secs_f64();
    let empty = empty.stop().await;

    // Everybody else, once; their buckets stay empty for hours.
    let before = memory(proxy.pid(), "VmRSS");
    let (clients, askers) = (size(2_000u32, 120_000), 16u32);
    let mut filling = tokio::task::JoinSet::new();
    for asker in 0..askers {
        let address = proxy.address;
        filling.spawn(async move {
            let mut wire = Wire::connect(address).await.unwrap();
            let mut answers = [0u32; 2];
            for number in 0..clients / askers {
                let request = format!("GET /limited HTTP/1.1\r\nhost: a\r\nx-who: client-{asker}-{number}\r\n\r\n");
                let reply = wire.ask(request.as_bytes()).await.unwrap();
                answers[usize::from(reply.status == 429)] += 1;
                if reply.is_last() {
                    wire = Wire::connect(address).await.unwrap();
                }
            }
            answers
        });
    }
    let filled = filling.join_all().await;
    let (served, refused) = filled.iter().fold((0, 0), |(served, refused), [a, b]| (served + a, refused + b));
    let full = others().start();
    let (begun, busy_before) = (Instant::now(), busy_s(proxy.pid()));
    tokio::time::sleep(seconds(1, 8)).await;
    let busy_full = (busy_s(proxy.pid()) - busy_before) / begun.elapsed().as_secs_f64();
    let full = full.stop().await;

    let ask = b"GET /limited HTTP/1.1\r\nhost: a\r\nx-who: one\r\n\r\n";
    let mut wire = Wire::connect(proxy.address).await.unwrap();
    let mut last = wire.ask(ask).await.unwrap();
    for _ in 0..3 {
        last = wire.ask(ask).await.unwrap();
    }
    let fields = ["retry-after", "ratelimit", "ratelimit-policy"].map(|name| last.header(name).is_some());
    assert_eq!((last.status, fields), (429, [true; 3]), "{last:?}");

    judged_row(
        &format!("rate limits with {clients} clients seen"),
        "429 with Retry-After and RateLimit fields; others' p99 at most twice (or 1 ms more)",
        &format!(
            "{served} served, {refused} refused; others p50 {:.2} p99 {:.2} p99.9 {:.2} ms before, {:.2} {:.2} {:.2} with a full table; {} failed; busy {busy_empty:.3} of a core before, {busy_full:.3} then; {:.1} MiB more",
            empty.within_ms(500),
            empty.within_ms(990),
            empty.within_ms(999),
            full.within_ms(500),
            full.within_ms(990),
            full.within_ms(999),
            full.failed,
            memory(proxy.pid(), "VmRSS").saturating_sub(before) as f64 / MIB
        ),
        full.failed == 0 && full.within_ms(990) <= (2.0 * empty.within_ms(990)).max(empty.within_ms(990) + 1.0),
    );
    assert_eq!(full.failed, 0, "{:?}", full.whys);
}

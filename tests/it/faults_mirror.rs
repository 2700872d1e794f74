//! A copy's target behaves as badly as can be, and the users whose requests are copied notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::{Backend, read_head};
use crate::support::fault::{Fault, Network, Unreachable};
use crate::support::load::Load;
use crate::support::proxy::{Plan, Proxy};

const COPIED: &str = "{name: total, match: '/total/{id}', extracted: extracted, weight: 0%, \
                      shadow: {max_rps: 10000, max_in_flight: 3, timeout: 1s}, compare: {keep: {values: [/a]}}}";

fn json(body: &'static str) -> Response<Bytes> {
    Response::builder().header("content-type", "application/json").body(Bytes::from_static(body.as_bytes())).unwrap()
}

async fn legacy() -> Backend {
    Backend::with(|_| json(r#"{"a": 1}"#)).await
}

/// Good and failed requests of a second's load; of up to five on a machine that has much else to do.
async fn a_while(proxy: &Proxy) -> (u64, u64) {
    let load = Load::start(proxy.address, "/total/7", 4, |status, body| status == 200 && body == br#"{"a": 1}"#);
    for second in 0..5 {
        if second == 0 || load.done() <= 40 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    load.stop().await
}

fn copies(outcome: &str) -> String {
    format!("strangler_shadow_total{{outcome=\"{outcome}\",route=\"total\"}}")
}

fn results(result: &str) -> String {
    format!("strangler_comparisons_total{{result=\"{result}\",route=\"total\"}}")
}

#[tokio::test]
async fn a_target_in_a_black_hole_takes_no_time_from_users_and_its_copies_are_dropped_and_counted() {
    let (legacy, dark) = (legacy().await, Unreachable::new());
    let plan = Plan::file(&format!(
        "version: 1\nupstreams:\n  monolith: {{endpoints: ['{}']}}\n  extracted: {{endpoints: ['{}'], timeouts: {{connect: 20s}}}}\nlegacy: monolith\n",
        legacy.url(),
        dark.url(),
    ));
    let proxy = plan.route(COPIED).start().await;

    let (done, failed) = a_while(&proxy).await;

    // Were a copy waited for, it would be twenty at most: four clients, five seconds, a second each.
    assert!(done > 10 && failed == 0, "{done} done, {failed} failed");
    proxy.wait_for_metric(&copies("dropped"), 10.0).await;
    proxy.wait_for_metric(&copies("timeout"), 1.0).await;
    assert_eq!(proxy.count(&results("mismatch")).await, 0);
}

#[tokio::test]
async fn a_target_that_refuses_resets_or_talks_nonsense_is_a_failed_copy_and_never_a_different_answer() {
    let legacy = legacy().await;
    let targets = [
        Backend::refusing().await,
        Backend::resetting().await,
        Backend::raw(b"SSH-2.0-OpenSSH_9\r\n").await,
        Backend::raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"a\": 2}")
            .await,
    ];
    for (number, target) in targets.iter().enumerate() {
        let proxy = Proxy::between(&legacy, target).route(COPIED).start().await;

        for _ in 0..5 {
            let answer = proxy.get("/total/7").await;
            assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"a": 1}"#), "{number}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        proxy.wait_for_metric(&copies("error"), 5.0).await;
        assert_eq!(proxy.count(&results("match")).await, 0, "{number}");
        let differences = proxy.admin(Method::GET, "/metrics", "").await.body;
        let kinds: Vec<&str> =
            differences.lines().filter(|line| line.starts_with("strangler_differences_total{")).collect();
        assert!(
            kinds.iter().all(|line| line.contains("extracted_error") || line.ends_with(" 0")),
            "{number}: {kinds:?}"
        );
        // A copy is never sent again, whatever became of it.
        assert!(target.connections() <= 5, "{number}: {}", target.connections());
    }
}

#[tokio::test]
async fn a_copys_answer_without_an_end_or_at_a_crawl_ends_at_its_bound() {
    let legacy = legacy().await;
    let endless = Backend::serving(Arc::default(), |mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        while stream.write_all(b"4\r\n1111\r\n").await.is_ok() {}
    })
    .await;
    let service = Backend::with(|_| json(r#"{"a": 1}"#)).await;
    let crawling = Network::with(service.address, Fault { rate: 20, slice: 1, ..Fault::default() }).await;
    for target in [&endless, &crawling.near] {
        let proxy = Proxy::between(&legacy, target).route(COPIED).start().await;

        let (done, failed) = a_while(&proxy).await;

        assert!(done > 10 && failed == 0, "{done} done, {failed} failed");
        // Each ends, so that others begin: more than are under way at once.
        let ended = async || {
            let mut all = 0;
            for outcome in ["sent", "timeout", "error"] {
                all += proxy.count(&copies(outcome)).await;
            }
            all
        };
        for _ in 0..200 {
            if ended().await >= 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(ended().await >= 3, "the copies under way never end");
    }
}

#[tokio::test]
async fn a_large_request_on_a_copied_route_is_neither_copied_nor_kept() {
    const BYTES: usize = 96 << 20;
    let taken = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&taken);
    let legacy = Backend::serving(Arc::default(), move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            read_head(&mut stream).await;
            let mut piece = vec![0u8; 1 << 16];
            while count.load(Ordering::Relaxed) < BYTES {
                let Ok(read @ 1..) = stream.read(&mut piece).await else { return };
                count.fetch_add(read, Ordering::Relaxed);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let extracted = Backend::answering(200, "ok").await;
    // A read, so that it would be copied were it not for its size.
    let route = COPIED.replace("weight: 0%", "weight: 0%, max_body: 128MiB");
    let proxy = Proxy::between(&legacy, &extracted).route(&route).start().await;
    proxy.admin(Method::GET, "/metrics", "").await;
    let resident = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    };
    let before = resident(proxy.pid());

    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = format!("GET /total/7 HTTP/1.1\r\nhost: a\r\ncontent-length: {BYTES}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'x'; 1 << 16];
    for _ in 0..BYTES / piece.len() {
        stream.write_all(&piece).await.unwrap();
    }
    assert!(read_head(&mut stream).await.starts_with(b"HTTP/1.1 200 "));

    let grown = resident(proxy.pid()) - before;
    assert!(grown < BYTES / 6, "{grown} bytes more for {BYTES}");
    assert_eq!(extracted.seen().len(), 0);
}

//! Upstreams that flap, clients that go away, and waits that end when they should.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::load::{judged_row, row, seconds, size};
use crate::support::backend::{Backend, read_head};
use crate::support::fault::Unreachable;
use crate::support::origin;
use crate::support::pauses;
use crate::support::proxy::{PATIENCE, Plan};
use crate::support::traffic::{Kind, Plan as Asking, Tally, quantile_ms};

/// Half of the time that an endpoint which comes and goes is there, and then is not.
const HALF: Duration = Duration::from_millis(50);

/// Listens, serves, and goes away with all of its connections, again and again.
fn flapping(listener: TcpListener) -> tokio::task::JoinHandle<()> {
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut listener = Some(listener);
        loop {
            if let Some(listening) = listener.take() {
                let until = tokio::time::Instant::now() + HALF;
                let mut serving = tokio::task::JoinSet::new();
                while let Ok(Ok((stream, _))) = tokio::time::timeout_at(until, listening.accept()).await {
                    serving.spawn(origin::serve(stream, Duration::ZERO));
                }
            } else {
                tokio::time::sleep(HALF).await;
                listener = TcpListener::bind(address).await.ok();
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flapping_endpoint_beside_a_good_one_costs_no_read() {
    for keys in ["", ", outlier_detection: {}"] {
        let good = origin::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let flapping_at = listener.local_addr().unwrap();
        let flapping = flapping(listener);
        let proxy = Plan::file(&format!(
            "version: 1\nlegacy: m\nupstreams: {{m: {{endpoints: ['http://{flapping_at}', '{}']{keys}}}}}\n",
            good.url()
        ))
        .start()
        .await;
        let _pauses = pauses::watch(proxy.pid());
        let traffic = [
            Asking::new(Kind::Kept, proxy.address, 10, size(100, 400)).start(),
            Asking::new(Kind::New, proxy.address, 5, size(50, 100)).start(),
        ];
        tokio::time::sleep(seconds(2, 30)).await;
        let mut all = Tally::default();
        for part in traffic {
            all.add(part.stop().await);
        }
        flapping.abort();
        judged_row(
            &format!("an endpoint that flaps each 50 ms beside a good one{keys}"),
            "0 errors for GET",
            &format!("{} of {} failed {:?}", all.failed, all.good + all.failed, all.whys),
            all.failed == 0,
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_abort_is_seen_upstream_soon() {
    let (gone, mut goings) = mpsc::unbounded_channel();
    let silent = Backend::serving(Arc::default(), move |mut stream| {
        let gone = gone.clone();
        async move {
            let head = read_head(&mut stream).await;
            if head.starts_with(b"GET /answered") {
                // Something of an answer, and then no more.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx").await;
            }
            let mut rest = [0u8; 4096];
            while let Ok(1..) = stream.read(&mut rest).await {}
            let _ = gone.send(Instant::now());
        }
    })
    .await;
    let proxy = Plan::file(&format!("version: 1\nlegacy: {}\n", silent.url())).start().await;
    let _pauses = pauses::watch(proxy.pid());
    let ways: [(&str, &[u8]); 3] = [
        ("waiting", b"GET /waiting HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("answered in part", b"GET /answered HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("sending", b"POST /sending HTTP/1.1\r\nhost: a\r\ncontent-length: 50000000\r\n\r\nxxx"),
    ];
    for (way, request) in ways {
        for is_reset in [false, true] {
            let mut took_us = Vec::new();
            for _ in 0..size(3, 50) {
                let mut stream = TcpStream::connect(proxy.address).await.unwrap();
                stream.write_all(request).await.unwrap();
                tokio::time::sleep(Duration::from_millis(30)).await;
                if is_reset {
                    stream.set_zero_linger().unwrap();
                }
                let left = Instant::now();
                drop(stream);
                let seen = tokio::time::timeout(PATIENCE * 6, goings.recv()).await.expect("it is seen").unwrap();
                if pauses::paused(left, seen).is_zero() {
                    took_us.push(u32::try_from(seen.saturating_duration_since(left).as_micros()).unwrap());
                }
            }
            let worst = quantile_ms(&took_us, 1_000);
            judged_row(
                &format!("a client that {} while {way}", if is_reset { "resets" } else { "closes" }),
                "seen upstream in 100 ms",
                &format!("p50 {:.2} ms, worst {worst:.2} ms of {}", quantile_ms(&took_us, 500), took_us.len()),
                worst <= 100.0,
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_end_when_they_should() {
    let dark = Unreachable::new();
    let silent = Backend::hanging().await;
    let halting = Backend::serving(Arc::default(), |mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx").await;
        tokio::time::sleep(Duration::from_secs(600)).await;
    })
    .await;
    let service = origin::start().await;
    let text = format!(
        "version: 1\nlegacy: m\nupstreams:\n  m: {{endpoints: ['{}']}}\n  dark: {{endpoints: ['{}'], timeouts: {{connect: 1s}}, retry: {{times: 0}}}}\n  silent: {{endpoints: ['{}'], timeouts: {{response_header: 700ms}}, retry: {{times: 0}}}}\n  halting: {{endpoints: ['{}'], timeouts: {{idle: 600ms}}, retry: {{times: 0}}}}\n  slow: {{endpoints: ['{}']}}\nroutes:\n  - {{name: dark, match: /dark, extracted: dark, weight: 100%, fallback: never, breaker: {{error_ratio: 100%, min_requests: 10000}}}}\n  - {{name: silent, match: /silent, extracted: silent, weight: 100%, fallback: never, breaker: {{error_ratio: 100%, min_requests: 10000}}}}\n  - {{name: halting, match: /halting, extracted: halting, weight: 100%, fallback: never, breaker: {{error_ratio: 100%, min_requests: 10000}}}}\n  - {{name: total, match: '/wait/{{ms}}', extracted: slow, weight: 100%, fallback: never, deadline: 800ms, breaker: {{error_ratio: 100%, min_requests: 10000}}}}\n",
        service.url(),
        dark.url(),
        silent.url(),
        halting.url(),
        service.url(),
    );
    let proxy = Plan::file(&text).start().await;
    let _pauses = pauses::watch(proxy.pid());
    for (what, target, bound_ms, status) in [
        ("timeouts.connect", "/dark", 1_000.0, Some(504)),
        ("timeouts.response_header", "/silent", 700.0, Some(504)),
        ("timeouts.idle", "/halting", 600.0, None),
        ("deadline", "/wait/3000", 800.0, Some(504)),
    ] {
        let mut off_ms: Vec<f64> = Vec::new();
        for _ in 0..size(1, 20) {
            let begun = Instant::now();
            let mut stream = TcpStream::connect(proxy.address).await.unwrap();
            let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(PATIENCE * 6, stream.read_to_end(&mut answer)).await.unwrap();
            if !pauses::paused(begun, Instant::now()).is_zero() {
                continue;
            }
            off_ms.push(begun.elapsed().as_secs_f64() * 1_000.0 - bound_ms);
            let answer = String::from_utf8_lossy(&answer);
            match status {
                Some(status) => assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}"),
                None => assert!(answer.ends_with("\r\n\r\nx"), "{what}: {answer}"),
            }
        }
        let (least, most) =
            (off_ms.iter().copied().fold(f64::MAX, f64::min), off_ms.iter().copied().fold(f64::MIN, f64::max));
        row(
            &format!("{what} of {bound_ms} ms"),
            "within 50 ms",
            &format!("{least:+.1} to {most:+.1} ms in {} tries", off_ms.len()),
            least >= -50.0 && most <= 50.0,
        );
    }
}

//! Clients that use up what there is, connections above all, and those beside them who go on being served.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::backend::{Backend, read_head};
use crate::support::load::Load;
use crate::support::proxy::{PATIENCE, Plan, Proxy};

/// With these bounds on clients.
fn bounded(plan: Plan, limits: &str) -> Plan {
    let file = plan.routes_file().with_file_name("strangler.yaml");
    std::fs::write(&file, format!("limits: {{{limits}}}\n")).unwrap();
    plan.variable("STRANGLER_CONFIG", &file.to_string_lossy())
}

/// Reads to the end of a connection; what was said.
async fn to_the_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends `begin`, then `drop` after `drop`, until the other end has had enough; what was said.
async fn dripping(address: SocketAddr, begin: &'static [u8], drop: &'static [u8], pause: Duration) -> String {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    writer.write_all(begin).await.unwrap();
    let writing = tokio::spawn(async move {
        while writer.write_all(drop).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    });
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer)).await.expect("it is closed");
    writing.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn heads_that_drip_in_are_given_up_in_all_and_nobody_else_notices() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = bounded(Proxy::between(&legacy, &legacy), "header_deadline: 1s").start().await;

    let load = Load::start(proxy.address, "/", 2, |status, _| status == 200);
    let mut clients = JoinSet::new();
    for _ in 0..200 {
        // No pause is as long as the bound: it is the whole head that must be there in time.
        let pause = Duration::from_millis(200);
        clients.spawn(dripping(proxy.address, b"GET / HTTP/1.1\r\nx: ", b"y", pause));
    }
    let answers = clients.join_all().await;
    let (done, failed) = load.stop().await;

    assert!(answers.iter().all(|answer| answer.is_empty() || answer.starts_with("HTTP/1.1 408 ")), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.contains("strangler-error: header_timeout")), "{answers:?}");
    assert_eq!((failed, done > 20), (0, true), "{done}");
    assert!(proxy.count(r#"strangler_rejected_total{reason="header_timeout"}"#).await > 0);
}

#[tokio::test]
async fn a_body_that_drips_in_is_given_up_and_its_request_with_it() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let legacy = Backend::serving(Arc::default(), move |mut stream| {
        let ended = ended.clone();
        async move {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            let _ = ended.send(all.len());
        }
    })
    .await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;

    // Far below the least rate, and never silent for long.
    let begin = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1048576\r\n\r\nx";
    let answer = dripping(proxy.address, begin, b"x", Duration::from_millis(100)).await;

    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let passed = tokio::time::timeout(PATIENCE, ends.recv()).await.unwrap();
    assert!(passed.is_some_and(|bytes| bytes < 1 << 20), "{passed:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_service_back() {
    let written = Arc::<AtomicUsize>::default();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let count = Arc::clone(&written);
    let endless = Backend::serving(Arc::default(), move |mut stream| {
        let (count, ended) = (Arc::clone(&count), ended.clone());
        async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await;
            let piece = vec![b'x'; 64 << 10];
            while stream.write_all(&piece).await.is_ok() {
                count.fetch_add(piece.len(), Ordering::Relaxed);
            }
            let _ = ended.send(());
        }
    })
    .await;
    let proxy = Proxy::between(&endless, &endless).start().await;

    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut before = usize::MAX;
    while before != written.load(Ordering::Relaxed) || before == 0 {
        before = written.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    // What the kernel keeps for four sockets, and the proxy's own buffers.
    assert!(before < 64 << 20, "{before} bytes went to a client that reads none");
    drop(client);
    tokio::time::timeout(PATIENCE, ends.recv()).await.expect("the service is let go with its client");
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed_before_and_between_requests() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = bounded(Proxy::between(&legacy, &legacy), "header_deadline: 1s, keep_alive: 1s").start().await;

    let mut clients = JoinSet::new();
    for number in 0..100 {
        let address = proxy.address;
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            }
            to_the_end(&mut stream).await
        });
    }
    let answers = clients.join_all().await;

    assert_eq!(answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 200 ")).count(), 50, "{answers:?}");
}

/// Seconds of processor time so far.
fn busy_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks = |at: usize| after_name.split_whitespace().nth(at).and_then(|text| text.parse::<u32>().ok()).unwrap();
    f64::from(ticks(11) + ticks(12)) / 100.0
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// How many descriptors a process may have from now on.
fn allow_descriptors(pid: u32, most: usize) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = rustix::process::Rlimit { current: Some(most as u64), ..own };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap();
}

#[tokio::test]
async fn without_descriptors_nothing_spins_and_with_them_all_is_well() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    assert_eq!(proxy.get("/").await.status, 200);
    let pid = proxy.pid();
    allow_descriptors(pid, descriptors(pid) + 8);

    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(TcpStream::connect(proxy.address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (begun, before) = (Instant::now(), busy_s(pid));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let busy = (busy_s(pid) - before) / begun.elapsed().as_secs_f64();

    assert!(busy < 0.3, "it was busy {busy} of the time with accepting nobody");
    drop(held);
    let answer = tokio::time::timeout(PATIENCE, proxy.get("/")).await.expect("it comes back by itself");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn the_body_of_a_request_that_is_answered_here_is_never_read_as_a_request() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy)
        .route("{name: few, match: /few, extracted: extracted, rate_limit: {rate: 1/h, burst: 1}}")
        .start()
        .await;
    assert_eq!(proxy.get("/few").await.status, 200);
    let inside = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let after = "GET /after HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    for (head, status) in [("GET /few HTTP/1.1\r\n", "429"), ("GET /x HTTP/1.1\r\nexpect: tea\r\n", "417")] {
        let bytes = format!("{head}host: a\r\ncontent-length: {}\r\n\r\n{inside}{after}", inside.len());
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let answer = to_the_end(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    let targets: Vec<String> = legacy.seen().into_iter().map(|seen| seen.target).collect();
    assert!(targets.iter().all(|target| target == "/few" || target == "/after"), "{targets:?}");
}

#[tokio::test]
async fn what_browsers_leave_as_it_is_goes_on_as_it_came() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    // Of these the URL standard escapes none, in a path or in a query.
    let targets = ["/a|b^c\\d'e[f]g:@!$&()*+,;=~", "/?a|b^c\\d`e{f}'[g]:@!$&()*+,;=~/?", "/{a}\"b"];
    for target in targets {
        assert_eq!(proxy.get(target).await.status, 200, "{target}");
    }
    assert_eq!(legacy.seen().iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(), targets);
}

#[tokio::test]
async fn a_target_that_the_library_would_refuse_gets_an_answer_of_our_own() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    for target in [&b"/a<b"[..], b"/\xff", b"http:///x", b"a/b", b"?x", b"http://a@/", b"/|^`"] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(&[b"GET ", target, b" HTTP/1.1\r\nhost: a\r\n\r\n"].concat()).await.unwrap();
        let answer = to_the_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{}: {answer}", target.escape_ascii());
        assert!(answer.contains("strangler-error: bad_target\r\n"), "{}: {answer}", target.escape_ascii());
    }
    assert_eq!(legacy.seen().len(), 0);
}

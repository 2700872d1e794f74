//! HTTP/2 towards upstreams, and what retries do among several endpoints.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::backend::{Backend, read_head};
use crate::support::proxy::{PATIENCE, Plan, Proxy};

/// A proxy with one upstream, its `endpoints` and further keys.
async fn before(endpoints: &[String], keys: &str) -> Proxy {
    let endpoints = endpoints.iter().map(|url| format!("\"{url}\"")).collect::<Vec<_>>().join(", ");
    let text = format!("version: 1\nlegacy: m\nupstreams:\n  m: {{endpoints: [{endpoints}]{keys}}}\n");
    Plan::file(&text).start().await
}

fn h2c(backend: &Backend) -> String {
    format!("h2c://{}", backend.address)
}

#[tokio::test]
async fn many_requests_share_a_connection_and_none_looks_like_http_1() {
    let backend = Backend::h2c().await;
    let proxy = before(&[h2c(&backend)], "").await;

    for at in 0..40 {
        let answer = proxy.send(Method::POST, &format!("/p/{at}?q=1"), &[("x-own", "1")], "body").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "body"));
    }

    // One per core at most.
    assert!(backend.connections() <= 2, "{}", backend.connections());
    let seen = &backend.seen()[0];
    assert_eq!(seen.target, "http://shop.example.com/p/0?q=1");
    assert_eq!(seen.headers["x-own"], "1");
    for name in ["host", "transfer-encoding", "connection", "te"] {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn grpc_servers_are_told_that_trailers_get_through() {
    let backend = Backend::h2c().await;
    let proxy = before(&[h2c(&backend)], "").await;

    proxy.send(Method::POST, "/pkg.Service/Call", &[("content-type", "application/grpc+proto")], "body").await;

    assert_eq!(backend.seen()[0].headers["te"], "trailers");
}

#[tokio::test]
async fn a_body_without_a_length_goes_both_ways_with_its_trailers() {
    let backend = Backend::h2c().await;
    let proxy = before(&[h2c(&backend)], "").await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(
            b"POST /t HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n",
        )
        .await
        .unwrap();
    stream.write_all(b"6\r\n world\r\n0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("hello world"), "{answer}");
    assert_eq!(&backend.seen()[0].body[..], b"hello world");
}

/// A server of HTTP/2 that handles each stream by hand; `streams_max` is what it allows at once.
async fn by_hand<F, R>(streams_max: u32, each: F) -> Backend
where
    F: Fn(Request<h2::RecvStream>, h2::server::SendResponse<Bytes>, usize) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let connections = Arc::new(AtomicUsize::new(0));
    Backend::serving(Arc::default(), move |stream| {
        let (each, number) = (each.clone(), connections.fetch_add(1, Ordering::Relaxed));
        async move {
            let mut builder = h2::server::Builder::new();
            let Ok(mut connection) = builder.max_concurrent_streams(streams_max).handshake::<_, Bytes>(stream).await
            else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(each(request, respond, number));
            }
        }
    })
    .await
}

fn answer_ok(mut respond: h2::server::SendResponse<Bytes>) {
    if let Ok(mut body) = respond.send_response(Response::new(()), false) {
        let _ = body.send_data(Bytes::from_static(b"ok"), true);
    }
}

#[tokio::test]
async fn a_refused_stream_was_never_looked_at_and_even_a_write_is_sent_again() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&refusals);
    let backend = by_hand(100, move |_, mut respond, number| {
        let refusals = Arc::clone(&told);
        async move {
            if number == 0 {
                refusals.fetch_add(1, Ordering::Relaxed);
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            } else {
                answer_ok(respond);
            }
        }
    })
    .await;
    let proxy = before(&[h2c(&backend)], "").await;

    let answer = proxy.post("/pay", "body").await;

    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(refusals.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_reset_write_is_never_sent_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&asked);
    let backend = by_hand(100, move |_, mut respond, _| {
        told.fetch_add(1, Ordering::Relaxed);
        async move { respond.send_reset(h2::Reason::INTERNAL_ERROR) }
    })
    .await;
    let proxy = before(&[h2c(&backend)], "").await;

    assert_eq!(proxy.post("/pay", "body").await.status, 502);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(proxy.get("/read").await.status, 502);
    assert_eq!(asked.load(Ordering::Relaxed), 3, "a read is tried twice");
}

#[tokio::test]
async fn no_more_streams_are_opened_than_the_other_end_allows() {
    let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let told = Arc::clone(&most);
    let backend = by_hand(3, move |_, respond, _| {
        let (most, now) = (Arc::clone(&told), Arc::clone(&now));
        async move {
            let busy = now.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(busy, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            answer_ok(respond);
        }
    })
    .await;
    // One connection is all there may be, so what does not fit waits.
    let proxy = before(&[h2c(&backend)], ", max_connections: 1, timeouts: {connect: 20s}").await;
    assert_eq!(proxy.get("/first").await.status, 200);

    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let address = proxy.address;
        asked.spawn(async move { get(address, "/").await });
    }
    let statuses = asked.join_all().await;

    assert!(statuses.iter().all(|status| *status == Some(200)), "{statuses:?}");
    assert!(most.load(Ordering::SeqCst) <= 3, "{}", most.load(Ordering::SeqCst));
}

/// The status of a GET over a connection of its own; `None`: it broke.
async fn get(address: SocketAddr, target: &str) -> Option<u16> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let driver = tokio::spawn(connection);
    let request = Request::builder().uri(target).header("host", "shop").body(Full::new(Bytes::new())).ok()?;
    let response = sender.send_request(request).await.ok()?;
    let status = response.status().as_u16();
    response.into_body().collect().await.ok()?;
    driver.abort();
    Some(status)
}

#[tokio::test]
async fn a_client_that_goes_away_resets_its_stream_and_no_other() {
    let (began, mut begun) = mpsc::unbounded_channel();
    let (reset, mut resets) = mpsc::unbounded_channel();
    let backend = by_hand(100, move |request, mut respond, _| {
        let (began, reset) = (began.clone(), reset.clone());
        async move {
            if request.uri().path() != "/slow" {
                return answer_ok(respond);
            }
            let _ = began.send(());
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            let _ = reset.send(reason.ok());
        }
    })
    .await;
    let proxy = before(&[h2c(&backend)], "").await;
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(b"GET /slow HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    tokio::time::timeout(PATIENCE, begun.recv()).await.unwrap();

    drop(client);

    let reason = tokio::time::timeout(PATIENCE, resets.recv()).await.unwrap().flatten();
    assert_eq!(reason, Some(h2::Reason::CANCEL));
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn trailers_come_back_from_http_2() {
    let backend = by_hand(100, |_, mut respond, _| async move {
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        let _ = body.send_data(Bytes::from_static(b"data"), false);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let _ = body.send_trailers(trailers);
    })
    .await;
    let proxy = before(&[h2c(&backend)], "").await;

    let answer = proxy.get("/").await;

    // What an HTTP/1.1 client is told of them is another part's matter; the body is whole either way.
    assert_eq!((answer.status, answer.body.as_str()), (200, "data"));
}

#[tokio::test]
async fn a_server_that_says_goodbye_costs_no_request() {
    // Each connection answers three requests and is then closed, with a GOAWAY.
    let backend = Backend::serving(Arc::default(), |stream| async move {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        let mut answered = 0;
        while let Some(Ok((_, respond))) = connection.accept().await {
            answer_ok(respond);
            answered += 1;
            if answered == 3 {
                connection.graceful_shutdown();
            }
        }
    })
    .await;
    let proxy = before(&[h2c(&backend)], "").await;

    for at in 0..30 {
        let answer = proxy.post("/", "body").await;
        assert_eq!(answer.status, 200, "{at}: {}", answer.body);
    }
    assert!(backend.connections() >= 5, "{}", backend.connections());
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_costs_a_read_nothing_and_a_write_is_not_repeated() {
    // Answers one request, waits for the next one on the same connection, and closes without an answer.
    let targets: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&targets);
    let backend = Backend::serving(Arc::default(), move |mut stream| {
        let log = Arc::clone(&log);
        async move {
            for is_answered in [true, false] {
                let head = read_head(&mut stream).await;
                let mut body = [0; 4];
                let _ = stream.read_exact(&mut body).await;
                let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
                log.lock().unwrap().push(line);
                if is_answered {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            }
        }
    })
    .await;
    let proxy = before(&[backend.url()], "").await;
    // Over one connection of the client, so that one core and its pool answer.
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut statuses = Vec::new();
    for (method, target) in [(Method::GET, "/1"), (Method::GET, "/2"), (Method::POST, "/3")] {
        let request = Request::builder().method(method).uri(target).header("host", "shop");
        sender.ready().await.unwrap();
        let body = Full::new(Bytes::from_static(b"body"));
        let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
        statuses.push(response.status().as_u16());
        response.into_body().collect().await.unwrap();
    }

    assert_eq!(statuses, [200, 200, 502], "the read is sent again, the write is not");
    let log = targets.lock().unwrap().clone();
    assert_eq!(log.iter().filter(|line| line.starts_with("POST /3")).count(), 1, "{log:?}");
    assert_eq!(log.iter().filter(|line| line.starts_with("GET /2")).count(), 2, "{log:?}");
}

#[tokio::test]
async fn a_flapping_endpoint_beside_a_good_one_costs_no_read() {
    let good = Backend::answering(200, "good").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let flapping = tokio::spawn(async move {
        let mut listener = Some(listener);
        loop {
            if let Some(listening) = listener.take() {
                let until = tokio::time::Instant::now() + Duration::from_millis(50);
                let mut serving = tokio::task::JoinSet::new();
                while let Ok(Ok((mut stream, _))) = tokio::time::timeout_at(until, listening.accept()).await {
                    serving.spawn(async move {
                        while !read_head(&mut stream).await.is_empty() {
                            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nflap").await;
                        }
                    });
                }
            } else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                listener = TcpListener::bind(address).await.ok();
            }
        }
    });
    let proxy = before(&[format!("http://{address}"), good.url()], ", outlier_detection: {eject_for: 1s}").await;

    let mut failed = Vec::new();
    let until = Instant::now() + Duration::from_secs(3);
    let mut asked = 0;
    while Instant::now() < until {
        let answer = proxy.get("/").await;
        asked += 1;
        if answer.status != 200 {
            failed.push(answer.body);
        }
    }
    flapping.abort();

    assert!(asked > 50, "{asked}");
    assert_eq!(failed, [""; 0], "of {asked}");
}

/// Accepts and never says a word.
async fn silent() -> Backend {
    Backend::serving(Arc::default(), |stream| async move {
        tokio::time::sleep(PATIENCE * 2).await;
        drop(stream);
    })
    .await
}

#[tokio::test]
async fn every_wait_ends_at_its_bound_and_says_which_it_was() {
    let cases = [
        ("https", "connect: 300ms", "connect_timeout"),
        ("h2", "connect: 300ms", "connect_timeout"),
        ("http", "response_header: 300ms", "timeout"),
        ("h2c", "response_header: 300ms", "timeout"),
    ];
    for (scheme, bound, error) in cases {
        let backend = silent().await;
        let url = format!("{scheme}://{}", backend.address);
        let proxy = before(&[url], &format!(", retry: {{times: 0}}, timeouts: {{{bound}}}")).await;

        let begun = Instant::now();
        let answer = proxy.get("/").await;
        let took = begun.elapsed();

        assert_eq!((answer.status, answer.header("strangler-error")), (504, Some(error)), "{scheme}");
        // Never early; how late it may be on a busy machine is nobody's promise.
        assert!(took >= Duration::from_millis(300) && took < PATIENCE, "{scheme}: {took:?}");
    }
}

#[tokio::test]
async fn after_a_wait_in_vain_the_next_request_goes_over_another_connection() {
    // The first connection never answers, every other one does.
    let backend = by_hand(100, |_, respond, number| async move {
        if number == 0 {
            tokio::time::sleep(PATIENCE).await;
        }
        answer_ok(respond);
    })
    .await;
    let proxy = before(&[h2c(&backend)], ", timeouts: {response_header: 300ms}").await;

    // Two cores, so perhaps one of them was never held up.
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(proxy.get("/").await.status);
    }

    assert_eq!(statuses.iter().filter(|status| **status == 504).count(), 1, "{statuses:?}");
    assert_eq!(statuses.last(), Some(&200));
}

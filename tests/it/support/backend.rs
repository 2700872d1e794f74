//! Upstreams that behave as a test wants: well, badly, or not at all.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as a backend saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A backend on a free port of loopback; gone when dropped.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Backend {
    /// Answers everything alike.
    pub(crate) async fn answering(status: u16, body: &'static str) -> Backend {
        Backend::with(move |_| {
            let mut response = Response::new(Bytes::from_static(body.as_bytes()));
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            response
        })
        .await
    }

    /// Answers as `answer` says.
    pub(crate) async fn with(answer: impl Fn(&Seen) -> Response<Bytes> + Send + Sync + 'static) -> Backend {
        Backend::slow(Duration::ZERO, answer).await
    }

    /// Likewise, each time after a while.
    pub(crate) async fn slow(
        after: Duration,
        answer: impl Fn(&Seen) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Backend {
        let answer = Arc::new(answer);
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = Arc::clone(&seen);
        Backend::serving(seen, move |stream| {
            let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
            async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        let seen =
                            Seen { method: parts.method, target: parts.uri.to_string(), headers: parts.headers, body };
                        log.lock().unwrap().push(seen.clone());
                        if !after.is_zero() {
                            tokio::time::sleep(after).await;
                        }
                        Ok::<_, hyper::Error>(answer(&seen).map(Full::new))
                    }
                });
                // A client that goes away is no fault of the test.
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await
    }

    /// Reads a request's head, then writes `answer` as it stands and closes.
    pub(crate) async fn raw(answer: &'static [u8]) -> Backend {
        Backend::serving(Arc::default(), move |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        })
        .await
    }

    /// Reads a request's head and never answers.
    pub(crate) async fn hanging() -> Backend {
        Backend::serving(Arc::default(), |mut stream| async move {
            read_head(&mut stream).await;
            tokio::time::sleep(Duration::from_secs(600)).await;
        })
        .await
    }

    /// Reads a request's head and resets the connection.
    pub(crate) async fn resetting() -> Backend {
        Backend::serving(Arc::default(), |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.set_zero_linger();
        })
        .await
    }

    /// Nobody listens there.
    pub(crate) async fn refusing() -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Backend { address, seen: Arc::default(), connections: Arc::default(), task: None }
    }

    /// Hands every connection to `each`.
    pub(crate) async fn serving<F, R>(seen: Arc<Mutex<Vec<Seen>>>, each: F) -> Backend
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = stream.set_nodelay(true);
                tokio::spawn(each(stream));
            }
        });
        Backend { address, seen, connections, task: Some(task) }
    }

    /// Speaks HTTP/2 in the clear; sends each request's body and trailers back.
    pub(crate) async fn h2c() -> Backend {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = Arc::clone(&seen);
        Backend::serving(seen, move |stream| serve_h2(stream, Arc::clone(&log))).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Reads until the end of a request's head.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let mut byte = [0u8; 1];
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => read.push(byte[0]),
            _ => break,
        }
    }
    read
}

/// Serves one connection of HTTP/2: notes each request and sends its body and trailers back.
pub(crate) async fn serve_h2<S>(stream: S, log: Arc<Mutex<Vec<Seen>>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let log = Arc::clone(&log);
        async move {
            let (parts, body) = request.into_parts();
            let collected = body.collect().await?;
            let trailers = collected.trailers().cloned();
            let body = collected.to_bytes();
            let seen = Seen {
                method: parts.method,
                target: parts.uri.to_string(),
                headers: parts.headers,
                body: body.clone(),
            };
            log.lock().unwrap().push(seen);
            let body = Full::new(body).with_trailers(async move { trailers.map(Ok::<_, std::convert::Infallible>) });
            Ok::<_, hyper::Error>(Response::builder().header("x-version", "2").body(body).unwrap())
        }
    });
    // A client that goes away is no fault of the test.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

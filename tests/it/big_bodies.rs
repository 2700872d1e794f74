//! Bodies far larger than any buffer, both ways, over each pair of protocols: all of it arrives, and memory does not grow.
//!
//! Of a gibibyte each: `BIG_BODY_MIB=1024 cargo test --release --test it big_bodies -- --nocapture`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::proxy::{Plan, Proxy};
use crate::support::secure::Authority;

/// Bytes of each body.
fn body_bytes() -> u64 {
    std::env::var("BIG_BODY_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(24u64) << 20
}

/// What the proxy may take more than for an empty body.
const GROWTH_KIB_MAX: u64 = 16 << 10;

const PIECE: Bytes = Bytes::from_static(&[b'x'; 64 << 10]);

/// So many bytes, made as they are asked for.
struct Xs(u64);

impl Body for Xs {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let step = usize::try_from(self.0).unwrap().min(PIECE.len());
        self.0 -= step as u64;
        Poll::Ready((step > 0).then(|| Ok(Frame::data(PIECE.slice(..step)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

/// Reads a body to its end, and keeps nothing of it.
async fn count(mut body: Incoming) -> u64 {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().data_ref().map_or(0, |data| data.len() as u64);
    }
    bytes
}

/// Answers a GET of `/N` with N bytes, and any other request with one `x` when its body has N.
async fn serve(request: Request<Incoming>) -> Result<Response<Xs>, hyper::Error> {
    let bytes = request.uri().path().trim_start_matches('/').parse().unwrap();
    let is_get = request.method() == Method::GET;
    let is_whole = is_get || count(request.into_body()).await == bytes;
    Ok(Response::new(Xs(if is_get { bytes } else { u64::from(is_whole) })))
}

async fn backend(is_h2: bool) -> Backend {
    Backend::serving(Arc::default(), move |stream| async move {
        let io = TokioIo::new(stream);
        // A client that goes away is no fault of the test.
        if is_h2 {
            let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = http2.serve_connection(io, service_fn(serve)).await;
        } else {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(serve)).await;
        }
    })
    .await
}

/// A client's way in.
#[derive(Clone, Copy, Debug)]
enum Way {
    Http1,
    H2c,
    TlsH2,
}

/// As every client of HTTP/2 does: small frames do not wait for each other's acknowledgement.
async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

async fn exchange(proxy: &Proxy, way: Way, authority: &Authority, request: Request<Xs>) -> u64 {
    match way {
        Way::Http1 => {
            let stream = connect(proxy.address).await;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            count(sender.send_request(request).await.unwrap().into_body()).await
        }
        Way::H2c => over_h2(connect(proxy.address).await, request).await,
        Way::TlsH2 => {
            let stream = authority.connect(proxy.tls.unwrap(), "shop.example.com", &["h2"]).await;
            over_h2(stream, request).await
        }
    }
}

async fn over_h2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, request: Request<Xs>) -> u64 {
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    count(sender.send_request(request).await.unwrap().into_body()).await
}

fn request(method: &Method, bytes: u64) -> Request<Xs> {
    let uri = format!("http://shop.example.com/{bytes}");
    let body = Xs(if method == Method::GET { 0 } else { bytes });
    Request::builder().method(method).uri(uri).header("host", "shop.example.com").body(body).unwrap()
}

/// The most memory that a process has had since it was last asked, in KiB.
fn take_peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    // 5: the peak begins anew with what there is now.
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn large_bodies_pass_both_ways_over_each_pair_of_protocols_in_little_memory() {
    let authority = Authority::new();
    let bytes = body_bytes();
    for is_h2 in [false, true] {
        let backend = backend(is_h2).await;
        let scheme = if is_h2 { "h2c" } else { "http" };
        let routes = format!("version: 1\nlegacy: {scheme}://{}\n", backend.address);
        let plan = Plan::file(&routes).without("--listen");
        let dir = plan.routes_file().parent().unwrap().to_owned();
        authority.identity(&["shop.example.com"]).write(&dir, "shop");
        let listeners = "listeners:\n  - {address: 127.0.0.1:0}\n  - {address: 127.0.0.1:0, tls: {certificates: [{cert: shop.pem, key: shop.key}]}}\n";
        std::fs::write(dir.join("strangler.yaml"), listeners).unwrap();
        let config = dir.join("strangler.yaml");
        let proxy = plan.variable("STRANGLER_CONFIG", &config.to_string_lossy()).start().await;
        for way in [Way::Http1, Way::H2c, Way::TlsH2] {
            for method in [Method::GET, Method::POST] {
                exchange(&proxy, way, &authority, request(&method, 0)).await;
                take_peak_kib(proxy.pid());
                let before = take_peak_kib(proxy.pid());
                let begun = Instant::now();
                let came = exchange(&proxy, way, &authority, request(&method, bytes)).await;
                let took = begun.elapsed();
                let growth = take_peak_kib(proxy.pid()).saturating_sub(before);
                eprintln!("{way:?} {method} to {scheme}: {} MiB in {took:.1?}, {growth} KiB more", bytes >> 20);
                assert_eq!(came, if method == Method::GET { bytes } else { 1 }, "{way:?} {method} to {scheme}");
                assert!(growth <= GROWTH_KIB_MAX, "{way:?} {method} to {scheme}: {growth} KiB more");
            }
        }
    }
}

//! gRPC through the proxy, and what its client is told when nobody could answer.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::plane::Plane;
use crate::support::proxy::PATIENCE;

/// Status, fields, and whether there was neither body nor trailers.
async fn call(plane: &Plane, path: &str, kind: &str) -> (u16, HeaderMap, bool) {
    let stream = TcpStream::connect(plane.address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("http://shop.example.com{path}"))
        .version(Version::HTTP_2)
        .header("content-type", kind)
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(b"\0\0\0\0\0")))
        .unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let rest = body.collect().await.unwrap();
    let is_bare = rest.trailers().is_none() && rest.to_bytes().is_empty();
    (parts.status.as_u16(), parts.headers, is_bare)
}

#[tokio::test]
async fn a_call_that_nobody_answers_is_told_so_in_grpc() {
    let nobody = Backend::refusing().await;
    let plane = Plane::before(&nobody).start();

    for (path, kind, expect) in
        [("/shop.Cart/Get", "application/grpc", "14"), ("/../Get", "application/grpc+proto", "13")]
    {
        let (status, headers, is_bare) = call(&plane, path, kind).await;
        assert_eq!((status, is_bare), (200, true), "{headers:?}");
        assert_eq!(
            (&headers["grpc-status"], &headers["content-type"]),
            (&expect.parse().unwrap(), &"application/grpc".parse().unwrap())
        );
        assert!(headers.contains_key("grpc-message") && headers.contains_key("strangler-error"), "{headers:?}");
    }
    let (status, headers, is_bare) = call(&plane, "/cart", "application/json").await;
    assert_eq!((status, is_bare, headers.get("grpc-status")), (502, false, None));
}

/// A service of one method that answers each message with itself and says how it went in its trailers.
async fn service() -> Backend {
    Backend::serving(std::sync::Arc::default(), |stream| async move {
        let service = service_fn(|request: Request<Incoming>| async move {
            let te = request.headers().get("te").cloned();
            let mut body = request.into_body();
            let (mut sender, answer) = Channel::<Bytes>::new(4);
            tokio::spawn(async move {
                while let Some(Ok(frame)) = body.frame().await {
                    if let Ok(data) = frame.into_data() {
                        let _ = sender.send_data(data).await;
                    }
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                trailers.insert("x-te", te.unwrap_or_else(|| "none".parse().unwrap()));
                let _ = sender.send_trailers(trailers).await;
            });
            let answer = Response::builder().header("content-type", "application/grpc").body(answer);
            Ok::<_, std::convert::Infallible>(answer.unwrap())
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        // A client that goes away is no fault of the test.
        let _ = server.serve_connection(TokioIo::new(stream), service).await;
    })
    .await
}

#[tokio::test]
async fn a_stream_of_messages_goes_both_ways_at_once_and_ends_with_its_trailers() {
    let service = service().await;
    let plane = Plane::before_url(&format!("h2c://{}", service.address)).start();
    let stream = TcpStream::connect(plane.address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (mut messages, body) = Channel::<Bytes>::new(1);
    let request = Request::post("http://shop.example.com/shop.Chat/Talk")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers");

    let mut answer = sender.send_request(request.body(body).unwrap()).await.unwrap().into_body();
    for at in 0..5 {
        // Each is answered before the next one is sent.
        let message = Bytes::from(format!("\0\0\0\0\x01{at}"));
        messages.send_data(message.clone()).await.unwrap();
        let back = tokio::time::timeout(PATIENCE, answer.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(back.into_data().unwrap(), message);
    }
    drop(messages);
    let trailers = answer.frame().await.unwrap().unwrap().into_trailers().unwrap();

    assert_eq!((&trailers["grpc-status"], &trailers["x-te"]), (&"0".parse().unwrap(), &"trailers".parse().unwrap()));
}

#[tokio::test]
async fn a_deadline_that_passes_is_told_as_one() {
    let slow = Backend::hanging().await;
    let plane = Plane::before(&slow)
        .routes("routes: [{name: r, match: '/r', extracted: http://127.0.0.1:9, deadline: 200ms}]\n")
        .start();

    let (status, headers, _) = call(&plane, "/r", "application/grpc").await;

    assert_eq!((status, &headers["grpc-status"]), (200, &"4".parse().unwrap()));
}

#[tokio::test]
async fn an_upstreams_own_answer_stays_as_it_is() {
    let legacy = Backend::answering(503, "closed").await;
    let plane = Plane::before(&legacy).start();

    let (status, headers, is_bare) = call(&plane, "/shop.Cart/Get", "application/grpc").await;

    assert_eq!((status, is_bare, headers.get("grpc-status")), (503, false, None));
}

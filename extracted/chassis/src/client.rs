//! One call to a service by HTTP/1.1 on a connection of its own: for tests and for calls that are few.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::HOST;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// The largest answer that is read, in bytes.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest wait for a whole answer.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("cannot connect to {address}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("the request to {address} cannot be written")]
    Request { address: SocketAddr, source: hyper::http::Error },
    #[error("the exchange with {address} broke off")]
    Exchange { address: SocketAddr, source: hyper::Error },
    #[error("the answer of {address} could not be read to its end")]
    Body { address: SocketAddr, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{address} did not answer within {} s", WAIT_MAX.as_secs())]
    TimedOut { address: SocketAddr },
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; `Null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Sends one request and reads the whole answer. Redirects are not followed.
pub async fn call(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes> + Send,
) -> Result<Answer, CallError> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).map_err(|source| CallError::Request { address, source })?;
    match tokio::time::timeout(WAIT_MAX, exchange(address, request)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(CallError::TimedOut { address }),
    }
}

/// GET without further headers.
pub async fn get(address: SocketAddr, path: &str) -> Result<Answer, CallError> {
    call(address, Method::GET, path, &[], Bytes::new()).await
}

/// POST of a JSON body.
pub async fn post_json(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Result<Answer, CallError> {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    call(address, Method::POST, path, &all, body.to_string()).await
}

async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
    let stream = TcpStream::connect(address).await.map_err(|source| CallError::Connect { address, source })?;
    let broke = |source| CallError::Exchange { address, source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    // The connection ends by itself when the sender is dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended early");
        }
    });
    let (head, body) = sender.send_request(request).await.map_err(broke)?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|source| CallError::Body { address, source })?.to_bytes();
    Ok(Answer { status: head.status, headers: head.headers, body })
}

//! Where the requests go: an address, connections that are kept, one request on each at a time.

use std::io;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest wait for a whole answer. Slow cards take 8 s.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);

/// `http://host[:port]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a target is http://host or http://host:port, without a path")]
pub struct TargetError;

impl Target {
    /// What the `Host` header says.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        let uri: Uri = text.parse().map_err(|_| TargetError)?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(TargetError)?;
        if uri.scheme_str() != Some("http") || !is_bare {
            return Err(TargetError);
        }
        Ok(Target { host: authority.host().to_owned(), port: authority.port_u16().unwrap_or(80) })
    }
}

/// Why a request got no whole answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("cannot connect")]
    Connect { source: io::Error },
    #[error("no connection within {} s", CONNECT_MAX.as_secs())]
    ConnectTimedOut,
    #[error("the exchange broke off")]
    Exchange { source: hyper::Error },
    #[error("the answer broke off")]
    Body { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("no answer within {} s", ANSWER_MAX.as_secs())]
    TimedOut,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Connections to the target. There are never more than requests that run at the same time.
#[derive(Clone, Debug)]
pub struct Connections {
    target: Target,
    idle: Arc<Mutex<Vec<SendRequest<Full<Bytes>>>>>,
}

impl Connections {
    pub fn to(target: Target) -> Connections {
        Connections { target, idle: Arc::default() }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Sends and reads the whole answer. A kept connection that turns out to be closed before the request was written is
    /// replaced; what was written is never written again.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, SendError> {
        timeout(ANSWER_MAX, self.exchange(request)).await.unwrap_or(Err(SendError::TimedOut))
    }

    /// Sends on a connection of its own and hangs up after `patience`. True if the answer had come by then.
    pub async fn send_and_leave(&self, request: Request<Full<Bytes>>, patience: Duration) -> Result<bool, SendError> {
        let (mut sender, connection) = self.connect().await?;
        let outcome = timeout(patience, sender.send_request(request)).await;
        // Closes the socket, whatever the connection is waiting for.
        connection.abort();
        Ok(outcome.is_ok())
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, SendError> {
        while let Some(mut kept) = self.take() {
            if kept.is_closed() || kept.ready().await.is_err() {
                continue;
            }
            match kept.try_send_request(request).await {
                Ok(response) => return self.read(kept, response).await,
                Err(mut failure) => match failure.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(SendError::Exchange { source: failure.into_error() }),
                },
            }
        }
        let (mut sender, _) = self.connect().await?;
        let response = sender.send_request(request).await.map_err(|source| SendError::Exchange { source })?;
        self.read(sender, response).await
    }

    async fn read(
        &self,
        sender: SendRequest<Full<Bytes>>,
        response: hyper::Response<hyper::body::Incoming>,
    ) -> Result<Answer, SendError> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|source| SendError::Body { source })?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
    }

    fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn connect(&self) -> Result<(SendRequest<Full<Bytes>>, AbortHandle), SendError> {
        let host = self.target.host.trim_start_matches('[').trim_end_matches(']');
        let connecting = TcpStream::connect((host, self.target.port));
        let stream = timeout(CONNECT_MAX, connecting).await.map_err(|_| SendError::ConnectTimedOut)?;
        let stream = stream.map_err(|source| SendError::Connect { source })?;
        stream.set_nodelay(true).map_err(|source| SendError::Connect { source })?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|source| SendError::Exchange { source })?;
        let connection = tokio::spawn(async move {
            // How the connection ended is told to whoever waits for an answer on it.
            let _ = connection.await;
        });
        Ok((sender, connection.abort_handle()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn one_who_leaves_hangs_up() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
        let target = format!("http://{}", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            // Comes back only when the other side has closed.
            stream.read_to_end(&mut request).await.expect("the end");
            request
        });
        let connections = Connections::to(target.parse().expect("a target"));
        let request = Request::get("/shop").body(Full::default()).expect("a request");

        let has_come = connections.send_and_leave(request, Duration::from_millis(20)).await.expect("sent");

        assert!(!has_come);
        assert!(server.await.expect("served").starts_with(b"GET /shop HTTP/1.1"));
    }

    #[test]
    fn a_target_is_a_bare_http_address() {
        let target = |text: &str| text.parse::<Target>().map(|target| target.authority());
        assert_eq!(target("http://127.0.0.1:8080"), Ok("127.0.0.1:8080".to_owned()));
        assert_eq!(target("http://shop.example/"), Ok("shop.example:80".to_owned()));
        assert_eq!(target("http://[::1]:8080"), Ok("[::1]:8080".to_owned()));
        for bad in ["", "127.0.0.1:8080", "https://x", "http://x/shop", "http://x?q", "http://u@x", "ftp://x"] {
            assert_eq!(target(bad), Err(TargetError), "{bad}");
        }
    }
}

//! One request to another system: looked up, checked, sent, its answer taken to a bound, all within one wait.
//!
//! A connection of its own each time, to an address that has been checked, so that a name cannot lead elsewhere in between. No redirect is
//! followed, and no proxy of the environment asked.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use strangler_core::chain::chain;
use strangler_core::route::Tls;
use strangler_core::web::{Unreachable, WebUrl};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::upstream::resolve;
use crate::upstream::tls::{TlsClient, TlsError};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Largest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Largest file with a URL or a key.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// What is sent.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) url: &'a WebUrl,
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    /// Authorities; `None`: the public ones.
    pub(super) ca: Option<Arc<str>>,
    /// For everything.
    pub(super) timeout: Duration,
    /// How much of the answer's body is taken; 0: it is not looked at.
    pub(super) body_bytes_max: usize,
    /// Where our own admin port is.
    pub(super) own: &'a [SocketAddr],
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Why nothing did. Names no more of the URL than its host.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("its name has no address")]
    Name(#[source] io::Error),
    #[error("it leads to {address}")]
    Address { address: SocketAddr, source: Unreachable },
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error("cannot be verified")]
    Authorities(#[from] TlsError),
    #[error("broke off")]
    Broken(#[from] hyper::Error),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("it cannot be asked")]
    Request(#[from] http::Error),
}

impl AskError {
    /// For people.
    pub(super) fn words(&self) -> String {
        chain(self)
    }
}

/// Asks.
pub(super) async fn ask(what: Ask<'_>) -> Result<Answer, AskError> {
    let timeout = what.timeout;
    tokio::time::timeout(timeout, ask_now(what)).await.map_err(|_| AskError::Timeout(timeout))?
}

async fn ask_now(what: Ask<'_>) -> Result<Answer, AskError> {
    let stream = connect(what.url, what.own).await?;
    if !what.url.is_tls() {
        return speak(stream, what).await;
    }
    let client = TlsClient::read(&Tls { ca: what.ca.clone(), ..Tls::default() })?;
    let name = ServerName::try_from(what.url.host().to_owned());
    let name = name.map_err(|error| AskError::Tls(io::Error::other(error)))?;
    let stream = TlsConnector::from(client.http1).connect(name, stream).await.map_err(AskError::Tls)?;
    speak(stream, what).await
}

/// To the first address that may be reached, and answers.
async fn connect(url: &WebUrl, own: &[SocketAddr]) -> Result<TcpStream, AskError> {
    let addresses = resolve::addresses_of(url.host(), url.port()).await.map_err(AskError::Name)?;
    let mut error = AskError::Name(io::ErrorKind::NotFound.into());
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        if let Err(source) = url.may_reach(address, own) {
            error = AskError::Address { address, source };
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            // That one of them may not be reached says more than that another is not there.
            Err(source) if !matches!(error, AskError::Address { .. }) => error = AskError::Connect(source),
            Err(_) => {}
        }
    }
    Err(error)
}

async fn speak<S>(stream: S, what: Ask<'_>) -> Result<Answer, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let _driven = Driven(tokio::spawn(async move { drop(connection.await) }));
    let mut headers = HeaderMap::from_iter(what.headers);
    if let Ok(host) = HeaderValue::from_str(&what.url.authority()) {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("strangler/", env!("CARGO_PKG_VERSION"))));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut request = Request::builder().method(what.method).uri(what.url.target()).body(Full::new(what.body))?;
    *request.headers_mut() = headers;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    let mut incoming = response.into_body();
    while what.body_bytes_max > 0
        && let Some(frame) = incoming.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            if body.len() + data.len() > what.body_bytes_max {
                return Err(AskError::TooLarge(what.body_bytes_max));
            }
            body.extend_from_slice(&data);
        }
    }
    Ok(Answer { status, body })
}

/// Ends with whoever waits for it.
struct Driven(tokio::task::JoinHandle<()>);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a file that a hook names is of no use. Never says what it holds.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// There is none, or it may not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Too large, or no text.
    #[error("{} is no text of at most {FILE_BYTES_MAX} bytes", path.display())]
    NoText {
        /// Which.
        path: PathBuf,
    },
}

/// A small text.
pub(super) async fn read_text(path: &str) -> Result<String, FileError> {
    let at = || PathBuf::from(path);
    let mut bytes = Vec::new();
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).await
    };
    read.await.map_err(|source| FileError::Read { path: at(), source })?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= FILE_BYTES_MAX);
    text.ok_or_else(|| FileError::NoText { path: at() })
}

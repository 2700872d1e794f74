//! A small HTTP/1.1 client for the admin plane: one connection for each question, bounded in time and size.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::admin::problem::Problem;
use crate::admin::token::{self, TokenError};
use crate::args::AdminArgs;
use strangler_core::chain::chain;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Loading a file of the largest size takes longer than anything else that is asked.
const APPLY_TIMEOUT: Duration = Duration::from_secs(40);
/// The proxy itself gives a new binary at most 50 s.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(55);
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why the proxy could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// `--admin` is not what it should be.
    #[error("{url:?} is no admin URL; write it as in `--admin http://127.0.0.1:9900` (https is not supported yet)")]
    Url {
        /// As given.
        url: String,
    },
    /// Nobody listens there.
    #[error(
        "no proxy answers at {url}: is `strangler run` up, and is this its --admin address? (--admin URL or STRANGLER_ADMIN says another)"
    )]
    NoProxy {
        /// Where.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("the proxy at {url} did not answer within {} s", limit.as_secs())]
    TimedOut {
        /// Where.
        url: String,
        /// The limit.
        limit: Duration,
    },
    /// Something listens there, but it does not speak as the admin plane does.
    #[error("what answers at {url} is no admin plane of strangler ({why})")]
    NotOurs {
        /// Where.
        url: String,
        /// What it did.
        why: String,
    },
    /// No token to show.
    #[error("this needs the admin token: name it by --token-file, or the proxy's state directory by --state-dir")]
    Token(#[source] TokenError),
    /// It said no, and why.
    #[error("{}", .problem.detail)]
    Refused {
        /// Why.
        problem: Box<Problem>,
        /// The whole answer.
        body: Box<Value>,
    },
}

/// A proxy that can be asked.
pub(super) struct Client {
    url: String,
    authority: String,
    host: String,
    port: u16,
    token_file: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    pub(super) fn new(args: &AdminArgs) -> Result<Client, ClientError> {
        let bad = || ClientError::Url { url: args.admin.clone() };
        let with_scheme =
            if args.admin.contains("://") { args.admin.clone() } else { format!("http://{}", args.admin) };
        let uri: Uri = with_scheme.parse().map_err(|_| bad())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(bad)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(80);
        let token_file = args.token_file.clone().unwrap_or_else(|| args.state_dir.join(token::FILE_NAME));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let url = format!("http://{authority}");
        let runtime = runtime.map_err(|source| ClientError::NoProxy { url: url.clone(), source })?;
        Ok(Client { url, authority: authority.to_string(), host, port, token_file, runtime })
    }

    /// What is open to everyone.
    pub(super) fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.ask(Method::GET, path, None, None)
    }

    /// What needs the token.
    pub(super) fn get_guarded(&self, path: &str) -> Result<Value, ClientError> {
        self.ask(Method::GET, path, None, Some(self.token()?))
    }

    /// A change.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.ask(Method::POST, path, Some(body), Some(self.token()?))
    }

    /// A question with a body.
    pub(super) fn post_open(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.ask(Method::POST, path, Some(body), None)
    }

    fn token(&self) -> Result<String, ClientError> {
        token::first_token(&self.token_file).map_err(ClientError::Token)
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<String>,
    ) -> Result<Value, ClientError> {
        let limit = match path {
            _ if path.ends_with("/apply") => APPLY_TIMEOUT,
            _ if path.ends_with("/upgrade") => UPGRADE_TIMEOUT,
            _ => TIMEOUT,
        };
        let asked = async { tokio::time::timeout(limit, self.exchange(method, path, body, token)).await };
        match self.runtime.block_on(asked) {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { url: self.url.clone(), limit }),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<String>,
    ) -> Result<Value, ClientError> {
        let not_ours = |why: String| ClientError::NotOurs { url: self.url.clone(), why };
        let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = connected.map_err(|source| ClientError::NoProxy { url: self.url.clone(), source })?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| not_ours(chain(&error)))?;
        tokio::spawn(connection);

        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.authority);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(bytes)).map_err(|error| not_ours(chain(&error)))?;
        let response = sender.send_request(request).await.map_err(|error| not_ours(chain(&error)))?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let bytes = bytes.map_err(|error| not_ours(chain(error.as_ref())))?.to_bytes();
        let answer: Value =
            serde_json::from_slice(&bytes).map_err(|_| not_ours(format!("it answered {status}, no JSON")))?;
        if status == StatusCode::OK {
            return Ok(answer);
        }
        match serde_json::from_value::<Problem>(answer.clone()) {
            Ok(problem) => Err(ClientError::Refused { problem: Box::new(problem), body: Box::new(answer) }),
            Err(_) => Err(not_ours(format!("it answered {status}"))),
        }
    }
}

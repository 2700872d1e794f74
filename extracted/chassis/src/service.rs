//! How a service is started, serves and stops.

mod extract;

use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Router, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument as _;
use tracing_subscriber::EnvFilter;

use crate::problem::Problem;
use crate::trace::TraceParent;

pub use extract::{ApiJson, ApiPath, ApiQuery};

/// The largest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Requests that run at the same time; more are answered 503.
const IN_FLIGHT_MAX: usize = 1_024;
/// Requests that are still running this long after the signal are dropped.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// The flags that every service takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ServiceArgs {
    /// Address to listen on. Port 0 takes a free one. Default: 127.0.0.1 and the service's own port.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Directory of the database, made if missing.
    #[arg(long, value_name = "DIR", default_value = "estate-data")]
    pub data: PathBuf,
    /// Bugs to start with, `name[:percent][,name…]`; those of other services are passed over.
    #[arg(long, env = "ESTATE_BUG", default_value = "")]
    pub bug: String,
}

impl ServiceArgs {
    pub fn listen_or(&self, port: u16) -> SocketAddr {
        self.listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, port).into())
    }
}

/// Why a service could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot watch for signals")]
    Signals { source: io::Error },
    #[error("cannot say on stdout where the service listens")]
    Announce { source: io::Error },
}

/// Logs go to stderr, at `info` unless `RUST_LOG` says otherwise.
pub fn init_logs() {
    let is_terminal = io::stderr().is_terminal();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A second subscriber in one process (tests) is no reason to stop.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal).with_writer(io::stderr).try_init();
}

/// Serves until SIGTERM or SIGINT, then lets running requests end. Prints `NAME listening on http://ADDR` once ready.
pub async fn run(name: &str, address: SocketAddr, router: Router) -> Result<(), ServeError> {
    let signals = |source| ServeError::Signals { source };
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let running = start(address, router).await?;
    writeln!(io::stdout(), "{name} listening on http://{}", running.address())
        .map_err(|source| ServeError::Announce { source })?;
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}

/// Prints an error and its causes on stderr; the exit code of `main`.
pub fn report<E: Error>(name: &str, outcome: Result<(), E>) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    let mut line = format!("{name}: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        cause = inner.source();
    }
    eprintln!("{line}");
    ExitCode::FAILURE
}

/// A service that serves in the background.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new request, lets the running ones end within the drain time.
    pub async fn stop(mut self) {
        let _ = self.stop.send(());
        if tokio::time::timeout(DRAIN_MAX, &mut self.task).await.is_err() {
            tracing::warn!("requests were still running at the end of the drain time");
            self.task.abort();
        }
    }
}

/// Binds and serves; port 0 takes a free one. [`run`] and tests both start here.
pub async fn start(address: SocketAddr, router: Router) -> Result<Running, ServeError> {
    let listen = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let (stop, stopped) = oneshot::channel();
    let server = serve(listener, dress(router)).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let task = tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(error = &error as &dyn Error, "the server ended");
        }
    });
    Ok(Running { address, stop, task })
}

/// What every service has besides its own routes.
fn dress(router: Router) -> Router {
    router
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { Problem::no_such_path() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(IN_FLIGHT_MAX)), in_bounds))
        .layer(middleware::from_fn(in_span))
}

async fn in_bounds(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => Problem::unavailable("too many requests are running").into_response(),
    }
}

/// Opens the request's span, with the caller's trace where it gave a well-formed one; handlers find it as an extension.
async fn in_span(mut request: Request, next: Next) -> Response {
    let parent =
        request.headers().get("traceparent").and_then(|value| value.to_str().ok()?.parse::<TraceParent>().ok());
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        trace_id = tracing::field::Empty
    );
    if let Some(parent) = parent {
        span.record("trace_id", parent.trace_id());
        request.extensions_mut().insert(parent);
    }
    async move {
        let response = next.run(request).await;
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    }
    .instrument(span)
    .await
}

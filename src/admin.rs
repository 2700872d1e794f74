//! The admin plane: its own port and runtime, never a route of the data plane.
//!
//! Numbers are open to whoever reaches the loopback address; divergences, the audit and every change need a token. Nothing here can
//! delay a request: what moves users is published by a swap.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use strangler_core::coverage::RouteReport;
use strangler_core::discovery::{Found, Totals};
use strangler_core::history::Counts;
use strangler_core::latency::RouteLatency;
use strangler_core::name::RouteName;
use strangler_core::noise::ledger::EndpointReport;
use strangler_core::plan::version;
use strangler_core::redact::Divergence;
use strangler_core::reload::ConfigStatus;
use strangler_core::snapshot::Snapshot;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

mod alarms;
mod api;
pub mod control;
mod coverage;
mod endpoints;
mod divergences;
pub mod problem;
mod room;
pub mod token;
pub mod upgrade;

use crate::admin::control::Control;
use crate::admin::problem::Problem;
use crate::admin::room::Room;
use crate::admin::token::{AdminTokens, Failures};
use crate::admin::upgrade::UpgradeRequest;
use crate::store::AuditEntry;

/// Largest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Connections at a time; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 256;
/// Requests worked on at a time; more are answered 503.
pub const REQUESTS_MAX: usize = 64;

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an end waits for what was sent before it.
const LAST_REQUEST_WITHIN: Duration = Duration::from_millis(100);

/// Why the admin plane does not serve.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Anyone on the network could reach it, and neither TLS nor roles exist yet.
    #[error(
        "the admin address {0} is not a loopback address, and without TLS its token would cross the network in the clear; \
         use 127.0.0.1 and a tunnel, and `--telemetry` for probes and Prometheus"
    )]
    NotLoopback(SocketAddr),
    /// The listener is not what it was.
    #[error("cannot tell the address of the admin listener")]
    Listener(#[source] std::io::Error),
}

/// Refuses an address from which the token could be overheard.
pub fn check_address(address: SocketAddr) -> Result<(), AdminError> {
    if address.ip().to_canonical().is_loopback() { Ok(()) } else { Err(AdminError::NotLoopback(address)) }
}

/// Whether the proxy should be sent requests, and how its configuration is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether it serves. Neither a refused file nor a failed store makes it unready.
    pub ready: bool,
    /// Whether it is on its way out.
    pub draining: bool,
    /// Content hash of the routes file in force.
    pub revision: String,
    /// Whether the last good text is in force instead of the file.
    pub config_stale: bool,
    /// Why the file on disk is not in force, if it was refused.
    pub config_refused: Option<String>,
    /// Why no rollout is looked at now, so that all of them stay where they are; `None`: they are.
    #[serde(default)]
    pub rollouts_stopped: Option<String>,
}

/// What a route has done since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteNumbers {
    /// Answers by legacy.
    pub requests_legacy: u64,
    /// Answers by extracted.
    pub requests_extracted: u64,
    /// Failures of legacy.
    pub failures_legacy: u64,
    /// Failures of extracted, those that legacy answered for included.
    pub failures_extracted: u64,
    /// Requests that legacy answered because extracted failed.
    pub fallbacks: u64,
    /// Copies sent.
    pub copies: u64,
    /// Pairs compared.
    pub compared: u64,
    /// Pairs that differed.
    pub mismatches: u64,
    /// What comparing has shown, in a word; `None`: nothing was compared.
    pub verdict: Option<String>,
}

/// How the data plane stands, beside its numbers.
#[derive(Clone, Debug, Default)]
pub struct PlaneStatus {
    /// Of routes whose breaker is not closed: how it stands (`open`, `half_open`).
    pub breakers: BTreeMap<String, &'static str>,
    /// In the order of their names.
    pub upstreams: Vec<UpstreamStatus>,
}

/// How an upstream stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Requests under way.
    pub in_flight: u32,
    /// Connections open, idle ones included.
    pub connections: u32,
    /// In the order of the file.
    pub endpoints: Vec<EndpointStatus>,
}

/// How an endpoint stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointStatus {
    /// As in the file.
    pub endpoint: String,
    /// Whether it gets requests: checks and ejections.
    pub up: bool,
    /// Requests under way.
    pub in_flight: u32,
    /// Why the last connection could not be made; `None`: it could.
    pub unreached: Option<String>,
    /// When that was, in Unix milliseconds.
    pub unreached_at_unix_ms: Option<u64>,
    /// How often in a row.
    pub unreached_times: u64,
}

/// Asks whoever loads the routes file to load it now.
#[derive(Debug)]
pub struct ApplyRequest {
    /// Whether routes that carried weight may be missing.
    pub accept_removals: bool,
    /// Who asked.
    pub by: String,
    /// Where the outcome goes.
    pub reply: oneshot::Sender<ApplyOutcome>,
}

/// What came of loading the routes file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyOutcome {
    /// Whether the file is in force.
    pub accepted: bool,
    /// Whether it differs from what was in force.
    pub changed: bool,
    /// Content hash of what is in force.
    pub revision: String,
    /// All faults, each with its place, as `check` shows them.
    pub faults: Vec<String>,
    /// What is odd but in force.
    pub warnings: Vec<String>,
    /// Raises that the file ended.
    pub dropped_raises: Vec<String>,
}

/// Renders the metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;
/// Tells how the proxy is.
pub type ReadReadiness = Arc<dyn Fn() -> Readiness + Send + Sync>;
/// Tells a route's numbers.
pub type ReadNumbers = Arc<dyn Fn(&str) -> Option<RouteNumbers> + Send + Sync>;

/// Asks both sides again; answers what differs now, or why they were not asked.
pub type Replay =
    Arc<dyn Fn(ReplayAsk) -> Pin<Box<dyn Future<Output = Result<Divergence, String>> + Send>> + Send + Sync>;

/// What is to be asked again.
#[derive(Debug)]
pub struct ReplayAsk {
    /// The record.
    pub record: Divergence,
    /// Headers beside those on record; secrets, mostly.
    pub headers: HeaderMap,
}
/// Tells what is known of the endpoints of one route, or of all; at most so many.
pub type ReadVerdicts = Arc<dyn Fn(Option<&str>, usize) -> Vec<EndpointReport> + Send + Sync>;

/// Tells how a route's rollout stands, as JSON; `None`: it has none.
pub type ReadRollout = Arc<dyn Fn(&str) -> Option<serde_json::Value> + Send + Sync>;
/// Tells how long the sides of one route took, or of all; at most so many.
pub type ReadLatencies = Arc<dyn Fn(Option<&str>, usize) -> Vec<RouteLatency> + Send + Sync>;
/// Tells what legacy was asked on a route, by its index.
pub type ReadCoverage = Arc<dyn Fn(&Snapshot, usize) -> Option<RouteReport> + Send + Sync>;
/// Tells what was found of paths that no route covers, the most asked first.
pub type ReadEndpoints = Arc<dyn Fn() -> (Totals, Vec<Found>) + Send + Sync>;

/// Tells how the data plane stands.
pub type ReadPlane = Arc<dyn Fn() -> PlaneStatus + Send + Sync>;

/// Tells all that was counted of every route, and of what none covers.
pub type ReadCounts = Arc<dyn Fn() -> BTreeMap<String, Counts> + Send + Sync>;
/// Tells what comparing has shown of a route, in a word.
pub type ReadVerdict = Arc<dyn Fn(&str) -> Option<&'static str> + Send + Sync>;
/// Tells what became of the routes file. May read it.
pub type ReadConfig = Arc<dyn Fn() -> ConfigSeen + Send + Sync>;
/// Tells how the process itself is.
pub type ReadProcess = Arc<dyn Fn() -> ProcessStatus + Send + Sync>;

/// What became of the routes file.
#[derive(Clone, Debug, Default)]
pub struct ConfigSeen {
    /// Where it is.
    pub path: String,
    /// `None`: not known.
    pub status: Option<ConfigStatus>,
    /// The file as it is now, if something in it is wrong.
    pub text: String,
}

/// How the process itself is.
#[derive(Clone, Debug, Default)]
pub struct ProcessStatus {
    /// What the proxy adds to a request: ends of buckets in microseconds, and counts.
    pub overhead: (Vec<u32>, Vec<u64>),
    /// Requests under way of legacy, of extracted.
    pub in_flight: [i64; 2],
    /// Requests refused at the door, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Records that found no room, by queue.
    pub dropped: BTreeMap<String, u64>,
    /// Seconds since the start.
    pub up_s: u64,
}

/// What the admin plane shows and moves.
#[derive(Clone)]
pub struct AdminState {
    /// The one hand on the runtime state.
    pub control: Arc<Control>,
    /// Who is let in; `None`: no token could be read or made, and changes are only possible by the kill file and signals.
    pub tokens: Option<AdminTokens>,
    /// Host names beside the loopback ones and the bound address, lower-case, without port.
    pub hosts: Vec<String>,
    /// For `/metrics`.
    pub metrics: RenderMetrics,
    /// For `/readyz`.
    pub readiness: ReadReadiness,
    /// For the status.
    pub numbers: ReadNumbers,
    /// For the dashboard.
    pub counts: ReadCounts,
    /// Likewise.
    pub compare_verdict: ReadVerdict,
    /// Likewise.
    pub config: ReadConfig,
    /// Likewise.
    pub process: ReadProcess,
    /// Likewise.
    pub plane: ReadPlane,
    /// What comparing has shown.
    pub verdicts: ReadVerdicts,
    /// How a route's rollout stands, as JSON.
    pub rollout: ReadRollout,
    /// How long the sides took.
    pub latencies: ReadLatencies,
    /// What legacy was asked.
    pub coverage: ReadCoverage,
    /// What no route covers.
    pub endpoints: ReadEndpoints,
    /// To whoever loads the routes file; a bounded channel.
    pub apply: mpsc::Sender<ApplyRequest>,
    /// Asks both sides again for what is on record.
    pub replay: Replay,
    /// To whoever starts a new binary; a bounded channel.
    pub upgrade: mpsc::Sender<UpgradeRequest>,
}

struct Admin {
    state: AdminState,
    bound: SocketAddr,
    failures: Failures,
    permits: Semaphore,
    room: Room,
}

impl Admin {
    fn new(state: AdminState, bound: SocketAddr, stopping: watch::Receiver<bool>) -> Arc<Admin> {
        let permits = Semaphore::new(REQUESTS_MAX);
        Arc::new(Admin { state, bound, failures: Failures::default(), permits, room: Room::new(stopping) })
    }
}

/// Ends the connection that a request came by.
#[derive(Clone, Debug, Default)]
struct Hangup(Arc<Notify>);

impl Hangup {
    fn now(&self) {
        self.0.notify_one();
    }
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
struct Peer(SocketAddr);

/// Serves the admin API until `shutdown`, then lets open requests end for 5 s.
pub async fn serve(
    listener: TcpListener,
    state: AdminState,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AdminError> {
    let bound = listener.local_addr().map_err(AdminError::Listener)?;
    check_address(bound)?;
    let (stop, stopping) = watch::channel(false);
    let admin = Admin::new(state, bound, stopping);
    let told = tokio::spawn(room::events::keep_told(Arc::clone(&admin)));
    // Whoever listens for ever is told, or the last requests would be waited for in vain.
    let shutdown = async move {
        shutdown.await;
        let _ = stop.send(true);
    };
    accept(listener, router(admin), shutdown).await;
    told.abort();
    Ok(())
}

/// Serves `/livez`, `/readyz` and `/metrics` only, on an address that others may reach.
pub async fn serve_telemetry(
    listener: TcpListener,
    state: AdminState,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AdminError> {
    let bound = listener.local_addr().map_err(AdminError::Listener)?;
    let admin = Admin::new(state, bound, watch::channel(false).1);
    let router = telemetry_routes().fallback(not_found).method_not_allowed_fallback(wrong_method);
    let router = router.layer(from_fn_with_state(Arc::clone(&admin), bound_work)).layer(from_fn(harden));
    accept(listener, router.with_state(admin), shutdown).await;
    Ok(())
}

fn telemetry_routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/livez", get(api::livez))
        .route("/readyz", get(api::readyz))
        .route("/metrics", get(api::metrics))
}

fn router(admin: Arc<Admin>) -> Router {
    let guarded = Router::new()
        .route("/api/v1/routes/{name}/weight", post(api::weight))
        .route("/api/v1/routes/{name}/kill", post(api::kill_route))
        .route("/api/v1/routes/{name}/unkill", post(api::unkill_route))
        .route("/api/v1/routes/{name}/rollout/{verb}", post(api::rollout))
        .route("/api/v1/kill", post(api::kill_all))
        .route("/api/v1/unkill", post(api::unkill_all))
        .route("/api/v1/config/apply", post(api::apply))
        .route("/api/v1/upgrade", post(upgrade::upgrade))
        .route("/api/v1/divergences", get(divergences::divergences))
        .route("/api/v1/divergences/{id}/replay", post(divergences::replay))
        .route("/api/v1/routes/{name}/accept", post(divergences::accept))
        .route("/api/v1/routes/{name}/unaccept", post(divergences::unaccept))
        .route("/api/v1/verdicts", get(api::verdicts))
        .route("/api/v1/coverage", get(coverage::all))
        .route("/api/v1/coverage/{name}", get(coverage::one))
        .route("/api/v1/endpoints", get(endpoints::all))
        .route("/api/v1/audit", get(api::audit))
        .route("/api/v1/audit/verify", get(api::verify_audit))
        .route_layer(from_fn_with_state(Arc::clone(&admin), demand_match))
        .route_layer(from_fn_with_state(Arc::clone(&admin), demand_token));
    telemetry_routes()
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/routes/{name}", get(api::route))
        .route("/api/v1/explain", post(api::explain))
        .merge(guarded)
        .merge(room::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&admin), bound_work))
        .layer(from_fn_with_state(Arc::clone(&admin), demand_own_page))
        .layer(from_fn(harden))
        .with_state(admin)
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here; the API lies under /api/v1/")
}

async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this resource does not have that method")
}

/// What every answer carries: nothing of ours is to be framed, kept, guessed at or run.
async fn harden(request: Request, next: Next) -> Response {
    const HEADERS: [(header::HeaderName, &str); 5] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    const NOTHING: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let mut response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let policy = if kind.is_some_and(|kind| kind.starts_with(b"text/html")) { room::POLICY } else { NOTHING };
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A web page that a person has open must neither read nor change anything: its name must not be one that was rebound to this
/// address, and a change must not come from another site.
async fn demand_own_page(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let sent = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let host = authority.or_else(sent).unwrap_or_default();
    if !is_own_host(&host, &admin) {
        let detail = "this host name is not one of the admin plane's";
        return Problem::new(StatusCode::MISDIRECTED_REQUEST, "host", detail).into_response();
    }
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !is_reading && !is_same_site(request.headers(), &host) {
        return Problem::new(StatusCode::FORBIDDEN, "cross_site", "another site's page may not ask this")
            .into_response();
    }
    next.run(request).await
}

fn is_own_host(authority: &str, admin: &Admin) -> bool {
    let host = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((address, _)) => address,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    let host = host.to_ascii_lowercase();
    host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == admin.bound.ip())
        || admin.state.hosts.contains(&host)
}

/// `Sec-Fetch-Site` where the browser sends it, else `Origin`; a program sends neither.
fn is_same_site(headers: &HeaderMap, host: &str) -> bool {
    match (headers.get("sec-fetch-site"), headers.get(header::ORIGIN)) {
        (Some(site), _) => matches!(site.as_bytes(), b"same-origin" | b"none"),
        (None, Some(origin)) => {
            let origin = origin.to_str().unwrap_or_default();
            origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
        }
        (None, None) => true,
    }
}

async fn bound_work(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = admin.permits.try_acquire() else {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many requests at a time").into_response();
    };
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "it took too long").into_response(),
    }
}

async fn demand_token(
    State(admin): State<Arc<Admin>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let Some(tokens) = &admin.state.tokens else {
        let detail =
            "no admin token could be read or made at start (see the log); the kill file and SIGUSR1 still work";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_token", detail).into_response();
    };
    let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let bearer = given.and_then(|given| given.split_at_checked(7)).filter(|(s, _)| s.eq_ignore_ascii_case(b"bearer "));
    if bearer.is_some_and(|(_, token)| tokens.allow(token.trim_ascii())) {
        return next.run(request).await;
    }
    if let Some(session) = room::session_of(&admin, request.headers()).filter(|_| bearer.is_none()) {
        let csrf = request.headers().get("strangler-csrf").map_or(&b""[..], HeaderValue::as_bytes);
        let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
        return match room::demand_own_form(&session, request.headers(), csrf) {
            Err(problem) if !is_reading => problem.into_response(),
            _ => next.run(request).await,
        };
    }
    if admin.failures.count(peer.ip(), Instant::now()) {
        let detail = "too many wrong tokens from this address within a minute";
        return Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", detail).into_response();
    }
    admin.state.control.note_in_audit(AuditEntry {
        who: format!("api, {}", peer.ip()),
        what: "login_failed".to_owned(),
        route: None,
        reason: format!("{} {}", request.method(), request.uri().path().chars().take(200).collect::<String>()),
        ..AuditEntry::default()
    });
    let detail = if bearer.is_some() {
        "this token is not the admin plane's"
    } else {
        "this needs `Authorization: Bearer TOKEN`; the token lies in the state directory, in `admin-token`"
    };
    Problem::new(StatusCode::UNAUTHORIZED, "token", detail).into_response()
}

/// A change that says on which state it rests (`If-Match`) is made on that one or not at all. Who says nothing is not asked.
async fn demand_match(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let Some(given) = request.headers().get(header::IF_MATCH).filter(|given| given.as_bytes() != b"*") else {
        return next.run(request).await;
    };
    let snapshot = admin.state.control.snapshot();
    let name = request.uri().path().strip_prefix("/api/v1/routes/").and_then(|rest| rest.split('/').next());
    let name: Option<RouteName> = name.and_then(|name| name.parse().ok());
    let is_it = given.to_str().is_ok_and(|given| etag(&snapshot, name.as_ref()) == given);
    if is_it { next.run(request).await } else { room::stale().into_response() }
}

/// What is in force, of a route or of all, for `If-Match`.
fn etag(snapshot: &Snapshot, route: Option<&RouteName>) -> String {
    format!("\"{}\"", version(snapshot, route))
}

/// HTTP/1.1 only, bounded in connections and in the time that a head may take.
async fn accept(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()> + Send) {
    let (stop, stopped) = watch::channel(false);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let next = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        let (Ok(permit), Ok((stream, peer))) = next else {
            // Out of descriptors, or gone before it was accepted: neither ends by asking again at once.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let hangup = Hangup::default();
        let router = router.clone().layer(Extension(Peer(peer))).layer(Extension(hangup.clone()));
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(64 << 10);
            let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = hangup.0.notified() => {}
                _ = stopped.changed() => {
                    // One that was accepted a moment ago has a request on its way: it is answered, not hung up on.
                    if tokio::time::timeout(LAST_REQUEST_WITHIN, connection.as_mut()).await.is_err() {
                        connection.as_mut().graceful_shutdown();
                        let _ = connection.await;
                    }
                }
            }
            drop(permit);
        });
    }
    drop(listener);
    let _ = stop.send(true);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, connections.acquire_many(all)).await;
}

#[cfg(test)]
mod tests;

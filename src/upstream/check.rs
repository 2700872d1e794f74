//! Active health checks, and the watch over the files of `tls`. One task per upstream that needs it, for the whole process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use strangler_core::health::{self, Health};
use strangler_core::route::{HealthCheck, HostPolicy};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::upstream::endpoint::EndpointState;
use crate::upstream::{UpstreamState, chance, dial, since_begun, tls};

/// How often upstreams that came with a reload are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often the files of `tls` are read.
const FILES_EVERY: Duration = Duration::from_secs(5);

/// Starts a task for each upstream that needs one, and ends those of upstreams that are gone.
pub(super) async fn keep_checking(upstreams: &impl Fn() -> Vec<Weak<UpstreamState>>) {
    let mut tasks: BTreeMap<u64, Vec<Task>> = BTreeMap::new();
    loop {
        let now: Vec<Arc<UpstreamState>> = upstreams().iter().filter_map(Weak::upgrade).collect();
        let ids: BTreeSet<u64> = now.iter().map(|upstream| upstream.id).collect();
        tasks.retain(|id, _| ids.contains(id));
        for upstream in now {
            tasks.entry(upstream.id).or_insert_with(|| begin(&upstream));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A task that ends with whoever holds it.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn begin(upstream: &Arc<UpstreamState>) -> Vec<Task> {
    let mut tasks = Vec::new();
    if let Some(check) = &upstream.config.health_check {
        for endpoint in 0..upstream.endpoints().len() {
            tasks.push(Task(tokio::spawn(check_one(Arc::downgrade(upstream), endpoint, check.clone()))));
        }
    }
    if upstream.config.tls.files().next().is_some() {
        tasks.push(Task(tokio::spawn(watch_files(Arc::downgrade(upstream)))));
    }
    tasks
}

async fn check_one(upstream: Weak<UpstreamState>, endpoint: usize, check: HealthCheck) {
    let mut health = Health::default();
    loop {
        let Some(upstream) = upstream.upgrade() else { return };
        let Some(state) = upstream.endpoints().get(endpoint) else { return };
        let asked = tokio::time::timeout(check.timeout, ask(&upstream, state, &check)).await;
        let outcome = asked.unwrap_or_else(|_| Err("no answer in time".into()));
        let after = health.after(&check, matches!(outcome, Ok(status) if health::is_good(status)));
        if after.is_healthy() != health.is_healthy() {
            state.set_healthy(after.is_healthy(), since_begun(Instant::now()));
            let (name, place) = (&upstream.config.name, &state.endpoint);
            if after.is_healthy() {
                tracing::info!(upstream = %name, endpoint = %place, "an endpoint is well again");
            } else {
                let last = outcome.map_or_else(|error| error.to_string(), |status| status.to_string());
                tracing::warn!(upstream = %name, endpoint = %place, last, "an endpoint does not answer its checks and is left out");
            }
        }
        health = after;
        drop(upstream);
        tokio::time::sleep(health::wait(&check, chance::next_u64())).await;
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Asks once, over a connection of its own: whether one can be made is part of the question.
async fn ask(upstream: &UpstreamState, endpoint: &EndpointState, check: &HealthCheck) -> Result<u16, Cause> {
    let at = Instant::now() + check.timeout;
    let scheme = endpoint.endpoint.scheme;
    let stream = dial::tcp(endpoint, Some(at)).await?;
    let host = match &upstream.config.host {
        HostPolicy::Literal(host) => host,
        // No client has sent one.
        HostPolicy::Preserve | HostPolicy::Upstream => &endpoint.authority,
    };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = Uri::from(check.path.clone());
    request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("strangler-health"));
    if scheme.is_h2() {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(if scheme.is_tls() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
        parts.authority = Some(host.as_bytes().try_into()?);
        *request.uri_mut() = Uri::from_parts(parts)?;
    } else {
        request.headers_mut().insert(header::HOST, host.clone());
    }
    match (scheme.is_tls(), scheme.is_h2()) {
        (false, false) => over_http1(stream, request).await,
        (true, false) => over_http1(dial::tls(upstream, endpoint, stream, false).await?, request).await,
        (false, true) => over_http2(stream, request).await,
        (true, true) => over_http2(dial::tls(upstream, endpoint, stream, true).await?, request).await,
    }
}

async fn over_http1<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<u16, Cause>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let _driven = Task(tokio::spawn(async move { drop(connection.await) }));
    Ok(sender.send_request(request).await?.status().as_u16())
}

async fn over_http2<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<u16, Cause>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let _driven = Task(tokio::spawn(async move { drop(connection.await) }));
    Ok(sender.send_request(request).await?.status().as_u16())
}

/// Takes changed files into use. What cannot be used (half written, say) is left until it can be.
async fn watch_files(upstream: Weak<UpstreamState>) {
    let mut seen = None;
    loop {
        tokio::time::sleep(FILES_EVERY).await;
        let Some(upstream) = upstream.upgrade() else { return };
        let looked = tokio::task::spawn_blocking(move || {
            let hash = tls::hash_of(&upstream.config.tls);
            let in_use = upstream.tls.load().as_ref().map(|client| client.hash);
            // Said once for each content that cannot be used, not every few seconds.
            if hash.is_some() && hash != in_use && hash != seen {
                upstream.read_tls();
            }
            hash
        });
        seen = looked.await.ok().flatten();
    }
}

//! The answers of `/api/v1`, and those of the probes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strangler_core::audit::Verifier;
use strangler_core::explain::Asked;
use strangler_core::latency::RouteLatency;
use strangler_core::name::RouteName;
use strangler_core::noise::ledger::EndpointReport;
use strangler_core::plan::{Wish, plan};
use strangler_core::route::StepError;
use strangler_core::runtime::{KillScope, Note, RolloutAsk, WeightAsk};
use strangler_core::snapshot::{KillStatus, RouteStatus, Snapshot};
use tokio::sync::oneshot;

use crate::admin::alarms;
use crate::admin::control::ControlError;
use crate::admin::problem::Problem;
use crate::admin::{Admin, ApplyOutcome, ApplyRequest, Peer, PlaneStatus, Readiness, RouteNumbers, UpstreamStatus};
use crate::store::{AuditEntry, LIST_ROWS_MAX, Listing, StoreError, StoreHealth, now_unix_ms};
use strangler_core::chain::chain;

/// Longest name that someone gives themselves, in bytes.
const BY_BYTES_MAX: usize = 64;
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) type App = State<Arc<Admin>>;

pub(super) async fn livez() -> &'static str {
    "alive\n"
}

#[derive(Serialize)]
struct Ready {
    #[serde(flatten)]
    readiness: Readiness,
    store: StoreHealth,
}

pub(super) async fn readyz(State(admin): App) -> Response {
    let readiness = (admin.state.readiness)();
    let is_ready = readiness.ready && !readiness.draining;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { readiness, store: admin.state.control.store().health_now() })).into_response()
}

pub(super) async fn metrics(State(admin): App) -> Response {
    let text = (admin.state.metrics)();
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))], text)
        .into_response()
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    route: RouteStatus,
    numbers: Option<RouteNumbers>,
    /// `closed`, `open`, `half_open`; `None`: the route has no breaker.
    breaker: Option<&'static str>,
    /// `None`: the route has none.
    rollout: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Status {
    version: &'static str,
    readiness: Readiness,
    store: StoreHealth,
    changes_unsaved: u64,
    divergences_dropped: u64,
    pins_unsaved: u64,
    /// What someone should look at, in words.
    alarms: Vec<String>,
    kills: Vec<KillStatus>,
    /// Moved weights of routes that the file does not have.
    moves_without_route: Vec<String>,
    legacy: String,
    /// The first 500.
    upstreams: Vec<UpstreamStatus>,
    routes: Vec<Shown>,
    routes_total: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default)]
    pub(super) offset: usize,
    pub(super) limit: Option<usize>,
}

pub(super) async fn status(State(admin): App, page: Result<Query<Page>, QueryRejection>) -> Result<Response, Problem> {
    let Query(page) = page.map_err(|error| bad_query(&error))?;
    let (control, readiness) = (&admin.state.control, (admin.state.readiness)());
    let (snapshot, store) = (control.snapshot(), control.store().health_now());
    let total = snapshot.table().routes().len();
    let rows_max = LIST_ROWS_MAX as usize;
    let limit = page.limit.unwrap_or(rows_max).min(rows_max);
    let PlaneStatus { breakers, mut upstreams } = (admin.state.plane)();
    upstreams.truncate(rows_max);
    let indices = (page.offset.min(total)..total).take(limit);
    let routes: Vec<Shown> = indices.filter_map(|index| shown(&admin, &snapshot, index, &breakers)).collect();
    let store_now = (control.store().kind(), &store);
    let mut alarms = alarms::alarms(&snapshot, &readiness, store_now, &breakers, &upstreams);
    let of_rollout = |shown: &Shown| {
        let alarm = shown.rollout.as_ref()?.get("alarm")?.as_str()?;
        Some(format!("the rollout of `{}` {alarm}", shown.route.name))
    };
    alarms.extend(routes.iter().filter_map(of_rollout).take(alarms::NAMED_MAX));
    let etag = [(header::ETAG, crate::admin::etag(&snapshot, None))];
    let status = Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        alarms,
        readiness,
        store,
        changes_unsaved: control.store().changes_unsaved(),
        divergences_dropped: control.store().divergences_dropped(),
        pins_unsaved: control.store().pins_unsaved(),
        kills: snapshot.runtime().kills().take(rows_max).map(KillStatus::of).collect(),
        moves_without_route: snapshot.orphans().iter().map(|name| name.as_str().to_owned()).collect(),
        legacy: snapshot.table().legacy().name.as_str().to_owned(),
        upstreams,
        routes,
        routes_total: total,
    });
    Ok((etag, status).into_response())
}

fn shown(admin: &Admin, snapshot: &Snapshot, index: usize, breakers: &BTreeMap<String, &'static str>) -> Option<Shown> {
    let route = snapshot.status(index)?;
    let numbers = (admin.state.numbers)(&route.name);
    let has_breaker = snapshot.table().routes().get(index)?.breaker.is_some();
    let breaker = has_breaker.then(|| breakers.get(&route.name).copied().unwrap_or("closed"));
    let rollout = (admin.state.rollout)(&route.name);
    let mut route = route;
    let waits = rollout.as_ref().and_then(|rollout| rollout.get("waits_for")).and_then(|waits| waits.as_array());
    route.waits_for = waits.into_iter().flatten().filter_map(|wait| wait.as_str().map(str::to_owned)).collect();
    Some(Shown { route, numbers, breaker, rollout })
}

pub(super) async fn route(State(admin): App, Path(name): Path<String>) -> Result<Response, Problem> {
    let snapshot = admin.state.control.snapshot();
    let breakers = (admin.state.plane)().breakers;
    let found = snapshot.route(&name).and_then(|(index, _)| shown(&admin, &snapshot, index, &breakers));
    let shown = found.ok_or_else(|| unknown_route(&name))?;
    let etag = [(header::ETAG, crate::admin::etag(&snapshot, name.parse().ok().as_ref()))];
    Ok((etag, Json(shown)).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightBody {
    /// `10%`, or `file`.
    weight: String,
    reason: String,
    #[serde(default)]
    accept_stale: bool,
    by: Option<String>,
    /// Only tells what it would do.
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn weight(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body: WeightBody = json(&headers, body)?;
    let ask: WeightAsk = body.weight.parse().map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_weight", format!("{:?}: {error}, or `file`", body.weight))
    })?;
    let (name, who) = (route_name(&name)?, who(&peer, body.by.as_deref())?);
    if body.dry_run {
        return planned(&admin, &name, Wish::Weight { ask, accept_stale: body.accept_stale }, &who, &body.reason);
    }
    let control = Arc::clone(&admin.state.control);
    let change = async move { control.set_weight(&who, &name, ask, body.accept_stale, &body.reason).await };
    Ok(Json(to_its_end(change).await??).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KillBody {
    reason: String,
    #[serde(default)]
    accept_stale: bool,
    by: Option<String>,
    /// Only tells what it would do.
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn kill_route(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let scope = KillScope::Route(route_name(&name)?);
    kill(&admin, peer, scope, json(&headers, body)?).await
}

pub(super) async fn kill_all(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    kill(&admin, peer, KillScope::All, json(&headers, body)?).await
}

async fn kill(admin: &Admin, peer: Peer, scope: KillScope, body: KillBody) -> Result<Response, Problem> {
    let who = who(&peer, body.by.as_deref())?;
    if body.dry_run {
        return planned(admin, &of_one(scope)?, Wish::Kill { accept_stale: body.accept_stale }, &who, &body.reason);
    }
    let control = Arc::clone(&admin.state.control);
    let change = async move { control.kill(&who, scope, body.accept_stale, &body.reason).await };
    Ok(Json(to_its_end(change).await??).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnkillBody {
    reason: String,
    by: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn unkill_route(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let scope = KillScope::Route(route_name(&name)?);
    unkill(&admin, peer, scope, json(&headers, body)?).await
}

pub(super) async fn unkill_all(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    unkill(&admin, peer, KillScope::All, json(&headers, body)?).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RolloutBody {
    reason: String,
    /// Of `approve`: the step; without it, the one that comes next.
    step: Option<String>,
    /// Of `rollback`.
    #[serde(default)]
    accept_stale: bool,
    by: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn rollout(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    Path((name, verb)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body: RolloutBody = json(&headers, body)?;
    let step =
        body.step.as_deref().map(str::parse).transpose().map_err(|error: StepError| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_step", error.to_string())
        })?;
    let ask = match verb.as_str() {
        "hold" => RolloutAsk::Hold,
        "resume" => RolloutAsk::Resume,
        "approve" => RolloutAsk::Approve(step),
        "rollback" => RolloutAsk::RollBack { accept_stale: body.accept_stale },
        _ => return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "no such verb of a rollout")),
    };
    let (name, who) = (route_name(&name)?, who(&peer, body.by.as_deref())?);
    if body.dry_run {
        return planned(&admin, &name, Wish::Rollout(ask), &who, &body.reason);
    }
    let control = Arc::clone(&admin.state.control);
    let change = async move { control.ask_rollout(&who, &name, ask, &body.reason).await };
    Ok(Json(to_its_end(change).await??).into_response())
}

/// What a change would do.
fn planned(admin: &Admin, name: &RouteName, wish: Wish, who: &str, reason: &str) -> Result<Response, Problem> {
    let note = Note::new(who, now_unix_ms(), reason).map_err(ControlError::from)?;
    let plan = plan(&admin.state.control.snapshot(), name, wish, &note).map_err(ControlError::from)?;
    Ok(Json(plan).into_response())
}

fn of_one(scope: KillScope) -> Result<RouteName, Problem> {
    match scope {
        KillScope::Route(name) => Ok(name),
        KillScope::All => {
            let detail = "`dry_run` tells of one route at a time";
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "dry_run", detail))
        }
    }
}

async fn unkill(admin: &Admin, peer: Peer, scope: KillScope, body: UnkillBody) -> Result<Response, Problem> {
    let who = who(&peer, body.by.as_deref())?;
    if body.dry_run {
        return planned(admin, &of_one(scope)?, Wish::Unkill, &who, &body.reason);
    }
    let control = Arc::clone(&admin.state.control);
    let change = async move { control.unkill(&who, scope, &body.reason).await };
    Ok(Json(to_its_end(change).await??).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyBody {
    #[serde(default)]
    accept_removals: bool,
    by: Option<String>,
}

/// A refusal: the problem's members beside those of the outcome.
#[derive(Serialize)]
struct ApplyRefused {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    outcome: ApplyOutcome,
}

pub(super) async fn apply(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body: ApplyBody = json(&headers, body)?;
    let by = who(&peer, body.by.as_deref())?;
    to_its_end(apply_and_audit(admin, body.accept_removals, by)).await?
}

pub(super) async fn apply_and_audit(admin: Arc<Admin>, accept_removals: bool, by: String) -> Result<Response, Problem> {
    let before = admin.state.control.snapshot().table().revision().to_string();
    let (reply, outcome) = oneshot::channel();
    let request = ApplyRequest { accept_removals, by: by.clone(), reply };
    let busy = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "the file is being loaded already; ask again");
    admin.state.apply.try_send(request).map_err(busy)?;
    let Ok(Ok(outcome)) = tokio::time::timeout(APPLY_TIMEOUT, outcome).await else {
        let detail = "the file was not loaded in time; look at the status to see which revision is in force";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", detail));
    };
    let reason = if accept_removals { "asked for, removals accepted" } else { "asked for" };
    let entry = AuditEntry {
        at_unix_ms: now_unix_ms(),
        who: by,
        what: "apply".to_owned(),
        from: Some(before),
        to: Some(outcome.revision.clone()),
        reason: outcome.faults.first().cloned().unwrap_or_else(|| reason.to_owned()).chars().take(1_000).collect(),
        accepted: outcome.accepted,
        ..AuditEntry::default()
    };
    // The file is in force, or is not: a store that fails is an alarm of its own.
    let _ = admin.state.control.store().save(vec![], vec![entry]).await;
    if outcome.accepted {
        return Ok(Json(outcome).into_response());
    }
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let detail = format!("the routes file was refused: {} faults; what ran before runs on", outcome.faults.len());
    let refused = ApplyRefused { problem: Problem::new(status, "refused", detail), outcome };
    let mut response = (status, Json(refused)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    Ok(response)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    pub(super) route: Option<String>,
    limit: Option<u32>,
    /// Milliseconds since 1970.
    #[serde(default)]
    since: u64,
}

impl ListQuery {
    pub(super) fn listing(self) -> Listing {
        Listing { route: self.route, since_unix_ms: self.since, limit: self.limit.unwrap_or(50).min(LIST_ROWS_MAX) }
    }
}

/// What comparing has shown of every endpoint.
#[derive(Serialize)]
struct Verdicts {
    endpoints: Vec<EndpointReport>,
    /// Of the same routes. No part of any verdict.
    latency: Vec<RouteLatency>,
}

pub(super) async fn verdicts(
    State(admin): App,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(ListQuery { route, limit, since: _ }) = query.map_err(|error| bad_query(&error))?;
    if let Some(name) = &route
        && admin.state.control.snapshot().route(name).is_none()
    {
        return Err(unknown_route(name));
    }
    let most = limit.unwrap_or(LIST_ROWS_MAX).min(LIST_ROWS_MAX) as usize;
    let endpoints = (admin.state.verdicts)(route.as_deref(), most);
    let latency = (admin.state.latencies)(route.as_deref(), most);
    Ok(Json(Verdicts { endpoints, latency }).into_response())
}

#[derive(Serialize)]
struct Audit {
    audit: Vec<AuditEntry>,
}

pub(super) async fn audit(
    State(admin): App,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error))?;
    let audit = admin.state.control.store().audit(query.listing()).await?;
    Ok(Json(Audit { audit }).into_response())
}

/// What following the audit's chain has shown.
#[derive(Serialize)]
struct AuditVerified {
    /// Whether no entry was changed, taken out or put in between.
    intact: bool,
    /// The number of the first entry that does not fit.
    broken_at: Option<u64>,
    /// Entries whose link is right.
    linked: u64,
    /// Entries that are older than the chain.
    unlinked: u64,
    /// The last link, to be noted elsewhere: whoever cuts the end off cannot know that.
    head: Option<String>,
}

pub(super) async fn verify_audit(State(admin): App) -> Result<Response, Problem> {
    let verifier = follow(&admin).await?;
    let Verifier { linked, unlinked, broken_at, .. } = verifier;
    let head = verifier.head().map(str::to_owned);
    Ok(Json(AuditVerified { intact: broken_at.is_none(), broken_at, linked, unlinked, head }).into_response())
}

/// Follows the audit's chain to its end, or to where it is broken.
pub(super) async fn follow(admin: &Admin) -> Result<Verifier, StoreError> {
    let (mut verifier, mut after) = (Verifier::default(), 0);
    loop {
        // Page by page: changes are put on record in between.
        let (next, last, is_more) = admin.state.control.store().follow_audit(verifier, after).await?;
        (verifier, after) = (next, last);
        if !is_more || verifier.broken_at.is_some() {
            return Ok(verifier);
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainBody {
    method: String,
    /// A path or a URL.
    url: String,
    /// Lines `name: value`.
    #[serde(default)]
    headers: Vec<String>,
}

pub(super) async fn explain(
    State(admin): App,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body: ExplainBody = json(&headers, body)?;
    let asked = Asked::parse(&body.method, &body.url, body.headers.iter().map(String::as_str));
    let asked = asked.map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_request", chain(&error)))?;
    let snapshot = admin.state.control.snapshot();
    let signing = admin.state.control.signing();
    Ok(Json(strangler_core::explain::explain_with(&snapshot, &asked.facts(), signing)).into_response())
}

/// A change is not given up half way because whoever asked has hung up.
pub(super) async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    let failed =
        |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the change broke off; look at the status");
    tokio::spawn(change).await.map_err(failed)
}

/// A body that says it is JSON and is: a form of another site cannot say so.
pub(super) fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        let detail = "the body must be `content-type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", detail));
    }
    let body = body.map_err(|error| Problem::new(error.status(), "body", error.body_text()))?;
    serde_json::from_slice(&body).map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_body", format!("the body is not what this takes: {error}"))
    })
}

pub(super) fn bad_query(error: &QueryRejection) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_query", error.body_text())
}

pub(super) fn unknown_route(name: &str) -> Problem {
    let name: String = name.chars().take(63).collect();
    Problem::new(StatusCode::NOT_FOUND, "unknown_route", format!("no route is named {name:?}"))
}

pub(super) fn route_name(text: &str) -> Result<RouteName, Problem> {
    text.parse().map_err(|_| unknown_route(text))
}

/// What a person calls themselves, and where they are: the token alone says only that they may.
pub(super) fn who(peer: &Peer, by: Option<&str>) -> Result<String, Problem> {
    let ip = peer.0.ip();
    let who = match by {
        Some(by) if by.len() <= BY_BYTES_MAX => format!("{} (api, {ip})", by.trim()),
        Some(_) => String::new(),
        None => format!("api, {ip}"),
    };
    // The rules of a note, asked early so that nothing is half done.
    match Note::new(&who, 0, "because") {
        Ok(note) => Ok(note.by().to_owned()),
        Err(error) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_by", error.to_string())),
    }
}

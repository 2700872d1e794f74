//! What differed, why, what of it is intended, and how it is asked again.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use strangler_core::day::Day;
use strangler_core::redact::Divergence;
use strangler_core::route::{Route, Upstream};
use strangler_core::runtime::utc;
use strangler_core::snapshot::Snapshot;

use crate::admin::api::{App, ListQuery, bad_query, json, route_name, to_its_end, unknown_route, who};
use crate::admin::control::AcceptedStatus;
use crate::admin::problem::Problem;
use crate::admin::{Peer, ReplayAsk};
use crate::store::{AuditEntry, StoredCause, StoredDivergence, now_unix_ms};

/// Headers that a replay may be given.
const HEADERS_MAX: usize = 32;

#[derive(Serialize)]
struct ShownDivergence {
    id: String,
    at: String,
    at_unix_ms: u64,
    route: String,
    signature: String,
    record: serde_json::Value,
    /// The request as a command for a shell, for each side.
    #[serde(skip_serializing_if = "Option::is_none")]
    curl: Option<Curl>,
    /// The command that asks both sides again.
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_replay: Option<String>,
}

#[derive(Serialize)]
struct Curl {
    legacy: String,
    extracted: String,
}

impl ShownDivergence {
    fn of(one: StoredDivergence, snapshot: &Snapshot) -> ShownDivergence {
        let record: Option<Divergence> = serde_json::from_str(&one.json).ok();
        let curl = record.as_ref().and_then(|record| curls(record, snapshot));
        let curl = curl.map(|(legacy, extracted)| Curl { legacy, extracted });
        let replayable = record.as_ref().map(Divergence::replayable);
        ShownDivergence {
            record: serde_json::from_str(&one.json).unwrap_or(serde_json::Value::Null),
            at: utc(one.at_unix_ms),
            at_unix_ms: one.at_unix_ms,
            route: one.route,
            signature: one.signature,
            curl,
            replay: matches!(replayable, Some(Ok(()))).then(|| format!("strangler replay {}", one.id)),
            no_replay: replayable.and_then(Result::err).map(|why| why.to_string()),
            id: one.id,
        }
    }
}

/// The request as a command for a shell, for legacy and for extracted; `None`: the route is gone.
pub(super) fn curls(record: &Divergence, snapshot: &Snapshot) -> Option<(String, String)> {
    let (_, route) = snapshot.route(&record.route)?;
    Some((curl(record, snapshot.table().legacy(), None), curl(record, &route.extracted, Some(route))))
}

/// `rewritten`: the route whose service is asked for another path.
fn curl(record: &Divergence, upstream: &Upstream, rewritten: Option<&Arc<Route>>) -> String {
    let target = rewritten.and_then(|route| route.rewritten(&record.target));
    let target = target.as_deref().unwrap_or(&record.target);
    let Some(endpoint) = upstream.endpoints.first() else { return String::new() };
    let scheme = if endpoint.scheme.is_tls() { "https" } else { "http" };
    let command = record.curl(&format!("{scheme}://{}", endpoint.authority()), target);
    // Without TLS nothing tells curl that HTTP/2 is spoken there.
    if endpoint.scheme.is_h2() && !endpoint.scheme.is_tls() { command + " --http2-prior-knowledge" } else { command }
}

/// What many divergences are due to.
#[derive(Serialize)]
struct ShownCause {
    route: String,
    /// As the divergences' own.
    signature: String,
    /// How many pairs differed for it, those that are no longer kept included.
    pairs: u64,
    first: String,
    last: String,
    /// Place, kind and sorts of values, and a rule that would take it for noise.
    cause: serde_json::Value,
}

impl From<StoredCause> for ShownCause {
    fn from(one: StoredCause) -> ShownCause {
        ShownCause {
            cause: serde_json::from_str(&one.json).unwrap_or(serde_json::Value::Null),
            route: one.route,
            signature: one.signature,
            pairs: one.pairs,
            first: utc(one.first_unix_ms),
            last: utc(one.last_unix_ms),
        }
    }
}

#[derive(Serialize)]
struct DivergenceList {
    /// The most frequent first.
    causes: Vec<ShownCause>,
    /// Causes that are intended changes.
    accepted: Vec<AcceptedStatus>,
    /// The newest first.
    divergences: Vec<ShownDivergence>,
    /// Not stored since the start: too many at a time, too large, or the store failed.
    dropped: u64,
}

pub(super) async fn divergences(
    State(admin): App,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error))?;
    let control = &admin.state.control;
    let snapshot = control.snapshot();
    if let Some(name) = &query.route
        && snapshot.route(name).is_none()
    {
        return Err(unknown_route(name));
    }
    let accepted = control.accepted(query.route.as_deref());
    let store = control.store();
    let listing = query.listing();
    let found = store.divergences(listing.clone()).await?;
    // Asked last, so that none is missing of what is listed.
    let causes = store.causes(listing).await?.into_iter().map(ShownCause::from).collect();
    let divergences = found.into_iter().map(|one| ShownDivergence::of(one, &snapshot)).collect();
    let dropped = store.divergences_dropped();
    Ok(Json(DivergenceList { causes, accepted, divergences, dropped }).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptBody {
    signature: String,
    reason: String,
    /// `2026-12-01`: the last day on which it holds.
    until: Option<String>,
    by: Option<String>,
}

pub(super) async fn accept(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AcceptedStatus>, Problem> {
    let body: AcceptBody = json(&headers, body)?;
    let bad_day = |_| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_day", "`until` is a day, as in `2026-12-01`");
    let until: Option<Day> = body.until.as_deref().map(str::parse).transpose().map_err(bad_day)?;
    let (name, who) = (route_name(&name)?, who(&peer, body.by.as_deref())?);
    let control = Arc::clone(&admin.state.control);
    let change = async move { control.accept(&who, &name, &body.signature, until, &body.reason).await };
    Ok(Json(to_its_end(change).await??))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnacceptBody {
    signature: String,
    reason: String,
    by: Option<String>,
}

pub(super) async fn unaccept(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AcceptedStatus>, Problem> {
    let body: UnacceptBody = json(&headers, body)?;
    let (name, who) = (route_name(&name)?, who(&peer, body.by.as_deref())?);
    let control = Arc::clone(&admin.state.control);
    let change = async move { control.unaccept(&who, &name, &body.signature, &body.reason).await };
    Ok(Json(to_its_end(change).await??))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayBody {
    /// Lines `name: value`, put beside those on record: credentials, above all. They are neither stored nor logged.
    #[serde(default)]
    headers: Vec<String>,
    by: Option<String>,
}

#[derive(Serialize)]
struct Replayed {
    id: String,
    /// `match`, `mismatch`, `expected`, `failed`, `not_comparable`.
    result: String,
    /// What differs now, redacted as records are.
    record: Divergence,
}

pub(super) async fn replay(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body: ReplayBody = json(&headers, body)?;
    let who = who(&peer, body.by.as_deref())?;
    let given = given(&body.headers)?;
    let id: String = id.chars().take(64).collect();
    let unknown = || {
        let detail = format!("no divergence {id:?} is stored (any more); `strangler divergences` lists what is");
        Problem::new(StatusCode::NOT_FOUND, "unknown_divergence", detail)
    };
    let found = admin.state.control.store().divergence(id.clone()).await?.ok_or_else(unknown)?;
    let record: Divergence = serde_json::from_str(&found.json).map_err(|_| unknown())?;
    record.replayable().map_err(|why| Problem::new(StatusCode::CONFLICT, "not_replayable", why.to_string()))?;
    let entry = AuditEntry {
        at_unix_ms: now_unix_ms(),
        who,
        what: "replay".to_owned(),
        route: Some(record.route.clone()),
        to: Some(id.clone()),
        reason: "asked for".to_owned(),
        accepted: true,
        ..AuditEntry::default()
    };
    admin.state.control.note_in_audit(entry);
    let asked = (admin.state.replay)(ReplayAsk { record, headers: given }).await;
    let refused = |why: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_replayed", why);
    let record = asked.map_err(refused)?;
    Ok(Json(Replayed { id, result: record.result.clone(), record }).into_response())
}

fn given(lines: &[String]) -> Result<HeaderMap, Problem> {
    let bad = || {
        let detail = format!("`headers` are at most {HEADERS_MAX} lines `name: value`");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_header", detail)
    };
    if lines.len() > HEADERS_MAX {
        return Err(bad());
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(bad)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

//! `/routes/{name}`: what is known of one route, and what may be done to it.

use std::sync::{Arc, PoisonError};

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use strangler_core::coverage::RouteReport;
use strangler_core::latency::RouteLatency;
use strangler_core::noise::ledger::EndpointReport;
use strangler_core::show;
use strangler_core::snapshot::RouteStatus;

use crate::admin::Admin;
use crate::admin::api::{App, unknown_route};
use crate::admin::room::view::RolloutSeen;
use crate::admin::room::view::overview::Row;
use crate::admin::room::view::route::{Chart, Doable, Event, GateRow, Rung, charts, doable, gates, ladder};
use crate::admin::room::{Fault, Frame, Live, rendered, rollout, when};
use crate::store::{Listing, StoredCause, now_unix_ms};

/// Endpoints and fields that are shown.
const ENDPOINTS_MAX: usize = 8;
const EVENTS_MAX: u32 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    hours: u64,
    done: String,
}

/// What happened to it, newest first.
pub(super) struct Happened {
    pub(super) at: String,
    pub(super) who: String,
    pub(super) what: String,
    pub(super) reason: String,
    pub(super) accepted: bool,
}

pub(super) struct CauseRow {
    pub(super) place: String,
    pub(super) kind: String,
    pub(super) pairs: String,
    pub(super) last: String,
}

#[derive(Template)]
#[template(path = "route.html")]
struct Page {
    frame: Frame,
    live: Arc<Live>,
    name: String,
    status: RouteStatus,
    pattern: String,
    rollout: Option<RolloutSeen>,
    rungs: Vec<Rung>,
    gates: Vec<GateRow>,
    charts: Vec<Chart>,
    hours: u64,
    may: Doable,
    done: Option<&'static str>,
    /// For those who are logged in.
    endpoints: Vec<EndpointReport>,
    latency: Option<RouteLatency>,
    coverage: Option<RouteReport>,
    causes: Vec<CauseRow>,
    happened: Vec<Happened>,
}

impl Page {
    fn row(&self) -> Row {
        self.live.rows.iter().find(|row| row.name == self.name).cloned().unwrap_or_default()
    }

    fn weight_number(&self) -> &str {
        self.status.weight.trim_end_matches('%')
    }

    fn is_compared_little(&self) -> usize {
        self.coverage.as_ref().map_or(0, |coverage| coverage.gate.missing.len())
    }
}

pub(super) async fn page(
    State(admin): App,
    headers: HeaderMap,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let _heavy = admin.room.heavy.acquire().await;
    let snapshot = admin.state.control.snapshot();
    let (index, route) = snapshot.route(&name).ok_or_else(|| unknown_route(&name))?;
    let status = snapshot.status(index).ok_or_else(|| unknown_route(&name))?;
    let frame = Frame::new(&admin, &headers, name.clone(), "overview", format!("/routes/{name}")).live();
    let hours = if asked.hours == 0 { 1 } else { asked.hours.min(24) };
    let mut happened = Vec::new();
    let mut marks = Vec::new();
    let (mut endpoints, mut latency, mut coverage, mut causes) = (Vec::new(), None, None, Vec::new());
    let since_unix_ms = now_unix_ms().saturating_sub(hours * 3_600_000);
    let listing = |since_unix_ms| Listing { route: Some(name.clone()), since_unix_ms, limit: EVENTS_MAX };
    // That something moved is a number; who and why is for those who are logged in.
    for entry in admin.state.control.store().audit(listing(0)).await.unwrap_or_default() {
        let what = match (&entry.from, &entry.to) {
            (Some(from), Some(to)) => format!("{}: {from} to {to}", entry.what),
            (None, Some(to)) => format!("{}: {to}", entry.what),
            (_, None) => entry.what.clone(),
        };
        if entry.accepted && entry.at_unix_ms >= since_unix_ms {
            marks.push(Event { at_unix_ms: entry.at_unix_ms, words: format!("{what}, {}", when(entry.at_unix_ms)) });
        }
        happened.push(Happened {
            at: when(entry.at_unix_ms),
            who: entry.who,
            what,
            reason: entry.reason,
            accepted: entry.accepted,
        });
    }
    if frame.session.is_some() {
        endpoints = (admin.state.verdicts)(Some(&name), ENDPOINTS_MAX);
        latency = (admin.state.latencies)(Some(&name), 1).into_iter().next();
        coverage = (admin.state.coverage)(&snapshot, index);
        let found = admin.state.control.store().causes(Listing { limit: 10, ..listing(0) }).await.unwrap_or_default();
        causes = found.iter().map(cause_row).collect();
    } else {
        happened.clear();
    }
    let rollout = rollout(&admin, &name);
    let live = admin.room.live(&admin);
    Ok(rendered(&Page {
        charts: drawn(&admin, &name, hours, &marks),
        rungs: rollout.as_ref().map(ladder).unwrap_or_default(),
        gates: rollout.as_ref().map(gates).unwrap_or_default(),
        may: doable(&status, rollout.as_ref()),
        pattern: route.conditions.path.to_string(),
        done: done(&asked.done),
        frame,
        live,
        name,
        status,
        rollout,
        hours,
        endpoints,
        latency,
        coverage,
        causes,
        happened,
    }))
}

fn drawn(admin: &Admin, name: &str, hours: u64, marks: &[Event]) -> Vec<Chart> {
    let history = admin.room.history.lock().unwrap_or_else(PoisonError::into_inner);
    history.route(name).map(|series| charts(series, hours, marks)).unwrap_or_default()
}

fn cause_row(one: &StoredCause) -> CauseRow {
    let cause: serde_json::Value = serde_json::from_str(&one.json).unwrap_or_default();
    let text = |key: &str| show::visible(cause.get(key).and_then(serde_json::Value::as_str).unwrap_or_default());
    CauseRow { place: text("place"), kind: text("kind"), pairs: show::grouped(one.pairs), last: when(one.last_unix_ms) }
}

fn done(word: &str) -> Option<&'static str> {
    Some(match word {
        "stored" => "Done: in force, and on record.",
        "unstored" => "In force, but it could not be put on record: a restart would forget it. The alarms say why.",
        _ => return None,
    })
}

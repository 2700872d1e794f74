//! `/config`: what is in force, what became of the file's last change, and where a request would go.

use std::time::UNIX_EPOCH;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use strangler_core::chain::chain;
use strangler_core::explain::{Asked as AskedOf, Explanation, explain_with};
use strangler_core::fault::Severity;
use strangler_core::show::visible;
use strangler_core::snapshot::RouteStatus;

use crate::admin::api::App;
use crate::admin::room::{Fault, Frame, rendered, when};

const FAULTS_MAX: usize = 100;
const ROUTES_MAX: usize = 500;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    method: String,
    url: String,
    headers: String,
}

struct FaultRow {
    is_error: bool,
    place: String,
    path: String,
    message: String,
    help: String,
    /// The line itself, cut at the fault.
    line: Option<(String, String)>,
}

#[derive(Template)]
#[template(path = "config.html")]
struct Page {
    frame: Frame,
    file: String,
    since: String,
    attempted: String,
    outcome: &'static str,
    is_refused: bool,
    is_removal: bool,
    is_stale: bool,
    faults: Vec<FaultRow>,
    faults_more: usize,
    routes: Vec<RouteStatus>,
    moves_without_route: Vec<String>,
    asked: Asked,
    explained: Option<Explanation>,
    not_explained: Option<String>,
}

pub(super) async fn page(State(admin): App, headers: HeaderMap, Query(asked): Query<Asked>) -> Result<Response, Fault> {
    let _heavy = admin.room.heavy.acquire().await;
    let frame = Frame::new(&admin, &headers, "Configuration", "config", "/config");
    let read = admin.state.config.clone();
    // It may read the file, to show the lines that are wrong.
    let seen = tokio::task::spawn_blocking(move || read()).await.unwrap_or_default();
    let snapshot = admin.state.control.snapshot();
    let (mut explained, mut not_explained) = (None, None);
    if !asked.url.trim().is_empty() {
        let lines = asked.headers.lines().map(str::trim).filter(|line| !line.is_empty());
        let method = if asked.method.is_empty() { "GET" } else { asked.method.as_str() };
        match AskedOf::parse(method, asked.url.trim(), lines) {
            Ok(request) => explained = Some(explain_with(&snapshot, &request.facts(), admin.state.control.signing())),
            Err(error) => not_explained = Some(visible(&chain(&error))),
        }
    }
    let Some(status) = seen.status else {
        let detail = "it is not known what became of the routes file";
        return Err(crate::admin::problem::Problem::new(
            axum::http::StatusCode::SERVICE_UNAVAILABLE,
            "unknown",
            detail,
        )
        .into());
    };
    let at = |time: std::time::SystemTime| {
        let ms = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        when(u64::try_from(ms).unwrap_or(u64::MAX))
    };
    let lines: Vec<&str> = seen.text.lines().collect();
    let fault = |fault: &strangler_core::fault::Fault| {
        let place = usize::try_from(fault.span.line).ok().and_then(|line| line.checked_sub(1));
        let column = usize::try_from(fault.span.column).unwrap_or(1).saturating_sub(1);
        let line = place.and_then(|place| lines.get(place)).map(|line| {
            let (before, after): (String, String) =
                (line.chars().take(column).collect(), line.chars().skip(column).take(300).collect());
            (visible(&before), visible(&after))
        });
        FaultRow {
            is_error: fault.severity == Severity::Error,
            place: if fault.span.line > 0 {
                format!("{}:{}", fault.span.line, fault.span.column)
            } else {
                String::new()
            },
            path: visible(&fault.path),
            message: visible(&fault.message),
            help: fault.help.as_deref().map(visible).unwrap_or_default(),
            line,
        }
    };
    let total = snapshot.table().routes().len();
    Ok(rendered(&Page {
        frame,
        file: visible(&seen.path),
        since: at(status.since),
        attempted: at(status.last.at),
        outcome: status.last.outcome.as_str(),
        is_refused: !status.last.outcome.is_success(),
        is_removal: status.last.outcome == strangler_core::reload::AttemptOutcome::RefusedRemoval,
        is_stale: status.is_stale(),
        faults: status.last.faults.iter().take(FAULTS_MAX).map(fault).collect(),
        faults_more: status.last.faults.len().saturating_sub(FAULTS_MAX),
        routes: (0..total.min(ROUTES_MAX)).filter_map(|index| snapshot.status(index)).collect(),
        moves_without_route: snapshot.orphans().iter().map(|name| name.as_str().to_owned()).collect(),
        asked,
        explained,
        not_explained,
    }))
}

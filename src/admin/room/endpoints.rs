//! `/endpoints`: what the monolith is asked that no route covers, and a route for each.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use strangler_core::discovery::{EndpointState, Found, route_for};
use strangler_core::show::{grouped, visible};

use crate::admin::api::App;
use crate::admin::room::{Fault, Frame, demand_login, rendered, when};

/// Endpoints of one page.
const ROWS: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    page: usize,
    state: String,
}

struct Row {
    method: &'static str,
    template: String,
    requests: String,
    share: String,
    failed: String,
    p99: String,
    callers: String,
    last: String,
    state: &'static str,
    /// Whether somebody should know.
    is_odd: bool,
    route: String,
}

impl Row {
    fn of(one: &Found) -> Row {
        let ms = |ms: Option<f64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.0} ms"));
        let [.., failed] = one.classes;
        Row {
            method: one.method,
            template: visible(&one.template),
            requests: grouped(one.requests),
            share: format!("{:.1} %", one.share * 100.0),
            failed: grouped(failed),
            p99: ms(one.p99_ms),
            callers: visible(&one.callers.iter().take(3).map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")),
            last: if one.last_s == 0 { "never".to_owned() } else { when(one.last_s.saturating_mul(1_000)) },
            state: one.state.as_str(),
            is_odd: one.state != EndpointState::Live,
            route: route_for(one.method, &one.template, &one.path),
        }
    }
}

#[derive(Template)]
#[template(path = "endpoints.html")]
struct Page {
    frame: Frame,
    asked: Asked,
    rows: Vec<Row>,
    newer: Option<usize>,
    older: Option<usize>,
    words: String,
}

pub(super) async fn page(State(admin): App, headers: HeaderMap, Query(asked): Query<Asked>) -> Result<Response, Fault> {
    let frame = Frame::new(&admin, &headers, "Endpoints", "endpoints", "/endpoints");
    demand_login(&frame)?;
    let _heavy = admin.room.heavy.acquire().await;
    let (totals, found) = (admin.state.endpoints)();
    let count = |state| found.iter().filter(|one| one.state == state).count();
    let mut words = format!(
        "{} endpoints that no route covers, {} requests",
        grouped(found.len() as u64),
        grouped(totals.requests)
    );
    for (count, what) in [
        (count(EndpointState::Undeclared) as u64, "undeclared"),
        (count(EndpointState::Dead) as u64, "dead"),
        (count(EndpointState::NeverAsked) as u64, "never asked"),
        (totals.nothing_there, "requests to paths that are not there"),
        (totals.left_out, "requests for which there was no room"),
    ] {
        if count > 0 {
            words += &format!(" · {} {what}", grouped(count));
        }
    }
    let wanted: Vec<&Found> = found
        .iter()
        .filter(|one| asked.state.is_empty() || one.state.as_str().replace(' ', "_") == asked.state)
        .collect();
    let from = asked.page.saturating_mul(ROWS);
    let older = (from.saturating_add(ROWS) < wanted.len()).then_some(asked.page + 1);
    let newer = asked.page.checked_sub(1);
    let rows = wanted.into_iter().skip(from).take(ROWS).map(Row::of).collect();
    Ok(rendered(&Page { frame, asked, rows, newer, older, words }))
}

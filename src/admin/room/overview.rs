//! `/`: how it is, how far the migration has come, and every route.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use strangler_core::redact::Cause;
use strangler_core::show::{Apart, grouped, visible};
use strangler_core::snapshot::Stage;

use crate::admin::Admin;
use crate::admin::api::App;
use crate::admin::room::divergences::example;
use crate::admin::room::view::overview::Row;
use crate::admin::room::{Frame, Live, rendered, when};
use crate::store::{Listing, StoredCause};

/// Rows of one page.
const ROWS_MAX: usize = 500;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    stage: String,
    page: usize,
}

/// What differs most, of all routes.
struct TopCause {
    route: String,
    place: String,
    kind: String,
    pairs: String,
    last: String,
    example: Option<Apart>,
}

/// Causes that are named on the overview, and pairs looked through for examples.
const CAUSES_MAX: u32 = 3;
const PAIRS_MAX: u32 = 100;

/// None where the store does not answer: the overview is there without it.
async fn top_causes(admin: &Admin) -> Vec<TopCause> {
    let store = admin.state.control.store();
    let listing = |limit| Listing { route: None, since_unix_ms: 0, limit };
    let (accepted, found) =
        (admin.state.control.accepted(None), store.causes(listing(CAUSES_MAX * 4)).await.unwrap_or_default());
    let is_open = |one: &StoredCause| {
        !accepted.iter().any(|it| it.route == one.route && it.signature == one.signature && !it.expired)
    };
    let found: Vec<StoredCause> = found.into_iter().filter(is_open).take(CAUSES_MAX as usize).collect();
    if found.is_empty() {
        return Vec::new();
    }
    let pairs = store.divergences(listing(PAIRS_MAX)).await.unwrap_or_default();
    let top = |one: StoredCause| {
        let cause: Cause = serde_json::from_str(&one.json).ok()?;
        let pair = pairs.iter().find(|pair| pair.route == one.route && pair.signature == one.signature);
        Some(TopCause {
            place: visible(&cause.place),
            kind: visible(&cause.kind),
            pairs: grouped(one.pairs),
            last: when(one.last_unix_ms),
            example: pair.and_then(|pair| example(&pair.json)),
            route: one.route,
        })
    };
    found.into_iter().filter_map(top).collect()
}

struct StageCount {
    name: &'static str,
    count: usize,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    live: Arc<Live>,
    /// Of `live`, by place.
    shown: Vec<usize>,
    stages: Vec<StageCount>,
    asked: Asked,
    /// Rows that the filter leaves.
    found: usize,
    more: Option<usize>,
    /// For those who are logged in.
    causes: Vec<TopCause>,
}

impl Page {
    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.shown.iter().filter_map(|place| self.live.rows.get(*place))
    }

    fn well(&self) -> &str {
        self.live.cells.get("t.well").map_or("", String::as_str)
    }
}

pub(super) async fn page(State(admin): App, headers: HeaderMap, Query(mut asked): Query<Asked>) -> Response {
    let Ok(_heavy) = admin.room.heavy.acquire().await else { return Response::default() };
    asked.q.truncate(asked.q.char_indices().nth(100).map_or(asked.q.len(), |(end, _)| end));
    let frame = Frame::new(&admin, &headers, "Overview", "overview", "/").live();
    let live = admin.room.live(&admin);
    let text = asked.q.trim().to_lowercase();
    let is_wanted = |row: &Row| {
        let is_named =
            text.is_empty() || row.name.to_lowercase().contains(&text) || row.owner.to_lowercase().contains(&text);
        is_named && (asked.stage.is_empty() || row.stage == asked.stage)
    };
    let wanted: Vec<usize> =
        live.rows.iter().enumerate().filter(|(_, row)| is_wanted(row)).map(|(place, _)| place).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    live.rows.iter().for_each(|row| *counts.entry(&row.stage).or_default() += 1);
    let stages =
        Stage::ALL.map(Stage::as_str).map(|name| StageCount { name, count: counts.get(name).copied().unwrap_or(0) });
    let (found, from) = (wanted.len(), asked.page.saturating_mul(ROWS_MAX));
    let shown: Vec<usize> = wanted.into_iter().skip(from).take(ROWS_MAX).collect();
    let more = (from + shown.len() < found).then_some(asked.page + 1);
    let causes = if frame.session.is_some() { top_causes(&admin).await } else { Vec::new() };
    rendered(&Page { causes, frame, shown, stages: stages.into(), asked, found, more, live })
}

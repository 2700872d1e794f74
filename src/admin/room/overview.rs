//! `/`: how it is, how far the migration has come, and every route.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use strangler_core::snapshot::Stage;

use crate::admin::api::App;
use crate::admin::room::view::overview::Row;
use crate::admin::room::{Frame, Live, rendered};

/// Rows of one page.
const ROWS_MAX: usize = 500;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    stage: String,
    page: usize,
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
    rendered(&Page { frame, shown, stages: stages.into(), asked, found, more, live })
}

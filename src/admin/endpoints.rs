//! What was found of paths that no route covers.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Serialize;
use strangler_core::discovery::{Found, Totals};

use crate::admin::api::{App, Page, bad_query};
use crate::admin::problem::Problem;

/// Most endpoints of one answer.
const ENDPOINTS_MAX: usize = 500;

#[derive(Serialize)]
pub(super) struct Discovered {
    /// The most asked first.
    endpoints: Vec<Found>,
    endpoints_total: usize,
    #[serde(flatten)]
    totals: Totals,
}

pub(super) async fn all(
    State(admin): App,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Discovered>, Problem> {
    let Query(page) = page.map_err(|error| bad_query(&error))?;
    let (totals, found) = (admin.state.endpoints)();
    let endpoints_total = found.len();
    let limit = page.limit.unwrap_or(ENDPOINTS_MAX).min(ENDPOINTS_MAX);
    let endpoints = found.into_iter().skip(page.offset).take(limit).collect();
    Ok(Json(Discovered { endpoints, endpoints_total, totals }))
}

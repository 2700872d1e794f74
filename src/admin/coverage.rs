//! What legacy is asked, and how much of it has been compared.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::Serialize;
use strangler_core::coverage::RouteReport;

use crate::admin::api::{App, Page, bad_query, unknown_route};
use crate::admin::problem::Problem;

/// Most routes of one answer.
const ROUTES_MAX: usize = 100;

#[derive(Serialize)]
pub(super) struct Coverage {
    /// In the order of the file.
    routes: Vec<RouteReport>,
    routes_total: usize,
}

pub(super) async fn all(
    State(admin): App,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Coverage>, Problem> {
    let Query(page) = page.map_err(|error| bad_query(&error))?;
    let snapshot = admin.state.control.snapshot();
    let total = snapshot.table().routes().len();
    let indices = (page.offset.min(total)..total).take(page.limit.unwrap_or(ROUTES_MAX).min(ROUTES_MAX));
    let routes = indices.filter_map(|index| (admin.state.coverage)(&snapshot, index)).collect();
    Ok(Json(Coverage { routes, routes_total: total }))
}

pub(super) async fn one(State(admin): App, Path(name): Path<String>) -> Result<Json<RouteReport>, Problem> {
    let snapshot = admin.state.control.snapshot();
    let told = snapshot.route(&name).and_then(|(index, _)| (admin.state.coverage)(&snapshot, index));
    told.map(Json).ok_or_else(|| unknown_route(&name))
}

//! Small tables for the tests of other packages, made without a file, and bytes that are almost HTTP (feature `fixture`).

pub mod raw_bytes;
pub mod strict_reading;

use std::sync::Arc;

use crate::route::Route;
use crate::samples;
use crate::table::RoutingTable;

/// `GET <path>` at `weight`, everything else as if nothing were written.
pub fn route(name: &str, path: &str, weight: &str) -> Route {
    let mut route = Route { weight: weight.parse().unwrap(), ..samples::route(name, path) };
    route.conditions.methods = vec![http::Method::GET];
    route
}

/// A table of these routes, which do not tie.
pub fn table(routes: Vec<Route>) -> Arc<RoutingTable> {
    samples::table(routes)
}

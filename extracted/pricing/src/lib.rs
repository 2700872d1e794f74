//! Prices, taken out of the monolith: products, unit prices, totals of carts, quotes.

pub mod faults;
pub mod totals;
pub mod catalogue;
pub mod quotes;
pub mod api;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use estate_chassis::bugs::Bugs;
use estate_chassis::store::StoreError;

use crate::api::Pricing;
use crate::catalogue::Catalogue;
use crate::faults::Fault;

/// The port of the estate's plan.
pub const PORT: u16 = 8102;

/// Opens `<data>/pricing.db`, seeds it at the first start, and builds the service.
pub async fn build(data: &Path, bugs: Bugs<Fault>) -> Result<Router, StoreError> {
    let (store, catalogue) = Catalogue::open(data).await?;
    Ok(api::router(Pricing::new(catalogue, store, Arc::new(bugs))))
}

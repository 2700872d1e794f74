//! The checkout monolith that the demonstration takes apart: one database, one transaction per checkout, no idempotency
//! keys, and a public `/api/v1` that is the contract of everything taken out of it.

pub mod schema;
pub mod seed;
pub mod escaped;
pub mod problems;
pub mod fields;
pub mod shop;
pub mod sessions;
pub mod users;
pub mod catalog;
pub mod carts;
pub mod inventory;
pub mod payments;
pub mod checkout;
pub mod tail;
pub mod pages;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use estate_chassis::bugs::{self, Bugs};
use estate_chassis::store::{Database, StoreError};
use tokio::sync::Semaphore;

pub use crate::payments::bank::Bank;
pub use crate::shop::LegacyBug;
pub use crate::shop::Shop;

/// The monolith's port.
pub const PORT: u16 = 8_000;

/// Why the monolith could not open its shop.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the monolith's database")]
    Store { source: StoreError },
    #[error("cannot seed the monolith's database")]
    Seed { source: seed::SeedError },
}

/// Opens `legacy.db` in `directory`, makes and seeds it if need be (some seconds without optimisation).
pub async fn open(directory: &Path, bugs: Bugs<LegacyBug>) -> Result<Shop, OpenError> {
    let opened = Database::open(directory, "legacy.db", schema::TABLES).await;
    let database = opened.map_err(|source| OpenError::Store { source })?;
    if seed::fill_if_empty(&database).await.map_err(|source| OpenError::Seed { source })? {
        tracing::info!(path = %database.path().display(), "seeded");
    }
    let counters = Arc::new(Semaphore::new(shop::COUNTERS));
    Ok(Shop { database, bugs: Arc::new(bugs), bank: Bank::default(), counters })
}

/// Everything that the monolith answers, the bug switch included; `/healthz` comes with the server.
pub fn router(shop: Shop) -> Router {
    Router::new()
        .merge(users::routes())
        .merge(catalog::routes())
        .merge(carts::routes())
        .merge(inventory::routes())
        .merge(payments::routes())
        .merge(checkout::routes())
        .merge(tail::routes())
        .merge(pages::routes())
        .with_state(shop.clone())
        .merge(bugs::router(shop.bugs))
}

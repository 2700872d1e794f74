//! Payments, taken out of the monolith: authorize, capture, void, refund; each once per `Idempotency-Key`.

pub mod faults;
pub mod bank;
pub mod payments;
pub mod api;

use std::path::Path;

use axum::Router;
use estate_chassis::bugs::Bugs;
use estate_chassis::store::StoreError;

use crate::api::Desk;
use crate::bank::Bank;
use crate::faults::Fault;

/// The port of the estate's plan.
pub const PORT: u16 = 8103;

/// Opens `<data>/payment.db` and builds the service.
pub async fn build(data: &Path, bugs: Bugs<Fault>, bank: Bank) -> Result<Router, StoreError> {
    let store = payments::open(data).await?;
    Ok(api::router(Desk::new(store, bugs, bank)))
}

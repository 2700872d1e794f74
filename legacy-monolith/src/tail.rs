//! What nobody wants to take out: feeds, reports and addresses that one partner or one batch job still calls.

mod feed;
mod invoice;
mod newsletter;
mod pdf;
mod report;
mod soap;

use std::fmt::{self, Display, Formatter};

use axum::Router;

use crate::shop::Shop;

pub fn routes() -> Router<Shop> {
    Router::new()
        .merge(feed::routes())
        .merge(soap::routes())
        .merge(invoice::routes())
        .merge(report::routes())
        .merge(newsletter::routes())
}

/// Cents as the old formats write them: `97.81`.
struct Decimal(i64);

impl Display for Decimal {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(out, "{sign}{}.{:02}", self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100)
    }
}

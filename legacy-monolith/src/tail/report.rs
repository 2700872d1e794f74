//! `/admin/reports/daily.csv`: what the accountants import every morning.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use estate_chassis::money::Cents;
use estate_chassis::problem::Problem;

use super::Decimal;
use crate::shop::Shop;

/// Days in the report, the latest first. Days without orders are left out.
const DAYS: i64 = 31;

pub(super) fn routes() -> Router<Shop> {
    Router::new().route("/admin/reports/daily.csv", get(daily))
}

async fn daily(State(shop): State<Shop>) -> Result<Response, Problem> {
    let days: Vec<(String, i64, Cents, Cents, Cents)> = sqlx::query_as(
        "SELECT substr(placed_at, 1, 10) AS day, count(*), sum(discount), sum(tax), sum(total)
         FROM orders WHERE status <> 'CANCELLED' GROUP BY day ORDER BY day DESC LIMIT ?",
    )
    .bind(DAYS)
    .fetch_all(shop.database.reader())
    .await?;
    let mut csv = String::from("day,orders,discount,tax,total\r\n");
    for (day, count, discount, tax, total) in days {
        // Writing to a string cannot fail.
        let _ = write!(csv, "{day},{count},{},{},{}\r\n", Decimal(discount), Decimal(tax), Decimal(total));
    }
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"daily.csv\""),
    ];
    Ok((headers, csv).into_response())
}

//! `/products.xml`: a price portal fetches it three times a day.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use estate_chassis::money::Cents;
use estate_chassis::problem::Problem;

use super::Decimal;
use crate::catalog::HOME_CURRENCY;
use crate::escaped::Escaped;
use crate::shop::Shop;

pub(super) fn routes() -> Router<Shop> {
    Router::new().route("/products.xml", get(products))
}

async fn products(State(shop): State<Shop>) -> Result<Response, Problem> {
    let sold: Vec<(String, Option<String>, String, Cents)> = sqlx::query_as(
        "SELECT sku, name, category,
             (SELECT cents FROM prices WHERE prices.sku = products.sku AND currency = ?
              ORDER BY valid_from DESC LIMIT 1)
         FROM products WHERE active ORDER BY sku",
    )
    .bind(HOME_CURRENCY)
    .fetch_all(shop.database.reader())
    .await?;
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<products>\n");
    for (sku, name, category, cents) in sold {
        let name = name.unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(
            xml,
            "  <product sku=\"{}\" category=\"{}\"><name>{}</name><price currency=\"{HOME_CURRENCY}\">{}</price></product>",
            Escaped(&sku),
            Escaped(&category),
            Escaped(&name),
            Decimal(cents)
        );
    }
    xml.push_str("</products>\n");
    Ok(([(header::CONTENT_TYPE, "application/xml; charset=utf-8")], xml).into_response())
}

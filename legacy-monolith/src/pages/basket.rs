//! The cart of the one who has logged in.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use estate_chassis::contract::CartTotal;
use serde::Deserialize;

use super::FormResult;
use super::PageResult;
use super::html::Money;
use super::html::page;
use super::see_other;
use crate::carts;
use crate::carts::NewItem;
use crate::escaped::Escaped;
use crate::fields::Fields;
use crate::sessions;
use crate::shop::Shop;

pub(super) fn routes() -> Router<Shop> {
    Router::new().route("/cart", get(show).post(add))
}

async fn show(State(shop): State<Shop>, headers: HeaderMap) -> PageResult {
    let Some(session) = sessions::current(&shop, &headers).await? else { return Ok(see_other("/login")) };
    let mut connection = shop.database.reader().acquire().await?;
    let cart = carts::basket_of(session.user_id);
    let totals = carts::totals(&mut connection, cart, None, &session.country).await?;
    let body = if totals.lines.is_empty() {
        EMPTY.to_owned()
    } else {
        format!("{}<p><a href=\"/checkout\">To the checkout</a></p>", table(&totals))
    };
    Ok(page(StatusCode::OK, "Your cart", Some(session.display_name()), &body))
}

#[derive(Debug, Deserialize)]
struct Added {
    sku: String,
    qty: i64,
}

async fn add(State(shop): State<Shop>, headers: HeaderMap, added: FormResult<Added>) -> PageResult {
    let Fields(added) = added?;
    let Some(session) = sessions::current(&shop, &headers).await? else { return Ok(see_other("/login")) };
    let mut transaction = shop.database.begin().await?;
    let cart = carts::basket_of(session.user_id);
    let item = NewItem { sku: added.sku, qty: added.qty, user_id: Some(session.user_id) };
    carts::add(&mut transaction, cart, &item).await?;
    transaction.commit().await?;
    Ok(see_other("/cart"))
}

pub(super) const EMPTY: &str =
    "<p class=\"note\">There is nothing in your cart yet. <a href=\"/shop\">Have a look</a>.</p>";

/// A priced cart as a table, in euro.
pub(super) fn table(totals: &CartTotal) -> String {
    let mut table = String::from(
        "<table><tr><th>Article</th><th class=\"n\">Units</th><th class=\"n\">Each</th><th class=\"n\">Sum</th></tr>",
    );
    // Writing to a string cannot fail, here and below.
    for line in &totals.lines {
        let _ = write!(
            table,
            "<tr><td><a href=\"/shop/products/{sku}\">{name}</a></td><td class=\"n\">{qty}</td>\
             <td class=\"n\">{each}</td><td class=\"n\">{sum}</td></tr>",
            sku = Escaped(&line.sku),
            name = Escaped(line.name.as_deref().unwrap_or(&line.sku)),
            qty = line.qty,
            each = Money(line.unit_cents, "EUR"),
            sum = Money(line.line_cents, "EUR"),
        );
    }
    let sums = [
        ("Subtotal", totals.subtotal_cents),
        ("Discount", -totals.discount_cents),
        ("Tax", totals.tax_cents),
        ("Total", totals.total_cents),
    ];
    for (label, cents) in sums {
        let _ = write!(table, "<tr><td colspan=\"3\">{label}</td><td class=\"n\">{}</td></tr>", Money(cents, "EUR"));
    }
    table.push_str("</table>");
    table
}

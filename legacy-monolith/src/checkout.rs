//! Buying: stock, payment, order and e-mail in one transaction.

pub mod orders;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use estate_chassis::contract::{CartTotal, NewPayment};
use estate_chassis::money::Cents;
use estate_chassis::problem::Problem;
use estate_chassis::service::ApiJson;
use estate_chassis::time;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;
use tracing::Instrument as _;

use crate::carts;
use crate::catalog::HOME_CURRENCY;
use crate::inventory;
use crate::inventory::Units;
use crate::payments;
use crate::problems;
use crate::shop::Shop;
use crate::users;

/// The last number that the monolith may give; above, the order service counts.
const ORDER_NO_MAX: i64 = 9_999_999;

pub fn routes() -> Router<Shop> {
    Router::new()
        .route("/api/v1/checkout", post(check_out))
        .route("/api/v1/orders/{order_no}", get(orders::read))
        .route("/api/v1/orders/{order_no}/cancel", post(orders::cancel))
        .route("/api/v1/users/{id}/orders", get(orders::list))
}

/// What is to be bought by whom.
#[derive(Clone, Debug)]
pub struct Purchase {
    pub user_id: i64,
    pub cart_id: i64,
    pub card_token: String,
    /// Where it goes, which decides the tax. `None`: the user's country.
    pub country: Option<String>,
    pub coupon: Option<String>,
}

/// An order that was placed and paid.
#[derive(Debug, Serialize)]
pub struct Placed {
    pub order_no: i64,
    pub status: &'static str,
    pub total_cents: Cents,
    pub payment_id: i64,
}

/// Buys what is in a cart, in a task of its own: a browser that goes away, as it does at a second click, must not leave the
/// purchase half-way.
pub async fn place(shop: &Shop, purchase: Purchase) -> Result<Placed, Problem> {
    let counter = Arc::clone(&shop.counters).try_acquire_owned();
    let counter = counter.map_err(|_| Problem::unavailable("too many are buying at this moment"))?;
    let shop = shop.clone();
    let buying = async move {
        let outcome = buy(&shop, &purchase).await;
        drop(counter);
        outcome
    };
    let bought = tokio::spawn(buying.in_current_span()).await;
    bought.unwrap_or_else(|_| Err(Problem::unavailable("the purchase was broken off")))
}

/// The bank is asked before the transaction begins: a slow bank must not hold the database's only writer. What it
/// approved is booked only if the cart still costs the same; otherwise nothing is, and the bank's hold lapses.
async fn buy(shop: &Shop, purchase: &Purchase) -> Result<Placed, Problem> {
    let mut connection = shop.database.reader().acquire().await?;
    let seen = quote(&mut connection, purchase).await?;
    drop(connection);
    let approval = shop.bank.authorize(&purchase.card_token).await?;

    let mut transaction = shop.database.begin().await?;
    let bought = quote(&mut transaction, purchase).await?;
    if bought != seen {
        return Err(problems::cart_changed());
    }
    let units: Vec<Units> = bought.lines.iter().map(|line| Units { sku: line.sku.clone(), qty: line.qty }).collect();
    inventory::take(&mut transaction, &units).await?;
    let order_no = write_order(&mut transaction, purchase.user_id, &bought).await?;
    let payment = NewPayment {
        order_ref: format!("order-{order_no}"),
        amount_cents: bought.total_cents,
        currency: HOME_CURRENCY.to_owned(),
        card_token: purchase.card_token.clone(),
    };
    payment.check()?;
    let payment_id = payments::record(&mut transaction, &payment, Some(order_no), &approval, "captured").await?;
    send_mail(&mut transaction, purchase.user_id, order_no, "Your order is on its way").await?;
    carts::empty(&mut transaction, purchase.cart_id).await?;
    transaction.commit().await?;
    approval.fall_silent().await;
    Ok(Placed { order_no, status: orders::PAID, total_cents: bought.total_cents, payment_id })
}

async fn quote(connection: &mut SqliteConnection, purchase: &Purchase) -> Result<CartTotal, Problem> {
    let user = users::find(connection, purchase.user_id).await?;
    if user.blocked {
        return Err(problems::user_blocked());
    }
    let country = purchase.country.as_deref().unwrap_or(&user.country);
    let cart = carts::find(connection, &purchase.cart_id.to_string()).await?;
    let totals = carts::totals(connection, cart, purchase.coupon.as_deref(), country).await?;
    if totals.lines.is_empty() {
        return Err(problems::cart_is_empty(purchase.cart_id));
    }
    Ok(totals)
}

async fn write_order(connection: &mut SqliteConnection, user_id: i64, bought: &CartTotal) -> Result<i64, Problem> {
    let order_no: i64 =
        sqlx::query_scalar("SELECT coalesce(max(order_no), 0) + 1 FROM orders").fetch_one(&mut *connection).await?;
    if order_no > ORDER_NO_MAX {
        return Err(problems::no_order_numbers());
    }
    sqlx::query(
        "INSERT INTO orders (order_no, user_id, status, currency, subtotal, discount, tax, total, placed_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(order_no)
    .bind(user_id)
    .bind(orders::PAID)
    .bind(HOME_CURRENCY)
    .bind(bought.subtotal_cents)
    .bind(bought.discount_cents)
    .bind(bought.tax_cents)
    .bind(bought.total_cents)
    .bind(time::rfc3339(time::now_ms()))
    .execute(&mut *connection)
    .await?;
    for (line, number) in bought.lines.iter().zip(1_i64..) {
        sqlx::query("INSERT INTO order_items (order_no, line, sku, qty, unit_cents) VALUES (?, ?, ?, ?, ?)")
            .bind(order_no)
            .bind(number)
            .bind(&line.sku)
            .bind(line.qty)
            .bind(line.unit_cents)
            .execute(&mut *connection)
            .await?;
    }
    Ok(order_no)
}

/// Mail is a row: a job that is no part of the demonstration sends it.
async fn send_mail(
    connection: &mut SqliteConnection,
    user_id: i64,
    order_no: i64,
    subject: &str,
) -> Result<(), Problem> {
    sqlx::query("INSERT INTO emails_sent (user_id, order_no, subject, sent_at) VALUES (?, ?, ?, ?)")
        .bind(user_id)
        .bind(order_no)
        .bind(subject)
        .bind(time::rfc3339(time::now_ms()))
        .execute(connection)
        .await?;
    Ok(())
}

/// POST `/api/v1/checkout`. An `Idempotency-Key` is allowed and means nothing here: sent twice, it buys twice if it can.
#[derive(Debug, Deserialize)]
struct CheckoutBody {
    user_id: i64,
    cart_id: i64,
    card_token: String,
    ship_to: Option<ShipTo>,
    coupon: Option<String>,
}

/// Only the country matters to the price; the rest is for the label.
#[derive(Debug, Deserialize)]
struct ShipTo {
    country: Option<String>,
}

async fn check_out(
    State(shop): State<Shop>,
    ApiJson(body): ApiJson<CheckoutBody>,
) -> Result<(StatusCode, Json<Placed>), Problem> {
    let purchase = Purchase {
        user_id: body.user_id,
        cart_id: body.cart_id,
        card_token: body.card_token,
        country: body.ship_to.and_then(|to| to.country),
        coupon: body.coupon.filter(|code| !code.is_empty()),
    };
    place(&shop, purchase).await.map(|placed| (StatusCode::CREATED, Json(placed)))
}

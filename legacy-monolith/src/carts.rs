//! Carts: filling one and knowing what it costs.

mod total;

use std::ops::RangeInclusive;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use estate_chassis::contract::{CartTotal, QTY_MAX, TotalQuery};
use estate_chassis::dataset::carts::{CARTS, FIRST_CART};
use estate_chassis::dataset::vat;
use estate_chassis::money::Cents;
use estate_chassis::problem::Problem;
use estate_chassis::service::{ApiJson, ApiPath, ApiQuery};
use estate_chassis::time::{self, UnixMs};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use crate::carts::total::PricedItem;
use crate::catalog::HOME_CURRENCY;
use crate::catalog::parse_tax_class;
use crate::problems;
use crate::shop::Shop;
use crate::users;

/// Different products in one cart.
const LINES_MAX: i64 = 100;
/// How long a cart is kept that nobody adds to.
const KEPT_MS: UnixMs = 7 * time::DAY_MS;
/// Abandoned carts that one call forgets at most.
const FORGOTTEN_AT_ONCE: i64 = 20;
/// The carts of the data set.
const SEEDED: RangeInclusive<i64> = FIRST_CART.cast_signed()..=(FIRST_CART + CARTS - 1).cast_signed();
/// The numbers of the pages' carts begin here: above those of the data set, below those that callers of the API choose.
const BASKETS: i64 = 50_000;

pub fn routes() -> Router<Shop> {
    Router::new().route("/api/v1/carts/{id}/items", post(add_item)).route("/api/v1/carts/{id}/total", get(read_total))
}

/// What is put into a cart.
#[derive(Debug, Deserialize)]
pub struct NewItem {
    pub sku: String,
    pub qty: i64,
    /// Whose cart it is, if it is made by this; a cart that is there keeps its owner.
    pub user_id: Option<i64>,
}

/// A cart and what is in it.
#[derive(Debug, Serialize)]
pub struct CartReply {
    pub cart_id: i64,
    pub items: Vec<CartItem>,
}

#[derive(Debug, Serialize, sqlx::FromRow)]
pub struct CartItem {
    pub sku: String,
    pub qty: i64,
}

/// Puts units into a cart, making it if there is none of this number. Says whether it was made.
pub async fn add(connection: &mut SqliteConnection, cart_id: i64, item: &NewItem) -> Result<bool, Problem> {
    if is_of_the_data_set(cart_id) {
        return Err(problems::cart_is_fixed(cart_id));
    }
    if !(1..=QTY_MAX).contains(&item.qty) || cart_id < 1 {
        return Err(problems::invalid_item(format!("qty must be 1 to {QTY_MAX}, a cart's number at least 1")));
    }
    if let Some(user_id) = item.user_id {
        users::find(connection, user_id).await?;
    }
    let now = time::now_ms();
    forget_abandoned(connection, now).await?;
    let is_new = find(connection, &cart_id.to_string()).await.is_err();
    sqlx::query(
        "INSERT INTO carts (id, user_id, updated_at) VALUES (?, ?, ?)
         ON CONFLICT DO UPDATE SET updated_at = excluded.updated_at",
    )
    .bind(cart_id)
    .bind(item.user_id)
    .bind(time::rfc3339(now))
    .execute(&mut *connection)
    .await?;
    let (is_sold, others): (bool, i64) = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM products WHERE sku = ?2 AND active),
             (SELECT count(*) FROM cart_items WHERE cart_id = ?1 AND sku <> ?2)",
    )
    .bind(cart_id)
    .bind(&item.sku)
    .fetch_one(&mut *connection)
    .await?;
    if !is_sold {
        return Err(Problem::product_not_found(&item.sku));
    }
    if others >= LINES_MAX {
        return Err(problems::cart_is_full());
    }
    let put = sqlx::query(
        "INSERT INTO cart_items (cart_id, sku, qty) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET qty = qty + excluded.qty WHERE qty + excluded.qty <= ?4",
    )
    .bind(cart_id)
    .bind(&item.sku)
    .bind(item.qty)
    .bind(QTY_MAX)
    .execute(connection)
    .await?;
    if put.rows_affected() == 0 {
        return Err(problems::invalid_item(format!("a cart holds at most {QTY_MAX} units of a product")));
    }
    Ok(is_new)
}

/// Forgets some of the carts that nobody has touched for long, so that shoppers who never come back do not fill the table.
async fn forget_abandoned(connection: &mut SqliteConnection, now: UnixMs) -> Result<(), Problem> {
    let abandoned: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM carts WHERE updated_at < ? AND id NOT BETWEEN ? AND ? LIMIT ?")
            .bind(time::rfc3339(now - KEPT_MS))
            .bind(SEEDED.start())
            .bind(SEEDED.end())
            .bind(FORGOTTEN_AT_ONCE)
            .fetch_all(&mut *connection)
            .await?;
    for id in abandoned {
        sqlx::query("DELETE FROM cart_items WHERE cart_id = ?").bind(id).execute(&mut *connection).await?;
        sqlx::query("DELETE FROM carts WHERE id = ?").bind(id).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Takes everything out. The carts of the data set stay as they are: both sides know them, and totals are compared on them.
pub async fn empty(connection: &mut SqliteConnection, cart_id: i64) -> Result<(), Problem> {
    if !is_of_the_data_set(cart_id) {
        sqlx::query("DELETE FROM cart_items WHERE cart_id = ?").bind(cart_id).execute(connection).await?;
    }
    Ok(())
}

fn is_of_the_data_set(cart_id: i64) -> bool {
    SEEDED.contains(&cart_id)
}

/// The number of the cart that the pages fill for a user; it may not have been made yet.
pub fn basket_of(user_id: i64) -> i64 {
    BASKETS + user_id
}

/// The number of a cart that is there, from the text of a path. Text that is no number names no cart.
pub async fn find(connection: &mut SqliteConnection, id: &str) -> Result<i64, Problem> {
    let found = sqlx::query_scalar("SELECT id FROM carts WHERE id = ?").bind(id.parse::<i64>().unwrap_or(0));
    found.fetch_optional(connection).await?.ok_or_else(|| Problem::cart_not_found(id))
}

/// Prices a cart for a country, with a coupon or without. A cart that is not there is priced like an empty one.
pub async fn totals(
    connection: &mut SqliteConnection,
    cart_id: i64,
    coupon: Option<&str>,
    country: &str,
) -> Result<CartTotal, Problem> {
    let rates = vat::vat(country).ok_or_else(|| Problem::unknown_country(country))?;
    let rows: Vec<(String, Option<String>, i64, String, Cents)> = sqlx::query_as(
        "SELECT items.sku, name, qty, tax_class, coalesce(
             (SELECT cents FROM tier_prices tier WHERE tier.sku = items.sku AND min_qty <= qty
              ORDER BY min_qty DESC LIMIT 1),
             (SELECT cents FROM prices WHERE prices.sku = items.sku AND currency = ?2
              ORDER BY valid_from DESC LIMIT 1))
         FROM cart_items items JOIN products USING (sku) WHERE cart_id = ?1 ORDER BY items.rowid",
    )
    .bind(cart_id)
    .bind(HOME_CURRENCY)
    .fetch_all(&mut *connection)
    .await?;
    let items = rows
        .into_iter()
        .map(|(sku, name, qty, tax_class, unit_cents)| {
            let tax_basis_points = rates.rate_bp(parse_tax_class(&tax_class)?);
            Ok(PricedItem { sku, name, qty, unit_cents, tax_basis_points })
        })
        .collect::<Result<Vec<_>, Problem>>()?;
    let percent = match coupon {
        Some(code) => discount(connection, code, total::subtotal(&items)).await?,
        None => 0,
    };
    Ok(total::total(items, percent))
}

/// The percentage that a coupon takes off, if it may be used.
async fn discount(connection: &mut SqliteConnection, code: &str, subtotal: Cents) -> Result<i64, Problem> {
    let coupon: Option<(i64, Cents, Option<UnixMs>)> =
        sqlx::query_as("SELECT percent, min_subtotal_cents, expires_at FROM coupons WHERE code = ?")
            .bind(code)
            .fetch_optional(connection)
            .await?;
    let (percent, minimum, expires_at) = coupon.ok_or_else(|| Problem::unknown_coupon(code))?;
    if expires_at.is_some_and(|end| end <= time::now_ms()) {
        return Err(Problem::coupon_expired(code));
    }
    if subtotal < minimum {
        return Err(Problem::coupon_minimum(code, minimum));
    }
    Ok(percent)
}

async fn add_item(
    State(shop): State<Shop>,
    ApiPath(id): ApiPath<i64>,
    ApiJson(item): ApiJson<NewItem>,
) -> Result<(StatusCode, Json<CartReply>), Problem> {
    let mut transaction = shop.database.begin().await?;
    let is_new = add(&mut transaction, id, &item).await?;
    let items = sqlx::query_as("SELECT sku, qty FROM cart_items WHERE cart_id = ? ORDER BY rowid")
        .bind(id)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(CartReply { cart_id: id, items })))
}

async fn read_total(
    State(shop): State<Shop>,
    ApiPath(id): ApiPath<String>,
    ApiQuery(query): ApiQuery<TotalQuery>,
) -> Result<Json<CartTotal>, Problem> {
    let mut connection = shop.database.reader().acquire().await?;
    let cart = find(&mut connection, &id).await?;
    totals(&mut connection, cart, query.coupon(), query.country()).await.map(Json)
}

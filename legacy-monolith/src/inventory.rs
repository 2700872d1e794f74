//! The stock: what is there, what is promised to whom, and until when.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use estate_chassis::contract::QTY_MAX;
use estate_chassis::problem::Problem;
use estate_chassis::service::{ApiJson, ApiPath};
use estate_chassis::time::{self, UnixMs};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use crate::problems;
use crate::shop::Shop;

/// Lines in one reservation.
const ITEMS_MAX: usize = 100;
/// Longest time that stock is held without being bought, in seconds.
const TTL_MAX_S: i64 = 3_600;
/// How long a reservation is remembered after its time.
const KEPT_MS: UnixMs = time::DAY_MS;
/// Longest `order_ref`, in bytes.
const ORDER_REF_MAX: usize = 64;
/// The state of a reservation that is neither used nor given back.
const HELD: &str = "held";

pub fn routes() -> Router<Shop> {
    Router::new()
        .route("/api/v1/inventory/{sku}", get(read))
        .route("/api/v1/inventory/reservations", post(reserve))
        .route("/api/v1/inventory/reservations/{id}/commit", post(commit))
        .route("/api/v1/inventory/reservations/{id}", delete(release))
}

#[derive(Debug, Serialize, sqlx::FromRow)]
struct Stock {
    sku: String,
    on_hand: i64,
    reserved: i64,
    available: i64,
}

/// A number of units of one product.
#[derive(Debug, Deserialize, Serialize, sqlx::FromRow)]
#[serde(deny_unknown_fields)]
pub struct Units {
    pub sku: String,
    pub qty: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReservationOrder {
    order_ref: String,
    items: Vec<Units>,
    ttl_s: i64,
}

#[derive(Debug, Serialize)]
struct Reserved {
    reservation_id: i64,
    expires_at: String,
}

#[derive(Debug, Serialize)]
struct Committed {
    reservation_id: i64,
    status: &'static str,
}

/// Takes units off the shelf for good, or says which product is short of them. Part of the caller's transaction.
pub async fn take(connection: &mut SqliteConnection, units: &[Units]) -> Result<(), Problem> {
    expire(connection, time::now_ms()).await?;
    for Units { sku, qty } in units {
        let taken =
            sqlx::query("UPDATE inventory SET on_hand = on_hand - ?2 WHERE sku = ?1 AND on_hand - reserved >= ?2")
                .bind(sku)
                .bind(qty)
                .execute(&mut *connection)
                .await?;
        if taken.rows_affected() == 0 {
            return Err(problems::out_of_stock(sku));
        }
    }
    Ok(())
}

/// Puts units back on the shelf. Part of the caller's transaction.
pub async fn put_back(connection: &mut SqliteConnection, units: &[Units]) -> Result<(), Problem> {
    for Units { sku, qty } in units {
        sqlx::query("UPDATE inventory SET on_hand = on_hand + ?2 WHERE sku = ?1")
            .bind(sku)
            .bind(qty)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn read(State(shop): State<Shop>, ApiPath(sku): ApiPath<String>) -> Result<Json<Stock>, Problem> {
    // What a reservation past its time still holds is free again, though nobody has swept it up yet.
    sqlx::query_as(
        "SELECT sku, on_hand, reserved - lapsed AS reserved, on_hand - reserved + lapsed AS available
         FROM (SELECT sku, on_hand, reserved,
                   (SELECT coalesce(sum(items.qty), 0) FROM reservations held
                    JOIN reservation_items items ON items.reservation_id = held.id AND items.sku = inventory.sku
                    WHERE held.state = 'held' AND held.expires_at <= ?2) AS lapsed
               FROM inventory WHERE sku = ?1)",
    )
    .bind(&sku)
    .bind(time::now_ms())
    .fetch_optional(shop.database.reader())
    .await?
    .map(Json)
    .ok_or_else(|| Problem::product_not_found(&sku))
}

async fn reserve(
    State(shop): State<Shop>,
    ApiJson(order): ApiJson<ReservationOrder>,
) -> Result<(StatusCode, Json<Reserved>), Problem> {
    let now = time::now_ms();
    let units = merged(&order.items)?;
    if !(1..=TTL_MAX_S).contains(&order.ttl_s) || order.order_ref.is_empty() || order.order_ref.len() > ORDER_REF_MAX {
        return Err(problems::invalid_reservation(format!(
            "ttl_s is 1 to {TTL_MAX_S}, order_ref 1 to {ORDER_REF_MAX} bytes"
        )));
    }
    let expires_at = now + order.ttl_s * time::SECOND_MS;
    let mut transaction = shop.database.begin().await?;
    expire(&mut transaction, now).await?;
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO reservations (order_ref, state, expires_at) VALUES (?, 'held', ?) RETURNING id",
    )
    .bind(&order.order_ref)
    .bind(expires_at)
    .fetch_one(&mut *transaction)
    .await?;
    for (sku, qty) in units {
        let held =
            sqlx::query("UPDATE inventory SET reserved = reserved + ?2 WHERE sku = ?1 AND on_hand - reserved >= ?2")
                .bind(sku)
                .bind(qty)
                .execute(&mut *transaction)
                .await?;
        if held.rows_affected() == 0 {
            return Err(problems::out_of_stock(sku));
        }
        sqlx::query("INSERT INTO reservation_items (reservation_id, sku, qty) VALUES (?, ?, ?)")
            .bind(id)
            .bind(sku)
            .bind(qty)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(Reserved { reservation_id: id, expires_at: time::rfc3339(expires_at) })))
}

/// One line per product: the table has no room for two of one reservation.
fn merged(items: &[Units]) -> Result<BTreeMap<&str, i64>, Problem> {
    let is_well_formed =
        (1..=ITEMS_MAX).contains(&items.len()) && items.iter().all(|item| (1..=QTY_MAX).contains(&item.qty));
    if !is_well_formed {
        return Err(problems::invalid_reservation(format!(
            "items: 1 to {ITEMS_MAX} lines of 1 to {QTY_MAX} units each"
        )));
    }
    let mut units = BTreeMap::new();
    for Units { sku, qty } in items {
        *units.entry(sku.as_str()).or_insert(0) += qty;
    }
    Ok(units)
}

async fn commit(State(shop): State<Shop>, ApiPath(id): ApiPath<i64>) -> Result<Json<Committed>, Problem> {
    let mut transaction = shop.database.begin().await?;
    expire(&mut transaction, time::now_ms()).await?;
    match state_of(&mut transaction, id).await?.as_str() {
        HELD => set_state(&mut transaction, id, "committed").await?,
        closed => return Err(problems::reservation_closed(id, closed)),
    }
    sqlx::query(
        "UPDATE inventory SET on_hand = on_hand - items.qty, reserved = reserved - items.qty
         FROM reservation_items items WHERE items.reservation_id = ? AND items.sku = inventory.sku",
    )
    .bind(id)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Json(Committed { reservation_id: id, status: "committed" }))
}

/// Gives the stock back. Releasing again what is released, by hand or by its age, is no fault: 204 both times.
async fn release(State(shop): State<Shop>, ApiPath(id): ApiPath<i64>) -> Result<StatusCode, Problem> {
    let mut transaction = shop.database.begin().await?;
    expire(&mut transaction, time::now_ms()).await?;
    match state_of(&mut transaction, id).await?.as_str() {
        HELD => give_back(&mut transaction, id, "released").await?,
        "committed" => return Err(problems::reservation_closed(id, "committed")),
        _ => {}
    }
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn state_of(connection: &mut SqliteConnection, id: i64) -> Result<String, Problem> {
    let state: Option<String> =
        sqlx::query_scalar("SELECT state FROM reservations WHERE id = ?").bind(id).fetch_optional(connection).await?;
    state.ok_or_else(|| problems::reservation_not_found(id))
}

async fn set_state(connection: &mut SqliteConnection, id: i64, state: &str) -> Result<(), Problem> {
    sqlx::query("UPDATE reservations SET state = ? WHERE id = ?").bind(state).bind(id).execute(connection).await?;
    Ok(())
}

/// Releases what was held for too long, and forgets what was closed long ago. Every change of the stock begins with it,
/// so that no sweeper need run.
async fn expire(connection: &mut SqliteConnection, now: UnixMs) -> Result<(), Problem> {
    let lapsed: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM reservations WHERE state = 'held' AND expires_at <= ? LIMIT 1000")
            .bind(now)
            .fetch_all(&mut *connection)
            .await?;
    let closed_long_ago = "SELECT id FROM reservations WHERE state <> 'held' AND expires_at <= ? LIMIT 100";
    let forgotten: Vec<i64> =
        sqlx::query_scalar(closed_long_ago).bind(now - KEPT_MS).fetch_all(&mut *connection).await?;
    for id in forgotten {
        sqlx::query("DELETE FROM reservation_items WHERE reservation_id = ?")
            .bind(id)
            .execute(&mut *connection)
            .await?;
        sqlx::query("DELETE FROM reservations WHERE id = ?").bind(id).execute(&mut *connection).await?;
    }
    for id in lapsed {
        give_back(connection, id, "expired").await?;
    }
    Ok(())
}

/// Frees what a held reservation holds, and closes it.
async fn give_back(connection: &mut SqliteConnection, id: i64, state: &str) -> Result<(), Problem> {
    set_state(connection, id, state).await?;
    sqlx::query(
        "UPDATE inventory SET reserved = reserved - items.qty
         FROM reservation_items items WHERE items.reservation_id = ? AND items.sku = inventory.sku",
    )
    .bind(id)
    .execute(connection)
    .await?;
    Ok(())
}

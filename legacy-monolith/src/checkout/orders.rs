//! Orders once they are placed: reading and cancelling.

use axum::Json;
use axum::extract::State;
use estate_chassis::money::Cents;
use estate_chassis::problem::Problem;
use estate_chassis::service::ApiPath;
use serde::Serialize;
use sqlx::SqliteConnection;

use super::send_mail;
use crate::inventory;
use crate::inventory::Units;
use crate::payments;
use crate::payments::Change;
use crate::problems;
use crate::shop::Shop;
use crate::users;

pub const PAID: &str = "PAID";
const CANCELLED: &str = "CANCELLED";

/// Orders in one list, the latest first. Older ones are found by number.
const LISTED_MAX: i64 = 100;

/// An order without its lines.
#[derive(Debug, Serialize, sqlx::FromRow)]
pub struct Order {
    pub order_no: i64,
    pub user_id: i64,
    pub status: String,
    pub currency: String,
    pub subtotal_cents: Cents,
    pub discount_cents: Cents,
    pub tax_cents: Cents,
    pub total_cents: Cents,
    /// RFC 3339, UTC.
    pub placed_at: String,
    /// The day of `placed_at`, UTC.
    pub placed_on: String,
}

#[derive(Debug, Serialize, sqlx::FromRow)]
pub struct OrderLine {
    pub sku: String,
    /// Below zero where an old return was booked as a line.
    pub qty: i64,
    pub unit_cents: Cents,
}

#[derive(Debug, Serialize)]
pub struct OrderReply {
    #[serde(flatten)]
    pub order: Order,
    pub lines: Vec<OrderLine>,
}

#[derive(Debug, Serialize)]
pub(super) struct OrderList {
    orders: Vec<Order>,
}

/// An order and its lines.
pub async fn find(connection: &mut SqliteConnection, order_no: i64) -> Result<OrderReply, Problem> {
    let order: Option<Order> = sqlx::query_as(
        "SELECT order_no, user_id, status, currency, subtotal AS subtotal_cents, discount AS discount_cents,
             tax AS tax_cents, total AS total_cents, placed_at, substr(placed_at, 1, 10) AS placed_on
         FROM orders WHERE order_no = ?",
    )
    .bind(order_no)
    .fetch_optional(&mut *connection)
    .await?;
    let order = order.ok_or_else(|| problems::order_not_found(&order_no.to_string()))?;
    let lines = sqlx::query_as("SELECT sku, qty, unit_cents FROM order_items WHERE order_no = ? ORDER BY line")
        .bind(order_no)
        .fetch_all(connection)
        .await?;
    Ok(OrderReply { order, lines })
}

/// The latest orders of a user, the youngest first.
pub async fn latest_of(connection: &mut SqliteConnection, user_id: i64, count: i64) -> Result<Vec<Order>, Problem> {
    let orders = sqlx::query_as(
        "SELECT order_no, user_id, status, currency, subtotal AS subtotal_cents, discount AS discount_cents,
             tax AS tax_cents, total AS total_cents, placed_at, substr(placed_at, 1, 10) AS placed_on
         FROM orders WHERE user_id = ? ORDER BY order_no DESC LIMIT ?",
    )
    .bind(user_id)
    .bind(count)
    .fetch_all(connection)
    .await?;
    Ok(orders)
}

pub(super) async fn read(
    State(shop): State<Shop>,
    ApiPath(order_no): ApiPath<i64>,
) -> Result<Json<OrderReply>, Problem> {
    find(&mut *shop.database.reader().acquire().await?, order_no).await.map(Json)
}

pub(super) async fn list(State(shop): State<Shop>, ApiPath(id): ApiPath<i64>) -> Result<Json<OrderList>, Problem> {
    let mut connection = shop.database.reader().acquire().await?;
    let user = users::find(&mut connection, id).await?;
    let orders = latest_of(&mut connection, user.id, LISTED_MAX).await?;
    Ok(Json(OrderList { orders }))
}

/// Undoes a paid order in one transaction: stock back, money back, mail out.
pub(super) async fn cancel(
    State(shop): State<Shop>,
    ApiPath(order_no): ApiPath<i64>,
) -> Result<Json<OrderReply>, Problem> {
    let mut transaction = shop.database.begin().await?;
    let OrderReply { mut order, lines } = find(&mut transaction, order_no).await?;
    if order.status != PAID {
        return Err(problems::order_not_cancellable(order_no, &order.status));
    }
    sqlx::query("UPDATE orders SET status = ? WHERE order_no = ?")
        .bind(CANCELLED)
        .bind(order_no)
        .execute(&mut *transaction)
        .await?;
    let sold = lines.iter().filter(|line| line.qty > 0);
    let units: Vec<Units> = sold.map(|line| Units { sku: line.sku.clone(), qty: line.qty }).collect();
    inventory::put_back(&mut transaction, &units).await?;
    let paid: Vec<i64> = sqlx::query_scalar("SELECT id FROM payments WHERE order_no = ? AND status = 'captured'")
        .bind(order_no)
        .fetch_all(&mut *transaction)
        .await?;
    for payment in paid {
        payments::change(&mut transaction, payment, Change::Refund).await?;
    }
    send_mail(&mut transaction, order.user_id, order_no, "Your order was cancelled").await?;
    transaction.commit().await?;
    CANCELLED.clone_into(&mut order.status);
    Ok(Json(OrderReply { order, lines }))
}

//! Money: asking the bank, and the life of a payment afterwards.

pub mod bank;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use estate_chassis::contract::{NewPayment, PaymentReply};
use estate_chassis::money::Cents;
use estate_chassis::problem::Problem;
use estate_chassis::service::{ApiJson, ApiPath};
use estate_chassis::time;
use sqlx::SqliteConnection;

use crate::payments::bank::Approval;
use crate::shop::Shop;

pub fn routes() -> Router<Shop> {
    Router::new()
        .route("/api/v1/payments", post(authorize))
        .route("/api/v1/payments/{id}", get(read))
        .route("/api/v1/payments/{id}/capture", post(capture))
        .route("/api/v1/payments/{id}/void", post(void))
        .route("/api/v1/payments/{id}/refund", post(refund))
}

/// A change of a payment.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Capture,
    Void,
    Refund,
}

impl Change {
    /// The one state that it starts from.
    fn from(self) -> &'static str {
        match self {
            Change::Capture | Change::Void => "authorized",
            Change::Refund => "captured",
        }
    }

    fn to(self) -> &'static str {
        match self {
            Change::Capture => "captured",
            Change::Void => "voided",
            Change::Refund => "refunded",
        }
    }
}

#[derive(Debug, sqlx::FromRow)]
struct PaymentRow {
    id: i64,
    order_ref: String,
    cents: Cents,
    currency: String,
    status: String,
    card_last4: String,
}

impl From<PaymentRow> for PaymentReply {
    fn from(row: PaymentRow) -> PaymentReply {
        let PaymentRow { id, order_ref, cents, currency, status, card_last4 } = row;
        PaymentReply { payment_id: id, order_ref, amount_cents: cents, currency, status, card_last4 }
    }
}

/// Notes what the bank approved. `order_no` where the payment is part of a checkout.
pub async fn record(
    connection: &mut SqliteConnection,
    payment: &NewPayment,
    order_no: Option<i64>,
    approval: &Approval,
    status: &str,
) -> Result<i64, Problem> {
    let id = sqlx::query_scalar(
        "INSERT INTO payments (order_no, order_ref, cents, currency, card_last4, status, psp_ref, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(order_no)
    .bind(&payment.order_ref)
    .bind(payment.amount_cents)
    .bind(&payment.currency)
    .bind(approval.card_last4)
    .bind(status)
    .bind(&approval.psp_ref)
    .bind(time::rfc3339(time::now_ms()))
    .fetch_one(connection)
    .await?;
    Ok(id)
}

/// Moves a payment on, or says in which state it is instead. What is there already is not moved again.
pub async fn change(connection: &mut SqliteConnection, id: i64, change: Change) -> Result<PaymentReply, Problem> {
    let payment = find(connection, id).await?;
    if payment.status == change.to() {
        return Ok(payment);
    }
    if payment.status != change.from() {
        return Err(Problem::wrong_payment_state(&payment.status, change.to()));
    }
    sqlx::query("UPDATE payments SET status = ? WHERE id = ?").bind(change.to()).bind(id).execute(connection).await?;
    Ok(PaymentReply { status: change.to().to_owned(), ..payment })
}

async fn find(connection: &mut SqliteConnection, id: i64) -> Result<PaymentReply, Problem> {
    let row: Option<PaymentRow> =
        sqlx::query_as("SELECT id, order_ref, cents, currency, status, card_last4 FROM payments WHERE id = ?")
            .bind(id)
            .fetch_optional(connection)
            .await?;
    row.map(PaymentReply::from).ok_or_else(|| Problem::payment_not_found(&id.to_string()))
}

async fn authorize(
    State(shop): State<Shop>,
    ApiJson(payment): ApiJson<NewPayment>,
) -> Result<(StatusCode, Json<PaymentReply>), Problem> {
    payment.check()?;
    let approval = shop.bank.authorize(&payment.card_token).await?;
    let mut transaction = shop.database.begin().await?;
    let id = record(&mut transaction, &payment, None, &approval, "authorized").await?;
    let reply = find(&mut transaction, id).await?;
    transaction.commit().await?;
    approval.fall_silent().await;
    Ok((StatusCode::CREATED, Json(reply)))
}

async fn read(State(shop): State<Shop>, ApiPath(id): ApiPath<String>) -> Result<Json<PaymentReply>, Problem> {
    find(&mut *shop.database.reader().acquire().await?, number(&id)?).await.map(Json)
}

async fn capture(State(shop): State<Shop>, ApiPath(id): ApiPath<String>) -> Result<Json<PaymentReply>, Problem> {
    apply(&shop, &id, Change::Capture).await
}

async fn void(State(shop): State<Shop>, ApiPath(id): ApiPath<String>) -> Result<Json<PaymentReply>, Problem> {
    apply(&shop, &id, Change::Void).await
}

async fn refund(State(shop): State<Shop>, ApiPath(id): ApiPath<String>) -> Result<Json<PaymentReply>, Problem> {
    apply(&shop, &id, Change::Refund).await
}

async fn apply(shop: &Shop, id: &str, wanted: Change) -> Result<Json<PaymentReply>, Problem> {
    let id = number(id)?;
    let mut transaction = shop.database.begin().await?;
    let reply = change(&mut transaction, id, wanted).await?;
    transaction.commit().await?;
    Ok(Json(reply))
}

fn number(id: &str) -> Result<i64, Problem> {
    id.parse().map_err(|_| Problem::payment_not_found(id))
}

//! Payments and what happened to them, in SQLite.

use std::path::Path;

use estate_chassis::contract::{NewPayment, PaymentReply};
use estate_chassis::idempotency::{self, Scope};
use estate_chassis::money::Cents;
use estate_chassis::problem::Problem;
use estate_chassis::store::{Database, StoreError};
use estate_chassis::time::UnixMs;
use sqlx::{Sqlite, SqliteConnection, Transaction};

use crate::bank::Verdict;

/// The monolith's payments have lower numbers.
pub const FIRST_ID: i64 = 10_000_000;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS payments(
    id INTEGER PRIMARY KEY AUTOINCREMENT, order_ref TEXT NOT NULL, amount_cents INTEGER NOT NULL, currency TEXT NOT NULL,
    status TEXT NOT NULL, card_last4 TEXT NOT NULL, created_at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS payments_by_order ON payments(order_ref);
CREATE TABLE IF NOT EXISTS payment_events(
    id INTEGER PRIMARY KEY AUTOINCREMENT, payment_id INTEGER NOT NULL REFERENCES payments, type TEXT NOT NULL,
    amount_cents INTEGER NOT NULL, at INTEGER NOT NULL);
INSERT INTO sqlite_sequence(name, seq)
    SELECT 'payments', 9999999 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'payments');";

pub async fn open(data: &Path) -> Result<Database, StoreError> {
    let store = Database::open(data, "payment.db", SCHEMA).await?;
    let keys = async {
        let mut transaction = store.begin().await?;
        sqlx::raw_sql(idempotency::SCHEMA).execute(&mut *transaction).await?;
        transaction.commit().await
    };
    keys.await.map_err(|source| store.set_up_failed(source))?;
    Ok(store)
}

/// What can be done to an authorized payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Capture,
    Void,
    Refund,
}

impl Step {
    /// The state it starts from and the one it ends in.
    fn states(self) -> (&'static str, &'static str) {
        match self {
            Step::Capture => ("authorized", "captured"),
            Step::Void => ("authorized", "voided"),
            Step::Refund => ("captured", "refunded"),
        }
    }
}

/// Writes a new payment, authorized or declined, and its first event.
pub async fn add(
    transaction: &mut Transaction<'static, Sqlite>,
    payment: &NewPayment,
    verdict: Verdict,
    now: UnixMs,
) -> Result<PaymentReply, sqlx::Error> {
    let status = if verdict.is_authorized { "authorized" } else { "declined" };
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO payments(order_ref, amount_cents, currency, status, card_last4, created_at)
         VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(&payment.order_ref)
    .bind(payment.amount_cents)
    .bind(&payment.currency)
    .bind(status)
    .bind(verdict.card_last4)
    .bind(now)
    .fetch_one(&mut **transaction)
    .await?;
    note(transaction, id, status, payment.amount_cents, now).await?;
    Ok(PaymentReply {
        payment_id: id,
        order_ref: payment.order_ref.clone(),
        amount_cents: payment.amount_cents,
        currency: payment.currency.clone(),
        status: status.to_owned(),
        card_last4: verdict.card_last4.to_owned(),
    })
}

/// Moves a payment on. In the state that the step ends in already, nothing is done again.
pub async fn advance(store: &Database, id: i64, step: Step, now: UnixMs) -> Result<PaymentReply, Problem> {
    let (from, to) = step.states();
    let mut transaction = store.begin().await?;
    let mut payment = fetch(&mut transaction, id).await?.ok_or_else(|| Problem::payment_not_found(&id.to_string()))?;
    if payment.status == to {
        return Ok(payment);
    }
    if payment.status != from {
        return Err(Problem::wrong_payment_state(&payment.status, to));
    }
    sqlx::query("UPDATE payments SET status = ? WHERE id = ?").bind(to).bind(id).execute(&mut *transaction).await?;
    note(&mut transaction, id, to, payment.amount_cents, now).await?;
    transaction.commit().await?;
    to.clone_into(&mut payment.status);
    Ok(payment)
}

pub async fn find(store: &Database, id: i64) -> Result<Option<PaymentReply>, sqlx::Error> {
    let mut connection = store.reader().acquire().await?;
    fetch(&mut connection, id).await
}

/// The payment that was made under a key.
pub async fn find_by_key(store: &Database, scope: &Scope, now: UnixMs) -> Result<Option<PaymentReply>, sqlx::Error> {
    let id: Option<Option<i64>> = sqlx::query_scalar(
        "SELECT resource FROM idempotency_keys WHERE route = ? AND user = ? AND key = ? AND expires_at > ?",
    )
    .bind(scope.route)
    .bind(&scope.user)
    .bind(&scope.key)
    .bind(now)
    .fetch_optional(store.reader())
    .await?;
    match id.flatten() {
        Some(id) => find(store, id).await,
        None => Ok(None),
    }
}

async fn fetch(connection: &mut SqliteConnection, id: i64) -> Result<Option<PaymentReply>, sqlx::Error> {
    let row: Option<(String, Cents, String, String, String)> =
        sqlx::query_as("SELECT order_ref, amount_cents, currency, status, card_last4 FROM payments WHERE id = ?")
            .bind(id)
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(order_ref, amount_cents, currency, status, card_last4)| PaymentReply {
        payment_id: id,
        order_ref,
        amount_cents,
        currency,
        status,
        card_last4,
    }))
}

async fn note(
    transaction: &mut Transaction<'static, Sqlite>,
    payment_id: i64,
    event: &'static str,
    amount_cents: Cents,
    now: UnixMs,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO payment_events(payment_id, type, amount_cents, at) VALUES (?, ?, ?, ?)")
        .bind(payment_id)
        .bind(event)
        .bind(amount_cents)
        .bind(now)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

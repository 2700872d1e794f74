//! `Idempotency-Key`: an effect happens once, its answer is given as often as it is asked for.
//!
//! The key's row is written in the transaction of the effect, so a crash leaves both or neither. Which keys are being worked on
//! is known to this process only: one process owns one database. Keys are kept for 24 hours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::{Sqlite, Transaction};

use crate::problem::Problem;
use crate::store::Database;
use crate::time::{DAY_MS, UnixMs};

/// How long an answer can be asked for again.
pub const KEPT_MS: UnixMs = DAY_MS;
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;
/// Requests with a key that may run at the same time.
pub const IN_FLIGHT_MAX: usize = 4_096;

/// The table that [`Ledger`] needs; belongs into the service's schema.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS idempotency_keys(
    route TEXT NOT NULL, user TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL, body TEXT NOT NULL, resource INTEGER, expires_at INTEGER NOT NULL,
    PRIMARY KEY(route, user, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS idempotency_keys_by_expiry ON idempotency_keys(expires_at);";

/// Whose key for what: two users, or two routes, may use the same text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    pub route: &'static str,
    pub user: String,
    pub key: String,
}

/// SHA-256 over the JSON body with sorted keys and without white space, in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    pub fn of(body: &Value) -> Fingerprint {
        let mut text = String::new();
        write_canonical(body, &mut text);
        Fingerprint(hex(&Sha256::digest(text.as_bytes())))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Takes the key of a request: 400 when it is missing on a route that requires it, or malformed.
pub fn required_key(headers: &HeaderMap) -> Result<String, Problem> {
    let refused = |code, detail| Problem::new(StatusCode::BAD_REQUEST, code, "Idempotency-Key", detail);
    let Some(value) = headers.get("idempotency-key") else {
        return Err(refused("idempotency_key_required", "this route requires an Idempotency-Key header"));
    };
    // The standard-to-be writes a quoted string; most clients send the bare text. Both name the same key.
    let text = value.to_str().unwrap_or_default().trim();
    let text = text.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(text);
    let is_fit = !text.is_empty() && text.len() <= KEY_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_fit {
        Ok(text.to_owned())
    } else {
        Err(refused("idempotency_key_invalid", "the key must have 1 to 255 printable ASCII characters without spaces"))
    }
}

/// What came of asking for a key.
#[derive(Debug)]
pub enum Entry {
    /// Nobody did this yet: do it, and [`Ticket::record`] it in the same transaction.
    Fresh(Ticket),
    /// It was done: give this answer again.
    Done(Stored),
}

/// An answer that was given before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub status: u16,
    pub body: String,
}

impl IntoResponse for Stored {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = if status.is_client_error() || status.is_server_error() {
            "application/problem+json"
        } else {
            "application/json"
        };
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
        response
    }
}

/// Knows which keys are being worked on; clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    in_flight: Arc<Mutex<HashMap<Scope, Fingerprint>>>,
}

impl Ledger {
    /// Claims the key: 422 for another payload, 409 while the first request runs, 503 when too many run at once.
    pub async fn claim(
        &self,
        store: &Database,
        scope: Scope,
        fingerprint: Fingerprint,
        now: UnixMs,
    ) -> Result<Entry, Problem> {
        // Marked before the table is read: a request that ends between the two is then found in the table.
        let ticket = self.mark(scope, fingerprint)?;
        let row: Option<(String, u16, String)> = sqlx::query_as(
            "SELECT fingerprint, status, body FROM idempotency_keys WHERE route = ? AND user = ? AND key = ? AND expires_at > ?",
        )
        .bind(ticket.scope.route)
        .bind(&ticket.scope.user)
        .bind(&ticket.scope.key)
        .bind(now)
        .fetch_optional(store.reader())
        .await?;
        match row {
            None => Ok(Entry::Fresh(ticket)),
            Some((first, ..)) if first != ticket.fingerprint.0 => Err(reused()),
            Some((_, status, body)) => Ok(Entry::Done(Stored { status, body })),
        }
    }

    /// Whether a request with this key is running.
    pub fn is_in_flight(&self, scope: &Scope) -> bool {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).contains_key(scope)
    }

    fn mark(&self, scope: Scope, fingerprint: Fingerprint) -> Result<Ticket, Problem> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = in_flight.get(&scope) {
            return Err(if *first == fingerprint { running() } else { reused() });
        }
        if in_flight.len() >= IN_FLIGHT_MAX {
            return Err(Problem::unavailable("too many requests are running"));
        }
        in_flight.insert(scope.clone(), fingerprint.clone());
        Ok(Ticket { scope, fingerprint, ledger: self.clone() })
    }
}

/// The right to do it, held while it is being done; dropped unrecorded, the next request may try again.
#[derive(Debug)]
pub struct Ticket {
    scope: Scope,
    fingerprint: Fingerprint,
    ledger: Ledger,
}

impl Ticket {
    /// Writes the answer beside the effect. `resource` is the id of what was made, for a query by key.
    pub async fn record(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        answer: &Stored,
        resource: Option<i64>,
        now: UnixMs,
    ) -> Result<(), sqlx::Error> {
        // A few of the expired ones go each time: the table stays as small as a day's work.
        sqlx::query(
            "DELETE FROM idempotency_keys WHERE (route, user, key) IN
             (SELECT route, user, key FROM idempotency_keys WHERE expires_at <= ? ORDER BY expires_at LIMIT 20)",
        )
        .bind(now)
        .execute(&mut **transaction)
        .await?;
        sqlx::query(
            "INSERT OR REPLACE INTO idempotency_keys(route, user, key, fingerprint, status, body, resource, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(self.scope.route)
        .bind(&self.scope.user)
        .bind(&self.scope.key)
        .bind(&self.fingerprint.0)
        .bind(answer.status)
        .bind(&answer.body)
        .bind(resource)
        .bind(now + KEPT_MS)
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.ledger.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.scope);
    }
}

fn reused() -> Problem {
    let detail = "the key was used before with another payload";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", "Idempotency-Key", detail)
}

fn running() -> Problem {
    let detail = "the first request with this key is still running";
    Problem::new(StatusCode::CONFLICT, "idempotency_in_flight", "Idempotency-Key", detail)
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
        text
    })
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_unstable();
            out.push('{');
            for (place, name) in names.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(name.clone()).to_string());
                out.push(':');
                write_canonical(&fields[name], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

//! Quotes: a total that holds for a quarter of an hour.

use estate_chassis::contract::{CartTotal, QTY_MAX};
use estate_chassis::dataset::carts::CartItem;
use estate_chassis::idempotency::{Fingerprint, hex};
use estate_chassis::problem::Problem;
use estate_chassis::store::Database;
use estate_chassis::time::{MINUTE_MS, UnixMs, now_ms, rfc3339};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How long a quote holds.
pub const HOLDS_MS: UnixMs = 15 * MINUTE_MS;
/// The most lines of one quote.
pub const LINES_MAX: usize = 100;

/// POST `/v1/quotes`.
#[derive(Clone, Debug, Deserialize)]
pub struct NewQuote {
    lines: Vec<NewLine>,
    coupon: Option<String>,
    country: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct NewLine {
    sku: String,
    qty: i64,
}

impl NewQuote {
    pub fn items(&self) -> Result<Vec<CartItem>, Problem> {
        if !(1..=LINES_MAX).contains(&self.lines.len()) {
            return Err(Problem::invalid_body("a quote needs 1 to 100 lines"));
        }
        if self.lines.iter().any(|line| !(1..=QTY_MAX).contains(&line.qty)) {
            return Err(Problem::invalid_body("qty must be 1 to 9999"));
        }
        Ok(self.lines.iter().map(|line| CartItem { sku: line.sku.clone(), qty: line.qty }).collect())
    }

    pub fn coupon(&self) -> Option<&str> {
        self.coupon.as_deref().filter(|code| !code.is_empty())
    }

    /// Default: DE.
    pub fn country(&self) -> &str {
        self.country.as_deref().filter(|country| !country.is_empty()).unwrap_or("DE")
    }

    /// The same for the same lines in the same order, coupon and country.
    fn hash(&self) -> Fingerprint {
        let lines: Vec<_> = self.lines.iter().map(|line| json!([line.sku, line.qty])).collect();
        Fingerprint::of(&json!({"lines": lines, "coupon": self.coupon(), "country": self.country()}))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuoteReply {
    pub quote_id: String,
    pub cart_hash: String,
    #[serde(flatten)]
    pub total: CartTotal,
    /// RFC 3339, UTC.
    pub expires_at: String,
}

/// Keeps the quote; expired ones go on the way.
pub async fn keep(store: &Database, quote: &NewQuote, total: CartTotal, now: UnixMs) -> Result<QuoteReply, Problem> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(|error| {
        tracing::error!(%error, "the system gave no random numbers");
        Problem::unavailable("no quote can be numbered")
    })?;
    let expires_at = now + HOLDS_MS;
    let reply = QuoteReply {
        quote_id: hex(&random),
        cart_hash: quote.hash().as_str().to_owned(),
        total,
        expires_at: rfc3339(expires_at),
    };
    let text = serde_json::to_string(&reply).unwrap_or_default();
    let mut transaction = store.begin().await?;
    sqlx::query("DELETE FROM quotes WHERE quote_id IN (SELECT quote_id FROM quotes WHERE expires_at <= ? LIMIT 20)")
        .bind(now)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("INSERT INTO quotes(quote_id, cart_hash, total_cents, reply, expires_at) VALUES (?, ?, ?, ?, ?)")
        .bind(&reply.quote_id)
        .bind(&reply.cart_hash)
        .bind(reply.total.total_cents)
        .bind(text)
        .bind(expires_at)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(reply)
}

/// A quote that still holds.
pub async fn find(store: &Database, id: &str, now: UnixMs) -> Result<QuoteReply, Problem> {
    let text: Option<String> = sqlx::query_scalar("SELECT reply FROM quotes WHERE quote_id = ? AND expires_at > ?")
        .bind(id)
        .bind(now)
        .fetch_optional(store.reader())
        .await?;
    let quote = text.and_then(|text| serde_json::from_str(&text).ok());
    quote.ok_or_else(|| {
        let detail = format!("there is no quote {id:?}, or it holds no longer");
        Problem::new(axum::http::StatusCode::NOT_FOUND, "quote_not_found", "No such quote", detail)
    })
}

/// Drops all that had expired before this start.
pub async fn prune(store: &Database) -> Result<(), sqlx::Error> {
    let mut transaction = store.begin().await?;
    sqlx::query("DELETE FROM quotes WHERE expires_at <= ?").bind(now_ms()).execute(&mut *transaction).await?;
    transaction.commit().await
}

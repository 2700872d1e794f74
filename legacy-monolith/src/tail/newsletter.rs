//! POST `/newsletter`: nobody has called it for years.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use estate_chassis::problem::Problem;
use estate_chassis::time;
use serde::Deserialize;

use crate::fields::Fields;
use crate::shop::Shop;

/// Subscribers that the list holds; the next one is told to come again.
const SUBSCRIBERS_MAX: i64 = 100_000;
/// Longest address, in bytes, as SMTP has it.
const EMAIL_MAX: usize = 254;

pub(super) fn routes() -> Router<Shop> {
    Router::new().route("/newsletter", post(subscribe))
}

#[derive(Debug, Deserialize)]
struct Subscription {
    email: String,
}

async fn subscribe(
    State(shop): State<Shop>,
    Fields(Subscription { email }): Fields<Subscription>,
) -> Result<(StatusCode, &'static str), Problem> {
    let is_address = email.len() <= EMAIL_MAX
        && email
            .split_once('@')
            .is_some_and(|(box_, host)| !box_.is_empty() && host.contains('.') && !email.contains(char::is_whitespace));
    if !is_address {
        return Err(Problem::invalid_body("email must be an address"));
    }
    let mut transaction = shop.database.begin().await?;
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM newsletter").fetch_one(&mut *transaction).await?;
    if count >= SUBSCRIBERS_MAX {
        return Err(Problem::unavailable("the newsletter takes no more subscribers"));
    }
    sqlx::query("INSERT INTO newsletter (email, since) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(&email)
        .bind(time::rfc3339(time::now_ms()))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok((StatusCode::ACCEPTED, "You will hear from us.\n"))
}

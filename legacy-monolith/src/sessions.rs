//! Who is looking at a page: sessions in the database, found by the cookie `SHOPSID`.

use std::fmt::Write as _;

use axum::http::{HeaderMap, header};
use estate_chassis::problem::Problem;
use estate_chassis::time::{self, UnixMs};
use sha2::{Digest, Sha256};
use sqlx::SqliteConnection;

use crate::shop::Shop;

/// Name of the cookie that carries the session.
pub const COOKIE: &str = "SHOPSID";

/// How long a session lives after the login.
const LIFETIME_MS: UnixMs = 8 * 60 * time::MINUTE_MS;
/// Sessions of one user; the next login ends the oldest.
const SESSIONS_PER_USER: i64 = 20;

/// A visitor who has logged in.
#[derive(Debug, sqlx::FromRow)]
pub struct Session {
    pub sid: String,
    pub user_id: i64,
    pub email: String,
    pub name: Option<String>,
    pub country: String,
}

impl Session {
    /// What to call the visitor in the head of a page.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.email)
    }
}

/// The session that a request's cookie names, if it is alive.
pub async fn current(shop: &Shop, headers: &HeaderMap) -> Result<Option<Session>, Problem> {
    let Some(sid) = cookie(headers) else { return Ok(None) };
    let session = sqlx::query_as(
        "SELECT sid, user_id, email, name, country FROM sessions JOIN users ON users.id = user_id
         WHERE sid = ? AND expires_at > ?",
    )
    .bind(sid)
    .bind(time::now_ms())
    .fetch_optional(shop.database.reader())
    .await?;
    Ok(session)
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// Starts a session and gives its id.
pub async fn start(connection: &mut SqliteConnection, user_id: i64) -> Result<String, Problem> {
    let now = time::now_ms();
    let sid = secret()?;
    sqlx::query("DELETE FROM sessions WHERE expires_at <= ?").bind(now).execute(&mut *connection).await?;
    sqlx::query("INSERT INTO sessions (sid, user_id, expires_at) VALUES (?, ?, ?)")
        .bind(&sid)
        .bind(user_id)
        .bind(now + LIFETIME_MS)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "DELETE FROM sessions WHERE user_id = ?1 AND sid NOT IN
             (SELECT sid FROM sessions WHERE user_id = ?1 ORDER BY expires_at DESC LIMIT ?2)",
    )
    .bind(user_id)
    .bind(SESSIONS_PER_USER)
    .execute(connection)
    .await?;
    Ok(sid)
}

/// Makes the token that the next submitted form of this session must carry. An older one is worth nothing from now on.
pub async fn issue_csrf(shop: &Shop, session: &Session) -> Result<String, Problem> {
    let token = secret()?;
    let mut transaction = shop.database.begin().await?;
    sqlx::query("UPDATE sessions SET csrf = ? WHERE sid = ?")
        .bind(&token)
        .bind(&session.sid)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(token)
}

/// Uses the token up. False: it is not the session's, or has been used, which is how a second click is found out.
pub async fn claim_csrf(shop: &Shop, session: &Session, token: &str) -> Result<bool, Problem> {
    let mut transaction = shop.database.begin().await?;
    let claimed = sqlx::query("UPDATE sessions SET csrf = NULL WHERE sid = ? AND csrf = ?")
        .bind(&session.sid)
        .bind(token)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(claimed.rows_affected() == 1)
}

/// 128 random bits in hexadecimal.
fn secret() -> Result<String, Problem> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Problem::unavailable("the system has no randomness to give"))?;
    Ok(hex(&bytes))
}

/// The hash that `users.pw_hash` holds.
///
/// One round of SHA-256, salted with the e-mail: what shops of its age have, and quick enough to seed 5,000 accounts.
pub fn password_hash(email: &str, password: &str) -> String {
    let digest = Sha256::new().chain_update(email.to_lowercase()).chain_update([0]).chain_update(password).finalize();
    hex(&digest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_cookie_is_found_among_others_and_over_several_headers() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; XSHOPSID=no"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2;SHOPSID=abc; c=3"));

        assert_eq!(cookie(&headers), Some("abc"));
        assert_eq!(cookie(&HeaderMap::new()), None);
    }

    #[test]
    fn the_case_of_an_email_does_not_change_the_password() {
        assert_eq!(password_hash("Anna@Example.com", "x"), password_hash("anna@example.com", "x"));
        assert_ne!(password_hash("anna@example.com", "x"), password_hash("anna@example.com", "y"));
    }
}

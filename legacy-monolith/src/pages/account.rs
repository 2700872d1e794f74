//! Logging in, and what the shop knows of the one who did.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use super::FormResult;
use super::PageResult;
use super::html::Money;
use super::html::page;
use super::see_other;
use crate::checkout::orders;
use crate::escaped::Escaped;
use crate::fields::Fields;
use crate::sessions;
use crate::shop::Shop;

/// The name that the monolith has inside its own network. It was configured years ago and leaks into answers: whoever
/// stands in front has to rewrite it.
const INTERNAL_ORIGIN: &str = "http://legacy.internal:8000";
const COOKIE_SCOPE: &str = "Path=/shop; Domain=legacy.internal; HttpOnly; SameSite=Lax";

/// Orders shown on the account's page.
const ORDERS_SHOWN: i64 = 20;

pub(super) fn routes() -> Router<Shop> {
    Router::new().route("/login", get(login_form).post(log_in)).route("/account", get(account))
}

#[derive(Debug, Deserialize)]
struct Credentials {
    email: String,
    password: String,
}

async fn login_form() -> Response {
    login_page(StatusCode::OK, "")
}

async fn log_in(State(shop): State<Shop>, given: FormResult<Credentials>) -> PageResult {
    let Fields(given) = given?;
    let known: Option<(i64, String, bool)> = sqlx::query_as("SELECT id, pw_hash, blocked FROM users WHERE email = ?")
        .bind(&given.email)
        .fetch_optional(shop.database.reader())
        .await?;
    let hash = sessions::password_hash(&given.email, &given.password);
    let Some((user_id, _, blocked)) = known.filter(|(_, kept, _)| *kept == hash) else {
        return Ok(login_page(StatusCode::UNAUTHORIZED, "E-mail and password do not belong together."));
    };
    if blocked {
        return Ok(login_page(StatusCode::FORBIDDEN, "This account is blocked."));
    }
    let mut transaction = shop.database.begin().await?;
    let sid = sessions::start(&mut transaction, user_id).await?;
    transaction.commit().await?;
    let headers = [
        (header::LOCATION, format!("{INTERNAL_ORIGIN}/account")),
        (header::SET_COOKIE, format!("{}={sid}; {COOKIE_SCOPE}", sessions::COOKIE)),
    ];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

fn login_page(status: StatusCode, fault: &str) -> Response {
    let note = if fault.is_empty() { String::new() } else { format!("<p class=\"note\">{}</p>", Escaped(fault)) };
    let body = format!(
        "{note}<form method=\"post\" action=\"/login\">\
         <label>E-mail <input name=\"email\" type=\"email\" required autocomplete=\"username\"></label>\
         <label>Password <input name=\"password\" type=\"password\" required autocomplete=\"current-password\"></label>\
         <button>Log in</button></form>\
         <p class=\"muted\">A demonstration: the password of <a href=\"/api/v1/users/7\">customer 7</a> is shop-7.</p>"
    );
    page(status, "Log in", None, &body)
}

async fn account(State(shop): State<Shop>, headers: HeaderMap) -> PageResult {
    let Some(session) = sessions::current(&shop, &headers).await? else { return Ok(see_other("/login")) };
    let mut connection = shop.database.reader().acquire().await?;
    let placed = orders::latest_of(&mut connection, session.user_id, ORDERS_SHOWN).await?;
    let mut body =
        format!("<p>{} · delivered to {}</p><h2>Orders</h2>", Escaped(&session.email), Escaped(&session.country));
    body.push_str("<table><tr><th>No.</th><th>Placed</th><th>Status</th><th class=\"n\">Total</th><th></th></tr>");
    for order in &placed {
        let total = Money(order.total_cents, &order.currency);
        let (placed_at, status) = (Escaped(&order.placed_at), Escaped(&order.status));
        // Writing to a string cannot fail.
        let _ = write!(
            body,
            "<tr><td>{0}</td><td>{placed_at}</td><td>{status}</td><td class=\"n\">{total}</td>\
             <td><a href=\"/invoices/{0}.pdf\">Invoice</a></td></tr>",
            order.order_no
        );
    }
    body.push_str("</table>");
    Ok(page(StatusCode::OK, "Your account", Some(session.display_name()), &body))
}

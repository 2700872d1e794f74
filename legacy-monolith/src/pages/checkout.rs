//! Buying by form. The hidden one-time token is the guard against a second click.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use super::FormResult;
use super::PageResult;
use super::basket;
use super::html::Money;
use super::html::page;
use super::see_other;
use crate::carts;
use crate::checkout;
use crate::checkout::Purchase;
use crate::escaped::Escaped;
use crate::fields::Fields;
use crate::sessions;
use crate::sessions::Session;
use crate::shop::Shop;

pub(super) fn routes() -> Router<Shop> {
    Router::new().route("/checkout", get(form).post(submit))
}

/// The card that the form suggests: the shop is a demonstration, nobody should type a real one.
const SUGGESTED_CARD: &str = "tok_visa";

async fn form(State(shop): State<Shop>, headers: HeaderMap) -> PageResult {
    let Some(session) = sessions::current(&shop, &headers).await? else { return Ok(see_other("/login")) };
    form_page(&shop, &session, StatusCode::OK, "").await
}

#[derive(Debug, Deserialize)]
struct Submitted {
    #[serde(rename = "_csrf")]
    csrf: String,
    card_token: String,
    #[serde(default)]
    coupon: String,
}

async fn submit(State(shop): State<Shop>, headers: HeaderMap, submitted: FormResult<Submitted>) -> PageResult {
    let Fields(submitted) = submitted?;
    let Some(session) = sessions::current(&shop, &headers).await? else { return Ok(see_other("/login")) };
    // Used up before anything else happens: of two clicks only one ever gets past here.
    if !sessions::claim_csrf(&shop, &session, &submitted.csrf).await? {
        return form_page(&shop, &session, StatusCode::CONFLICT, "This form was sent already, or is out of date.")
            .await;
    }
    let purchase = Purchase {
        user_id: session.user_id,
        cart_id: carts::basket_of(session.user_id),
        card_token: submitted.card_token,
        country: None,
        coupon: Some(submitted.coupon.trim().to_owned()).filter(|code| !code.is_empty()),
    };
    match checkout::place(&shop, purchase).await {
        Ok(placed) => {
            let body = format!(
                "<p>Thank you. Your order <b>{no}</b> of {total} is paid.</p>\
                 <p><a href=\"/invoices/{no}.pdf\">Invoice</a> · <a href=\"/account\">All orders</a></p>",
                no = placed.order_no,
                total = Money(placed.total_cents, "EUR")
            );
            Ok(page(StatusCode::OK, "Order placed", Some(session.display_name()), &body))
        }
        Err(error) if error.status.is_client_error() => form_page(&shop, &session, error.status, &error.detail).await,
        Err(error) => Err(error.into()),
    }
}

async fn form_page(
    shop: &Shop,
    session: &Session,
    status: StatusCode,
    fault: &str,
) -> Result<Response, super::PageError> {
    let csrf = sessions::issue_csrf(shop, session).await?;
    let mut connection = shop.database.reader().acquire().await?;
    let note = if fault.is_empty() { String::new() } else { format!("<p class=\"note\">{}</p>", Escaped(fault)) };
    let cart = carts::basket_of(session.user_id);
    let totals = carts::totals(&mut connection, cart, None, &session.country).await?;
    let cart = if totals.lines.is_empty() { basket::EMPTY.to_owned() } else { basket::table(&totals) };
    let body = format!(
        "{note}{cart}<form method=\"post\" action=\"/checkout\"><input type=\"hidden\" name=\"_csrf\" value=\"{csrf}\">\
         <label>Card <input name=\"card_token\" value=\"{SUGGESTED_CARD}\" required></label>\
         <label>Coupon <input name=\"coupon\" placeholder=\"SAVE10\"></label>\
         <button>Buy now</button></form>"
    );
    Ok(page(status, "Checkout", Some(session.display_name()), &body))
}

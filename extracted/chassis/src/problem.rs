//! Errors as `application/problem+json` (RFC 9457), worded alike on both sides.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::money::Cents;

/// An answer that says why not. `code` is for programs, `detail` for people; neither holds a time, an address or a number
/// that differs between two services.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    pub status: StatusCode,
    pub code: &'static str,
    pub title: &'static str,
    pub detail: String,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, code, title, detail: detail.into() }
    }

    pub fn no_such_path() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", "Not found", "nothing lives at this path")
    }

    pub fn method_not_allowed() -> Problem {
        let detail = "this path does not take this method";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", detail)
    }

    pub fn invalid_query(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_query", "The query is not valid", detail)
    }

    pub fn invalid_body(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_body", "The body is not valid", detail)
    }

    pub fn body_too_large() -> Problem {
        let detail = "the body is larger than this endpoint takes";
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large", detail)
    }

    /// Also for an article that is no longer sold, where a price or a sale was asked for.
    pub fn product_not_found(sku: &str) -> Problem {
        Problem::new(
            StatusCode::NOT_FOUND,
            "product_not_found",
            "No such product",
            format!("there is no product {sku:?}"),
        )
    }

    pub fn cart_not_found(id: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "cart_not_found", "No such cart", format!("there is no cart {id:?}"))
    }

    pub fn unsupported_currency(currency: &str) -> Problem {
        let detail = format!("prices are kept in EUR, USD and JPY, not in {currency:?}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unsupported_currency", "Unsupported currency", detail)
    }

    pub fn unknown_country(country: &str) -> Problem {
        let detail = format!("the shop does not deliver to {country:?}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_country", "Unknown country", detail)
    }

    pub fn unknown_coupon(code: &str) -> Problem {
        let detail = format!("there is no coupon {code:?}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_coupon", "Unknown coupon", detail)
    }

    pub fn coupon_expired(code: &str) -> Problem {
        let detail = format!("the coupon {code:?} has expired");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "coupon_expired", "Expired coupon", detail)
    }

    pub fn coupon_minimum(code: &str, min_subtotal_cents: Cents) -> Problem {
        let detail = format!("the coupon {code:?} needs a subtotal of at least {min_subtotal_cents} cents");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "coupon_minimum", "Subtotal below the coupon's minimum", detail)
    }

    pub fn declined() -> Problem {
        Problem::new(StatusCode::PAYMENT_REQUIRED, "declined", "Payment declined", "the card was declined")
    }

    pub fn unknown_card_token() -> Problem {
        let detail = "the card token is not known";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_card_token", "Unknown card token", detail)
    }

    pub fn invalid_payment(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_payment", "The payment is not valid", detail)
    }

    pub fn payment_not_found(id: &str) -> Problem {
        Problem::new(
            StatusCode::NOT_FOUND,
            "payment_not_found",
            "No such payment",
            format!("there is no payment {id:?}"),
        )
    }

    /// E.g. capturing a payment that was voided.
    pub fn wrong_payment_state(status: &str, wanted: &str) -> Problem {
        let detail = format!("the payment is {status} and cannot be {wanted}");
        Problem::new(StatusCode::CONFLICT, "wrong_payment_state", "Wrong state", detail)
    }

    pub fn unavailable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Temporarily unavailable", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": format!("urn:shop:problem:{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }
}

/// The cause goes to the log, never to the caller.
impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Problem {
        tracing::error!(error = &error as &dyn std::error::Error, "the database did not answer");
        Problem::unavailable("the database did not answer")
    }
}

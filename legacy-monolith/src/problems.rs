//! The refusals that only the monolith gives; those it shares with the services are the chassis' own.

use axum::http::StatusCode;
use estate_chassis::problem::Problem;

pub fn user_not_found(id: i64) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "user_not_found", "No such user", format!("there is no user {id}"))
}

pub fn user_blocked() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "user_blocked", "Blocked", "this account may not buy")
}

pub fn invalid_address(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_address", "The address is not valid", detail)
}

pub fn invalid_item(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_item", "The item is not valid", detail)
}

/// The carts of the data set are the same on both sides, and stay so.
pub fn cart_is_fixed(id: i64) -> Problem {
    let detail = format!("the cart {id} belongs to the data set and cannot be changed");
    Problem::new(StatusCode::CONFLICT, "cart_is_fixed", "This cart is fixed", detail)
}

pub fn cart_is_full() -> Problem {
    Problem::new(StatusCode::CONFLICT, "cart_is_full", "The cart is full", "the cart holds as many products as it can")
}

pub fn cart_is_empty(id: i64) -> Problem {
    let detail = format!("there is nothing in the cart {id}");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "cart_is_empty", "The cart is empty", detail)
}

pub fn cart_changed() -> Problem {
    let detail = "the cart was changed while the bank was asked; nothing was bought";
    Problem::new(StatusCode::CONFLICT, "cart_changed", "The cart was changed", detail)
}

pub fn out_of_stock(sku: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, "out_of_stock", "Out of stock", format!("there are not enough of {sku:?}"))
}

pub fn invalid_reservation(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_reservation", "The reservation is not valid", detail)
}

pub fn reservation_not_found(id: i64) -> Problem {
    let detail = format!("there is no reservation {id}");
    Problem::new(StatusCode::NOT_FOUND, "reservation_not_found", "No such reservation", detail)
}

pub fn reservation_closed(id: i64, state: &str) -> Problem {
    let detail = format!("the reservation {id} is {state}");
    Problem::new(StatusCode::CONFLICT, "reservation_closed", "The reservation is closed", detail)
}

pub fn order_not_found(order_no: &str) -> Problem {
    let detail = format!("there is no order {order_no:?}");
    Problem::new(StatusCode::NOT_FOUND, "order_not_found", "No such order", detail)
}

pub fn order_not_cancellable(order_no: i64, status: &str) -> Problem {
    let detail = format!("the order {order_no} is {status} and cannot be cancelled");
    Problem::new(StatusCode::CONFLICT, "order_not_cancellable", "Too late to cancel", detail)
}

pub fn no_order_numbers() -> Problem {
    Problem::unavailable("all of the monolith's order numbers are used up")
}

//! The shop as people see it: plain HTML, forms and redirects.

pub mod html;
mod account;
mod basket;
mod checkout;
mod shop;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use estate_chassis::problem::Problem;

use crate::escaped::Escaped;
use crate::fields::Fields;
use crate::shop::Shop;

pub fn routes() -> Router<Shop> {
    Router::new().merge(shop::routes()).merge(account::routes()).merge(basket::routes()).merge(checkout::routes())
}

/// An error that is answered with a page, not with problem+json.
struct PageError(Problem);

impl<E: Into<Problem>> From<E> for PageError {
    fn from(error: E) -> PageError {
        PageError(error.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let Problem { status, title, detail, .. } = self.0;
        html::page(status, title, None, &format!("<p class=\"note\">{}</p>", Escaped(&detail)))
    }
}

type PageResult = Result<Response, PageError>;

/// A form that may be unreadable, which is a page too.
type FormResult<T> = Result<Fields<T>, Problem>;

/// Sends the browser elsewhere after a form: 303, so that a reload does not post again.
fn see_other(location: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, location.to_owned())]).into_response()
}

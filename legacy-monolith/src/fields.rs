//! The extractor of forms.

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use estate_chassis::problem::Problem;
use serde::de::DeserializeOwned;

/// The fields of a form. What does not parse is 400, too much is 413.
#[derive(Clone, Copy, Debug)]
pub struct Fields<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Fields<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Fields<T>, Problem> {
        let form = Form::from_request(request, state).await;
        form.map(|Form(fields)| Fields(fields)).map_err(|rejection: FormRejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Problem::body_too_large()
            } else {
                Problem::invalid_body("the form must have the fields of this endpoint")
            }
        })
    }
}

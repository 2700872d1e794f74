//! Extractors whose refusals are problems, worded alike in every service.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// The path's parameters. What does not parse is a path that does not exist.
#[derive(Clone, Copy, Debug)]
pub struct ApiPath<T>(pub T);

/// The query. What does not parse is 400.
#[derive(Clone, Copy, Debug)]
pub struct ApiQuery<T>(pub T);

/// A JSON body of at most [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX) bytes. What does not parse is 400, too much is 413.
#[derive(Clone, Copy, Debug)]
pub struct ApiJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for ApiPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(value)| ApiPath(value)).map_err(|_| Problem::no_such_path())
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(value)| ApiQuery(value)).map_err(|_| Problem::invalid_query("a parameter cannot be read"))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Json::from_request(request, state).await;
        body.map(|Json(value)| ApiJson(value)).map_err(|rejection: JsonRejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Problem::body_too_large()
            } else {
                Problem::invalid_body("the body must be JSON with the fields of this endpoint")
            }
        })
    }
}

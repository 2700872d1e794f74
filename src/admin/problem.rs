//! Refusals as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use strangler_core::chain::chain;
use strangler_core::runtime::Refusal;

use crate::admin::control::{AcceptError, ControlError};
use crate::store::StoreError;

/// Why a request was not answered as asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank`: the status says the kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What is wrong and what to do.
    pub detail: String,
    /// A word for programs.
    pub code: String,
}

impl Problem {
    /// With a word for programs and a sentence for people.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Problem {
        Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("problem").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        response
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Problem {
        let (status, code) = match &error {
            ControlError::Refused(Refusal::UnknownRoute(_)) => (StatusCode::NOT_FOUND, "unknown_route"),
            ControlError::Refused(Refusal::WouldServeStale(_)) => (StatusCode::CONFLICT, "would_serve_stale"),
            ControlError::Refused(Refusal::Located(_)) => (StatusCode::CONFLICT, "located"),
            ControlError::Refused(Refusal::RollingOut(_)) => (StatusCode::CONFLICT, "rolling_out"),
            ControlError::Refused(Refusal::Apart { .. }) => (StatusCode::CONFLICT, "together"),
            ControlError::Refused(Refusal::NotKilled(_)) => (StatusCode::CONFLICT, "not_killed"),
            ControlError::Refused(Refusal::KilledByFile(_)) => (StatusCode::CONFLICT, "killed_by_file"),
            ControlError::Note(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bad_note"),
            ControlError::NotRecorded(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_recorded"),
            ControlError::Accept(AcceptError::Unknown(..) | AcceptError::NotAccepted(..)) => {
                (StatusCode::NOT_FOUND, "unknown_cause")
            }
            ControlError::Accept(AcceptError::TooMany) => (StatusCode::CONFLICT, "too_many"),
            ControlError::Accept(AcceptError::Failure(_) | AcceptError::Over(_)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "not_acceptable")
            }
            ControlError::Conflict => (StatusCode::CONFLICT, "moved_meanwhile"),
        };
        Problem::new(status, code, chain(&error))
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store", chain(&error))
    }
}

//! Answers of our own: problem+json (RFC 9457) with a `strangler-error`, and nothing of the inside.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use strangler_core::door::Refusal;
use strangler_core::grpc;
use strangler_core::idempotency;
use strangler_core::observation::Failure;

use crate::proxy::body::ClientBody;

/// A refusal at the door.
pub(crate) fn refused(refusal: Refusal) -> Response<ClientBody> {
    let mut response = problem(refusal.status(), refusal.as_str(), &refusal.to_string());
    if refusal.closes() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if refusal == Refusal::Method {
        response.headers_mut().insert(header::ALLOW, ALLOWED);
    }
    response
}

/// What we take ourselves, for whoever asks how far a request gets.
pub(crate) fn options() -> Response<ClientBody> {
    let mut response = Response::new(ClientBody::full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, ALLOWED);
    response
}

const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// No side could answer.
pub(crate) fn failed(failure: Failure) -> Response<ClientBody> {
    let (status, detail) = match failure {
        Failure::Connect => (502, "No connection to the service that answers this could be made."),
        Failure::ConnectTimeout => (504, "No connection to the service that answers this could be made in time."),
        Failure::Reset | Failure::Truncated => (502, "The service that answers this broke off before its answer."),
        Failure::Garbage => (502, "The service that answers this did not answer in HTTP."),
        Failure::Status(_) => (502, "The service that answers this failed."),
        Failure::Timeout => (504, "The service that answers this did not answer in time."),
        Failure::Full => (503, "The service that answers this has too many requests under way."),
        Failure::NoHealthy => (503, "The service that answers this is not well."),
        Failure::BreakerOpen => (503, "The service that answers this failed too often and is left alone for a moment."),
    };
    let mut response = problem(status, failure.as_str(), detail);
    if status == 503 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A write with an idempotency key that no side may be given now.
pub(crate) fn not_again(refusal: idempotency::Refusal) -> Response<ClientBody> {
    let (status, retry_after_s, detail) = match refusal {
        idempotency::Refusal::Killed => {
            (503, idempotency::KILL_RETRY_S, "The service that has seen this key before is switched off for now.")
        }
        idempotency::Refusal::InDoubt { retry_after_s } => (
            409,
            retry_after_s,
            "Another service answers this since a short while, and the one before may have seen this key.",
        ),
    };
    let mut response = problem(status, refusal.as_str(), detail);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
    response
}

/// More requests under way than the process takes.
pub(crate) fn overloaded() -> Response<ClientBody> {
    let mut response = problem(503, "overloaded", "Too many requests are under way.");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A client asks for more than its route gives it.
pub(crate) fn rate_limited() -> Response<ClientBody> {
    problem(429, "rate_limited", "Too many requests of this client in too short a time.")
}

/// The client's body took too long.
pub(crate) fn slow_body() -> Response<ClientBody> {
    let mut response = problem(408, "body_timeout", "The request's body did not arrive in time.");
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// An answer of our own as a gRPC client reads it: 200 and the fields that would be trailers, without a body. An upstream's answer
/// stays as it is.
pub(crate) fn for_grpc(response: Response<ClientBody>) -> Response<ClientBody> {
    // Only our own answers have it: of an upstream's it is taken out.
    let Some(reason) = response.headers().get("strangler-error").cloned() else { return response };
    let (mut parts, _) = response.into_parts();
    let status = grpc::status_of(parts.status.as_u16(), reason.as_bytes());
    let title = parts.status.canonical_reason().unwrap_or("Error");
    let message = grpc::message(&format!("{title} ({})", reason.to_str().unwrap_or_default()));
    parts.status = StatusCode::OK;
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    parts.headers.insert("grpc-message", message);
    Response::from_parts(parts, ClientBody::full(Bytes::new()))
}

fn problem(status: u16, reason: &'static str, detail: &str) -> Response<ClientBody> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let title = status.canonical_reason().unwrap_or("Error");
    let body =
        serde_json::json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = Response::new(ClientBody::full(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("strangler-error", HeaderValue::from_static(reason));
    response
}

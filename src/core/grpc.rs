//! gRPC's view of an answer that is not gRPC's: the proxy's own (gRPC's http-grpc-status-mapping).

use http::{HeaderMap, HeaderValue, header};

/// Whether a request is a gRPC call. gRPC-Web has a framing of its own and is not meant.
pub fn is_call(headers: &HeaderMap) -> bool {
    let rest = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// The status that tells a gRPC client what an answer of our own means.
///
/// `reason` is its `strangler-error`: a deadline that passed is DEADLINE_EXCEEDED, not just unavailable.
pub fn status_of(status: u16, reason: &[u8]) -> u8 {
    match status {
        _ if reason == b"timeout" => 4,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The header or trailer that says how a call ended.
pub const STATUS: &str = "grpc-status";

/// How a call ended, in the words of HTTP: 200, 500 for a failure of the service, 400 for what it refuses.
///
/// Failures are UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE and DATA_LOSS, and an answer without a status, which a
/// client takes for UNKNOWN. The rest may well be what the caller deserves, as answers of 4xx are: only more of them than legacy gives counts.
pub fn as_http(status: Option<&HeaderValue>) -> u16 {
    match status.and_then(|status| status.to_str().ok()?.parse::<u8>().ok()) {
        Some(0) => 200,
        Some(1 | 3 | 5 | 6 | 7 | 9 | 10 | 11 | 12 | 16) => 400,
        Some(_) | None => 500,
    }
}

/// `text` as a `grpc-message`: printable ASCII but `%`, the rest percent-encoded.
pub fn message(text: &str) -> HeaderValue {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => out.push_str("%25"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    // What is left is ASCII that a field may have.
    HeaderValue::from_str(&out).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_itself_is_a_call() {
        for (kind, expect) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_call(&headers), expect, "{kind}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn a_status_is_told_as_grpc_tells_it() {
        for (status, reason, expect) in [
            (400, "bad_host", 13),
            (401, "", 16),
            (403, "", 7),
            (404, "", 12),
            (429, "rate_limited", 14),
            (502, "connect", 14),
            (503, "full", 14),
            (504, "timeout", 4),
            (413, "body_too_large", 2),
            (405, "method_not_accepted", 2),
        ] {
            assert_eq!(status_of(status, reason.as_bytes()), expect, "{status} {reason}");
        }
    }

    #[test]
    fn a_call_fails_by_its_status() {
        for (status, expect) in [
            ("0", 200),
            ("2", 500),
            ("4", 500),
            ("8", 500),
            ("13", 500),
            ("14", 500),
            ("15", 500),
            ("99", 500),
            ("x", 500),
        ] {
            assert_eq!(as_http(Some(&HeaderValue::from_static(status))), expect, "{status}");
        }
        for refused in ["1", "3", "5", "6", "7", "9", "10", "11", "12", "16"] {
            assert_eq!(as_http(Some(&HeaderValue::from_static(refused))), 400, "{refused}");
        }
        assert_eq!(as_http(None), 500);
    }

    #[test]
    fn a_message_is_plain_ascii() {
        assert_eq!(message("100 % é\n"), "100 %25 %C3%A9%0A");
    }
}

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
    fn a_message_is_plain_ascii() {
        assert_eq!(message("100 % é\n"), "100 %25 %C3%A9%0A");
    }
}

//! What a shared cache may do with an answer of a split route: nothing.

use http::header::{self, GetAll};
use http::{HeaderMap, HeaderValue};

/// The `Cache-Control` that keeps an answer out of shared caches (RFC 9111 §5.2.2.7), or `None` when it is out of them already.
///
/// An answer without the field may be stored by heuristics (RFC 9111 §4.2.2), so it gets one, too. What the browser's own cache
/// may do stays as it was.
pub fn private_cache_control(values: GetAll<'_, HeaderValue>) -> Option<HeaderValue> {
    let mut values = values.into_iter().peekable();
    // The usual ones first, which are told without being taken apart.
    match values.peek() {
        None => return Some(HeaderValue::from_static("private")),
        Some(first) if matches!(first.as_bytes(), b"private" | b"no-store") => return None,
        Some(_) => {}
    }
    let mut kept: Vec<&str> = vec!["private"];
    for value in values {
        let Ok(text) = value.to_str() else {
            return Some(HeaderValue::from_static("private"));
        };
        for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let name = directive.split('=').next().unwrap_or(directive).trim();
            // `private="field"` keeps only that field out, so it does not count.
            if name.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("private") {
                return None;
            }
            let is_for_shared = ["public", "s-maxage", "proxy-revalidate", "private"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known));
            if !is_for_shared {
                kept.push(directive);
            }
        }
    }
    HeaderValue::from_str(&kept.join(", ")).ok()
}

/// Whether shared caches keep nothing of an answer already: an answer that sets a cookie for one user must be so.
pub fn is_out_of_shared_caches(headers: &HeaderMap) -> bool {
    private_cache_control(headers.get_all(header::CACHE_CONTROL)).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_a_split_route_is_kept_out_of_shared_caches() {
        for (lines, expect) in [
            (&[][..], Some("private")),
            (&["public, max-age=60"][..], Some("private, max-age=60")),
            (&["max-age=60", "s-maxage=600"][..], Some("private, max-age=60")),
            (&["no-store"][..], None),
            (&["Private, max-age=5"][..], None),
            (&["private=\"x\", no-cache"][..], Some("private, no-cache")),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CACHE_CONTROL, line.parse().unwrap());
            }
            let got = private_cache_control(headers.get_all(header::CACHE_CONTROL));
            assert_eq!(got.as_ref().map(|value| value.to_str().unwrap()), expect, "{lines:?}");
            assert_eq!(is_out_of_shared_caches(&headers), expect.is_none(), "{lines:?}");
        }
    }
}

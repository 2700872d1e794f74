//! Forms: the side that served one also gets what is sent back, for it alone knows the token and the draft in it.

use http::{HeaderValue, Method};

use crate::decide::{Decision, Reason};
use crate::lease::Lease;
use crate::side::Side;

/// Whether what a request sends may come out of a form.
pub fn sends_form(method: &Method) -> bool {
    !crate::facts::is_safe(method)
}

/// What remembers the side of this answer, if it may hold a form: any HTML but an answer to a HEAD. A failed form is often shown
/// again by the answer to its POST.
///
/// `side` is who really answered: after a fallback that is legacy, wherever the user belongs. What a tester forced is not remembered.
pub fn remember(
    method: &Method,
    content_type: Option<&HeaderValue>,
    decision: &Decision,
    side: Side,
    now_s: u64,
) -> Option<Lease> {
    let is_html = content_type.is_some_and(|value| is_html(value.as_bytes()));
    let is_own = decision.reason != Reason::Forced;
    decision
        .bucket
        .filter(|_| is_html && is_own && *method != Method::HEAD)
        .map(|bucket| Lease::of_side(side, bucket, now_s))
}

fn is_html(content_type: &[u8]) -> bool {
    let media = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    media.eq_ignore_ascii_case(b"text/html") || media.eq_ignore_ascii_case(b"application/xhtml+xml")
}

//! What is let in: a request's framing, target and host, before anything is decided.
//!
//! The HTTP library parses; here stands what it lets through and a strict origin would not. Sections are of RFC 9112 unless
//! named otherwise.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};

use crate::server::ClientLimits;
use crate::template::{PathError, normal_path};

/// Longest request target, in bytes.
pub const TARGET_BYTES_MAX: usize = 8 << 10;

/// Longest single field, in bytes.
pub const FIELD_BYTES_MAX: usize = 16 << 10;

/// All fields together, in bytes.
pub const FIELDS_BYTES_MAX: usize = 64 << 10;

/// Bounds on a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadBounds {
    /// Request target, in bytes. Default: 8 KiB.
    pub line_bytes: usize,
    /// One field, in bytes. Default: 16 KiB.
    pub field_bytes: usize,
    /// All fields, in bytes. Default: 64 KiB.
    pub fields_bytes: usize,
    /// Fields. Default: 100.
    pub fields: usize,
}

impl Default for HeadBounds {
    fn default() -> HeadBounds {
        HeadBounds {
            line_bytes: TARGET_BYTES_MAX,
            field_bytes: FIELD_BYTES_MAX,
            fields_bytes: FIELDS_BYTES_MAX,
            fields: 100,
        }
    }
}

impl From<&ClientLimits> for HeadBounds {
    fn from(limits: &ClientLimits) -> HeadBounds {
        let fields_bytes = limits.header_bytes as usize;
        HeadBounds {
            line_bytes: limits.request_line as usize,
            field_bytes: FIELD_BYTES_MAX.min(fields_bytes),
            fields_bytes,
            fields: limits.headers as usize,
        }
    }
}

/// Longest host, in bytes (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 255;

/// What is asked for by a client that need not say it.
const NO_HOST: &str = "localhost";

/// A request that may be looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Admitted<'a> {
    /// Host without port, lower-case.
    pub host: Cow<'a, str>,
    /// What is forwarded as `Host`.
    pub authority: &'a str,
    /// The path in its one spelling.
    pub path: Cow<'a, str>,
    /// What stands behind `?`, without it.
    pub query: &'a str,
    /// The protocol that the client would rather speak.
    pub upgrade: Option<&'a HeaderValue>,
}

/// Why a request is refused; `Display` is for the client and tells nothing of the inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// §6.1, §6.3.
    #[error("the message's length is not told in exactly one way")]
    Framing,
    /// §2.2: a line that ends with a bare line feed.
    #[error("a line of the request does not end with CR LF")]
    LineEnd,
    /// §3.
    #[error("the request does not begin with a method, a target and a version")]
    RequestLine,
    /// §2.3.
    #[error("the version of HTTP is not spoken here")]
    Version,
    /// §5, RFC 9110 §5.
    #[error("a field of the request is not of the form `name: value`")]
    Field,
    /// The head did not come in time.
    #[error("the request's head did not arrive in time")]
    HeadTimeout,
    /// The body ended before its end.
    #[error("the request's body broke off")]
    BodyCut,
    /// §3.2: none, two, or not of the form host[:port].
    #[error("the request needs exactly one valid Host")]
    Host,
    /// §3.2.
    #[error("the request's target is not a path")]
    Target,
    /// RFC 3986 §5.2.4 is the client's work: a dot segment here means to pass a route by.
    #[error("`.` and `..` segments are not accepted")]
    DotSegment,
    /// RFC 9110 §9.3.6, §9.3.8.
    #[error("the method is not accepted")]
    Method,
    /// §3.
    #[error("the request's target is too long")]
    TargetTooLong,
    /// RFC 6585 §5.
    #[error("the request's fields are too large")]
    FieldsTooLarge,
    /// RFC 9110 §10.1.1.
    #[error("the expectation cannot be met")]
    Expectation,
    /// RFC 9110 §7.6.1: a field that others rely on is named as hop-by-hop.
    #[error("`Connection` names a field that must reach the origin")]
    ConnectionOption,
    /// RFC 9110 §15.5.20: the connection was opened for another host.
    #[error("the connection was opened for another host")]
    Misdirected,
    /// The route takes smaller bodies only.
    #[error("the request's body is too large")]
    BodyTooLarge,
}

impl Refusal {
    /// The status that says so.
    pub const fn status(self) -> u16 {
        match self {
            Refusal::Framing
            | Refusal::LineEnd
            | Refusal::RequestLine
            | Refusal::Field
            | Refusal::BodyCut
            | Refusal::Host
            | Refusal::Target
            | Refusal::DotSegment
            | Refusal::ConnectionOption => 400,
            Refusal::Method => 405,
            Refusal::HeadTimeout => 408,
            Refusal::Version => 505,
            Refusal::BodyTooLarge => 413,
            Refusal::TargetTooLong => 414,
            Refusal::Expectation => 417,
            Refusal::Misdirected => 421,
            Refusal::FieldsTooLarge => 431,
        }
    }

    /// As written in `strangler-error` and in the `reason` label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refusal::Framing => "bad_framing",
            Refusal::LineEnd => "bad_line_end",
            Refusal::RequestLine => "bad_request_line",
            Refusal::Version => "bad_version",
            Refusal::Field => "bad_field",
            Refusal::HeadTimeout => "header_timeout",
            Refusal::BodyCut => "body_cut",
            Refusal::Host => "bad_host",
            Refusal::Target => "bad_target",
            Refusal::DotSegment => "dot_segment",
            Refusal::Method => "method_not_accepted",
            Refusal::TargetTooLong => "target_too_long",
            Refusal::FieldsTooLarge => "fields_too_large",
            Refusal::Expectation => "expectation",
            Refusal::ConnectionOption => "bad_connection_option",
            Refusal::Misdirected => "misdirected",
            Refusal::BodyTooLarge => "body_too_large",
        }
    }

    /// Whether the connection may not be used again: after a doubt about framing nothing that follows can be believed.
    pub const fn closes(self) -> bool {
        !matches!(self, Refusal::DotSegment | Refusal::Expectation | Refusal::Misdirected)
    }

    /// Those that are told by the raw bytes, before there is a request.
    const BEFORE: [Refusal; 10] = [
        Refusal::Framing,
        Refusal::LineEnd,
        Refusal::RequestLine,
        Refusal::Target,
        Refusal::Version,
        Refusal::Field,
        Refusal::HeadTimeout,
        Refusal::Method,
        Refusal::TargetTooLong,
        Refusal::FieldsTooLarge,
    ];
}

/// The method of a request that stands in for one that was refused before it was read; no client can send it.
pub const STAND_IN: &str = "~";

/// The head of a request that stands in for one that was refused before it was read, so that its answer comes in turn, and is
/// counted and logged as any other.
pub fn stand_in(refusal: Refusal) -> String {
    format!("{STAND_IN} /{} HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n", refusal.as_str())
}

fn stood_in_for(uri: &Uri) -> Refusal {
    let reason = uri.path().trim_start_matches('/');
    Refusal::BEFORE.into_iter().find(|refusal| refusal.as_str() == reason).unwrap_or(Refusal::RequestLine)
}

/// Lets a request in, or says why not.
pub fn admit<'a>(
    method: &Method,
    uri: &'a Uri,
    version: Version,
    headers: &'a HeaderMap,
    bounds: &HeadBounds,
) -> Result<Admitted<'a>, Refusal> {
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > bounds.line_bytes) {
        return Err(Refusal::TargetTooLong);
    }
    let seen = look_through(version, headers, bounds)?;
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Method);
    }
    if method.as_str() == STAND_IN {
        return Err(stood_in_for(uri));
    }
    let named = match seen.host {
        Some(host) => host.to_str().map_err(|_| Refusal::Host)?,
        // Before 1.1 there was no `Host` (§3.2), and simple health checks still speak so.
        None if version < Version::HTTP_11 => NO_HOST,
        None => return Err(Refusal::Host),
    };
    // Absolute form: the target's authority counts (§3.2.2), and must be one we could have been asked for.
    let authority = match (uri.scheme_str(), uri.authority()) {
        (None, None) => named,
        (Some("http"), Some(authority)) => authority.as_str(),
        (_, _) => return Err(Refusal::Target),
    };
    let host = host_of(authority).ok_or(Refusal::Host)?;
    if uri.path_and_query().is_some_and(|target| target.as_str().contains('#')) {
        return Err(Refusal::Target);
    }
    let path = normal_path(uri.path()).map_err(|error| match error {
        PathError::NotOrigin | PathError::BadEscape => Refusal::Target,
        PathError::DotSegment => Refusal::DotSegment,
    })?;
    if seen.expects_more {
        return Err(Refusal::Expectation);
    }
    Ok(Admitted { host, authority, path, query: uri.query().unwrap_or_default(), upgrade: seen.upgrade })
}

/// What was seen of the fields that matter here.
#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a HeaderValue>,
    is_coded: bool,
    is_measured: bool,
    expects_more: bool,
    upgrade: Option<&'a HeaderValue>,
}

/// One pass over all fields: sizes, framing, Host, expectations.
fn look_through<'a>(version: Version, headers: &'a HeaderMap, bounds: &HeadBounds) -> Result<Seen<'a>, Refusal> {
    let (mut all, mut seen) = (0, Seen::default());
    for (name, value) in headers {
        let field = name.as_str().len() + value.len();
        all += field + 4;
        if field > bounds.field_bytes || all > bounds.fields_bytes {
            return Err(Refusal::FieldsTooLarge);
        }
        match name.as_str() {
            "transfer-encoding" => {
                let is_sound =
                    value.as_bytes().eq_ignore_ascii_case(b"chunked") && !seen.is_coded && version != Version::HTTP_10;
                if !is_sound {
                    return Err(Refusal::Framing);
                }
                seen.is_coded = true;
            }
            "content-length" => {
                let is_number = !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
                if !is_number || seen.is_measured {
                    return Err(Refusal::Framing);
                }
                seen.is_measured = true;
            }
            "host" if seen.host.is_some() => return Err(Refusal::Host),
            "host" => seen.host = Some(value),
            "upgrade" => seen.upgrade = Some(value),
            "expect" => seen.expects_more |= !value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
    }
    if seen.is_coded && seen.is_measured { Err(Refusal::Framing) } else { Ok(seen) }
}

/// The host of `host[:port]`, lower-case and without a trailing dot; `None` when it is not of that form (RFC 3986 §3.2.2).
pub fn host_of(authority: &str) -> Option<Cow<'_, str>> {
    if is_usual_host(authority) { Some(Cow::Borrowed(authority)) } else { unusual_host(authority) }
}

/// Whether it is a name without a port, in its one spelling: one look at each byte.
fn is_usual_host(authority: &str) -> bool {
    static PARTS: [bool; 256] = letters_digits_and(*b"-_.");
    let mut before = b'.';
    for byte in authority.bytes() {
        let is_part = PARTS.get(usize::from(byte)).copied().unwrap_or(false) && !byte.is_ascii_uppercase();
        if !is_part || (byte == b'.' && before == b'.') {
            return false;
        }
        before = byte;
    }
    before != b'.' && authority.len() <= HOST_BYTES_MAX
}

/// A table of letters, digits and `marks`.
pub(crate) const fn letters_digits_and<const N: usize>(marks: [u8; N]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut rest = table.as_mut_slice();
    let mut byte = 0u8;
    while let Some((first, others)) = rest.split_first_mut() {
        let mut marks = marks.as_slice();
        *first = byte.is_ascii_alphanumeric();
        while let Some((mark, more)) = marks.split_first() {
            *first |= *mark == byte;
            marks = more;
        }
        byte = byte.wrapping_add(1);
        rest = others;
    }
    table
}

fn unusual_host(authority: &str) -> Option<Cow<'_, str>> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            let host = authority.get(..address.len() + 2)?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let is_port =
        |port: &str| port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
    let is_name =
        host.starts_with('[') || host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    // No label of a name is empty but the root's (RFC 1035 §3.1), which goes: two spellings of one host would be two hosts.
    let has_gap = host.starts_with('.') || host.contains("..");
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !is_name || has_gap || !port.is_none_or(is_port) {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let has_upper = host.bytes().any(|b| b.is_ascii_uppercase());
    Some(if has_upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

/// Fields that belong to one connection (RFC 9110 §7.6.1).
pub const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
];

/// Fields that a client may not have taken out by naming them in `Connection` (CVE-2022-31813).
fn must_reach(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "authorization"
            | "cookie"
            | "content-length"
            | "content-type"
            | "forwarded"
            | "via"
            | "x-real-ip"
            | "set-cookie"
    ) || name.starts_with("x-forwarded-")
        || name.starts_with("strangler-")
}

/// Whether a field may stand in a trailer section: none that frames, routes, authenticates or says what is in a body
/// (RFC 9110 §6.5.1), and none that we vouch for.
pub fn may_trail(name: &HeaderName) -> bool {
    let text = name.as_str();
    let is_named = matches!(
        text,
        "trailer"
            | "expect"
            | "max-forwards"
            | "pragma"
            | "range"
            | "age"
            | "date"
            | "expires"
            | "location"
            | "retry-after"
            | "vary"
            | "warning"
            | "cache-control"
            | "proxy-authentication-info"
            | "www-authenticate"
    );
    let is_kind = ["content-", "if-", "x-strangler-"].iter().any(|kind| text.starts_with(kind));
    !(is_named || is_kind || must_reach(text) || HOP_BY_HOP.contains(name) || text.contains('_'))
}

/// Names that `Connection` nominates beyond the usual ones.
///
/// # Errors
/// When it nominates a field that others rely on, or more than 32.
pub fn nominated(headers: &HeaderMap) -> Result<Vec<HeaderName>, Refusal> {
    let mut found = Vec::new();
    for line in headers.get_all(header::CONNECTION) {
        for option in line.as_bytes().split(|b| *b == b',') {
            let option = option.trim_ascii();
            if option.is_empty() || option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive")
            {
                continue;
            }
            let Ok(name) = HeaderName::from_bytes(option) else {
                return Err(Refusal::ConnectionOption);
            };
            if must_reach(name.as_str()) || found.len() == 32 {
                return Err(Refusal::ConnectionOption);
            }
            found.push(name);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    type Checked = Result<(String, String), Refusal>;
    type Fields<'a> = &'a [(&'a str, &'a str)];

    fn check(method: &str, uri: &str, version: Version, fields: Fields<'_>) -> Checked {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let uri: Uri = uri.parse().unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        admit(&method, &uri, version, &headers, &HeadBounds::default())
            .map(|in_| (in_.host.into_owned(), in_.path.into_owned()))
    }

    #[test]
    fn a_request_is_let_in_or_refused_with_its_reason() {
        let host = ("host", "Shop.Example.com:8080");
        let ok = |host: &str, path: &str| Ok((host.to_owned(), path.to_owned()));
        let cases: &[(&str, &str, Fields<'_>, Checked)] = &[
            ("GET", "/a%7Eb?x=1", &[host], ok("shop.example.com", "/a~b")),
            ("GET", "http://other/x", &[host], ok("other", "/x")),
            ("GET", "https://other/x", &[host], Err(Refusal::Target)),
            ("GET", "http://user@other/x", &[host], Err(Refusal::Host)),
            ("GET", "/", &[], Err(Refusal::Host)),
            ("GET", "/", &[host, host], Err(Refusal::Host)),
            ("GET", "/", &[("host", "a b")], Err(Refusal::Host)),
            ("GET", "/", &[("host", "a@b")], Err(Refusal::Host)),
            ("GET", "/", &[("host", "a:99999")], Err(Refusal::Host)),
            ("GET", "/", &[("host", "a:8o")], Err(Refusal::Host)),
            ("GET", "/", &[("host", "[::1")], Err(Refusal::Host)),
            ("GET", "/", &[("host", "a,b")], Err(Refusal::Host)),
            ("GET", "/", &[("host", "shop..")], Err(Refusal::Host)),
            ("GET", "/", &[("host", ".shop")], Err(Refusal::Host)),
            ("GET", "/", &[("host", "shop.")], ok("shop", "/")),
            ("GET", "/", &[("host", "[::1]:80")], ok("[::1]", "/")),
            ("TRACE", "/", &[host], Err(Refusal::Method)),
            ("GET", "*", &[host], Err(Refusal::Target)),
            ("GET", "/../x", &[host], Err(Refusal::DotSegment)),
            ("GET", "/%2e%2e/x", &[host], Err(Refusal::DotSegment)),
            ("POST", "/", &[host, ("transfer-encoding", "chunked"), ("content-length", "3")], Err(Refusal::Framing)),
            ("POST", "/", &[host, ("transfer-encoding", "gzip, chunked")], Err(Refusal::Framing)),
            (
                "POST",
                "/",
                &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Err(Refusal::Framing),
            ),
            ("POST", "/", &[host, ("content-length", "+5")], Err(Refusal::Framing)),
            ("POST", "/", &[host, ("content-length", "5"), ("content-length", "5")], Err(Refusal::Framing)),
            ("POST", "/", &[host, ("expect", "100-continue")], ok("shop.example.com", "/")),
            ("POST", "/", &[host, ("expect", "tea")], Err(Refusal::Expectation)),
        ];
        for (method, uri, fields, expect) in cases {
            assert_eq!(&check(method, uri, Version::HTTP_11, fields), expect, "{method} {uri} {fields:?}");
        }
        let chunked_in_1_0 = check("POST", "/", Version::HTTP_10, &[host, ("transfer-encoding", "chunked")]);
        assert_eq!(chunked_in_1_0, Err(Refusal::Framing));
        let long = format!("/{}", "a".repeat(TARGET_BYTES_MAX));
        assert_eq!(check("GET", &long, Version::HTTP_11, &[host]), Err(Refusal::TargetTooLong));
        let big = "v".repeat(FIELD_BYTES_MAX);
        assert_eq!(check("GET", "/", Version::HTTP_11, &[host, ("x", &big)]), Err(Refusal::FieldsTooLarge));
    }

    #[test]
    fn connection_cannot_take_out_what_others_rely_on() {
        let nominate = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.append("connection", value.parse().unwrap());
            nominated(&headers)
        };
        assert_eq!(nominate("keep-alive, X-Own"), Ok(vec![HeaderName::from_static("x-own")]));
        assert_eq!(nominate("close, X-Forwarded-For"), Err(Refusal::ConnectionOption));
        assert_eq!(nominate("Authorization"), Err(Refusal::ConnectionOption));
        assert_eq!(nominate(&"a,".repeat(33)), Err(Refusal::ConnectionOption));
    }
}

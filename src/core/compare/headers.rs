//! Headers: whether they are there, and what they say, each by its own sense of equal.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};

use crate::compare::differences::{Differences, Location, Name, Shown};
use crate::difference::Kind;
use crate::route::{HeaderMode, HeaderPolicy, Presence};

/// Fields that frame a message on its own connection: they say how it came, not what it is.
const FRAMING: [&str; 8] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Compares the headers that the policy speaks of.
pub(crate) fn compare(legacy: &HeaderMap, extracted: &HeaderMap, policy: &HeaderPolicy, found: &mut Differences<'_>) {
    match policy.mode {
        HeaderMode::Listed => policy.listed.iter().for_each(|name| compare_one(name, legacy, extracted, found)),
        HeaderMode::All => {
            let names: BTreeSet<&str> = legacy.keys().chain(extracted.keys()).map(HeaderName::as_str).collect();
            for name in names.into_iter().filter(|name| !FRAMING.contains(name)) {
                let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
                if policy.volatile.contains(&name) {
                    compare_presence(&name, legacy, extracted, policy.presence, found);
                } else {
                    compare_one(&name, legacy, extracted, found);
                }
            }
        }
    }
}

fn compare_one(name: &HeaderName, legacy: &HeaderMap, extracted: &HeaderMap, found: &mut Differences<'_>) {
    let [left, right] = [legacy, extracted].map(|headers| joined(headers, name));
    let kind = match (&left, &right) {
        (None, None) => return,
        (Some(left), Some(right)) if meaning(name, left) == meaning(name, right) => return,
        (Some(_), Some(_)) if name == header::CONTENT_TYPE => Kind::ContentType,
        (Some(_), Some(_)) => Kind::Header,
        (Some(_), None) => Kind::Missing,
        (None, Some(_)) => Kind::Extra,
    };
    let [left, right] = [left, right].map(|value| value.map(|value| Shown::Header(Bytes::from(value))));
    found.push(Location::Header(Name(name.clone())), kind, left, right);
}

/// Of a header that says something else each time, only whether it is there.
fn compare_presence(
    name: &HeaderName,
    legacy: &HeaderMap,
    extracted: &HeaderMap,
    presence: Presence,
    found: &mut Differences<'_>,
) {
    let [left, right] = [legacy, extracted].map(|headers| joined(headers, name).map(|it| Shown::Header(it.into())));
    let kind = match (&left, &right) {
        (Some(_), None) => Kind::Missing,
        (None, Some(_)) => Kind::Extra,
        _ => return,
    };
    let place = Location::Header(Name(name.clone()));
    match presence {
        Presence::Report => found.push(place, kind, left, right),
        Presence::Warn => found.warn(place, kind, left, right),
        Presence::Ignore => {}
    }
}

/// The media type of an answer, lower-case, without parameters; `None`: not said.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.as_bytes();
    Some(String::from_utf8_lossy(pieces(value, b';').first().copied().unwrap_or_default().trim_ascii()).to_lowercase())
}

/// All lines of one name as one value (RFC 9110 §5.3).
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|value| value.as_bytes().trim_ascii()).collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}

/// What of a value counts, in one spelling.
fn meaning(name: &HeaderName, value: &[u8]) -> Vec<Vec<u8>> {
    match *name {
        header::CONTENT_TYPE => content_type(value),
        header::LOCATION | header::CONTENT_LOCATION => vec![path_of(value).to_vec()],
        header::SET_COOKIE => cookies(value),
        // Their elements have no order.
        header::VARY | header::CACHE_CONTROL => sorted(elements(value, <[u8]>::to_ascii_lowercase)),
        header::ALLOW => sorted(elements(value, <[u8]>::to_vec)),
        _ => elements(value, <[u8]>::to_vec),
    }
}

fn sorted(mut list: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    list.sort_unstable();
    list.dedup();
    list
}

fn elements(value: &[u8], spell: impl Fn(&[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    pieces(value, b',').into_iter().map(<[u8]>::trim_ascii).filter(|piece| !piece.is_empty()).map(spell).collect()
}

/// Media type and charset. JSON is UTF-8 whatever it says (RFC 8259 §8.1), so there a charset says nothing.
fn content_type(value: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = pieces(value, b';').into_iter().map(|piece| piece.trim_ascii().to_ascii_lowercase());
    let media_type = pieces.next().unwrap_or_default();
    let is_json = media_type.ends_with(b"/json") || media_type.ends_with(b"+json");
    let charset = pieces.find_map(|piece| {
        let value = piece.strip_prefix(b"charset=")?;
        Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value).to_vec())
    });
    match charset {
        Some(charset) if !(is_json && charset == b"utf-8") => vec![media_type, charset],
        _ => vec![media_type],
    }
}

/// A location without scheme and authority: the two sides live on different hosts.
fn path_of(value: &[u8]) -> &[u8] {
    let rest = match value.windows(3).position(|window| window == b"://") {
        // Only in front of the path, the query and the fragment is it the end of a scheme.
        Some(at) if !value.iter().take(at).any(|byte| matches!(byte, b'/' | b'?' | b'#')) => value.get(at + 3..),
        _ => value.strip_prefix(b"//"),
    };
    let Some(rest) = rest else { return value };
    match rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')) {
        Some(at) => rest.get(at..).unwrap_or_default(),
        None => b"/",
    }
}

/// Names and attributes of cookies, never their values; when they end is left out too, being a moment on a clock.
fn cookies(value: &[u8]) -> Vec<Vec<u8>> {
    // The comma in `Expires=Wed, 21 Oct` does not end a cookie: a new one begins with a `name=`.
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for piece in pieces(value, b',') {
        let starts_one = pieces(piece, b';').first().is_some_and(|first| first.contains(&b'='));
        match lines.last_mut() {
            Some(line) if !starts_one => line.extend_from_slice(piece),
            _ => lines.push(piece.to_vec()),
        }
    }
    let spell = |line: &Vec<u8>| {
        let mut parts = pieces(line, b';').into_iter().map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default().split(|byte| *byte == b'=').next().unwrap_or_default();
        let attributes: Vec<Vec<u8>> = parts
            .map(<[u8]>::to_ascii_lowercase)
            .filter(|part| !part.is_empty() && !part.starts_with(b"expires=") && !part.starts_with(b"max-age="))
            .collect();
        [vec![name.to_vec()], sorted(attributes)].concat().join(&b';')
    };
    sorted(lines.iter().map(spell).collect())
}

/// Splits outside of quoted strings.
fn pieces(value: &[u8], at: u8) -> Vec<&[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    value
        .split(|byte| {
            let is_end = !is_quoted && *byte == at;
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_quoted => is_escaped = true,
                b'"' => is_quoted = !is_quoted,
                _ => {}
            }
            is_end
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(name: &str, left: &[&str], right: &[&str]) -> bool {
        let name: HeaderName = name.parse().expect("a name");
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, value.parse().expect("a value"));
            }
            headers
        };
        let mut found = Differences::new(&[], "2026-11-21".parse().expect("a day"));
        let policy = HeaderPolicy { listed: vec![name.clone()], ..HeaderPolicy::default() };
        compare(&of(left), &of(right), &policy, &mut found);
        found.total() == 0
    }

    #[test]
    fn each_header_has_its_own_sense_of_equal() {
        for (name, left, right, is_same) in [
            ("content-type", "Application/JSON", "application/json; charset=utf-8", true),
            ("content-type", "text/html;charset=\"UTF-8\"", "text/html; charset=utf-8", true),
            ("content-type", "text/html", "text/html; charset=utf-8", false),
            ("content-type", "text/html; charset=latin1", "text/html; charset=utf-8", false),
            ("content-type", "application/json", "text/html", false),
            ("content-type", "multipart/mixed; boundary=a", "multipart/mixed; boundary=b", true),
            ("location", "http://legacy.internal:8000/account", "https://shop.example.com/account", true),
            ("location", "/account", "//x/account", true),
            ("location", "http://a", "http://b/", true),
            ("location", "/a?to=http://x/y", "/a?to=http://z/y", false),
            ("location", "http://a/x", "http://a/y", false),
            ("vary", "Accept, cookie", "Cookie,accept", true),
            ("cache-control", "max-age=60, public", "public, max-age=60", true),
            ("cache-control", "max-age=60", "max-age=61", false),
            ("link", "<a>; rel=\"x, y\"", "<a>; rel=\"x,y\"", false),
            ("set-cookie", "a=1; Path=/; HttpOnly", "a=2; httponly; path=/", true),
            ("set-cookie", "a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Secure", "a=1; Secure", true),
            ("set-cookie", "a=1; Secure", "a=1", false),
            ("set-cookie", "a=1", "b=1", false),
            ("x-other", "a", "A", false),
        ] {
            assert_eq!(same(name, &[left], &[right]), is_same, "{name}: {left} / {right}");
        }
    }

    #[test]
    fn several_lines_are_one_value_and_none_is_not_an_empty_one() {
        assert!(same("vary", &["accept", "cookie"], &["cookie, accept"]));
        assert!(!same("vary", &[], &["cookie"]));
        assert!(!same("x-a", &[""], &[]));
        assert!(same("set-cookie", &["a=1; Secure", "b=2"], &["b=3", "a=4; secure"]));
    }
}

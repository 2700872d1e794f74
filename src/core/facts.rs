//! The few things of a request that a decision may look at.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Method, header};

/// A request as decisions see it. Borrowed: made once per request, without copying.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The method.
    pub method: &'a Method,
    /// Host without port, lower-case.
    pub host: &'a str,
    /// The path in the spelling of [`crate::template::normal_path`].
    pub path: &'a str,
    /// What stands behind `?`, without it; empty when there is none.
    pub query: &'a str,
    /// As the client sent them.
    pub headers: &'a HeaderMap,
}

impl<'a> RequestFacts<'a> {
    /// The first value of a header.
    pub fn header(&self, name: &HeaderName) -> Option<&'a [u8]> {
        self.headers.get(name).map(http::HeaderValue::as_bytes)
    }

    /// The first cookie of that name, over all `Cookie` lines (RFC 6265 §4.2.1).
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        let pairs =
            self.headers.get_all(header::COOKIE).into_iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
        for pair in pairs {
            let pair = pair.trim_ascii();
            if let Some(value) = pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
                return Some(value);
            }
        }
        None
    }

    /// The first value of a query parameter, percent-decoded, `+` as a space; bytes that are no UTF-8 are replaced.
    pub fn query_value(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
    }

    /// Whether the method is safe in the sense of RFC 9110 §9.2.1, of those the proxy may send twice.
    pub fn is_safe(&self) -> bool {
        is_safe(self.method)
    }
}

/// GET, HEAD, OPTIONS: what may be sent twice without being asked for.
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let mut after = bytes.clone();
                let hex = [after.next(), after.next()].map(|digit| digit.and_then(|d| char::from(d).to_digit(16)));
                if let [Some(high), Some(low)] = hex {
                    out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    bytes = after;
                } else {
                    out.push(b'%');
                }
            }
            plain => out.push(plain),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts<'a>(headers: &'a HeaderMap, query: &'a str) -> RequestFacts<'a> {
        RequestFacts { method: &Method::GET, host: "shop", path: "/", query, headers }
    }

    #[test]
    fn the_first_cookie_of_a_name_counts() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", "a=1; SHOPSID=x=y".parse().unwrap());
        headers.append("cookie", "SHOPSID=z;b=2".parse().unwrap());
        assert_eq!(facts(&headers, "").cookie("SHOPSID"), Some(&b"x=y"[..]));
        assert_eq!(facts(&headers, "").cookie("b"), Some(&b"2"[..]));
        assert_eq!(facts(&headers, "").cookie("SHOP"), None);
    }

    #[test]
    fn a_query_value_is_decoded() {
        let headers = HeaderMap::new();
        let facts = facts(&headers, "a=1&cur%72ency=E%55R+x&empty&bad=%zz");
        assert_eq!(facts.query_value("currency").unwrap(), "EUR x");
        assert_eq!(facts.query_value("empty").unwrap(), "");
        assert_eq!(facts.query_value("bad").unwrap(), "%zz");
        assert_eq!(facts.query_value("none"), None);
    }

    proptest! {
        #[test]
        fn no_query_breaks_the_decoder(query in "\\PC{0,40}", name in "\\PC{0,5}") {
            let headers = HeaderMap::new();
            let _ = facts(&headers, &query).query_value(&name);
        }
    }
}

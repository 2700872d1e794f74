//! Single values: durations, sizes, weights, names, URLs. Each says what it expected and keeps nothing back.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::fault::did_you_mean;
use crate::name::UpstreamName;
use crate::raw::walk::Reader;
use crate::route::{Endpoint, PointerPattern, Scheme};
use crate::tree::{Kind, Node};
use crate::weight::Weight;

/// Largest count that may be written.
pub(in crate::raw) const COUNT_MAX: u64 = 1_000_000;
/// Most retries.
pub(in crate::raw) const TIMES_MAX: u64 = 5;
/// Longest free text.
pub(in crate::raw) const TEXT_BYTES_MAX: usize = 1_024;
/// Longest wait that may be written: a year.
const DURATION_MAX: Duration = Duration::from_hours(24 * 365);

/// A URL, or the name of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `http://host:port`.
    Url(Endpoint),
    /// A name under `upstreams:`.
    Name(UpstreamName),
}

impl<'a> Reader<'a> {
    /// A scalar's text, as written.
    pub(in crate::raw) fn text(&mut self, node: &'a Node, what: &str) -> Option<&'a str> {
        match &node.kind {
            Kind::Null => {
                self.fault(node.span, format!("there is no value; expected {what}"));
                None
            }
            Kind::Map(_) => {
                let help = "a text that begins with `{` is written in quotes".to_owned();
                self.fault_with_help(node.span, format!("expected {what}, found a map"), Some(help));
                None
            }
            Kind::Seq(_) => {
                self.fault(node.span, format!("expected {what}, found a list"));
                None
            }
            Kind::Bool { .. } | Kind::Number(_) | Kind::String(_) => node.text(),
        }
    }

    /// A text of a bounded length, not empty.
    pub(in crate::raw) fn short_text(&mut self, node: &'a Node, what: &str) -> Option<Arc<str>> {
        let text = self.text(node, what)?;
        if text.is_empty() {
            self.fault(node.span, format!("{what} must not be empty"));
            return None;
        }
        if text.len() > TEXT_BYTES_MAX {
            self.fault(node.span, format!("{what} has at most {TEXT_BYTES_MAX} bytes, this one has {}", text.len()));
            return None;
        }
        Some(Arc::from(text))
    }

    /// Anything that reads itself from text.
    pub(in crate::raw) fn parsed<T: FromStr>(&mut self, node: &'a Node, what: &str) -> Option<T>
    where
        T::Err: Display,
    {
        let text = self.text(node, what)?;
        text.parse().map_err(|error: T::Err| self.fault(node.span, format!("{}: {error}", node.describe()))).ok()
    }

    /// `5%`.
    pub(in crate::raw) fn weight(&mut self, node: &'a Node) -> Option<Weight> {
        self.parsed(node, "a part of a whole, as in `5%`")
    }

    /// `true` or `false`.
    pub(in crate::raw) fn bool(&mut self, node: &'a Node) -> Option<bool> {
        if let Kind::Bool { value, .. } = &node.kind {
            return Some(*value);
        }
        let help = match node.text() {
            Some("yes" | "Yes" | "on" | "On" | "y" | "Y") => Some("write `true`".to_owned()),
            Some("no" | "No" | "off" | "Off" | "n" | "N") => Some("write `false`".to_owned()),
            _ => None,
        };
        self.fault_with_help(node.span, format!("expected `true` or `false`, found {}", node.describe()), help);
        None
    }

    /// A whole number between two bounds.
    pub(in crate::raw) fn count(&mut self, node: &'a Node, least: u64, most: u64) -> Option<u64> {
        let text = self.text(node, "a whole number")?;
        let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(number) if is_digits && (least..=most).contains(&number) => Some(number),
            _ if is_digits || text.strip_prefix('-').is_some_and(|rest| rest.parse::<u64>().is_ok()) => {
                self.fault(node.span, format!("expected a whole number from {least} to {most}, found `{text}`"));
                None
            }
            _ => {
                self.fault(node.span, format!("expected a whole number, found {}", node.describe()));
                None
            }
        }
    }

    /// As [`Reader::count`], for what is held in 32 bits.
    pub(in crate::raw) fn count_u32(&mut self, node: &'a Node, least: u64, most: u64) -> Option<u32> {
        self.count(node, least, most).and_then(|number| u32::try_from(number).ok())
    }

    /// `30s`; zero where `may_be_none`, and then it means that there is no bound.
    pub(in crate::raw) fn duration(&mut self, node: &'a Node, may_be_none: bool) -> Option<Duration> {
        let text = self.text(node, "a duration, as in `30s`")?;
        match duration(text) {
            Ok(duration) if duration.is_zero() && !may_be_none => {
                self.fault(node.span, "there must be a bound here; `0s` would be none");
                None
            }
            Ok(duration) => Some(duration),
            Err(message) => {
                let is_bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let help = is_bare.then(|| format!("`{text}s` or `{text}ms`?"));
                self.fault_with_help(node.span, format!("{}: {message}", node.describe()), help);
                None
            }
        }
    }

    /// `64KiB`, or bytes; at most `most`.
    pub(in crate::raw) fn size(&mut self, node: &'a Node, most: u64) -> Option<u64> {
        let text = self.text(node, "a size, as in `64KiB`")?;
        match size(text) {
            Ok(bytes) if bytes <= most => Some(bytes),
            Ok(bytes) => {
                self.fault(node.span, format!("at most {most} bytes, this is {bytes}"));
                None
            }
            Err(message) => {
                self.fault(node.span, format!("{}: {message}", node.describe()));
                None
            }
        }
    }

    /// One of our words. Those of `later` are known and not built.
    pub(in crate::raw) fn one_of<T: Copy>(
        &mut self,
        node: &'a Node,
        words: &[(&'static str, T)],
        later: &[&'static str],
    ) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let text = self.text(node, &format!("one of `{}`", names.join("`, `")))?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        if later.contains(&text) {
            self.not_yet(node.span, text);
            return None;
        }
        let help = did_you_mean(text, names.iter().copied());
        self.fault_with_help(node.span, format!("expected one of `{}`, found `{text}`", names.join("`, `")), help);
        None
    }

    /// The name of a header, lower-case.
    pub(in crate::raw) fn header_name(&mut self, node: &'a Node) -> Option<HeaderName> {
        let text = self.text(node, "the name of a header")?;
        HeaderName::try_from(text).map_err(|_| self.fault(node.span, format!("{text:?} is no name of a header"))).ok()
    }

    /// What a header may say.
    pub(in crate::raw) fn header_value(&mut self, node: &'a Node) -> Option<HeaderValue> {
        let text = self.text(node, "the value of a header")?;
        let is_short = text.len() <= 8 * TEXT_BYTES_MAX;
        let value = HeaderValue::try_from(text).ok().filter(|value| is_short && value.to_str().is_ok());
        if value.is_none() {
            self.fault(node.span, "not the value of a header: visible ASCII and spaces, at most 8 KiB");
        }
        value
    }

    /// A method, in capitals.
    pub(in crate::raw) fn method(&mut self, node: &'a Node) -> Option<Method> {
        let text = self.text(node, "a method, as in `GET`")?;
        self.method_in(node, text)
    }

    /// A method that is part of a longer text.
    pub(in crate::raw) fn method_in(&mut self, node: &'a Node, text: &str) -> Option<Method> {
        const KNOWN: [&str; 8] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE"];
        let is_upper = !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_');
        let help = did_you_mean(&text.to_ascii_uppercase(), KNOWN);
        if text == "CONNECT" {
            self.fault(node.span, "`CONNECT` asks for a tunnel, which this proxy never makes");
            return None;
        }
        // A method of someone's own is fine; one letter off a known one is a slip.
        let is_slip = !KNOWN.contains(&text) && text.len() <= 8 && help.is_some();
        match Method::from_bytes(text.as_bytes()) {
            Ok(method) if is_upper && !is_slip => Some(method),
            _ => {
                self.fault_with_help(node.span, format!("{text:?} is no method; they are written in capitals"), help);
                None
            }
        }
    }

    /// A JSON pointer with wildcards.
    pub(in crate::raw) fn pointer(&mut self, node: &'a Node) -> Option<PointerPattern> {
        let text = self.text(node, "a JSON pointer, as in `/lines/*/tax_cents`")?;
        match text.parse::<PointerPattern>() {
            Ok(pattern) => Some(pattern),
            Err(message) => {
                self.fault(node.span, format!("{text:?}: {message}"));
                None
            }
        }
    }

    /// `http://host:port`.
    pub(in crate::raw) fn endpoint(&mut self, node: &'a Node) -> Option<Endpoint> {
        let text = self.text(node, "a URL, as in `http://127.0.0.1:8000`")?;
        self.endpoint_in(node, text)
    }

    fn endpoint_in(&mut self, node: &'a Node, text: &str) -> Option<Endpoint> {
        let Some((scheme, rest)) = text.split_once("://") else {
            self.fault_with_help(
                node.span,
                format!("`{text}` is no URL"),
                Some("a URL is written with its scheme, as in `http://127.0.0.1:8000`".to_owned()),
            );
            return None;
        };
        let Some(scheme) = Scheme::ALL.into_iter().find(|known| known.as_str() == scheme) else {
            let message = format!("`{scheme}://` is not spoken; expected `http://`, `https://`, `h2c://` or `h2://`");
            self.fault(node.span, message);
            return None;
        };
        match authority(rest, scheme.default_port()) {
            Ok((host, port)) => Some(Endpoint { scheme, host: Arc::from(host), port }),
            Err(message) => {
                self.fault(node.span, format!("`{text}`: {message}"));
                None
            }
        }
    }

    /// A URL or the name of an upstream.
    pub(in crate::raw) fn target(&mut self, node: &'a Node) -> Option<Target> {
        let text = self.text(node, "a URL or the name of an upstream")?;
        if text.contains("://") {
            return self.endpoint_in(node, text).map(Target::Url);
        }
        if text.contains([':', '.', '/']) {
            let help = Some(format!("a URL is written with its scheme: `http://{text}`"));
            self.fault_with_help(node.span, format!("`{text}` is neither a URL nor the name of an upstream"), help);
            return None;
        }
        self.parsed(node, "a URL or the name of an upstream").map(Target::Name)
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "a duration is a whole number with `ms`, `s`, `m`, `h` or `d`, as in `30s`";
    let (number, unit) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let ms = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => return Err(EXPECTED),
    };
    let duration = ms.map(Duration::from_millis).filter(|duration| *duration <= DURATION_MAX);
    duration.ok_or("a duration is at most 365 days")
}

fn size(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "a size is a whole number of bytes, or one with `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`";
    let (number, unit) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(EXPECTED),
    };
    number.checked_mul(factor).ok_or("a size has at most 64 bits")
}

/// `host`, `host:port`, `[::1]:port`, and nothing after it but one `/`.
fn authority(text: &str, default_port: u16) -> Result<(String, u16), &'static str> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains(['/', '?', '#']) {
        return Err("an endpoint is a scheme, a host and a port; it has no path");
    }
    if text.contains('@') {
        return Err("an endpoint has no user and no password");
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("the `]` of the address is missing")?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| "not an IPv6 address")?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':').ok_or("after `]` comes `:` and the port")?),
        };
        (host.to_ascii_lowercase(), port)
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        if port.is_some_and(|port| port.contains(':')) {
            return Err("an IPv6 address stands in brackets, as in `http://[::1]:8000`");
        }
        if !is_host(host) {
            return Err("not the name of a host");
        }
        (host.to_ascii_lowercase(), port)
    };
    let port = match port {
        None => default_port,
        Some(port) => {
            let is_digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            port.parse::<u16>()
                .ok()
                .filter(|port| is_digits && *port > 0)
                .ok_or("a port is a number from 1 to 65535")?
        }
    };
    Ok((host, port))
}

/// A DNS name or an IPv4 address.
pub(in crate::raw) fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.len() <= 253 && text.split('.').all(is_label) && (!is_numeric || text.parse::<std::net::Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::PointerSegment;

    #[test]
    fn a_duration_has_a_unit() {
        for (text, ms) in [("30s", 30_000), ("250ms", 250), ("5m", 300_000), ("24h", 86_400_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["30", "", "s", "1.5s", "-1s", "1 s", "99999999999999999999s", "18446744073709551615h", "366d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_is_bytes_or_has_a_unit() {
        for (text, bytes) in [("64KiB", 65_536), ("1MiB", 1 << 20), ("10MB", 10_000_000), ("512", 512), ("0", 0)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "1.5MiB", "1 MiB", "-1", "18446744073709551615GiB", "1mib"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_authority_is_a_host_and_a_port() {
        for (text, expect) in [
            ("127.0.0.1:8000", ("127.0.0.1", 8000)),
            ("Shop.Example.com", ("shop.example.com", 80)),
            ("[::1]:81", ("::1", 81)),
            ("[::1]", ("::1", 80)),
            ("a:1/", ("a", 1)),
        ] {
            assert_eq!(authority(text, 80), Ok((expect.0.to_owned(), expect.1)), "{text}");
        }
        for text in [
            "",
            ":80",
            "a:0",
            "a:65536",
            "a:+1",
            "a:",
            "::1:80",
            "[::1",
            "[x]:1",
            "u@a",
            "a/b",
            "a b",
            "1.2.3.400",
            "-a",
            "a..b",
        ] {
            assert!(authority(text, 80).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pointer_is_unescaped() {
        let literal = |text: &str| PointerSegment::Literal(Arc::from(text));
        assert_eq!(
            "/a~1b/*/~0/**".parse::<PointerPattern>().unwrap().segments,
            [literal("a/b"), PointerSegment::One, literal("~"), PointerSegment::Many]
        );
        assert!("a".parse::<PointerPattern>().is_err());
        assert!("/~2".parse::<PointerPattern>().is_err());
    }
}

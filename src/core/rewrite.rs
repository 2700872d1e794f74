//! What a service calls itself inside, and what a browser must see instead: paths on the way there; locations and cookies on the
//! way back.

use std::borrow::Cow;
use std::sync::Arc;

use crate::template::{PathPattern, PathTemplate, Segment};

/// Changes on the way to a service taken out and back, as a route writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The path that the service is asked for; its parameters are those of the route's path. Default: the path as it came.
    pub path: Option<PathTemplate>,
    /// Whether paths in the service's `Location`, `Content-Location` and `Refresh` are mapped back. Default: no.
    pub location: bool,
    /// Of its cookies.
    pub cookies: CookieRewrite,
}

/// What an upstream calls itself in its answers, whoever asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnNames {
    /// Hosts, with or without a port, lower-case: a location on one of them is made one of the host that the client asked. The
    /// upstream's own endpoints always count.
    pub hosts: Vec<Arc<str>>,
    /// Of its cookies.
    pub cookies: CookieRewrite,
}

/// Changes to `Path` and `Domain` of `Set-Cookie`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CookieRewrite {
    /// `/shop=/`: paths at or below the first are moved to the second.
    pub path: Option<Mapping>,
    /// `legacy.internal=shop.example.com`: the first becomes the second; an empty one takes the attribute out, so that the cookie
    /// is the asked host's alone.
    pub domain: Option<Mapping>,
}

/// From what to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// What the service says.
    pub from: Arc<str>,
    /// What the browser sees.
    pub to: Arc<str>,
}

impl Rewrite {
    /// The path that the service is asked for instead of `path`; `None`: the same.
    pub fn path_for(&self, pattern: &PathPattern, path: &str) -> Option<String> {
        fill(self.path.as_ref()?, |name| pattern.capture(path, name))
    }

    /// The public path of a path that the service names: its parameters are taken from there, and those that are not there from
    /// the path that was asked for. `None`: it is not of the rewritten shape, or the route's path is an expression.
    pub fn public_path(&self, pattern: &PathPattern, asked: &str, named: &str) -> Option<String> {
        let (Some(inner), PathPattern::Template(public)) = (&self.path, pattern) else { return None };
        if !inner.matches(named) {
            return None;
        }
        fill(public, |name| inner.capture(named, name).or_else(|| pattern.capture(asked, name)))
    }
}

impl CookieRewrite {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.path.is_none() && self.domain.is_none()
    }

    /// A `Set-Cookie` as the browser sees it.
    pub fn apply<'a>(&self, cookie: &'a str) -> Cow<'a, str> {
        let is_changed = |attribute: &str| self.attribute(attribute).is_some();
        if !cookie.split(';').skip(1).any(is_changed) {
            return Cow::Borrowed(cookie);
        }
        let mut parts = cookie.split(';');
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            match self.attribute(part) {
                None => {
                    out.push(';');
                    out.push_str(part);
                }
                Some(changed) if changed.is_empty() => {}
                Some(changed) => {
                    out.push_str("; ");
                    out.push_str(&changed);
                }
            }
        }
        Cow::Owned(out)
    }

    /// What an attribute becomes; empty: it goes; `None`: it stays.
    fn attribute(&self, attribute: &str) -> Option<String> {
        let (name, value) = attribute.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("path") {
            let mapping = self.path.as_ref()?;
            let rest = below(value, &mapping.from)?;
            let rest = if mapping.to.ends_with('/') { rest.trim_start_matches('/') } else { rest };
            return Some(format!("Path={}{rest}", mapping.to));
        }
        if name.eq_ignore_ascii_case("domain") {
            let mapping = self.domain.as_ref()?;
            // Some write quotes around it, or the root's dot behind it.
            let is_it = value.trim_matches(['.', '"']).eq_ignore_ascii_case(&mapping.from);
            let changed = if mapping.to.is_empty() { String::new() } else { format!("Domain={}", mapping.to) };
            return is_it.then_some(changed);
        }
        None
    }
}

/// What of `path` lies below `base`, on whole segments.
fn below<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    let base = base.trim_end_matches('/');
    path.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn fill<'a>(template: &PathTemplate, value: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let mut out = String::new();
    for segment in &template.segments {
        out.push('/');
        out.push_str(match segment {
            Segment::Literal(text) => text,
            Segment::Param(name) => value(name)?,
        });
    }
    if let Some(name) = &template.rest {
        let rest = value(name)?;
        if !rest.is_empty() || template.segments.is_empty() {
            out.push('/');
            out.push_str(rest);
        }
    }
    Some(out)
}

/// A location as the client may see it: one on a host of `is_own` loses scheme and host, so that the browser stays where it is.
/// `map_path` may then change the path. `None`: it stays as it is.
pub fn public_location(
    location: &str,
    is_own: impl Fn(&str, u16) -> bool,
    map_path: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    // Browsers take tabs out before they read a reference.
    let location =
        &*if location.contains('\t') { Cow::Owned(location.replace('\t', "")) } else { Cow::Borrowed(location) };
    let (authority, default_port) = if let Some(rest) = strip_scheme(location, "http:") {
        (strip_slashes(rest, 1), 80)
    } else if let Some(rest) = strip_scheme(location, "https:") {
        (strip_slashes(rest, 1), 443)
    } else {
        (strip_slashes(location, 2), 80)
    };
    let (reference, was_absolute) = match authority {
        Some(rest) => {
            let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
            let authority = rest.get(..end)?;
            // A user in front of a host of ours is nothing that a browser need know.
            let authority = authority.rsplit_once('@').map_or(authority, |(_, after)| after);
            let (host, port) = split_port(authority, default_port)?;
            if !is_own(host.strip_suffix('.').unwrap_or(host), port) {
                return None;
            }
            (rest.get(end..)?, true)
        }
        None if location.starts_with('/') => (location, false),
        // Relative to the path asked for, or another scheme: nothing of the inside.
        None => return None,
    };
    let end = reference.find(['?', '#']).unwrap_or(reference.len());
    let (path, after) = reference.split_at_checked(end)?;
    match map_path(path) {
        Some(mapped) => Some(harmless(&mapped, after)),
        None if was_absolute => Some(harmless(if path.is_empty() { "/" } else { path }, after)),
        None => None,
    }
}

fn strip_scheme<'a>(location: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = location.split_at_checked(scheme.len())?;
    found.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// What follows the slashes in front of a host, of which there are at least so many. Browsers take any number of them, and
/// backslashes, too.
fn strip_slashes(text: &str, at_least: usize) -> Option<&str> {
    let rest = text.trim_start_matches(['/', '\\']);
    (text.len() - rest.len() >= at_least).then_some(rest)
}

/// A path that begins with two slashes would name a host once scheme and host are gone.
fn harmless(path: &str, after: &str) -> String {
    let names_a_host = path.get(1..).is_some_and(|rest| rest.starts_with(['/', '\\'])) || path.starts_with('\\');
    let dot = if names_a_host { "/." } else { "" };
    format!("{dot}{path}{after}")
}

/// Host and port of an authority; a user in front of it is nobody's we know.
pub fn split_port(authority: &str, default: u16) -> Option<(&str, u16)> {
    if authority.contains('@') {
        return None;
    }
    let after_address = authority.rfind(']').map_or(0, |at| at + 1);
    match authority.get(after_address..)?.rfind(':') {
        Some(at) => {
            let (host, port) = authority.split_at_checked(after_address + at)?;
            let port = port.get(1..)?;
            // An empty port is the scheme's own (RFC 3986 §3.2.3).
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            Some((host, if port.is_empty() { default } else { is_number.then(|| port.parse().ok()).flatten()? }))
        }
        None => Some((authority, default)),
    }
}

/// Whether `host` and `port` are what was written: a host alone stands for all of its ports.
pub fn is_named(written: &str, host: &str, port: u16) -> bool {
    match split_port(written, 0) {
        Some((name, 0)) => name.eq_ignore_ascii_case(host),
        Some((name, own)) => own == port && name.eq_ignore_ascii_case(host),
        None => false,
    }
}

/// The URL of a `Refresh: 5; url=…`, what stands before it, and what behind. As in HTML, `url=` and quotes may be left out.
pub fn refresh_url(value: &str) -> Option<(&str, &str, &str)> {
    let after_time = value.trim_start().trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let rest = after_time.trim_start().trim_start_matches([';', ',']).trim_start();
    let has_name = rest.get(..3).is_some_and(|name| name.eq_ignore_ascii_case("url"));
    let named = rest.get(3..).filter(|_| has_name).and_then(|rest| rest.trim_start().strip_prefix('='));
    let rest = named.map_or(rest, str::trim_start);
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
    let from = value.len() - rest.len() + quote.map_or(0, char::len_utf8);
    let (before, rest) = value.split_at_checked(from)?;
    let end = quote.and_then(|quote| rest.find(quote)).unwrap_or(rest.trim_end().len());
    let (url, after) = rest.split_at_checked(end)?;
    (!url.is_empty()).then_some((before, url, after))
}

/// A `Link` with each of its targets as `public` has it; `None`: it stays as it is.
pub fn public_links(value: &str, public: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (mut out, mut rest, mut is_changed) = (String::new(), value, false);
    while let Some((before, after)) = rest.split_once('<') {
        let Some((target, after)) = after.split_once('>') else { break };
        let mapped = public(target.trim());
        is_changed |= mapped.is_some();
        out.push_str(before);
        out.push('<');
        out.push_str(mapped.as_deref().unwrap_or(target));
        out.push('>');
        rest = after;
    }
    out.push_str(rest);
    is_changed.then_some(out)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn template(text: &str) -> PathTemplate {
        PathTemplate::parse(text).unwrap()
    }

    #[test]
    fn a_path_is_filled_from_the_routes_parameters_and_back() {
        for (public, inner, asked, expect) in [
            ("/carts/{id}/total", "/v1/quotes/by-cart/{id}", "/carts/7/total", "/v1/quotes/by-cart/7"),
            ("/a/{*rest}", "/b/{*rest}", "/a", "/b"),
            ("/a/{*rest}", "/{*rest}", "/a/x/y", "/x/y"),
            ("/a/{*rest}", "/{*rest}", "/a", "/"),
            ("/a/{x}/{y}", "/{y}/{x}", "/a/1/2%2F", "/2%2F/1"),
        ] {
            let rewrite = Rewrite { path: Some(template(inner)), ..Rewrite::default() };
            let pattern = PathPattern::Template(template(public));
            let sent = rewrite.path_for(&pattern, asked).unwrap();
            assert_eq!(sent, expect);
            assert_eq!(rewrite.public_path(&pattern, asked, &sent).unwrap(), asked.trim_end_matches('/'), "{public}");
        }
        let rewrite = Rewrite { path: Some(template("/q/{id}")), ..Rewrite::default() };
        let pattern = PathPattern::Template(template("/{shop}/carts/{id}"));
        assert_eq!(rewrite.public_path(&pattern, "/de/carts/7", "/q/8").unwrap(), "/de/carts/8");
        assert_eq!(rewrite.public_path(&pattern, "/de/carts/7", "/other/8"), None);
    }

    #[test]
    fn a_location_on_an_own_host_becomes_the_asked_hosts() {
        let public = |location: &str| {
            public_location(
                location,
                |host, port| is_named("legacy.internal:8000", host, port) || is_named("[::1]", host, port),
                |path| path.strip_prefix("/v1/").map(|rest| format!("/api/{rest}")),
            )
        };
        for (location, expect) in [
            ("http://legacy.internal:8000/account?x=1#y", Some("/account?x=1#y")),
            ("HTTP://Legacy.Internal:8000", Some("/")),
            ("https://legacy.internal:8000?x", Some("/?x")),
            ("//legacy.internal:8000/a", Some("/a")),
            ("http://[::1]:9/v1/x", Some("/api/x")),
            ("/v1/x?y", Some("/api/x?y")),
            ("http://legacy.internal:8000//evil.example/x", Some("/.//evil.example/x")),
            ("http://legacy.internal:8000/\\evil.example/x", Some("/./\\evil.example/x")),
            ("http://legacy.internal:8000\\evil.example", Some("/.\\evil.example")),
            ("http://legacy.internal/account", None),
            ("http://legacy.internal:8000.evil.example/", None),
            ("http://user:word@legacy.internal:8000/a", Some("/a")),
            ("http://legacy.internal:8000@evil.example/", None),
            ("http://legacy.internal.:8000/a", Some("/a")),
            ("http:/legacy.internal:8000/a", Some("/a")),
            ("http:\\\\legacy.internal:8000\\a", Some("/.\\a")),
            ("/\\legacy.internal:8000/a", Some("/a")),
            ("///legacy.internal:8000/a", Some("/a")),
            ("http://legacy.internal:8000/\t/evil.example/x", Some("/.//evil.example/x")),
            ("http://[::1]:/a", Some("/a")),
            ("http://legacy.internal:+8000/", None),
            ("//evil.example/", None),
            ("/\t/evil.example/", None),
            ("http://shop.example.com/account", None),
            ("/account", None),
            ("account", None),
            ("mailto:a@legacy.internal", None),
        ] {
            assert_eq!(public(location).as_deref(), expect, "{location}");
        }
    }

    #[test]
    fn a_refresh_is_read_as_browsers_read_it() {
        for (value, expect) in [
            ("5; url=http://in/a", Some(("5; url=", "http://in/a", ""))),
            ("0;URL='http://in/a'", Some(("0;URL='", "http://in/a", "'"))),
            ("0;url=\"http://in/a\"; x", Some(("0;url=\"", "http://in/a", "\"; x"))),
            ("0, url = http://in/a ", Some(("0, url = ", "http://in/a", " "))),
            ("0;http://in/a", Some(("0;", "http://in/a", ""))),
            ("0; urls", Some(("0; ", "urls", ""))),
            ("5", None),
            ("5; url=", None),
        ] {
            assert_eq!(refresh_url(value), expect, "{value}");
        }
    }

    #[test]
    fn each_target_of_a_link_is_mapped_and_nothing_else_of_it() {
        let public = |target: &str| target.strip_prefix("http://in").map(str::to_owned);
        for (value, expect) in [
            ("<http://in/a>; rel=next", Some("</a>; rel=next")),
            (
                "<http://in/a>; rel=next, <http://out/b>;rel=\"x\", <http://in/c>",
                Some("</a>; rel=next, <http://out/b>;rel=\"x\", </c>"),
            ),
            ("<http://out/a>; rel=next", None),
            ("<http://in/a", None),
            ("", None),
        ] {
            assert_eq!(public_links(value, public).as_deref(), expect, "{value}");
        }
    }

    #[test]
    fn a_cookie_is_moved_to_where_the_browser_is() {
        let map = |from: &str, to: &str| Some(Mapping { from: from.into(), to: to.into() });
        let cookies = CookieRewrite { path: map("/shop", "/"), domain: map("legacy.internal", "") };
        for (cookie, expect) in [
            ("S=1; Path=/shop; Domain=legacy.internal; HttpOnly", "S=1; Path=/; HttpOnly"),
            ("S=1; path=/shop/x;domain=.Legacy.Internal", "S=1; Path=/x"),
            ("S=1; Domain=\"legacy.internal\"", "S=1"),
            ("S=1; Domain=legacy.internal.", "S=1"),
            ("S=path=/shop; Path=/shopping", "S=path=/shop; Path=/shopping"),
            ("S=1", "S=1"),
        ] {
            assert_eq!(cookies.apply(cookie), expect);
        }
        let renamed = CookieRewrite { path: map("/", "/legacy"), domain: map("a", "b.example") };
        assert_eq!(renamed.apply("S=1; Path=/x; Domain=a"), "S=1; Path=/legacy/x; Domain=b.example");
    }

    proptest! {
        #[test]
        fn no_location_of_an_own_host_names_another_host(rest in "[/\\\\.a-z:@?#]{0,12}") {
            let location = format!("http://in:1/{rest}");
            let mapped = public_location(&location, |host, port| (host, port) == ("in", 1), |_| None).unwrap();
            prop_assert!(mapped.starts_with('/'));
            prop_assert!(!mapped[1..].starts_with(['/', '\\']), "{}", mapped);
        }
    }
}

//! What a service is asked for instead, and what the client sees of its names.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use strangler_core::rewrite::{is_named, public_links, public_location, refresh_url};
use strangler_core::route::Route;
use strangler_core::template::normal_path;

use crate::upstream::UpstreamState;

const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// What the extracted service is asked for instead of `target`; `None`: the same.
pub(crate) fn target(route: &Route, target: &PathAndQuery) -> Option<PathAndQuery> {
    PathAndQuery::from_maybe_shared(Bytes::from(route.rewritten(target.as_str())?)).ok()
}

/// Maps the names of the upstream that answered back to those the client asked for. `route`: where its path was rewritten.
///
/// The usual answer has nothing to map, and then nothing is searched for.
pub(crate) fn answer(
    status: StatusCode,
    headers: &mut HeaderMap,
    upstream: &UpstreamState,
    route: Option<&Route>,
    asked: &Uri,
) {
    let rewrite = route.and_then(|route| Some((route.rewrite.as_deref()?, &route.conditions.path)));
    let own = &upstream.config.own_names;
    let names_places = status.is_redirection() || status == StatusCode::CREATED;
    if !names_places && rewrite.is_none() && own.hosts.is_empty() && own.cookies.is_empty() {
        return;
    }
    let is_own = |host: &str, port: u16| {
        let mut endpoints = upstream.config.endpoints.iter();
        endpoints
            .any(|endpoint| endpoint.port == port && endpoint.host.eq_ignore_ascii_case(host.trim_matches(['[', ']'])))
            || own.hosts.iter().any(|written| is_named(written, host, port))
    };
    let map_path = |named: &str| {
        let (rewrite, pattern) = rewrite.filter(|(rewrite, _)| rewrite.location)?;
        rewrite.public_path(pattern, &normal_path(asked.path()).ok()?, named)
    };
    let public = |value: &str| public_location(value, is_own, map_path);
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let mapped = headers.get(&name).and_then(|value| field(&public(&text(value))?));
        if let Some(mapped) = mapped {
            headers.insert(name, mapped);
        }
    }
    let refreshed = headers.get(REFRESH).and_then(|value| {
        let value = text(value);
        let (before, url, after) = refresh_url(&value)?;
        field(&format!("{before}{}{after}", public(url)?))
    });
    if let Some(refreshed) = refreshed {
        headers.insert(REFRESH, refreshed);
    }
    if let header::Entry::Occupied(mut links) = headers.entry(header::LINK) {
        for link in links.iter_mut() {
            if let Some(mapped) = public_links(&text(link), public).and_then(|mapped| field(&mapped)) {
                *link = mapped;
            }
        }
    }
    for cookies in rewrite.iter().map(|(rewrite, _)| &rewrite.cookies).chain([&own.cookies]) {
        if cookies.is_empty() || !headers.contains_key(header::SET_COOKIE) {
            continue;
        }
        let before: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        headers.remove(header::SET_COOKIE);
        for cookie in before {
            let changed = field(&cookies.apply(&text(&cookie)));
            headers.append(header::SET_COOKIE, changed.unwrap_or(cookie));
        }
    }
}

/// A field as text, a character for each byte: old applications write what is not ASCII in whatever coding they use.
fn text(value: &HeaderValue) -> String {
    value.as_bytes().iter().map(|byte| char::from(*byte)).collect()
}

/// The field of such a text.
fn field(text: &str) -> Option<HeaderValue> {
    let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).ok()).collect::<Option<_>>()?;
    HeaderValue::from_bytes(&bytes).ok()
}

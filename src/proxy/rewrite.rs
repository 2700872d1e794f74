//! What a service is asked for instead, and what the client sees of its names.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use strangler_core::rewrite::{is_named, public_location, refresh_url};
use strangler_core::route::Route;
use strangler_core::template::normal_path;

use crate::upstream::UpstreamState;

const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// What the extracted service is asked for instead of `target`; `None`: the same.
pub(crate) fn target(route: &Route, target: &PathAndQuery) -> Option<PathAndQuery> {
    let path = route.rewrite.as_ref()?.path_for(&route.conditions.path, target.path())?;
    let text = target.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    PathAndQuery::from_maybe_shared(Bytes::from(text)).ok()
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
        endpoints.any(|endpoint| endpoint.port == port && *endpoint.host == *host.trim_matches(['[', ']']))
            || own.hosts.iter().any(|written| is_named(written, host, port))
    };
    let map_path = |named: &str| {
        let (rewrite, pattern) = rewrite.filter(|(rewrite, _)| rewrite.location)?;
        rewrite.public_path(pattern, &normal_path(asked.path()).ok()?, named)
    };
    let public = |value: &str| public_location(value, is_own, map_path);
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let mapped = headers.get(&name).and_then(|value| HeaderValue::from_str(&public(value.to_str().ok()?)?).ok());
        if let Some(mapped) = mapped {
            headers.insert(name, mapped);
        }
    }
    let refreshed = headers.get(REFRESH).and_then(|value| {
        let (before, url) = refresh_url(value.to_str().ok()?)?;
        let quotes = ['"', '\''];
        HeaderValue::from_str(&format!("{before}{}", public(url.trim().trim_matches(quotes))?)).ok()
    });
    if let Some(refreshed) = refreshed {
        headers.insert(REFRESH, refreshed);
    }
    for cookies in rewrite.iter().map(|(rewrite, _)| &rewrite.cookies).chain([&own.cookies]) {
        if cookies.is_empty() || !headers.contains_key(header::SET_COOKIE) {
            continue;
        }
        let before: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        headers.remove(header::SET_COOKIE);
        for cookie in before {
            let changed = cookie.to_str().ok().and_then(|text| HeaderValue::from_str(&cookies.apply(text)).ok());
            headers.append(header::SET_COOKIE, changed.unwrap_or(cookie));
        }
    }
}

//! `rewrite:`, `own_names:`, `upgrade:` and `rate_limit:`, as written.

use std::num::NonZeroU32;
use std::sync::Arc;

use http::HeaderName;

use crate::limits::PER_REQUEST_MAX;
use crate::rate_limit::{RateKey, RateLimit};
use crate::raw::keys;
use crate::raw::route::key_source;
use crate::raw::walk::{Fields, Reader};
use crate::rewrite::{CookieRewrite, Mapping, OwnNames, Rewrite, split_port};
use crate::route::KeySource;
use crate::template::PathTemplate;
use crate::tree::Node;

pub(in crate::raw) fn rewrite<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Rewrite> {
    let fields = reader.fields(node, &keys::REWRITE)?;
    let path = reader.key(&fields, "path", |reader, node| {
        let text = reader.text(node, "a path, as in `/v1/quotes/{id}`")?;
        PathTemplate::parse(text).map_err(|error| reader.fault(node.span, format!("`{text}`: {error}"))).ok()
    });
    let location = reader.key(&fields, "location", Reader::bool);
    Some(Rewrite {
        path: path.map(|read| read.value),
        location: location.is_some_and(|read| read.value),
        cookies: cookies(reader, &fields),
    })
}

pub(in crate::raw) fn own_names<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<OwnNames> {
    let fields = reader.fields(node, &keys::OWN_NAMES)?;
    let hosts = reader.key(&fields, "hosts", |reader, node| {
        let list = reader.list(node, PER_REQUEST_MAX, |reader, item| {
            let text = reader.short_text(item, "a host, as in `legacy.internal:8000`")?;
            let is_host = crate::door::host_of(&text).is_some() && split_port(&text, 0).is_some();
            if !is_host {
                reader.fault(item.span, format!("`{text}` is no host, with or without a port"));
            }
            is_host.then(|| Arc::from(text.to_ascii_lowercase()))
        })?;
        Some(list.into_iter().map(|item| item.value).collect())
    });
    Some(OwnNames { hosts: hosts.map(|read| read.value).unwrap_or_default(), cookies: cookies(reader, &fields) })
}

fn cookies<'a>(reader: &mut Reader<'a>, fields: &Fields<'a>) -> CookieRewrite {
    let path = reader.key(fields, "cookie_path", |reader, node| {
        let mapping = mapping(reader, node, "`/shop=/`")?;
        let is_path = |text: &str| text.starts_with('/') && !text.contains([';', ' ']);
        let is_sound = is_path(&mapping.from) && is_path(&mapping.to);
        if !is_sound {
            reader.fault(node.span, "both sides of `=` are paths, as in `/shop=/`");
        }
        is_sound.then_some(mapping)
    });
    let domain = reader.key(fields, "cookie_domain", |reader, node| {
        let mapping = mapping(reader, node, "`legacy.internal=shop.example.com`")?;
        let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
        let is_sound = is_name(&mapping.from) && is_name(&mapping.to) && !mapping.from.is_empty();
        if !is_sound {
            reader.fault(node.span, "both sides of `=` are names of hosts; the second may be empty");
        }
        is_sound.then_some(mapping)
    });
    CookieRewrite { path: path.map(|read| read.value), domain: domain.map(|read| read.value) }
}

fn mapping<'a>(reader: &mut Reader<'a>, node: &'a Node, example: &str) -> Option<Mapping> {
    let text = reader.short_text(node, "a change, written `from=to`")?;
    let Some((from, to)) = text.split_once('=') else {
        reader.fault(node.span, format!("`{text}` is no change, as in {example}"));
        return None;
    };
    Some(Mapping { from: from.into(), to: to.into() })
}

pub(in crate::raw) fn upgrades<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Vec<Arc<str>>> {
    let list = reader.list(node, 8, |reader, item| {
        let text = reader.short_text(item, "a protocol, as in `websocket`")?.to_ascii_lowercase();
        // HTTP/2 in the clear by upgrade would carry requests past every rule (RFC 9113 has given it up).
        let is_http = text.starts_with("h2") || text.starts_with("http") || text.starts_with("tls");
        if is_http || HeaderName::try_from(text.as_str()).is_err() {
            reader.fault(item.span, format!("a connection is not switched to `{text}`"));
            return None;
        }
        Some(Arc::from(text))
    })?;
    Some(list.into_iter().map(|item| item.value).collect())
}

pub(in crate::raw) fn rate_limit<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<RateLimit> {
    let fields = reader.fields(node, &keys::RATE_LIMIT)?;
    let key = reader.key(&fields, "key", |reader, node| {
        if node.text() == Some("client") {
            return Some(RateKey::Client);
        }
        Some(match key_source(reader, node)? {
            KeySource::Header(name) => RateKey::Header(name),
            KeySource::Cookie(name) => RateKey::Cookie(name),
        })
    });
    let rate = reader.key(&fields, "rate", |reader, node| {
        let text = reader.text(node, "a rate, as in `10/s`")?;
        let rate = RateLimit::parse_rate(text);
        if rate.is_none() {
            let help = Some("as in `10/s`, `100/m` or `1000/h`".to_owned());
            reader.fault_with_help(node.span, format!("`{text}` is no rate"), help);
        }
        rate
    });
    let burst = reader.key(&fields, "burst", |reader, node| reader.count_u32(node, 1, 1_000_000));
    let (rate, per) = rate?.value;
    let burst = burst.and_then(|burst| NonZeroU32::new(burst.value)).unwrap_or(rate);
    Some(RateLimit { key: key.map(|key| key.value).unwrap_or_default(), rate, per, burst })
}

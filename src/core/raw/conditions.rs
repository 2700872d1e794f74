//! `match:` as written: one line, or a map.

use std::sync::Arc;

use crate::limits::PER_REQUEST_MAX;
use crate::raw::keys;
use crate::raw::leaf::is_host;
use crate::raw::walk::{Fields, Reader};
use crate::route::{Conditions, HostPattern, TextCondition};
use crate::template::{PathPattern, PathTemplate};
use crate::tree::{Entry, Kind, Node};

use http::{HeaderName, Method, header};

/// Which keys of `match` were written, for the guard against half-written files.
pub(crate) const MATCH_KEYS: [&str; 5] = ["host", "methods", "headers", "query", "cookies"];

/// What a request must look like, and which of [`MATCH_KEYS`] were written.
pub(in crate::raw) fn conditions<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<(Conditions, [bool; 5])> {
    if let Kind::Map(_) = &node.kind {
        let fields = reader.fields(node, &keys::MATCH)?;
        let written = MATCH_KEYS.map(|key| fields.has(key));
        return from_map(reader, node, &fields).map(|conditions| (conditions, written));
    }
    let text = reader.text(node, "`METHOD /path`, or a map")?;
    let (methods, path) = match text.split_once(' ') {
        Some((methods, path)) => (methods, path.trim_start()),
        None => ("", text),
    };
    let methods = if methods.is_empty() {
        Some(Vec::new())
    } else {
        let read: Vec<Option<Method>> = methods.split(',').map(|method| reader.method_in(node, method)).collect();
        read.into_iter().collect::<Option<Vec<Method>>>()
    };
    let methods = methods.filter(|methods| are_distinct(reader, node, methods));
    let path = template(reader, node, path);
    let (methods, path) = (methods?, path?);
    let written = [false, !methods.is_empty(), false, false, false];
    let conditions =
        Conditions { host: HostPattern::Any, path, methods, headers: vec![], query: vec![], cookies: vec![] };
    Some((conditions, written))
}

fn from_map<'a>(reader: &mut Reader<'a>, node: &'a Node, fields: &Fields<'a>) -> Option<Conditions> {
    let host = reader.key(fields, "host", host);
    let path = reader.key(fields, "path", |reader, node| {
        if matches!(node.kind, Kind::Map(_)) {
            let fields = reader.fields(node, &keys::PATH_REGEX)?;
            return reader.key(&fields, "regex", regex).map(|regex| regex.value);
        }
        let text = reader.text(node, "a path, as in `/carts/{cart_id}`")?;
        template(reader, node, text)
    });
    let expression = reader.key(fields, "regex", regex);
    let methods = reader.key(fields, "methods", |reader, node| {
        let list = reader.list(node, PER_REQUEST_MAX, Reader::method)?;
        let methods: Vec<Method> = list.into_iter().map(|method| method.value).collect();
        if matches!(&node.kind, Kind::Seq(items) if items.is_empty()) {
            let help = "leave the key out to take all methods".to_owned();
            reader.fault_with_help(node.span, "no method at all", Some(help));
            return None;
        }
        are_distinct(reader, node, &methods).then_some(methods)
    });
    let headers = text_conditions(reader, fields, "headers", |reader, entry| {
        let name = HeaderName::try_from(&*entry.key).ok();
        if name.is_none() {
            reader.fault(entry.key_span, format!("{:?} is no name of a header", entry.key));
        }
        if name == Some(header::HOST) {
            let help = "use `host:`".to_owned();
            reader.fault_with_help(entry.key_span, "the host is not matched as a header", Some(help));
            return None;
        }
        name
    });
    let query = text_conditions(reader, fields, "query", |_, entry| Some(Arc::from(&*entry.key)));
    let cookies = text_conditions(reader, fields, "cookies", |reader, entry| {
        let name = cookie_name(&entry.key);
        if name.is_none() {
            reader.fault(entry.key_span, format!("{:?} is no name of a cookie", entry.key));
        }
        name
    });
    let path = match (fields.has("path"), fields.has("regex")) {
        (true, true) => {
            reader.fault(fields.place("regex"), "`path` and `regex` exclude each other");
            None
        }
        (false, false) => {
            let help = "every path is `/{*rest}`".to_owned();
            reader.fault_with_help(fields.span_or(node), "`path` is missing", Some(help));
            None
        }
        _ => path.or(expression),
    };
    Some(Conditions {
        host: host.map(|host| host.value).unwrap_or_default(),
        path: path?.value,
        methods: methods.map(|methods| methods.value).unwrap_or_default(),
        headers,
        query,
        cookies,
    })
}

fn template<'a>(reader: &mut Reader<'a>, node: &'a Node, text: &str) -> Option<PathPattern> {
    match PathTemplate::parse(text) {
        Ok(template) => Some(PathPattern::Template(template)),
        Err(error) => {
            reader.fault(node.span, format!("`{text}`: {error}"));
            None
        }
    }
}

fn regex<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<PathPattern> {
    let text = reader.text(node, "an expression, as in `^/orders/[0-9]+$`")?;
    PathPattern::regex(text).map_err(|error| reader.fault(node.span, format!("`{text}`: {error}"))).ok()
}

fn host<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<HostPattern> {
    let text = reader.text(node, "a host, as in `shop.example.com`")?;
    let lower = text.to_ascii_lowercase();
    if let Some(suffix) = lower.strip_prefix('*') {
        if suffix.strip_prefix('.').is_some_and(is_host) {
            return Some(HostPattern::Wildcard(Arc::from(suffix)));
        }
        reader.fault(node.span, format!("`{text}`: a wildcard is one `*.` in front, as in `*.example.com`"));
        return None;
    }
    let is_ipv6 = lower.parse::<std::net::Ipv6Addr>().is_ok();
    if is_host(&lower) || is_ipv6 {
        return Some(HostPattern::Exact(Arc::from(lower)));
    }
    let help = lower.contains([':', '/']).then(|| "a host stands without scheme and port".to_owned());
    reader.fault_with_help(node.span, format!("`{text}` is no host"), help);
    None
}

fn text_conditions<'a, N: PartialEq>(
    reader: &mut Reader<'a>,
    fields: &Fields<'a>,
    key: &'static str,
    mut name: impl FnMut(&mut Reader<'a>, &'a Entry) -> Option<N>,
) -> Vec<(N, TextCondition)> {
    let read = reader.key(fields, key, |reader, node| {
        let mut all: Vec<(N, TextCondition)> = Vec::new();
        let list = reader.named(node, PER_REQUEST_MAX, |reader, entry| {
            let (name, condition) = (name(reader, entry), text_condition(reader, &entry.value));
            Some((entry.key_span, name?, condition?))
        })?;
        for (span, name, condition) in list {
            // Headers know no case, so two keys can be one name.
            if all.iter().any(|(known, _)| *known == name) {
                reader.fault(span, "this name is there twice");
            } else {
                all.push((name, condition));
            }
        }
        Some(all)
    });
    read.map(|read| read.value).unwrap_or_default()
}

fn text_condition<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<TextCondition> {
    if !matches!(node.kind, Kind::Map(_)) {
        return reader.text(node, "a text, or a condition").map(|text| TextCondition::Exact(Arc::from(text)));
    }
    let fields = reader.fields(node, &keys::CONDITION)?;
    let contains = reader.key(&fields, "contains", |reader, node| reader.short_text(node, "a text"));
    let prefix = reader.key(&fields, "prefix", |reader, node| reader.short_text(node, "a text"));
    let expression = reader.key(&fields, "regex", |reader, node| {
        let text = reader.text(node, "an expression")?;
        let built = regex::bytes::RegexBuilder::new(text).size_limit(256 << 10).build();
        let said = |error: regex::Error| {
            error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        };
        built.map_err(|error| reader.fault(node.span, format!("`{text}`: {}", said(error)))).ok()
    });
    let present = reader.key(&fields, "present", Reader::bool);
    let written = ["contains", "prefix", "regex", "present"].into_iter().filter(|key| fields.has(key)).count();
    if written != 1 {
        reader.fault(fields.span_or(node), "exactly one of `contains`, `prefix`, `regex` and `present` is written");
        return None;
    }
    contains
        .map(|text| TextCondition::Contains(text.value))
        .or_else(|| prefix.map(|text| TextCondition::Prefix(text.value)))
        .or_else(|| expression.map(|regex| TextCondition::Regex(regex.value)))
        .or_else(|| present.map(|present| TextCondition::Present(present.value)))
}

/// A token in the sense of RFC 6265 §4.1.1.
pub(in crate::raw) fn cookie_name(text: &str) -> Option<Arc<str>> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (!text.is_empty() && text.len() <= 256 && text.bytes().all(is_token)).then(|| Arc::from(text))
}

fn are_distinct<'a>(reader: &mut Reader<'a>, node: &'a Node, methods: &[Method]) -> bool {
    let twice = methods.iter().enumerate().find(|(index, method)| methods.iter().take(*index).any(|m| m == *method));
    if let Some((_, method)) = twice {
        reader.fault(node.span, format!("`{method}` is there twice"));
    }
    twice.is_none()
}

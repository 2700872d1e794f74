//! The files that hooks name, looked at when the routes file is read: a hook that can never be called is said at once, at its key.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;

use strangler_core::chain::chain;
use strangler_core::fault::Fault;
use strangler_core::hook::Keys;
use strangler_core::route::{Hook, Tls};
use strangler_core::table::RoutingTable;
use strangler_core::tree::{Kind, Node, Span};
use strangler_core::web::WebUrl;

use crate::upstream::tls::TlsClient;

/// Largest file with a URL or a key.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// What is wrong with them. What they hold is never said.
pub(super) fn unusable_files(table: &RoutingTable, root: &Node) -> Vec<Fault> {
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for (index, route) in table.routes().iter().enumerate() {
        for hook in route.rollout.iter().flat_map(|policy| policy.hooks.iter()) {
            for (key, path) in hook.files() {
                let Err(message) = look_at(key, path, hook) else { continue };
                let span = place_of(root, key, path).unwrap_or_default();
                // One of `defaults` is every route's.
                if seen.insert((span.start, key, path.to_string())) {
                    faults.push(Fault::error(span, format!("routes[{index}].rollout: {key}"), message));
                }
            }
        }
    }
    faults
}

fn look_at(key: &str, path: &std::sync::Arc<str>, hook: &Hook) -> Result<(), String> {
    match key {
        "ca" => {
            let tls = Tls { ca: hook.ca.clone(), ..Tls::default() };
            TlsClient::read(&tls).map(drop).map_err(|error| chain(&error))
        }
        "key_file" => Keys::parse(&text_of(path)?).map(drop).map_err(|error| format!("{path}: {error}")),
        _ => text_of(path)?.trim().parse::<WebUrl>().map(drop).map_err(|error| format!("{path}: {error}")),
    }
}

fn text_of(path: &str) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() as u64 > FILE_BYTES_MAX => Err(format!("{path} is larger than {FILE_BYTES_MAX} bytes")),
        Ok(_) => Ok(text),
        Err(error) => Err(format!("cannot read {path}: {error}")),
    }
}

/// Where a key with this file stands; paths may have been put below a directory meanwhile.
fn place_of(node: &Node, key: &str, path: &str) -> Option<Span> {
    match &node.kind {
        Kind::Map(entries) => entries.iter().find_map(|entry| {
            let is_it = &*entry.key == key && entry.value.text().is_some_and(|text| path.ends_with(text));
            if is_it { Some(entry.value.span) } else { place_of(&entry.value, key, path) }
        }),
        Kind::Seq(items) => items.iter().find_map(|item| place_of(item, key, path)),
        Kind::Null | Kind::Bool { .. } | Kind::Number(_) | Kind::String(_) => None,
    }
}

//! `strangler.yaml`: from a file to what it asks of the server. Read once, at start.

use std::path::Path;

use strangler_core::fault::Fault;
use strangler_core::raw::server as raw;
use strangler_core::server::ListenerConfig;
use strangler_core::server::asked::Asked;
use strangler_core::tree::{Kind, Span};

use crate::config::yaml;

/// What became of a text.
#[derive(Debug)]
pub struct LoadedServer {
    /// What it asks for; `None` when it was refused.
    pub asked: Option<Asked>,
    /// Everything found, in the order of the file.
    pub faults: Vec<Fault>,
    /// Where the store's file is named.
    pub store: Option<Span>,
    /// Where the TLS of each listener stands, or a listener without.
    pub listeners: Vec<Span>,
}

/// Reads a text that stands at `path`: what it names is relative to it.
pub fn load(text: &[u8], path: &Path) -> LoadedServer {
    if says_nothing(text) {
        return LoadedServer { asked: Some(Asked::default()), faults: Vec::new(), store: None, listeners: Vec::new() };
    }
    let (root, faults) = yaml::read(text);
    let Some(root) = root else {
        return LoadedServer { asked: None, faults, store: None, listeners: Vec::new() };
    };
    let (asked, faults) = raw::read(&root, faults);
    let base = path.parent().unwrap_or(Path::new(""));
    let listeners = match root.child("listeners").map(|node| &node.kind) {
        Some(Kind::Seq(items)) => items.iter().map(|item| item.child("tls").unwrap_or(item).span).collect(),
        _ => Vec::new(),
    };
    let store = root.child("store").and_then(|store| store.child("url_file")).map(|file| file.span);
    LoadedServer { asked: asked.map(|asked| asked.relative_to(base)), faults, store, listeners }
}

/// Reads one listener as a flag gives it: `{address: …, tls: …}`. Paths stay relative to where the process runs.
pub fn load_listener(text: &str) -> (Option<ListenerConfig>, Vec<Fault>) {
    let (root, faults) = yaml::read(text.as_bytes());
    root.map_or((None, faults.clone()), |root| raw::read_listener(&root, faults))
}

/// Blank, or comments only: every key is optional, so this is a file like others.
fn says_nothing(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.all(|line| line.is_empty() || line.starts_with(b"#"))
}

#[cfg(test)]
mod tests;

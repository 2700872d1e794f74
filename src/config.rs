//! From a file to a routing table, and from then on: whenever the file changes.

pub mod contract;
pub mod evidence;
mod hooks;
pub mod last_good;
pub mod render;
pub mod server;
pub mod watch;
pub mod yaml;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use strangler_core::day::Day;
use strangler_core::fault::{Fault, Severity};
use strangler_core::raw::RawConfig;
use strangler_core::table::{Revision, RoutingTable};
use strangler_core::tree::{Kind, Node, Span};

use crate::upstream::tls::TlsClient;

/// What became of a text.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The table; `None` when the text was refused.
    pub table: Option<Arc<RoutingTable>>,
    /// Everything found, in the order of the file. Errors when there is no table, warnings beside one.
    pub faults: Vec<Fault>,
}

impl Loaded {
    /// How many of the faults refuse the text.
    pub fn errors(&self) -> usize {
        self.faults.iter().filter(|fault| fault.severity == Severity::Error).count()
    }
}

/// Reads a text whose relative paths are meant from where the process stands.
pub fn load(text: &[u8]) -> Loaded {
    load_below(text, Path::new(""))
}

/// Reads a text: the one road of the first start and of every reload. The files that it names are looked at, too; relative paths
/// are meant from the directory `base`.
pub fn load_below(text: &[u8], base: &Path) -> Loaded {
    let (table, mut faults, root) = parse(text, base);
    let unusable = match (&table, &root) {
        (Some(table), Some(root)) => [unusable_files(table, root), hooks::unusable_files(table, root)].concat(),
        (None, _) | (_, None) => Vec::new(),
    };
    if unusable.is_empty() {
        return Loaded { table, faults };
    }
    faults.extend(unusable);
    faults.sort_by_key(|fault| (fault.span, fault.severity));
    Loaded { table: None, faults }
}

/// Reads a text that was good once. A file that it names may be gone: better one upstream that cannot be reached than no start.
pub fn load_kept(text: &[u8], base: &Path) -> Loaded {
    let (table, faults, _) = parse(text, base);
    Loaded { table, faults }
}

/// The directory that relative paths in a routes file are meant from.
pub fn base_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn parse(text: &[u8], base: &Path) -> (Option<Arc<RoutingTable>>, Vec<Fault>, Option<Node>) {
    let (root, faults) = yaml::read(text);
    let Some(root) = root else {
        return (None, faults, None);
    };
    let raw = RawConfig::read(&root, faults).below(&base.to_string_lossy()).on(today());
    let (table, faults) = RoutingTable::parse(raw, Revision::of(text));
    (table.map(Arc::new), faults, Some(root))
}

fn today() -> Day {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Day::of_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What is wrong with the files of `tls`, each at the key that names it.
fn unusable_files(table: &RoutingTable, root: &Node) -> Vec<Fault> {
    let mut faults = Vec::new();
    for upstream in table.upstreams().values().filter(|upstream| upstream.tls.files().next().is_some()) {
        let Err(error) = TlsClient::read(&upstream.tls) else { continue };
        let keys = ["upstreams", upstream.name.as_str(), "tls", error.key()];
        let mut message = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            message.push_str(": ");
            message.push_str(&cause.to_string());
        }
        faults.push(Fault::error(place_of(root, &keys), keys.join("."), message));
    }
    faults
}

/// Where the value under these keys stands.
fn place_of(root: &Node, keys: &[&str]) -> Span {
    let mut node = root;
    for key in keys {
        let Kind::Map(entries) = &node.kind else { break };
        let Some(entry) = entries.iter().find(|entry| &*entry.key == *key) else { break };
        node = &entry.value;
    }
    node.span
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none, or it may not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("{} is no regular file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// More than [`yaml::BYTES_MAX`].
    #[error("{} has more than {} bytes ({} MiB), which is the most that is read", path.display(), yaml::BYTES_MAX, yaml::BYTES_MAX >> 20)]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
}

/// Reads a file of at most 16 MiB. A larger one is refused before it is read, a pipe before it is opened.
pub fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    let failed = |source| ReadError::Read { path: path.to_owned(), source };
    // Asked before it is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(ReadError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(failed)?;
    let limit = yaml::BYTES_MAX as u64;
    if file.metadata().map_err(failed)?.len() > limit {
        return Err(ReadError::TooLarge { path: path.to_owned() });
    }
    // It may grow while it is read.
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > yaml::BYTES_MAX {
        return Err(ReadError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;

//! From a file to a routing table, and from then on: whenever the file changes.

pub mod last_good;
pub mod render;
pub mod watch;
pub mod yaml;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strangler_core::fault::{Fault, Severity};
use strangler_core::raw::RawConfig;
use strangler_core::table::{Revision, RoutingTable};

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

/// Reads a text: the one road of the first start and of every reload.
pub fn load(text: &[u8]) -> Loaded {
    let (root, faults) = yaml::read(text);
    let Some(root) = root else {
        return Loaded { table: None, faults };
    };
    let (table, faults) = RoutingTable::parse(RawConfig::read(&root, faults), Revision::of(text));
    Loaded { table: table.map(Arc::new), faults }
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

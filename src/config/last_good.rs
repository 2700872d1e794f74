//! The last text that was accepted, kept in the state directory: a file that is refused must not become an outage at the next start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strangler_core::fault::Fault;
use strangler_core::reload::{Lost, ReloadVerdict, Running, judge_reload, looks_cut};
use strangler_core::table::RoutingTable;
use strangler_core::tree::Span;

use super::{Loaded, ReadError, base_of, load_below, load_kept, read};

/// Its name in the state directory.
pub const FILE_NAME: &str = "routes.last-good.yaml";

/// Why a text could not be kept. Traffic goes on without.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the accepted routes in {}", path.display())]
pub struct KeepError {
    path: PathBuf,
    source: io::Error,
}

/// Keeps a text for the next start: whole or not at all, readable by nobody else.
pub fn keep(state_dir: &Path, text: &[u8]) -> Result<(), KeepError> {
    let path = state_dir.join(FILE_NAME);
    let failed = |source| KeepError { path: path.clone(), source };
    let half = state_dir.join(format!("{FILE_NAME}.{}.tmp", std::process::id()));
    let written = write_whole(&half, text).and_then(|()| fs::rename(&half, &path));
    if let Err(error) = written {
        let _ = fs::remove_file(&half);
        return Err(failed(error));
    }
    // The new name lasts once the directory is on disk.
    File::open(state_dir).and_then(|directory| directory.sync_all()).map_err(failed)
}

fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    // A file left by a process that died under the same number.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// What a start found.
#[derive(Debug)]
pub enum StartOutcome {
    /// The routes file holds, and takes no route away that it does not say it takes.
    Fresh(Start),
    /// It does not, and the copy does. `faults` says what is wrong with the file: an alarm.
    FromLastGood {
        /// What is started from.
        start: Start,
        /// What is wrong with the file.
        faults: Vec<Fault>,
        /// The file's bytes, if it could be read.
        refused: Option<Vec<u8>>,
    },
    /// Nothing to start from.
    Refused {
        /// What is wrong with the file.
        faults: Vec<Fault>,
        /// The file's bytes, if it could be read.
        refused: Option<Vec<u8>>,
    },
}

/// What to start from.
#[derive(Debug)]
pub struct Start {
    /// The first table.
    pub table: Arc<RoutingTable>,
    /// The text it was made of.
    pub text: Vec<u8>,
    /// Warnings about it.
    pub warnings: Vec<Fault>,
}

/// Loads the routes file or, unless `strict`, the last good text.
pub fn start(path: &Path, state_dir: &Path, strict: bool) -> StartOutcome {
    let (faults, refused) = match read(path) {
        Err(error) => (vec![unreadable(&error)], None),
        Ok(text) => match load_below(&text, base_of(path)) {
            Loaded { table: Some(table), faults } => {
                let lost = lost_since(path, state_dir, &table, &text);
                if lost.is_empty() {
                    return StartOutcome::Fresh(Start { table, text, warnings: faults });
                }
                (lost, Some(text))
            }
            Loaded { table: None, faults } => (faults, Some(text)),
        },
    };
    if strict {
        return StartOutcome::Refused { faults, refused };
    }
    let kept = read(&state_dir.join(FILE_NAME)).ok().and_then(|text| {
        let Loaded { table, faults } = load_kept(&text, base_of(path));
        table.map(|table| Start { table, text, warnings: faults })
    });
    match kept {
        Some(start) => StartOutcome::FromLastGood { start, faults, refused },
        None => StartOutcome::Refused { faults, refused },
    }
}

/// What the file no longer says that the last good text said, without saying that it means to: refused at a start as at a reload,
/// for nobody tells half of a file from a change that was made while nobody watched, and users must not be moved by a restart.
fn lost_since(path: &Path, state_dir: &Path, table: &RoutingTable, text: &[u8]) -> Vec<Fault> {
    let Ok(kept) = read(&state_dir.join(FILE_NAME)) else { return Vec::new() };
    let Some(before) = load_kept(&kept, base_of(path)).table.filter(|_| kept != text) else { return Vec::new() };
    let running = Running { table: &before, weight: &|_| None };
    match judge_reload(running, table, looks_cut(&kept, text), false) {
        ReloadVerdict::Accept => Vec::new(),
        ReloadVerdict::Refuse(lost) => lost.iter().map(Lost::to_fault).collect(),
    }
}

/// A file that cannot be read, as a fault of it.
pub(super) fn unreadable(error: &ReadError) -> Fault {
    let mut message = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        message.push_str(": ");
        message.push_str(&cause.to_string());
    }
    let is_missing = matches!(error, ReadError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound);
    let help = is_missing.then(|| "name another file with `--routes`".to_owned());
    Fault::error(Span::default(), "", message).with_maybe_help(help)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const GOOD: &str = "version: 1\nlegacy: http://127.0.0.1:1\n";

    #[test]
    fn a_bad_file_starts_from_the_last_good_one_unless_strict() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("routes.yaml");
        fs::write(&file, "version: 2").expect("written");
        assert!(matches!(start(&file, dir.path(), false), StartOutcome::Refused { .. }));
        keep(dir.path(), GOOD.as_bytes()).expect("kept");
        match start(&file, dir.path(), false) {
            StartOutcome::FromLastGood { start, faults, refused } => {
                assert_eq!(start.text, GOOD.as_bytes());
                assert!(!faults.is_empty());
                assert_eq!(refused.as_deref(), Some(&b"version: 2"[..]));
            }
            other @ (StartOutcome::Fresh(_) | StartOutcome::Refused { .. }) => panic!("{other:?}"),
        }
        assert!(matches!(start(&file, dir.path(), true), StartOutcome::Refused { .. }));
        fs::remove_file(&file).expect("removed");
        assert!(matches!(start(&file, dir.path(), false), StartOutcome::FromLastGood { refused: None, .. }));
        fs::write(&file, GOOD).expect("written");
        assert!(matches!(start(&file, dir.path(), true), StartOutcome::Fresh(_)));
    }

    #[test]
    fn what_vanishes_while_nobody_watches_moves_nobody_at_the_next_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("routes.yaml");
        fs::write(&file, GOOD).expect("written");
        let route = "routes:\n  - {name: a, match: /a, extracted: http://127.0.0.1:2, weight: 5%}\n";
        let kept = format!("{GOOD}{route}");
        keep(dir.path(), kept.as_bytes()).expect("kept");

        let StartOutcome::FromLastGood { start: begun, faults, refused } = start(&file, dir.path(), false) else {
            panic!("a route was lost")
        };
        assert_eq!((begun.text, refused.as_deref()), (kept.into_bytes(), Some(GOOD.as_bytes())));
        assert_eq!(
            faults.iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>(),
            ["the route `a` carries 5% of its users and is missing"]
        );
        assert!(matches!(start(&file, dir.path(), true), StartOutcome::Refused { .. }));

        fs::write(&file, format!("{GOOD}removed: [a]\n")).expect("written");
        assert!(matches!(start(&file, dir.path(), true), StartOutcome::Fresh(_)), "it is said");
    }

    #[test]
    fn a_kept_text_is_private_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        keep(dir.path(), b"one").expect("kept");
        keep(dir.path(), b"two").expect("kept");
        let path = dir.path().join(FILE_NAME);
        assert_eq!(fs::read(&path).expect("there"), b"two");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1);
        assert!(keep(&dir.path().join("nowhere"), b"x").is_err());
    }
}

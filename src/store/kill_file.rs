//! Kill without the API: a line in `<state-dir>/kill` with a route's name, or `*` for all.
//!
//! Read twice a second. A file that is not there kills nothing; one that cannot be read changes nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use strangler_core::runtime::KillScope;

/// Name of the file in the state directory.
pub const FILE_NAME: &str = "kill";
/// Between two looks.
pub const POLL_EVERY: Duration = Duration::from_millis(500);
/// Bytes that are read; what stands beyond is not seen, and said.
pub const BYTES_MAX: u64 = 1 << 20;

/// The kill file of a state directory, and what was seen of it last.
#[derive(Debug)]
pub struct KillFile {
    path: PathBuf,
    last: BTreeSet<KillScope>,
    /// Said already: bad lines, and why it could not be read.
    said: BTreeSet<String>,
}

impl KillFile {
    /// Of this state directory; nothing is read yet.
    pub fn new(state_dir: &Path) -> KillFile {
        KillFile { path: state_dir.join(FILE_NAME), last: BTreeSet::new(), said: BTreeSet::new() }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says now. When it cannot be read, what it said last: an emergency does not end because a disk fails.
    pub fn read(&mut self) -> &BTreeSet<KillScope> {
        match read_bounded(&self.path) {
            Ok(text) => self.take(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Gone with its directory is a lost disk, not a lifted kill.
                if self.path.parent().is_some_and(Path::is_dir) {
                    self.last.clear();
                    self.said.clear();
                }
            }
            Err(error) => {
                if self.said.len() < 100 && self.said.insert(error.kind().to_string()) {
                    tracing::warn!(file = %self.path.display(), %error, "cannot read the kill file; what it said last stays in force");
                }
            }
        }
        &self.last
    }

    /// Polls until `apply` answers `false`; it is called at once and then when the lines have changed.
    pub async fn watch(mut self, mut apply: impl FnMut(&BTreeSet<KillScope>) -> bool) {
        let mut ticks = tokio::time::interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut applied: Option<BTreeSet<KillScope>> = None;
        loop {
            ticks.tick().await;
            let lines = self.read();
            if applied.as_ref() != Some(lines) {
                applied = Some(lines.clone());
                if !apply(lines) {
                    return;
                }
            }
        }
    }

    fn take(&mut self, text: &str) {
        let mut lines = BTreeSet::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            match line.parse::<KillScope>() {
                _ if line.is_empty() => {}
                Ok(scope) => drop(lines.insert(scope)),
                Err(error) => {
                    if self.said.len() < 100 && self.said.insert(line.to_owned()) {
                        let line: String = line.chars().take(80).collect();
                        tracing::warn!(file = %self.path.display(), line, %error, "a line of the kill file is no route's name");
                    }
                }
            }
        }
        self.last = lines;
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        tracing::warn!(file = %path.display(), "the kill file is larger than 1 MiB; only its beginning is read");
        bytes.truncate(usize::try_from(BYTES_MAX).unwrap_or(usize::MAX));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(file: &mut KillFile) -> Vec<String> {
        file.read().iter().map(|scope| scope.as_str().to_owned()).collect()
    }

    #[test]
    fn a_line_kills_and_its_absence_lifts() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = KillFile::new(dir.path());
        assert!(said(&mut file).is_empty(), "no file, no kill");
        std::fs::write(file.path(), "# incident 7\n cart-total  # until fixed\n\nNo Such Name\n*\n").unwrap();
        assert_eq!(said(&mut file), ["*", "cart-total"]);
        std::fs::write(file.path(), "cart-total").unwrap();
        assert_eq!(said(&mut file), ["cart-total"]);
        std::fs::remove_file(file.path()).unwrap();
        assert!(said(&mut file).is_empty());
    }

    #[test]
    fn what_cannot_be_read_lifts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = KillFile::new(dir.path());
        std::fs::write(file.path(), "*\n").unwrap();
        assert_eq!(said(&mut file), ["*"]);
        std::fs::remove_file(file.path()).unwrap();
        std::fs::create_dir(file.path()).unwrap();
        assert_eq!(said(&mut file), ["*"], "a directory in its place cannot be read");
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(said(&mut file), ["*"], "the state directory is gone with it");
    }

    #[test]
    fn a_huge_file_is_read_in_part() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = KillFile::new(dir.path());
        let text = format!("pay\n{}", "#".repeat(3 << 20));
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(said(&mut file), ["pay"]);
    }
}

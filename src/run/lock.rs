//! One process on a state directory. The lock is the system's (it ends with its holder, however that ends) and is handed to a
//! new binary with the sockets: an open file is the same lock in both processes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Its name in the state directory. It holds the number of the process that has the lock.
pub const FILE_NAME: &str = "lock";

/// Another process works on the state directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is in use by another strangler ({holder}): two would undo each other's kills and weights; give each its own --state-dir",
    state_dir.display()
)]
pub struct InUse {
    state_dir: PathBuf,
    holder: String,
}

/// The lock, held as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes it. `Ok(None)`: there can be no lock here, which has been said; to serve without is better than not to serve.
    pub(super) fn take(state_dir: &Path) -> Result<Option<Lock>, InUse> {
        let path = state_dir.join(FILE_NAME);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let unlocked = |error: io::Error| {
            tracing::error!(file = %path.display(), %error, "cannot lock the state directory; see to it that no other strangler uses it");
            Ok(None)
        };
        let mut file = match opened {
            Ok(file) => file,
            Err(error) => return unlocked(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let _ = file.by_ref().take(20).read_to_string(&mut pid);
                let holder =
                    pid.trim().parse::<u32>().map_or("of unknown number".to_owned(), |pid| format!("process {pid}"));
                return Err(InUse { state_dir: state_dir.to_owned(), holder });
            }
            Err(error) => return unlocked(error.into()),
        }
        let lock = Lock { file };
        lock.sign();
        Ok(Some(lock))
    }

    /// One that another process has handed over.
    pub(super) fn handed(file: OwnedFd) -> Lock {
        Lock { file: File::from(file) }
    }

    /// Writes down who has it.
    pub(super) fn sign(&self) {
        let pid = format!("{}\n", std::process::id());
        // Read by people only.
        let _ = self.file.set_len(0).and_then(|()| self.file.write_all_at(pid.as_bytes(), 0));
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap().unwrap();
        let told = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
        let handed = Lock::handed(first.as_fd().try_clone_to_owned().unwrap());
        drop(first);
        assert!(Lock::take(dir.path()).is_err(), "a lock that was handed over is still held");
        drop(handed);
        assert!(Lock::take(dir.path()).unwrap().is_some());
    }

    #[test]
    fn where_nothing_can_be_written_there_is_no_lock_and_no_refusal() {
        assert!(Lock::take(Path::new("/proc/strangler")).unwrap().is_none());
    }
}

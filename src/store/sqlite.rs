//! The file in the state directory: how it is opened, kept private, and moved aside when it is corrupt.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use strangler_core::chain::chain;

use crate::store::database::{Database, DatabaseError, Result, State, io_error, sql_error};
use crate::store::link::{Dialect, Link};
use crate::store::schema::migrations;
use crate::store::{StoredPin, now_unix_ms};

/// Moved-aside corrupt files that are kept, for whoever wants to look.
const CORRUPT_KEPT: usize = 5;

/// What came of opening.
pub(super) struct Opened {
    pub(super) database: Option<Database>,
    /// Why what is saved now will not outlive a restart; `None`: it will.
    pub(super) why: Option<String>,
    /// Why the state of before could not be read; `None`: it was, or there was none.
    pub(super) lost: Option<String>,
    /// Whether all that the file holds was read, so that it may be written over once it can be.
    pub(super) is_known: bool,
    pub(super) state: State,
}

impl Opened {
    pub(super) fn new(database: Option<Database>, lost: Option<String>, is_known: bool, state: State) -> Opened {
        Opened { database, why: None, lost, is_known, state }
    }

    /// The keys of the last day, oldest first; none where they cannot be read.
    pub(super) async fn pins(&mut self, pins_max: u64) -> Vec<StoredPin> {
        let Some(database) = &mut self.database else { return Vec::new() };
        database.pins(pins_max).await.unwrap_or_else(|error| {
            tracing::error!(error = chain(&error), "the idempotency keys of before cannot be read");
            Vec::new()
        })
    }
}

/// Opens the file, or moves a corrupt one aside and begins anew, or reads what can only be read, or begins in memory.
pub(super) async fn open(state_dir: &Path, path: &Path) -> Opened {
    let existed = path.exists();
    let first = open_file(state_dir, path).await;
    let (error, lost) = match first {
        Ok(opened) => return opened,
        Err(error) if error.is_corrupt() => {
            let lost = match move_aside(path) {
                Ok(to) => format!("{} was corrupt ({}); it lies in {}", path.display(), chain(&error), to.display()),
                Err(failed) => format!("{} is corrupt ({}): {}", path.display(), chain(&error), chain(&failed)),
            };
            match open_file(state_dir, path).await {
                Ok(opened) => return Opened { lost: Some(lost), ..opened },
                Err(error) => (error, Some(lost)),
            }
        }
        Err(error) => (error, None),
    };
    let why = format!("{}: {}", path.display(), chain(&error));
    let mut opened = match read_only(path).await {
        Ok(state) => Opened::new(None, lost, true, state),
        Err(unreadable) => {
            let lost = lost.or_else(|| existed.then(|| chain(&unreadable)));
            Opened::new(None, lost, false, State::default())
        }
    };
    opened.database = Database::in_memory().await.ok();
    opened.why = Some(why);
    opened
}

async fn open_file(state_dir: &Path, path: &Path) -> Result<Opened> {
    make_private(state_dir, path)?;
    let mut database = Database::file(path).await?;
    let state = database.load().await?;
    // A disk that is full shows at the first write; what could be read is still good, and so is the connection once there is room.
    let why = database.touch().await.err();
    if let Some(error) = why.as_ref().filter(|error| error.is_corrupt()) {
        return Err(DatabaseError::Io { doing: "write to it", source: io::Error::other(chain(&error)) });
    }
    let why = why.map(|error| format!("{}: {}", path.display(), chain(&error)));
    Ok(Opened { why, ..Opened::new(Some(database), None, true, state) })
}

/// Only the owner may read what is stored: the directory is made 0700, the file 0600 before SQLite sees it (its `-wal` follows suit).
fn make_private(state_dir: &Path, path: &Path) -> Result<()> {
    if !state_dir.is_dir() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir);
        made.map_err(io_error("make the state directory"))?;
    }
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(io_error("open it for writing"))?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(io_error("make it private"))
}

/// Moves the file and its companions to `strangler.db.corrupt-<ms>`; the oldest of many goes.
pub(super) fn move_aside(path: &Path) -> Result<PathBuf> {
    let to = with_suffix(path, &format!(".corrupt-{}", now_unix_ms()));
    fs::rename(path, &to).map_err(io_error("move it aside"))?;
    for suffix in ["-wal", "-shm"] {
        let _ = fs::rename(with_suffix(path, suffix), with_suffix(&to, suffix));
    }
    let prefix = with_suffix(path, ".corrupt-");
    let beside = path.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let is_copy = |at: &PathBuf| at.as_os_str().as_encoded_bytes().starts_with(prefix.as_os_str().as_encoded_bytes());
    let is_main = |at: &PathBuf| at.as_os_str().as_encoded_bytes().last().is_some_and(u8::is_ascii_digit);
    let mut copies: Vec<PathBuf> = beside.map(|entry| entry.path()).filter(is_copy).filter(is_main).collect();
    copies.sort();
    for old in copies.iter().take(copies.len().saturating_sub(CORRUPT_KEPT)) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(with_suffix(old, suffix));
        }
    }
    Ok(to)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The state in a file that cannot be written. A file whose log still holds changes is not read without them.
async fn read_only(path: &Path) -> Result<State> {
    let has_log = fs::metadata(with_suffix(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(Duration::from_secs(2));
    match load_with(options.clone()).await {
        // Without room for its index of the log SQLite reads nothing; where there is no log it needs none.
        Err(_) if !has_log => load_with(options.immutable(true)).await,
        other => other,
    }
}

async fn load_with(options: SqliteConnectOptions) -> Result<State> {
    let connection = options.connect().await.map_err(sql_error("open it for reading"))?;
    Database { link: Link::Sqlite(connection), inode: None }.load().await
}

impl Database {
    async fn file(path: &Path) -> Result<Database> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            // Every change is on the disk before it is acknowledged.
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "ON")
            .pragma("journal_size_limit", "67108864")
            .busy_timeout(Duration::from_secs(2));
        let connection = options.connect().await.map_err(sql_error("open it"))?;
        let inode = fs::metadata(path).map_err(io_error("look at it"))?.ino();
        let mut database = Database { link: Link::Sqlite(connection), inode: Some(inode) };
        database.migrate_file().await?;
        Ok(database)
    }

    async fn in_memory() -> Result<Database> {
        let connection = SqliteConnectOptions::new().in_memory(true).connect().await;
        let connection = connection.map_err(sql_error("open a store in memory"))?;
        let mut database = Database { link: Link::Sqlite(connection), inode: None };
        database.migrate_file().await?;
        Ok(database)
    }

    /// Opens the file again after it was lost under the running process.
    pub(super) async fn reopen(state_dir: &Path, path: &Path) -> Result<Database> {
        make_private(state_dir, path)?;
        Database::file(path).await
    }

    /// Whether the file at `path` is still the one that is open.
    pub(super) fn is_still_at(&self, path: &Path) -> bool {
        self.inode.is_none() || fs::metadata(path).map(|file| file.ino()).ok() == self.inode
    }

    async fn migrate_file(&mut self) -> Result<()> {
        const DOING: &str = "bring its tables up to date";
        let row = self.link.row("PRAGMA user_version", &[]).await.map_err(sql_error("read its version"))?;
        let done = row.and_then(|row| row.number("user_version")).ok_or(DatabaseError::BadRow("user_version"))?;
        let todo = migrations(Dialect::Sqlite, done).ok_or(DatabaseError::Newer { version: done })?;
        for (version, sql) in todo {
            self.link.begin().await.map_err(sql_error(DOING))?;
            let stamped = format!("{sql}; PRAGMA user_version = {version}");
            let done = self.link.script(stamped).await;
            self.link.end(done).await.map_err(sql_error(DOING))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AuditEntry, Change};
    use strangler_core::runtime::{Kill, KillScope, KillSource, Note};

    #[tokio::test]
    async fn what_is_saved_after_a_full_disk_is_really_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("strangler.db");
        let mut database = open(dir.path(), &path).await.database.unwrap();
        let cap = async |database: &mut Database, pages: &str| {
            let sql = format!("PRAGMA max_page_count = {pages}");
            database.link.script(sql).await.unwrap();
        };
        let big: Vec<AuditEntry> =
            (0..200).map(|_| AuditEntry { reason: "x".repeat(1_000), ..AuditEntry::default() }).collect();
        let (scope, source): (KillScope, _) = ("prices".parse().unwrap(), KillSource::Api);
        let note = Note::new("ops", now_unix_ms(), "incident").unwrap();
        let kill = Kill { scope: scope.clone(), source, accept_stale: false, note };

        cap(&mut database, "1").await;
        assert!(database.save_all(&[], &big).await.is_err(), "a full disk");
        assert!(database.save(&[], &big).await.is_err(), "a full disk");
        cap(&mut database, "1000000").await;
        // What a failed commit was seen to leave behind on a real full disk: inside of it nothing is ever committed.
        database.link.script("BEGIN").await.unwrap();
        database.save(&[Change::Kill(scope, source, Some(kill))], &[]).await.unwrap();
        drop(database);

        assert_eq!(open(dir.path(), &path).await.state.kills.len(), 1);
    }
}

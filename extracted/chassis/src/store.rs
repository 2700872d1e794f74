//! One SQLite file per service: many readers, one writer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};

/// Longest wait for a connection or a lock.
const WAIT_MAX: Duration = Duration::from_secs(5);
const READERS: u32 = 4;

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot make the directory {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot open the database {}", path.display())]
    Open { path: PathBuf, source: sqlx::Error },
    #[error("cannot set up the database {}", path.display())]
    SetUp { path: PathBuf, source: sqlx::Error },
}

/// An open database in WAL mode. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Database {
    read: SqlitePool,
    write: SqlitePool,
    path: PathBuf,
}

impl Database {
    /// Opens `<dir>/<file>`, making both if missing, and runs `schema`, which must be written with `IF NOT EXISTS`.
    pub async fn open(dir: &Path, file: &str, schema: &'static str) -> Result<Database, StoreError> {
        std::fs::create_dir_all(dir).map_err(|source| StoreError::Directory { path: dir.to_owned(), source })?;
        let path = dir.join(file);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(WAIT_MAX);
        let pool = |connections| SqlitePoolOptions::new().max_connections(connections).acquire_timeout(WAIT_MAX);
        let failed = |source| StoreError::Open { path: path.clone(), source };
        let write = pool(1).connect_with(options.clone()).await.map_err(failed)?;
        sqlx::raw_sql(schema)
            .execute(&write)
            .await
            .map_err(|source| StoreError::SetUp { path: path.clone(), source })?;
        let read = pool(READERS).connect_with(options).await.map_err(failed)?;
        Ok(Database { read, write, path })
    }

    /// For queries that change nothing.
    pub fn reader(&self) -> &SqlitePool {
        &self.read
    }

    /// Begins a transaction that may write. It holds the write lock from the start, so it never fails halfway for want of it;
    /// dropped without `commit` it is rolled back.
    pub async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.write.begin_with("BEGIN IMMEDIATE").await
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names the file in an error of setting up.
    pub fn set_up_failed(&self, source: sqlx::Error) -> StoreError {
        StoreError::SetUp { path: self.path.clone(), source }
    }

    /// Closes all connections; the write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS notes(id INTEGER PRIMARY KEY, text TEXT NOT NULL)";

    #[tokio::test]
    async fn what_was_committed_is_there_after_a_restart_and_what_was_not_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Database::open(&dir.path().join("new"), "a.db", SCHEMA).await.expect("open");
        let mut kept = store.begin().await.expect("begin");
        sqlx::query("INSERT INTO notes(text) VALUES ('kept')").execute(&mut *kept).await.expect("insert");
        kept.commit().await.expect("commit");
        let mut lost = store.begin().await.expect("begin");
        sqlx::query("INSERT INTO notes(text) VALUES ('lost')").execute(&mut *lost).await.expect("insert");
        drop(lost);
        store.close().await;

        let again = Database::open(&dir.path().join("new"), "a.db", SCHEMA).await.expect("open again");

        let texts: Vec<String> =
            sqlx::query_scalar("SELECT text FROM notes").fetch_all(again.reader()).await.expect("read");
        assert_eq!(texts, ["kept"]);
        again.close().await;
    }
}

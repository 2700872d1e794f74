//! The tables and the statements: everything that knows it is SQLite.

mod coverage;
mod divergences;
mod pins;
mod rows;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use strangler_core::chain::chain;
use strangler_core::name::RouteName;
use strangler_core::past::RoutePast;
use strangler_core::redact::accept::{Acceptance, AcceptedKey};
use strangler_core::runtime::{Kill, Move};

use crate::store::sqlite::rows::{audit_of, insert, insert_divergences, kill_of, move_of, signed};
use crate::store::{AuditEntry, Change, Keep, LIST_ROWS_MAX, Listing, StoredDivergence, StoredPin, now_unix_ms};

/// One entry per version; `user_version` says how many a file has seen. Never edit one that has shipped: add another.
const MIGRATIONS: [&str; 5] = [
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE moves (
        route TEXT PRIMARY KEY, weight INTEGER NOT NULL, file_weight INTEGER NOT NULL, kind TEXT NOT NULL,
        who TEXT NOT NULL, at_unix_ms INTEGER NOT NULL, reason TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE kills (
        scope TEXT NOT NULL, source TEXT NOT NULL, accept_stale INTEGER NOT NULL,
        who TEXT NOT NULL, at_unix_ms INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (scope, source)
    ) WITHOUT ROWID;
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, at_unix_ms INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
        route TEXT, before TEXT, after TEXT, reason TEXT NOT NULL, accepted INTEGER NOT NULL
    );
    CREATE TABLE divergences (
        id TEXT PRIMARY KEY, at_unix_ms INTEGER NOT NULL, expires_unix_ms INTEGER NOT NULL, route TEXT NOT NULL,
        signature TEXT NOT NULL, bytes INTEGER NOT NULL, json TEXT NOT NULL
    );
    CREATE INDEX divergences_of_signature ON divergences (route, signature, at_unix_ms);
    CREATE INDEX divergences_of_route ON divergences (route, at_unix_ms);
    CREATE INDEX divergences_by_age ON divergences (at_unix_ms);
    CREATE INDEX divergences_by_expiry ON divergences (expires_unix_ms);
",
    "
    CREATE TABLE pasts (route TEXT PRIMARY KEY, weight INTEGER NOT NULL, pasts TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE pins (seen_s INTEGER NOT NULL, key BLOB NOT NULL, side TEXT NOT NULL, PRIMARY KEY (seen_s, key)) WITHOUT ROWID;
",
    "
    CREATE TABLE causes (
        route TEXT NOT NULL, signature TEXT NOT NULL, pairs INTEGER NOT NULL, first_unix_ms INTEGER NOT NULL,
        last_unix_ms INTEGER NOT NULL, json TEXT NOT NULL, PRIMARY KEY (route, signature)
    ) WITHOUT ROWID;
",
    "
    CREATE TABLE accepted (
        route TEXT NOT NULL, signature TEXT NOT NULL, who TEXT NOT NULL, at_unix_ms INTEGER NOT NULL,
        reason TEXT NOT NULL, until TEXT, json TEXT NOT NULL, PRIMARY KEY (route, signature)
    ) WITHOUT ROWID;
    ALTER TABLE divergences ADD COLUMN score_ms INTEGER NOT NULL DEFAULT 0;
    UPDATE divergences SET score_ms = at_unix_ms;
    DROP INDEX divergences_of_signature;
    CREATE INDEX divergences_of_signature ON divergences (route, signature, score_ms);
",
    coverage::MIGRATION,
];

const KNOWN: usize = MIGRATIONS.len();
/// Moved-aside corrupt files that are kept, for whoever wants to look.
const CORRUPT_KEPT: usize = 5;
/// Most causes of a route that are remembered; those seen longest ago go.
const CAUSES_PER_ROUTE_MAX: i64 = 1_000;
/// Most causes in all.
const CAUSES_MAX: i64 = 100_000;
/// Bytes of JSON that one listing answers at most.
const LIST_BYTES_MAX: i64 = 8 << 20;

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    #[error("cannot {doing}")]
    Io { doing: &'static str, source: io::Error },
    #[error("cannot {doing}")]
    Sql { doing: &'static str, source: sqlx::Error },
    #[error(
        "it was written by a newer version of strangler: its tables are of version {version}, this one knows {KNOWN}"
    )]
    Newer { version: i64 },
    #[error("a row of `{0}` makes no sense")]
    BadRow(&'static str),
}

impl DatabaseError {
    /// Whether the file itself is damaged, so that no other try will help.
    pub(super) fn is_corrupt(&self) -> bool {
        const SQLITE_CORRUPT: u32 = 11;
        const SQLITE_NOTADB: u32 = 26;
        match self {
            DatabaseError::Sql { source, .. } => {
                let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
                let primary = code.and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff);
                matches!(primary, Some(SQLITE_CORRUPT | SQLITE_NOTADB))
            }
            DatabaseError::BadRow(_) => true,
            DatabaseError::Io { .. } | DatabaseError::Newer { .. } => false,
        }
    }
}

/// Moves, kills and weights of before, as they are stored.
#[derive(Default)]
pub(super) struct State {
    pub(super) moves: Vec<(RouteName, Move)>,
    pub(super) kills: Vec<Kill>,
    pub(super) pasts: Vec<(RouteName, RoutePast)>,
    pub(super) accepted: Vec<(AcceptedKey, Acceptance)>,
}
type Result<T> = std::result::Result<T, DatabaseError>;

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> DatabaseError {
    move |source| DatabaseError::Io { doing, source }
}

fn sql_error(doing: &'static str) -> impl FnOnce(sqlx::Error) -> DatabaseError {
    move |source| DatabaseError::Sql { doing, source }
}

/// What came of opening.
pub(super) struct Opened {
    pub(super) database: Option<Database>,
    /// Why what is saved now will not outlive a restart; `None`: it will.
    pub(super) why: Option<String>,
    /// Why the state of before could not be read; `None`: it was, or there was none.
    pub(super) lost: Option<String>,
    /// Whether all that the file holds was read, so that it may be written over once it can be.
    pub(super) is_known: bool,
    pub(super) moves: Vec<(RouteName, Move)>,
    pub(super) kills: Vec<Kill>,
    pub(super) pasts: Vec<(RouteName, RoutePast)>,
    pub(super) accepted: Vec<(AcceptedKey, Acceptance)>,
}

impl Opened {
    fn new(database: Option<Database>, lost: Option<String>, is_known: bool, state: State) -> Opened {
        let State { moves, kills, pasts, accepted } = state;
        Opened { database, why: None, lost, is_known, moves, kills, pasts, accepted }
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
    Database { connection, inode: None }.load().await
}

/// One connection.
pub(super) struct Database {
    connection: SqliteConnection,
    /// Of the file, to notice that it was deleted or replaced; `None`: in memory.
    inode: Option<u64>,
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
        let mut database = Database { connection, inode: Some(inode) };
        database.migrate().await?;
        Ok(database)
    }

    async fn in_memory() -> Result<Database> {
        let connection = SqliteConnectOptions::new().in_memory(true).connect().await;
        let mut database =
            Database { connection: connection.map_err(sql_error("open a store in memory"))?, inode: None };
        database.migrate().await?;
        Ok(database)
    }

    /// Opens the file again after it was lost under the running process.
    pub(super) async fn reopen(state_dir: &Path, path: &Path) -> Result<Database> {
        make_private(state_dir, path)?;
        Database::file(path).await
    }

    /// Whether it lives in a file.
    pub(super) fn is_file(&self) -> bool {
        self.inode.is_some()
    }

    /// Whether the file at `path` is still the one that is open.
    pub(super) fn is_still_at(&self, path: &Path) -> bool {
        self.inode.is_none() || fs::metadata(path).map(|file| file.ino()).ok() == self.inode
    }

    async fn migrate(&mut self) -> Result<()> {
        let version: i64 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&mut self.connection)
            .await
            .map_err(sql_error("read its version"))?;
        let done = usize::try_from(version).map_err(|_| DatabaseError::Newer { version })?;
        let todo = MIGRATIONS.get(done..).ok_or(DatabaseError::Newer { version })?;
        for (step, sql) in (done + 1..).zip(todo) {
            let doing = "bring its tables up to date";
            let mut transaction = self.connection.begin().await.map_err(sql_error(doing))?;
            sqlx::raw_sql(*sql).execute(&mut *transaction).await.map_err(sql_error(doing))?;
            let stamp = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {step}"));
            sqlx::raw_sql(stamp).execute(&mut *transaction).await.map_err(sql_error(doing))?;
            transaction.commit().await.map_err(sql_error(doing))?;
        }
        Ok(())
    }

    /// Writes one small row: whether writing works at all.
    pub(super) async fn touch(&mut self) -> Result<()> {
        sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES ('touched_unix_ms', ?1)")
            .bind(now_unix_ms().to_string())
            .execute(&mut self.connection)
            .await
            .map(drop)
            .map_err(sql_error("write to it"))
    }

    async fn load(&mut self) -> Result<State> {
        let moves = sqlx::query("SELECT route, weight, file_weight, kind, who, at_unix_ms, reason FROM moves")
            .fetch_all(&mut self.connection)
            .await
            .map_err(sql_error("read the moved weights"))?;
        let kills = sqlx::query("SELECT scope, source, accept_stale, who, at_unix_ms, reason FROM kills")
            .fetch_all(&mut self.connection)
            .await
            .map_err(sql_error("read the kills"))?;
        let moves: Option<Vec<_>> = moves.iter().map(move_of).collect();
        let kills: Option<Vec<_>> = kills.iter().map(kill_of).collect();
        Ok(State {
            moves: moves.ok_or(DatabaseError::BadRow("moves"))?,
            kills: kills.ok_or(DatabaseError::BadRow("kills"))?,
            pasts: self.pasts().await?,
            accepted: self.accepted().await?,
        })
    }

    /// Changes and audit entries in one transaction.
    pub(super) async fn save(&mut self, changes: &[Change], audit: &[AuditEntry]) -> Result<()> {
        const DOING: &str = "save a change";
        self.begin(DOING).await?;
        let done = insert(&mut self.connection, changes, audit).await;
        self.end(DOING, done).await
    }

    /// Begins a transaction, whatever a failure before has left open: inside of that one nothing would ever be committed.
    async fn begin(&mut self, doing: &'static str) -> Result<()> {
        // Usually there is none, and this says so.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await;
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut self.connection).await.map(drop).map_err(sql_error(doing))
    }

    /// Ends it: committed, or undone.
    async fn end(&mut self, doing: &'static str, done: sqlx::Result<()>) -> Result<()> {
        let ended = match done {
            Ok(()) => sqlx::raw_sql("COMMIT").execute(&mut self.connection).await.map(drop),
            Err(error) => Err(error),
        };
        if ended.is_err() {
            // SQLite has perhaps undone it itself.
            let _ = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await;
        }
        ended.map_err(sql_error(doing))
    }

    /// All moves and kills anew, after the file had been out of reach.
    pub(super) async fn save_all(&mut self, changes: &[Change], audit: &[AuditEntry]) -> Result<()> {
        const DOING: &str = "save all changes anew";
        self.begin(DOING).await?;
        let done = match sqlx::raw_sql("DELETE FROM moves; DELETE FROM kills; DELETE FROM pasts; DELETE FROM accepted;")
            .execute(&mut self.connection)
            .await
        {
            Ok(_) => insert(&mut self.connection, changes, audit).await,
            Err(error) => Err(error),
        };
        self.end(DOING, done).await
    }

    /// A batch of divergences in one transaction; of each signature only the newest stay.
    pub(super) async fn save_divergences(&mut self, batch: &[(StoredDivergence, Keep)]) -> Result<()> {
        const DOING: &str = "save divergences";
        self.begin(DOING).await?;
        let done = insert_divergences(&mut self.connection, batch).await;
        self.end(DOING, done).await
    }

    /// Takes out what is too old and what is too much; answers the bytes of divergences that are left.
    pub(super) async fn sweep(&mut self, per_route_max: u64, bytes_max: u64, audit_rows_max: u64) -> Result<u64> {
        const DOING: &str = "sweep";
        let connection = &mut self.connection;
        sqlx::query("DELETE FROM divergences WHERE expires_unix_ms <= ?1")
            .bind(signed(now_unix_ms()))
            .execute(&mut *connection)
            .await
            .map_err(sql_error(DOING))?;
        sqlx::query(
            "DELETE FROM divergences WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER
             (PARTITION BY route ORDER BY at_unix_ms DESC, id DESC) AS place FROM divergences) WHERE place > ?1)",
        )
        .bind(signed(per_route_max))
        .execute(&mut *connection)
        .await
        .map_err(sql_error(DOING))?;
        sqlx::query(
            "DELETE FROM divergences WHERE id IN (SELECT id FROM (SELECT id, sum(bytes) OVER
             (ORDER BY at_unix_ms DESC, id DESC) AS upto FROM divergences) WHERE upto > ?1)",
        )
        .bind(signed(bytes_max))
        .execute(&mut *connection)
        .await
        .map_err(sql_error(DOING))?;
        sqlx::query(
            "DELETE FROM causes WHERE (route, signature) IN (SELECT route, signature FROM (SELECT route, signature,
             row_number() OVER (PARTITION BY route ORDER BY last_unix_ms DESC) AS place,
             row_number() OVER (ORDER BY last_unix_ms DESC) AS of_all FROM causes) WHERE place > ?1 OR of_all > ?2)",
        )
        .bind(CAUSES_PER_ROUTE_MAX)
        .bind(CAUSES_MAX)
        .execute(&mut *connection)
        .await
        .map_err(sql_error(DOING))?;
        sqlx::query("DELETE FROM audit WHERE seq <= (SELECT max(seq) FROM audit) - ?1")
            .bind(signed(audit_rows_max))
            .execute(&mut *connection)
            .await
            .map_err(sql_error(DOING))?;
        let bytes: i64 = sqlx::query_scalar("SELECT coalesce(sum(bytes), 0) FROM divergences")
            .fetch_one(&mut *connection)
            .await
            .map_err(sql_error(DOING))?;
        sqlx::raw_sql("PRAGMA incremental_vacuum(4096); PRAGMA wal_checkpoint(TRUNCATE);")
            .execute(&mut *connection)
            .await
            .map_err(sql_error(DOING))?;
        Ok(u64::try_from(bytes).unwrap_or_default())
    }

    /// Audit entries, newest first.
    pub(super) async fn audit(&mut self, listing: &Listing) -> Result<Vec<AuditEntry>> {
        let rows = sqlx::query(
            "SELECT seq, at_unix_ms, who, what, route, before, after, reason, accepted FROM audit
             WHERE (?1 IS NULL OR route = ?1) AND at_unix_ms >= ?2 ORDER BY seq DESC LIMIT ?3",
        )
        .bind(&listing.route)
        .bind(signed(listing.since_unix_ms))
        .bind(listing.limit.min(LIST_ROWS_MAX))
        .fetch_all(&mut self.connection)
        .await
        .map_err(sql_error("list the audit"))?;
        rows.iter().map(audit_of).collect::<Option<Vec<_>>>().ok_or(DatabaseError::BadRow("audit"))
    }

    /// Writes the log back into the file and closes it.
    pub(super) async fn close(self) {
        let _ = self.connection.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::now_unix_ms;
    use strangler_core::runtime::{Kill, KillScope, KillSource, Note};

    #[tokio::test]
    async fn what_is_saved_after_a_full_disk_is_really_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("strangler.db");
        let mut database = open(dir.path(), &path).await.database.unwrap();
        let cap = async |database: &mut Database, pages: &str| {
            let sql = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
            sqlx::raw_sql(sql).execute(&mut database.connection).await.unwrap();
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
        sqlx::raw_sql("BEGIN").execute(&mut database.connection).await.unwrap();
        database.save(&[Change::Kill(scope, source, Some(kill))], &[]).await.unwrap();
        drop(database);

        assert_eq!(open(dir.path(), &path).await.kills.len(), 1);
    }
}

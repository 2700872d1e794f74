//! The tables and the statements, for either database.

mod audit;
mod coverage;
mod endpoints;
mod divergences;
mod ledgers;
mod pins;
mod rows;
mod verdicts;

use std::io;

use strangler_core::name::RouteName;
use strangler_core::past::RoutePast;
use strangler_core::redact::accept::{Acceptance, AcceptedKey};
use strangler_core::runtime::{Kill, Move, Progress};

use crate::store::database::rows::{insert, insert_divergences, kill_of, move_of};
use crate::store::link::{Dialect, Link};
use crate::store::postgres::AddressError;
use crate::store::schema::KNOWN;
use crate::store::{AuditEntry, Change, Keep, LIST_ROWS_MAX, Listing, StoredDivergence, now_unix_ms};

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
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("cannot reach {server}")]
    Unreached { server: String, source: sqlx::Error },
    #[error(
        "it was written by a newer version of strangler: its tables are of version {version}, this one knows {KNOWN}"
    )]
    Newer { version: u64 },
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
            DatabaseError::Io { .. }
            | DatabaseError::Newer { .. }
            | DatabaseError::Address(_)
            | DatabaseError::Unreached { .. } => false,
        }
    }
}

/// Moves, kills and weights of before, as they are stored.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) moves: Vec<(RouteName, Move)>,
    pub(super) kills: Vec<Kill>,
    pub(super) pasts: Vec<(RouteName, RoutePast)>,
    pub(super) accepted: Vec<(AcceptedKey, Acceptance)>,
    pub(super) rollouts: Vec<(RouteName, Progress)>,
}

pub(super) type Result<T> = std::result::Result<T, DatabaseError>;

pub(super) fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> DatabaseError {
    move |source| DatabaseError::Io { doing, source }
}

pub(super) fn sql_error(doing: &'static str) -> impl FnOnce(sqlx::Error) -> DatabaseError {
    move |source| DatabaseError::Sql { doing, source }
}

/// One connection.
pub(super) struct Database {
    pub(super) link: Link,
    /// Of the file, to notice that it was deleted or replaced; `None`: in memory, or on a server.
    pub(super) inode: Option<u64>,
}

impl Database {
    /// Whether what it holds outlives the process.
    pub(super) fn is_lasting(&self) -> bool {
        self.inode.is_some() || self.link.dialect() == Dialect::Postgres
    }

    /// Writes one small row: whether writing works at all.
    pub(super) async fn touch(&mut self) -> Result<()> {
        self.note("touched_unix_ms", &now_unix_ms().to_string()).await
    }

    /// A word of the store about itself.
    pub(super) async fn note(&mut self, key: &str, value: &str) -> Result<()> {
        let sql =
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.link.run(sql, &[key.into(), value.into()]).await.map(drop).map_err(sql_error("write to it"))
    }

    /// What it has noted about itself.
    pub(super) async fn noted(&mut self, key: &str) -> Result<Option<String>> {
        let row = self.link.row("SELECT value FROM meta WHERE key = $1", &[key.into()]).await;
        Ok(row.map_err(sql_error("read what it is"))?.and_then(|row| row.text("value")))
    }

    /// Whether anybody is there.
    pub(super) async fn ask(&mut self) -> Result<()> {
        self.link.row("SELECT 1 AS n", &[]).await.map(drop).map_err(sql_error("ask it anything"))
    }

    pub(super) async fn load(&mut self) -> Result<State> {
        let moves =
            self.link.rows("SELECT route, weight, file_weight, kind, who, at_unix_ms, reason FROM moves", &[]).await;
        let kills = self.link.rows("SELECT scope, source, accept_stale, who, at_unix_ms, reason FROM kills", &[]).await;
        let moves: Option<Vec<_>> = moves.map_err(sql_error("read the moved weights"))?.iter().map(move_of).collect();
        let kills: Option<Vec<_>> = kills.map_err(sql_error("read the kills"))?.iter().map(kill_of).collect();
        Ok(State {
            moves: moves.ok_or(DatabaseError::BadRow("moves"))?,
            kills: kills.ok_or(DatabaseError::BadRow("kills"))?,
            pasts: self.pasts().await?,
            accepted: self.accepted().await?,
            rollouts: self.rollouts().await?,
        })
    }

    /// Changes and audit entries in one transaction.
    pub(super) async fn save(&mut self, changes: &[Change], audit: &[AuditEntry]) -> Result<()> {
        const DOING: &str = "save a change";
        self.link.begin().await.map_err(sql_error(DOING))?;
        let done = insert(&mut self.link, changes, audit).await;
        self.link.end(done).await.map_err(sql_error(DOING))
    }

    /// All moves and kills anew, after the file had been out of reach.
    pub(super) async fn save_all(&mut self, changes: &[Change], audit: &[AuditEntry]) -> Result<()> {
        const DOING: &str = "save all changes anew";
        self.link.begin().await.map_err(sql_error(DOING))?;
        let emptied =
            "DELETE FROM moves; DELETE FROM kills; DELETE FROM pasts; DELETE FROM accepted; DELETE FROM rollouts;";
        let done = match self.link.script(emptied).await {
            Ok(()) => insert(&mut self.link, changes, audit).await,
            Err(error) => Err(error),
        };
        self.link.end(done).await.map_err(sql_error(DOING))
    }

    /// A batch of divergences in one transaction; of each signature only the newest stay.
    pub(super) async fn save_divergences(&mut self, batch: &[(StoredDivergence, Keep)]) -> Result<()> {
        match self.try_save_divergences(batch).await {
            // Another process swept the same rows the other way around.
            Err(error) if is_crossed(&error) => self.try_save_divergences(batch).await,
            done => done,
        }
        .map_err(sql_error("save divergences"))
    }

    async fn try_save_divergences(&mut self, batch: &[(StoredDivergence, Keep)]) -> sqlx::Result<()> {
        self.link.begin().await?;
        let done = insert_divergences(&mut self.link, batch).await;
        self.link.end(done).await
    }

    /// Takes out what is too old and what is too much; answers the bytes of divergences that are left.
    pub(super) async fn sweep(&mut self, per_route_max: u64, bytes_max: u64, audit_rows_max: u64) -> Result<u64> {
        self.try_sweep(per_route_max, bytes_max, audit_rows_max).await.map_err(sql_error("sweep"))
    }

    async fn try_sweep(&mut self, per_route_max: u64, bytes_max: u64, audit_rows_max: u64) -> sqlx::Result<u64> {
        let link = &mut self.link;
        link.run("DELETE FROM divergences WHERE expires_unix_ms <= $1", &[now_unix_ms().into()]).await?;
        link.run(
            "DELETE FROM divergences WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER
             (PARTITION BY route ORDER BY at_unix_ms DESC, id DESC) AS place FROM divergences) AS ranked WHERE place > $1)",
            &[per_route_max.into()],
        )
        .await?;
        link.run(
            "DELETE FROM divergences WHERE id IN (SELECT id FROM (SELECT id, sum(bytes) OVER
             (ORDER BY at_unix_ms DESC, id DESC) AS upto FROM divergences) AS summed WHERE upto > $1)",
            &[bytes_max.into()],
        )
        .await?;
        link.run(
            "DELETE FROM causes WHERE (route, signature) IN (SELECT route, signature FROM (SELECT route, signature,
             row_number() OVER (PARTITION BY route ORDER BY last_unix_ms DESC) AS place,
             row_number() OVER (ORDER BY last_unix_ms DESC) AS of_all FROM causes) AS ranked WHERE place > $1 OR of_all > $2)",
            &[CAUSES_PER_ROUTE_MAX.into(), CAUSES_MAX.into()],
        )
        .await?;
        link.run("DELETE FROM audit WHERE seq <= (SELECT max(seq) FROM audit) - $1", &[audit_rows_max.into()]).await?;
        let sum = "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) AS n FROM divergences";
        let bytes = link.number(sum, &[]).await?;
        if link.dialect() == Dialect::Sqlite {
            // A server does this by itself.
            link.script("PRAGMA incremental_vacuum(4096); PRAGMA wal_checkpoint(TRUNCATE);").await?;
        }
        Ok(bytes)
    }

    /// Writes the log back into the file and closes it.
    pub(super) async fn close(self) {
        self.link.close().await;
    }
}

/// Whether two transactions were in each other's way, and one more try of the same is right.
fn is_crossed(error: &sqlx::Error) -> bool {
    const DEADLOCK: &str = "40P01";
    const NOT_IN_A_ROW: &str = "40001";
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == DEADLOCK || code == NOT_IN_A_ROW)
}

/// A listing's first three values: route, time, rows.
fn listed(listing: &Listing) -> [crate::store::link::Value<'_>; 3] {
    let rows = u64::from(listing.limit.min(LIST_ROWS_MAX));
    [(&listing.route).into(), listing.since_unix_ms.into(), rows.into()]
}

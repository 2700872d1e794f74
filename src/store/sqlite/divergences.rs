//! What differed, why, and what of it is intended.

use strangler_core::redact::accept::{Acceptance, AcceptedKey};

use crate::store::sqlite::rows::{accepted_of, cause_of, divergence_of, signed};
use crate::store::sqlite::{Database, DatabaseError, LIST_BYTES_MAX, Result, sql_error};
use crate::store::{LIST_ROWS_MAX, Listing, StoredCause, StoredDivergence};

impl Database {
    /// Takes out the oldest divergences of a route beyond `bytes_kept`, if it has more than `bytes_max`; answers what is left.
    pub(in crate::store) async fn sweep_route(&mut self, route: &str, bytes_max: u64, bytes_kept: u64) -> Result<u64> {
        const DOING: &str = "sweep a route";
        const SUM: &str = "SELECT coalesce(sum(bytes), 0) FROM divergences WHERE route = ?1";
        let connection = &mut self.connection;
        let sum = sqlx::query_scalar(SUM).bind(route).fetch_one(&mut *connection).await;
        let bytes: i64 = sum.map_err(sql_error(DOING))?;
        if bytes <= signed(bytes_max) {
            return Ok(u64::try_from(bytes).unwrap_or_default());
        }
        sqlx::query(
            "DELETE FROM divergences WHERE id IN (SELECT id FROM (SELECT id, sum(bytes) OVER
             (ORDER BY at_unix_ms DESC, id DESC) AS upto FROM divergences WHERE route = ?1) WHERE upto > ?2)",
        )
        .bind(route)
        .bind(signed(bytes_kept))
        .execute(&mut *connection)
        .await
        .map_err(sql_error(DOING))?;
        let sum = sqlx::query_scalar(SUM).bind(route).fetch_one(&mut *connection).await;
        let bytes: i64 = sum.map_err(sql_error(DOING))?;
        Ok(u64::try_from(bytes).unwrap_or_default())
    }

    /// One divergence.
    pub(in crate::store) async fn divergence(&mut self, id: &str) -> Result<Option<StoredDivergence>> {
        let row = sqlx::query("SELECT id, at_unix_ms, route, signature, json FROM divergences WHERE id = ?1")
            .bind(id)
            .fetch_optional(&mut self.connection)
            .await
            .map_err(sql_error("look a divergence up"))?;
        row.map(|row| divergence_of(&row).ok_or(DatabaseError::BadRow("divergences"))).transpose()
    }

    /// One cause.
    pub(in crate::store) async fn cause(&mut self, key: &AcceptedKey) -> Result<Option<StoredCause>> {
        let sql = "SELECT route, signature, pairs, first_unix_ms, last_unix_ms, json FROM causes WHERE route = ?1 AND signature = ?2";
        let row = sqlx::query(sql)
            .bind(&key.route)
            .bind(&key.signature)
            .fetch_optional(&mut self.connection)
            .await
            .map_err(sql_error("look a cause up"))?;
        row.map(|row| cause_of(&row).ok_or(DatabaseError::BadRow("causes"))).transpose()
    }

    /// Divergences, newest first, up to a bound of rows and of bytes.
    pub(in crate::store) async fn divergences(&mut self, listing: &Listing) -> Result<Vec<StoredDivergence>> {
        let rows = sqlx::query(
            "WITH found AS (SELECT id, at_unix_ms, bytes FROM divergences WHERE (?1 IS NULL OR route = ?1) AND at_unix_ms >= ?2
             ORDER BY at_unix_ms DESC, id DESC LIMIT ?3),
             fitting AS (SELECT id, sum(bytes) OVER (ORDER BY at_unix_ms DESC, id DESC) AS upto FROM found)
             SELECT d.id, d.at_unix_ms, d.route, d.signature, d.json FROM fitting JOIN divergences AS d ON d.id = fitting.id
             WHERE fitting.upto <= ?4 ORDER BY d.at_unix_ms DESC, d.id DESC",
        )
        .bind(&listing.route)
        .bind(signed(listing.since_unix_ms))
        .bind(listing.limit.min(LIST_ROWS_MAX))
        .bind(LIST_BYTES_MAX)
        .fetch_all(&mut self.connection)
        .await
        .map_err(sql_error("list divergences"))?;
        rows.iter().map(divergence_of).collect::<Option<Vec<_>>>().ok_or(DatabaseError::BadRow("divergences"))
    }

    /// What divergences are due to, the most frequent first.
    pub(in crate::store) async fn causes(&mut self, listing: &Listing) -> Result<Vec<StoredCause>> {
        let rows = sqlx::query(
            "SELECT route, signature, pairs, first_unix_ms, last_unix_ms, json FROM causes
             WHERE (?1 IS NULL OR route = ?1) AND last_unix_ms >= ?2 ORDER BY pairs DESC, last_unix_ms DESC LIMIT ?3",
        )
        .bind(&listing.route)
        .bind(signed(listing.since_unix_ms))
        .bind(listing.limit.min(LIST_ROWS_MAX))
        .fetch_all(&mut self.connection)
        .await
        .map_err(sql_error("list causes"))?;
        rows.iter().map(cause_of).collect::<Option<Vec<_>>>().ok_or(DatabaseError::BadRow("causes"))
    }

    /// Causes that were accepted.
    pub(in crate::store) async fn accepted(&mut self) -> Result<Vec<(AcceptedKey, Acceptance)>> {
        let rows = sqlx::query("SELECT route, signature, who, at_unix_ms, reason, until, json FROM accepted")
            .fetch_all(&mut self.connection)
            .await
            .map_err(sql_error("read the accepted causes"))?;
        rows.iter().map(accepted_of).collect::<Option<Vec<_>>>().ok_or(DatabaseError::BadRow("accepted"))
    }
}

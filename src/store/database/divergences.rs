//! What differed, why, and what of it is intended.

use strangler_core::redact::accept::{Acceptance, AcceptedKey};

use crate::store::database::rows::{accepted_of, cause_of, divergence_of};
use crate::store::database::{Database, DatabaseError, LIST_BYTES_MAX, Result, listed, sql_error};
use crate::store::{Listing, StoredCause, StoredDivergence};

impl Database {
    /// Takes out the oldest divergences of a route beyond `bytes_kept`, if it has more than `bytes_max`; answers what is left.
    pub(in crate::store) async fn sweep_route(&mut self, route: &str, bytes_max: u64, bytes_kept: u64) -> Result<u64> {
        const DOING: &str = "sweep a route";
        const SUM: &str = "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) AS n FROM divergences WHERE route = $1";
        let link = &mut self.link;
        let bytes = link.number(SUM, &[route.into()]).await.map_err(sql_error(DOING))?;
        if bytes <= bytes_max {
            return Ok(bytes);
        }
        let too_many = "DELETE FROM divergences WHERE id IN (SELECT id FROM (SELECT id, sum(bytes) OVER
             (ORDER BY at_unix_ms DESC, id DESC) AS upto FROM divergences WHERE route = $1) AS summed WHERE upto > $2)";
        link.run(too_many, &[route.into(), bytes_kept.into()]).await.map_err(sql_error(DOING))?;
        link.number(SUM, &[route.into()]).await.map_err(sql_error(DOING))
    }

    /// One divergence.
    pub(in crate::store) async fn divergence(&mut self, id: &str) -> Result<Option<StoredDivergence>> {
        let sql = "SELECT id, at_unix_ms, route, signature, json FROM divergences WHERE id = $1";
        let row = self.link.row(sql, &[id.into()]).await.map_err(sql_error("look a divergence up"))?;
        row.map(|row| divergence_of(&row).ok_or(DatabaseError::BadRow("divergences"))).transpose()
    }

    /// One cause.
    pub(in crate::store) async fn cause(&mut self, key: &AcceptedKey) -> Result<Option<StoredCause>> {
        let sql = "SELECT route, signature, pairs, first_unix_ms, last_unix_ms, json FROM causes WHERE route = $1 AND signature = $2";
        let row = self.link.row(sql, &[(&key.route).into(), (&key.signature).into()]).await;
        let row = row.map_err(sql_error("look a cause up"))?;
        row.map(|row| cause_of(&row).ok_or(DatabaseError::BadRow("causes"))).transpose()
    }

    /// Divergences, newest first, up to a bound of rows and of bytes.
    pub(in crate::store) async fn divergences(&mut self, listing: &Listing) -> Result<Vec<StoredDivergence>> {
        let [route, since, limit] = listed(listing);
        let sql = "WITH found AS (SELECT id, at_unix_ms, bytes FROM divergences WHERE ($1 IS NULL OR route = $1) AND at_unix_ms >= $2
             ORDER BY at_unix_ms DESC, id DESC LIMIT $3),
             fitting AS (SELECT id, sum(bytes) OVER (ORDER BY at_unix_ms DESC, id DESC) AS upto FROM found)
             SELECT d.id, d.at_unix_ms, d.route, d.signature, d.json FROM fitting JOIN divergences AS d ON d.id = fitting.id
             WHERE fitting.upto <= $4 ORDER BY d.at_unix_ms DESC, d.id DESC";
        let values = [route, since, limit, LIST_BYTES_MAX.into()];
        let rows = self.link.rows(sql, &values).await.map_err(sql_error("list divergences"))?;
        rows.iter().map(divergence_of).collect::<Option<Vec<_>>>().ok_or(DatabaseError::BadRow("divergences"))
    }

    /// What divergences are due to, the most frequent first.
    pub(in crate::store) async fn causes(&mut self, listing: &Listing) -> Result<Vec<StoredCause>> {
        let sql = "SELECT route, signature, pairs, first_unix_ms, last_unix_ms, json FROM causes
             WHERE ($1 IS NULL OR route = $1) AND last_unix_ms >= $2 ORDER BY pairs DESC, last_unix_ms DESC LIMIT $3";
        let rows = self.link.rows(sql, &listed(listing)).await.map_err(sql_error("list causes"))?;
        rows.iter().map(cause_of).collect::<Option<Vec<_>>>().ok_or(DatabaseError::BadRow("causes"))
    }

    /// Causes that were accepted.
    pub(in crate::store) async fn accepted(&mut self) -> Result<Vec<(AcceptedKey, Acceptance)>> {
        let sql = "SELECT route, signature, who, at_unix_ms, reason, until, json FROM accepted";
        let rows = self.link.rows(sql, &[]).await.map_err(sql_error("read the accepted causes"))?;
        rows.iter().map(accepted_of).collect::<Option<Vec<_>>>().ok_or(DatabaseError::BadRow("accepted"))
    }
}

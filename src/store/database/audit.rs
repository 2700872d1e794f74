//! The audit: entries that are linked to those before.

use strangler_core::audit::{Said, Verifier, link};

use crate::store::database::rows::audit_of;
use crate::store::database::{Database, DatabaseError, Result, listed, sql_error};
use crate::store::link::{Dialect, Link};
use crate::store::{AuditEntry, Listing};

/// Entries that are looked at in one go.
const PAGE_ROWS: u64 = 5_000;

impl Database {
    /// Audit entries, newest first.
    pub(in crate::store) async fn audit(&mut self, listing: &Listing) -> Result<Vec<AuditEntry>> {
        let sql = "SELECT seq, at_unix_ms, who, what, route, before, after, reason, accepted, link FROM audit
             WHERE ($1 IS NULL OR route = $1) AND at_unix_ms >= $2 ORDER BY seq DESC LIMIT $3";
        let rows = self.link.rows(sql, &listed(listing)).await.map_err(sql_error("list the audit"))?;
        rows.iter().map(audit_of).collect::<Option<Vec<_>>>().ok_or(DatabaseError::BadRow("audit"))
    }

    /// Follows the chain a page further behind the entry with the number `after`; answers the number of the last one, and whether there
    /// may be more.
    pub(in crate::store) async fn follow_audit(&mut self, verifier: &mut Verifier, after: u64) -> Result<(u64, bool)> {
        let sql = "SELECT seq, at_unix_ms, who, what, route, before, after, reason, accepted, link FROM audit
             WHERE seq > $1 ORDER BY seq LIMIT $2";
        let rows = self.link.rows(sql, &[after.into(), PAGE_ROWS.into()]).await.map_err(sql_error("read the audit"))?;
        let mut last = after;
        for row in &rows {
            let entry = audit_of(row).ok_or(DatabaseError::BadRow("audit"))?;
            verifier.take(entry.seq, &said(&entry), &entry.link);
            last = entry.seq;
        }
        Ok((last, rows.len() as u64 == PAGE_ROWS))
    }
}

/// Adds entries behind the last one, inside of a transaction.
pub(super) async fn add(database: &mut Link, audit: &[AuditEntry]) -> sqlx::Result<()> {
    if audit.is_empty() {
        return Ok(());
    }
    if database.dialect() == Dialect::Postgres {
        // Another process adds entries, too: each must see the other's last one. Let go at the transaction's end.
        database.script("SELECT pg_advisory_xact_lock(7310868)").await?;
    }
    let last = database.row("SELECT link FROM audit ORDER BY seq DESC LIMIT 1", &[]).await?;
    let mut last = last.and_then(|row| row.text("link")).unwrap_or_default();
    for entry in audit {
        last = link(&last, &said(entry));
        database
            .run(
                "INSERT INTO audit (at_unix_ms, who, what, route, before, after, reason, accepted, link)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                &[
                    entry.at_unix_ms.into(),
                    (&entry.who).into(),
                    (&entry.what).into(),
                    (&entry.route).into(),
                    (&entry.from).into(),
                    (&entry.to).into(),
                    (&entry.reason).into(),
                    u64::from(entry.accepted).into(),
                    (&last).into(),
                ],
            )
            .await?;
    }
    Ok(())
}

fn said(entry: &AuditEntry) -> Said<'_> {
    Said {
        at_unix_ms: entry.at_unix_ms,
        who: &entry.who,
        what: &entry.what,
        route: entry.route.as_deref(),
        from: entry.from.as_deref(),
        to: entry.to.as_deref(),
        reason: &entry.reason,
        accepted: entry.accepted,
    }
}

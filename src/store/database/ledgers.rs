//! How far rollouts have come, and their ledgers: counts, and the keys that they were counted for in pieces.

use strangler_core::ledger::Saved;
use strangler_core::name::RouteName;
use strangler_core::runtime::Progress;

use crate::store::StoredLedger;
use crate::store::database::{Database, DatabaseError, Result, sql_error};
use crate::store::link::{Dialect, Link, Row};

impl Database {
    pub(super) async fn rollouts(&mut self) -> Result<Vec<(RouteName, Progress)>> {
        // A file of an earlier version that can only be read has no such table yet; its kills still count.
        if self.link.dialect() == Dialect::Sqlite {
            let tables = "SELECT count(*) AS n FROM sqlite_master WHERE type = 'table' AND name = 'rollouts'";
            if self.link.number(tables, &[]).await.map_err(sql_error("read its tables"))? == 0 {
                return Ok(Vec::new());
            }
        }
        let rows = self.link.rows("SELECT route, progress FROM rollouts", &[]).await;
        let rows = rows.map_err(sql_error("read how far rollouts have come"))?;
        let one = |row: &Row| Some((row.text("route")?.parse().ok()?, Progress::from_json(&row.text("progress")?)?));
        rows.iter().map(one).collect::<Option<_>>().ok_or(DatabaseError::BadRow("rollouts"))
    }

    /// What has changed of ledgers, all of it in one transaction: counts without their keys would count again.
    pub(in crate::store) async fn save_ledgers(&mut self, ledgers: &[(RouteName, Saved)]) -> Result<()> {
        const DOING: &str = "save what rollouts have counted";
        self.link.begin().await.map_err(sql_error(DOING))?;
        let done = save(&mut self.link, ledgers).await;
        self.link.end(done).await.map_err(sql_error(DOING))
    }

    /// Every ledger.
    pub(in crate::store) async fn ledgers(&mut self) -> Result<Vec<StoredLedger>> {
        const DOING: &str = "read what rollouts have counted";
        let rows = self.link.rows("SELECT route, counts FROM ledgers", &[]).await.map_err(sql_error(DOING))?;
        let mut ledgers = Vec::with_capacity(rows.len());
        for row in &rows {
            let bad = DatabaseError::BadRow("ledgers");
            let (Some(route), Some(counts)) = (row.text("route"), row.text("counts")) else { return Err(bad) };
            let pieces = "SELECT keys FROM ledger_keys WHERE route = $1 ORDER BY piece";
            let pieces = self.link.rows(pieces, &[(&route).into()]).await.map_err(sql_error(DOING))?;
            let keys = pieces.iter().map(|row| row.bytes("keys")).collect::<Option<_>>();
            let (Ok(route), Some(keys)) = (route.parse(), keys) else { return Err(bad) };
            ledgers.push(StoredLedger { route, counts, keys });
        }
        Ok(ledgers)
    }
}

async fn save(link: &mut Link, ledgers: &[(RouteName, Saved)]) -> sqlx::Result<()> {
    for (route, saved) in ledgers {
        let route = route.as_str();
        if saved.is_whole {
            link.run("DELETE FROM ledger_keys WHERE route = $1", &[route.into()]).await?;
        }
        let sql = "INSERT INTO ledgers (route, counts) VALUES ($1, $2)
                   ON CONFLICT (route) DO UPDATE SET counts = excluded.counts";
        link.run(sql, &[route.into(), (&saved.counts).into()]).await?;
        if !saved.keys.is_empty() {
            let sql = "INSERT INTO ledger_keys (route, piece, keys)
                       SELECT $1, coalesce(max(piece), 0) + 1, $2 FROM ledger_keys WHERE route = $3";
            link.run(sql, &[route.into(), saved.keys.as_slice().into(), route.into()]).await?;
        }
    }
    Ok(())
}

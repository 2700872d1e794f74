//! What was found of paths that no route covers: a row for each endpoint, written whole.

use strangler_core::discovery::SavedEndpoint;

use crate::store::database::{Database, Result, sql_error};
use crate::store::link::{Link, Row};

/// Most rows that are read back: as many as may be found.
const ROWS_MAX: i64 = 110_000;

impl Database {
    /// Puts these in the place of what was there and takes those out, all of it or nothing.
    pub(in crate::store) async fn save_endpoints(&mut self, changed: &[SavedEndpoint], gone: &[u64]) -> Result<()> {
        const DOING: &str = "save what was found";
        self.link.begin().await.map_err(sql_error(DOING))?;
        let done = save(&mut self.link, changed, gone).await;
        self.link.end(done).await.map_err(sql_error(DOING))
    }

    /// All of them. A row that makes no sense is left out: it loses nothing else.
    pub(in crate::store) async fn endpoints(&mut self) -> Result<Vec<SavedEndpoint>> {
        let rows = self.link.rows("SELECT key, counts FROM endpoints LIMIT $1", &[ROWS_MAX.into()]).await;
        let rows = rows.map_err(sql_error("read what was found"))?;
        let one = |row: &Row| {
            let key = u64::from_str_radix(&row.text("key")?, 16).ok()?;
            Some(SavedEndpoint { key, counts: row.text("counts")? })
        };
        Ok(rows.iter().filter_map(one).collect())
    }
}

async fn save(link: &mut Link, changed: &[SavedEndpoint], gone: &[u64]) -> sqlx::Result<()> {
    // In the order of their keys: two processes that write the same rows must not wait for each other in a ring.
    let mut changed: Vec<&SavedEndpoint> = changed.iter().collect();
    changed.sort_by_key(|one| one.key);
    for one in changed {
        let sql = "INSERT INTO endpoints (key, counts) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET counts = excluded.counts";
        link.run(sql, &[format!("{:016x}", one.key).as_str().into(), (&one.counts).into()]).await?;
    }
    for key in gone {
        link.run("DELETE FROM endpoints WHERE key = $1", &[format!("{key:016x}").as_str().into()]).await?;
    }
    Ok(())
}

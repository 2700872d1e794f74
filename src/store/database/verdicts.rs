//! What is known of endpoints: a row for each route, written whole.

use strangler_core::noise::ledger::SavedRoute;

use crate::store::database::{Database, Result, sql_error};
use crate::store::link::{Link, Row};

impl Database {
    /// Puts these routes in the place of what was there, all of them or none.
    pub(in crate::store) async fn save_verdicts(&mut self, routes: &[SavedRoute]) -> Result<()> {
        const DOING: &str = "save what is known of endpoints";
        self.link.begin().await.map_err(sql_error(DOING))?;
        let done = save(&mut self.link, routes).await;
        self.link.end(done).await.map_err(sql_error(DOING))
    }

    /// All of it. A row that makes no sense is left out: it proves nothing.
    pub(in crate::store) async fn verdicts(&mut self) -> Result<Vec<SavedRoute>> {
        let rows = self.link.rows("SELECT route, counts FROM verdicts", &[]).await;
        let rows = rows.map_err(sql_error("read what is known of endpoints"))?;
        let one = |row: &Row| Some(SavedRoute { route: row.text("route")?.parse().ok()?, counts: row.text("counts")? });
        Ok(rows.iter().filter_map(one).collect())
    }
}

async fn save(link: &mut Link, routes: &[SavedRoute]) -> sqlx::Result<()> {
    // In the order of their keys: two processes that write the same rows must not wait for each other in a ring.
    let mut routes: Vec<&SavedRoute> = routes.iter().collect();
    routes.sort_by(|a, b| a.route.cmp(&b.route));
    for one in routes {
        let sql = "INSERT INTO verdicts (route, counts) VALUES ($1, $2)
                   ON CONFLICT (route) DO UPDATE SET counts = excluded.counts";
        link.run(sql, &[one.route.as_str().into(), (&one.counts).into()]).await?;
    }
    Ok(())
}

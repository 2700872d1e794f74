//! What legacy was asked, by day: counts that are added to those that are there, so that several processes may write them.

use strangler_core::coverage::{Counts, DAYS, Row, Sort, day_of_unix_ms};

use crate::store::database::{Database, Result, sql_error};
use crate::store::link::{Link, Row as Found};
use crate::store::now_unix_ms;

/// Most rows that are read back; the newest go first.
const ROWS_MAX: i64 = 400_000;

impl Database {
    /// Adds a batch in one transaction.
    pub(in crate::store) async fn add_coverage(&mut self, rows: &[Row]) -> Result<()> {
        const DOING: &str = "save what was seen";
        self.link.begin().await.map_err(sql_error(DOING))?;
        let done = add(&mut self.link, rows).await;
        self.link.end(done).await.map_err(sql_error(DOING))
    }

    /// What was seen since the window began. A row that makes no sense is left out: it proves nothing, and loses nothing else.
    pub(in crate::store) async fn coverage(&mut self) -> Result<Vec<Row>> {
        let sql = "SELECT route, day, sort, name, requests, comparisons FROM coverage WHERE day >= $1 ORDER BY day DESC LIMIT $2";
        let rows = self.link.rows(sql, &[first_day().into(), ROWS_MAX.into()]).await;
        Ok(rows.map_err(sql_error("read what was seen"))?.iter().filter_map(row_of).collect())
    }

    /// Takes out what is older than the window.
    pub(in crate::store) async fn sweep_coverage(&mut self) -> Result<()> {
        let sql = "DELETE FROM coverage WHERE day < $1";
        self.link.run(sql, &[first_day().into()]).await.map(drop).map_err(sql_error("sweep what was seen"))
    }
}

async fn add(link: &mut Link, rows: &[Row]) -> sqlx::Result<()> {
    // In the order of their keys: two processes that write the same rows must not wait for each other in a ring.
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by(|a, b| (&a.route, a.day, a.sort, &a.name).cmp(&(&b.route, b.day, b.sort, &b.name)));
    for row in rows {
        let sql = "INSERT INTO coverage (route, day, sort, name, requests, comparisons) VALUES ($1, $2, $3, $4, $5, $6)
                   ON CONFLICT (route, day, sort, name) DO UPDATE SET requests = coverage.requests + excluded.requests,
                   comparisons = coverage.comparisons + excluded.comparisons";
        let values = [
            row.route.as_str().into(),
            u64::from(row.day).into(),
            row.sort.as_str().into(),
            (&*row.name).into(),
            row.counts.requests.into(),
            row.counts.comparisons.into(),
        ];
        link.run(sql, &values).await?;
    }
    Ok(())
}

fn first_day() -> u64 {
    u64::from(day_of_unix_ms(now_unix_ms()).saturating_sub(DAYS))
}

fn row_of(row: &Found) -> Option<Row> {
    let name = row.text("name")?;
    Some(Row {
        route: row.text("route")?.parse().ok()?,
        day: u32::try_from(row.number("day")?).ok()?,
        sort: Sort::of(&row.text("sort")?)?,
        name: name.into(),
        counts: Counts { requests: row.number("requests")?, comparisons: row.number("comparisons")? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreLimits};

    fn row(day: u32, name: &str, requests: u64) -> Row {
        let counts = Counts { requests, comparisons: requests / 2 };
        Row { route: "cart".parse().unwrap(), day, sort: Sort::ParameterSet, name: name.into(), counts }
    }

    #[tokio::test]
    async fn what_two_processes_have_seen_adds_up_and_what_is_old_goes() {
        let dir = tempfile::tempdir().unwrap();
        let today = day_of_unix_ms(now_unix_ms());
        let old = row(today - DAYS - 1, "old", 1);
        let (one, _) = Store::open(dir.path(), StoreLimits::default()).await;
        let (two, _) = Store::open(dir.path(), StoreLimits::default()).await;
        one.add_coverage(vec![row(today, "a&b", 10), row(today - DAYS, "a", 4), old]).await.unwrap();
        two.add_coverage(vec![row(today, "a&b", 5)]).await.unwrap();
        let sum = Row { counts: Counts { requests: 15, comparisons: 7 }, ..row(today, "a&b", 0) };
        assert_eq!(two.coverage().await.unwrap(), [sum.clone(), row(today - DAYS, "a", 4)]);
        one.close().await;
        two.close().await;

        // Swept at the start, too.
        let (again, _) = Store::open(dir.path(), StoreLimits::default()).await;
        assert_eq!(again.coverage().await.unwrap()[0], sum);
        again.close().await;
    }

    #[tokio::test]
    async fn without_a_file_nothing_is_taken_for_stored() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("not-a-directory"), "").unwrap();
        let (store, _) = Store::open(&dir.path().join("not-a-directory"), StoreLimits::default()).await;
        assert!(store.coverage().await.is_err());
        assert!(store.add_coverage(vec![row(20_000, "a", 1)]).await.is_err());
    }
}

//! What legacy was asked, by day: counts that are added to those that are there, so that several processes may write them.

use sqlx::Row as _;
use strangler_core::coverage::{Counts, DAYS, Row, Sort, day_of_unix_ms};

use crate::store::now_unix_ms;
use crate::store::sqlite::rows::signed;
use crate::store::sqlite::{Database, Result, sql_error};

/// The table, in words that PostgreSQL has, too.
pub(super) const MIGRATION: &str = "
    CREATE TABLE coverage (
        route TEXT NOT NULL, day BIGINT NOT NULL, sort TEXT NOT NULL, name TEXT NOT NULL, requests BIGINT NOT NULL,
        comparisons BIGINT NOT NULL, PRIMARY KEY (route, day, sort, name)
    );
    CREATE INDEX coverage_by_day ON coverage (day);
";

/// Most rows that are read back; the newest go first.
const ROWS_MAX: i64 = 400_000;

impl Database {
    /// Adds a batch in one transaction.
    pub(in crate::store) async fn add_coverage(&mut self, rows: &[Row]) -> Result<()> {
        const DOING: &str = "save what was seen";
        self.begin(DOING).await?;
        let mut done = Ok(());
        for row in rows {
            done = sqlx::query(
                "INSERT INTO coverage (route, day, sort, name, requests, comparisons) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (route, day, sort, name) DO UPDATE SET requests = coverage.requests + excluded.requests,
                 comparisons = coverage.comparisons + excluded.comparisons",
            )
            .bind(row.route.as_str())
            .bind(i64::from(row.day))
            .bind(row.sort.as_str())
            .bind(&*row.name)
            .bind(signed(row.counts.requests))
            .bind(signed(row.counts.comparisons))
            .execute(&mut self.connection)
            .await
            .map(drop);
            if done.is_err() {
                break;
            }
        }
        self.end(DOING, done).await
    }

    /// What was seen since the window began. A row that makes no sense is left out: it proves nothing, and loses nothing else.
    pub(in crate::store) async fn coverage(&mut self) -> Result<Vec<Row>> {
        let rows = sqlx::query(
            "SELECT route, day, sort, name, requests, comparisons FROM coverage WHERE day >= ?1 ORDER BY day DESC LIMIT ?2",
        )
        .bind(i64::from(first_day()))
        .bind(ROWS_MAX)
        .fetch_all(&mut self.connection)
        .await
        .map_err(sql_error("read what was seen"))?;
        Ok(rows.iter().filter_map(row_of).collect())
    }

    /// Takes out what is older than the window.
    pub(in crate::store) async fn sweep_coverage(&mut self) -> Result<()> {
        sqlx::query("DELETE FROM coverage WHERE day < ?1")
            .bind(i64::from(first_day()))
            .execute(&mut self.connection)
            .await
            .map(drop)
            .map_err(sql_error("sweep what was seen"))
    }
}

fn first_day() -> u32 {
    day_of_unix_ms(now_unix_ms()).saturating_sub(DAYS)
}

fn row_of(row: &sqlx::sqlite::SqliteRow) -> Option<Row> {
    let (route, sort, name): (String, String, String) =
        (row.try_get("route").ok()?, row.try_get("sort").ok()?, row.try_get("name").ok()?);
    let count = |column: &str| row.try_get::<i64, _>(column).ok().and_then(|count| u64::try_from(count).ok());
    Some(Row {
        route: route.parse().ok()?,
        day: u32::try_from(row.try_get::<i64, _>("day").ok()?).ok()?,
        sort: Sort::of(&sort)?,
        name: name.into(),
        counts: Counts { requests: count("requests")?, comparisons: count("comparisons")? },
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
        let mut database =
            crate::store::sqlite::open(dir.path(), &dir.path().join("strangler.db")).await.database.unwrap();
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM coverage").fetch_one(&mut database.connection).await.unwrap();
        assert_eq!(rows, 2);
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

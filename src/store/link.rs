//! One connection to either database: the same statements, the same values, the same rows.
//!
//! Statements are written once. What they may use is what both understand (`$1`, `ON CONFLICT`, window functions, `CASE`), numbers
//! are `i64` and texts are texts on both sides; what differs is chosen by [`Link::dialect`].

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Postgres, Row as _, Sqlite};
use tokio::time::Instant;

/// A server's longest silence to one statement, and its longest transaction. A file has bounds of its own (`busy_timeout`).
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(3);
/// The longest transaction, and the longest statement that nobody waits for.
pub(super) const WORK_MAX: Duration = Duration::from_secs(10);

/// Which words the database has for what is not portable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

/// A value of a statement.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Text(&'a str),
    MaybeText(Option<&'a str>),
    Number(i64),
    Bytes(&'a [u8]),
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Value::Number(number)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Value::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(text)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Value::Text(text)
    }
}

impl<'a> From<&'a Option<String>> for Value<'a> {
    fn from(text: &'a Option<String>) -> Self {
        Value::MaybeText(text.as_deref())
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Value::Bytes(bytes)
    }
}

/// What was found.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! of_row {
    ($row:expr, $name:expr) => {
        match $row {
            Row::Sqlite(row) => row.try_get($name).ok(),
            Row::Postgres(row) => row.try_get($name).ok(),
        }
    };
}

impl Row {
    pub(super) fn text(&self, name: &str) -> Option<String> {
        of_row!(self, name)
    }

    /// `Some(None)` where there is nothing, `None` where there is something else.
    pub(super) fn maybe_text(&self, name: &str) -> Option<Option<String>> {
        of_row!(self, name)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let number: Option<i64> = of_row!(self, name);
        number.and_then(|number| u64::try_from(number).ok())
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.number(name).map(|number| number != 0)
    }
}

macro_rules! query {
    ($database:ty, $sql:expr, $values:expr) => {
        $values.iter().fold(sqlx::query::<$database>(AssertSqlSafe($sql)), |query, value| match *value {
            Value::Text(text) => query.bind(plain(text)),
            Value::MaybeText(text) => query.bind(text.map(plain)),
            Value::Number(number) => query.bind(number),
            Value::Bytes(bytes) => query.bind(bytes),
        })
    };
}

/// A connection.
pub(super) enum Link {
    Sqlite(SqliteConnection),
    Postgres {
        /// Boxed: it is the larger one by far.
        connection: Box<PgConnection>,
        /// When the transaction under way must be over; `None`: there is none.
        until: Option<Instant>,
    },
}

impl Link {
    pub(super) fn postgres(connection: PgConnection) -> Link {
        Link::Postgres { connection: Box::new(connection), until: None }
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Link::Sqlite(_) => Dialect::Sqlite,
            Link::Postgres { .. } => Dialect::Postgres,
        }
    }

    /// One statement; answers how many rows it was about.
    pub(super) async fn run(&mut self, sql: &'static str, values: &[Value<'_>]) -> sqlx::Result<u64> {
        match self {
            Link::Sqlite(connection) => {
                query!(Sqlite, sql, values).execute(connection).await.map(|done| done.rows_affected())
            }
            Link::Postgres { connection, until } => {
                let work = query!(Postgres, sql, values).execute(&mut **connection);
                within(*until, WORK_MAX, work).await.map(|done| done.rows_affected())
            }
        }
    }

    /// Several statements without values, for which nothing is answered.
    pub(super) async fn script(&mut self, sql: impl Into<String>) -> sqlx::Result<()> {
        let sql = AssertSqlSafe(sql.into());
        match self {
            Link::Sqlite(connection) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
            Link::Postgres { connection, until } => {
                within(*until, WORK_MAX, sqlx::raw_sql(sql).execute(&mut **connection)).await.map(drop)
            }
        }
    }

    /// All rows that a question has for an answer.
    pub(super) async fn rows(&mut self, sql: &'static str, values: &[Value<'_>]) -> sqlx::Result<Vec<Row>> {
        match self {
            Link::Sqlite(connection) => {
                let rows = query!(Sqlite, sql, values).fetch_all(connection).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Link::Postgres { connection, until } => {
                let rows = within(*until, ANSWER_MAX, query!(Postgres, sql, values).fetch_all(&mut **connection));
                Ok(rows.await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// The first of them.
    pub(super) async fn row(&mut self, sql: &'static str, values: &[Value<'_>]) -> sqlx::Result<Option<Row>> {
        self.rows(sql, values).await.map(|rows| rows.into_iter().next())
    }

    /// One number, which the question names `n`; 0 where there is none.
    pub(super) async fn number(&mut self, sql: &'static str, values: &[Value<'_>]) -> sqlx::Result<u64> {
        let row = self.row(sql, values).await?;
        Ok(row.and_then(|row| row.number("n")).unwrap_or_default())
    }

    /// Begins a transaction, whatever a failure before has left open: inside of that one nothing would ever be committed.
    pub(super) async fn begin(&mut self) -> sqlx::Result<()> {
        match self {
            Link::Sqlite(_) => {
                // Usually there is none, and this says so.
                let _ = self.script("ROLLBACK").await;
                self.script("BEGIN IMMEDIATE").await
            }
            Link::Postgres { until, .. } => {
                if until.take().is_some() {
                    self.script("ROLLBACK").await?;
                }
                self.script("BEGIN").await?;
                if let Link::Postgres { until, .. } = self {
                    *until = Some(Instant::now() + WORK_MAX);
                }
                Ok(())
            }
        }
    }

    /// Ends it: committed, or undone.
    pub(super) async fn end<T>(&mut self, done: sqlx::Result<T>) -> sqlx::Result<T> {
        let ended = match done {
            Ok(done) => self.script("COMMIT").await.map(|()| done),
            Err(error) => Err(error),
        };
        if let Link::Postgres { until, .. } = self {
            *until = None;
        }
        if ended.as_ref().err().is_some_and(|error| self.may_go_on(error)) {
            // SQLite has perhaps undone it itself.
            let _ = self.script("ROLLBACK").await;
        }
        ended
    }

    /// Whether the connection is of any use after this: a server that was silent is not asked again on it.
    fn may_go_on(&self, error: &sqlx::Error) -> bool {
        self.dialect() == Dialect::Sqlite || error.as_database_error().is_some()
    }

    /// Says goodbye, if that is quick.
    pub(super) async fn close(self) {
        match self {
            Link::Sqlite(connection) => drop(connection.close().await),
            Link::Postgres { connection, .. } => {
                let _ = tokio::time::timeout(ANSWER_MAX, connection.close()).await;
            }
        }
    }
}

/// A server may be silent for ever.
async fn within<T>(
    until: Option<Instant>,
    most: Duration,
    work: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    let until = until.unwrap_or_else(|| Instant::now() + most);
    let silent = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time"));
    tokio::time::timeout_at(until, work).await.unwrap_or_else(|_| Err(silent()))
}

/// A text of PostgreSQL holds no NUL; one that does must not cost its whole batch.
fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

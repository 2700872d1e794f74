//! The server: where it is, how it is reached, and how its tables are made by whoever comes first.
//!
//! The address is a secret, for it has the password in it. It is read from its file for every connection (so that another password is
//! taken as soon as it is there), is never kept, and no message has any of it but host, port, database and user.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::time::timeout;

use crate::store::database::{Database, DatabaseError, Result, sql_error};
use crate::store::link::{ANSWER_MAX, Dialect, Link};
use crate::store::schema::migrations;

/// Bytes of an address, and more than any has.
const ADDRESS_BYTES_MAX: u64 = 8 << 10;
/// What the tables are made under: two processes that start at once take turns. The word "strangler", cut to eight bytes.
const MIGRATION_LOCK: i64 = i64::from_be_bytes(*b"strangle");
/// What an address may have behind its `?`. Others would be ignored, and logged with their value.
const PARAMETERS: [&str; 7] =
    ["sslmode", "sslrootcert", "sslcert", "sslkey", "application_name", "host", "statement-cache-capacity"];

/// Why a file holds no address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The file could not be read.
    #[error("cannot read the database's address from {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is none, or one that cannot be understood. What it says is not repeated.
    #[error("{} does not hold the address of a PostgreSQL database (postgres://user:password@host:5432/database): {why}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
}

/// Reads an address and tries whether it can be understood; nothing is connected to.
///
/// # Errors
/// When it cannot be read or understood.
pub fn check(url_file: &Path) -> std::result::Result<(), AddressError> {
    read(url_file).map(drop)
}

fn read(path: &Path) -> std::result::Result<PgConnectOptions, AddressError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(ADDRESS_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > ADDRESS_BYTES_MAX => {
            Err(AddressError::Malformed { path: path.to_owned(), why: "it is longer than 8 KiB" })
        }
        Ok(_) => understand(text.trim()).map_err(|why| AddressError::Malformed { path: path.to_owned(), why }),
        Err(source) => Err(AddressError::Read { path: path.to_owned(), source }),
    }
}

/// A password that is not encoded shifts all that follows it, and part of it would be told as a host's name: such addresses are
/// refused before anything is made of them.
fn understand(text: &str) -> std::result::Result<PgConnectOptions, &'static str> {
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    let rest = rest.ok_or("it does not begin with postgres://")?;
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("there is white space in it");
    }
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if behind.contains(['@', '#']) || authority.matches('@').count() > 1 {
        return Err("in a user's name and a password each of / ? # @ : % is written as % and two digits");
    }
    let parameters = behind.split_once('?').map(|(_, parameters)| parameters.split('&'));
    for parameter in parameters.into_iter().flatten() {
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        if !PARAMETERS.contains(&name) {
            return Err(
                "behind the ? stand sslmode, sslrootcert, sslcert, sslkey, application_name, host and statement-cache-capacity alone",
            );
        }
    }
    let options: PgConnectOptions = text.parse().map_err(|_| "a part of it has no meaning (port, sslmode)")?;
    let bare = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::to_owned);
    let options = bare.into_iter().fold(options, |options, host| options.host(&host));
    let named = options.get_application_name().is_some();
    let options = if named { options } else { options.application_name("strangler") };
    // Statements hold nothing secret, but a slow one is told by the store's health, once.
    Ok(options.disable_statement_logging())
}

/// For people: where it is, and as whom. Never the password.
fn shown(options: &PgConnectOptions) -> String {
    let (host, port) = (options.get_host(), options.get_port());
    let place = options.get_socket().map_or_else(|| format!("{host}:{port}"), |socket| socket.display().to_string());
    let user = options.get_username();
    format!("PostgreSQL at {place}, database {}, as {user}", options.get_database().unwrap_or(user))
}

/// Whether the password and what is stored cross a network to a server that did not prove who it is.
fn is_unproven(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let is_near = options.get_socket().is_some() || matches!(host, "localhost" | "127.0.0.1" | "::1");
    !is_near && !matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull)
}

/// A connection with tables that are up to date, and who the database is: another one after it was lost and made anew.
pub(super) async fn connect(url_file: &Path) -> Result<(Database, String)> {
    let options = read(url_file)?;
    let unreached = |source| DatabaseError::Unreached { server: shown(&options), source };
    let silent = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time"));
    let connection = timeout(ANSWER_MAX, options.connect()).await.unwrap_or_else(|_| Err(silent()));
    let connection = connection.map_err(unreached)?;
    let mut database = Database { link: Link::postgres(connection), inode: None };
    let identity = database.prepare().await?;
    if is_unproven(&options) {
        tracing::warn!(
            server = shown(&options),
            "the database did not prove who it is: sslmode=verify-full in its address asks for that"
        );
    }
    Ok((database, identity))
}

impl Database {
    /// Sets the connection up, and the tables if they are not there or old.
    async fn prepare(&mut self) -> Result<String> {
        const DOING: &str = "set the connection up";
        // What nobody waits for here any more, the server need not do either; what an administrator has set stays.
        let patience = "SELECT set_config('statement_timeout', '10000', false) AS a
                        WHERE current_setting('statement_timeout') = '0'";
        self.link.rows(patience, &[]).await.map_err(sql_error(DOING))?;
        // Tables of our own, beside those of others that may have the same names.
        let own = "SELECT set_config('search_path', 'strangler', false) AS a";
        self.link.rows(own, &[]).await.map_err(sql_error(DOING))?;
        if migrations(Dialect::Postgres, self.version().await?).is_none_or(|todo| !todo.is_empty()) {
            self.migrate().await?;
        }
        self.touch().await?;
        self.noted("identity").await?.ok_or(DatabaseError::BadRow("meta"))
    }

    async fn version(&mut self) -> Result<u64> {
        const DOING: &str = "read its version";
        let is_there = "SELECT count(*) AS n FROM pg_tables WHERE schemaname = 'strangler' AND tablename = 'meta'";
        if self.link.number(is_there, &[]).await.map_err(sql_error(DOING))? == 0 {
            return Ok(0);
        }
        let version = self.noted("version").await?;
        version.and_then(|version| version.parse().ok()).ok_or(DatabaseError::BadRow("meta"))
    }

    /// All of it or nothing, by one process at a time.
    async fn migrate(&mut self) -> Result<()> {
        self.link.begin().await.map_err(sql_error("bring its tables up to date"))?;
        let done = self.try_migrate().await;
        match done {
            Ok(()) => self.link.end(Ok(())).await.map_err(sql_error("bring its tables up to date")),
            // The connection is given up, and with it what was begun.
            Err(error) => Err(error),
        }
    }

    async fn try_migrate(&mut self) -> Result<()> {
        const DOING: &str = "bring its tables up to date";
        let lock = "SELECT CAST(pg_advisory_xact_lock($1) AS TEXT) AS locked";
        self.link.rows(lock, &[MIGRATION_LOCK.into()]).await.map_err(sql_error("wait for its turn to make tables"))?;
        let is_there = "SELECT count(*) AS n FROM pg_namespace WHERE nspname = 'strangler'";
        if self.link.number(is_there, &[]).await.map_err(sql_error(DOING))? == 0 {
            self.link.script("CREATE SCHEMA strangler").await.map_err(sql_error("make the schema strangler"))?;
        }
        let version = self.version().await?;
        let todo = migrations(Dialect::Postgres, version).ok_or(DatabaseError::Newer { version })?;
        for (version, sql) in todo {
            self.link.script(sql).await.map_err(sql_error(DOING))?;
            self.note("version", &version.to_string()).await?;
        }
        let identity = "INSERT INTO meta (key, value) VALUES ('identity', CAST(gen_random_uuid() AS TEXT))
                        ON CONFLICT (key) DO NOTHING";
        self.link.run(identity, &[]).await.map(drop).map_err(sql_error(DOING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_understood_and_shown_without_its_password() {
        for (text, place) in [
            ("postgres://app:s3cr%2Ft@db.example.com/shop?sslmode=verify-full", "db.example.com:5432"),
            ("postgresql://app:s3cr%40t@[::1]:5433/shop", "::1:5433"),
        ] {
            let told = shown(&understand(text).unwrap());
            assert_eq!(told, format!("PostgreSQL at {place}, database shop, as app"));
        }
    }

    #[test]
    fn what_could_tell_a_part_of_a_password_is_refused_without_repeating_it() {
        for text in [
            "mysql://app:hunter2@db/shop",
            "postgres://app:hunter2/3@db/shop",
            "postgres://app:123/hunter2@db/shop",
            "postgres://app:123?hunter2@db/shop",
            "postgres://app:123#hunter2@db/shop",
            "postgres://app:hun@ter2@db/shop",
            "postgres://app:hun ter2@db/shop",
            "postgres://app:hunter2@db/shop?passwd=hunter2",
            "postgres://app:hunter2@db/shop?sslmode=hunter2",
            "postgres://app:x@db:hunter2/shop",
            "",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("url");
            std::fs::write(&file, text).unwrap();
            let error = check(&file).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_server_far_away_that_need_not_prove_itself_is_told() {
        let is_told = |text| is_unproven(&understand(text).unwrap());
        assert!(is_told("postgres://app@db.example.com/shop") && is_told("postgres://app@db/shop?sslmode=require"));
        assert!(!is_told("postgres://app@db/shop?sslmode=verify-full") && !is_told("postgres://app@127.0.0.1/shop"));
    }
}

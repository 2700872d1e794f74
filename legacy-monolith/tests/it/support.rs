//! A monolith on a free port, with a database of its own that is thrown away at the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use axum::http::Method;
use estate_chassis::bugs::Bugs;
use estate_chassis::client::{self, Answer};
use estate_chassis::service::{self, Running};
use estate_chassis::store::Database;
use legacy_monolith::{Bank, open, router};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::OnceCell;

pub(crate) struct Monolith {
    running: Running,
    pub(crate) database: Database,
    data: TempDir,
}

/// A freshly seeded database. Seeding takes most of a second without optimisation, and every test wants one.
static SEEDED: OnceCell<Vec<u8>> = OnceCell::const_new();

async fn seeded() -> Vec<u8> {
    let data = Monolith::start_from_nothing().await.stop().await;
    std::fs::read(data.path().join("legacy.db")).expect("a database")
}

impl Monolith {
    pub(crate) async fn start() -> Monolith {
        let data = tempfile::tempdir().expect("a directory");
        let seeded = SEEDED.get_or_init(seeded).await;
        std::fs::write(data.path().join("legacy.db"), seeded).expect("a file");
        Monolith::on(data).await
    }

    /// On a database that has to be seeded first.
    pub(crate) async fn start_from_nothing() -> Monolith {
        Monolith::on(tempfile::tempdir().expect("a directory")).await
    }

    pub(crate) async fn on(data: TempDir) -> Monolith {
        let mut shop = open(data.path(), Bugs::none()).await.expect("an open shop");
        shop.bank = Bank { slow: Duration::from_millis(50), silent: Duration::from_millis(50) };
        let database = shop.database.clone();
        let running = service::start((Ipv4Addr::LOCALHOST, 0).into(), router(shop)).await.expect("a free port");
        Monolith { running, database, data }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.data.path()
    }

    /// Stops it and gives back its data.
    pub(crate) async fn stop(self) -> TempDir {
        self.running.stop().await;
        self.database.close().await;
        self.data
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        client::get(self.address(), path).await.expect("an answer")
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        client::post_json(self.address(), path, &[], body).await.expect("an answer")
    }

    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        client::call(self.address(), method, path, headers, body.to_owned()).await.expect("an answer")
    }

    /// Posts a form as a browser would that keeps the given session.
    pub(crate) async fn form(&self, path: &str, sid: &str, body: &str) -> Answer {
        let cookie = format!("SHOPSID={sid}");
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("cookie", cookie.as_str())];
        self.send(Method::POST, path, &headers, body).await
    }

    pub(crate) async fn page(&self, path: &str, sid: &str) -> Answer {
        self.send(Method::GET, path, &[("cookie", &format!("SHOPSID={sid}"))], "").await
    }

    /// One number from the database.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.database.reader()).await.expect("a number")
    }
}

//! A start with a store on a server, which may not be there.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use strangler_core::chain::chain;
use tokio::sync::oneshot;

use crate::store::database::Database;
use crate::store::merge::{Known, merged};
use crate::store::writer::{Arrived, FIRST_MAX, Server, Writer, attempt};
use crate::store::{FILE_NAME, Loaded, Store, StoreHealth, StoreLimits, sqlite};

/// Between two looks whether a server is there.
const SERVER_PROBE_EVERY: Duration = Duration::from_secs(1);

impl Store {
    /// Opens the store in the database that `url_file` names, with a copy of what is in force in the state directory.
    ///
    /// Never fails, and waits for half a second at most: what the database says later comes by [`Loaded::late`].
    pub async fn open_server(state_dir: &Path, url_file: &Path, limits: StoreLimits) -> (Store, Loaded) {
        let limits = StoreLimits { probe_every: limits.probe_every.min(SERVER_PROBE_EVERY), ..limits };
        let copy = state_dir.join(FILE_NAME);
        let mut opened = sqlite::open(state_dir, &copy).await;
        let mut local = opened.database.take().filter(Database::is_lasting);
        let (identity, is_behind) = match &mut local {
            Some(local) => local.told().await,
            None => (None, false),
        };
        let own: Known = std::mem::take(&mut opened.state).into();
        let until = tokio::time::Instant::now() + FIRST_MAX;
        let (early, first) = oneshot::channel();
        let mut attempt = attempt(url_file, limits.pins_max, Some(early));
        let answered = tokio::time::timeout_at(until, first).await.ok().and_then(std::result::Result::ok);
        let known = match answered {
            // A copy that was kept while the database was away may hold a kill that it does not know.
            Some((found, now)) => {
                merged(&found.into(), &own, &BTreeSet::new(), is_behind || identity.as_ref() != Some(&now)).0
            }
            None => own,
        };
        let arrived = tokio::time::timeout_at(until, &mut attempt).await.ok();
        let (late, later) = oneshot::channel();
        let mut server = Server::new(url_file, local, identity.filter(|_| !is_behind), late);
        let mut loaded = Loaded::of(known.clone(), Vec::new(), url_file.to_owned());
        let why = match &arrived {
            None => {
                server.attempt = Some(attempt);
                Some("the database has not answered yet".to_owned())
            }
            Some(Err(error)) => Some(error.to_string()),
            Some(Ok(Err(error))) => Some(chain(error)),
            Some(Ok(Ok(_))) => None,
        };
        let mut arrived = arrived.and_then(Result::ok).and_then(Result::ok);
        if let Some(Arrived { pins, .. }) = &mut arrived {
            server.late = None;
            loaded.pins = std::mem::take(pins);
        } else {
            loaded.late = Some(later);
        }
        let why = why.map(|why| format!("{}: {why}", url_file.display()));
        if let Some(why) = &why {
            tracing::error!(
                why,
                "the store is not healthy; what is in force is kept in the state directory until it is"
            );
        }
        let health = StoreHealth { healthy: why.is_none(), why, lost: opened.lost };
        let store = Store::start("postgres", health, limits, |health, counters| {
            Writer::on_server(server, known, arrived, limits, health, counters)
        });
        (store, loaded)
    }
}

//! A store on a server, which comes and goes: connections are made by a task of its own, so that nobody waits for them, and what is
//! in force is kept in the state directory, too, so that a start needs no server.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strangler_core::chain::chain;
use strangler_core::redact::accept::Accepted;
use strangler_core::runtime::RuntimeState;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::store::database::{Database, DatabaseError, Result, State, io_error};
use crate::store::merge::{Subject, merged};
use crate::store::postgres;
use crate::store::writer::Writer;
use crate::store::{Change, Late, StoredPin};

/// How long a start waits for the server before it goes by what the state directory says. One that is well needs a tenth of it.
pub(in crate::store) const FIRST_MAX: Duration = Duration::from_millis(500);
/// In the local copy: the database that was told last, and whether something was kept that it was not told.
const IDENTITY: &str = "server";
const BEHIND: &str = "server_is_behind";

/// A server that answered.
pub(in crate::store) struct Arrived {
    pub(in crate::store) database: Database,
    pub(in crate::store) identity: String,
    pub(in crate::store) state: State,
    pub(in crate::store) pins: Vec<StoredPin>,
}

/// A try to reach it.
pub(in crate::store) type Attempt = JoinHandle<Result<Arrived>>;

/// Connects and reads. What is in force is passed on `early`: the keys may be many.
pub(in crate::store) fn attempt(
    url_file: &Path,
    pins_max: u64,
    early: Option<oneshot::Sender<(State, String)>>,
) -> Attempt {
    let url_file = url_file.to_owned();
    tokio::spawn(async move {
        let (mut database, identity) = postgres::connect(&url_file).await?;
        let state = database.load().await?;
        if let Some(early) = early {
            let _ = early.send((state.clone(), identity.clone()));
        }
        let pins = database.pins(pins_max).await?;
        Ok(Arrived { database, identity, state, pins })
    })
}

/// What it takes to get back to a server.
pub(in crate::store) struct Server {
    pub(in crate::store) url_file: PathBuf,
    /// The try that is under way.
    pub(in crate::store) attempt: Option<Attempt>,
    /// Which database was told what is known here; `None`: none.
    pub(in crate::store) identity: Option<String>,
    /// What was changed here and is not on record there.
    pub(in crate::store) unsaved: BTreeSet<Subject>,
    /// What is in force, kept in the state directory; `None`: that cannot be written.
    pub(in crate::store) local: Option<Database>,
    /// For what was found when the start did not wait any longer.
    pub(in crate::store) late: Option<oneshot::Sender<Late>>,
}

impl Database {
    /// Of a copy: which database was told what is in it, and whether it holds something that one was not.
    pub(in crate::store) async fn told(&mut self) -> (Option<String>, bool) {
        let identity = self.noted(IDENTITY).await.ok().flatten();
        let is_behind = self.noted(BEHIND).await.ok().flatten().is_some_and(|behind| behind == "1");
        (identity, is_behind)
    }
}

impl Server {
    pub(in crate::store) fn new(
        url_file: &Path,
        local: Option<Database>,
        identity: Option<String>,
        late: oneshot::Sender<Late>,
    ) -> Server {
        Server {
            url_file: url_file.to_owned(),
            attempt: None,
            identity,
            unsaved: BTreeSet::new(),
            local,
            late: Some(late),
        }
    }

    pub(super) async fn close(self) {
        if let Some(attempt) = self.attempt {
            attempt.abort();
        }
        if let Some(local) = self.local {
            local.close().await;
        }
    }

    /// Keeps changes in the state directory. A copy that cannot be kept is given up, and said once.
    async fn keep(&mut self, changes: &[Change], is_behind: Option<bool>) {
        let Some(local) = &mut self.local else { return };
        let kept = async {
            if !changes.is_empty() {
                local.save(changes, &[]).await?;
            }
            match is_behind {
                Some(is_behind) => local.note(BEHIND, if is_behind { "1" } else { "0" }).await,
                None => Ok(()),
            }
        };
        if let Err(error) = kept.await {
            self.give_up_copy(&error);
        }
    }

    fn give_up_copy(&mut self, error: &DatabaseError) {
        let error = chain(error);
        tracing::error!(error, "what is in force cannot be kept in the state directory: a start needs the database");
        self.local = None;
    }
}

/// Waits for the try that is under way; for ever where there is none.
pub(super) async fn arrival(server: &mut Option<Server>) -> Result<Arrived> {
    let Some(attempt) = server.as_mut().and_then(|server| server.attempt.as_mut()) else {
        return std::future::pending().await;
    };
    let ended = attempt.await;
    if let Some(server) = server {
        server.attempt = None;
    }
    ended.unwrap_or_else(|error| Err(io_error("end a try to reach the database")(io::Error::other(error))))
}

impl Writer {
    /// Asks whether the server is there, or tries to reach it.
    pub(super) async fn probe_server(&mut self) {
        if let Some(database) = self.database.as_mut() {
            if let Err(error) = database.ask().await {
                self.fail(&error);
            }
        } else if let Some(server) = self.server.as_mut().filter(|server| server.attempt.is_none()) {
            server.attempt = Some(attempt(&server.url_file, self.limits.pins_max, None));
        }
    }

    /// The server is there: what was changed meanwhile is put on record, and what it says is passed on.
    pub(super) async fn arrive(&mut self, arrived: Result<Arrived>) {
        let mut arrived = match arrived {
            Ok(arrived) => arrived,
            Err(error) => return self.fail(&error),
        };
        let audit = Vec::from(std::mem::take(&mut self.pending_audit));
        let is_handed = self.is_handed;
        let Some(server) = self.server.as_mut() else { return };
        let is_other = server.identity.as_ref() != Some(&arrived.identity);
        let (both, told) = merged(&arrived.state.into(), &self.known, &server.unsaved, is_other);
        // Another process may own it by now, and knows better.
        let told = if is_handed { Vec::new() } else { told };
        if let Err(error) = arrived.database.save(&told, &audit).await {
            self.remember(audit);
            return self.fail(&error);
        }
        server.unsaved.clear();
        server.identity = Some(arrived.identity.clone());
        if let Some(local) = server.local.as_mut().filter(|_| !is_handed) {
            let kept = async {
                local.save_all(&both.all(), &[]).await?;
                local.note(IDENTITY, &arrived.identity).await?;
                local.note(BEHIND, "0").await
            };
            if let Err(error) = kept.await {
                server.give_up_copy(&error);
            }
        }
        if let Some(late) = server.late.take() {
            let runtime = RuntimeState::restore(both.moves.clone(), both.kills.values().cloned());
            let accepted = Accepted(both.accepted.clone());
            let _ = late.send(Late { runtime, pasts: both.pasts.clone(), accepted, pins: arrived.pins });
        }
        self.known = both;
        self.database = Some(arrived.database);
        self.route_bytes.clear();
        self.set_health(None);
        self.sweep().await;
    }

    /// Keeps changes that the server has been told.
    pub(super) async fn keep_local(&mut self, changes: &[Change]) {
        if let Some(server) = &mut self.server {
            server.keep(changes, None).await;
        }
    }

    /// Keeps changes before the server is told.
    pub(super) async fn keep_local_first(&mut self, changes: &[Change]) {
        let Some(server) = self.server.as_mut().filter(|_| !changes.is_empty()) else { return };
        server.unsaved.extend(changes.iter().map(Subject::of));
        server.keep(changes, Some(true)).await;
    }

    /// The server has them.
    pub(super) async fn acknowledged(&mut self, changes: &[Change]) {
        let Some(server) = self.server.as_mut().filter(|_| !changes.is_empty()) else { return };
        for change in changes {
            server.unsaved.remove(&Subject::of(change));
        }
        if server.unsaved.is_empty() {
            server.keep(&[], Some(false)).await;
        }
    }
}

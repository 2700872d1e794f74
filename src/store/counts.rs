//! What is counted and outlives the process: each of its keepers writes what has changed, and reads all of it once.

use strangler_core::coverage::Row;
use strangler_core::discovery::SavedEndpoint;
use strangler_core::ledger::Saved;
use strangler_core::name::RouteName;
use strangler_core::noise::ledger::SavedRoute;
use tokio::sync::oneshot;

use crate::store::writer::Command;
use crate::store::{Store, StoreError, StoredLedger};

impl Store {
    /// Adds to what was seen, all or nothing.
    ///
    /// # Errors
    /// When it is not on the disk; after [`StoreError::TimedOut`] and [`StoreError::Closed`] that cannot be told.
    pub async fn add_coverage(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::AddCoverage { rows, reply })?;
        self.answer(answer).await?
    }

    /// What was seen in the last days, by whichever process.
    ///
    /// # Errors
    /// When there is no sound file, or it cannot be read.
    pub async fn coverage(&self) -> Result<Vec<Row>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Coverage { reply })?;
        self.answer(answer).await?
    }

    /// Keeps what rollouts have counted since they were saved last, all or nothing.
    ///
    /// # Errors
    /// When it is not on record; after [`StoreError::TimedOut`] that cannot be told.
    pub async fn save_ledgers(&self, ledgers: Vec<(RouteName, Saved)>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::SaveLedgers { ledgers, reply })?;
        self.answer(answer).await?
    }

    /// Keeps what is known of the endpoints of these routes, in the place of what was there.
    ///
    /// # Errors
    /// When it is not on record.
    pub async fn save_verdicts(&self, routes: Vec<SavedRoute>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::SaveVerdicts { routes, reply })?;
        self.answer(answer).await?
    }

    /// What was known of endpoints.
    ///
    /// # Errors
    /// When nothing lasting is there, or it cannot be read.
    pub async fn verdicts(&self) -> Result<Vec<SavedRoute>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Verdicts { reply })?;
        self.answer(answer).await?
    }

    /// Puts these endpoints in the place of what was there, and takes out those with these keys.
    ///
    /// # Errors
    /// When it is not on record.
    pub async fn save_endpoints(&self, changed: Vec<SavedEndpoint>, gone: Vec<u64>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::SaveEndpoints { changed, gone, reply })?;
        self.answer(answer).await?
    }

    /// The endpoints that were found before.
    ///
    /// # Errors
    /// When nothing lasting is there, or it cannot be read.
    pub async fn endpoints(&self) -> Result<Vec<SavedEndpoint>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Endpoints { reply })?;
        self.answer(answer).await?
    }

    /// What rollouts had counted.
    ///
    /// # Errors
    /// When nothing lasting is there, or it cannot be read.
    pub async fn ledgers(&self) -> Result<Vec<StoredLedger>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Ledgers { reply })?;
        self.answer(answer).await?
    }
}

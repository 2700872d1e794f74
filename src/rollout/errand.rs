//! What rollouts have to put on record, and ask of it: beside the looks, so that no look waits for a disk.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use strangler_core::ledger::Saved;
use strangler_core::name::RouteName;
use strangler_core::runtime::RolloutMove;

use crate::rollout::{Parts, tell};
use crate::store::{StoreError, StoredLedger};

/// A question to whoever moves users.
pub type Moving<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Moves users.
pub trait Mover: Send + Sync {
    /// Puts a move in force that is no raise, at once and not on record yet; or says why not.
    ///
    /// # Errors
    /// Something else has moved one of its routes meanwhile.
    fn lower(&self, moved: &RolloutMove) -> Result<(), String>;

    /// Puts moves on record that are in force, and where their routes stand now.
    fn record(&self, lowered: Vec<RolloutMove>) -> Moving<'_, ()>;

    /// Puts a move on record and then in force; or says why not.
    fn raise<'a>(&'a self, moved: &'a RolloutMove) -> Moving<'a, Result<(), String>>;
}

/// One way to the store and back.
#[derive(Debug)]
pub(super) struct Errand {
    /// In force, to be on record.
    pub(super) lowered: Vec<RolloutMove>,
    /// To be on record, and then in force.
    pub(super) raises: Vec<RolloutMove>,
    /// What was counted.
    pub(super) ledgers: Vec<(RouteName, Saved)>,
    /// Whether what was counted in an earlier life is asked for.
    pub(super) asks_ledgers: bool,
}

/// What it came back with. By default: nothing was done.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Whether all that was counted is on record.
    pub(super) is_saved: bool,
    /// What was counted in an earlier life; `None`: that was not asked.
    pub(super) ledgers: Option<Result<Vec<StoredLedger>, StoreError>>,
}

impl Errand {
    /// Whether there is nothing to do.
    pub(super) fn is_needless(&self) -> bool {
        self.lowered.is_empty() && self.raises.is_empty() && self.ledgers.is_empty() && !self.asks_ledgers
    }

    /// What sends users back first, then what was counted, then the raises: each may wait for a store that does not answer.
    pub(super) async fn run(self, parts: Arc<Parts>) -> Done {
        let Errand { lowered, raises, ledgers, asks_ledgers } = self;
        if !lowered.is_empty() {
            parts.mover.record(lowered).await;
        }
        let is_saved = ledgers.is_empty()
            || match parts.store.save_ledgers(ledgers).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!(%error, "what rollouts have counted is not on record yet");
                    false
                }
            };
        for moved in raises {
            match parts.mover.raise(&moved).await {
                Ok(()) => tell(&parts.metrics, &moved, None),
                Err(why) => {
                    let route = moved.changes.first().map(|change| change.route.to_string()).unwrap_or_default();
                    tracing::warn!(route, what = moved.what, why, "a rollout did not move");
                    // The others would wait as long; they are decided anew.
                    break;
                }
            }
        }
        let ledgers = if asks_ledgers { Some(parts.store.ledgers().await) } else { None };
        Done { is_saved, ledgers }
    }
}

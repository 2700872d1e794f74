//! Keeps what is known of endpoints on record: read back at the start, written three times a minute and at the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strangler_core::noise::ledger::Ledger;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::live::Live;
use crate::proxy::attached::Attached;
use crate::store::Store;

/// Between two saves: as much is lost when the process is killed.
const SAVE_EVERY: Duration = Duration::from_secs(20);
/// Routes that are written at once: whoever compares waits for the same lock, and a kill behind them waits for no more.
const ROUTES_AT_ONCE: usize = 16;
/// Longest that the end waits for the store.
const LAST_SAVE_MAX: Duration = Duration::from_secs(2);

/// Whoever keeps it.
pub(super) struct Keeper {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Keeper {
    /// Begins, on the current runtime.
    pub(super) fn start(ledger: Arc<Mutex<Ledger>>, live: Arc<Live<Attached>>, store: Store) -> Keeper {
        let (stop, stopping) = oneshot::channel();
        let keeping = Keeping { ledger, live, store, is_loaded: false };
        Keeper { task: tokio::spawn(keeping.run(stopping)), stop }
    }

    /// Saves it a last time; bounded.
    pub(super) async fn end(self) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(LAST_SAVE_MAX, self.task).await;
    }
}

struct Keeping {
    ledger: Arc<Mutex<Ledger>>,
    live: Arc<Live<Attached>>,
    store: Store,
    /// Whether what was known before is in the ledger. Nothing is saved before: it would go over what is there.
    is_loaded: bool,
}

impl Keeping {
    async fn run(mut self, mut stopping: oneshot::Receiver<()>) {
        let mut save = interval(SAVE_EVERY);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = &mut stopping => break,
                _ = save.tick() => self.save().await,
            }
        }
        self.save().await;
    }

    async fn save(&mut self) {
        if !self.is_loaded {
            match self.store.verdicts().await {
                Ok(saved) => {
                    let snapshot = Arc::clone(&self.live.load().snapshot);
                    for one in saved {
                        let policy = snapshot.route(one.route.as_str()).and_then(|(_, route)| route.compare.as_ref());
                        if let Some(policy) = policy {
                            self.locked().load(&one, policy);
                        }
                    }
                }
                Err(error) => return tracing::debug!(%error, "what was known of endpoints cannot be read yet"),
            }
            self.is_loaded = true;
        }
        loop {
            let unsaved = self.locked().take_unsaved(ROUTES_AT_ONCE);
            if unsaved.is_empty() {
                return;
            }
            if let Err(error) = self.store.save_verdicts(unsaved.clone()).await {
                tracing::debug!(%error, "what is known of endpoints is not on record yet");
                return self.locked().put_back(&unsaved);
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

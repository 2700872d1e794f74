//! Asking again, on a thread of its own: it has a pool of its own, which ends with it, and the control plane goes on meanwhile.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use crate::admin::{Replay, ReplayAsk};
use crate::shadow::replay::Replayer;

/// Replays under way; more are refused.
const REPLAYS_MAX: usize = 2;

/// What the admin plane calls.
pub(super) fn on_a_thread(replayer: Replayer) -> Replay {
    let turns = Arc::new(Semaphore::new(REPLAYS_MAX));
    Arc::new(move |ask| {
        let (replayer, turns) = (replayer.clone(), Arc::clone(&turns));
        Box::pin(async move {
            let Ok(turn) = turns.try_acquire_owned() else {
                return Err(format!("{REPLAYS_MAX} replays are under way already; ask again"));
            };
            let (reply, answer) = oneshot::channel();
            let thread = std::thread::Builder::new().name("replay".to_owned()).spawn(move || {
                let _ = reply.send(replay(&replayer, &ask));
                drop(turn);
            });
            thread.map_err(|error| format!("no thread could be started: {error}"))?;
            answer.await.unwrap_or_else(|_| Err("the replay broke off; see the log".to_owned()))
        })
    })
}

fn replay(replayer: &Replayer, ask: &ReplayAsk) -> Result<strangler_core::redact::Divergence, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime could be started: {error}"))?;
    runtime.block_on(replayer.replay(&ask.record, &ask.headers)).map_err(|error| error.to_string())
}

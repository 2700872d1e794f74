//! What the process is told by signals.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::control::Control;
use crate::config::watch::ReloadHandle;

/// The signals that are listened to; what they did before is no longer done.
pub(super) struct Signals {
    hangup: Signal,
    user_1: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for another signal to end.
    pub(super) async fn second(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Works signals off until one ends the process; answers which.
    pub(super) async fn until_the_end(&mut self, reloads: &ReloadHandle, hand: &Control) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.user_1.recv() => drop(hand.kill_all_by_signal()),
                _ = self.hangup.recv() => {
                    if let Err(error) = reloads.nudge() {
                        tracing::error!(%error, "SIGHUP: the routes file is not loaded again");
                    }
                }
            }
        }
    }
}

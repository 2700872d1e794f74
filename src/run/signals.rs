//! What the process is told by signals.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::admin::control::Control;
use crate::admin::upgrade::UpgradeRequest;
use crate::config::watch::ReloadHandle;
use crate::run::systemd::Manager;
use crate::run::upgrade::Heir;

/// The signals that are listened to; what they did before is no longer done.
pub(super) struct Signals {
    hangup: Signal,
    user_1: Signal,
    user_2: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// Whom signals are passed on to.
pub(super) struct Told<'a> {
    pub(super) reloads: &'a ReloadHandle,
    pub(super) hand: &'a Control,
    pub(super) manager: &'a Manager,
    pub(super) upgrade: &'a mpsc::Sender<UpgradeRequest>,
}

/// Why the process stops taking connections.
pub(super) enum End {
    /// It was told to.
    Signal(&'static str),
    /// Another one takes them.
    Heir(Heir),
}

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one that asks for the end; a kill is passed on to the heir, if there is one.
    pub(super) async fn another(&mut self, hand: &Control, heir: Option<&Heir>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.user_1.recv() => {
                    hand.kill_all_by_signal();
                    if let Some(heir) = heir {
                        heir.kill_all();
                    }
                }
            }
        }
    }

    /// Works signals off until one ends the process, or another process is ready to take over.
    pub(super) async fn until_the_end(&mut self, told: Told<'_>, heirs: &mut mpsc::Receiver<Heir>) -> End {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return End::Signal("SIGTERM"),
                _ = self.interrupt.recv() => return End::Signal("SIGINT"),
                Some(heir) = heirs.recv() => return End::Heir(heir),
                _ = self.user_1.recv() => drop(told.hand.kill_all_by_signal()),
                _ = self.user_2.recv() => {
                    // Nobody waits for the outcome; the log says it.
                    let request = UpgradeRequest { by: "SIGUSR2".to_owned(), reply: oneshot::channel().0 };
                    if told.upgrade.try_send(request).is_err() {
                        tracing::warn!("SIGUSR2: an upgrade is under way already");
                    }
                }
                _ = self.hangup.recv() => {
                    told.manager.reloading();
                    if let Err(error) = told.reloads.nudge() {
                        told.manager.reloaded();
                        tracing::error!(%error, "SIGHUP: the routes file is not loaded again");
                    }
                }
            }
        }
    }
}

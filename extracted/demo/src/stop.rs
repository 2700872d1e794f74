//! The wish to stop, from a terminal or from a supervisor.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// How often a stop was asked for: once is a wish, twice is impatience.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    asked: Arc<AtomicU32>,
}

impl Stop {
    /// Counts SIGINT, SIGTERM and SIGHUP from now on.
    pub(crate) fn on_signals() -> io::Result<Stop> {
        let stop = Stop::default();
        let asked = Arc::clone(&stop.asked);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let context = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        drop(context);
        thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hang_up.recv() => {} }
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        });
        Ok(stop)
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn is_urgent(&self) -> bool {
        self.asked.load(Ordering::SeqCst) > 1
    }
}

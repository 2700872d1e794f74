//! Requests that wait for a connection because all are taken.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::upstream::pool::{Conn, Lane, PoolKey};

/// Requests of all cores that wait for a connection to an upstream because all are taken, each endpoint's in order of arrival.
/// Looked at only while somebody waits.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<HashMap<(usize, Lane), WaitQueue>>);

type WaitQueue = VecDeque<oneshot::Sender<Conn>>;

impl std::fmt::Debug for Waiters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiters").finish_non_exhaustive()
    }
}

impl Waiters {
    /// `waiting` is how many wait for the upstream: those that gave up are swept out once they outnumber the others.
    pub(super) fn join(&self, key: PoolKey, waiting: usize) -> oneshot::Receiver<Conn> {
        let (give, given) = oneshot::channel();
        let mut waiters = self.0.lock();
        let queue = waiters.entry((key.endpoint, key.lane)).or_default();
        if queue.len() > 2 * waiting + 16 {
            queue.retain(|waiter| !waiter.is_closed());
        }
        queue.push_back(give);
        given
    }

    /// Gives a connection to whoever has waited longest for one of its kind. Gives it back when nobody waits at all; where one to
    /// another endpoint is waited for it is closed, so that that may be opened.
    pub(super) fn hand_over(&self, key: PoolKey, mut conn: Conn) -> Option<Conn> {
        let kind = (key.endpoint, key.lane);
        loop {
            let mut waiters = self.0.lock();
            let Some(waiter) = waiters.get_mut(&kind).and_then(VecDeque::pop_front) else {
                let is_live = |waiter: &oneshot::Sender<Conn>| !waiter.is_closed();
                return (!waiters.values().any(|queue| queue.iter().any(is_live))).then_some(conn);
            };
            drop(waiters);
            // One that has given up meanwhile hands it back.
            match waiter.send(conn) {
                Ok(()) => return None,
                Err(back) => conn = back,
            }
        }
    }
}

/// Tells every core that somebody waits for a connection that may lie idle there.
pub(super) static WANTED: Notify = Notify::const_new();

/// Waits until somebody waits for a connection.
pub(crate) async fn wanted() {
    WANTED.notified().await;
}

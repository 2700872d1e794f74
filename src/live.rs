//! The published snapshot: many readers, queued writers, swapped whole.

pub mod accepted;
pub mod sightings;
pub mod witness;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use strangler_core::snapshot::Snapshot;

/// A snapshot and what the data plane has attached to it (metric handles, connection pools), so that a request finds all by one load.
#[derive(Debug)]
pub struct Published<A> {
    /// What is in force.
    pub snapshot: Arc<Snapshot>,
    /// Made from it, and from what was attached before.
    pub attached: A,
}

/// Makes what is attached to a snapshot, given what was attached to the one before.
type Attach<A> = dyn Fn(&Arc<Snapshot>, Option<&A>) -> A + Send + Sync;

/// The published snapshot. `A` is the data plane's own; everyone else uses it as [`Publish`].
pub struct Live<A> {
    current: ArcSwap<Published<A>>,
    writers: Mutex<()>,
    attach: Box<Attach<A>>,
}

/// Reading and changing what is in force, for those who need not know what is attached.
pub trait Publish: Send + Sync {
    /// What is in force now.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// Puts another snapshot in force. The reload and the runtime both change what the other wrote, so `change` is given the latest;
    /// `None` leaves it. Answers what is in force afterwards.
    fn change(&self, change: &mut dyn FnMut(&Arc<Snapshot>) -> Option<Arc<Snapshot>>) -> Arc<Snapshot>;
}

impl<A> Live<A> {
    /// Publishes the first snapshot. `attach` is called for each one, with what was attached to the one before.
    pub fn new(
        first: Arc<Snapshot>,
        attach: impl Fn(&Arc<Snapshot>, Option<&A>) -> A + Send + Sync + 'static,
    ) -> Live<A> {
        let attached = attach(&first, None);
        Live {
            current: ArcSwap::from_pointee(Published { snapshot: first, attached }),
            writers: Mutex::new(()),
            attach: Box::new(attach),
        }
    }

    /// The one load of a request.
    pub fn load(&self) -> Guard<Arc<Published<A>>> {
        self.current.load()
    }
}

fn now_unix_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs()
}

impl<A: Send + Sync> Publish for Live<A> {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.load().snapshot)
    }

    fn change(&self, change: &mut dyn FnMut(&Arc<Snapshot>) -> Option<Arc<Snapshot>>) -> Arc<Snapshot> {
        let _turn = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load_full();
        let Some(next) = change(&current.snapshot) else {
            return Arc::clone(&current.snapshot);
        };
        // Here every change of a weight comes by, whoever makes it.
        let next = next.following(&current.snapshot, now_unix_s());
        let attached = (self.attach)(&next, Some(&current.attached));
        self.current.store(Arc::new(Published { snapshot: Arc::clone(&next), attached }));
        next
    }
}

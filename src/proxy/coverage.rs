//! What legacy is asked, counted by each core for itself: no lock, no queue and no memory in the way of a request that is like one before.
//!
//! A few times a second the counts go to whoever keeps the book. Where its queue is full they stay and go the next time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use strangler_core::coverage::{self, MethodKind, Seen, Tally};
use strangler_core::route::Route;
use tokio::sync::mpsc;

use crate::proxy::Worker;

/// Sorts of requests that a core tells apart at a time; of further ones the parameters are not told apart.
const CELLS_MAX: usize = 1_024;
/// Sorts of requests without parameters beside those; further ones are dropped and counted.
const PLAIN_CELLS_MAX: usize = CELLS_MAX;
/// Told apart from a request without parameters.
const UNNAMED: u64 = 0x94d0_49bb_1331_11eb;

/// To whoever keeps the book; bounded.
pub type Tallies = mpsc::Sender<Vec<Tally>>;

thread_local! {
    static CELLS: RefCell<Cells> = RefCell::default();
}

#[derive(Default)]
struct Cells {
    /// Keyed by a hash already.
    cells: HashMap<u64, Cell, BuildHasherDefault<AsItIs>>,
    dropped: u64,
}

struct Cell {
    seen: Arc<Seen>,
    requests: u64,
}

/// Legacy has answered a request of a route. `key`: the route's.
pub(crate) fn note(key: u64, route: &Route, method: MethodKind, query: &str, status: StatusCode, headers: &HeaderMap) {
    let status = status.as_u16();
    let content_type = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let at = coverage::key(key, method, status, query, content_type);
    CELLS.with_borrow_mut(|cells| {
        if let Some(cell) = cells.cells.get_mut(&at) {
            cell.requests += 1;
            return;
        }
        cells.begin(at, || Seen::new(route.name.clone(), method, status, query, content_type));
    });
}

impl Cells {
    #[cold]
    fn begin(&mut self, at: u64, seen: impl FnOnce() -> Seen) {
        let count = self.cells.len();
        let seen = seen();
        let (at, seen) = if count < CELLS_MAX {
            (at, seen)
        } else {
            let (method, status, content_type) = (seen.method, seen.status, seen.content_type());
            let at = coverage::key(seen.route_key(), method, status, "", content_type) ^ UNNAMED;
            if count >= CELLS_MAX + PLAIN_CELLS_MAX && !self.cells.contains_key(&at) {
                self.dropped += 1;
                return;
            }
            (at, seen.unnamed())
        };
        match self.cells.entry(at) {
            Entry::Occupied(mut known) => known.get_mut().requests += 1,
            Entry::Vacant(room) => drop(room.insert(Cell { seen: Arc::new(seen), requests: 1 })),
        }
    }

    /// Those that were asked for since the last time. Of the others, those that take room are forgotten.
    fn take(&mut self) -> Vec<Tally> {
        if self.cells.len() > CELLS_MAX / 2 {
            self.cells.retain(|_, cell| cell.requests > 0);
        }
        let counted = self.cells.values_mut().filter(|cell| cell.requests > 0);
        counted.map(|cell| (Arc::clone(&cell.seen), std::mem::take(&mut cell.requests))).collect()
    }
}

/// Hands over what this core has counted. Never waits.
pub(crate) fn hand_over(worker: &Worker) {
    let Some(tallies) = &worker.proxy.settings.tallies else { return };
    CELLS.with_borrow_mut(|cells| {
        let metrics = &worker.proxy.metrics;
        (0..std::mem::take(&mut cells.dropped)).for_each(|_| metrics.count_queue_dropped("coverage"));
        if cells.cells.values().all(|cell| cell.requests == 0) {
            return;
        }
        // What finds no room stays where it is.
        if let Ok(room) = tallies.try_reserve() {
            room.send(cells.take());
        }
    });
}

/// What is hashed is a hash.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(query: &str) -> Seen {
        Seen::new("cart".parse().expect("a name"), MethodKind::Get, 200, query, Some(b"text/html"))
    }

    #[test]
    fn a_core_keeps_no_more_than_it_may_and_loses_no_count() {
        let mut cells = Cells::default();
        for number in 0..50_000u64 {
            let query = format!("a{number}=1");
            cells.begin(coverage::key(7, MethodKind::Get, 200, &query, None), || seen(&query));
        }
        assert_eq!(cells.cells.len(), CELLS_MAX + 1);
        let taken = cells.take();
        assert_eq!(taken.iter().map(|(_, requests)| requests).sum::<u64>() + cells.dropped, 50_000);
        assert!(taken.iter().any(|(seen, requests)| **seen == super::tests::seen("").unnamed() && *requests > 48_000));
        // Nobody asks for them any more.
        assert!(cells.take().is_empty() && cells.cells.is_empty());
    }
}

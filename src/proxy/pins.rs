//! The table of idempotency keys: which side has seen which. Only requests with a key, on routes that ask for it, come here.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use strangler_core::decide::{Decision, Reason};
use strangler_core::facts::{RequestFacts, is_safe};
use strangler_core::idempotency::{
    Keyed, PIN_LIFE_S, PinKey, Refusal, Settled, Told, after_no_answer, after_told, pin_key, settle,
};
use strangler_core::observation::Failure;
use strangler_core::past::Past;
use strangler_core::route::Route;
use strangler_core::side::Side;

use crate::store::{PINS_MAX, Store, StoredPin};
use crate::telemetry::metrics::Metrics;

/// Parts of the table, so that cores seldom wait for each other.
const SHARDS: usize = 16;

/// The table of the process. Bounded: at [`PINS_MAX`] keys the oldest are forgotten.
pub struct Pins {
    shards: [Mutex<Shard>; SHARDS],
    secret: [u8; 32],
    keeper: Option<Keeper>,
    /// Another process that serves beside this one is told what is seen here; bounded.
    beside: ArcSwapOption<SyncSender<StoredPin>>,
    shard_max: usize,
}

/// Where pins outlive a restart.
struct Keeper {
    store: Store,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Shard {
    pins: HashMap<PinKey, Pin>,
    /// As they came; those that have been forgotten since are passed over.
    order: VecDeque<(PinKey, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    side: Side,
    /// When it was seen first, in Unix seconds.
    seen_s: u64,
    /// Requests that have relied on it.
    uses: u32,
}

impl Default for Pins {
    fn default() -> Pins {
        Pins::sized(PINS_MAX, [0; 32], None)
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins").field("shard_max", &self.shard_max).finish_non_exhaustive()
    }
}

impl Pins {
    /// With the pins of before, oldest first, and where new ones are kept. `secret` hashes keys: the same after a restart.
    pub fn new(secret: [u8; 32], store: Store, metrics: Arc<Metrics>, before: &[StoredPin]) -> Pins {
        let pins = Pins::sized(PINS_MAX, secret, Some(Keeper { store, metrics }));
        for pin in before {
            if let Some(side) = pin.side {
                pins.shard(&pin.key).put(pin.key, Pin { side, seen_s: pin.seen_s, uses: 1 }, pins.shard_max);
            }
        }
        pins
    }

    fn sized(pins_max: u64, secret: [u8; 32], keeper: Option<Keeper>) -> Pins {
        let shard_max = usize::try_from(pins_max).unwrap_or(usize::MAX) / SHARDS;
        Pins { shards: Default::default(), secret, keeper, beside: ArcSwapOption::empty(), shard_max: shard_max.max(1) }
    }

    fn shard(&self, key: &PinKey) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[usize::from(key[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the key of a request, if it has one, have its say over a decision.
    pub(crate) fn settle(
        self: &Arc<Self>,
        route: &Route,
        facts: &RequestFacts<'_>,
        decision: &mut Decision,
        pasts: &[Past],
        now_s: u64,
    ) -> Result<Option<Box<Pinning>>, Refusal> {
        let Some(policy) = route.idempotency.as_ref().filter(|_| !is_safe(facts.method)) else {
            return Ok(None);
        };
        let Some(sent) = facts.header(&policy.header).filter(|key| !key.is_empty()) else {
            return Ok(None);
        };
        let key = pin_key(&self.secret, &route.name, facts.path, sent);
        // Held from the question to the answer: of two tries at once the second one sees the first.
        let mut shard = self.shard(&key);
        let known = shard.pins.get_mut(&key).filter(|pin| now_s < pin.seen_s.saturating_add(PIN_LIFE_S));
        let is_by_weight = matches!(decision.reason, Reason::Weight | Reason::Leased);
        let settled = settle(&Keyed {
            decided: decision.side,
            bucket: decision.bucket.filter(|_| is_by_weight),
            is_killed: decision.reason == Reason::Killed,
            on_kill: policy.on_kill,
            pin: known.as_ref().map(|pin| pin.side),
            pasts,
            now_s,
        });
        let is_first = match settled {
            Settled::First(_) | Settled::Anew => true,
            Settled::Again(_) => false,
            Settled::Refused(refusal) => return Err(refusal),
        };
        let side = match settled {
            Settled::First(side) | Settled::Again(side) => side,
            Settled::Anew | Settled::Refused(_) => Side::Legacy,
        };
        if let (Settled::Again(_), Some(pin)) = (settled, known) {
            pin.uses = pin.uses.saturating_add(1);
            decision.side = side;
            // A kill keeps its name.
            if decision.reason != Reason::Killed {
                decision.reason = Reason::Pinned;
            }
        } else {
            let forgotten = shard.put(key, Pin { side, seen_s: now_s, uses: 1 }, self.shard_max);
            if let Some(keeper) = self.keeper.as_ref().filter(|_| forgotten > 0) {
                // One comes, so seldom more than one goes.
                keeper.metrics.count_queue_dropped("pins_remembered");
            }
        }
        drop(shard);
        Ok(Some(Box::new(Pinning { pins: Arc::clone(self), key, side, seen_s: now_s, is_first, is_sent: false })))
    }

    /// From now on `beside` is told of every pin; `None`: nobody is.
    pub fn tell(&self, beside: Option<SyncSender<StoredPin>>) {
        self.beside.store(beside.map(Arc::new));
    }

    /// Another process has told of a pin. It has it on record, so it is not stored here.
    pub fn learn(&self, told: &StoredPin) {
        let mut shard = self.shard(&told.key);
        let known = shard.pins.get(&told.key).map(|pin| (pin.side, pin.seen_s));
        match after_told(known, (told.side, told.seen_s)) {
            Told::Keep => {}
            Told::Put(side) => {
                let uses = shard.pins.get(&told.key).map_or(1, |pin| pin.uses);
                shard.put(told.key, Pin { side, seen_s: told.seen_s, uses }, self.shard_max);
            }
            // Somebody may rely on it by now.
            Told::Forget if shard.pins.get(&told.key).is_some_and(|pin| pin.uses > 1) => {}
            Told::Forget => drop(shard.pins.remove(&told.key)),
        }
    }

    fn keep(&self, key: PinKey, side: Option<Side>, seen_s: u64) {
        if let Some(beside) = self.beside.load().as_deref()
            && let Err(TrySendError::Full(_)) = beside.try_send(StoredPin { key, side, seen_s })
            && let Some(keeper) = &self.keeper
        {
            keeper.metrics.count_queue_dropped("pins_to_other_process");
        }
        if let Some(Keeper { store, metrics }) = &self.keeper
            && !store.record_pin(StoredPin { key, side, seen_s })
        {
            metrics.count_queue_dropped("pins_to_store");
        }
    }

    /// Forgets a key, unless somebody else relies on it by now.
    fn forget(&self, key: &PinKey) -> bool {
        let mut shard = self.shard(key);
        let is_sole = shard.pins.get(key).is_some_and(|pin| pin.uses == 1);
        if is_sole {
            shard.pins.remove(key);
        }
        is_sole
    }
}

impl Shard {
    /// Answers how many had to be forgotten before their day was over.
    fn put(&mut self, key: PinKey, pin: Pin, shard_max: usize) -> usize {
        let mut forgotten = 0;
        let oldest_s = pin.seen_s.saturating_sub(PIN_LIFE_S);
        while let Some((old, seen_s)) = self.order.front().copied()
            && (seen_s <= oldest_s || self.pins.len() >= shard_max || self.order.len() >= 2 * shard_max)
        {
            self.order.pop_front();
            if self.pins.get(&old).is_some_and(|known| known.seen_s == seen_s) {
                self.pins.remove(&old);
                forgotten += usize::from(seen_s > oldest_s);
            }
        }
        self.order.push_back((key, pin.seen_s));
        self.pins.insert(key, pin);
        forgotten
    }
}

/// A key of a request under way. Dropped before anything was sent, it was never seen.
#[derive(Debug)]
pub(crate) struct Pinning {
    pins: Arc<Pins>,
    key: PinKey,
    side: Side,
    seen_s: u64,
    is_first: bool,
    is_sent: bool,
}

impl Pinning {
    /// Whether an earlier request had the same key: then no other side may be asked.
    pub(crate) fn is_again(&self) -> bool {
        !self.is_first
    }

    /// From now on a side may have seen it.
    pub(crate) fn sending(&mut self) {
        self.is_sent = true;
        if self.is_first {
            self.pins.keep(self.key, Some(self.side), self.seen_s);
        }
    }

    /// A side answered: that one has done it.
    pub(crate) fn answered(&mut self, side: Side) {
        if self.is_first && side != self.side {
            self.side = side;
            let pin = self.pins.shard(&self.key).pins.get_mut(&self.key).map(|pin| pin.side = side);
            if pin.is_some() {
                self.pins.keep(self.key, Some(side), self.seen_s);
            }
        }
    }

    /// No side answered; `side` failed last.
    pub(crate) fn unanswered(&mut self, side: Side, failure: Failure) {
        match after_no_answer(side, failure) {
            Some(side) => self.answered(side),
            None if self.is_first && self.pins.forget(&self.key) => self.pins.keep(self.key, None, self.seen_s),
            None => {}
        }
    }
}

impl Drop for Pinning {
    fn drop(&mut self) {
        if self.is_first && !self.is_sent {
            self.pins.forget(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method};
    use strangler_core::fixture;
    use strangler_core::route::{IdempotencyPolicy, OnKill};

    const NOW: u64 = 1_763_700_000;

    fn decision(side: Side, reason: Reason) -> Decision {
        Decision { side, reason, ..Decision::FALL_THROUGH }
    }

    fn ask(
        pins: &Arc<Pins>,
        key: &str,
        side: Side,
        reason: Reason,
        now_s: u64,
    ) -> (Result<Option<Box<Pinning>>, Refusal>, Decision) {
        let mut route = fixture::route("pay", "/pay", "50%");
        let header = http::HeaderName::from_static("idempotency-key");
        route.idempotency = Some(IdempotencyPolicy { header: header.clone(), on_kill: OnKill::Refuse });
        let mut headers = HeaderMap::new();
        headers.insert(header, key.parse().unwrap());
        let facts = RequestFacts { method: &Method::POST, host: "shop", path: "/pay", query: "", headers: &headers };
        let mut decision = decision(side, reason);
        let settled = pins.settle(&route, &facts, &mut decision, &[], now_s);
        (settled, decision)
    }

    fn sent(pins: &Arc<Pins>, key: &str, side: Side) -> Pinning {
        let mut pinning = *ask(pins, key, side, Reason::Weight, NOW).0.unwrap().unwrap();
        pinning.sending();
        pinning
    }

    #[test]
    fn a_key_goes_where_it_went_for_a_day() {
        let pins = Arc::new(Pins::default());
        drop(sent(&pins, "a", Side::Extracted));
        let (again, decision) = ask(&pins, "a", Side::Legacy, Reason::Weight, NOW + PIN_LIFE_S - 1);
        assert!(again.unwrap().unwrap().is_again());
        assert_eq!((decision.side, decision.reason), (Side::Extracted, Reason::Pinned));
        assert_eq!(ask(&pins, "a", Side::Legacy, Reason::Killed, NOW).0.unwrap_err(), Refusal::Killed);
        let (_, decision) = ask(&pins, "a", Side::Legacy, Reason::Weight, NOW + PIN_LIFE_S);
        assert_eq!((decision.side, decision.reason), (Side::Legacy, Reason::Weight));
    }

    #[test]
    fn what_was_never_sent_was_never_seen() {
        let pins = Arc::new(Pins::default());
        drop(ask(&pins, "a", Side::Extracted, Reason::Weight, NOW));
        assert_eq!(ask(&pins, "a", Side::Legacy, Reason::Weight, NOW).1.reason, Reason::Weight);
        sent(&pins, "b", Side::Extracted).unanswered(Side::Extracted, Failure::Connect);
        assert_eq!(ask(&pins, "b", Side::Legacy, Reason::Weight, NOW).1.reason, Reason::Weight);
        // Somebody else relies on it.
        let mut first = sent(&pins, "c", Side::Extracted);
        let second = ask(&pins, "c", Side::Legacy, Reason::Weight, NOW);
        assert_eq!(second.1.side, Side::Extracted);
        first.unanswered(Side::Extracted, Failure::Connect);
        drop((first, second));
        assert_eq!(ask(&pins, "c", Side::Legacy, Reason::Weight, NOW).1.side, Side::Extracted);
    }

    #[test]
    fn the_pin_names_the_side_that_did_it() {
        let pins = Arc::new(Pins::default());
        sent(&pins, "a", Side::Extracted).answered(Side::Legacy);
        assert_eq!(ask(&pins, "a", Side::Extracted, Reason::Weight, NOW).1.side, Side::Legacy);
        sent(&pins, "b", Side::Extracted).unanswered(Side::Legacy, Failure::Timeout);
        assert_eq!(ask(&pins, "b", Side::Extracted, Reason::Weight, NOW).1.side, Side::Legacy);
    }

    #[test]
    fn two_processes_that_tell_each_other_agree_on_who_saw_a_key() {
        let (old, new) = (Arc::new(Pins::default()), Arc::new(Pins::default()));
        let (tell, told) = std::sync::mpsc::sync_channel(8);
        old.tell(Some(tell));

        drop(sent(&old, "a", Side::Extracted));
        for pin in told.try_iter() {
            new.learn(&pin);
        }
        assert_eq!(ask(&new, "a", Side::Legacy, Reason::Weight, NOW).1.side, Side::Extracted);

        // Not one was sent of it after all.
        sent(&old, "b", Side::Extracted).unanswered(Side::Extracted, Failure::Connect);
        for pin in told.try_iter() {
            new.learn(&pin);
        }
        assert_eq!(ask(&new, "b", Side::Legacy, Reason::Weight, NOW).1.side, Side::Legacy);

        old.tell(None);
        drop(sent(&old, "c", Side::Extracted));
        assert_eq!(told.try_iter().count(), 0);
    }

    #[test]
    fn the_table_has_a_bound_and_the_oldest_go() {
        let pins = Arc::new(Pins::sized(160, [1; 32], None));
        for number in 0..1_000 {
            drop(sent(&pins, &format!("k{number}"), Side::Extracted));
        }
        let held: usize = pins.shards.iter().map(|shard| shard.lock().unwrap().pins.len()).sum();
        assert!((100..=160).contains(&held), "{held}");
        assert_eq!(ask(&pins, "k999", Side::Legacy, Reason::Weight, NOW).1.side, Side::Extracted);
        assert_eq!(ask(&pins, "k0", Side::Legacy, Reason::Weight, NOW).1.side, Side::Legacy);
    }
}

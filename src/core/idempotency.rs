//! Writes that are tried again: the same key goes to the side that saw it first, and where that cannot be told nothing is guessed.
//!
//! A *pin* says which side saw a key. The shell keeps the table; what follows from a pin, or from there being none, is decided here.

use hmac::Mac;

use crate::name::RouteName;
use crate::observation::Failure;
use crate::past::Past;
use crate::route::OnKill;
use crate::side::Side;
use crate::signing;
use crate::split::{Bucket, choose_side};

/// How long a key is remembered, in seconds, from when it was seen first: 24 h.
pub const PIN_LIFE_S: u64 = 24 * 60 * 60;
/// What a client is told to wait while a kill stands, in seconds.
pub const KILL_RETRY_S: u64 = 30;

/// What stands for a client's key in the table: 128 bits of a keyed hash, for keys may be secrets.
pub type PinKey = [u8; 16];

/// The pin's key of a request: its route, its path and the client's own key.
///
/// The caller is left out on purpose: a login between two tries would make another key of it.
pub fn pin_key(secret: &[u8; 32], route: &RouteName, path: &str, key: &[u8]) -> PinKey {
    let parts = [b"strangler pin\n", route.as_str().as_bytes(), b"\n", path.as_bytes(), b"\n", key];
    let hash = signing::mac(secret, parts).finalize().into_bytes();
    hash.first_chunk().copied().unwrap_or_default()
}

/// What becomes of a pin when another process, which serves beside this one for a while, tells of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It stays as it is.
    Keep,
    /// That side has seen it.
    Put(Side),
    /// Nobody has.
    Forget,
}

/// Whoever saw a key first is right. `known` and `told` are the side and when it was first seen, in Unix seconds; told without a
/// side, what was told before is taken back. What is told later of the same time is the newer word on it.
pub fn after_told(known: Option<(Side, u64)>, told: (Option<Side>, u64)) -> Told {
    match (known, told) {
        (Some((_, seen_s)), (Some(side), told_s)) if told_s <= seen_s => Told::Put(side),
        (None, (Some(side), _)) => Told::Put(side),
        (Some((_, seen_s)), (None, told_s)) if seen_s == told_s => Told::Forget,
        (Some(_) | None, _) => Told::Keep,
    }
}

/// What is known of a request with a key.
#[derive(Clone, Copy, Debug)]
pub struct Keyed<'a> {
    /// The side that was decided on without regard to the key.
    pub decided: Side,
    /// The bucket that this rests on; `None` where something else than the weight decided.
    pub bucket: Option<Bucket>,
    /// Whether the route is killed.
    pub is_killed: bool,
    /// What its author wants then.
    pub on_kill: OnKill,
    /// Who has seen the key; `None`: nobody, as far as is known.
    pub pin: Option<Side>,
    /// Weights of before.
    pub pasts: &'a [Past],
    /// Unix seconds.
    pub now_s: u64,
}

/// Where a request with a key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// As decided; the key is seen for the first time.
    First(Side),
    /// Seen before: to the same side, and to no other one should that fail.
    Again(Side),
    /// Extracted has seen it and is killed, and the author wants it done by legacy, perhaps for the second time.
    Anew,
    /// Nowhere.
    Refused(Refusal),
}

/// Why a request with a key goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 503: extracted has seen the key and is killed.
    Killed,
    /// 409: the bucket has changed sides, and the other one may have seen the key.
    InDoubt {
        /// Until nothing is in doubt, in seconds.
        retry_after_s: u64,
    },
}

impl Refusal {
    /// As counted, and said in `strangler-error`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refusal::Killed => "idempotency_killed",
            Refusal::InDoubt { .. } => "idempotency_in_doubt",
        }
    }
}

/// Decides.
///
/// A kill by itself puts nothing in doubt: it is an emergency, and users must be served. What extracted is known to have seen is held back.
pub fn settle(keyed: &Keyed<'_>) -> Settled {
    match keyed.pin {
        Some(Side::Extracted) if keyed.is_killed => match keyed.on_kill {
            OnKill::Refuse => Settled::Refused(Refusal::Killed),
            OnKill::Reexecute => Settled::Anew,
        },
        Some(side) => Settled::Again(side),
        None => match in_doubt_until(keyed) {
            Some(until_s) => Settled::Refused(Refusal::InDoubt { retry_after_s: until_s - keyed.now_s }),
            None => Settled::First(keyed.decided),
        },
    }
}

fn in_doubt_until(keyed: &Keyed<'_>) -> Option<u64> {
    let bucket = keyed.bucket.filter(|_| !keyed.is_killed)?;
    let was_elsewhere =
        |past: &&Past| [past.low, past.high].iter().any(|weight| choose_side(bucket, *weight) != keyed.decided);
    let doubtful = keyed.pasts.iter().filter(|past| keyed.now_s < past.ends_s()).filter(was_elsewhere);
    doubtful.map(Past::ends_s).max()
}

/// What becomes of a pin when the first request with its key has no answer.
///
/// What provably reached nobody is forgotten; otherwise the side that failed last is the one that may have done it.
pub fn after_no_answer(side: Side, failure: Failure) -> Option<Side> {
    match failure {
        Failure::Connect | Failure::ConnectTimeout | Failure::Full | Failure::NoHealthy | Failure::BreakerOpen => None,
        Failure::Reset | Failure::Truncated | Failure::Garbage | Failure::Status(_) | Failure::Timeout => Some(side),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::past::DOUBT_S;
    use crate::weight::Weight;
    use proptest::prelude::*;

    const NOW: u64 = 1_763_700_000;

    fn keyed(pin: Option<Side>) -> Keyed<'static> {
        Keyed {
            decided: Side::Legacy,
            bucket: Bucket::from_number(700),
            is_killed: false,
            on_kill: OnKill::Refuse,
            pin,
            pasts: &[],
            now_s: NOW,
        }
    }

    fn past(points: u16, ago_s: u64) -> Past {
        let weight = Weight::from_basis_points(points).unwrap();
        Past { low: weight, high: weight, until_s: NOW - ago_s }
    }

    #[test]
    fn of_two_processes_the_one_that_saw_a_key_first_is_right() {
        let (legacy, extracted) = (Side::Legacy, Side::Extracted);
        assert_eq!(after_told(None, (Some(extracted), 7)), Told::Put(extracted));
        assert_eq!(after_told(Some((legacy, 9)), (Some(extracted), 7)), Told::Put(extracted));
        assert_eq!(after_told(Some((legacy, 7)), (Some(extracted), 9)), Told::Keep);
        assert_eq!(after_told(Some((extracted, 7)), (Some(legacy), 7)), Told::Put(legacy), "legacy did it after all");
        assert_eq!(after_told(Some((extracted, 7)), (None, 7)), Told::Forget);
        assert_eq!(after_told(Some((extracted, 5)), (None, 7)), Told::Keep);
        assert_eq!(after_told(None, (None, 7)), Told::Keep);
    }

    #[test]
    fn what_extracted_has_seen_is_held_back_while_it_is_killed() {
        let killed = |pin| Keyed { is_killed: true, ..keyed(pin) };
        assert_eq!(settle(&killed(Some(Side::Extracted))), Settled::Refused(Refusal::Killed));
        assert_eq!(settle(&Keyed { on_kill: OnKill::Reexecute, ..killed(Some(Side::Extracted)) }), Settled::Anew);
        assert_eq!(settle(&killed(Some(Side::Legacy))), Settled::Again(Side::Legacy));
        let pasts = [past(5_000, 1)];
        assert_eq!(settle(&Keyed { pasts: &pasts, ..killed(None) }), Settled::First(Side::Legacy));
    }

    #[test]
    fn a_key_nobody_has_seen_is_in_doubt_for_a_quarter_of_an_hour_after_its_bucket_moved() {
        let asked = |decided, pasts: &[Past]| settle(&Keyed { decided, pasts, ..keyed(None) });
        let doubt = |retry_after_s| Settled::Refused(Refusal::InDoubt { retry_after_s });
        assert_eq!(asked(Side::Extracted, &[past(500, 0)]), doubt(DOUBT_S));
        assert_eq!(asked(Side::Extracted, &[past(500, DOUBT_S - 1)]), doubt(1));
        assert_eq!(asked(Side::Extracted, &[past(500, DOUBT_S)]), Settled::First(Side::Extracted));
        assert_eq!(asked(Side::Extracted, &[past(701, 5)]), Settled::First(Side::Extracted), "not this bucket");
        // There and back again within the time: extracted may have seen it.
        assert_eq!(asked(Side::Legacy, &[past(500, 300), past(1_000, 60)]), doubt(DOUBT_S - 60));
        // A lease holds the user where the bucket was before: nothing has moved.
        assert_eq!(asked(Side::Legacy, &[past(500, 1)]), Settled::First(Side::Legacy));
        let by_data = Keyed { bucket: None, decided: Side::Extracted, pasts: &[past(0, 1)], ..keyed(None) };
        assert_eq!(settle(&by_data), Settled::First(Side::Extracted));
    }

    #[test]
    fn a_key_is_bound_to_its_route_and_path_and_told_to_nobody() {
        let of = |secret: u8, route: &str, path, key| pin_key(&[secret; 32], &route.parse().unwrap(), path, key);
        let one = of(1, "pay", "/pay", b"k");
        assert_eq!(one, of(1, "pay", "/pay", b"k"));
        for other in [
            of(2, "pay", "/pay", b"k"),
            of(1, "paid", "/pay", b"k"),
            of(1, "pay", "/paid", b"k"),
            of(1, "pay", "/pay", b"l"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn what_reached_nobody_is_forgotten() {
        assert_eq!(after_no_answer(Side::Legacy, Failure::Connect), None);
        assert_eq!(after_no_answer(Side::Extracted, Failure::Full), None);
        assert_eq!(after_no_answer(Side::Extracted, Failure::Timeout), Some(Side::Extracted));
        assert_eq!(after_no_answer(Side::Legacy, Failure::Status(500)), Some(Side::Legacy));
    }

    fn side() -> impl Strategy<Value = Side> {
        prop_oneof![Just(Side::Legacy), Just(Side::Extracted)]
    }

    proptest! {
        #[test]
        fn a_key_that_was_seen_reaches_no_other_side_unless_its_author_says_so(
            pin in side(), decided in side(), is_killed: bool, reexecute: bool, points in 0u16..=10_000, ago in 0u64..2_000,
        ) {
            let on_kill = if reexecute { OnKill::Reexecute } else { OnKill::Refuse };
            let pasts = [past(points, ago)];
            let asked = Keyed { decided, is_killed, on_kill, pasts: &pasts, ..keyed(Some(pin)) };
            match settle(&asked) {
                Settled::Again(side) => prop_assert_eq!(side, pin),
                Settled::Anew => prop_assert!(reexecute && is_killed && pin == Side::Extracted),
                Settled::Refused(refusal) => prop_assert!(refusal == Refusal::Killed && is_killed && pin == Side::Extracted),
                Settled::First(_) => prop_assert!(false, "it was seen"),
            }
        }

        #[test]
        fn a_new_key_goes_where_its_user_goes_or_waits(number in 0u16..10_000, points in 0u16..=10_000, now in 0u16..=10_000, ago in 0u64..2_000) {
            let bucket = Bucket::from_number(number).unwrap();
            let decided = choose_side(bucket, Weight::from_basis_points(now).unwrap());
            let pasts = [past(points, ago)];
            let before = choose_side(bucket, pasts[0].low);
            let settled = settle(&Keyed { decided, bucket: Some(bucket), pasts: &pasts, ..keyed(None) });
            if before == decided || ago >= DOUBT_S {
                prop_assert_eq!(settled, Settled::First(decided));
            } else {
                prop_assert_eq!(settled, Settled::Refused(Refusal::InDoubt { retry_after_s: DOUBT_S - ago }));
            }
        }
    }
}

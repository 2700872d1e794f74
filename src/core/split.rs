//! Which side a caller is on: a hash and a comparison, the same on every replica, with no state shared.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::side::Side;
use crate::weight::Weight;

/// How many buckets callers fall into; one is a basis point.
pub const BUCKETS: u16 = 10_000;

/// A caller's place among 10,000, drawn anew by each salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

impl Bucket {
    /// `xxh3_64(salt ‖ 0x00 ‖ key) mod 10000`, seed 0. Stable for ever: a change would move users.
    ///
    /// ```
    /// use strangler_core::split::Bucket;
    /// assert_eq!(Bucket::of("cart-total", b"user-1"), Bucket::of("cart-total", b"user-1"));
    /// assert_ne!(Bucket::of("cart-total", b"user-1"), Bucket::of("pay", b"user-1"));
    /// ```
    pub fn of(salt: &str, key: &[u8]) -> Bucket {
        // The usual key is short: one pass over a copy on the stack is faster than the streaming hash's set-up.
        let mut joined = [0u8; 240];
        let length = salt.len() + 1 + key.len();
        let hash = if let Some(room) = joined.get_mut(..length) {
            let (head, tail) = room.split_at_mut(salt.len());
            head.copy_from_slice(salt.as_bytes());
            if let Some((_, tail)) = tail.split_first_mut() {
                tail.copy_from_slice(key);
            }
            xxh3_64(room)
        } else {
            let mut hasher = Xxh3::new();
            hasher.update(salt.as_bytes());
            hasher.update(&[0]);
            hasher.update(key);
            hasher.digest()
        };
        Bucket(u16::try_from(hash % u64::from(BUCKETS)).unwrap_or_default())
    }

    /// As it was told by [`Bucket::number`]; `None` from 10,000 on.
    pub const fn from_number(number: u16) -> Option<Bucket> {
        if number < BUCKETS { Some(Bucket(number)) } else { None }
    }

    /// 0..=9999.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// Extracted answers the buckets below the weight, so that a larger weight sends nobody back.
pub const fn choose_side(bucket: Bucket, weight: Weight) -> Side {
    if bucket.0 < weight.basis_points() { Side::Extracted } else { Side::Legacy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PINNED: &[(&str, &str, u16)] =
        &[("cart-total", "user-1", 2439), ("checkout-2026", "42", 6741), ("", "", 1883)];

    fn weights() -> impl Strategy<Value = Weight> {
        (0u16..=10_000).prop_map(|points| Weight::from_basis_points(points).unwrap())
    }

    #[test]
    fn the_hash_is_pinned_for_ever() {
        // Computed with another implementation (Python's xxhash 3.x): xxh3_64_intdigest(salt + b"\0" + key) % 10000.
        for (salt, key, expect) in PINNED {
            assert_eq!(Bucket::of(salt, key.as_bytes()).number(), *expect, "{salt} {key}");
        }
    }

    #[test]
    fn five_percent_of_many_callers_are_five_percent() {
        let weight: Weight = "5%".parse().unwrap();
        let on_extracted = (0..100_000)
            .filter(|user| {
                choose_side(Bucket::of("cart-total", format!("user-{user}").as_bytes()), weight) == Side::Extracted
            })
            .count();
        // Five standard deviations of a fair draw are 345.
        assert!((4_655..=5_345).contains(&on_extracted), "{on_extracted}");
    }

    proptest! {
        #[test]
        fn a_larger_weight_sends_no_caller_back(caller: [u8; 16], a in weights(), b in weights()) {
            let bucket = Bucket::of("orders", &caller);
            if choose_side(bucket, a.min(b)) == Side::Extracted {
                prop_assert_eq!(choose_side(bucket, a.max(b)), Side::Extracted);
            }
        }

        #[test]
        fn none_and_all_are_exact(caller: Vec<u8>) {
            let bucket = Bucket::of("orders", &caller);
            prop_assert_eq!(choose_side(bucket, Weight::NONE), Side::Legacy);
            prop_assert_eq!(choose_side(bucket, Weight::ALL), Side::Extracted);
        }

        #[test]
        fn a_long_key_hashes_as_a_short_one_would(salt in "[a-z]{0,40}", key in proptest::collection::vec(any::<u8>(), 0..400)) {
            let joined = [salt.as_bytes(), &[0], &key].concat();
            let expect = u16::try_from(xxh3_64(&joined) % 10_000).unwrap();
            prop_assert_eq!(Bucket::of(&salt, &key).number(), expect);
        }
    }
}

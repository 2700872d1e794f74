//! Random numbers that need to be fast and spread, not secret: trace ids, the choice of an endpoint.

use std::cell::{Cell, RefCell};

use http::HeaderValue;

thread_local! {
    static STATE: Cell<u64> = Cell::new(seed());
}

fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // No randomness from the system: time and an address still differ between threads.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let here = 0u8;
        u64::from(now.subsec_nanos()) ^ (std::ptr::from_ref(&here).addr() as u64)
    })
}

/// The next number of this thread's SplitMix64 (Steele, Lea, Flood, 2014).
pub(crate) fn next_u64() -> u64 {
    STATE.with(|state| {
        let now = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(now);
        let mut z = now;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Writes `value` as lower-case hex into `room`, most significant digit first.
pub(crate) fn hex_into(room: &mut [u8], mut value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for digit in room.iter_mut().rev() {
        *digit = DIGITS[(value & 15) as usize];
        value >>= 4;
    }
}

/// A W3C `traceparent` of version 00: `trace` goes on, or a new one begins; the span is always new.
pub(crate) fn traceparent(trace: Option<[u8; 32]>, flags: [u8; 2]) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
    if let Some(trace) = trace {
        text[3..35].copy_from_slice(&trace);
    } else {
        hex_into(&mut text[3..19], next_u64());
        // An id of zeros is none.
        hex_into(&mut text[19..35], next_u64() | 1);
    }
    hex_into(&mut text[36..52], next_u64() | 1);
    text[53..].copy_from_slice(&flags);
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Ids that one request to the system is good for.
const IDS: usize = 32;

thread_local! {
    static RANDOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// 128 bits as 32 hex digits, from the system: an id that others must not guess.
pub(crate) fn caller_id() -> [u8; 32] {
    let bytes: [u8; 16] = RANDOM.with_borrow_mut(|random| {
        if random.len() < 16 {
            random.resize(16 * IDS, 0);
            if getrandom::fill(random).is_err() {
                random.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&next_u64().to_ne_bytes()));
            }
        }
        let rest = random.len() - 16;
        let id = random.get(rest..).and_then(|id| id.try_into().ok()).unwrap_or_default();
        random.truncate(rest);
        id
    });
    let value = u128::from_be_bytes(bytes);
    let mut id = [0u8; 32];
    let (high, low) = id.split_at_mut(16);
    hex_into(high, (value >> 64) as u64);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    hex_into(low, value as u64);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ids_are_alike() {
        let ids: std::collections::BTreeSet<[u8; 32]> = (0..10 * IDS).map(|_| caller_id()).collect();
        assert_eq!(ids.len(), 10 * IDS);
    }
}

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

/// `value` as 16 lower-case hex digits, most significant first. All digits at once: each nibble gets a byte of its own, and those
/// above 9 the distance to `a` on top.
pub(crate) fn hex(value: u64) -> [u8; 16] {
    let mut nibbles = u128::from(value);
    nibbles = (nibbles | nibbles << 32) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f;
    let ones = 0x0101_0101_0101_0101_0101_0101_0101_0101;
    // 6 lifts 10 and above into bit 4, and nothing below.
    let is_letter = ((nibbles + 6 * ones) >> 4) & ones;
    let digits = nibbles + u128::from(b'0') * ones + is_letter * u128::from(b'a' - b'0' - 10);
    digits.to_be_bytes()
}

/// A W3C `traceparent` of version 00: `trace` goes on, or a new one begins; the span is always new.
pub(crate) fn traceparent(trace: Option<[u8; 32]>, flags: [u8; 2]) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
    if let Some(trace) = trace {
        text[3..35].copy_from_slice(&trace);
    } else {
        text[3..19].copy_from_slice(&hex(next_u64()));
        // An id of zeros is none.
        text[19..35].copy_from_slice(&hex(next_u64() | 1));
    }
    text[36..52].copy_from_slice(&hex(next_u64() | 1));
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
    high.copy_from_slice(&hex((value >> 64) as u64));
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    low.copy_from_slice(&hex(value as u64));
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_what_the_formatter_writes() {
        let mut values = vec![0, 9, 10, 15, 16, u64::MAX, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
        values.extend((0..10_000).map(|_| next_u64()));
        for value in values {
            assert_eq!(String::from_utf8(hex(value).to_vec()).unwrap(), format!("{value:016x}"));
        }
    }

    #[test]
    fn no_two_ids_are_alike() {
        let ids: std::collections::BTreeSet<[u8; 32]> = (0..10 * IDS).map(|_| caller_id()).collect();
        assert_eq!(ids.len(), 10 * IDS);
    }
}

//! The shop's data, the same on every machine: both sides seed their databases from it.
//!
//! Everything here is a function of [`SEED`]. Changing a number changes what both sides hold; they must be seeded anew.

pub mod vat;
pub mod catalogue;
pub mod coupons;
pub mod zipf;
pub mod users;
pub mod stock;
pub mod carts;
pub mod orders;

use crate::prng::Prng;
use crate::time::UnixMs;

/// What all generated data grows from.
pub const SEED: u64 = 0x0005_7A4E_617E;

/// When the data were "taken": 2026-11-01 00:00 UTC. Prices are valid from here, historic orders lie before.
pub const TAKEN_AT: UnixMs = 1_793_491_200_000;

/// A generator of its own for each part, so that a change in one leaves the others as they are.
fn part(number: u64) -> Prng {
    Prng::new(SEED ^ (number << 48))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_were_taken_when_the_constant_says() {
        assert_eq!(crate::time::rfc3339(TAKEN_AT), "2026-11-01T00:00:00.000Z");
    }
}

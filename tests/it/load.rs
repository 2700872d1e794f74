//! Promises under load. `make load` runs them at full size and prints a table; in `make test` the same code runs small.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod overload;
mod rates;
mod reloads;
mod shadows;
mod slow_clients;
mod soak;
mod starved;
mod upgrades;
mod upstreams;

use std::time::Duration;

use crate::support::pauses;

/// Bytes.
const MIB: f64 = 1_048_576.0;

/// Whether the sizes are those of the promises (`LOAD=full`).
fn is_full() -> bool {
    std::env::var("LOAD").is_ok_and(|size| size == "full")
}

/// A size: in a test, and in full.
fn size<T>(small: T, full: T) -> T {
    if is_full() { full } else { small }
}

/// Seconds, likewise.
fn seconds(small: u64, full: u64) -> Duration {
    Duration::from_secs(size(small, full))
}

/// A number that a variable says otherwise.
fn told(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A line of the table. Times on a clock decide nothing at the small size, where many tests run beside each other.
fn row(what: &str, must: &str, got: &str, holds: bool) {
    let verdict = match (holds, is_full()) {
        (true, _) => "holds",
        (false, true) => "FAILS",
        (false, false) => "not at this size",
    };
    let paused = pauses::total();
    let paused =
        if paused.is_zero() { String::new() } else { format!("; the machine paused it for {paused:.0?} so far") };
    eprintln!("load | {what} | {must} | {got}{paused} | {verdict}");
}

/// Likewise, where the full size fails with it.
fn judged_row(what: &str, must: &str, got: &str, holds: bool) {
    row(what, must, got, holds);
    assert!(holds || !is_full(), "{what}: {must}: {got}");
}

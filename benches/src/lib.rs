//! The parts of the bench: what backend, load generator and driver share, and what the driver is made of.
//!
//! Three programs: `bench-backend` answers, `bench-load` asks, `bench-peers` puts a proxy between them and counts. They are small
//! and single-threaded, because what they burn is taken from what is measured.

pub mod http1;
pub mod peers;
pub mod process;
pub mod scenarios;
pub mod statistics;
pub mod tick;

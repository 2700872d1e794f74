//! Builds all parts, hands each one end of a bounded channel, and owns start and stop.

pub mod keys;
pub mod workers;

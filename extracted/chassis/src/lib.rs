//! What every service of the estate shares. Plain parts first, then the data set, then what serves and stores.

pub mod prng;
pub mod time;
pub mod money;
pub mod dataset;
pub mod problem;
pub mod contract;
pub mod bugs;
pub mod trace;
pub mod client;
pub mod service;
pub mod store;
pub mod idempotency;

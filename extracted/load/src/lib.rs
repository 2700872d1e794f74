//! Shoppers for the estate: who does what, over which connections, how fast, and what came of it.

pub mod args;
pub mod tally;
pub mod shopper;
pub mod target;
pub mod run;

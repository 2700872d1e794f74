//! What every handler is given.

use std::sync::Arc;

use estate_chassis::bugs::{Bug, Bugs};
use estate_chassis::store::Database;
use tokio::sync::Semaphore;

use crate::payments::bank::Bank;

/// Purchases that run at the same time, those that wait for a slow bank included.
pub const COUNTERS: usize = 1_024;

/// The monolith's state. Clones share it.
#[derive(Clone, Debug)]
pub struct Shop {
    pub database: Database,
    pub bugs: Arc<Bugs<LegacyBug>>,
    pub bank: Bank,
    /// Where purchases are made; when all are taken, the next shopper is sent away.
    pub counters: Arc<Semaphore>,
}

/// What can be made wrong with the monolith.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyBug {
    /// Amounts of yen come a hundredfold, as if a yen had cents: here the *monolith* is the one that is wrong.
    RoundingJpy,
}

impl Bug for LegacyBug {
    const ALL: &'static [LegacyBug] = &[LegacyBug::RoundingJpy];

    fn name(self) -> &'static str {
        match self {
            LegacyBug::RoundingJpy => "rounding_jpy",
        }
    }
}

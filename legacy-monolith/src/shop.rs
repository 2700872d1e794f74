//! What every handler is given.

use std::sync::Arc;

use estate_chassis::bugs::{Bug, Bugs};
use estate_chassis::store::Database;

use crate::payments::bank::Bank;

/// The monolith's state. Clones share it.
#[derive(Clone, Debug)]
pub struct Shop {
    pub database: Database,
    pub bugs: Arc<Bugs<LegacyBug>>,
    pub bank: Bank,
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

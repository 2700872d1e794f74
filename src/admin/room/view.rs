//! What the pages show, made of what is known: pure, without a clock.

pub(crate) mod overview;
pub(crate) mod route;

use std::collections::BTreeMap;

use serde::Deserialize;

/// Words with a tone: what to do about it is told by it, and by a sign beside it, never by colour alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// `good`, `wait`, `bad` or `off`.
    pub(crate) tone: &'static str,
    /// A few words.
    pub(crate) text: String,
}

impl Words {
    fn new(tone: &'static str, text: impl Into<String>) -> Words {
        Words { tone, text: text.into() }
    }
}

/// A rollout as it is told by whoever moves it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RolloutSeen {
    pub(crate) steps: Vec<String>,
    pub(crate) step: Option<String>,
    pub(crate) next: Option<String>,
    pub(crate) since: String,
    pub(crate) at_step_s: u64,
    pub(crate) requests: u64,
    pub(crate) verdict: String,
    pub(crate) why: String,
    pub(crate) waits_for: Vec<String>,
    pub(crate) gates: BTreeMap<String, GateSeen>,
    pub(crate) held: Option<String>,
    pub(crate) latched: Option<String>,
    pub(crate) release: Option<String>,
}

/// A gate of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GateSeen {
    pub(crate) state: String,
    pub(crate) why: String,
    pub(crate) needs_requests: Option<u64>,
    pub(crate) eta_s: Option<u64>,
}

/// One change of a text, an attribute or a line of the pages, by its key.
pub(crate) type Cells = BTreeMap<String, String>;

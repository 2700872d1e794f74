//! What a rollout asks others before it rises, and what it tells them: which, when, in what words, signed how. Sending is the shell's.
//!
//! A hook may hold a raise and nothing else: a lowering asks nobody.

mod ask;
mod message;
mod sign;
mod watch;

use std::time::Duration;

use crate::judge::Reason;
use crate::rollout::{Action, Look};

pub use crate::hook::ask::{Asking, Leave, Question};
pub use crate::hook::message::{Kind, Message};
pub use crate::hook::sign::{KeyError, Keys, signature};
pub use crate::hook::watch::{Now, Watch};

/// First wait before a further try, and the longest.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_mins(1);

/// How long is waited before the `tried + 1`th try; `chance` from 0 to 1 takes up to half of it off, so that not all come at once.
pub fn wait_before_retry(tried: u32, chance: f64) -> Duration {
    let whole = WAIT_FIRST.saturating_mul(1 << tried.saturating_sub(1).min(16)).min(WAIT_MAX);
    whole.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
}

/// Whether another try may come to something: what is refused is refused. Neither a redirect nor a 4xx goes away by asking again.
pub fn may_retry(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..)
}

/// What a look comes to once hooks are asked: a raise waits for their leave, everything else is as it was.
pub fn with_leave(found: Look, leave: &Leave) -> Look {
    let why = match (&found.action, leave) {
        (Action::Stay | Action::Back(_) | Action::Page, _) | (Action::Rise(_), Leave::Given) => return found,
        (Action::Rise(_), Leave::Asked(whom)) => format!("hook {whom}: asked, no answer yet"),
        (Action::Rise(_), Leave::Refused(why)) => format!("hook {why}"),
    };
    Look { action: Action::Stay, reason: Reason::Hook, waits_for: vec![why.clone()], why }
}

#[cfg(test)]
mod tests;

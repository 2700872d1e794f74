//! The bank, as far as a demonstration needs one: a card's token says how it answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use estate_chassis::problem::Problem;
use estate_chassis::time;

/// How long the bank takes where a card's token makes it slow. Tests shorten both.
#[derive(Clone, Copy, Debug)]
pub struct Bank {
    /// `tok_slow_8s`: until the bank has decided. Default: 8 s.
    pub slow: Duration,
    /// `tok_timeout_then_ok`: from the booking to the answer. Default: 40 s, longer than callers wait.
    pub silent: Duration,
}

impl Default for Bank {
    fn default() -> Bank {
        Bank { slow: Duration::from_secs(8), silent: Duration::from_secs(40) }
    }
}

/// What the bank gives for money that it holds.
#[derive(Clone, Debug)]
pub struct Approval {
    pub card_last4: &'static str,
    pub psp_ref: String,
    /// How long the line is dead once the money is booked.
    silence: Duration,
}

impl Bank {
    /// Asks the bank to hold the money. A hold that nobody books lapses at the bank by itself.
    pub async fn authorize(&self, card_token: &str) -> Result<Approval, Problem> {
        static ASKED: AtomicU64 = AtomicU64::new(1);
        let (card_last4, delay, silence) = match card_token {
            "tok_visa" => ("4242", Duration::ZERO, Duration::ZERO),
            "tok_declined" => return Err(Problem::declined()),
            "tok_slow_8s" => ("0008", self.slow, Duration::ZERO),
            "tok_timeout_then_ok" => ("0504", Duration::ZERO, self.silent),
            _ => return Err(Problem::unknown_card_token()),
        };
        tokio::time::sleep(delay).await;
        let serial = ASKED.fetch_add(1, Ordering::Relaxed);
        Ok(Approval { card_last4, psp_ref: format!("psp-{:x}-{serial}", time::now_ms()), silence })
    }
}

impl Approval {
    /// To be awaited after the booking: the caller of a silent bank learns late of what has happened.
    pub async fn fall_silent(&self) {
        tokio::time::sleep(self.silence).await;
    }
}

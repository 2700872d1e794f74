//! The bank, as far as a demonstration needs one: a card's token says how it answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use estate_chassis::problem::Problem;
use estate_chassis::time;

/// How long the slow bank takes.
const SLOW: Duration = Duration::from_secs(8);

/// What the bank gives for money that it holds.
#[derive(Clone, Debug)]
pub struct Approval {
    pub card_last4: &'static str,
    pub psp_ref: String,
}

/// Asks the bank to hold the money. A hold that nobody books lapses at the bank by itself.
pub async fn authorize(card_token: &str) -> Result<Approval, Problem> {
    static ASKED: AtomicU64 = AtomicU64::new(1);
    let card_last4 = match card_token {
        "tok_visa" => "4242",
        "tok_declined" => return Err(Problem::declined()),
        "tok_slow_8s" | "tok_timeout_then_ok" => {
            tokio::time::sleep(SLOW).await;
            "0008"
        }
        _ => return Err(Problem::unknown_card_token()),
    };
    let serial = ASKED.fetch_add(1, Ordering::Relaxed);
    Ok(Approval { card_last4, psp_ref: format!("psp-{:x}-{serial}", time::now_ms()) })
}

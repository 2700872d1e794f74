//! The bank behind the cards: a stand-in that answers by the card's token.

use std::time::Duration;

use estate_chassis::problem::Problem;

/// How long the slow cards take. Tests shorten both.
#[derive(Clone, Copy, Debug)]
pub struct Bank {
    /// `tok_slow_8s`: until the bank has decided. Default: 8 s.
    pub slow: Duration,
    /// `tok_timeout_then_ok`: from the decision, which is kept, to the answer. Default: 40 s, longer than callers wait.
    pub silent: Duration,
}

impl Default for Bank {
    fn default() -> Bank {
        Bank { slow: Duration::from_secs(8), silent: Duration::from_secs(40) }
    }
}

/// What the bank says to a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub is_authorized: bool,
    pub card_last4: &'static str,
    pub before: Wait,
    pub after: Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    None,
    Slow,
    Silent,
}

impl Bank {
    pub fn verdict(card_token: &str) -> Result<Verdict, Problem> {
        let good = Verdict { is_authorized: true, card_last4: "4242", before: Wait::None, after: Wait::None };
        match card_token {
            "tok_visa" => Ok(good),
            "tok_declined" => Ok(Verdict { is_authorized: false, card_last4: "0002", ..good }),
            "tok_slow_8s" => Ok(Verdict { before: Wait::Slow, card_last4: "0008", ..good }),
            "tok_timeout_then_ok" => Ok(Verdict { after: Wait::Silent, card_last4: "0504", ..good }),
            _ => Err(Problem::unknown_card_token()),
        }
    }

    pub async fn wait(&self, wait: Wait) {
        match wait {
            Wait::None => (),
            Wait::Slow => tokio::time::sleep(self.slow).await,
            Wait::Silent => tokio::time::sleep(self.silent).await,
        }
    }
}

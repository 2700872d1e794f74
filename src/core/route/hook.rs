//! Whom a rollout asks before it rises, and whom it tells what it did.

use std::sync::Arc;
use std::time::Duration;

use crate::web::WebUrl;

/// Somebody elsewhere, over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where.
    pub to: HookTo,
    /// On which occasions.
    pub when: Arc<[When]>,
    /// Where the key of the signature is; `None`: it is not signed.
    pub key_file: Option<Arc<str>>,
    /// Authorities that its certificate may be of. Default: the public ones.
    pub ca: Option<Arc<str>>,
    /// Of one try, from the look-up of the name to the head of the answer. Default: 10 s.
    pub timeout: Duration,
    /// Further tries. Default: 3.
    pub retries: u32,
    /// What is sent. Default: the message as JSON.
    pub format: HookFormat,
}

impl Hook {
    /// Longest wait for one try.
    pub const TIMEOUT_MAX: Duration = Duration::from_mins(5);

    /// Whether it is for this.
    pub fn is_for(&self, when: When) -> bool {
        self.when.contains(&when)
    }

    /// Every file that it names, by the key.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Arc<str>)> {
        let url_file = match &self.to {
            HookTo::Url(_) => None,
            HookTo::File(path) => Some(path),
        };
        let all = [("webhook_file", url_file), ("key_file", self.key_file.as_ref()), ("ca", self.ca.as_ref())];
        all.into_iter().filter_map(|(key, path)| Some((key, path?)))
    }
}

/// Where a hook goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookTo {
    /// There.
    Url(WebUrl),
    /// To the URL in this file, read each time.
    File(Arc<str>),
}

/// What a hook is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookFormat {
    /// The message.
    #[default]
    Json,
    /// `{"text": …}`, which Slack takes, and many that are like it.
    Slack,
}

/// An occasion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Before each step: it is entered once a 2xx has come.
    PreStep,
    /// Before the last step, likewise.
    ConfirmPromotion,
    /// After a step was entered.
    PostStep,
    /// After users were sent back, by whomever.
    Rollback,
    /// When it waits for somebody, or for something that time alone does not bring.
    Hold,
    /// Whatever happens.
    Event,
}

impl When {
    /// As in the `hook` label.
    pub const fn as_str(self) -> &'static str {
        match self {
            When::PreStep => "pre_step",
            When::ConfirmPromotion => "confirm_promotion",
            When::PostStep => "post_step",
            When::Rollback => "rollback",
            When::Hold => "hold",
            When::Event => "event",
        }
    }
}

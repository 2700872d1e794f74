//! The bugs that can be switched on.

use estate_chassis::bugs::Bug;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The `Idempotency-Key` is read and then forgotten: a second click pays twice.
    IgnoreIdem,
    /// New payments fail, by turns with 402 and 503.
    Fail,
}

impl Bug for Fault {
    const ALL: &'static [Fault] = &[Fault::IgnoreIdem, Fault::Fail];

    fn name(self) -> &'static str {
        match self {
            Fault::IgnoreIdem => "ignore_idem",
            Fault::Fail => "fail",
        }
    }
}

//! Who asked for a change, when and why.

use std::fmt;
use std::sync::Arc;

/// Longest name of who asked, in bytes.
pub const BY_BYTES_MAX: usize = 128;
/// Longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 1_024;

/// Who asked for a change, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    by: Arc<str>,
    at_unix_ms: u64,
    reason: Arc<str>,
}

/// Why a note was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Nobody can learn from an empty reason.
    #[error("give a reason: it is shown beside the weight until it is lifted")]
    NoReason,
    /// More than [`REASON_BYTES_MAX`] bytes.
    #[error("a reason has at most {REASON_BYTES_MAX} bytes, this one has {0}")]
    ReasonTooLong(usize),
    /// Empty, or more than [`BY_BYTES_MAX`] bytes.
    #[error("who asks must be named, in at most {BY_BYTES_MAX} bytes")]
    By,
}

impl Note {
    /// Control characters become spaces, so that a note can be shown on a terminal and stays one line.
    pub fn new(by: &str, at_unix_ms: u64, reason: &str) -> Result<Note, NoteError> {
        let (by, reason) = (one_line(by), one_line(reason));
        if reason.is_empty() {
            return Err(NoteError::NoReason);
        }
        if reason.len() > REASON_BYTES_MAX {
            return Err(NoteError::ReasonTooLong(reason.len()));
        }
        if by.is_empty() || by.len() > BY_BYTES_MAX {
            return Err(NoteError::By);
        }
        Ok(Note { by: by.into(), at_unix_ms, reason: reason.into() })
    }

    /// The routes file's own doing.
    pub fn routes_file(at_unix_ms: u64, reason: &str) -> Note {
        Note { by: "routes file".into(), at_unix_ms, reason: one_line(reason).into() }
    }

    /// Who asked.
    pub fn by(&self) -> &str {
        &self.by
    }

    /// When, in milliseconds since 1970.
    pub fn at_unix_ms(&self) -> u64 {
        self.at_unix_ms
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Note {
    /// `since 2026-11-21T10:39:55Z by ops because of the incident`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "since {} by {} because {}", utc(self.at_unix_ms), self.by, self.reason)
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// A moment in RFC 3339, UTC, whole seconds.
pub fn utc(unix_ms: u64) -> String {
    let (days, second) = (unix_ms / 86_400_000, unix_ms / 1_000 % 86_400);
    // Civil date from days (H. Hinnant): eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

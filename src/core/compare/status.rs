//! Statuses: the same, mapped, or a difference of the kind that says most.

use crate::compare::NotComparable;
use crate::compare::differences::{Differences, Location, Shown};
use crate::difference::Kind;
use crate::route::{StatusMode, StatusPolicy};

/// What two statuses leave to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusFinding {
    /// Headers and bodies are worth a look.
    GoOn,
    /// They are not: one side failed or refused.
    Enough,
    /// The two were not asked the same.
    NotComparable(NotComparable),
}

pub(crate) fn compare(
    legacy: u16,
    extracted: u16,
    policy: &StatusPolicy,
    found: &mut Differences<'_>,
) -> StatusFinding {
    if legacy == extracted || policy.map.contains(&(legacy, extracted)) {
        return StatusFinding::GoOn;
    }
    let has = |status: u16| legacy == status || extracted == status;
    let other_is_success = |status: u16| {
        let other = if legacy == status { extracted } else { legacy };
        (200..300).contains(&other)
    };
    // Validators and ranges stay with the user's own request; the copy goes without.
    for status in [304, 412] {
        if has(status) && other_is_success(status) {
            return StatusFinding::NotComparable(NotComparable::Conditional);
        }
    }
    for status in [206, 416] {
        if has(status) && other_is_success(status) {
            return StatusFinding::NotComparable(NotComparable::Range);
        }
    }
    if policy.mode == StatusMode::Class && legacy / 100 == extracted / 100 {
        return StatusFinding::GoOn;
    }
    let is_refusal = |status: u16| matches!(status, 401 | 403 | 419);
    let (kind, finding) = match (legacy >= 500, extracted >= 500) {
        (true, false) => (Kind::LegacyError, StatusFinding::Enough),
        (false, true) => (Kind::ExtractedError, StatusFinding::Enough),
        _ if is_refusal(legacy) != is_refusal(extracted) => (Kind::AuthMismatch, StatusFinding::Enough),
        _ => (Kind::Status, StatusFinding::GoOn),
    };
    found.push(Location::Status, kind, Some(Shown::Status(legacy)), Some(Shown::Status(extracted)));
    finding
}

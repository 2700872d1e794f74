//! Causes that somebody has accepted: the change is intended, until a day, and somebody says why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::compare::{Comparison, ComparisonResult};
use crate::day::Day;
use crate::redact::Cause;
use crate::runtime::Note;

/// Most causes that are accepted at a time, all routes together.
pub const ACCEPTED_MAX: usize = 1_000;

/// A route's name and a cause's signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AcceptedKey {
    /// The route.
    pub route: String,
    /// As in [`Cause::signature`].
    pub signature: String,
}

/// Who accepted it, when, why, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// Who, when, why.
    pub note: Note,
    /// The last day on which it holds. `None`: no end.
    pub until: Option<Day>,
    /// The cause as it was then: it is still to be read when the last record of it has gone.
    pub cause: Cause,
}

/// All that are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted(pub BTreeMap<AcceptedKey, Acceptance>);

impl Accepted {
    /// The one of a cause that holds today.
    pub fn holding(&self, route: &str, signature: &str, today: Day) -> Option<&Acceptance> {
        if self.0.is_empty() {
            return None;
        }
        let key = AcceptedKey { route: route.to_owned(), signature: signature.to_owned() };
        self.0.get(&key).filter(|acceptance| acceptance.until.is_none_or(|until| until >= today))
    }

    /// Takes the differences whose causes are accepted for expected ones. A side that failed is never expected.
    pub fn apply(&self, route: &str, comparison: &mut Comparison, today: Day) {
        if self.0.is_empty() || comparison.result != ComparisonResult::Mismatch {
            return;
        }
        let mut taken = Vec::new();
        comparison.differences.retain(|difference| {
            let is_taken = self.holding(route, &Cause::of(route, Some(difference)).signature, today).is_some();
            if is_taken {
                taken.push(difference.kind);
            }
            !is_taken
        });
        for kind in taken {
            comparison.total = comparison.total.saturating_sub(1);
            comparison.expected += 1;
            if let Some((_, count)) = comparison.by_kind.iter_mut().find(|(of, _)| *of == kind) {
                *count = count.saturating_sub(1);
            }
        }
        comparison.by_kind.retain(|(_, count)| *count > 0);
        if comparison.total == 0 {
            comparison.result = ComparisonResult::Expected;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::pointer::{Pointer, Step};
    use crate::compare::{Difference, Kind, Location, NotComparable, Shown};

    fn number(key: &str) -> Difference {
        let path = Location::Body(Pointer(vec![Step::Key(key.into())]));
        let [legacy, extracted] = ["1", "2"].map(|text| Some(Shown::Number(text.to_owned())));
        Difference { path, kind: Kind::Value, legacy, extracted, rule: None, unmatched: None }
    }

    fn mismatch(keys: &[&str], total: u64) -> Comparison {
        Comparison {
            result: ComparisonResult::Mismatch,
            differences: keys.iter().map(|key| number(key)).collect(),
            total,
            by_kind: vec![(Kind::Value, total)],
            ..Comparison::not_comparable(NotComparable::Internal)
        }
    }

    fn accepted(keys: &[&str], until: Option<&str>) -> Accepted {
        let one = |key: &&str| {
            let cause = Cause::of("cart", Some(&number(key)));
            let note = Note::new("ada", 1, "rounding was wrong").expect("a note");
            let until = until.map(|day| day.parse().expect("a day"));
            let at = AcceptedKey { route: "cart".to_owned(), signature: cause.signature.clone() };
            (at, Acceptance { note, until, cause })
        };
        Accepted(keys.iter().map(one).collect())
    }

    #[test]
    fn a_pair_is_expected_when_all_its_causes_are_accepted_and_only_so_long() {
        let today: Day = "2026-11-21".parse().expect("a day");
        let tried = |accepted: &Accepted, route: &str, mut pair: Comparison| {
            accepted.apply(route, &mut pair, today);
            (pair.result, pair.total, pair.expected, pair.differences.len())
        };
        let (mismatch_of, expected) = (ComparisonResult::Mismatch, ComparisonResult::Expected);
        let total = accepted(&["total"], Some("2026-11-21"));
        assert_eq!(tried(&total, "cart", mismatch(&["total"], 1)), (expected, 0, 1, 0));
        assert_eq!(tried(&total, "cart", mismatch(&["tax", "total"], 2)), (mismatch_of, 1, 1, 1));
        // Differences that are not kept could be of any cause.
        assert_eq!(tried(&total, "cart", mismatch(&["total"], 101)), (mismatch_of, 100, 1, 0));
        assert_eq!(tried(&total, "orders", mismatch(&["total"], 1)), (mismatch_of, 1, 0, 1));
        let over = accepted(&["total"], Some("2026-11-20"));
        assert_eq!(tried(&over, "cart", mismatch(&["total"], 1)), (mismatch_of, 1, 0, 1));
        let failed = Comparison { result: ComparisonResult::Failed, ..mismatch(&["total"], 1) };
        assert_eq!(tried(&total, "cart", failed), (ComparisonResult::Failed, 1, 0, 1));
    }
}

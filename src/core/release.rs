//! Which release a service runs, by what its answers say.

use std::collections::VecDeque;

use crate::runtime::Release;

/// Answers that are looked back at.
pub const LAST: usize = 100;
/// Of which so many must name the same release: while one is rolled out, both answer.
pub const ALIKE_MIN: usize = 90;

/// The last answers of a service.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    last: VecDeque<Option<Release>>,
}

impl Recent {
    /// Takes what an answer names; `None`: nothing, or nothing that could be a release.
    pub fn note(&mut self, release: Option<Release>) {
        if self.last.len() >= LAST {
            self.last.pop_front();
        }
        self.last.push_back(release);
    }

    /// Whether no answer has named anything else, as far as is looked back.
    pub fn is_begun_with(&self, release: &Release) -> bool {
        self.last.iter().all(|named| named.as_ref() == Some(release))
    }

    /// The release that the service runs; `None`: too few answers, or not enough of them agree.
    pub fn release(&self) -> Option<&Release> {
        let newest = self.last.iter().rev().flatten().next()?;
        let alike = |one: &&Release| self.last.iter().flatten().filter(|other| other == one).count() >= ALIKE_MIN;
        // Only one can have so many; usually it is the newest.
        Some(newest).filter(alike).or_else(|| self.last.iter().flatten().find(alike))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(named: &[(&str, usize)]) -> Option<String> {
        let mut recent = Recent::default();
        for (name, times) in named {
            for _ in 0..*times {
                recent.note(Release::new(name));
            }
        }
        recent.release().map(ToString::to_string)
    }

    #[test]
    fn a_release_is_one_that_ninety_of_the_last_hundred_answers_name() {
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[("1.0", 89)]), None);
        assert_eq!(after(&[("1.0", 90)]).as_deref(), Some("1.0"));
        assert_eq!(after(&[("1.0", 100), ("1.1", 10)]).as_deref(), Some("1.0"));
        assert_eq!(after(&[("1.0", 100), ("1.1", 11)]), None, "both answer");
        assert_eq!(after(&[("1.0", 500), ("1.1", 90)]).as_deref(), Some("1.1"));
        assert_eq!(after(&[("1.0", 89), ("", 11)]), None, "answers that name none count");
        assert_eq!(after(&[("1.0", 90), ("", 10)]).as_deref(), Some("1.0"));
    }
}

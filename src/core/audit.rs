//! The audit as a chain: each entry carries a hash of itself and of the one before, so that none can be changed, taken out or put in
//! between without breaking it there.
//!
//! Whoever may write to the store can make the whole chain anew, and can cut its end off: note the last hash elsewhere, and compare.

use sha2::{Digest, Sha256};

/// Hex digits of a link.
pub const LINK_CHARS: usize = 64;

/// What an entry says, as far as its link is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// Milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Who.
    pub who: &'a str,
    /// What.
    pub what: &'a str,
    /// The route.
    pub route: Option<&'a str>,
    /// What was in force.
    pub from: Option<&'a str>,
    /// What was asked for.
    pub to: Option<&'a str>,
    /// Why.
    pub reason: &'a str,
    /// Whether it was done.
    pub accepted: bool,
}

/// The link of an entry that follows one with the link `before`; empty: it is the first.
pub fn link(before: &str, said: &Said<'_>) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: Option<&str>| {
        // A length before each text, so that no two entries look alike; one that is not there is no empty one.
        let length = text.map_or(u64::MAX, |text| text.len() as u64);
        hash.update(length.to_be_bytes());
        hash.update(text.unwrap_or_default());
    };
    part(Some(before));
    for text in [Some(said.who), Some(said.what), said.route, said.from, said.to, Some(said.reason)] {
        // As the store writes it: a text of PostgreSQL's holds no NUL.
        part(text.map(|text| text.replace('\0', "\u{fffd}")).as_deref());
    }
    hash.update(said.at_unix_ms.to_be_bytes());
    hash.update([u8::from(said.accepted)]);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Follows a chain, oldest entry first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verifier {
    /// The link of the last entry; `None`: none has come.
    last: Option<String>,
    /// Entries whose link is right.
    pub linked: u64,
    /// Entries of before there was a chain.
    pub unlinked: u64,
    /// The first entry that does not fit, by its number.
    pub broken_at: Option<u64>,
}

impl Verifier {
    /// Takes the next entry with its number and its link; empty: it is of before there was a chain.
    ///
    /// Of the oldest that is left only what follows it is proven: what came before was swept.
    pub fn take(&mut self, seq: u64, said: &Said<'_>, own: &str) {
        if self.broken_at.is_some() {
            return;
        }
        let fits = match &self.last {
            _ if own.is_empty() => self.last.is_none(),
            Some(last) => link(last, said) == own,
            // The first of all, or the first that is left.
            None => self.unlinked == 0 || link("", said) == own,
        };
        match (fits, own.is_empty()) {
            (false, _) => self.broken_at = Some(seq),
            (true, true) => self.unlinked += 1,
            (true, false) => {
                self.linked += 1;
                self.last = Some(own.to_owned());
            }
        }
    }

    /// The last link, to be noted elsewhere.
    pub fn head(&self) -> Option<&str> {
        self.last.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Entry {
        who: String,
        route: Option<String>,
        reason: String,
        at: u64,
    }

    fn said(entry: &Entry) -> Said<'_> {
        Said {
            at_unix_ms: entry.at,
            who: &entry.who,
            what: "weight",
            route: entry.route.as_deref(),
            from: None,
            to: Some("5%"),
            reason: &entry.reason,
            accepted: true,
        }
    }

    fn chained(entries: &[Entry]) -> Vec<(Entry, String)> {
        let mut last = String::new();
        let one = |entry: &Entry| {
            last = link(&last, &said(entry));
            (entry.clone(), last.clone())
        };
        entries.iter().map(one).collect()
    }

    fn verified(chain: &[(Entry, String)]) -> Verifier {
        let mut verifier = Verifier::default();
        for (seq, (entry, own)) in (1..).zip(chain) {
            verifier.take(seq, &said(entry), own);
        }
        verifier
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let one = ("[a-z]{0,3}", proptest::option::of("[a-z]{0,3}"), "[a-z]{0,3}", 0u64..3);
        let entry = one.prop_map(|(who, route, reason, at)| Entry { who, route, reason, at });
        proptest::collection::vec(entry, 3..12)
    }

    proptest! {
        #[test]
        fn a_chain_holds_and_what_is_left_of_one_that_was_swept_does_too(entries in entries(), swept in 0usize..3) {
            let chain = chained(&entries);
            let verifier = verified(&chain[swept..]);
            prop_assert_eq!((verifier.broken_at, verifier.linked), (None, (entries.len() - swept) as u64));
            prop_assert_eq!(verifier.head(), Some(&*chain.last().unwrap().1));
        }

        #[test]
        fn a_changed_entry_a_missing_one_and_one_between_break_it(entries in entries(), at in 1usize..11, which in 0usize..4) {
            let at = at % (entries.len() - 1) + 1;
            let mut chain = chained(&entries);
            match which {
                0 => chain[at].0.reason.push('!'),
                1 if at + 1 < chain.len() => drop(chain.remove(at)),
                2 => chain.insert(at, chain[0].clone()),
                3 => chain[at].1 = String::new(),
                _ => chain[at].0.at += 1,
            }
            prop_assert!(verified(&chain).broken_at.is_some());
        }
    }

    #[test]
    fn what_was_written_before_there_was_a_chain_is_counted_as_that() {
        let entry = Entry { who: "a".into(), route: None, reason: "b".into(), at: 1 };
        let mut chain = vec![(entry.clone(), String::new())];
        chain.extend(chained(&[entry.clone(), entry]));
        let verifier = verified(&chain);
        assert_eq!((verifier.unlinked, verifier.linked, verifier.broken_at), (1, 2, None));
        chain[1].0.reason.push('!');
        assert_eq!(verified(&chain).broken_at, Some(2), "the first link is known to begin the chain");
    }
}

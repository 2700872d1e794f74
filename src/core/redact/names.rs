//! Telling a name that a programmer gave (`total_cents`) from data that stands where a name could (`{"4f9a…": …}`).

use crate::redact::detectors::is_sensitive;

/// Longest name that is taken for one.
const NAME_BYTES_MAX: usize = 40;
/// Longest word of a name.
const WORD_BYTES_MAX: usize = 16;

/// Whether a key reads like a name: a few words, digits only behind them, nothing that a detector objects to.
///
/// A guess, and one that errs on the side of hiding: what it refuses is stored as a keyed hash, and still groups.
pub fn is_plain(key: &str) -> bool {
    let name = key.trim_start_matches(['@', '$', '_']);
    if key.len() > NAME_BYTES_MAX || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.: ".contains(&b)) {
        return false;
    }
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    let words = words(name);
    let short = words.iter().filter(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()).len() < 3).count();
    digits <= 4
        && words.iter().all(|word| is_word(word))
        && (words.len() < 4 || short * 2 <= words.len())
        && !is_sensitive(key)
}

/// Splits at punctuation and at humps: `HTTPServerName2` is HTTP, Server, Name2.
fn words(name: &str) -> Vec<&str> {
    let bytes = name.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(b' ');
    let mut words = Vec::new();
    let mut start = 0;
    for index in 1..=bytes.len() {
        let (before, here, after) = (at(index - 1), at(index), at(index + 1));
        let is_hump = here.is_ascii_uppercase()
            && (!before.is_ascii_uppercase() || (after.is_ascii_lowercase() && before.is_ascii_uppercase()));
        if index == bytes.len() || is_hump || b"_-.: ".contains(&here) {
            let word = name.get(start..index).unwrap_or_default().trim_matches(['_', '-', '.', ':', ' ']);
            if !word.is_empty() {
                words.push(word);
            }
            start = index;
        }
    }
    words
}

/// Letters of one case (the first may be a capital) that could be spoken, and maybe digits behind them.
fn is_word(word: &str) -> bool {
    let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let tail = letters.get(1..).unwrap_or_default();
    let is_one_case = tail.bytes().all(|b| b.is_ascii_lowercase()) || letters.bytes().all(|b| b.is_ascii_uppercase());
    word.len() <= WORD_BYTES_MAX
        && is_one_case
        && letters.bytes().all(|b| b.is_ascii_alphabetic())
        && is_speakable(letters)
}

/// No more than five consonants in a row, once a word is longer than an acronym.
fn is_speakable(letters: &str) -> bool {
    letters.len() < 6 || letters.to_ascii_lowercase().split(['a', 'e', 'i', 'o', 'u', 'y']).all(|run| run.len() <= 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_programmers_give_are_plain() {
        for key in [
            "",
            "id",
            "total_cents",
            "unitCents",
            "tier_min_qty",
            "HTTPServerName2",
            "line-items",
            "@type",
            "$ref",
            "_links",
            "x",
            "a.b",
            "iso8601",
            "address1",
            "SKU",
            "createdAt",
            "sha256",
            "foo:bar",
            "order number",
        ] {
            assert!(is_plain(key), "{key:?}");
        }
    }

    #[test]
    fn data_in_the_place_of_a_name_is_not() {
        for key in [
            "4f9a8c",
            "12345",
            "ada@example.com",
            "7f9c24e8-3b12-4d6f-8a55-0c9e2b1d7e43",
            "kJHGfDsaQWeRtYmN",
            "xqzrtplkjhgf",
            "sk_live_abcdefghijkl",
            "AKIAIOSFODNN7EXAMPLE",
            "Müller",
            "line\nbreak",
            "a/b",
            "averyveryverylongnamewithoutanyword",
        ] {
            assert!(!is_plain(key), "{key:?}");
        }
    }
}

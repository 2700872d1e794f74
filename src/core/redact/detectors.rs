//! What is taken for a secret or for somebody's data, whatever place it stands at. Errs on the side of hiding.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

/// Whether `text` holds a card number, an IBAN, an e-mail address, a phone number, a token or a key.
pub fn is_sensitive(text: &str) -> bool {
    KNOWN.is_match(text) || has_card_number(text) || has_iban(text) || has_random_run(text)
}

/// Constant, and tried by the tests: they always compile. Should one ever not, nothing is held to be harmless.
static KNOWN: LazyLock<Known> = LazyLock::new(|| Known(RegexSet::new(PATTERNS).ok()));

struct Known(Option<RegexSet>);

impl Known {
    fn is_match(&self, text: &str) -> bool {
        self.0.as_ref().is_none_or(|set| set.is_match(text))
    }
}

const PATTERNS: [&str; 17] = [
    // E-mail, encoded or not.
    r"(?i)[a-z0-9._+'-]+(@|%40)[a-z0-9-]+",
    // JWT: a base64url object, a dot, another one.
    r"eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}",
    // Keys of clouds and services, by their prefixes.
    r"\b(AKIA|ASIA|AIDA|AROA|AGPA)[A-Z0-9]{12,}",
    r"AIza[0-9A-Za-z_-]{20,}|\bya29\.[0-9A-Za-z_-]{8,}",
    r"\bgh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|\bglpat-[A-Za-z0-9_-]{16,}|\bnpm_[A-Za-z0-9]{16,}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{8,}",
    r"\b(sk|pk|rk|whsec)[-_](live|test|proj|ant)?[-_]?[A-Za-z0-9_-]{12,}",
    r"\bSG\.[A-Za-z0-9_-]{8,}\.",
    r"(?i)AccountKey=|SharedAccessSignature|\bsig=[A-Za-z0-9%+/=]{16,}",
    r"-----BEGIN",
    r"(?i)\b(bearer|basic|digest|negotiate)\s+[A-Za-z0-9+/=._~-]{6,}",
    r"(?i)(password|passwd|secret|token|api[-_]?key)\s*[:=]",
    // User and password in a URL.
    r"://[^/\s:@]+:[^/\s@]+@",
    // Phone numbers: international, with the area in brackets, in groups.
    r"\+[0-9][0-9 ().\-/]{5,}[0-9]|\b00[1-9][0-9 ().\-/]{6,}[0-9]",
    r"\([0-9]{2,5}\)[ .\-]?[0-9]{2,}",
    r"\b[0-9]{3}[ .\-][0-9]{3}[ .\-][0-9]{4}\b",
    r"\b0[0-9]{2,5}[ /\-][0-9]{3,}",
];

/// 13 to 19 digits, maybe in groups, that pass Luhn's check.
fn has_card_number(text: &str) -> bool {
    let mut run: Vec<u8> = Vec::new();
    let mut gap = 0;
    for byte in text.bytes().chain(*b"\0") {
        match byte {
            b'0'..=b'9' => {
                run.push(byte - b'0');
                gap = 0;
            }
            b' ' | b'-' | b'.' if gap == 0 => gap += 1,
            _ => {
                if holds_card(&run) {
                    return true;
                }
                run.clear();
                gap = 0;
            }
        }
    }
    false
}

fn holds_card(run: &[u8]) -> bool {
    (13..=19)
        .any(|length| run.windows(length).any(|digits| matches!(digits.first(), Some(2..=6)) && passes_luhn(digits)))
}

fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

static IBAN_SHAPE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,40}").ok());

/// Two letters, two digits and 11 to 30 characters whose remainder by 97 is 1 (ISO 13616).
fn has_iban(text: &str) -> bool {
    let Some(shape) = IBAN_SHAPE.as_ref() else { return true };
    shape.find_iter(text).any(|found| {
        let compact: Vec<u8> =
            found.as_str().bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_uppercase()).collect();
        (15..=compact.len().min(34)).any(|length| compact.get(..length).is_some_and(has_iban_checksum))
    })
}

fn has_iban_checksum(iban: &[u8]) -> bool {
    let (head, tail) = iban.split_at(4);
    let remainder = tail.iter().chain(head).fold(0u32, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        letter => (remainder * 100 + u32::from(letter.saturating_sub(b'A')) + 10) % 97,
    });
    remainder == 1
}

/// 20 characters or more without a space, letters and digits mixed: a token of no known shape. A UUID is an identifier, not one.
fn has_random_run(text: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "_-+/=~.".contains(c))).any(|run| {
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        let letters = run.bytes().filter(u8::is_ascii_alphabetic).count();
        digits + letters >= 20 && digits >= 2 && letters >= 2 && !is_uuid(run) && !is_timestamp(run)
    })
}

/// `2026-11-21T10:20:30.123456789Z` has a `:`, so this sees its parts only; dates alone have no letters.
fn is_timestamp(run: &str) -> bool {
    run.len() <= 24 && run.get(4..5) == Some("-") && run.get(10..11) == Some("T")
}

fn is_uuid(run: &str) -> bool {
    run.len() == 36
        && run.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_compile() {
        assert!(KNOWN.0.is_some() && IBAN_SHAPE.is_some());
    }

    #[test]
    fn secrets_and_personal_data_are_seen() {
        for text in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "5500-0000-0000-0004",
            "card 378282246310005 (amex)",
            "4111111111111111 123",
            "DE89370400440532013000",
            "GB29 NWBK 6016 1331 9268 19",
            "iban: de89 3704 0044 0532 0130 00.",
            "ada@example.com",
            "ada%40example.com",
            "root@localhost",
            "+49 30 901820",
            "+15551234567",
            "(030) 901820",
            "555-123-4567",
            "0049 30 901820",
            "030/901820",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
            "AKIAIOSFODNN7EXAMPLE",
            "AIzaSyA1234567890abcdefghijklmnopqrstuv",
            "ghp_abcdefghijklmnopqrst0123456789",
            "xoxb-12345678-abcdefgh",
            "sk_live_abcdefghijkl",
            "-----BEGIN PRIVATE KEY-----",
            "Bearer abcdef123",
            "password=hunter2",
            "postgres://app:hunter2@db/shop",
            "dGhpcyBpcyBhIHJhbmRvbSB0b2tlbiAx",
            "9f86d081884c7d659a2feaa0c55ad015",
        ] {
            assert!(is_sensitive(text), "{text}");
        }
    }

    #[test]
    fn plain_values_are_not_taken_for_secrets() {
        for text in [
            "",
            "9781",
            "9782",
            "-12.50",
            "EUR",
            "SAVE10",
            "active",
            "SKU-1042",
            "2026-11-21",
            "2026-11-21T10:20:30Z",
            "2026-11-21T10:20:30.123456Z",
            "Standard shipping, 3 days",
            "0.19",
            "1764000000",
            "10000001",
            "7f9c24e8-3b12-4d6f-8a55-0c9e2b1d7e43",
            "/api/v1/products",
            "true",
        ] {
            assert!(!is_sensitive(text), "{text}");
        }
    }
}

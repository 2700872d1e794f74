//! Numbers and texts as people read them.

use std::fmt::Write as _;

/// A share, 0 to 1, as a percentage with as many digits as say something.
pub fn percent(share: f64) -> String {
    let points = share * 100.0;
    if !points.is_finite() {
        return "–".to_owned();
    }
    let digits = match points {
        p if p == 0.0 || p >= 99.995 => 0,
        // 99.97 % is not 100 %, nor is 0.02 % nothing.
        p if !(1.0..=99.0).contains(&p) => 2,
        _ => 1,
    };
    let text = format!("{points:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text.as_str() };
    format!("{text} %")
}

/// So many of so many as a percentage; `–` of nothing.
pub fn share(part: u64, of: u64) -> String {
    if of == 0 { "–".to_owned() } else { percent(real(part) / real(of)) }
}

/// A duration in microseconds; `–` where there is none.
pub fn duration(us: Option<u32>) -> String {
    match us {
        None => "–".to_owned(),
        Some(us) if us < 1_000 => format!("{us} µs"),
        Some(us) if us < 10_000 => format!("{:.1} ms", f64::from(us) / 1_000.0),
        Some(us) if us < 1_000_000 => format!("{} ms", us / 1_000),
        Some(us) => format!("{:.1} s", f64::from(us) / 1_000_000.0),
    }
}

/// A rate a second.
pub fn rate(per_second: f64) -> String {
    match per_second {
        r if r <= 0.0 => "0".to_owned(),
        r if r < 0.1 => "< 0.1".to_owned(),
        r if r < 10.0 => format!("{r:.1}"),
        r => grouped(whole(r)),
    }
}

/// A count with its thousands apart, by a narrow space that does not break.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A time that has passed or is left.
pub fn span(seconds: u64) -> String {
    match seconds {
        s if s < 60 => format!("{s} s"),
        s if s < 3_600 => format!("{} min", s / 60),
        s if s < 86_400 => format!("{} h {} min", s / 3_600, s / 60 % 60),
        s => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

/// Whether a character shows nothing, or turns the direction of those beside it.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}')
}

/// A text from elsewhere, whose invisible and direction-changing characters are made visible, so that it shows as what it is.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Two texts, cut into what both begin with, where they differ, and what both end with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Apart {
    /// What both begin with.
    pub before: String,
    /// What the first alone has.
    pub left: String,
    /// What the second alone has.
    pub right: String,
    /// What both end with.
    pub after: String,
}

/// Where two texts differ.
pub fn apart(left: &str, right: &str) -> Apart {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let before = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
    let room = left.len().min(right.len()) - before;
    let after = left.iter().rev().zip(right.iter().rev()).take_while(|(a, b)| a == b).count().min(room);
    let text = |of: &[char], from: usize, to: usize| of.get(from..to).unwrap_or_default().iter().collect::<String>();
    Apart {
        before: text(&left, 0, before),
        left: text(&left, before, left.len() - after),
        right: text(&right, before, right.len() - after),
        after: text(&left, left.len() - after, left.len()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number for people")]
fn real(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and a rate")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_to_nothing_or_to_all() {
        for (given, text) in
            [(0.0, "0 %"), (0.0002, "0.02 %"), (0.1234, "12.3 %"), (0.5, "50 %"), (0.9997, "99.97 %"), (1.0, "100 %")]
        {
            assert_eq!(percent(given), text);
        }
        assert_eq!(
            (percent(f64::NAN), share(0, 0), share(1, 3)),
            ("–".to_owned(), "–".to_owned(), "33.3 %".to_owned())
        );
    }

    #[test]
    fn numbers_are_as_long_as_they_must_be() {
        assert_eq!(
            [Some(900), Some(1_240), Some(74_900), Some(2_500_000), None].map(duration),
            ["900 µs", "1.2 ms", "74 ms", "2.5 s", "–"]
        );
        assert_eq!([0.0, 0.02, 4.26, 1_234.0].map(rate), ["0", "< 0.1", "4.3", "1\u{202f}234"]);
        assert_eq!([7, 999, 1_000, 1_234_567].map(grouped), ["7", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
        assert_eq!([59, 61, 3_700, 90_000].map(span), ["59 s", "1 min", "1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn hidden_characters_are_shown() {
        assert_eq!(visible("a\u{202e}b\nc<script>"), "a\\u{202e}b\\u{a}c<script>");
    }

    #[test]
    fn two_texts_are_cut_where_they_differ() {
        let cut = apart("\"9781\"", "\"9782\"");
        assert_eq!(
            (cut.before.as_str(), cut.left.as_str(), cut.right.as_str(), cut.after.as_str()),
            ("\"978", "1", "2", "\"")
        );
        let cut = apart("aa", "aaa");
        assert_eq!((cut.left.as_str(), cut.right.as_str()), ("", "a"));
        assert_eq!(apart("", ""), Apart::default());
    }
}

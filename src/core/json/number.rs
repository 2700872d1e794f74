//! Numbers by their decimal value: `1`, `1.0` and `1e0` are one, 9007199254740993 and 9007199254740992 are two.

use std::fmt;

/// A JSON number as it was written.
#[derive(Clone, Copy, Debug)]
pub struct Number<'a>(&'a str);

impl<'a> Number<'a> {
    /// A number that stands in a text by itself; `None`: it is none by the grammar of RFC 8259.
    pub fn of_text(text: &'a str) -> Option<Number<'a>> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = digits.split_once(['e', 'E']).map_or((digits, None), |(m, e)| (m, Some(e)));
        let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_number = is_digits(whole)
            && (whole == "0" || !whole.starts_with('0'))
            && fraction.is_none_or(is_digits)
            && exponent.is_none_or(|exponent| is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
        is_number.then_some(Number(text))
    }

    /// Whether it is written with a point or an exponent.
    pub fn is_float(&self) -> bool {
        self.0.contains(['.', 'e', 'E'])
    }

    /// `text` follows the grammar of RFC 8259.
    pub(crate) const fn new(text: &'a str) -> Number<'a> {
        Number(text)
    }

    /// As it was written.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// One spelling per value, for hashing: a sign, the digits that count, the power of ten of the last one.
    pub fn canonical(&self) -> Decimal<'a> {
        let (is_negative, text) = self.0.strip_prefix('-').map_or((false, self.0), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let Some(exponent) = small(exponent) else {
            return Decimal { is_negative, whole: self.0, fraction: "", power: None };
        };
        // Zeros that carry no value go: those in front of the first digit that counts, and those behind the last.
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let (whole, fraction, power) = match (whole.is_empty(), fraction.is_empty()) {
            (true, true) => return Decimal { is_negative: false, whole: "", fraction: "", power: Some(0) },
            (_, true) => {
                let digits = whole.trim_end_matches('0');
                (digits, "", length(whole) - length(digits))
            }
            (true, false) => (fraction.trim_start_matches('0'), "", -length(fraction)),
            (false, false) => (whole, fraction, -length(fraction)),
        };
        Decimal { is_negative, whole, fraction, power: Some(exponent + power) }
    }
}

impl PartialEq for Number<'_> {
    fn eq(&self, other: &Number<'_>) -> bool {
        self.0 == other.0 || self.canonical() == other.canonical()
    }
}

impl fmt::Display for Number<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A number's value: digits (`whole` and then `fraction`, no zero at either end) times ten to `power`.
#[derive(Clone, Copy, Debug)]
pub struct Decimal<'a> {
    is_negative: bool,
    whole: &'a str,
    fraction: &'a str,
    /// `None`: the exponent is beyond all reason, and only the same text is the same number.
    power: Option<i128>,
}

impl Decimal<'_> {
    /// The digits as one number with its sign, and the power of ten that it is multiplied with; `None`: too long.
    pub fn parts(&self) -> Option<(i128, i128)> {
        let mut digits = 0i128;
        for digit in self.digits() {
            digits = digits.checked_mul(10)?.checked_add(i128::from(digit.checked_sub(b'0')?))?;
        }
        Some((if self.is_negative { -digits } else { digits }, self.power?))
    }

    fn digits(&self) -> impl Iterator<Item = u8> + '_ {
        self.whole.bytes().chain(self.fraction.bytes())
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Decimal<'_>) -> bool {
        self.is_negative == other.is_negative && self.power == other.power && self.digits().eq(other.digits())
    }
}

impl fmt::Display for Decimal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_negative { "-" } else { "" };
        write!(f, "{sign}{}{}", self.whole, self.fraction)?;
        self.power.map_or(Ok(()), |power| write!(f, "e{power}"))
    }
}

fn length(text: &str) -> i128 {
    i128::try_from(text.len()).unwrap_or(i128::MAX >> 1)
}

/// An exponent of at most 30 digits; that is more than any body can make up for by writing zeros.
fn small(text: &str) -> Option<i128> {
    let (is_negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..)?),
        Some(b'+') => (false, text.get(1..)?),
        _ => (false, text),
    };
    let digits = digits.trim_start_matches('0');
    if digits.len() > 30 {
        return None;
    }
    let value: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    Some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(a: &str, b: &str) -> bool {
        let (a, b) = (Number::new(a), Number::new(b));
        assert_eq!(a == b, a.canonical().to_string() == b.canonical().to_string(), "{a} {b}");
        a == b
    }

    #[test]
    fn numbers_are_equal_by_value_and_not_by_spelling() {
        for (a, b) in [
            ("1", "1.0"),
            ("1", "1e0"),
            ("100", "1e2"),
            ("0.001", "1E-3"),
            ("12.50", "1.25e+1"),
            ("0", "-0"),
            ("0", "0.000e99"),
            ("1000000000000000000000", "1e21"),
            ("10.01e1", "100.1"),
            ("1e007", "10000000"),
            ("1e9999999999999999999999999999999999", "1e9999999999999999999999999999999999"),
        ] {
            assert!(same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn numbers_that_a_float_cannot_tell_apart_differ() {
        for (a, b) in [
            ("9007199254740992", "9007199254740993"),
            ("0.1", "0.10000000000000000001"),
            ("1", "-1"),
            ("1e400", "1e401"),
            ("101", "11"),
            ("1.01", "1.1"),
            ("0.01", "0.1"),
            ("1e9999999999999999999999999999999998", "1e9999999999999999999999999999999999"),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn a_number_in_a_text_follows_the_grammar_and_falls_into_parts() {
        for (text, parts) in [("120.50", Some((1205, -1))), ("-3e2", Some((-3, 2))), ("0.0", Some((0, 0)))] {
            assert_eq!(Number::of_text(text).and_then(|number| number.canonical().parts()), parts, "{text}");
        }
        for text in ["", "-", "01", "+1", "1.", ".5", "1e", "1e+", "0x1", " 1", "1 ", "NaN", "--1"] {
            assert!(Number::of_text(text).is_none(), "{text}");
        }
        assert_eq!(Number::new(&"9".repeat(60)).canonical().parts(), None);
        assert!(Number::new("1.0").is_float() && Number::new("1e2").is_float() && !Number::new("-1").is_float());
    }

    proptest! {
        #[test]
        fn moving_the_point_into_the_exponent_changes_nothing(value: i64, zeros in 0usize..5, shift in 0i32..20) {
            let plain = format!("{value}{}", "0".repeat(if value == 0 { 0 } else { zeros }));
            let scaled = format!("{plain}.{}e0", "0".repeat(zeros + 1));
            prop_assert!(same(&plain, &scaled));
            let shifted = format!("{plain}{}e-{shift}", "0".repeat(usize::try_from(shift).expect("small")));
            prop_assert_eq!(same(&plain, &shifted), true);
        }

        #[test]
        fn two_integers_are_equal_when_they_are(a in -1000i64..1000, b in -1000i64..1000) {
            prop_assert_eq!(same(&a.to_string(), &b.to_string()), a == b);
        }
    }
}

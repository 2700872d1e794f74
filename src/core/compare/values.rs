//! Two single values that are not the same: whether a rule takes them for the same, and how they differ if none does.

use std::borrow::Cow;

use crate::compare::timestamp;
use crate::difference::Kind;
use crate::json::Json;
use crate::json::number::Number;
use crate::route::{Amount, JsonPolicy, Numeric, ValueRule};

/// Whether two single values are the same without any rule. Containers are never single values.
pub(crate) fn is_same(legacy: &Json<'_>, extracted: &Json<'_>, policy: JsonPolicy) -> bool {
    match (legacy, extracted) {
        (Json::Null, Json::Null) => true,
        (Json::Bool(left), Json::Bool(right)) => left == right,
        (Json::String(left), Json::String(right)) => left == right,
        (Json::Number(left), Json::Number(right)) => {
            left == right && (policy.numeric == Numeric::Value || left.is_float() == right.is_float())
        }
        (Json::Number(number), Json::String(text)) | (Json::String(text), Json::Number(number)) => {
            policy.strings_as_numbers && Number::of_text(text).is_some_and(|other| other == *number)
        }
        _ => false,
    }
}

/// How two single values differ that are not the same.
pub(crate) fn kind_of(legacy: &Json<'_>, extracted: &Json<'_>, policy: JsonPolicy) -> Kind {
    match (legacy, extracted) {
        (Json::Number(left), Json::Number(right))
            if policy.numeric == Numeric::Typed && left.is_float() != right.is_float() =>
        {
            Kind::Type
        }
        (left, right) if left.type_name() == right.type_name() => Kind::Value,
        _ => Kind::Type,
    }
}

/// What a rule says of two values that differ in `kind`; `None`: they are the same.
///
/// `has_types`: whether `"1"` is something else than `1` here. In a form or a page all values are texts.
pub(crate) fn asked(
    rule: &ValueRule,
    legacy: &Json<'_>,
    extracted: &Json<'_>,
    kind: Kind,
    has_types: bool,
) -> Option<Kind> {
    if let ValueRule::Map(map) = rule {
        let (left, right) = (text_of(legacy)?, text_of(extracted)?);
        let is_translated = map.get(&*left).is_some_and(|wanted| **wanted == *right);
        return (!is_translated).then_some(kind);
    }
    if kind == Kind::Type {
        return Some(Kind::Type);
    }
    match rule {
        ValueRule::Type => None,
        ValueRule::Tolerance { abs, rel } => {
            let numbers = (number_of(legacy, has_types), number_of(extracted, has_types));
            let is_close = matches!(numbers, (Some(left), Some(right)) if is_close(left, right, *abs, *rel));
            (!is_close).then_some(kind)
        }
        ValueRule::Matches(expression) => {
            let is_match = |value| text_of(value).is_some_and(|text| expression.is_match(&text));
            (!(is_match(legacy) && is_match(extracted))).then_some(kind)
        }
        ValueRule::Timestamp(within) => match (moment_of(legacy), moment_of(extracted)) {
            (Some(left), Some(right)) => {
                let apart = left.abs_diff(right);
                (apart > within.as_nanos()).then_some(kind)
            }
            _ => Some(Kind::Format),
        },
        ValueRule::Uuid => (!(is_uuid(legacy) && is_uuid(extracted))).then_some(Kind::Format),
        ValueRule::Map(_) => Some(kind),
    }
}

/// A single value as a text; `None`: it is a container.
pub(crate) fn text_of<'v>(value: &'v Json<'_>) -> Option<Cow<'v, str>> {
    match value {
        Json::Null => Some(Cow::Borrowed("null")),
        Json::Bool(true) => Some(Cow::Borrowed("true")),
        Json::Bool(false) => Some(Cow::Borrowed("false")),
        Json::Number(number) => Some(Cow::Borrowed(number.as_str())),
        Json::String(text) => Some(Cow::Borrowed(text)),
        Json::Array(_) | Json::Object(_) => None,
    }
}

fn number_of<'v>(value: &'v Json<'_>, has_types: bool) -> Option<Number<'v>> {
    match value {
        Json::Number(number) => Some(*number),
        Json::String(text) if !has_types => Number::of_text(text.trim()),
        Json::Null | Json::Bool(_) | Json::String(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

fn moment_of(value: &Json<'_>) -> Option<i128> {
    match value {
        Json::Number(number) => timestamp::of_number(number),
        Json::String(text) => timestamp::of_text(text),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

fn is_uuid(value: &Json<'_>) -> bool {
    matches!(value, Json::String(text) if is_uuid_text(text))
}

/// 8, 4, 4, 4 and 12 hex digits (RFC 9562 §4).
pub(crate) fn is_uuid_text(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Exactly, wherever the digits fit 128 bits: 97.81 and 97.82 are 0.01 apart, whatever floats say.
fn is_close(left: Number<'_>, right: Number<'_>, abs: Amount, rel: Amount) -> bool {
    let numbers = [left, right];
    let (Some(left), Some(right)) = (left.canonical().parts(), right.canonical().parts()) else { return false };
    let least = left.1.min(right.1);
    let (Some(a), Some(b)) = (scaled(left, least), scaled(right, least)) else {
        // More than 38 digits lie between them: the smaller one makes no odds.
        return is_close_roughly(numbers, abs, rel);
    };
    let Some(apart) = a.checked_sub(b).map(i128::unsigned_abs) else { return false };
    let largest = a.unsigned_abs().max(b.unsigned_abs());
    is_within(apart, least, abs) || is_part(apart, largest, rel)
}

fn is_close_roughly(numbers: [Number<'_>; 2], abs: Amount, rel: Amount) -> bool {
    let [Ok(left), Ok(right)] = numbers.map(|number| number.as_str().parse::<f64>()) else { return false };
    let apart = (left - right).abs();
    apart.is_finite() && (apart <= roughly(abs) || apart <= roughly(rel) * left.abs().max(right.abs()))
}

#[expect(clippy::cast_precision_loss, reason = "only asked where 15 digits are more than enough")]
fn roughly(amount: Amount) -> f64 {
    amount.digits as f64 / 10f64.powi(i32::from(amount.scale))
}

/// `digits · 10^power` in units of `10^unit`.
fn scaled((digits, power): (i128, i128), unit: i128) -> Option<i128> {
    if digits == 0 {
        return Some(0);
    }
    digits.checked_mul(10i128.checked_pow(u32::try_from(power - unit).ok()?)?)
}

/// `apart · 10^power ≤ most`.
fn is_within(apart: u128, power: i128, most: Amount) -> bool {
    let (Ok(apart), unit) = (i128::try_from(apart), power.min(-i128::from(most.scale))) else { return false };
    let most = scaled((i128::from(most.digits), -i128::from(most.scale)), unit);
    match (scaled((apart, power), unit), most) {
        (Some(apart), Some(most)) => apart <= most,
        // Only one of them can be beyond reach: the larger.
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// `apart ≤ part · largest`.
fn is_part(apart: u128, largest: u128, part: Amount) -> bool {
    if part.digits == 0 {
        return false;
    }
    let unit = 10u128.checked_pow(u32::from(part.scale));
    match (unit.and_then(|unit| apart.checked_mul(unit)), largest.checked_mul(u128::from(part.digits))) {
        (Some(apart), Some(most)) => apart <= most,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        // Numbers of more than 20 digits, and apart in more than 20: nobody means the last of them.
        (None, None) => {
            #[expect(clippy::cast_precision_loss, reason = "the first 15 digits decide here")]
            let (apart, largest) = (apart as f64, largest as f64);
            apart <= largest * roughly(part)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(left: &str, right: &str, abs: &str, rel: &str) -> bool {
        let amount = |text| Amount::parse(text).expect("an amount");
        let forth = is_close(Number::new(left), Number::new(right), amount(abs), amount(rel));
        assert_eq!(forth, is_close(Number::new(right), Number::new(left), amount(abs), amount(rel)), "{left} {right}");
        forth
    }

    #[test]
    fn a_tolerance_holds_to_the_last_digit() {
        for (left, right, abs, rel, is_in) in [
            ("97.81", "97.82", "0.01", "0", true),
            ("97.81", "97.8200000001", "0.01", "0", false),
            ("1", "1.01", "0.01", "0", true),
            ("-0.005", "0.005", "0.01", "0", true),
            ("9007199254740992", "9007199254740993", "0", "0", false),
            ("9007199254740992", "9007199254740993", "1", "0", true),
            ("1e300", "1.0000001e300", "5", "0", false),
            ("1e300", "1.0000001e300", "0", "0.001", true),
            ("100", "101", "0", "0.01", true),
            ("100", "102", "0", "0.01", false),
            ("0", "0.5", "0", "1", true),
            ("0", "1e-30", "0.01", "0", true),
            ("1e-300", "2e-300", "0.01", "0", true),
            ("1e-300", "2e300", "0.01", "0", false),
            ("1.25e-60", "0.005", "0.01", "0", true),
        ] {
            assert_eq!(close(left, right, abs, rel), is_in, "{left} {right} {abs} {rel}");
        }
    }

    proptest! {
        #[test]
        fn a_tolerance_agrees_with_whole_cents(a in -100_000i64..100_000, b in -100_000i64..100_000, most in 0u64..2_000) {
            let cents = |value: i64| {
                let (sign, size) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
                format!("{sign}{}.{:02}", size / 100, size % 100)
            };
            let amount = Amount { digits: most, scale: 2 };
            let is_in = is_close(Number::new(&cents(a)), Number::new(&cents(b)), amount, Amount::default());
            prop_assert_eq!(is_in, a.abs_diff(b) <= most);
        }

        #[test]
        fn no_numbers_break_it(
            left in "-?(0|[1-9][0-9]{0,45})(\\.[0-9]{1,30})?(e-?[0-9]{1,35})?",
            right in "-?(0|[1-9][0-9]{0,45})(\\.[0-9]{1,30})?(e-?[0-9]{1,35})?",
        ) {
            let _ = close(&left, &right, "0.01", "0.5");
        }
    }
}

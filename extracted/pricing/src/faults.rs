//! The bugs that can be switched on, and those of them that spoil a reply after it was made.

use std::time::Duration;

use estate_chassis::bugs::{Bug, Bugs};
use estate_chassis::prng::Prng;
use serde_json::Value;

/// How much longer a slow call takes.
pub const SLOW: Duration = Duration::from_millis(400);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Discount and tax on the cart's sum, half-even, instead of per line, half-up.
    Rounding,
    /// 3 of 100 calls take 400 ms longer.
    SlowP99,
    /// `""` for a name that is NULL.
    NullName,
    /// `null` for an empty list.
    NullVsEmpty,
    /// Lines in any order.
    UnorderedLines,
    /// The tier price holds above its quantity, not from it on.
    TierBoundary,
}

impl Bug for Fault {
    const ALL: &'static [Fault] = &[
        Fault::Rounding,
        Fault::SlowP99,
        Fault::NullName,
        Fault::NullVsEmpty,
        Fault::UnorderedLines,
        Fault::TierBoundary,
    ];

    fn name(self) -> &'static str {
        match self {
            Fault::Rounding => "rounding",
            Fault::SlowP99 => "slow_p99",
            Fault::NullName => "null_name",
            Fault::NullVsEmpty => "null_vs_empty",
            Fault::UnorderedLines => "unordered_lines",
            Fault::TierBoundary => "tier_boundary",
        }
    }

    fn default_percent(self) -> u8 {
        if self == Fault::SlowP99 { 3 } else { 100 }
    }
}

/// Spoils a finished reply as the bugs that are on would have it.
pub fn spoil(reply: &mut Value, bugs: &Bugs<Fault>) {
    if bugs.fires(Fault::NullName) {
        each_field(reply, &mut |name, value| {
            if name == "name" && value.is_null() {
                *value = Value::String(String::new());
            }
        });
    }
    if bugs.fires(Fault::UnorderedLines) {
        each_field(reply, &mut |name, value| {
            if let ("lines" | "items", Value::Array(lines)) = (name, value) {
                shuffle(lines);
            }
        });
    }
    if bugs.fires(Fault::NullVsEmpty) {
        each_field(reply, &mut |_, value| {
            if value.as_array().is_some_and(Vec::is_empty) {
                *value = Value::Null;
            }
        });
    }
}

/// Never the order that was: two lines or more always end up elsewhere, the same reply always alike.
fn shuffle(lines: &mut [Value]) {
    if lines.len() > 1 {
        let turn = 1 + Prng::new(lines.len() as u64).index(lines.len() - 1);
        lines.rotate_left(turn);
    }
}

/// Visits every field of every object, outer ones first. Replies are a few levels deep.
fn each_field(value: &mut Value, visit: &mut impl FnMut(&str, &mut Value)) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                visit(name, field);
                each_field(field, visit);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_field(item, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spoilt(bugs: &str) -> Value {
        let switches = Bugs::none();
        switches.set(bugs).expect("known bugs");
        let mut reply = json!({"lines": [{"sku": "a", "name": null}, {"sku": "b", "name": "B"}], "tiers": []});
        spoil(&mut reply, &switches);
        reply
    }

    #[test]
    fn each_bug_spoils_what_it_is_named_for_and_nothing_else() {
        let sound = json!({"lines": [{"sku": "a", "name": null}, {"sku": "b", "name": "B"}], "tiers": []});
        assert_eq!(spoilt(""), sound);
        assert_eq!(spoilt("rounding,tier_boundary"), sound);
        assert_eq!(spoilt("null_name")["lines"], json!([{"sku": "a", "name": ""}, {"sku": "b", "name": "B"}]));
        assert_eq!(spoilt("null_vs_empty")["tiers"], Value::Null);
        assert_eq!(spoilt("unordered_lines")["lines"], json!([{"sku": "b", "name": "B"}, {"sku": "a", "name": null}]));
    }
}

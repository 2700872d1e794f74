//! The comparer held against another one that is slow and plain: arrays without order are paired by trying all ways, paths are
//! matched by their text, and nothing is hashed. `PROPTEST_CASES=100000` tries that many pairs.

use super::properties::with;
use super::*;

use serde_json::Value;

/// A rule as the plain comparer knows it: a path of names, `*` and `**`, and what is done there.
struct Plain {
    path: Vec<String>,
    action: Value,
}

struct Reference {
    rules: Vec<Plain>,
    json: Value,
}

/// A step of a path; `None` stands for some position of an array, and only wildcards take it.
type Path = Vec<Option<String>>;

impl Reference {
    fn new(rules: &[Value], json: &Value) -> Reference {
        let plain = |rule: &Value| Plain {
            path: rule["path"].as_str().expect("a path").split('/').skip(1).map(str::to_owned).collect(),
            action: rule.clone(),
        };
        Reference { rules: rules.iter().map(plain).collect(), json: json.clone() }
    }

    fn is(&self, option: &str, value: &str) -> bool {
        self.json[option] == value || (value == "true" && self.json[option] == true)
    }

    /// The first rule with that key whose path is `path`, or (open) lies above it.
    fn rule(&self, keys: &[&str], path: &[Option<String>], is_open: bool) -> Option<&Plain> {
        self.rules.iter().find(|rule| {
            let has_key = keys.iter().any(|key| !rule.action[key].is_null());
            has_key
                && (0..=path.len())
                    .rev()
                    .take(if is_open { path.len() + 1 } else { 1 })
                    .any(|to| fits(&rule.path, &path[..to]))
        })
    }

    fn is_ignored(&self, path: &[Option<String>]) -> bool {
        self.rule(&["ignore"], path, true).is_some()
    }

    fn is_ordered(&self, path: &[Option<String>]) -> bool {
        match self.rule(&["array_order"], path, true) {
            Some(rule) => rule.action["array_order"] == "strict",
            None => !self.is("array_order", "ignore"),
        }
    }

    /// All differences, as `kind@place`. `is_exact`: without rules for values and without members allowed to one side.
    fn compare(&self, left: &Value, right: &Value, path: &Path, is_exact: bool) -> Vec<String> {
        if self.is_ignored(path) {
            return Vec::new();
        }
        match (left, right) {
            (Value::Array(lefts), Value::Array(rights)) if lefts.len() != rights.len() => {
                vec![at("array_length", path)]
            }
            (Value::Array(lefts), Value::Array(rights)) if self.is_ordered(path) => {
                let found: Vec<Vec<String>> = lefts
                    .iter()
                    .zip(rights)
                    .enumerate()
                    .map(|(index, (left, right))| {
                        self.compare(left, right, &below(path, Some(&index.to_string())), is_exact)
                    })
                    .collect();
                let differing: Vec<usize> = (0..found.len()).filter(|index| !found[*index].is_empty()).collect();
                let only = |items: &[Value]| differing.iter().map(|index| items[*index].clone()).collect::<Vec<_>>();
                if differing.len() > 1 && self.are_permuted(&only(lefts), &only(rights), path, true) {
                    return vec![at("array_order", path)];
                }
                found.concat()
            }
            (Value::Array(lefts), Value::Array(rights)) => {
                let is_same = self.are_permuted(lefts, rights, path, is_exact);
                if is_same { Vec::new() } else { vec![at("array_content", path)] }
            }
            (Value::Object(lefts), Value::Object(rights)) => {
                let names: std::collections::BTreeSet<&String> = lefts.keys().chain(rights.keys()).collect();
                let member = |name: &String| {
                    let path = below(path, Some(name));
                    let may_lack = self.is("null_equals_absent", "true");
                    match (lefts.get(name), rights.get(name)) {
                        (Some(left), Some(right)) => self.compare(left, right, &path, is_exact),
                        (Some(Value::Null), None) | (None, Some(Value::Null)) if may_lack => Vec::new(),
                        _ if self.is_ignored(&path) => Vec::new(),
                        (Some(_), None) => vec![at("missing", &path)],
                        (None, _) if !is_exact && self.is("extra_fields", "allow") => Vec::new(),
                        (None, _) => vec![at("extra", &path)],
                    }
                };
                names.into_iter().flat_map(member).collect()
            }
            (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => vec![at("type", path)],
            (left, right) if self.is_same(left, right) => Vec::new(),
            (left, right) => {
                let kind = kind(left, right, self.is("numeric", "typed"));
                if !is_exact && self.is_forgiven(left, right, path, kind) { Vec::new() } else { vec![at(kind, path)] }
            }
        }
    }

    /// Whether each left element can have a right one of its own that equals it, by trying all ways.
    fn are_permuted(&self, lefts: &[Value], rights: &[Value], path: &Path, is_exact: bool) -> bool {
        let Some((first, rest)) = lefts.split_first() else { return rights.is_empty() };
        (0..rights.len()).any(|place| {
            let mut others = rights.to_vec();
            let one = others.remove(place);
            self.compare(first, &one, &below(path, None), is_exact).is_empty()
                && self.are_permuted(rest, &others, path, is_exact)
        })
    }

    fn is_same(&self, left: &Value, right: &Value) -> bool {
        match (left, right) {
            (Value::Number(one), Value::Number(other)) => {
                one.as_f64() == other.as_f64() && !(self.is("numeric", "typed") && one.is_f64() != other.is_f64())
            }
            (Value::Number(number), Value::String(text)) | (Value::String(text), Value::Number(number)) => {
                let said =
                    text.parse::<f64>().ok().filter(|_| text.bytes().all(|byte| b"0123456789.-".contains(&byte)));
                self.is("string_number", "equal") && said.is_some() && said == number.as_f64()
            }
            (left, right) => left == right,
        }
    }

    fn is_forgiven(&self, left: &Value, right: &Value, path: &Path, kind: &str) -> bool {
        let Some(rule) = self.rule(&["tolerance", "matches", "compare"], path, false) else { return false };
        if kind == "type" {
            return false;
        }
        let action = &rule.action;
        if let Some(most) = action["tolerance"]["abs"].as_f64() {
            return match (left.as_f64(), right.as_f64()) {
                (Some(left), Some(right)) => (left - right).abs() <= most,
                _ => false,
            };
        }
        if action["compare"] == "type" {
            return true;
        }
        // `^[a1]`
        [left, right].into_iter().all(|value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.starts_with(['a', '1'])
        })
    }
}

fn kind(left: &Value, right: &Value, is_typed: bool) -> &'static str {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) if !is_typed || left.is_f64() == right.is_f64() => "value",
        (Value::Bool(_), Value::Bool(_)) | (Value::String(_), Value::String(_)) => "value",
        _ => "type",
    }
}

fn below(path: &Path, step: Option<&str>) -> Path {
    path.iter().cloned().chain([step.map(str::to_owned)]).collect()
}

fn at(kind: &str, path: &Path) -> String {
    let place: String = path.iter().map(|step| format!("/{}", step.as_deref().unwrap_or("*"))).collect();
    format!("{kind}@{place}")
}

fn fits(pattern: &[String], path: &[Option<String>]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if first == "**" => (0..=path.len()).any(|from| fits(rest, &path[from..])),
        Some((first, rest)) => {
            let takes = |step: &Option<String>| first == "*" || step.as_deref() == Some(first);
            path.split_first().is_some_and(|(step, path)| takes(step) && fits(rest, path))
        }
    }
}

/// Another document that is much like it: some leaves changed, some members gone, some lists turned.
fn mutated(value: &Value, dice: &mut u64) -> Value {
    // Constants of Knuth's MMIX generator.
    *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let roll = *dice >> 33;
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| mutated(item, dice)).collect();
            match roll % 6 {
                0 => items.reverse(),
                1 if !items.is_empty() => items.rotate_left(1),
                2 if roll.is_multiple_of(5) => drop(items.pop()),
                _ => {}
            }
            items.into()
        }
        Value::Object(members) => {
            let kept = members.iter().filter(|_| !roll.is_multiple_of(11));
            let members: serde_json::Map<_, _> =
                kept.map(|(name, value)| (name.clone(), mutated(value, dice))).collect();
            members.into()
        }
        Value::Number(number) => match roll % 8 {
            0 => number.as_f64().map_or(Value::Null, |it| (it + 1.0).into()),
            1 => number.as_f64().map_or(Value::Null, Into::into),
            2 => number.to_string().into(),
            3 => number.as_i64().map_or(Value::Null, |it| (it + 1).into()),
            _ => value.clone(),
        },
        Value::Null | Value::Bool(_) | Value::String(_) if roll.is_multiple_of(7) => {
            Value::from(["a", "1", "b"][usize::try_from(roll % 3).unwrap_or_default()])
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

/// Rules whose paths name no positions: what those mean beside lists without order is agreed elsewhere.
fn rules() -> impl Strategy<Value = Vec<Value>> {
    let path = "(/(a|b|c|\\*|\\*\\*)){0,3}";
    let what = prop_oneof![
        Just(serde_json::json!({"ignore": true})),
        Just(serde_json::json!({"array_order": "ignore"})),
        Just(serde_json::json!({"array_order": "strict"})),
        Just(serde_json::json!({"tolerance": {"abs": 1}})),
        Just(serde_json::json!({"matches": "^[a1]"})),
        Just(serde_json::json!({"compare": "type"})),
    ];
    let rule = (path, what).prop_map(|(path, mut rule)| {
        rule["path"] = path.into();
        rule
    });
    proptest::collection::vec(rule, 0..4)
}

fn options() -> impl Strategy<Value = Value> {
    proptest::bits::u8::between(0, 5).prop_map(|bits| {
        let one_of = |bit: u8, off: &str, on: &str| if bits & 1 << bit == 0 { off } else { on }.to_owned();
        serde_json::json!({
            "array_order": one_of(0, "strict", "ignore"),
            "numeric": one_of(1, "value", "typed"),
            "null_equals_absent": bits & 4 != 0,
            "string_number": one_of(3, "strict", "equal"),
            "extra_fields": one_of(4, "report", "allow"),
        })
    })
}

proptest! {
    #[test]
    fn random_pairs_differ_where_a_slow_and_plain_comparer_says(
        left in documents(),
        other in documents(),
        is_other in proptest::bool::weighted(0.2),
        dice in any::<u64>(),
        rules in rules(),
        json in options(),
    ) {
        let right = if is_other { other } else { mutated(&left, &mut dice.clone()) };
        let [one, two] = [&left, &right].map(|it| Outcome::Answered(answer(200, JSON, &it.to_string())));
        let comparison = pair(one, two, &with(&rules, &json));
        let mut found: Vec<String> = comparison.differences.iter().map(|d| format!("{}@{}", d.kind, d.path)).collect();
        let mut expected = Reference::new(&rules, &json).compare(&left, &right, &Vec::new(), false);
        found.sort();
        expected.sort();
        prop_assert_eq!(comparison.result == ComparisonResult::Match, expected.is_empty());
        prop_assert_eq!(found, expected, "{} / {} with {:?} and {}", left, right, rules, json);
    }
}

#[test]
fn the_pairs_that_are_tried_differ_in_all_ways_and_some_do_not() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let pairs = (documents(), any::<u64>(), rules(), options());
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..2_000 {
        let (left, dice, rules, json) = pairs.new_tree(&mut runner).expect("a pair").current();
        let right = mutated(&left, &mut dice.clone());
        let found = Reference::new(&rules, &json).compare(&left, &right, &Vec::new(), false);
        let kinds = found.iter().filter_map(|one| one.split('@').next());
        for kind in kinds.chain(found.is_empty().then_some("equal")) {
            *counts.entry(kind.to_owned()).or_default() += 1;
        }
    }
    for kind in ["equal", "value", "type", "missing", "array_order", "array_length", "array_content"] {
        assert!(counts.get(kind).is_some_and(|count| *count > 20), "{kind}: {counts:?}");
    }
}

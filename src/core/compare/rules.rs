//! Which rule speaks for a place. Rules are a list; of each sort, the first whose path holds decides.

use crate::compare::pointer::{Pointer, Step};
use crate::day::Day;
use crate::difference::Kind;
use crate::route::{ArrayOrder, CompareRule, JsonPolicy, PointerPattern, PointerSegment, RuleAction, ValueRule};

/// A step as a walk knows it, before it is worth an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepRef<'a> {
    /// A position in an array.
    Index(usize),
    /// Some position in an array, whichever: only `*` and `**` take it.
    AnyIndex,
    /// A member of an object.
    Key(&'a str),
    /// The element of an array whose member `key` says `value`.
    Item {
        /// The member's name.
        key: &'a str,
        /// What it says.
        value: &'a str,
    },
    /// An element, an attribute or a text of a marked-up document.
    Node {
        /// Its name.
        name: &'a str,
        /// Its place among those of its name; `None`: there is one at most.
        index: Option<usize>,
    },
}

impl<'a> From<&'a Step> for StepRef<'a> {
    fn from(step: &'a Step) -> StepRef<'a> {
        match step {
            Step::Index(index) => StepRef::Index(*index),
            Step::Key(key) | Step::Data(key) => StepRef::Key(key),
            Step::Item { key, value } => StepRef::Item { key, value },
            Step::Node { name, index } => StepRef::Node { name, index: *index },
        }
    }
}

impl StepRef<'_> {
    /// Worth an allocation.
    pub fn to_step(self) -> Step {
        match self {
            StepRef::Index(index) => Step::Index(index),
            StepRef::AnyIndex => Step::Key("*".into()),
            StepRef::Key(key) => Step::Key(key.into()),
            StepRef::Item { key, value } => Step::Item { key: key.into(), value: value.into() },
            StepRef::Node { name, index } => Step::Node { name: name.into(), index },
        }
    }

    fn is(self, text: &str) -> bool {
        match self {
            StepRef::Key(key) => key == text,
            StepRef::AnyIndex => false,
            // `007` is no position (RFC 6901 §4), so only the plain spelling names one.
            StepRef::Index(index) => {
                text.bytes().next().is_some_and(|b| b.is_ascii_digit()) && text == index.to_string()
            }
            StepRef::Item { key, value } => {
                let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                inside.and_then(|inside| inside.strip_prefix(key)?.strip_prefix('=')) == Some(value)
            }
            // Without a place, all of that name.
            StepRef::Node { name, index } => match text.strip_prefix(name) {
                Some("") => true,
                Some(place) => index.is_some_and(|index| place == format!("[{index}]")),
                None => false,
            },
        }
    }
}

/// Why a rule is worth a second look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Its last day has passed: it forgives nothing any more.
    Expired,
    /// It was of no use in any pair so far.
    Unused,
}

impl Idle {
    /// As written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Idle::Expired => "expired",
            Idle::Unused => "unused",
        }
    }
}

/// The rules (by index) that do nothing, of those of a route. `hits`: in how many pairs each was of use.
pub fn idle(rules: &[CompareRule], hits: &[u64], today: Day) -> Vec<(usize, Idle)> {
    let why = |(index, rule): (usize, &CompareRule)| match hits.get(index) {
        _ if rule.is_expired(today) => Some((index, Idle::Expired)),
        None | Some(0) => Some((index, Idle::Unused)),
        Some(_) => None,
    };
    rules.iter().enumerate().filter_map(why).collect()
}

/// How the elements of an array are put beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairing<'r> {
    /// By position.
    Position,
    /// Whichever fit.
    Any,
    /// By a member.
    Key(&'r str),
}

type Ruled<'r, T> = Vec<(usize, &'r PointerPattern, T)>;

/// The rules that hold today, by sort.
pub(crate) struct Rules<'r> {
    ignored: Ruled<'r, ()>,
    keys: Ruled<'r, &'r str>,
    orders: Ruled<'r, ArrayOrder>,
    values: Ruled<'r, &'r ValueRule>,
    expected: Ruled<'r, Kind>,
    has_positions: bool,
}

impl<'r> Rules<'r> {
    pub(crate) fn new(rules: &'r [CompareRule], today: Day) -> Rules<'r> {
        let mut out = Rules {
            ignored: Vec::new(),
            keys: Vec::new(),
            orders: Vec::new(),
            values: Vec::new(),
            expected: Vec::new(),
            has_positions: false,
        };
        for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.is_expired(today)) {
            out.has_positions |= names_a_position(rule);
            match &rule.action {
                RuleAction::Ignore => out.ignored.push((index, &rule.path, ())),
                RuleAction::ArrayKey(key) => out.keys.push((index, &rule.path, key)),
                RuleAction::ArrayOrder(order) => out.orders.push((index, &rule.path, *order)),
                RuleAction::Value(value) => out.values.push((index, &rule.path, value)),
                RuleAction::Expect(kind) => out.expected.push((index, &rule.path, *kind)),
            }
        }
        out
    }

    /// Whether a rule may speak of one position of an array.
    pub(crate) const fn has_positions(&self) -> bool {
        self.has_positions
    }

    /// Whether nothing is left out anywhere.
    pub(crate) const fn leaves_nothing_out(&self) -> bool {
        self.ignored.is_empty()
    }

    /// Whether a difference in a text is one, whatever its place.
    pub(crate) const fn forgives_nothing(&self) -> bool {
        self.leaves_nothing_out() && self.is_spelled() && self.orders.is_empty()
    }

    /// Whether equal values have equal spellings: no rule takes for the same what differs.
    pub(crate) const fn is_spelled(&self) -> bool {
        self.values.is_empty() && self.expected.is_empty()
    }

    /// The rule that leaves `path` out: one for it, or for what lies above it.
    pub(crate) fn ignoring(&self, path: &[StepRef<'_>]) -> Option<usize> {
        self.ignored.iter().find(|(_, pattern, ())| covers(pattern, path)).map(|(index, ..)| *index)
    }

    /// The rule that wants a difference of that kind at `path`.
    pub(crate) fn expecting(&self, path: &[StepRef<'_>], kind: Kind) -> Option<usize> {
        let found = self.expected.iter().find(|(_, pattern, wanted)| *wanted == kind && matches(pattern, path));
        found.map(|(index, ..)| *index)
    }

    /// The rule for the value at `path`.
    pub(crate) fn value(&self, path: &[StepRef<'_>]) -> Option<(usize, &'r ValueRule)> {
        self.values.iter().find(|(_, pattern, _)| matches(pattern, path)).map(|(index, _, rule)| (*index, *rule))
    }

    /// How the array at `path` is paired, and the rule that says so. A key is more than an order, so it comes first.
    pub(crate) fn pairing(&self, path: &[StepRef<'_>], json: JsonPolicy) -> (Pairing<'r>, Option<usize>) {
        if let Some((index, _, key)) = self.keys.iter().find(|(_, pattern, _)| matches(pattern, path)) {
            return (Pairing::Key(key), Some(*index));
        }
        let rule = self.orders.iter().find(|(_, pattern, _)| covers(pattern, path));
        match rule.map_or(json.array_order, |(_, _, order)| *order) {
            ArrayOrder::Strict => (Pairing::Position, rule.map(|(index, ..)| *index)),
            ArrayOrder::Ignore => (Pairing::Any, rule.map(|(index, ..)| *index)),
        }
    }
}

/// Whether a rule may speak of one position of an array.
fn names_a_position(rule: &CompareRule) -> bool {
    let is_position =
        |segment: &PointerSegment| matches!(segment, PointerSegment::Literal(text) if text.parse::<usize>().is_ok());
    rule.path.segments.iter().any(is_position)
}

/// Whether the pattern's path is `path`.
pub fn matches(pattern: &PointerPattern, path: &[StepRef<'_>]) -> bool {
    glob(&pattern.segments, path, false)
}

/// Whether the pattern's path is `path` or lies above it.
pub fn covers(pattern: &PointerPattern, path: &[StepRef<'_>]) -> bool {
    glob(&pattern.segments, path, true)
}

/// Whether the pattern's path is `pointer`.
pub fn matches_pointer(pattern: &PointerPattern, pointer: &Pointer) -> bool {
    let path: Vec<StepRef<'_>> = pointer.0.iter().map(StepRef::from).collect();
    matches(pattern, &path)
}

/// Steps back only to the last `**`, so the time is at most pattern times path.
fn glob(segments: &[PointerSegment], path: &[StepRef<'_>], is_open: bool) -> bool {
    let (mut at, mut step) = (0, 0);
    let mut last_many: Option<(usize, usize)> = None;
    loop {
        match (segments.get(at), path.get(step)) {
            (None, None) => return true,
            (None, Some(_)) if is_open => return true,
            (Some(PointerSegment::Many), _) => {
                last_many = Some((at, step));
                at += 1;
                continue;
            }
            (Some(PointerSegment::One), Some(_)) => {
                (at, step) = (at + 1, step + 1);
                continue;
            }
            (Some(PointerSegment::Literal(text)), Some(here)) if here.is(text) => {
                (at, step) = (at + 1, step + 1);
                continue;
            }
            (None | Some(PointerSegment::One | PointerSegment::Literal(_)), _) => {}
        }
        let Some((many, from)) = last_many else {
            return false;
        };
        if from >= path.len() {
            return false;
        }
        last_many = Some((many, from + 1));
        (at, step) = (many + 1, from + 1);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A pattern from its text, as `routes.yaml` has it.
    pub(crate) fn pattern(text: &str) -> PointerPattern {
        let segments = text.split('/').skip(1).map(|segment| match segment {
            "*" => PointerSegment::One,
            "**" => PointerSegment::Many,
            literal => PointerSegment::Literal(literal.replace("~1", "/").replace("~0", "~").into()),
        });
        PointerPattern { segments: segments.collect() }
    }

    fn steps(text: &str) -> Vec<StepRef<'_>> {
        text.split('/').skip(1).map(|step| step.parse().map_or(StepRef::Key(step), StepRef::Index)).collect()
    }

    #[test]
    fn a_pattern_is_anchored_and_takes_whole_segments() {
        for (text, path, is_match, is_cover) in [
            ("/a", "/a", true, true),
            ("/a", "/a/b", false, true),
            ("/a", "/ab", false, false),
            ("/a", "/b/a", false, false),
            ("", "", true, true),
            ("", "/a", false, true),
            ("/items/*/id", "/items/0/id", true, true),
            ("/items/*/id", "/items/id", false, false),
            ("/items/*/id", "/items/0/idx", false, false),
            ("/items/0/id", "/items/0/id", true, true),
            ("/items/00/id", "/items/0/id", false, false),
            ("/**/id", "/id", true, true),
            ("/**/id", "/a/0/id", true, true),
            ("/**/id", "/a/0/id/x", false, true),
            ("/**/id", "/a/idx", false, false),
            ("/stats/**", "/stats", true, true),
            ("/stats/**", "/stats/a/b", true, true),
            ("/a/**/b/*/c", "/a/b/b/x/c", true, true),
            ("/a/**/b/*/c", "/a/b/c", false, false),
            ("/**/a/**/b", "/x/a/y/a/b", true, true),
        ] {
            assert_eq!(matches(&pattern(text), &steps(path)), is_match, "{text} is {path}");
            assert_eq!(covers(&pattern(text), &steps(path)), is_cover, "{text} covers {path}");
        }
    }

    #[test]
    fn elements_and_nodes_are_reached_by_their_names() {
        let item = StepRef::Item { key: "id", value: "3" };
        let node = |name, index| StepRef::Node { name, index };
        for (text, path, is_match) in [
            ("/items/[id=3]/x", vec![StepRef::Key("items"), item, StepRef::Key("x")], true),
            ("/items/[id=4]/x", vec![StepRef::Key("items"), item, StepRef::Key("x")], false),
            ("/items/[sku=3]/x", vec![StepRef::Key("items"), item, StepRef::Key("x")], false),
            ("/items/*/x", vec![StepRef::Key("items"), item, StepRef::Key("x")], true),
            ("/body/div[1]/@class", vec![node("body", None), node("div", Some(1)), node("@class", None)], true),
            ("/body/div/@class", vec![node("body", None), node("div", Some(1)), node("@class", None)], true),
            ("/body/div[0]/@class", vec![node("body", None), node("div", Some(1)), node("@class", None)], false),
            ("/body/di/@class", vec![node("body", None), node("div", Some(1)), node("@class", None)], false),
        ] {
            assert_eq!(matches(&pattern(text), &path), is_match, "{text}");
        }
    }

    #[test]
    fn a_rule_without_use_or_time_is_named() {
        let rule = |until: Option<&str>| CompareRule {
            until: until.map(|day| day.parse().expect("a day")),
            ..CompareRule::new(pattern("/a"), RuleAction::Ignore)
        };
        let rules = [rule(None), rule(None), rule(Some("2026-11-20")), rule(Some("2026-11-21"))];
        let today = "2026-11-21".parse().expect("a day");
        assert_eq!(idle(&rules, &[0, 5, 9, 1], today), [(0, Idle::Unused), (2, Idle::Expired)]);
        assert_eq!(idle(&rules[..1], &[], today), [(0, Idle::Unused)]);
    }

    #[test]
    fn a_member_named_like_a_number_is_reached_by_its_name() {
        assert!(matches(&pattern("/data/2026"), &[StepRef::Key("data"), StepRef::Key("2026")]));
        assert!(!matches(&pattern("/data/*/x"), &[StepRef::Key("data"), StepRef::Key("x")]));
    }

    /// The obvious matcher, exponential and short.
    fn slow(segments: &[PointerSegment], path: &[StepRef<'_>]) -> bool {
        match (segments.split_first(), path.split_first()) {
            (None, None) => true,
            (Some((PointerSegment::Many, rest)), None) => slow(rest, path),
            (Some((PointerSegment::Many, rest)), Some((_, after))) => slow(rest, path) || slow(segments, after),
            (Some((PointerSegment::One, rest)), Some((_, after))) => slow(rest, after),
            (Some((PointerSegment::Literal(text), rest)), Some((here, after))) => here.is(text) && slow(rest, after),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn the_matcher_agrees_with_the_obvious_one(text in "(/(a|b|\\*|\\*\\*)){0,6}", path in "(/(a|b|0)){0,7}") {
            let (pattern, path) = (pattern(&text), steps(&path));
            prop_assert_eq!(matches(&pattern, &path), slow(&pattern.segments, &path));
            let is_above = (0..=path.len()).any(|n| slow(&pattern.segments, &path[..n]));
            prop_assert_eq!(covers(&pattern, &path), is_above);
        }
    }
}

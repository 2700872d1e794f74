//! Which rule speaks for a place. Rules are a list; the first whose path holds decides.

use crate::compare::pointer::{Pointer, Step};
use crate::route::{CompareRule, PointerPattern, PointerSegment, RuleAction};

/// A step as a walk knows it, before it is worth an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepRef<'a> {
    /// A position in an array.
    Index(usize),
    /// Some position in an array, whichever: only `*` and `**` take it.
    AnyIndex,
    /// A member of an object.
    Key(&'a str),
}

impl<'a> From<&'a Step> for StepRef<'a> {
    fn from(step: &'a Step) -> StepRef<'a> {
        match step {
            Step::Index(index) => StepRef::Index(*index),
            Step::Key(key) => StepRef::Key(key),
        }
    }
}

impl StepRef<'_> {
    fn is(self, text: &str) -> bool {
        match self {
            StepRef::Key(key) => key == text,
            StepRef::AnyIndex => false,
            // `007` is no position (RFC 6901 §4), so only the plain spelling names one.
            StepRef::Index(index) => {
                text.bytes().next().is_some_and(|b| b.is_ascii_digit()) && text == index.to_string()
            }
        }
    }
}

/// The first rule that forgives a difference at `path`: one whose own path is `path`, or, as a whole subtree is left out, lies above it.
pub fn forgiving(rules: &[CompareRule], path: &[StepRef<'_>]) -> Option<usize> {
    rules.iter().position(|rule| match rule.action {
        RuleAction::Ignore => covers(&rule.path, path),
    })
}

/// Whether a rule may speak of one position of an array.
pub(crate) fn names_a_position(rule: &CompareRule) -> bool {
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

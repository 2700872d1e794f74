use super::*;
use crate::compare::pointer::{Pointer, Step};
use crate::compare::{Difference, Location, NotComparable, Shown};
use crate::difference::Kind;
use crate::route::{CompareRule, PointerPattern, RuleAction};

fn text(text: &str) -> Shown {
    Shown::String(text.to_owned())
}

fn differing(places: &[(&str, Kind)]) -> Comparison {
    let of = |(place, kind): &(&str, Kind)| {
        let uuids = ["7f1c0a52-8c7e-4a53-9a0d-1f1f0b7b3c11", "7f1c0a52-8c7e-4a53-9a0d-1f1f0b7b3c12"];
        let path = Location::Body(Pointer(vec![Step::Key((*place).into())]));
        Difference {
            path,
            kind: *kind,
            legacy: Some(text(uuids[0])),
            extracted: Some(text(uuids[1])),
            rule: None,
            unmatched: None,
        }
    };
    let result = if places.is_empty() { ComparisonResult::Match } else { ComparisonResult::Mismatch };
    Comparison {
        result,
        differences: places.iter().map(of).collect(),
        by_kind: places.iter().map(|(_, kind)| (*kind, 1)).collect(),
        ..Comparison::not_comparable(NotComparable::Internal)
    }
}

fn name(text: &str) -> RouteName {
    text.parse().expect("a name")
}

#[test]
fn an_endpoint_is_known_by_what_was_seen_of_it() {
    let (route, policy) = (name("cart"), Arc::new(ComparePolicy::default()));
    let of = Of { route: &route, method: &Method::GET, policy: &policy };
    let mut ledger = Ledger::default();
    let (equal, noise) = (differing(&[]), differing(&[("request", Kind::Value)]));
    let wrong = differing(&[("request", Kind::Value), ("total", Kind::Missing)]);

    let mut is_settled = false;
    for count in 0..400 {
        let found = if count % 4 == 0 { &wrong } else { &noise };
        ledger.pair(of, found);
        is_settled = ledger.triple(of, found, &noise);
    }
    ledger.tagged(of, Tag::Confirmed, &FieldKey::all_of(&differing(&[("total", Kind::Missing)])));
    ledger.tagged(of, Tag::Noise, &FieldKey::all_of(&equal));
    ledger.pair(of, &Comparison::not_comparable(NotComparable::Settling));
    ledger.pair(of, &differing(&[("x", Kind::AuthMismatch)]));

    assert!(is_settled);
    assert_eq!(ledger.verdict_of("cart"), Some(FieldVerdict::Divergent));
    let report = ledger.report(Some("cart"), 10).remove(0);
    assert_eq!((report.verdict, report.triples, report.next_look_at), ("divergent", 400, 800));
    assert_eq!((report.different, report.auth_mismatch, report.not_comparable), (400, 1, 1));
    assert_eq!((report.looks.confirmed, report.looks.noise), (1, 1));
    let [total, request] = report.fields.as_slice() else { panic!("{:?}", report.fields) };
    assert_eq!((total.place.as_str(), total.verdict, total.only_extracted), ("/total", "divergent", 100));
    assert!(total.p_value.is_some_and(|p| p < 1e-20) && total.rise_least > 0.2 && total.rise_most < 0.3);
    assert_eq!((total.is_blind, &total.suggestion), (false, &None));
    // Whatever it says, it is never applied; and the missing field beside it is none the less seen.
    assert_eq!((request.verdict, request.is_blind), ("noisy", true));
    assert_eq!(request.suggestion.as_deref(), Some(r#"{path: "/request", as: uuid}"#));
    assert!(request.advice.is_some_and(|advice| advice.contains("normaliser")));
    assert_eq!(ledger.report(Some("other"), 10), []);
}

#[test]
fn with_other_rules_all_begins_anew_and_with_another_retention_nothing_does() {
    let route = name("cart");
    let first = Arc::new(ComparePolicy::default());
    let kept_longer = Arc::new(ComparePolicy { keep_per_signature: 7, ..ComparePolicy::default() });
    let rule = CompareRule::new(PointerPattern { segments: Vec::new() }, RuleAction::Ignore);
    let other = Arc::new(ComparePolicy { rules: vec![rule], ..ComparePolicy::default() });
    let mut ledger = Ledger::default();
    let wrong = differing(&[("total", Kind::Value)]);
    let mut triples = |policy: &Arc<ComparePolicy>, route: &RouteName| {
        ledger.triple(Of { route, method: &Method::GET, policy }, &wrong, &differing(&[]));
        ledger.report(Some(route.as_str()), 1)[0].triples
    };
    assert_eq!([triples(&first, &route), triples(&kept_longer, &route)], [1, 2]);
    assert_eq!([triples(&other, &route), triples(&other, &route)], [1, 2]);
    assert_eq!(triples(&first, &name("prices")), 1);
    assert_eq!(ledger.fields, 2);
    ledger.retain(|route| route.as_str() == "prices");
    assert_eq!((ledger.fields, ledger.verdicts().count()), (1, 1));
}

#[test]
fn what_finds_no_room_is_left_out_and_makes_nothing_green() {
    let policy = Arc::new(ComparePolicy::default());
    let mut ledger = Ledger { fields: FIELDS_MAX - 1, ..Ledger::default() };
    let route = name("cart");
    let of = Of { route: &route, method: &Method::GET, policy: &policy };
    for _ in 0..200 {
        ledger.triple(of, &differing(&[]), &differing(&[("a", Kind::Value), ("b", Kind::Value)]));
    }
    let report = ledger.report(None, 10).remove(0);
    assert_eq!((report.fields.len(), report.verdict, report.fields_not_counted), (1, "unknown", 200));
    for method in ["A", "B", "C", "D", "E", "F", "G", "H", "I"] {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        ledger.pair(Of { method: &method, ..of }, &differing(&[]));
    }
    assert_eq!(ledger.left_out, 2);
}

/// A book in which one field of a route's GETs is known to be wrong.
fn with_a_divergent_field(route: &RouteName, policy: &Arc<ComparePolicy>) -> Ledger {
    let mut ledger = Ledger::default();
    let of = Of { route, method: &Method::GET, policy };
    let (wrong, equal) = (differing(&[("total", Kind::Value)]), differing(&[]));
    for _ in 0..400 {
        ledger.pair(of, &wrong);
        ledger.triple(of, &wrong, &equal);
    }
    assert_eq!(ledger.verdict_of(route.as_str()), Some(FieldVerdict::Divergent));
    ledger
}

#[test]
fn what_is_known_outlives_the_process_and_adds_up() {
    let (route, policy) = (name("cart"), Arc::new(ComparePolicy::default()));
    let mut before = with_a_divergent_field(&route, &policy);
    before.tagged(
        Of { route: &route, method: &Method::GET, policy: &policy },
        Tag::Noise,
        &FieldKey::all_of(&differing(&[])),
    );
    let saved = before.take_unsaved(10);
    assert_eq!((saved.len(), before.take_unsaved(10).len()), (1, 0), "once");
    before.put_back(&saved);
    assert_eq!(before.take_unsaved(10), saved, "what could not be written is written next time");

    let mut after = Ledger::default();
    after.load(&saved[0], &policy);
    assert_eq!(after.report(None, 10), before.report(None, 10));
    // What was counted before the store could be read stays.
    let mut both = with_a_divergent_field(&route, &policy);
    both.load(&saved[0], &policy);
    assert_eq!((both.report(None, 10)[0].triples, both.report(None, 10)[0].fields[0].only_extracted), (800, 800));
    assert_eq!(both.fields, 1);
}

#[test]
fn what_was_compared_otherwise_or_cannot_be_read_is_left_out() {
    let (route, policy) = (name("cart"), Arc::new(ComparePolicy::default()));
    let saved = with_a_divergent_field(&route, &policy).take_unsaved(10).remove(0);
    let other = Arc::new(ComparePolicy { body_bytes_max: 7, ..ComparePolicy::default() });
    let kept = Arc::new(ComparePolicy { keep_per_signature: 7, ..ComparePolicy::default() });
    let after = |saved: &SavedRoute, policy| {
        let mut ledger = Ledger::default();
        ledger.load(saved, policy);
        ledger.report(None, 10).first().map(|report| report.triples)
    };
    assert_eq!((after(&saved, &kept), after(&saved, &other)), (Some(400), None));
    for counts in ["", "{}", "[]", "{\"release\":null,\"methods\":[{\"method\":\"GET\"}]}"] {
        assert_eq!(after(&SavedRoute { counts: counts.into(), ..saved.clone() }, &policy), None, "{counts}");
    }
}

#[test]
fn another_release_begins_anew_and_the_same_one_after_a_restart_does_not() {
    let (route, policy) = (name("cart"), Arc::new(ComparePolicy::default()));
    let mut ledger = with_a_divergent_field(&route, &policy);
    let named = |ledger: &mut Ledger, release: Option<&str>, times| {
        (0..times).filter(|_| ledger.note_release(&route, release.and_then(Release::new))).count()
    };
    assert_eq!(named(&mut ledger, Some("1.0"), 100), 0, "the first one that is named is no other one");
    assert_eq!(named(&mut ledger, Some("1.1"), 89), 0, "both answer");
    let saved = ledger.take_unsaved(10).remove(0);
    assert_eq!(named(&mut ledger, Some("1.1"), 11), 1);
    assert_eq!((ledger.verdict_of("cart"), ledger.fields), (None, 0));

    let mut again = Ledger::default();
    again.load(&saved, &policy);
    assert_eq!(named(&mut again, Some("1.0"), 200), 0);
    assert_eq!(again.report(None, 10)[0].release.as_deref(), Some("1.0"));
    assert_eq!(again.verdict_of("cart"), Some(FieldVerdict::Divergent));
    // The release came before the store could be read.
    let mut late = Ledger::default();
    assert_eq!(named(&mut late, Some("1.1"), 100), 0);
    late.load(&saved, &policy);
    assert_eq!(late.verdict_of("cart"), None);
    // A service that named none, and then does, is another release.
    let mut unnamed = with_a_divergent_field(&route, &policy);
    assert_eq!((named(&mut unnamed, None, 500), named(&mut unnamed, Some("2"), 100)), (0, 1));
    assert!(!unnamed.forget(&route), "there is nothing left");
}

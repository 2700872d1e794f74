use super::pairs::{ANSWERS, DOCUMENTS, Said};
use super::*;

#[test]
fn documents_are_found_equal_or_different_as_agreed() {
    let mut wrong = Vec::new();
    for (legacy, extracted, with, expect) in DOCUMENTS {
        let [left, right] = [legacy, extracted].map(|body| Outcome::Answered(answer(200, JSON, body)));
        let comparison = pair(left, right, &block(with));
        let found = sorted(&comparison);
        if found != *expect || (comparison.result == ComparisonResult::Match) != expect.is_empty() {
            wrong.push(format!("{legacy} / {extracted} with {with}: `{found}`, not `{expect}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(DOCUMENTS.len(), 113);
}

#[test]
fn answers_are_found_equal_or_different_as_agreed() {
    let policy = block(r#"{"headers": {"mode": "all", "presence": "report"}}"#);
    for (legacy, extracted, expect) in ANSWERS {
        let of = |said: &Said| Outcome::Answered(answer(said.status, said.headers, said.body));
        let comparison = pair(of(legacy), of(extracted), &policy);
        assert_eq!(sorted(&comparison), *expect, "{} / {}", legacy.body, extracted.body);
    }
    assert_eq!(ANSWERS.len(), 11);
}

/// Places in the order of their text, and how they differ.
fn sorted(comparison: &Comparison) -> String {
    let mut found: Vec<String> = comparison.differences.iter().map(|d| format!("{}@{}", d.kind, d.path)).collect();
    found.sort();
    found.join(" ")
}

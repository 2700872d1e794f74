use super::*;

fn today() -> Day {
    "2026-11-21".parse().expect("a day")
}

fn said(text: &str) -> Said {
    Said::parse(text.as_bytes()).expect("an answer")
}

fn json(verdict: &Verdict) -> String {
    serde_json::to_string(verdict).expect("json")
}

#[test]
fn lists_and_objects_are_shown_as_they_are_and_numbers_as_they_were_written() {
    let left = br#"{"a": [1.10, {"b": 9007199254740993}], "c": 1, "d": [{"id": 7, "x": [1, 2]}]}"#;
    let right = br#"{"a": {"b": 1}, "c": 2, "d": [{"id": 7, "x": [1]}]}"#;
    let rules = vec![crate::route::CompareRule::new(
        "/d".parse().expect("a pointer"),
        crate::route::RuleAction::ArrayKey("id".into()),
    )];
    let policy = ComparePolicy { rules, ..ComparePolicy::default() };
    let verdict = compare_documents(left, right, Media::Json, &policy, today());
    assert_eq!(
        json(&verdict),
        concat!(
            r#"{"equal":false,"differences":[{"path":"/a","kind":"type","left":[1.10,{"b":9007199254740993}],"right":{"b":1},"rule":null},"#,
            r#"{"path":"/c","kind":"value","left":1,"right":2,"rule":null},"#,
            r#"{"path":"/d/[id=7]/x","kind":"array_length","left":[1,2],"right":[1],"rule":null}]}"#,
        )
    );
}

#[test]
fn what_is_larger_than_the_policy_compares_is_never_equal() {
    let policy = ComparePolicy { body_bytes_max: 4, ..ComparePolicy::default() };
    let verdict = compare_documents(b"[1,2,3]", b"[1,2,4]", Media::Json, &policy, today());
    assert!(!verdict.equal);
    assert_eq!(verdict.not_comparable, Some(NotComparable::Truncated));
    assert!(
        json(&verdict).starts_with(r#"{"equal":false,"not_comparable":"truncated","differences":["#),
        "{}",
        json(&verdict)
    );
}

#[test]
fn answers_differ_in_status_headers_and_body() {
    let left = said(r#"{"status": 200, "headers": {"location": "/a", "vary": ["x", "y"]}, "body": {"n": 1}}"#);
    let right = said(r#"{"status": 201, "headers": {"location": "/b", "vary": "y, x"}, "body": {"n": 2}}"#);
    let verdict = compare_answers(&left, &right, &ComparePolicy::default(), today());
    let found: Vec<String> = verdict.differences.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["status: status: 200 → 201", "header:location: header: \"/a\" → \"/b\"", "/n: value: 1 → 2"]);
}

#[test]
fn what_is_no_answer_says_what_is_wrong() {
    for (text, why) in [
        ("[]", "it is no object"),
        ("{}", "`status` is missing"),
        (r#"{"status": "200"}"#, "`status` is a number from 100 to 999"),
        (r#"{"status": 20}"#, "`status` is a number from 100 to 999"),
        (r#"{"status": 200, "headers": []}"#, "`headers` is an object"),
        (r#"{"status": 200, "headers": {"a b": "c"}}"#, "`a b` is no name of a header"),
        (r#"{"status": 200, "headers": {"a": {}}}"#, "the header `a` is a text, or a list of texts"),
        (r#"{"status": 200, "code": 1}"#, "`code` is not known; it has `status`, `headers`, `body`"),
        (r#"{"status": 200, "status": 201}"#, "a key is there twice"),
    ] {
        let error = Said::parse(text.as_bytes()).expect_err(text).to_string();
        assert_eq!(error, format!("not a written answer: {why}"), "{text}");
    }
    assert!(matches!(Said::parse(b"nonsense"), Err(SaidError::Json(_))));
}

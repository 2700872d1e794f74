use super::*;
use proptest::prelude::*;

#[test]
fn what_the_grammar_allows_is_read() {
    for text in [
        "null",
        "true",
        " false\r\n",
        "0",
        "-0",
        "-0.5e+10",
        "1E5",
        r#""""#,
        r#""\u0000\ud83d\ude00\"\\\/\b\f\n\r\t""#,
        "[]",
        "{}",
        "[ 1 , [ ] , { } ]",
        r#"{"":{"a":[null]}}"#,
        "\"\u{7f}é\u{2028}\"",
    ] {
        assert!(parse(text.as_bytes()).is_ok(), "{text}");
    }
}

#[test]
fn what_the_grammar_forbids_is_refused() {
    for text in [
        "",
        " ",
        "nul",
        "nullx",
        "True",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{,}",
        "{\"a\":1,}",
        "{\"a\"}",
        "{a:1}",
        "{'a':1}",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"\t\"",
        "[",
        "{",
        "]",
        "1 2",
        "[]]",
        "\u{feff}1",
        "//c\n1",
        "\u{a0}1",
    ] {
        assert!(matches!(parse(text.as_bytes()), Err(JsonError::Syntax(_))), "{text:?}");
    }
    assert_eq!(parse(b"\"\xff\"").map(|_| ()), Err(JsonError::NotUtf8(1)));
}

#[test]
fn a_document_too_deep_or_too_large_is_refused_by_name() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
    assert_eq!(parse(nested(DEPTH_MAX + 1).as_bytes()).map(|_| ()), Err(JsonError::TooDeep));
    assert_eq!(parse("[".repeat(10_000_000).as_bytes()).map(|_| ()), Err(JsonError::TooDeep));
    let wide = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
    assert!(parse(wide(NODES_MAX - 1).as_bytes()).is_ok());
    assert_eq!(parse(wide(NODES_MAX).as_bytes()).map(|_| ()), Err(JsonError::TooMany));
}

#[test]
fn a_key_that_is_there_twice_is_noticed() {
    let duplicate = |text: &str| match parse(text.as_bytes()) {
        Ok(Json::Object(object)) => object.has_duplicates,
        _ => false,
    };
    assert!(duplicate(r#"{"a":1,"b":2,"a":1}"#));
    assert!(duplicate(r#"{"a":1,"\u0061":2}"#));
    assert!(!duplicate(r#"{"a":1,"b":{"a":2}}"#));
    let many: Vec<String> = (0..40).map(|n| format!("\"k{}\":1", n % 39)).collect();
    assert!(duplicate(&format!("{{{}}}", many.join(","))));
}

fn as_serde(value: &Json<'_>) -> serde_json::Value {
    match value {
        Json::Null => serde_json::Value::Null,
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => serde_json::from_str(number.as_str()).expect("a number"),
        Json::String(text) => text.as_ref().into(),
        Json::Array(items) => items.iter().map(as_serde).collect(),
        Json::Object(object) => object.members.iter().map(|(key, value)| (key.to_string(), as_serde(value))).collect(),
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn what_looks_like_json_is_read_as_another_reader_reads_it(text in r#"[\[\]{}:," 0-9eE.+\-a-c\\unt]{0,24}"#) {
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        match parse(text.as_bytes()) {
            // Theirs refuses what no f64 can hold; ours keeps the text.
            Ok(ours) => if let Ok(theirs) = theirs { prop_assert_eq!(as_serde(&ours), theirs) },
            Err(_) => prop_assert!(theirs.is_err()),
        }
    }
}

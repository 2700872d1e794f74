//! Whether a GraphQL request only reads.

use serde_json::Value;

/// Most requests of a batch.
const BATCH_MAX: usize = 100;

/// Whether every operation of a request's JSON body is a query. What is not understood (a stored query by its hash, another shape) is
/// taken to write.
pub fn is_query(body: &[u8]) -> bool {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(batch)) => !batch.is_empty() && batch.len() <= BATCH_MAX && batch.iter().all(is_one_query),
        Ok(one) => is_one_query(&one),
        Err(_) => false,
    }
}

fn is_one_query(request: &Value) -> bool {
    request.get("query").and_then(Value::as_str).is_some_and(only_reads)
}

/// The words outside of all braces, parentheses, texts and comments say what the operations are.
fn only_reads(document: &str) -> bool {
    let (mut depth, mut operations) = (0u32, 0u32);
    // Whether a definition has begun whose selection is still to come.
    let mut is_begun = false;
    let mut rest = document;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            '"' => match text_length(rest) {
                Some(length) => length,
                None => return false,
            },
            '{' | '(' | '[' => {
                if depth == 0 && first == '{' {
                    // Without a word before it, it is a query.
                    operations += 1;
                    is_begun = false;
                }
                depth += 1;
                1
            }
            '}' | ')' | ']' => {
                let Some(less) = depth.checked_sub(1) else { return false };
                depth = less;
                1
            }
            _ if first.is_ascii_alphabetic() || first == '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                if depth == 0 && !is_begun {
                    if !matches!(rest.get(..end), Some("query" | "fragment")) {
                        return false;
                    }
                    is_begun = true;
                }
                end
            }
            _ => first.len_utf8(),
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    depth == 0 && operations > 0 && !is_begun
}

/// Bytes of the text that `rest` begins with, quotes included; `None`: it has no end.
fn text_length(rest: &str) -> Option<usize> {
    if let Some(block) = rest.strip_prefix("\"\"\"") {
        let mut from = 0;
        loop {
            let at = from + block.get(from..)?.find("\"\"\"")?;
            if !block.get(..at)?.ends_with('\\') {
                return Some(at + 6);
            }
            from = at + 3;
        }
    }
    let mut is_escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return Some(at + 1),
            '\n' | '\r' => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn queries_are_told_from_what_writes() {
        for query in [
            "{ user { id } }",
            "query { user { id } }",
            "query Q($a: [Int!]! = [1], $b: In = {mutation: 1}) @live { mutation(a: \"}\") { id } }",
            "# mutation {\nquery A { a } fragment F on User { mutation }",
            "query A { a(text: \"\"\"mutation { \\\"\"\" } \"\"\") }",
            "fragment F on User { id }\nquery A { ...F }",
        ] {
            assert!(is_query(json!({"query": query, "variables": {}}).to_string().as_bytes()), "{query}");
        }
        for other in [
            "mutation { pay }",
            "subscription { ticks }",
            "query A { a } mutation B { b }",
            "{ a } mutation { b }",
            "{ a(t: \"x) }",
            "{ a }}",
            "{ a ",
            "query",
            "",
            "# nothing",
            "query { a(t: \"\\\") } mutation { b }",
            "extend type A { b }",
        ] {
            assert!(!is_query(json!({"query": other}).to_string().as_bytes()), "{other}");
        }
        let query = json!({"query": "{a}"});
        assert!(is_query(json!([query, query]).to_string().as_bytes()));
        assert!(!is_query(json!([query, {"query": "mutation {b}"}]).to_string().as_bytes()));
        for body in ["[]", "", "{}", "{\"extensions\": {\"persistedQuery\": {}}}", "{\"query\": 1}"] {
            assert!(!is_query(body.as_bytes()), "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_document_breaks_it(document in ".{0,60}", words in "[{}()\"#\\\\a-q \n]{0,60}") {
            let _ = only_reads(&document);
            let _ = only_reads(&words);
            // Whatever stands before it, a mutation that is an operation of a well-formed document is seen.
            let writes = format!("{{ a }} mutation {{ {} }}", words.replace(['{', '}', '"', '#'], ""));
            proptest::prop_assert!(!only_reads(&writes));
        }
    }
}

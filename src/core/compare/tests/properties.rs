//! What holds for all pairs and all rules, tried with many of them.

use super::*;

/// A rule of any sort but `expect` and `map`, which speak of one direction.
fn rules() -> impl Strategy<Value = Vec<serde_json::Value>> {
    let path = "(/(a|b|\\*|\\*\\*|0)){0,3}";
    let what = prop_oneof![
        Just(serde_json::json!({"ignore": true})),
        Just(serde_json::json!({"array_order": "ignore"})),
        Just(serde_json::json!({"array_order": "strict"})),
        Just(serde_json::json!({"array_key": "a"})),
        Just(serde_json::json!({"tolerance": {"abs": 1}})),
        Just(serde_json::json!({"tolerance": {"rel": "0.5"}})),
        Just(serde_json::json!({"matches": "^[a1]"})),
        Just(serde_json::json!({"compare": "type"})),
        Just(serde_json::json!({"as": "timestamp", "within": "1s"})),
        Just(serde_json::json!({"as": "uuid"})),
    ];
    let rule = (path, what).prop_map(|(path, mut rule)| {
        rule["path"] = path.into();
        rule
    });
    proptest::collection::vec(rule, 0..4)
}

fn options() -> impl Strategy<Value = serde_json::Value> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(order, typed, absent, text)| {
        serde_json::json!({
            "array_order": if order { "ignore" } else { "strict" },
            "numeric": if typed { "typed" } else { "value" },
            "null_equals_absent": absent,
            "string_number": if text { "equal" } else { "strict" },
        })
    })
}

pub(super) fn with(rules: &[serde_json::Value], json: &serde_json::Value) -> Arc<ComparePolicy> {
    block(&serde_json::json!({"rules": rules, "json": json}).to_string())
}

fn compared(legacy: &str, extracted: &str, policy: &ComparePolicy) -> Comparison {
    let [legacy, extracted] = [legacy, extracted].map(|body| Outcome::Answered(answer(200, JSON, body)));
    pair(legacy, extracted, policy)
}

const fn mirrored(kind: Kind) -> Kind {
    if matches!(kind, Kind::Missing) {
        Kind::Extra
    } else if matches!(kind, Kind::Extra) {
        Kind::Missing
    } else {
        kind
    }
}

/// Whether two lists of numbers can be paired so that none is further apart than `most`: by trying all ways.
fn obvious(left: &[i32], right: &[i32], most: i32) -> bool {
    let Some((first, rest)) = left.split_first() else { return right.is_empty() };
    (0..right.len()).any(|at| {
        let mut others = right.to_vec();
        (others.remove(at) - first).abs() <= most && obvious(rest, &others, most)
    })
}

proptest! {
    #[test]
    fn a_document_equals_itself_under_all_rules(document in documents(), rules in rules(), json in options()) {
        let text = document.to_string();
        let spaced = serde_json::to_string_pretty(&document).expect("json");
        let comparison = compared(&text, &spaced, &with(&rules, &json));
        prop_assert_eq!(comparison.result, ComparisonResult::Match);
    }

    #[test]
    fn under_all_rules_the_sides_can_be_exchanged(left in documents(), right in documents(), rules in rules(), json in options()) {
        let policy = with(&rules, &json);
        let places = |comparison: Comparison, is_back: bool| -> Vec<(Location, Kind, Option<Shown>, Option<Shown>)> {
            let mut places: Vec<_> = comparison.differences.into_iter().map(|d| {
                if is_back { (d.path, mirrored(d.kind), d.extracted, d.legacy) } else { (d.path, d.kind, d.legacy, d.extracted) }
            }).collect();
            places.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
            places
        };
        let there = compared(&left.to_string(), &right.to_string(), &policy);
        let back = compared(&right.to_string(), &left.to_string(), &policy);
        prop_assert_eq!(there.result, back.result);
        prop_assert_eq!(there.forgiven, back.forgiven);
        prop_assert_eq!(places(there, false), places(back, true));
    }

    #[test]
    fn a_shuffled_list_without_order_is_equal(
        items in proptest::collection::vec(documents(), 0..6),
        seed in any::<u64>(),
        rules in rules(),
    ) {
        let mut shuffled = items.clone();
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, usize::try_from(seed % (at as u64 + 1)).expect("small"));
        }
        let rules: Vec<_> = rules.into_iter().filter(|rule| rule["array_order"].is_null() && rule["array_key"].is_null()).collect();
        // A rule for a position means nothing where there are none.
        let policy = with(&rules, &serde_json::json!({"array_order": "ignore"}));
        let [left, right] = [items, shuffled].map(|items| serde_json::Value::from(items).to_string());
        prop_assert_eq!(compared(&left, &right, &policy).result, ComparisonResult::Match);
    }

    #[test]
    fn close_numbers_are_paired_as_by_trying_all_ways(
        left in proptest::collection::vec(0i32..12, 0..6),
        right in proptest::collection::vec(0i32..12, 0..6),
        most in 0i32..4,
    ) {
        let rules = [serde_json::json!({"path": "/**", "tolerance": {"abs": most}})];
        let policy = with(&rules, &serde_json::json!({"array_order": "ignore"}));
        let [one, other] = [&left, &right].map(|items| serde_json::to_string(items).expect("json"));
        let is_match = compared(&one, &other, &policy).result == ComparisonResult::Match;
        prop_assert_eq!(is_match, left.len() == right.len() && obvious(&left, &right, most));
    }

    #[test]
    fn a_further_ignore_never_finds_more(left in documents(), right in documents(), rules in rules(), json in options(), path in "(/(a|b|\\*|\\*\\*|0)){0,3}") {
        let mut more = rules.clone();
        more.push(serde_json::json!({"path": path, "ignore": true}));
        let (without, with) = (with(&rules, &json), with(&more, &json));
        let [without, with] = [without, with].map(|policy| compared(&left.to_string(), &right.to_string(), &policy));
        prop_assert!(with.total <= without.total, "{} with {path}, {} without", named(&with), named(&without));
    }

    #[test]
    fn no_bytes_of_any_type_break_the_comparer(
        left in proptest::collection::vec(any::<u8>(), 0..120),
        right in proptest::collection::vec(any::<u8>(), 0..120),
        markup in "[<>/a-c!\\[\\]&;='\" \\-]{0,80}",
        media in prop_oneof![
            Just("application/json"), Just("text/html"), Just("text/xml"), Just("application/x-www-form-urlencoded"),
            Just("text/plain"), Just("text/event-stream"), Just("application/grpc"), Just("application/x-ndjson"), Just("image/png"),
        ],
        is_cut: bool,
    ) {
        let headers = &[("content-type", media)];
        let of = |body: &[u8]| Outcome::Answered(Answer {
            body: Bytes::copy_from_slice(body),
            is_truncated: is_cut,
            ..answer(200, headers, "")
        });
        for (left, right) in [(&left[..], &right[..]), (markup.as_bytes(), &right[..])] {
            let there = pair(of(left), of(right), &policy(&[]));
            prop_assert_eq!(there.result, pair(of(right), of(left), &policy(&[])).result);
            let same = pair(of(left), of(left), &policy(&[])).result;
            prop_assert!(same == ComparisonResult::Match || is_cut);
        }
    }
}

//! What is matched is what is forwarded, whatever it was spelled like.

use proptest::prelude::*;

use super::*;

/// As a client may write it: any character of a path, and some behind their escapes.
fn spelled() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => "[a-c]{1,2}",
        2 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => "%(2e|2E|2f|2F|5c|5C|61|62|25|00|3b|c3)",
        1 => "[;:@\\\\~_%é-]",
    ];
    let segment = proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat());
    proptest::collection::vec(segment, 1..5).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn templates() -> impl Strategy<Value = PathTemplate> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("{x}"), Just("c.d"), Just("")];
    let rest = prop_oneof![Just(""), Just("/{*rest}")];
    (proptest::collection::vec(segment, 1..4), rest).prop_filter_map("two of one name", |(segments, rest)| {
        PathTemplate::parse(&format!("/{}{rest}", segments.join("/"))).ok()
    })
}

/// The same path with some of its letters and dots behind escapes: `mask` says which, and in which case.
fn escaped(path: &str, mask: &[u8]) -> String {
    let mut mask = mask.iter().cycle();
    let escape = |byte: u8| match mask.next() {
        Some(0) => format!("%{byte:02x}"),
        Some(1) => format!("%{byte:02X}"),
        _ => char::from(byte).to_string(),
    };
    let mut escape = escape;
    let mut out = String::new();
    for character in path.chars() {
        match u8::try_from(character) {
            Ok(byte) if byte.is_ascii_alphanumeric() || byte == b'.' => out += &escape(byte),
            _ => out.push(character),
        }
    }
    out
}

/// A path as a service may read it that takes escaped separators for separators, and `;` for the begin of a parameter.
fn as_the_laxest_service_reads(path: &str) -> Vec<String> {
    let mut text = path.to_owned();
    for (escape, character) in [("%2e", "."), ("%2E", "."), ("%2f", "/"), ("%2F", "/"), ("%5c", "\\"), ("%5C", "\\")] {
        text = text.replace(escape, character);
    }
    text.split(['/', '\\']).map(|piece| piece.split(';').next().unwrap_or_default().to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_path_that_is_let_in_climbs_for_any_service(path in spelled()) {
        if let Ok(normal) = normal_path(&path) {
            let pieces = as_the_laxest_service_reads(&normal);
            prop_assert!(pieces.iter().all(|piece| piece != ".." && piece != "."), "{} is {}", path, normal);
            prop_assert_eq!(normal_path(&normal).unwrap(), normal.clone(), "one spelling");
        }
    }

    #[test]
    fn a_path_behind_escapes_is_the_same_path(path in "(/[a-c.]{0,3}){1,4}", mask in proptest::collection::vec(0u8..4, 1..9)) {
        let other = escaped(&path, &mask);
        prop_assert_eq!(normal_path(&other), normal_path(&path), "{}", other);
    }

    #[test]
    fn what_matches_is_what_is_forwarded(template in templates(), path in spelled(), mask in proptest::collection::vec(0u8..4, 1..9)) {
        let Ok(forwarded) = normal_path(&path) else { return Ok(()) };
        // Any spelling of the same path meets the same route, and none meets one that its forwarded form does not.
        let other = escaped(&forwarded.replace('%', "%25"), &mask).replace("%25", "%");
        if let Ok(again) = normal_path(&other)
            && again == forwarded
        {
            prop_assert_eq!(template.matches(&again), template.matches(&forwarded));
        }
        if template.matches(&forwarded) {
            // Put together again from what was captured, it is the path.
            let mut rebuilt = String::new();
            for segment in &template.segments {
                rebuilt.push('/');
                rebuilt.push_str(match segment {
                    Segment::Literal(text) => text,
                    Segment::Param(name) => template.capture(&forwarded, name).unwrap(),
                });
            }
            let rest = template.rest.as_deref().map(|name| template.capture(&forwarded, name).unwrap());
            let is_it = match rest {
                None => rebuilt == *forwarded,
                Some(rest) => format!("{rebuilt}/{rest}") == *forwarded || (rest.is_empty() && rebuilt == *forwarded),
            };
            prop_assert!(is_it, "{} of {}: {} {:?}", template, forwarded, rebuilt, rest);
        }
    }
}

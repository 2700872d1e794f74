//! Whatever is written as a host or a target: it is let in in one spelling, or not at all.

use proptest::prelude::*;

use super::*;

fn authorities() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9._-]{0,12}(:[0-9]{0,6})?",
        "\\[[0-9a-fA-F:.]{0,12}\\]?(:[0-9]{0,6})?",
        "[a-zA-Z0-9.:@/\\\\\\[\\]%# ,?é-]{0,12}",
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_host_has_one_spelling_and_no_room_for_another_thing(authority in authorities()) {
        let Some(host) = host_of(&authority) else { return Ok(()) };
        let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b));
        let is_address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|text| {
            text.parse::<std::net::Ipv6Addr>().is_ok()
        });
        prop_assert!(is_address || (!host.is_empty() && is_name(&host)), "{:?} is {:?}", authority, host);
        prop_assert_eq!(host_of(&host), Some(host.clone()), "one spelling");
        // Neither its case nor a port makes another host of it.
        for other in [authority.to_ascii_uppercase(), format!("{host}:8080")] {
            prop_assert_eq!(host_of(&other), Some(host.clone()));
        }
    }

    #[test]
    fn the_quick_look_at_a_host_sees_what_the_long_one_sees(authority in authorities()) {
        prop_assert!(!is_usual_host(&authority) || unusual_host(&authority).as_deref() == Some(&*authority), "{:?}", authority);
    }

    #[test]
    fn what_is_let_in_is_a_host_and_a_path_and_nothing_else(
        target in "(/|http://|https://|//|\\*)?[a-c.:@/\\\\%0-9?#;é-]{0,16}",
        host in authorities(),
        has_host in any::<bool>(),
    ) {
        let (Ok(uri), Ok(value)) = (target.parse::<Uri>(), HeaderValue::from_str(&host)) else { return Ok(()) };
        let mut headers = HeaderMap::new();
        if has_host {
            headers.insert(header::HOST, value);
        }
        let Ok(admitted) = admit(&Method::GET, &uri, Version::HTTP_11, &headers, &HeadBounds::default()) else { return Ok(()) };
        prop_assert!(has_host, "none was named");
        prop_assert!(admitted.path.starts_with('/') && !admitted.path.contains(['?', '#']), "{}", admitted.path);
        let of_authority = host_of(admitted.authority);
        prop_assert_eq!(of_authority.as_deref(), Some(&*admitted.host));
        let again: Result<Uri, _> = admitted.path.parse();
        prop_assert!(again.is_ok_and(|uri| uri.path() == admitted.path), "{}", admitted.path);
    }
}

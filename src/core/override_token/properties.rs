//! A token that is not one that was made is no token.

use proptest::prelude::*;

use super::*;

fn key(id: &str, byte: u8) -> SigningKey {
    SigningKey { id: id.into(), secret: [byte; 32] }
}

fn sides() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Legacy), Just(Side::Extracted)]
}

const NOW_S: u64 = 1_763_700_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_changed_token_verifies(
        side in sides(), life in 0u64..900, at in any::<proptest::sample::Index>(), taken in 0usize..3,
        put in "[A-Za-z0-9._+ =/-]{0,2}|legacy|extracted|00|\\+",
    ) {
        let keys = [key("a", 7), key("b", 9)];
        let token = sign(&keys[1], "shop", "pay", side, NOW_S + life);
        prop_assert_eq!(verify(&keys, &token, "shop", "pay", NOW_S), Ok(side));
        let at = at.index(token.len() + 1);
        let mut changed = token.clone();
        changed.replace_range(at..(at + taken).min(token.len()), &put);
        if changed != token {
            prop_assert!(verify(&keys, &changed, "shop", "pay", NOW_S).is_err(), "{} for {}", changed, token);
        }
    }

    #[test]
    fn a_token_is_for_one_host_and_one_route(
        side in sides(), host in "[a-z.]{1,6}", route in "[a-z-]{1,6}", other in "[a-z.\n-]{0,8}",
    ) {
        let keys = [key("a", 7)];
        let token = sign(&keys[0], &host, &route, side, NOW_S + 60);
        for (for_host, for_route) in [(&other, &route), (&host, &other), (&route, &host)] {
            let is_it = (for_host, for_route) == (&host, &route);
            prop_assert_eq!(verify(&keys, &token, for_host, for_route, NOW_S).is_ok(), is_it);
        }
    }

    #[test]
    fn no_text_breaks_the_reader(token in "v1\\.a\\.(legacy|extracted)\\.[0-9+]{0,22}\\.[A-Za-z0-9_-]{0,44}|.{0,40}") {
        prop_assert!(verify(&[key("a", 7)], &token, "shop", "pay", NOW_S).is_err());
    }
}

//! A lease that is not one that was given is not believed.

use proptest::prelude::*;

use super::*;

const NOW_S: u64 = 1_763_700_000;
const LIFE: Duration = Duration::from_mins(30);

fn leases() -> impl Strategy<Value = Lease> {
    let marks = proptest::collection::btree_set(any::<u32>(), 0..4);
    (0u16..10_000, 0u64..1_700, marks, any::<bool>()).prop_map(|(bucket, age_s, marks, is_only)| {
        let marks = marks.into_iter().collect();
        Lease {
            bucket: Bucket::from_number(bucket).unwrap(),
            begun_s: NOW_S - age_s,
            held: if is_only { Held::Only(marks) } else { Held::AllBut(marks) },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_changed_cookie_is_believed(
        lease in leases(), at in any::<proptest::sample::Index>(), taken in 0usize..3, put in "[A-Za-z0-9._+ =/-]{0,2}|00",
    ) {
        let keys = [SigningKey { id: "a".into(), secret: [7; 32] }, SigningKey { id: "b".into(), secret: [9; 32] }];
        let signing = Signing { keys: &keys, now_s: NOW_S };
        let token = sign(&keys[1], "scope", &lease);
        prop_assert!(token.len() <= TOKEN_BYTES_MAX);
        prop_assert_eq!(verify(signing, "scope", LIFE, &token), Ok(lease));
        prop_assert!(verify(signing, "another", LIFE, &token).is_err());
        let at = at.index(token.len() + 1);
        let mut changed = token.clone();
        changed.replace_range(at..(at + taken).min(token.len()), &put);
        if changed != token {
            prop_assert!(verify(signing, "scope", LIFE, &changed).is_err(), "{} for {}", changed, token);
        }
    }

    #[test]
    fn a_lease_ends_when_it_said_it_would(lease in leases(), later_s in 0u64..4_000) {
        let keys = [SigningKey { id: "a".into(), secret: [7; 32] }];
        let token = sign(&keys[0], "scope", &lease);
        let signing = Signing { keys: &keys, now_s: lease.begun_s + later_s };
        prop_assert_eq!(verify(signing, "scope", LIFE, &token).is_ok(), later_s < LIFE.as_secs());
    }
}

use super::*;

fn key(place: &str, kind: Kind) -> FieldKey {
    FieldKey { place: place.to_owned(), kind }
}

fn set(places: &[&str]) -> BTreeSet<FieldKey> {
    places.iter().map(|place| key(place, Kind::Value)).collect()
}

/// A coin that falls alike in every run (SplitMix64).
struct Coin(u64);

impl Coin {
    fn falls(&mut self, chance: f64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mcnemar::real((bits ^ (bits >> 31)) >> 11) < chance * mcnemar::real(1 << 53)
    }
}

/// A field that differs from legacy by itself with `noise`, and by a regression with `real` on top.
fn run(seed: u64, noise: f64, regression: f64, triples: u64) -> Endpoint {
    let mut coin = Coin(seed);
    let (mut endpoint, policy) = (Endpoint::default(), VerdictPolicy::default());
    let (one, none) = (set(&["/a"]), BTreeSet::new());
    for _ in 0..triples {
        let is_found = coin.falls(noise) || coin.falls(regression);
        let is_noise = coin.falls(noise);
        endpoint.observe(if is_found { &one } else { &none }, if is_noise { &one } else { &none }, &policy);
    }
    endpoint
}

#[test]
fn what_differs_between_two_answers_of_legacy_is_noise_and_the_rest_is_not() {
    let noisy = ["/now/epoch", "/now/iso8601", "/now/rfc2822", "/now/rfc3339"];
    let all: Vec<&str> = noisy.into_iter().chain(["/urls/*"]).collect();
    assert_eq!(tag(&set(&noisy), &[], Some(&set(&noisy))), (Tag::Noise, BTreeSet::new()));
    assert_eq!(tag(&set(&all), &[], Some(&set(&noisy))), (Tag::Confirmed, set(&["/urls/*"])));
    // A value that changes excuses no field that is missing.
    let missing = BTreeSet::from([key("/ts", Kind::Missing)]);
    assert_eq!(tag(&missing, &[], Some(&set(&["/ts"]))), (Tag::Confirmed, missing.clone()));
    let again = std::slice::from_ref(&missing);
    assert_eq!(tag(&missing, &[BTreeSet::new()], Some(&BTreeSet::new())).0, Tag::Transient);
    assert_eq!(tag(&missing, &[missing.clone(), BTreeSet::new()], Some(&BTreeSet::new())).0, Tag::Transient);
    assert_eq!(tag(&missing, again, None), (Tag::Unconfirmed, missing.clone()));
    assert_eq!(tag(&missing, again, Some(&BTreeSet::new())), (Tag::Confirmed, missing.clone()));
    // What did not stay is no part of what is confirmed; where nothing stayed, it was passing.
    let stayed = tag(&set(&["/a", "/b"]), &[set(&["/b", "/c"])], Some(&BTreeSet::new()));
    assert_eq!(stayed, (Tag::Confirmed, set(&["/b"])));
    assert_eq!(tag(&set(&["/a"]), &[set(&["/b"])], Some(&BTreeSet::new())).0, Tag::Transient);
}

#[test]
fn looks_come_at_twice_as_many_triples_each_time() {
    let found: Vec<(u64, i32)> = (0..=6_400).filter_map(|triples| Some((triples, look(triples)?))).collect();
    assert_eq!(found, [(200, 1), (400, 2), (800, 3), (1_600, 4), (3_200, 5), (6_400, 6)]);
}

#[test]
fn noise_alone_is_hardly_ever_taken_for_a_regression_however_long_it_runs() {
    for noise in [0.005, 0.05, 0.5] {
        let flagged = (0..100).filter(|seed| {
            let endpoint = run(seed * 7 + 1, noise, 0.0, 12_800);
            endpoint.verdict(&VerdictPolicy::default()) == FieldVerdict::Divergent
        });
        let flagged = flagged.count();
        assert!(flagged <= 1, "{flagged} of 100 at {noise}");
    }
}

#[test]
fn a_regression_of_two_percent_is_found_through_noise_of_five() {
    let found = (0..100).filter(|seed| {
        run(seed * 11 + 3, 0.05, 0.02, 25_600).verdict(&VerdictPolicy::default()) == FieldVerdict::Divergent
    });
    let found = found.count();
    assert!(found >= 95, "{found} of 100");
}

#[test]
fn a_field_without_noise_shows_with_its_first_record() {
    let policy = VerdictPolicy::default();
    let mut endpoint = Endpoint::default();
    assert_eq!(endpoint.verdict(&policy), FieldVerdict::Unknown);
    endpoint.confirm(&set(&["/a"]));
    assert_eq!(endpoint.verdict(&policy), FieldVerdict::Suspect);
}

#[test]
fn a_verdict_says_what_is_known_and_no_more() {
    let policy = VerdictPolicy::default();
    let verdict = |endpoint: &Endpoint| endpoint.verdict(&policy);
    assert_eq!(verdict(&run(1, 0.0, 0.0, 199)), FieldVerdict::Unknown);
    let equal = run(1, 0.0, 0.0, 300);
    assert_eq!((verdict(&equal), equal.unseen_rate_max()), (FieldVerdict::Equal, Some(0.01)));
    assert_eq!(verdict(&Endpoint { expected: 1, ..equal.clone() }), FieldVerdict::Expected);
    assert_eq!(verdict(&Endpoint { not_comparable: 1, ..Endpoint::default() }), FieldVerdict::NotComparable);
    let blind = run(1, 0.9, 0.0, 400);
    assert_eq!(verdict(&blind), FieldVerdict::Noisy);
    assert!(blind.fields(&policy).all(|(_, field, _)| blind.is_blind(field, &policy)));
    let half = run(1, 0.3, 0.0, 400);
    assert!(half.fields(&policy).all(|(_, field, _)| !half.is_blind(field, &policy)));
    assert_eq!(route_verdict([&equal, &blind], &policy), FieldVerdict::Noisy);
    assert_eq!(route_verdict([], &policy), FieldVerdict::Unknown);
}

#[test]
fn of_too_many_fields_the_rest_is_unknown() {
    let (mut endpoint, policy) = (Endpoint::default(), VerdictPolicy::default());
    let none = BTreeSet::new();
    for place in 0..FIELDS_MAX + 5 {
        let place = format!("/{place}");
        endpoint.observe(&none, &set(&[&place]), &policy);
    }
    assert_eq!((endpoint.fields(&policy).count(), endpoint.overflow), (FIELDS_MAX, 5));
    assert_eq!(endpoint.verdict(&policy), FieldVerdict::Unknown);
}

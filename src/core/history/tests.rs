use super::*;

const BOUNDS: [u32; 3] = [1_000, 10_000, 100_000];

fn counts(legacy: u64, extracted: u64) -> Counts {
    let mut counts = Counts { answered: [legacy, extracted], ..Counts::default() };
    counts.times[0][1] = legacy;
    counts.times[1][0] = extracted;
    counts
}

fn read(history: &mut History, at_s: u64, legacy: u64, extracted: u64) {
    let one = Reading { counts: counts(legacy, extracted), weight: "10%".parse().unwrap() };
    history.note(at_s * 1_000, &one.counts, &BTreeMap::from([("cart".to_owned(), one.clone())]));
}

#[test]
fn a_minute_is_what_came_within_it() {
    let mut history = History::new(BOUNDS.to_vec());
    // Ten requests a second of legacy and one of extracted, for three minutes.
    for step in 0..=18 {
        read(&mut history, 600 + step * 10, 1_000 + step * 100, step * 10);
    }
    let minutes: Vec<Minute> = history.route("cart").unwrap().minutes().copied().collect();
    assert_eq!(minutes.iter().map(|minute| minute.at).collect::<Vec<_>>(), [10, 11, 12]);
    assert!(minutes.iter().all(|minute| minute.answered == [600, 60]), "{minutes:?}");
    assert_eq!((minutes[0].weight.to_string(), minutes[0].p99_us), ("10%".to_owned(), [9_910, 990]));
    assert_eq!(history.total().minutes().next().unwrap().answered, [600, 60]);
    let now = history.route("cart").unwrap().now(783_000, &counts(2_830, 183), &BOUNDS);
    assert!((now.per_second[0] - 10.0).abs() < 1e-9 && (now.per_second[1] - 1.0).abs() < 0.3, "{now:?}");
    assert_eq!(now.recent.answered, [1_830, 183]);
}

#[test]
fn what_is_kept_is_bounded_and_what_is_gone_is_forgotten() {
    let mut history = History::new(BOUNDS.to_vec());
    for minute in 0..2_000 {
        read(&mut history, minute * 60, minute, 0);
    }
    let series = history.route("cart").unwrap();
    assert_eq!((series.minutes().len(), series.recent.len()), (MINUTES_MAX, READINGS_MAX));
    let many = (0..600).map(|n| (format!("r{n}"), Reading::default())).collect();
    history.note(0, &Counts::default(), &many);
    assert!(history.route("cart").is_none());
    assert_eq!(history.routes.len(), ROUTES_MAX);
}

#[test]
fn a_counter_that_begins_anew_counts_from_nothing() {
    assert_eq!(counts(5, 0).since(&counts(100, 0)).answered, [5, 0]);
    let mut history = History::new(BOUNDS.to_vec());
    assert_eq!(Series::default().now(0, &Counts::default(), &BOUNDS), Now::default());
    read(&mut history, 0, 100, 0);
    read(&mut history, 60, 7, 0);
    assert_eq!(history.total().minutes().next().unwrap().answered, [7, 0]);
}

#[test]
fn a_quantile_lies_between_the_ends_of_its_bucket() {
    assert_eq!(quantile_us(&[0, 0, 0, 0], &BOUNDS, 0.5), None);
    assert_eq!(quantile_us(&[100, 0, 0, 0], &BOUNDS, 0.5), Some(500));
    assert_eq!(quantile_us(&[50, 50, 0, 0], &BOUNDS, 0.99), Some(9_820));
    assert_eq!(quantile_us(&[0, 0, 0, 4], &BOUNDS, 0.99), Some(100_000), "more is not known");
}

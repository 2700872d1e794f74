use super::*;
use crate::compare::NotComparable;
use crate::observation::Answer;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

fn seen(outcome: Result<u16, Failure>, ms: u64) -> Observation {
    let took = Duration::from_millis(ms);
    let answer = |status: u16| Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        trailers: None,
        body: Bytes::new(),
        body_bytes: 0,
        is_truncated: false,
    };
    let outcome = outcome.map_or_else(Outcome::Failed, |status| Outcome::Answered(answer(status)));
    Observation { outcome, first_byte: took, total: took }
}

fn took(ms: u64) -> Option<Took> {
    Took::of(&seen(Ok(200), ms))
}

fn route(name: &str) -> RouteName {
    name.parse().unwrap()
}

fn about(told: Option<f64>, exact: f64) {
    let told = told.unwrap();
    assert!((told - exact).abs() <= exact.abs() * 0.0101, "{told} is not {exact}");
}

#[test]
fn pairs_are_told_by_side_and_by_difference() {
    let (mut book, cart) = (Latencies::default(), route("cart"));
    for ms in 1..=100 {
        // Faster in a quarter of the pairs, and 10 ms slower in the others.
        let extracted = if ms % 4 == 0 { ms - 1 } else { ms + 10 };
        book.add(&cart, took(ms), took(extracted), Duration::from_secs(30));
    }
    let told = &book.report(None, 10, Duration::from_secs(31))[0];
    assert_eq!((told.route.as_str(), &told.last_hour), ("cart", &told.since_start));
    let window = &told.last_hour;
    assert_eq!((window.pairs, window.unpaired), (100, 0));
    about(window.legacy.p50_ms, 50.0);
    about(window.legacy.p99_ms, 99.0);
    about(window.extracted.p95_ms, 103.0);
    let paired = window.paired.as_ref().unwrap();
    about(Some(paired.median_ms), 10.0);
    about(Some(paired.p5_ms), -1.0);
    assert!((paired.slower_share - 0.75).abs() < 1e-12);
    assert_eq!(book.legacy_of(&cart).unwrap().count(), 100);
}

#[test]
fn a_timeout_counts_with_its_length_and_a_failure_does_not() {
    let (mut book, cart) = (Latencies::default(), route("cart"));
    let of = |outcome, ms| Took::of(&seen(outcome, ms));
    book.add(&cart, took(5), of(Err(Failure::Timeout), 2_000), Duration::ZERO);
    for failure in [Failure::Connect, Failure::Reset, Failure::Full, Failure::Status(500)] {
        book.add(&cart, took(5), of(Err(failure), 1), Duration::ZERO);
    }
    book.add(&cart, of(Ok(503), 1), took(5), Duration::ZERO);
    book.add(&cart, of(Ok(404), 7), took(5), Duration::ZERO);
    let window = &book.report(None, 10, Duration::ZERO)[0].since_start;
    assert_eq!((window.pairs, window.unpaired), (2, 5));
    assert_eq!((window.legacy.timeouts, window.extracted.timeouts), (0, 1));
    about(window.extracted.p99_ms, 2_000.0);
    // The head came, the rest did not: what is measured is the head.
    let head = Observation { first_byte: Duration::from_millis(3), ..seen(Err(Failure::Timeout), 2_000) };
    assert_eq!(Took::of(&head), Some(Took { us: 3_000, is_timeout: false }));
}

#[test]
fn only_the_same_request_makes_a_pair() {
    use ComparisonResult::{Match, NotComparable as Not};
    assert!(is_paired(Manner::Plain, Match));
    assert!(is_paired(Manner::Plain, Not(NotComparable::Truncated)));
    for manner in [Manner::Sandbox, Manner::DryRun, Manner::VerifyRead] {
        assert!(!is_paired(manner, Match));
    }
    for why in [NotComparable::Conditional, NotComparable::Range, NotComparable::NotAsked] {
        assert!(!is_paired(Manner::Plain, Not(why)));
    }
}

#[test]
fn the_window_is_an_hour_and_the_book_has_a_bound() {
    let (mut book, cart) = (Latencies::default(), route("cart"));
    for minute in 0..180u64 {
        book.add(&cart, took(minute + 1), took(1), Duration::from_secs(minute * 60));
    }
    let told = &book.report(Some("cart"), 10, Duration::from_secs(179 * 60 + 59))[0];
    assert_eq!((told.last_hour.pairs, told.since_start.pairs), (60, 180));
    about(told.last_hour.legacy.p50_ms, 150.0);
    assert_eq!(book.report(None, 10, Duration::from_secs(400 * 60))[0].last_hour.pairs, 0);
    book.tidy(Duration::from_secs(400 * 60));
    assert!(book.routes.values().all(|kept| kept.minutes.is_empty()));

    for number in 0..ROUTES_MAX + 5 {
        book.add(&route(&format!("r{number}")), took(1), took(1), Duration::ZERO);
    }
    assert_eq!((book.routes.len(), book.left_out), (ROUTES_MAX, 6));
    let sum: usize = book.routes.values().map(Kept::bins).sum();
    assert_eq!(book.bins, sum);
    book.bins = BINS_MAX;
    book.add(&cart, took(1), took(1), Duration::ZERO);
    assert_eq!(book.left_out, 7);
    book.retain(|name| name.as_str() == "cart");
    assert_eq!(book.report(None, 10, Duration::ZERO).len(), 1);
}

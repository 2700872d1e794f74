use super::*;
use proptest::prelude::*;

const TODAY: u32 = 20_000;

fn route() -> RouteName {
    "cart".parse().unwrap()
}

fn seen(method: MethodKind, status: u16, query: &str, content_type: Option<&str>) -> Seen {
    Seen::new(route(), method, status, query, content_type.map(str::as_bytes))
}

fn get(query: &str) -> Seen {
    seen(MethodKind::Get, 200, query, Some("application/json"))
}

fn times(counts: Counts, times: u64) -> Counts {
    Counts { requests: counts.requests * times, comparisons: counts.comparisons * times }
}

fn names(coverage: &Coverage, sort: Sort) -> Vec<(String, u64)> {
    coverage.of(sort).map(|(name, counts)| (name.to_owned(), counts.requests)).collect()
}

/// The names of all cells.
fn all_names(book: &Book) -> String {
    let kept = &book.routes[&route()];
    let cells = kept.cells.values().flat_map(BTreeMap::keys);
    cells.chain(&kept.names).map(|name| format!("{name}\n")).collect()
}

#[test]
fn requests_are_told_apart_by_what_matters_and_never_by_values() {
    let mut book = Book::default();
    for (method, status, query, content_type) in [
        (MethodKind::Get, 200, "", Some("application/json; charset=utf-8")),
        (MethodKind::Get, 200, "page=1&currency=EUR", Some("Application/JSON")),
        (MethodKind::Get, 204, "currency=USD&page=77&page=78", None),
        (MethodKind::Get, 404, "filter%5Bstatus%5D=x&ids[]=1&ids[]=2", Some("application/vnd.shop.v2+json")),
        (MethodKind::Post, 500, "debug", Some("text/html")),
        (MethodKind::Other, 799, "&&=x", Some("nonsense")),
    ] {
        book.count(&seen(method, status, query, content_type), Counts::REQUEST, TODAY);
    }
    let coverage = book.coverage("cart", TODAY);
    let told = |sort| names(&coverage, sort);
    let of = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<Vec<_>>();
    assert_eq!(told(Sort::Method), of(&[("(other)", 1), ("GET", 4), ("POST", 1)]));
    assert_eq!(told(Sort::StatusClass), of(&[("(other)", 1), ("2xx", 3), ("4xx", 1), ("5xx", 1)]));
    let sets = [("(none)", 1), ("<data>", 2), ("currency&page", 2), ("filter[status]&ids[]", 1)];
    assert_eq!(told(Sort::ParameterSet), of(&sets));
    let types =
        [("(none)", 1), ("<data>", 1), ("application/json", 2), ("application/vnd.shop.v2+json", 1), ("text/html", 1)];
    assert_eq!(told(Sort::ContentType), of(&types));
    assert_eq!(coverage.total(), Counts { requests: 6, comparisons: 0 });
    assert_eq!(book.coverage("other", TODAY), Coverage::default());
}

#[test]
fn names_that_look_like_data_are_one_name() {
    let mut book = Book::default();
    let secrets = [
        "4111111111111111",
        "ada@example.com",
        "ada%40example.com",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2ln",
        "ghp_abcdefghijklmnopqrst0123456789",
        "kJHGfDsaQWeRtYmN",
        "id[7f9c24e8-3b12-4d6f-8a55-0c9e2b1d7e43]",
        "1700000000123",
    ];
    for secret in secrets {
        for query in [format!("{secret}=1"), format!("q={secret}"), secret.to_owned(), format!("q=1&{secret}=")] {
            book.count(&get(&query), Counts::REQUEST, TODAY);
        }
        let odd = seen(MethodKind::Get, 200, "", Some(&format!("application/{secret}")));
        book.count(&odd, Counts::REQUEST, TODAY);
        book.count(&seen(MethodKind::Get, 200, "", Some(secret)), Counts::REQUEST, TODAY);
    }
    let told = all_names(&book);
    assert!(secrets.iter().all(|secret| !told.contains(secret)), "{told}");
    let coverage = book.coverage("cart", TODAY);
    let sets: Vec<String> = names(&coverage, Sort::ParameterSet).into_iter().map(|(name, _)| name).collect();
    assert_eq!(sets, ["(none)", "<data>", "<data>&q", "q"]);
}

#[test]
fn what_is_over_a_week_ago_no_longer_counts() {
    let mut book = Book::default();
    for day in 0..30 {
        book.count(&get("a=1"), times(Counts::REQUEST, 1 << day), TODAY + day);
        let days = day.min(DAYS);
        let sum: u64 = (day - days..=day).map(|day| 1 << day).sum();
        assert_eq!(book.coverage("cart", TODAY + day).total().requests, sum, "day {day}");
    }
    assert_eq!(book.coverage("cart", TODAY + 29 + DAYS).total().requests, 1 << 29);
    assert_eq!(book.coverage("cart", TODAY + 30 + DAYS).total().requests, 0);
    // A clock that jumps ahead and back again loses no more than the day whose place it takes.
    book.count(&get("a=1"), Counts::REQUEST, TODAY + 32);
    let without_a_day = (22..=29).filter(|day| *day != 24).map(|day| 1u64 << day).sum::<u64>();
    assert_eq!(book.coverage("cart", TODAY + 29).total().requests, without_a_day);
    book.tidy(TODAY + 100);
    assert!(book.routes.is_empty() && book.cells == 0);
}

#[test]
fn what_is_stored_is_taken_once_and_read_back_the_same() {
    let mut book = Book::default();
    for (query, day) in [("a=1", 0), ("b=1&a=1", 1), ("", 2), ("x=1", 2)] {
        book.count(&get(query), Counts::REQUEST, TODAY + day);
        book.count(&get(query), Counts::COMPARISON, TODAY + day);
    }
    let mut rows = book.take_unsaved(3);
    assert_eq!(rows.len(), 3);
    book.put_back(&rows);
    rows = book.take_unsaved(usize::MAX);
    assert_eq!((rows.len(), book.take_unsaved(9).len()), (3 + 3 + 4 + 3, 0));
    // Stored as sums: twice the rows is what two processes have seen.
    let mut again = Book::default();
    again.load(rows.clone());
    assert_eq!(again.coverage("cart", TODAY + 2), book.coverage("cart", TODAY + 2));
    assert_eq!(again.take_unsaved(9), []);
    assert_eq!(again.routes[&route()].names.len(), 3);
    let mut merged = book.coverage("cart", TODAY + 2);
    merged.merge(&again.coverage("cart", TODAY + 2));
    again.load(rows);
    assert_eq!(again.coverage("cart", TODAY + 2), merged);
    let text = serde_json::to_string(&merged).unwrap();
    assert_eq!(serde_json::from_str::<Coverage>(&text).unwrap(), merged);
}

#[test]
fn the_gate_waits_for_what_matters_and_names_the_rest() {
    let mut book = Book::default();
    let mut note = |method, status, query: &str, requests, comparisons| {
        let seen = seen(method, status, query, Some("application/json"));
        book.count(&seen, Counts { requests, comparisons }, TODAY);
    };
    note(MethodKind::Get, 200, "", 9_000, 500);
    note(MethodKind::Get, 404, "", 100, 19);
    note(MethodKind::Get, 200, "currency=EUR", 800, 0);
    note(MethodKind::Get, 301, "rare=1", 9, 0);
    note(MethodKind::Head, 200, "", 11, 3);
    note(MethodKind::Options, 200, "", 9, 0);
    note(MethodKind::Post, 500, "", 80, 0);
    let told = gate(&book.coverage("cart", TODAY), MIN_EACH);
    let missing: Vec<_> = told.missing.iter().map(|one| (one.sort, one.name.as_str(), one.missing)).collect();
    assert_eq!(
        missing,
        [(Sort::Method, "HEAD", 17), (Sort::StatusClass, "4xx", 1), (Sort::ParameterSet, "currency", 20)]
    );
    let named: Vec<_> = told.named.iter().map(|one| (one.name.as_str(), one.why)).collect();
    assert_eq!(
        named,
        [
            ("OPTIONS", Why::Rare),
            ("POST", Why::UnsafeMethod),
            ("3xx", Why::Rare),
            ("5xx", Why::Class),
            ("rare", Why::Rare),
        ]
    );
    assert!(!told.passed);
    for (method, status, query) in [(MethodKind::Head, 404, ""), (MethodKind::Get, 200, "currency=USD")] {
        book.count(&seen(method, status, query, None), times(Counts::COMPARISON, 20), TODAY);
    }
    assert!(gate(&book.coverage("cart", TODAY), MIN_EACH).passed);
    assert!(!gate(&book.coverage("cart", TODAY), 1_000).passed);
    let nothing = gate(&Coverage::default(), MIN_EACH);
    assert!(!nothing.passed && nothing.missing[0].missing == 20, "missing evidence is no pass");
}

#[test]
fn a_report_names_what_was_never_asked_and_never_compared() {
    let mut book = Book::default();
    book.count(&get("a=1"), Counts::REQUEST, TODAY);
    book.count(&get(""), Counts { requests: 3, comparisons: 1 }, TODAY);
    let covered = [http::Method::GET, http::Method::POST];
    let told = report("cart", "/cart".to_owned(), &covered, true, &book.coverage("cart", TODAY));
    let unseen: Vec<_> = told.unseen.iter().map(|one| (one.name.as_str(), one.why)).collect();
    assert_eq!(unseen, [("POST", "never_asked"), ("a", "never_compared")]);
    assert_eq!((told.parameter_sets[0].name.as_str(), told.parameter_sets[0].share), ("(none)", 0.75));
    let all = report("cart", "/cart".to_owned(), &[], true, &Coverage::default());
    assert_eq!(all.unseen.len(), MethodKind::USUAL.len());
}

#[test]
fn random_sets_of_parameters_keep_the_book_small() {
    let sets = 5_000u64;
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = move || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        dice >> 33
    };
    let words = ["page", "sort", "lang", "colour", "size", "from", "until", "limit"];
    let mut book = Book::default();
    for number in 0..sets {
        let count = roll() % 40;
        let mut name = || match roll() % 3 {
            0 => format!("{}{}", words[(roll() % 8) as usize], roll() % 1_000),
            1 => format!("{:x}{:x}", roll(), roll()),
            _ => (0..=roll() % 12).map(|_| char::from(b'a' + (roll() % 26) as u8)).collect(),
        };
        let query: Vec<String> = (0..count).map(|_| format!("{}={number}", name())).collect();
        let content_type = format!("application/{}", name());
        book.count(&seen(MethodKind::Get, 200, &query.join("&"), Some(&content_type)), Counts::REQUEST, TODAY);
    }
    let coverage = book.coverage("cart", TODAY);
    assert!(coverage.of(Sort::ParameterSet).count() <= SETS_MAX + 1);
    assert!(coverage.of(Sort::ContentType).count() <= TYPES_MAX + 1);
    assert!(book.routes[&route()].names.len() <= NAMES_MAX && all_names(&book).len() < 100_000);
    assert!(coverage.is_full(Sort::ParameterSet) && coverage.is_full(Sort::ContentType));
    for sort in Sort::ALL {
        assert_eq!(coverage.of(sort).map(|(_, counts)| counts.requests).sum::<u64>(), sets, "{sort:?} has lost some");
    }
    // The next day there is room again once a week has passed.
    let later = TODAY + DAYS + 1;
    book.count(&get("lang=de"), Counts::REQUEST, later);
    assert_eq!(book.coverage("cart", later).of(Sort::ParameterSet).count(), 1);
}

#[test]
fn many_routes_have_a_bound() {
    let mut book = Book::default();
    for number in 0..ROUTES_MAX + 3 {
        let route: RouteName = format!("r{number}").parse().unwrap();
        book.count(&Seen::new(route, MethodKind::Get, 200, "", None), Counts::REQUEST, TODAY);
    }
    assert_eq!((book.routes.len(), book.left_out), (ROUTES_MAX, 3));
}

proptest! {
    #[test]
    fn what_is_alike_has_one_key_and_what_is_not_another(
        names in proptest::collection::vec("[a-z]{1,6}", 0..6), values in proptest::collection::vec("[a-z0-9]{0,9}", 6),
        status in 100u16..600, swap: bool,
    ) {
        let query = |names: &[String], from: usize| {
            let pairs = names.iter().enumerate().map(|(at, name)| format!("{name}={}", values[(at + from) % 6]));
            pairs.collect::<Vec<_>>().join("&")
        };
        let mut other = names.clone();
        if swap {
            other.reverse();
        }
        let of = |query: &str, status, kind: Option<&[u8]>| key(7, MethodKind::Get, status, query, kind);
        let json = Some(&b"application/json"[..]);
        let one = of(&query(&names, 0), status, json);
        prop_assert_eq!(one, of(&query(&other, 3), status / 100 * 100, json));
        prop_assert_ne!(one, of(&format!("{}&zzzzzzz=1", query(&names, 0)), status, json));
        prop_assert_ne!(one, of(&query(&names, 0), status, None));
        prop_assert_ne!(one, of(&query(&names, 0), status + 100, json));
        prop_assert_ne!(one, key(7, MethodKind::Post, status, &query(&names, 0), json));
        prop_assert_ne!(one, key(8, MethodKind::Get, status, &query(&names, 0), json));
    }

    #[test]
    fn no_query_is_too_odd(query in any::<Vec<u8>>(), kind in any::<Vec<u8>>()) {
        let text = String::from_utf8_lossy(&query).into_owned();
        let mut book = Book::default();
        key(1, MethodKind::Get, 200, &text, Some(&kind));
        book.count(&Seen::new(route(), MethodKind::Get, 200, &text, Some(&kind)), Counts::REQUEST, TODAY);
        prop_assert_eq!(book.coverage("cart", TODAY).total().requests, 1);
    }
}

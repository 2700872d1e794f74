use super::*;
use crate::name::RouteName;

fn saw(book: &mut Book, method: MethodKind, path: &str, status: u16) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let seen = Seen::new(RouteName::fall_through(), method, status, query, Some(b"application/json"));
    book.saw(&Sighting { seen: &seen, path, agent: Some(b"curl/8"), took_us: 2_000, bytes: 100, at_s: 1_000 });
}

fn found(book: &Book) -> Vec<(String, u64)> {
    book.found(1_000).into_iter().map(|one| (format!("{} {}", one.method, one.template), one.requests)).collect()
}

#[test]
fn paths_become_templates_by_the_looks_of_their_segments() {
    let mut book = Book::new(100);
    for number in 0..500 {
        saw(&mut book, MethodKind::Get, &format!("/api/v1/users/{number}/orders/{}", 7 * number), 200);
        saw(&mut book, MethodKind::Get, &format!("/api/v1/products/SKU-{number:04}/price?qty=2"), 200);
        saw(&mut book, MethodKind::Get, &format!("/invoices/{number}.pdf"), 200);
        saw(&mut book, MethodKind::Get, &format!("/reports/2026-11-{:02}", number % 28 + 1), 200);
    }
    saw(&mut book, MethodKind::Post, "/soap/OrderService", 200);
    saw(&mut book, MethodKind::Get, "/", 200);
    saw(&mut book, MethodKind::Get, "/products.xml", 200);
    assert_eq!(
        found(&book),
        [
            ("GET /api/v1/products/{product}/price".into(), 500),
            ("GET /api/v1/users/{user_id}/orders/{order_id}".into(), 500),
            ("GET /invoices/{invoice_id}.pdf".into(), 500),
            ("GET /reports/{date}".into(), 500),
            ("GET /".into(), 1),
            ("GET /products.xml".into(), 1),
            ("POST /soap/OrderService".into(), 1),
        ]
    );
    let all = book.found(1_000);
    assert_eq!(all[2].path, r"^/invoices/[^/]+\.pdf$", "what a template cannot say is an expression");
    assert_eq!(
        (&all[0].parameters[0].0, &all[0].callers[0].0, all[0].classes[1]),
        (&"qty".into(), &"curl".into(), 500)
    );
    assert!((all[0].p50_ms.expect("a quantile") - 2.0).abs() < 0.1 && all[0].bytes == 50_000);
}

#[test]
fn words_of_which_there_are_too_many_are_data_and_sisters_that_differ_are_not() {
    let letters = |number: u32| -> String {
        [number / 26, number % 26]
            .iter()
            .map(|one| char::from(b'a' + u8::try_from(one % 26).expect("a letter")))
            .collect()
    };
    let mut book = Book::new(1_000);
    saw(&mut book, MethodKind::Get, "/blog/archive/2026", 200);
    saw(&mut book, MethodKind::Post, "/blog/search", 200);
    for number in 0..300 {
        saw(&mut book, MethodKind::Get, &format!("/blog/post-{}", letters(number)), 200);
        saw(&mut book, MethodKind::Get, &format!("/shop/{}/reviews", letters(number)), 200);
    }
    assert_eq!(
        found(&book),
        [
            ("GET /blog/{blog}".into(), 300),
            ("GET /shop/{shop}/reviews".into(), 300),
            ("GET /blog/archive/{archive_id}".into(), 1),
            ("POST /blog/search".into(), 1),
        ]
    );
}

#[test]
fn what_is_not_there_begins_nothing_and_a_million_paths_stay_within_bounds() {
    let mut book = Book::new(200);
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let words: Vec<String> = (0..5_000u32)
        .map(|_| {
            (0..6).map(|_| char::from(b"bcdfghlmnprstaeiou"[usize::try_from(next() % 18).expect("small")])).collect()
        })
        .collect();
    for number in 0..30_000u64 {
        let depth = next() % 20 + 1;
        let path = (0..depth).fold(String::new(), |path, _| {
            let word = &words[usize::try_from(next() % 5_000).expect("small")];
            if next() % 3 == 0 { format!("{path}/{}", next()) } else { format!("{path}/{word}") }
        });
        saw(&mut book, MethodKind::Get, &path, if number % 2 == 0 { 404 } else { 200 });
    }
    let totals = book.totals();
    assert!(book.templates <= 200 && book.nodes <= 800 + DEPTH_MAX, "{} {}", book.templates, book.nodes);
    assert_eq!((book.nodes, book.templates), book.root.size());
    assert_eq!(totals.requests + totals.left_out + totals.nothing_there, 30_000);
    assert!(totals.nothing_there > 12_000);
    // A template that is there counts what is not found in it.
    let mut book = Book::new(10);
    saw(&mut book, MethodKind::Get, "/a/1", 404);
    saw(&mut book, MethodKind::Get, "/a/2", 200);
    saw(&mut book, MethodKind::Get, "/a/3", 404);
    assert_eq!((found(&book)[0].1, book.nothing_there), (2, 1));
}

#[test]
fn what_people_have_written_down_is_counted_so_and_what_nobody_asks_is_named() {
    let mut book = Book::new(100);
    for path in ["/api/carts/7", "/api/carts/mine", "/api/carts/mine", "/api/users/7"] {
        saw(&mut book, MethodKind::Get, path, 200);
    }
    let declared = |method, text: &str| Declared { template: PathTemplate::parse(text).expect("a template"), method };
    let all = [
        declared(None, "/api/carts/{cart}"),
        declared(Some(MethodKind::Get), "/api/carts/mine"),
        declared(Some(MethodKind::Post), "/newsletter"),
    ];
    book.declare(all.clone());
    saw(&mut book, MethodKind::Get, "/api/carts/8", 200);
    saw(&mut book, MethodKind::Delete, "/api/carts/8", 404);
    let said = |book: &Book, now_s| -> Vec<(String, u64, EndpointState)> {
        let found = book.found(now_s).into_iter();
        found.map(|one| (format!("{} {}", one.method, one.template), one.requests, one.state)).collect()
    };
    let expect = [
        ("GET /api/carts/mine".into(), 2, EndpointState::Live),
        ("GET /api/carts/{cart}".into(), 2, EndpointState::Live),
        ("DELETE /api/carts/{cart}".into(), 1, EndpointState::Live),
        ("GET /api/users/{user_id}".into(), 1, EndpointState::Undeclared),
        ("POST /newsletter".into(), 0, EndpointState::NeverAsked),
    ];
    assert_eq!(said(&book, 1_000), expect);
    assert_eq!(said(&book, 1_000 + 31 * 86_400)[0].2, EndpointState::Dead);

    // Read back, it is the same; also by one that learns only afterwards what is declared.
    let saved = book.save();
    let mut again = Book::new(100);
    again.declare(all);
    assert!(again.load(&saved).is_empty());
    assert_eq!(said(&again, 1_000), expect);
    assert_eq!(again.save(), saved);
    let odd = ["{}".into(), saved[0].counts.replace("GET", "GRAB")].map(|counts| SavedEndpoint { key: 1, counts });
    assert_eq!(again.load(&odd).len(), 2);
}

//! What keeps users on a side: journeys' leases, forms and idempotency keys, from text to table.

use std::time::Duration;

use strangler_core::route::{OnKill, Route};

use super::*;

fn said(text: &str) -> Vec<String> {
    load(text.as_bytes()).faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
}

fn journey(keys: &str, routes: &str) -> String {
    format!("version: 1\nlegacy: http://127.0.0.1:1\njourneys: {{j: {{{keys}}}}}\nroutes:\n{routes}")
}

fn route(name: &str, keys: &str) -> String {
    format!("  - {{name: {name}, match: '/{name}/{{x}}', extracted: http://127.0.0.1:2, {keys}}}\n")
}

fn first(text: &str) -> Route {
    let loaded = load(text.as_bytes());
    assert_eq!(loaded.faults, [], "{text}");
    Route::clone(&loaded.table.expect("a table").routes()[0])
}

#[test]
fn a_journey_with_more_than_one_key_has_a_lease_of_half_an_hour_unless_it_says_otherwise() {
    let two = "sticky_on: ['header:x-user-id', 'cookie:S']";
    for (keys, minutes) in [
        ("", None),
        ("sticky_on: ['header:x-user-id']", None),
        (two, Some(30)),
        (&format!("{two}, lease: 0s"), None),
        (&format!("{two}, lease: 2h"), Some(120)),
        ("lease: 5m", Some(5)),
        ("lease: 24h", Some(24 * 60)),
    ] {
        let route = first(&journey(keys, &route("a", "journey: j")));
        let life = minutes.map(|minutes| Duration::from_secs(60 * minutes));
        assert_eq!(route.lease.as_ref().map(|lease| lease.life), life, "{keys}");
        assert!(route.lease.is_none_or(|lease| &*lease.cookie == "strangler_lease_j"));
    }
    let other_salt = first(&journey("lease: 5m, salt: x", &route("a", "journey: j")));
    assert_ne!(other_salt.lease, first(&journey("lease: 5m", &route("a", "journey: j"))).lease);
    let said = said(&journey("lease: 25h", &route("a", "journey: j")));
    assert_eq!(said, ["journeys.j.lease: a lease lasts a day at most: until its end no promotion reaches its user"]);
    assert_eq!(super::keep::said(&journey("lease: soon", &route("a", "journey: j"))).len(), 1);
}

#[test]
fn routes_that_go_together_have_one_weight() {
    let of = |weights: &[&str]| {
        let routes: String = weights
            .iter()
            .enumerate()
            .map(|(at, weight)| route(&format!("r{at}"), &format!("journey: j, weight: {weight}")))
            .collect();
        said(&journey("together: true", &routes))
    };
    assert_eq!(of(&["5%", "5%", "5%"]), [""; 0]);
    assert_eq!(of(&["0%"]), [""; 0]);
    assert_eq!(
        of(&["5%", "10%", "5%", "0%"]),
        [
            "routes[1].weight: the routes of `j` move together, and `r1` has 10% where `r0` has 5%",
            "routes[3].weight: the routes of `j` move together, and `r3` has 0% where `r0` has 5%",
        ]
    );
    let located = "journey: j, locate: {param: x, rules: [], else: legacy}";
    let said = said(&journey("together: true", &(route("a", "journey: j") + &route("b", located))));
    assert_eq!(said, ["routes[1].weight: `locate` decides the side of `b`, so it cannot move together with `j`"]);
    assert_eq!(
        super::keep::said(&journey(
            "together: false",
            &(route("a", "journey: j, weight: 5%") + &route("b", "journey: j"))
        )),
        [""; 0]
    );
}

#[test]
fn a_journey_with_a_lease_has_a_bound_on_its_routes() {
    let routes: String = (0..1_001).map(|at| route(&format!("r{at}"), "journey: j")).collect();
    assert_eq!(said(&journey("", &routes)), [""; 0]);
    assert_eq!(
        said(&journey("lease: 1m", &routes)),
        ["journeys.j: 1001 routes, more than the 1000 that share a lease"]
    );
}

#[test]
fn a_form_and_its_target_are_one_place() {
    let text = |keys: &str| {
        format!(
            "version: 1\nlegacy: http://127.0.0.1:1\nroutes:\n  - {{name: a, match: 'GET /login', extracted: http://127.0.0.1:2, {keys}}}\n  \
             - {{name: b, match: 'POST /login', extracted: http://127.0.0.1:2, {keys}}}\n"
        )
    };
    let table = load(text("affinity: {form: true}").as_bytes()).table.expect("a table");
    assert!(table.routes()[0].form.is_some());
    assert_eq!(table.routes()[0].form, table.routes()[1].form);
    for keys in ["affinity: {form: false}", "affinity: {}", "weight: 5%"] {
        assert_eq!(first(&text(keys)).form, None, "{keys}");
    }
    let located = "affinity: {form: true}, locate: {param: x, rules: [], else: legacy}";
    assert!(
        said(&journey("", &route("a", located))).iter().any(|fault| fault.contains("affinity.form: `locate` decides"))
    );
}

#[test]
fn an_idempotency_key_is_where_it_says() {
    let policy = |keys: &str| first(&journey("", &route("a", keys)).replace("journeys: {j: {}}\n", "")).idempotency;
    let default = policy("idempotency: {}").expect("on");
    assert_eq!((default.header.as_str(), default.on_kill), ("idempotency-key", OnKill::Refuse));
    let own = policy("idempotency: {header: X-Request-Key, on_kill: reexecute}").expect("on");
    assert_eq!((own.header.as_str(), own.on_kill), ("x-request-key", OnKill::Reexecute));
    assert_eq!(policy("weight: 5%"), None);
    for bad in ["header: cookie", "header: strangler-side", "header: host", "header: 'a b'", "on_kill: again", "key: x"]
    {
        let text = journey("", &route("a", &format!("idempotency: {{{bad}}}")));
        assert!(load(text.as_bytes()).table.is_none(), "{bad}");
    }
}

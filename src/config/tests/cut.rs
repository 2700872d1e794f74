//! A half-written file moves nobody.

use strangler_core::reload::{ReloadVerdict, Running, judge_reload, looks_cut};
use strangler_core::weight::Weight;

use super::*;

/// Every key that decides who goes where, in long and in short form, what is at 0 % between what is not.
const RICH: &str = r#"version: 1
upstreams:
  monolith: {endpoints: [http://127.0.0.1:8000]}
  pricing:
    endpoints:
      - http://127.0.0.1:8102
      - http://127.0.0.1:8112
    max_in_flight: 100
legacy: monolith
routes:
  - name: orders
    extracted: pricing
    match: "GET /api/v1/orders/{order_no}"
    locate:
      param: order_no
      else: legacy
      rules:
        - {min: 20000000, max: 30000000, to: legacy}
        - min: 10000000
          to: extracted
  - name: quiet
    match: "GET /quiet/{x}"
    extracted: pricing
    shadow: true
  - name: cart-total
    extracted: {upstream: pricing}
    match:
      path: /api/v1/carts/{cart_id}/total
      host: shop.example.com
      headers:
        accept: {contains: vnd.shop.v2}
        x-tenant: acme
      query: {currency: EUR}
      cookies: {beta: "1"}
      methods:
        - GET
        - HEAD
    weight: 5%
    journey: checkout
    data: synced
    fallback: unsent
  - {name: pay, match: "POST /api/v1/payments", extracted: http://127.0.0.1:8103, weight: 100%, data: synced}
  - name: last
    match: "GET /last/{*rest}"
    extracted: http://127.0.0.1:8104
    weight: 25%
    affinity: {form: true}
    idempotency: {header: x-key, on_kill: reexecute}
journeys:
  other: {}
  checkout:
    sticky_on:
      - header:x-user-id
      - cookie:SHOPSID
    salt: checkout-2026
    lease: 45m
    together: true
"#;

fn table(text: &str) -> Arc<RoutingTable> {
    let loaded = load(text.as_bytes());
    loaded.table.unwrap_or_else(|| panic!("{:?}", loaded.faults))
}

fn verdict(old: &RoutingTable, old_text: &[u8], new: &RoutingTable, new_text: &[u8]) -> ReloadVerdict {
    let cut = looks_cut(old_text, new_text);
    judge_reload(Running { table: old, weight: &|_| None }, new, cut, false)
}

fn carries(route: &strangler_core::route::Route) -> bool {
    route.weight > Weight::NONE || route.locate.is_some()
}

/// Everything that decides users, for the routes that have any.
fn assert_nobody_moved(old: &RoutingTable, new: &RoutingTable, how: &str) {
    assert_eq!(old.legacy().endpoints, new.legacy().endpoints, "{how}");
    for route in old.routes().iter().filter(|route| carries(route)) {
        let still = new.routes().iter().find(|other| other.name == route.name);
        let still = still.unwrap_or_else(|| panic!("{how}: `{}` is missing", route.name));
        let deciding = |route: &strangler_core::route::Route| {
            (
                (route.weight, route.journey.clone(), route.salt.clone(), route.sticky_on.clone(), route.data),
                (route.locate.clone(), route.extracted.endpoints.clone()),
                (route.lease.clone(), route.form.clone(), route.idempotency.clone()),
            )
        };
        assert_eq!(deciding(route), deciding(still), "{how}");
        assert_eq!(route.conditions, still.conditions, "{how}");
    }
}

#[test]
fn a_file_cut_at_any_byte_moves_nobody() {
    for text in [RICH.to_owned(), shipped()] {
        let old = table(&text);
        let (mut taken, mut refused) = (0, 0);
        for end in 0..text.len() {
            let cut = &text.as_bytes()[..end];
            let Some(new) = load(cut).table else { continue };
            match verdict(&old, text.as_bytes(), &new, cut) {
                ReloadVerdict::Accept => {
                    taken += 1;
                    assert_nobody_moved(&old, &new, &format!("cut at byte {end}"));
                }
                ReloadVerdict::Refuse(_) => refused += 1,
            }
        }
        assert!(taken > 0 && refused > 100, "{taken} taken, {refused} refused by the guard");
    }
}

#[test]
fn an_edited_file_cut_at_the_end_of_any_line_moves_nobody() {
    for text in [RICH.to_owned(), shipped()] {
        let old = table(&text);
        // No longer the beginning of what is in force, so that only what vanished can tell.
        let edited = text.replacen("version: 1", "# edited\nversion: 1", 1);
        let mut refused = 0;
        for (end, _) in edited.match_indices('\n') {
            for cut in [&edited.as_bytes()[..end], &edited.as_bytes()[..=end]] {
                let Some(new) = load(cut).table else { continue };
                match verdict(&old, text.as_bytes(), &new, cut) {
                    ReloadVerdict::Accept => assert_nobody_moved(&old, &new, &format!("cut at byte {end}")),
                    ReloadVerdict::Refuse(_) => refused += 1,
                }
            }
        }
        assert!(refused > 10, "{refused}");
    }
}

#[test]
fn what_somebody_means_is_taken() {
    let old = table(RICH);
    let taken = |new: &str, accept: bool| {
        let cut = looks_cut(RICH.as_bytes(), new.as_bytes());
        judge_reload(Running { table: &old, weight: &|_| None }, &table(new), cut, accept) == ReloadVerdict::Accept
    };
    let pay = "  - {name: pay, match: \"POST /api/v1/payments\", extracted: http://127.0.0.1:8103, weight: 100%, data: synced}\n";
    let without = RICH.replace(pay, "");
    assert!(!taken(&without, false));
    assert!(taken(&without, true));
    assert!(taken(&without.replace("version: 1", "version: 1\nremoved: [pay]"), false));
    // Written down to 0 %, a route may lose what it likes; left out, the weight is a loss.
    assert!(taken(&RICH.replace("weight: 25%", "weight: 0%"), false));
    assert!(!taken(&RICH.replace("    weight: 25%\n", ""), false));
    assert!(taken(&RICH.replace("weight: 5%\n    journey: checkout", "weight: 0%"), false));
    assert!(!taken(&RICH.replace("    journey: checkout\n", ""), false));
    assert!(!taken(&RICH.replace("    salt: checkout-2026\n", ""), false));
    for line in ["    lease: 45m\n", "    together: true\n", "    affinity: {form: true}\n"] {
        assert!(!taken(&RICH.replace(line, ""), false), "{line}");
    }
    assert!(!taken(&RICH.replace("    idempotency: {header: x-key, on_kill: reexecute}\n", ""), false));
    // An edit is an edit.
    assert!(taken(&RICH.replace("salt: checkout-2026", "salt: checkout-2027"), false));
    assert!(taken(&RICH.replace("weight: 25%", "weight: 30%"), false));
    // A route that carries nobody may go, in whatever way.
    let quiet = "  - name: quiet\n    match: \"GET /quiet/{x}\"\n    extracted: pricing\n    shadow: true\n";
    assert!(taken(&RICH.replace(quiet, ""), false));
}

#[test]
fn a_weight_of_the_runtime_counts() {
    let old = table("version: 1\nlegacy: http://a\nroutes:\n  - {name: a, match: /a, extracted: http://b}\n");
    let new = table("version: 1\nlegacy: http://a\nroutes: []\n");
    let ask =
        |weight: &dyn Fn(usize) -> Option<Weight>| judge_reload(Running { table: &old, weight }, &new, None, false);
    assert_eq!(ask(&|_| None), ReloadVerdict::Accept);
    match ask(&|_| Weight::from_basis_points(700)) {
        ReloadVerdict::Refuse(lost) => {
            assert_eq!(lost.len(), 1);
            assert_eq!(lost[0].to_string(), "the route `a` carries 7% of its users and is missing");
            assert!(lost[0].to_fault().help.is_some_and(|help| help.contains("removed: [a]")));
        }
        ReloadVerdict::Accept => panic!("taken"),
    }
}

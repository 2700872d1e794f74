//! What legacy is asked and how much of that has been compared, as people read it.

use std::fmt::Write as _;

use comfy_table::CellAlignment;
use serde_json::Value;

use crate::cli::show::{self, is, list, number, text};

/// Rows of a sort that are shown; the rest is in the JSON.
const ROWS_MAX: usize = 20;

pub(super) fn shown(answer: &Value) -> String {
    let routes = list(answer, "routes");
    if routes.is_empty() {
        return "there are no routes\n".to_owned();
    }
    routes.iter().map(one).collect::<Vec<_>>().join("\n")
}

pub(super) fn one(route: &Value) -> String {
    let (requests, compared) = (number(route, "requests"), number(route, "comparisons"));
    let mut out = format!(
        "{} ({}): {} legacy has answered in {} days, {compared} of them compared\n",
        text(route, "route"),
        text(route, "path"),
        counted(requests, "request"),
        number(route, "days"),
    );
    if !is(route, "is_counted") {
        out.push_str("  ! not counted now: the route neither copies nor compares, and sends nobody to extracted\n");
    }
    if requests > 0 {
        out.push_str(&cells(route));
    }
    for sort in show::list(route, "full").iter().filter_map(Value::as_str) {
        let _ = writeln!(out, "  ! more {}s than are told apart; the rest is `(other)`", words(sort));
    }
    let unseen = |why: &str| {
        let those = list(route, "unseen").iter().filter(|one| text(one, "why") == why);
        those.map(|one| format!("{} {}", words(&text(one, "sort")), text(one, "name"))).collect::<Vec<_>>()
    };
    for (why, told) in [("never_asked", "legacy was never asked"), ("never_compared", "never compared")] {
        let those = unseen(why);
        if !those.is_empty() {
            let _ = writeln!(out, "  {told}: {}", those.join(", "));
        }
    }
    out + &gate(route.get("gate").unwrap_or(&Value::Null))
}

fn cells(route: &Value) -> String {
    let mut rows = show::table(&["seen on legacy", "", "requests", "share", "compared"]);
    for column in 2..=4 {
        if let Some(column) = rows.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let sorts = [
        ("method", "methods"),
        ("status class", "status_classes"),
        ("parameters", "parameter_sets"),
        ("content type", "content_types"),
    ];
    let mut left_out = 0;
    for (sort, key) in sorts {
        let all = list(route, key);
        left_out += all.len().saturating_sub(ROWS_MAX);
        for (place, cell) in all.iter().take(ROWS_MAX).enumerate() {
            let share = cell.get("share").and_then(Value::as_f64).unwrap_or_default();
            rows.add_row([
                if place == 0 { sort.to_owned() } else { String::new() },
                text(cell, "name"),
                number(cell, "requests").to_string(),
                format!("{:.2} %", share * 100.0),
                number(cell, "comparisons").to_string(),
            ]);
        }
    }
    let mut out: String = show::shown(&rows).lines().map(|line| format!("  {line}\n")).collect();
    if left_out > 0 {
        let _ = writeln!(out, "  … and {left_out} more (--format json has them)");
    }
    out
}

fn gate(gate: &Value) -> String {
    let each = number(gate, "min_each");
    if is(gate, "passed") {
        return format!("  enough is compared: each thing that matters at least {each} times\n{}", named(gate));
    }
    let missing: Vec<String> = list(gate, "missing")
        .iter()
        .map(|one| format!("{} {} needs {} more", words(&text(one, "sort")), text(one, "name"), number(one, "missing")))
        .collect();
    format!("  missing to {each} each: {}\n{}", missing.join(", "), named(gate))
}

fn named(gate: &Value) -> String {
    let why = |why: &str| match why {
        "rare" => "under 0.1 %",
        "unsafe_method" => "may have side effects",
        "class" => "no measure",
        "full" => "many in one",
        _ => "not waited for",
    };
    let those = list(gate, "named")
        .iter()
        .map(|one| format!("{} {} ({})", words(&text(one, "sort")), text(one, "name"), why(&text(one, "why"))));
    let those: Vec<String> = those.collect();
    if those.is_empty() { String::new() } else { format!("  not waited for: {}\n", those.join(", ")) }
}

fn words(sort: &str) -> String {
    sort.replace('_', " ")
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn coverage_is_told_with_what_is_missing() {
        let cell = |name: &str, requests: u64, compared: u64| json!({"name": name, "requests": requests, "comparisons": compared, "share": 0.5});
        let route = json!({
            "route": "cart", "path": "/cart/{id}", "days": 7, "is_counted": false, "requests": 1, "comparisons": 0,
            "methods": [cell("GET", 1, 0)], "status_classes": [cell("2xx", 1, 0)], "parameter_sets": [cell("currency&page", 1, 0)],
            "content_types": [cell("application/json", 1, 0)], "full": ["parameter_set"],
            "unseen": [{"sort": "method", "name": "POST", "why": "never_asked"}, {"sort": "status_class", "name": "2xx", "why": "never_compared"}],
            "gate": {"passed": false, "min_each": 20, "missing": [{"sort": "parameter_set", "name": "currency&page", "missing": 20}],
                     "named": [{"sort": "status_class", "name": "5xx", "why": "class"}]},
        });
        let told = shown(&json!({"routes": [route]}));
        for part in [
            "cart (/cart/{id}): 1 request legacy has answered in 7 days, 0 of them compared",
            "! not counted now",
            "currency&page",
            "50.00 %",
            "more parameter sets than are told apart",
            "legacy was never asked: method POST",
            "never compared: status class 2xx",
            "missing to 20 each: parameter set currency&page needs 20 more",
            "not waited for: status class 5xx (no measure)",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
        assert_eq!(shown(&json!({"routes": []})), "there are no routes\n");
    }
}

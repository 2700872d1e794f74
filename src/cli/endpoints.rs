//! What the monolith is asked that no route covers, as people read it.

use std::fmt::Write as _;

use comfy_table::CellAlignment;
use serde_json::Value;
use strangler_core::discovery::route_for;

use crate::cli::show::{self, list, number, text};

/// Rows that are shown; the rest is in the JSON.
const ROWS_MAX: usize = 200;
const DAY_S: u64 = 86_400;

pub(super) fn shown(answer: &Value) -> String {
    let endpoints = list(answer, "endpoints");
    if endpoints.is_empty() {
        return "nothing has been asked that no route covers\n".to_owned();
    }
    let mut rows = show::table(&[
        "method",
        "path",
        "requests",
        "share",
        "2xx 3xx 4xx 5xx",
        "p50",
        "p99",
        "callers",
        "last",
        "state",
    ]);
    for column in [2, 3, 5, 6] {
        if let Some(column) = rows.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    for one in endpoints.iter().take(ROWS_MAX) {
        rows.add_row(row(one, now_s));
    }
    let mut out = show::shown(&rows);
    if endpoints.len() > ROWS_MAX {
        let _ = writeln!(out, "{} more in --format json", endpoints.len() - ROWS_MAX);
    }
    let _ = write!(out, "{} endpoints, {} requests", endpoints.len(), number(answer, "requests"));
    for (key, words) in [("nothing_there", "to paths that are not there"), ("left_out", "for which there was no room")]
    {
        let count = number(answer, key);
        if count > 0 {
            let _ = write!(out, " · {count} {words}");
        }
    }
    out.push('\n');
    let dead = endpoints.iter().filter(|one| matches!(text(one, "state").as_str(), "dead" | "never_asked")).count();
    if dead > 0 {
        let _ = writeln!(out, "{dead} dead: nobody has asked for them in thirty days, or ever");
    }
    out.push_str("strangler endpoints --cover 'METHOD PATH' prints a route for one of them\n");
    out
}

fn row(one: &Value, now_s: u64) -> [String; 10] {
    let requests = number(one, "requests");
    let share = one.get("share").and_then(Value::as_f64).unwrap_or_default();
    let class = |place: usize| list(one, "classes").get(place).and_then(Value::as_u64).unwrap_or_default();
    let classes = (1..5).map(|place| class(place).to_string()).collect::<Vec<_>>().join(" ");
    let callers =
        list(one, "callers").iter().take(3).filter_map(|it| it.get(0)?.as_str()).collect::<Vec<_>>().join(", ");
    let ms =
        |key: &str| one.get(key).and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    let last_s = number(one, "last_s");
    let last = match now_s.saturating_sub(last_s) {
        _ if last_s == 0 => "never".to_owned(),
        ago if ago < 120 => "now".to_owned(),
        ago if ago < 2 * DAY_S => format!("{} h ago", ago / 3_600),
        ago => format!("{} d ago", ago / DAY_S),
    };
    [
        text(one, "method"),
        text(one, "template"),
        requests.to_string(),
        format!("{:.2} %", share * 100.0),
        classes,
        ms("p50_ms"),
        ms("p99_ms"),
        callers,
        last,
        text(one, "state").replace('_', " "),
    ]
}

/// A route for one of them, as it would stand in the file.
pub(super) fn cover(answer: &Value, wanted: &str) -> Option<String> {
    let said = |one: &&Value| {
        let (method, template) = (text(one, "method"), text(one, "template"));
        wanted.split_whitespace().eq([method.as_str(), template.as_str()])
            || (wanted.trim() == template && method == "GET")
    };
    let found = list(answer, "endpoints").iter().find(said)?;
    Some(route_for(&text(found, "method"), &text(found, "template"), &text(found, "path")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(method: &str, template: &str, path: &str) -> Value {
        json!({"method": method, "template": template, "path": path, "state": "live", "requests": 7, "share": 0.5,
               "classes": [0, 6, 0, 1, 0], "callers": [["curl", 7]], "p50_ms": 1.25, "p99_ms": null, "last_s": 0})
    }

    #[test]
    fn endpoints_are_a_table_and_each_becomes_a_route() {
        let answer = json!({"endpoints": [
            found("GET", "/api/v1/users/{user_id}", "/api/v1/users/{user_id}"),
            found("POST", "/api/v1/users", "/api/v1/users"),
            found("GET", "/invoices/{invoice_id}.pdf", r"^/invoices/[^/]+\.pdf$"),
            found("GET", "/", "/"),
        ], "requests": 28, "nothing_there": 3});
        let table = shown(&answer);
        for part in [
            "/api/v1/users/{user_id}",
            "50.00 %",
            "6 0 1 0",
            "1.2 ms",
            "never",
            "4 endpoints, 28 requests · 3 to paths that are not there",
        ] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
        let cover = |wanted| cover(&answer, wanted).unwrap_or_default();
        assert!(cover("GET /api/v1/users/{user_id}").contains("match: \"GET /api/v1/users/{user_id}\""));
        assert!(cover("/api/v1/users/{user_id}").contains("compare: true"));
        assert_eq!(cover("GET /nothing"), "");
    }
}

//! How long both sides took for the same requests, as people read it. Beside what comparing says, and no part of it.

use comfy_table::CellAlignment;
use serde_json::Value;

use crate::cli::show::{self, list, number, text};

/// Nothing where nothing was measured.
pub(super) fn shown(answer: &Value) -> String {
    let routes = list(answer, "latency");
    if routes.is_empty() {
        return String::new();
    }
    let mut rows = show::table(&[
        "latency",
        "window",
        "pairs",
        "p50 legacy|extracted",
        "p95 legacy|extracted",
        "p99 legacy|extracted",
        "paired",
        "slower",
        "timeouts",
    ]);
    for column in 2..=8 {
        if let Some(column) = rows.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for route in routes {
        for (name, key) in [("last hour", "last_hour"), ("since start", "since_start")] {
            let window = route.get(key).unwrap_or(&Value::Null);
            let side = |side: &str| window.get(side).unwrap_or(&Value::Null);
            let (legacy, extracted) = (side("legacy"), side("extracted"));
            let both = |key: &str| format!("{} | {}", ms(legacy, key), ms(extracted, key));
            let paired = window.get("paired").filter(|paired| !paired.is_null());
            let slower = paired.and_then(|paired| paired.get("slower_share")?.as_f64());
            let (left, right) = (number(legacy, "timeouts"), number(extracted, "timeouts"));
            rows.add_row([
                text(route, "route"),
                name.to_owned(),
                number(window, "pairs").to_string(),
                both("p50_ms"),
                both("p95_ms"),
                both("p99_ms"),
                paired.map_or_else(|| "-".to_owned(), |paired| signed(paired, "median_ms")),
                slower.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0)),
                format!("{left} | {right}"),
            ]);
        }
    }
    let about = "  to the answer's head; paired: median of extracted less legacy; a timeout counts with its length. No part of the verdicts.\n";
    format!("\n{}{about}", show::shown(&rows))
}

fn ms(side: &Value, key: &str) -> String {
    side.get(key).and_then(Value::as_f64).map_or_else(|| "-".to_owned(), written)
}

fn signed(value: &Value, key: &str) -> String {
    let Some(ms) = value.get(key).and_then(Value::as_f64) else { return "-".to_owned() };
    format!("{}{}", if ms > 0.0 { "+" } else { "" }, written(ms))
}

/// Three digits are enough for what is off by 1 %.
fn written(ms: f64) -> String {
    match ms.abs() {
        size if size < 10.0 => format!("{ms:.2} ms"),
        size if size < 100.0 => format!("{ms:.1} ms"),
        size if size < 10_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn latency_is_told_side_by_side() {
        let side = |p50: f64| json!({"p50_ms": p50, "p95_ms": 25.04, "p99_ms": 12_345.0, "timeouts": 2});
        let window = json!({"pairs": 7, "unpaired": 1, "legacy": side(1.234), "extracted": side(150.2),
                            "paired": {"median_ms": 3.21, "slower_share": 0.75}});
        let none = json!({"pairs": 0, "legacy": {}, "extracted": {}, "paired": null});
        let told = shown(&json!({"latency": [{"route": "cart", "last_hour": none, "since_start": window}]}));
        for part in ["1.23 ms | 150 ms", "25.0 ms | 25.0 ms", "12.3 s | 12.3 s", "+3.21 ms", "75.0 %", "2 | 2", "- | -"]
        {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
        assert_eq!(shown(&json!({"endpoints": []})), "");
    }
}

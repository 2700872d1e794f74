//! What comparing has proven, as people read it.

use std::fmt::Write as _;

use comfy_table::CellAlignment;
use serde_json::Value;

use crate::cli::show::{self, is, list, number, text};

pub(super) fn shown(answer: &Value) -> String {
    let endpoints = list(answer, "endpoints");
    if endpoints.is_empty() {
        return "nothing has been compared\n".to_owned();
    }
    endpoints.iter().map(endpoint).collect::<Vec<_>>().join("\n")
}

fn endpoint(endpoint: &Value) -> String {
    let count = |key: &str| number(endpoint, key);
    let mut out = format!(
        "{} {}{}: {} · {}\n",
        text(endpoint, "route"),
        text(endpoint, "method"),
        endpoint.get("release").and_then(Value::as_str).map(|name| format!(" of {name}")).unwrap_or_default(),
        text(endpoint, "verdict").replace('_', " "),
        text(endpoint, "why"),
    );
    let counts = [
        ("equal", count("equal")),
        ("different", count("different")),
        ("failed", count("failed")),
        ("auth mismatch", count("auth_mismatch")),
        ("expected", count("expected")),
        ("not comparable", count("not_comparable")),
    ];
    let told: Vec<String> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")).collect();
    let _ = writeln!(out, "  pairs: {}", if told.is_empty() { "none".to_owned() } else { told.join(", ") });
    let looks = endpoint.get("looks").unwrap_or(&Value::Null);
    let tags = ["confirmed", "noise", "transient", "unconfirmed"];
    let told: Vec<String> =
        tags.iter().filter(|tag| number(looks, tag) > 0).map(|tag| format!("{} {tag}", number(looks, tag))).collect();
    if !told.is_empty() {
        let _ = writeln!(out, "  looked at again: {}", told.join(", "));
    }
    let _ = writeln!(out, "  samples: {}, next look at {}", count("triples"), count("next_look_at"));
    let fields = list(endpoint, "fields");
    if fields.is_empty() {
        return out;
    }
    let head =
        ["field", "how", "verdict", "only extracted", "only legacy", "both", "confirmed", "noise", "rise (95 %)"];
    let mut rows = show::table(&head);
    for column in 3..=7 {
        if let Some(column) = rows.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut notes = Vec::new();
    for field in fields {
        let place = text(field, "place");
        let place = if place.is_empty() { "(the whole body)".to_owned() } else { place };
        rows.add_row([
            place.clone(),
            text(field, "kind"),
            text(field, "verdict"),
            number(field, "only_extracted").to_string(),
            number(field, "only_legacy").to_string(),
            number(field, "both").to_string(),
            number(field, "confirmed").to_string(),
            noise(field),
            format!("{} ({} to {})", percent(field, "rise"), percent(field, "rise_least"), percent(field, "rise_most")),
        ]);
        let (advice, suggestion) = (text(field, "advice"), text(field, "suggestion"));
        match (is(field, "is_blind"), suggestion.is_empty()) {
            (true, true) => notes.push(format!("{place}: blind. {advice}")),
            (true, false) => notes.push(format!("{place}: blind. {advice}: {suggestion}")),
            (false, false) => {
                notes.push(format!("{place}: noisy; a rule that would take it for no difference: {suggestion}"));
            }
            (false, true) => {}
        }
    }
    for line in show::shown(&rows).lines() {
        let _ = writeln!(out, "  {line}");
    }
    for note in notes {
        let _ = writeln!(out, "  ! {note}");
    }
    let left_out = count("fields_left_out");
    if left_out > 0 {
        let _ = writeln!(out, "  … and {left_out} fields more (--format json has the same)");
    }
    out
}

fn noise(field: &Value) -> String {
    match field.get("noise_rate_max").and_then(Value::as_f64) {
        Some(most) => format!("≤ {:.2} %", most.min(1.0) * 100.0),
        None => percent(field, "noise_rate"),
    }
}

fn percent(field: &Value, key: &str) -> String {
    field.get(key).and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |rate| format!("{:.2} %", rate * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_verdict_is_told_with_what_it_rests_on() {
        let field = json!({
            "place": "/request_id", "kind": "value", "verdict": "noisy", "only_extracted": 3, "only_legacy": 2, "both": 395,
            "confirmed": 0, "noise_rate": 0.9925, "noise_rate_max": null, "rise": 0.0025, "rise_least": -0.01, "rise_most": 0.0153,
            "p_value": 0.5, "is_blind": true, "advice": "add a normaliser", "suggestion": "{path: \"/request_id\", as: uuid}",
        });
        let answer = json!({"endpoints": [{
            "route": "cart", "method": "GET", "verdict": "not_comparable", "why": "because", "equal": 5, "different": 400,
            "looks": {"confirmed": 0, "noise": 7}, "triples": 400, "next_look_at": 800, "fields": [field],
        }]});
        let told = shown(&answer);
        for part in [
            "cart GET: not comparable · because",
            "pairs: 5 equal, 400 different",
            "looked at again: 7 noise",
            "samples: 400, next look at 800",
            "99.25 %",
            "0.25 % (-1.00 % to 1.53 %)",
            "! /request_id: blind. add a normaliser: {path: \"/request_id\", as: uuid}",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
        assert_eq!(shown(&json!({"endpoints": []})), "nothing has been compared\n");
    }
}

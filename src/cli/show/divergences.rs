//! What differed, as people read it.

use std::fmt::Write as _;

use comfy_table::Table;
use serde_json::Value;

use crate::cli::show::{is, list, number, plain, shown, table, text, texts};

/// Longest value of a difference that is shown, in characters.
const VALUE_CHARS_MAX: usize = 200;

pub(in crate::cli) fn divergences(answer: &Value) -> String {
    let (causes, found) = (list(answer, "causes"), list(answer, "divergences"));
    let intended = list(answer, "accepted");
    if causes.is_empty() && found.is_empty() && intended.is_empty() {
        return "no divergence is stored\n".to_owned();
    }
    let mut out = String::new();
    if !causes.is_empty() {
        out.push_str(&shown(&cause_rows(causes)));
    }
    for (at, suggestion) in causes.iter().filter_map(|one| Some((one, one.get("cause")?.get("suggestion")?.as_str()?)))
    {
        let _ = writeln!(out, "  if {} is noise, this rule takes it: {}", text(at, "signature"), plain(suggestion));
    }
    for one in intended {
        let _ = writeln!(out, "{}", accepted_line(one));
    }
    for one in found {
        let record = one.get("record").unwrap_or(&Value::Null);
        // Values below stand legacy first; who answered the user is said in words, for an arrow would read as their order.
        let answered_by = text(record, "direction").split("->").next().unwrap_or_default().to_owned();
        let (at, route, method, target) =
            (text(one, "at"), text(one, "route"), text(record, "method"), text(record, "target"));
        // What came of asking again, where it was.
        let tag = text(record, "tag");
        let tag = if tag.is_empty() { tag } else { format!("  {tag}") };
        let _ = writeln!(out, "{at}  {route}  {method} {target}  ({answered_by} answered){tag}  {}", text(one, "id"));
        out.push_str(&record_rows(record));
        let curl = one.get("curl").unwrap_or(&Value::Null);
        for (name, command) in [
            ("legacy", text(curl, "legacy")),
            ("extracted", text(curl, "extracted")),
            ("again", text(one, "replay")),
            ("no replay", text(one, "no_replay")),
        ] {
            if !command.is_empty() {
                let _ = writeln!(out, "  {name}: {command}");
            }
        }
    }
    let dropped = number(answer, "dropped");
    if dropped > 0 {
        let _ = writeln!(out, "! {dropped} more were not stored: too many at a time, too large, or the store failed");
    }
    out
}

/// What differs, and what stands beside it.
fn record_rows(record: &Value) -> String {
    let mut rows = table(&[]);
    for difference in list(record, "differences") {
        let value = |side: &str| {
            let value = text(difference, side);
            let cut: String = value.chars().take(VALUE_CHARS_MAX).collect();
            match (difference.get(side).is_none_or(Value::is_null), cut.len() < value.len()) {
                (true, _) => "(nothing)".to_owned(),
                (false, true) => format!("{cut}…"),
                (false, false) => cut,
            }
        };
        rows.add_row([
            format!("  {}", text(difference, "path")),
            if is(difference, "noise") {
                format!("{} (noise)", text(difference, "kind"))
            } else {
                text(difference, "kind")
            },
            format!("{} → {}", value("legacy"), value("extracted")),
        ]);
        for (side, key) in [("legacy", "only_legacy"), ("extracted", "only_extracted")] {
            let only = texts(difference, key).join(", ");
            if !only.is_empty() {
                let only: String = only.chars().take(VALUE_CHARS_MAX).collect();
                rows.add_row([String::new(), format!("only {side}"), only]);
            }
        }
    }
    let mut out = shown(&rows);
    for warning in list(record, "warnings") {
        let _ = writeln!(out, "  beside them: {} {}", text(warning, "path"), text(warning, "kind"));
    }
    let (kept, total) = (list(record, "differences").len() as u64, number(record, "differences_total"));
    if total > kept {
        let _ = writeln!(out, "  … and {} more", total - kept);
    }
    out
}

pub(in crate::cli) fn accepted(answer: &Value) -> String {
    format!("{}\n", accepted_line(answer))
}

pub(in crate::cli) fn taken_back(answer: &Value) -> String {
    format!("{} of {} shows as a difference again\n", text(answer, "signature"), text(answer, "route"))
}

fn accepted_line(one: &Value) -> String {
    let cause = one.get("cause").unwrap_or(&Value::Null);
    let (signature, route, place, kind) =
        (text(one, "signature"), text(one, "route"), text(cause, "place"), text(cause, "kind"));
    let (by, at, why) = (text(one, "by"), text(one, "at"), text(one, "reason"));
    let until = match (text(one, "until"), is(one, "expired")) {
        (until, _) if until.is_empty() => String::new(),
        (until, false) => format!(" until {until}"),
        (until, true) => format!(" until {until}, which is over: it shows again"),
    };
    format!("{signature} of {route} ({kind} at {place}) is intended{until}: {why} ({by}, {at})")
}

pub(in crate::cli) fn replayed(answer: &Value) -> String {
    let record = answer.get("record").unwrap_or(&Value::Null);
    let said = match text(answer, "result").as_str() {
        "match" => "both sides were asked again, and are equal now".to_owned(),
        "expected" => "both sides were asked again, and differ as is intended".to_owned(),
        "mismatch" => "both sides were asked again, and differ".to_owned(),
        "failed" => "both sides were asked again, and one failed".to_owned(),
        other => format!("both sides were asked again: {other}"),
    };
    let side = |side: &str| {
        let answer = record.get(side).unwrap_or(&Value::Null);
        let (status, failure) = (text(answer, "status"), text(answer, "failure"));
        let said = if failure.is_empty() { status } else { failure };
        format!("{side} {said} in {} ms", text(answer, "total_ms"))
    };
    let head = format!(
        "{} {}: {said} ({}, {})\n",
        text(record, "method"),
        text(record, "target"),
        side("legacy"),
        side("extracted")
    );
    head + &record_rows(record)
}

/// One row a cause: how often, where, how, and since when.
fn cause_rows(causes: &[Value]) -> Table {
    let mut rows = table(&["cause", "route", "pairs", "place", "kind", "legacy → extracted", "first", "last"]);
    for one in causes {
        let cause = one.get("cause").unwrap_or(&Value::Null);
        rows.add_row([
            text(one, "signature"),
            text(one, "route"),
            number(one, "pairs").to_string(),
            text(cause, "place"),
            text(cause, "kind"),
            format!("{} → {}", text(cause, "legacy"), text(cause, "extracted")),
            text(one, "first"),
            text(one, "last"),
        ]);
    }
    rows
}

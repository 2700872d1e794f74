//! Answers of the API as people read them.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde_json::Value;

mod divergences;

pub(super) use divergences::{accepted, divergences, replayed, taken_back};

/// A text of the answer on one line, without anything that a terminal would obey.
pub(super) fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => plain(text),
        Some(Value::Null) | None => String::new(),
        Some(other) => plain(&other.to_string()),
    }
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    let list = value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|one| one.as_str().map_or_else(|| plain(&one.to_string()), plain)).collect()
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn is(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or_default()
}

pub(super) fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

pub(super) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if !head.is_empty() {
        table.set_header(head.iter().copied());
    }
    table
}

pub(super) fn shown(table: &Table) -> String {
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(&line))).collect()
}

pub(super) fn status(answer: &Value) -> String {
    let mut out = String::new();
    let readiness = answer.get("readiness").unwrap_or(&Value::Null);
    let state = match (is(readiness, "ready"), is(readiness, "draining")) {
        (_, true) => "draining",
        (true, false) => "ready",
        (false, false) => "not ready",
    };
    let _ = writeln!(out, "strangler {} · {state} · revision {}", text(answer, "version"), text(readiness, "revision"));
    for alarm in texts(answer, "alarms") {
        let _ = writeln!(out, "! {alarm}");
    }
    let mut rows = table(&[
        "route",
        "stage",
        "file",
        "running",
        "legacy",
        "extracted",
        "fallbacks",
        "data",
        "shadow",
        "compare",
        "waits for",
    ]);
    for column in 4..=6 {
        if let Some(column) = rows.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut notes = Vec::new();
    for route in list(answer, "routes") {
        let numbers = route.get("numbers").unwrap_or(&Value::Null);
        let side = |requests: &str, failures: &str| {
            if numbers.is_null() {
                "-".to_owned()
            } else if number(numbers, failures) == 0 {
                number(numbers, requests).to_string()
            } else {
                format!("{} ({} failed)", number(numbers, requests), number(numbers, failures))
            }
        };
        let (stage, lifted) = (text(route, "stage"), text(route, "stage_when_lifted"));
        let shadow = text(route, "shadow");
        let compare = match (is(route, "compare"), numbers.is_null()) {
            (false, _) => "-".to_owned(),
            (true, true) => "on".to_owned(),
            (true, false) => format!("{} of {} differ", number(numbers, "mismatches"), number(numbers, "compared")),
        };
        let verdict = text(numbers, "verdict");
        let compare = if verdict.is_empty() || compare == "-" { compare } else { format!("{compare} · {verdict}") };
        let waits = texts(route, "waits_for");
        // All of them stand below.
        let more = if waits.len() > 1 { format!(" and {} more", waits.len() - 1) } else { String::new() };
        rows.add_row([
            text(route, "name"),
            if stage == lifted { stage } else { format!("{stage} ({lifted})") },
            if is(route, "located") { "by data".to_owned() } else { text(route, "file_weight") },
            text(route, "weight_in_force"),
            side("requests_legacy", "failures_legacy"),
            side("requests_extracted", "failures_extracted"),
            if numbers.is_null() { "-".to_owned() } else { number(numbers, "fallbacks").to_string() },
            text(route, "data"),
            if shadow.is_empty() { "-".to_owned() } else { shadow },
            compare,
            waits.first().map_or_else(
                || "-".to_owned(),
                |first| format!("{}{more}", first.chars().take(60).collect::<String>()),
            ),
        ]);
        let breaker = text(route, "breaker");
        if !breaker.is_empty() && breaker != "closed" {
            notes.push(format!("{}: breaker {}", text(route, "name"), breaker.replace('_', " ")));
        }
        notes.extend(climbing(route).into_iter().flatten());
        let drift = text(route, "drift");
        if !drift.is_empty() {
            notes.push(format!("{}: {drift}", text(route, "name")));
        }
    }
    for kill in list(answer, "kills") {
        notes.push(kill_line(kill));
    }
    for name in texts(answer, "moves_without_route") {
        notes.push(format!(
            "{name}: moved, but the file does not have it (`strangler weight {name} file` forgets the move)"
        ));
    }
    out.push_str(&shown(&rows));
    for note in notes {
        let _ = writeln!(out, "{note}");
    }
    out
}

fn kill_line(kill: &Value) -> String {
    let scope = text(kill, "scope");
    let name = if scope == "*" { "all routes".to_owned() } else { scope };
    let (source, at, by, why) = (text(kill, "source"), text(kill, "at"), text(kill, "by"), text(kill, "reason"));
    format!("{name}: killed ({source}) since {at} by {by} because {why}")
}

pub(super) fn moved(answer: &Value) -> String {
    let mut out = format!("{}: {} → {}\n", text(answer, "route"), text(answer, "from"), text(answer, "to"));
    let _ = writeln!(out, "  {}", text(answer, "note"));
    if is(answer, "killed") {
        let _ = writeln!(out, "  the route is killed: users see this weight once `strangler unkill` lifts that");
    }
    out + &warning(answer)
}

fn warning(answer: &Value) -> String {
    let warning = text(answer, "warning");
    if warning.is_empty() { warning } else { format!("! {warning}\n") }
}

fn scope_name(answer: &Value) -> String {
    let scope = text(answer, "scope");
    if scope == "*" { "all routes".to_owned() } else { scope }
}

pub(super) fn killed(answer: &Value) -> String {
    let routes = number(answer, "killed_routes");
    let mut out = format!(
        "{} killed: {routes} {} on legacy now\n",
        scope_name(answer),
        if routes == 1 { "route" } else { "routes" }
    );
    let not_moved = texts(answer, "not_moved");
    if !not_moved.is_empty() {
        let _ = writeln!(
            out,
            "! not moved, for the extracted service owns the data: {} (kill by name with --accept-stale to move it all the same)",
            not_moved.join(", ")
        );
    }
    out + &warning(answer)
}

pub(super) fn rollout(answer: &Value) -> String {
    let (route, asked) = (text(answer, "route"), text(answer, "asked"));
    let (from, to) = (text(answer, "from"), text(answer, "to"));
    let moved = if from == to { format!("at {to}") } else { format!("{from} → {to}") };
    let with = texts(answer, "with");
    let with = if with.is_empty() { String::new() } else { format!(", and {} with it", with.join(", ")) };
    format!("{route}: {asked}, {moved}{with}\n  {}\n{}", text(answer, "note"), warning(answer))
}

/// What a rollout waits for, a line each.
fn climbing(route: &Value) -> Option<Vec<String>> {
    let rollout = route.get("rollout").filter(|rollout| !rollout.is_null())?;
    let (step, next) = (text(rollout, "step"), text(rollout, "next"));
    let at = if step.is_empty() { "before its first step".to_owned() } else { format!("at {step}") };
    let to = if next.is_empty() { String::new() } else { format!(" → {next}") };
    let verdict = format!("{} ({})", text(rollout, "verdict"), text(rollout, "reason"));
    let journey = text(rollout, "journey");
    let journey = if journey.is_empty() { journey } else { format!(" (climbs with all of the journey {journey})") };
    let mut lines = vec![format!(
        "{}{journey}: {at}{to} since {} · {verdict}: {}",
        text(route, "name"),
        text(rollout, "since"),
        text(rollout, "why")
    )];
    lines.extend(texts(rollout, "waits_for").iter().map(|wait| format!("  waits for {wait}")));
    let gates = rollout.get("gates").and_then(Value::as_object).into_iter().flatten();
    for (name, gate) in gates.filter(|(_, gate)| number(gate, "needs_requests") > 0) {
        let eta = number(gate, "eta_s");
        let eta = if eta > 0 {
            format!(", about {} at this traffic", strangler_core::rollout::words(eta))
        } else {
            String::new()
        };
        lines.push(format!("  {} needs {} more requests{eta}", plain(name), number(gate, "needs_requests")));
    }
    lines.extend(prices(rollout));
    let alarm = text(rollout, "alarm");
    if !alarm.is_empty() {
        lines.push(format!("  ALARM: it {alarm}"));
    }
    Some(lines)
}

/// What the steps to come cost, on a line.
fn prices(rollout: &Value) -> Option<String> {
    let one = |price: &Value| {
        let (step, time) = (text(price, "step"), strangler_core::rollout::words(number(price, "seconds")));
        let gate = text(price, "gate");
        let gate =
            if gate.is_empty() { String::new() } else { format!(" ({gate}: {} requests)", number(price, "requests")) };
        format!("{step} {time}{gate}")
    };
    let all: Vec<String> = list(rollout, "prices").iter().map(one).collect();
    (!all.is_empty()).then(|| format!("  at this traffic the steps to come take about: {}", all.join(", ")))
}

pub(super) fn audit(answer: &Value) -> String {
    let mut rows = table(&["when", "who", "what", "route", "from", "to", "why"]);
    for entry in list(answer, "audit") {
        let what = text(entry, "what");
        rows.add_row([
            strangler_core::runtime::utc(number(entry, "at_unix_ms")),
            text(entry, "who"),
            if is(entry, "accepted") { what } else { format!("{what} (refused)") },
            text(entry, "route"),
            text(entry, "from"),
            text(entry, "to"),
            text(entry, "reason"),
        ]);
    }
    shown(&rows)
}

pub(super) fn audit_verified(answer: &Value) -> String {
    let (linked, unlinked, head) = (number(answer, "linked"), number(answer, "unlinked"), text(answer, "head"));
    let mut out = if is(answer, "intact") {
        format!("{linked} entries, none changed, taken out or put in between\n")
    } else {
        format!("! entry {} does not follow from the one before\n", text(answer, "broken_at"))
    };
    if unlinked > 0 {
        let _ = writeln!(out, "{unlinked} older entries have no link, and prove nothing");
    }
    if !head.is_empty() {
        let _ = writeln!(out, "the last link is {head}: noted elsewhere, it shows whether entries were cut off since");
    }
    out
}

pub(super) fn upgraded(answer: &Value) -> String {
    format!(
        "process {} serves ({}, ready after {} ms); process {} ends once its requests have\n",
        number(answer, "pid"),
        text(answer, "program"),
        number(answer, "took_ms"),
        number(answer, "from_pid"),
    )
}

pub(super) fn lifted(answer: &Value) -> String {
    let mut out = format!("the kill of {} is lifted\n", scope_name(answer));
    let remaining = list(answer, "remaining");
    if !remaining.is_empty() {
        out.push_str("! still killed by:\n");
    }
    for kill in remaining {
        let _ = writeln!(out, "  {}", kill_line(kill));
    }
    out + &warning(answer)
}

pub(super) fn applied(answer: &Value) -> String {
    let mut out = String::new();
    // A fault is several lines: a place, the line, a caret.
    let block = |out: &mut String, value: &Value| {
        for line in value.as_str().unwrap_or_default().lines() {
            let _ = writeln!(out, "{}", plain(line));
        }
    };
    for fault in list(answer, "faults") {
        block(&mut out, fault);
    }
    for warning in list(answer, "warnings") {
        block(&mut out, warning);
    }
    for raise in texts(answer, "dropped_raises") {
        let _ = writeln!(out, "! {raise}");
    }
    let revision = text(answer, "revision");
    let _ = match (is(answer, "accepted"), is(answer, "changed")) {
        (true, true) => writeln!(out, "revision {revision} is in force"),
        (true, false) => writeln!(out, "nothing has changed: revision {revision} is in force"),
        (false, _) => writeln!(out, "refused: revision {revision} stays in force"),
    };
    out
}

pub(super) fn explanation(answer: &Value) -> String {
    let host = text(answer, "host");
    let host = if host.is_empty() { "any host".to_owned() } else { host };
    let mut out = format!("{} {} ({host})\n", text(answer, "method"), text(answer, "path"));
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "  {name:<9} {value}");
        }
    };
    match answer.get("route").and_then(Value::as_str) {
        Some(route) => line("route", format!("{} ({})", plain(route), text(answer, "pattern"))),
        None => line("route", "none: it falls through".to_owned()),
    }
    line("side", format!("{} ({})", text(answer, "side"), text(answer, "because")));
    line("upstream", text(answer, "upstream"));
    let rewritten = text(answer, "rewritten");
    if !rewritten.is_empty() {
        line("rewritten", format!("extracted is asked for {rewritten}"));
    }
    line("key", text(answer, "key"));
    line("bucket", text(answer, "bucket"));
    line("stage", text(answer, "stage"));
    line("weight", text(answer, "weight"));
    line("drift", text(answer, "drift"));
    line("kept", text(answer, "kept"));
    line("shadow", text(answer, "shadow"));
    line("fallback", text(answer, "fallback"));
    let others = list(answer, "others");
    if !others.is_empty() {
        out.push_str("  not:\n");
        let mut rows = table(&[]);
        for other in others {
            rows.add_row([format!("    {}", text(other, "route")), text(other, "why_not")]);
        }
        out.push_str(&shown(&rows));
    }
    let left_out = number(answer, "others_left_out");
    if left_out > 0 {
        let _ = writeln!(out, "    … and {left_out} further away");
    }
    out
}

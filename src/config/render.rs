//! Faults for people (the line, a caret below it, what would be taken) and for programs (JSON).

use std::fmt::Write as _;

use serde_json::{Value, json};
use strangler_core::fault::{Fault, Severity};
use strangler_core::tree::Span;
use strangler_core::web::masked;

/// Most characters of a line that are shown; of a longer one, those around the fault.
const WIDTH: usize = 100;
/// Columns of a tab.
const TAB: usize = 4;

/// Faults for people, each with its line and a caret. `origin` is what the file is called.
pub fn text(faults: &[Fault], origin: &str, source: &[u8], use_colour: bool) -> String {
    let lines: Vec<&[u8]> = source.split(|byte| *byte == b'\n').collect();
    let paint = Paint { use_colour };
    let mut out = String::new();
    for fault in faults {
        one(&mut out, fault, origin, &lines, &paint);
    }
    let errors = faults.iter().filter(|fault| fault.severity == Severity::Error).count();
    let warnings = faults.len() - errors;
    if errors + warnings > 1 {
        let count = |count: usize, word: &str| match count {
            0 => None,
            1 => Some(format!("1 {word}")),
            _ => Some(format!("{count} {word}s")),
        };
        let counts: Vec<String> = [count(errors, "error"), count(warnings, "warning")].into_iter().flatten().collect();
        let _ = writeln!(out, "{origin}: {}", counts.join(", "));
    }
    out
}

/// Faults for programs.
pub fn json(faults: &[Fault], origin: &str) -> Value {
    let place = |span: &Span| {
        (span.line > 0).then(|| json!({"line": span.line, "column": span.column, "start": span.start, "end": span.end}))
    };
    let one = |fault: &Fault| {
        json!({
            "severity": fault.severity.as_str(),
            "file": origin,
            "place": place(&fault.span),
            "path": fault.path,
            "message": masked(&fault.message),
            "help": fault.help.as_deref().map(masked),
            "also": fault.also.as_ref().map(|(span, why)| json!({"place": place(span), "message": why})),
        })
    };
    json!({"faults": faults.iter().map(one).collect::<Vec<_>>()})
}

struct Paint {
    use_colour: bool,
}

impl Paint {
    fn severity(&self, severity: Severity) -> String {
        let code = match severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
        };
        self.with(code, severity.as_str())
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.use_colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn one(out: &mut String, fault: &Fault, origin: &str, lines: &[&[u8]], paint: &Paint) {
    let place = match fault.span.line {
        0 => origin.to_owned(),
        line => format!("{origin}:{line}:{}", fault.span.column),
    };
    let path = if fault.path.is_empty() { String::new() } else { format!("{}: ", fault.path) };
    let _ = writeln!(out, "{place}: {}: {path}{}", paint.severity(fault.severity), printable(&masked(&fault.message)));
    let code = match fault.severity {
        Severity::Error => "31",
        Severity::Warning => "33",
    };
    excerpt(out, fault.span, lines, "", &|text| paint.with(code, text));
    if let Some((span, why)) = &fault.also {
        excerpt(out, *span, lines, why, &|text| paint.with("36", text));
    }
    if let Some(help) = &fault.help {
        let _ = writeln!(out, "  {} {}", paint.with("1;32", "help:"), printable(&masked(help)));
    }
    out.push('\n');
}

/// The line, and a line that points at the place.
fn excerpt(out: &mut String, span: Span, lines: &[&[u8]], why: &str, paint: &dyn Fn(&str) -> String) {
    let index = (span.line as usize).checked_sub(1);
    let Some(line) = index.and_then(|index| lines.get(index)) else { return };
    let line = String::from_utf8_lossy(line);
    // What follows the host may be a secret: as many characters, so that the caret stands where it stood.
    let line = masked(line.trim_end_matches('\r'));
    let column = (span.column as usize).max(1) - 1;
    let bytes = (span.end as usize).saturating_sub(span.start as usize);
    let after: String = line.chars().skip(column).collect();
    // Counted in characters; a place that goes on beyond the line ends with it.
    let marked = after.char_indices().take_while(|(at, _)| *at < bytes).count().max(1);

    let (skipped, shown, cut) = window(&line, column);
    let before: usize = shown.iter().take(column - skipped).map(|c| width(*c)).sum();
    let marked_width: usize = shown.iter().skip(column - skipped).take(marked).map(|c| width(*c)).sum();
    let body: String = shown.iter().map(|c| display(*c)).collect();
    let (left, right) = (if skipped > 0 { "…" } else { "" }, if cut { "…" } else { "" });
    let number = span.line.to_string();
    let margin = " ".repeat(number.len());
    let carets = paint(&"^".repeat(marked_width.max(1)));
    let why = if why.is_empty() { String::new() } else { format!(" {}", paint(why)) };
    let pad = " ".repeat(before + usize::from(skipped > 0));
    let _ = writeln!(out, " {number} | {left}{body}{right}");
    let _ = writeln!(out, " {margin} | {pad}{carets}{why}");
}

/// The characters of a line that are shown: how many stand before them, they themselves, and whether more follow.
fn window(line: &str, column: usize) -> (usize, Vec<char>, bool) {
    let length = line.chars().count();
    if length <= WIDTH {
        return (0, line.chars().collect(), false);
    }
    let skipped = column.saturating_sub(WIDTH / 3).min(length - WIDTH.min(length));
    let shown: Vec<char> = line.chars().skip(skipped).take(WIDTH).collect();
    let cut = skipped + shown.len() < length;
    (skipped, shown, cut)
}

fn width(c: char) -> usize {
    if c == '\t' { TAB } else { 1 }
}

fn display(c: char) -> String {
    match c {
        '\t' => " ".repeat(TAB),
        // A file must not drive the terminal of the one who checks it.
        c if c.is_control() => "\u{fffd}".to_owned(),
        c => c.to_string(),
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn shown(source: &str) -> String {
        text(&load(source.as_bytes()).faults, "routes.yaml", source.as_bytes(), false)
    }

    #[test]
    fn a_fault_shows_its_line_and_points_at_it() {
        let source = "version: 1\nlegacy: http://127.0.0.1:1\nroutes:\n  - {name: a, match: /a, extracted: http://127.0.0.1:2, wieght: 5%}\n";
        assert_eq!(
            shown(source),
            "routes.yaml:4:57: error: routes[0].wieght: unknown key `wieght`\n \
             4 |   - {name: a, match: /a, extracted: http://127.0.0.1:2, wieght: 5%}\n   \
             |                                                         ^^^^^^\n  \
             help: did you mean `weight`?\n\n"
        );
    }

    #[test]
    fn a_tie_shows_both_places() {
        let source = "version: 1\nlegacy: http://127.0.0.1:1\nroutes:\n  - {name: a, match: \"/{x}\", extracted: http://127.0.0.1:2}\n  - {name: b, match: \"/{y}\", extracted: http://127.0.0.1:2}\n";
        let text = shown(source);
        assert!(text.contains("routes.yaml:5:12: error: routes[1].match: the routes `a` and `b` tie"), "{text}");
        assert!(text.contains(" 4 |") && text.contains("^ the other one"), "{text}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_fault_and_no_control_character_gets_out() {
        let source = format!("version: 1\nlegacy: \"{}\\e[2J\"\n", "x".repeat(5_000));
        let text = shown(&source);
        assert!(text.lines().all(|line| line.chars().count() < 400), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn colours_come_only_when_asked_for() {
        let faults = load(b"version: 2").faults;
        assert!(text(&faults, "f", b"version: 2", true).contains('\u{1b}'));
        assert!(!text(&faults, "f", b"version: 2", false).contains('\u{1b}'));
    }

    #[test]
    fn programs_get_json() {
        let faults = load(b"version: 2\nlegacy: http://127.0.0.1:1").faults;
        let value = json(&faults, "f");
        assert_eq!(value["faults"][0]["place"]["line"], 1);
        assert_eq!(value["faults"][0]["path"], "version");
    }
}

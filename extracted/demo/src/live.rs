//! A line per route, while the demo runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, Instant};

use crate::metrics::{self, RouteCounts};
use crate::parts::{self, Crew};
use crate::say;
use crate::stop::Stop;

/// Shows the routes until a stop is asked for or the time is over. An error: a part has ended by itself.
pub(crate) fn watch(crew: &mut Crew, admin: u16, stop: &Stop, until: Option<Instant>) -> io::Result<()> {
    let is_terminal = io::stdout().is_terminal();
    // On a terminal the table is written over itself; in a log each one stays.
    let every = Duration::from_secs(if is_terminal { 1 } else { 10 });
    let mut shown_lines = 0;
    let mut last: BTreeMap<String, RouteCounts> = BTreeMap::new();
    let mut last_at = Instant::now();
    let is_over = || stop.is_asked() || until.is_some_and(|end| Instant::now() >= end);
    while !is_over() {
        crew.demand_all_run()?;
        // A slow answer is no reason to end: what runs is asked of the processes.
        if let Ok(answer) = parts::get(admin, "/metrics", Duration::from_secs(2)) {
            let now = metrics::by_route(&answer.body);
            let whole = table(&now, &last, last_at.elapsed().as_secs_f64());
            let table = if is_terminal { fitted(&whole) } else { whole };
            let back =
                if is_terminal && shown_lines > 0 { format!("\x1b[{shown_lines}A\x1b[J") } else { String::new() };
            say(&format!("{back}{table}"))?;
            shown_lines = table.lines().count();
            (last, last_at) = (now, Instant::now());
        }
        let next = Instant::now() + every;
        while Instant::now() < next && !is_over() {
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

fn table(now: &BTreeMap<String, RouteCounts>, last: &BTreeMap<String, RouteCounts>, seconds: f64) -> String {
    let mut out = format!(
        "{:<16}{:<10}{:>8}{:>7}{:>8}{:>10}{:>5}{:>9}{:>7}{:>7}{:>7}\n",
        "route", "stage", "weight", "req/s", "legacy", "extracted", "5xx", "fallback", "copies", "same", "differ"
    );
    for (route, it) in now {
        let before = last.get(route).map_or(0.0, |before| before.legacy + before.extracted);
        let rate =
            if last.is_empty() { 0.0 } else { (it.legacy + it.extracted - before).max(0.0) / seconds.max(0.001) };
        let weight = format!("{:.2}%", it.weight * 100.0);
        let _ = writeln!(
            out,
            "{route:<16}{:<10}{:>8}{rate:>7.1}{:>8}{:>10}{:>5}{:>9}{:>7}{:>7}{:>7}",
            it.stage, weight, it.legacy, it.extracted, it.failed, it.fallbacks, it.copies, it.same, it.different
        );
    }
    out
}

/// A line that wraps could not be written over, nor could one that has scrolled away.
fn fitted(table: &str) -> String {
    let (columns, rows) = rustix::termios::tcgetwinsize(io::stdout())
        .map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    // Some terminals do not tell their size.
    let (columns, rows) = (if columns == 0 { 80 } else { columns }, if rows == 0 { 24 } else { rows });
    let lines = table.lines().take(rows.saturating_sub(2).max(1));
    lines.map(|line| line.chars().take(columns - 1).collect::<String>() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_what_came_since_the_last() {
        let counts =
            |legacy: f64| BTreeMap::from([("pay".to_owned(), RouteCounts { legacy, ..RouteCounts::default() })]);
        let text = table(&counts(30.0), &counts(10.0), 2.0);
        let line: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(line[..4], ["pay", "0.00%", "10.0", "30"]);
    }
}

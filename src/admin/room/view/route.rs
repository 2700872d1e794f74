//! One route: its charts, its ladder, and what may be done to it.

use strangler_core::chart::{lines, round_top, thinned};
use strangler_core::history::{Minute, Series};
use strangler_core::show;
use strangler_core::snapshot::RouteStatus;

use crate::admin::room::view::{RolloutSeen, overview::spaced};

/// Size of a chart, in its own units.
pub(crate) const CHART: (f64, f64) = (600.0, 120.0);
const POINTS_MAX: usize = 300;
/// Marks of one chart.
const MARKS_MAX: usize = 50;

/// Something that happened, on a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at_unix_ms: u64,
    pub(crate) words: String,
}

/// A place on a chart where something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) x: String,
    pub(crate) words: String,
}

/// One small chart of both sides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    /// Of legacy, of extracted.
    pub(crate) lines: [Vec<String>; 2],
    /// What the upper edge is.
    pub(crate) top: String,
    /// What it shows, for those who do not see it.
    pub(crate) summary: String,
    pub(crate) marks: Vec<Mark>,
    /// Whether there is anything to draw.
    pub(crate) is_empty: bool,
}

/// What a line shows of a minute.
type Pick = fn(&Minute, usize) -> Option<f64>;
/// Title, line, its values in words, and the upper edge where it is fixed.
type Kind = (&'static str, Pick, fn(f64) -> String, Option<f64>);

fn side(of: [u32; 2], side: usize) -> f64 {
    f64::from(of.get(side).copied().unwrap_or_default())
}

/// Nothing asked is a rate, too.
#[expect(clippy::unnecessary_wraps, reason = "one of several that draw a line")]
fn rate(minute: &Minute, at: usize) -> Option<f64> {
    Some(side(minute.answered, at) / 60.0)
}

fn errors(minute: &Minute, at: usize) -> Option<f64> {
    let (failed, answered) = (side(minute.failed, at), side(minute.answered, at));
    (answered + failed > 0.0).then(|| failed / (answered.max(failed)))
}

fn p99(minute: &Minute, at: usize) -> Option<f64> {
    let us = side(minute.p99_us, at);
    (us > 0.0).then_some(us)
}

/// Legacy's line is not there: one line is the part of pairs that were alike.
fn alike(minute: &Minute, at: usize) -> Option<f64> {
    let (compared, mismatched) = (f64::from(minute.compared), f64::from(minute.mismatched));
    (at == 1 && compared > 0.0).then(|| (compared - mismatched).max(0.0) / compared)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and bounded")]
fn ms(us: f64) -> String {
    show::duration(Some(us.min(1e9) as u32))
}

/// The charts of a route over its last `hours`, with what happened to it meanwhile.
pub(crate) fn charts(series: &Series, hours: u64, events: &[Event]) -> Vec<Chart> {
    let newest = series.minutes().next_back().map_or(0, |minute| minute.at);
    let span = u32::try_from(hours * 60).unwrap_or(u32::MAX);
    let minutes: Vec<&Minute> = series.minutes().filter(|minute| minute.at + span > newest).collect();
    // By the clock, so that a pause of the process is a gap.
    let first = minutes.first().map_or(0, |minute| minute.at);
    let places = usize::try_from(newest.saturating_sub(first)).unwrap_or(0) + 1;
    let kinds: [Kind; 4] = [
        ("Requests a second", rate, |value| show::rate(value), None),
        ("Errors", errors, show::percent, None),
        ("Slowest hundredth (p99)", p99, ms, None),
        ("Answers alike", alike, show::percent, Some(1.0)),
    ];
    kinds
        .into_iter()
        .map(|(title, pick, word, fixed)| {
            let values = [0, 1].map(|side| {
                let mut by_place = vec![None; if minutes.is_empty() { 0 } else { places }];
                for minute in &minutes {
                    let place = usize::try_from(minute.at - first).unwrap_or(0);
                    if let Some(slot) = by_place.get_mut(place) {
                        *slot = pick(minute, side);
                    }
                }
                thinned(&by_place, POINTS_MAX)
            });
            let largest = values.iter().flatten().flatten().copied().fold(0.0, f64::max);
            // Without a failure there is no edge to draw against: a hundredth is one.
            let least = if title == "Errors" { 0.01 } else { 0.0 };
            let top = fixed.unwrap_or_else(|| round_top(largest.max(least)));
            let is_empty = values.iter().flatten().all(Option::is_none);
            let last = |side: usize| values.get(side).and_then(|of| of.iter().rev().flatten().next().copied());
            let said = |side: usize| last(side).map_or_else(|| "nothing".to_owned(), word);
            let summary = if title == "Answers alike" {
                format!("{title}: {} at the end", said(1))
            } else {
                format!(
                    "{title}: legacy {}, extracted {} at the end; the upper edge is {}",
                    said(0),
                    said(1),
                    word(top)
                )
            };
            Chart {
                title,
                lines: values.each_ref().map(|of| lines(of, top, CHART.0, CHART.1)),
                top: word(top),
                summary,
                marks: marks(events, first, newest),
                is_empty,
            }
        })
        .collect()
}

fn marks(events: &[Event], first: u32, newest: u32) -> Vec<Mark> {
    let (from, to) = (f64::from(first) * 60.0, f64::from(newest.max(first + 1)) * 60.0);
    let place = |event: &Event| {
        #[expect(clippy::cast_precision_loss, reason = "a place on a chart")]
        let at = event.at_unix_ms as f64 / 1_000.0;
        (first > 0 && at >= from && at <= to + 60.0).then(|| ((at - from) / (to - from)).clamp(0.0, 1.0) * CHART.0)
    };
    let placed =
        events.iter().filter_map(|event| Some(Mark { x: format!("{:.1}", place(event)?), words: event.words.clone() }));
    placed.take(MARKS_MAX).collect()
}

/// A step of the ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rung {
    pub(crate) name: String,
    /// `done`, `here`, `next` or `later`.
    pub(crate) state: &'static str,
}

pub(crate) fn ladder(rollout: &RolloutSeen) -> Vec<Rung> {
    let here = rollout.steps.iter().position(|step| rollout.step.as_ref() == Some(step));
    let next = rollout.steps.iter().position(|step| rollout.next.as_ref() == Some(step));
    let state = |place: usize| match (here, next) {
        (Some(here), _) if place < here => "done",
        (Some(here), _) if place == here => "here",
        (_, Some(next)) if place == next => "next",
        _ => "later",
    };
    rollout.steps.iter().enumerate().map(|(place, step)| Rung { name: spaced(step), state: state(place) }).collect()
}

/// A gate as a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GateRow {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) tone: &'static str,
    pub(crate) why: String,
    pub(crate) price: String,
}

pub(crate) fn gates(rollout: &RolloutSeen) -> Vec<GateRow> {
    rollout
        .gates
        .iter()
        .map(|(name, gate)| {
            let (state, tone) = match gate.state.as_str() {
                "passed" => ("passed", "good"),
                "failed" => ("failed", "bad"),
                "not_applicable" => ("not applicable", "off"),
                _ => ("open", "wait"),
            };
            let price = match (gate.needs_requests, gate.eta_s) {
                (Some(requests), Some(seconds)) => {
                    format!("about {} more requests, {}", show::grouped(requests), show::span(seconds))
                }
                (Some(requests), None) => format!("about {} more requests", show::grouped(requests)),
                (None, Some(seconds)) => show::span(seconds),
                (None, None) => String::new(),
            };
            GateRow { name: name.replace('_', " "), state, tone, why: gate.why.clone(), price }
        })
        .collect()
}

/// What may be done to a route as it is, most urgent last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a button")]
pub(crate) struct Doable {
    pub(crate) weight: bool,
    pub(crate) hold: bool,
    pub(crate) resume: bool,
    pub(crate) approve: bool,
    pub(crate) roll_back: bool,
    pub(crate) kill: bool,
    pub(crate) unkill: bool,
}

pub(crate) fn doable(status: &RouteStatus, rollout: Option<&RolloutSeen>) -> Doable {
    let is_kept = rollout.is_some_and(|one| one.held.is_some() || one.latched.is_some());
    Doable {
        weight: rollout.is_none() && !status.located,
        hold: rollout.is_some_and(|one| one.held.is_none()),
        resume: is_kept,
        approve: rollout
            .is_some_and(|one| one.next.is_some() && one.waits_for.iter().any(|wait| wait.contains("approval"))),
        roll_back: rollout.is_some_and(|one| one.step.is_some() && one.latched.is_none()),
        kill: !status.kills.iter().any(|kill| kill.source == "api" && kill.scope == status.name),
        unkill: status.kills.iter().any(|kill| kill.source != "file" && kill.scope == status.name),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use strangler_core::history::{Counts, History, Reading};

    use super::*;
    use crate::admin::room::view::GateSeen;

    fn history() -> History {
        let mut history = History::new(vec![1_000, 10_000]);
        for minute in 100..=160u64 {
            let mut counts =
                Counts { answered: [minute * 540, minute * 60], failed: [0, minute * 6], ..Counts::default() };
            (counts.compared, counts.mismatched) = (minute * 10, minute);
            counts.times[0][1] = minute * 540;
            let one = Reading { counts, ..Reading::default() };
            history.note(minute * 60_000, &counts, &BTreeMap::from([("cart".to_owned(), one)]));
        }
        history
    }

    #[test]
    fn both_sides_are_drawn_with_what_happened() {
        let history = history();
        let happened = [(7_800_000, "ann: 10 %"), (1, "long ago")];
        let events = happened.map(|(at_unix_ms, words)| Event { at_unix_ms, words: words.to_owned() });
        let charts = charts(history.route("cart").unwrap(), 1, &events);
        let told: Vec<(&str, &str)> = charts.iter().map(|chart| (chart.title, chart.top.as_str())).collect();
        assert_eq!(
            told,
            [
                ("Requests a second", "10"),
                ("Errors", "10 %"),
                ("Slowest hundredth (p99)", "10 ms"),
                ("Answers alike", "100 %")
            ]
        );
        assert!(charts[0].lines[0][0].starts_with("0.0,12.0 "), "{:?}", charts[0].lines);
        assert_eq!(charts[0].marks, [Mark { x: "305.1".to_owned(), words: "ann: 10 %".to_owned() }]);
        assert!(charts[3].lines[0].is_empty() && !charts[3].is_empty);
        assert_eq!(charts[1].summary, "Errors: legacy 0 %, extracted 10 % at the end; the upper edge is 10 %");
        assert!(
            super::charts(&Series::default(), 1, &events).iter().all(|chart| chart.is_empty && chart.marks.is_empty())
        );
    }

    #[test]
    fn the_ladder_says_where_it_is_and_the_gates_what_they_cost() {
        let gate =
            GateSeen { state: "open".to_owned(), needs_requests: Some(1_200), eta_s: Some(61), ..GateSeen::default() };
        let rollout = RolloutSeen {
            steps: ["shadow", "1%", "5%", "100%"].map(str::to_owned).to_vec(),
            step: Some("1%".to_owned()),
            next: Some("5%".to_owned()),
            gates: BTreeMap::from([("latency_p99".to_owned(), gate)]),
            ..RolloutSeen::default()
        };
        assert_eq!(
            ladder(&rollout).iter().map(|rung| rung.state).collect::<Vec<_>>(),
            ["done", "here", "next", "later"]
        );
        let row = &gates(&rollout)[0];
        assert_eq!(
            (row.name.as_str(), row.tone, row.price.as_str()),
            ("latency p99", "wait", "about 1\u{202f}200 more requests, 1 min")
        );
    }
}

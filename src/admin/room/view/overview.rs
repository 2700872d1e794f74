//! The overview: how far the migration is, and every route as a row.

use strangler_core::chart::{lines, thinned, wilson};
use strangler_core::history::{Counts, Minute, Now, Series};
use strangler_core::show;
use strangler_core::snapshot::RouteStatus;

use crate::admin::room::view::{Cells, RolloutSeen, Words};

/// Size of a row's line, in its own units.
pub(crate) const SPARK: (f64, f64) = (120.0, 28.0);
const SPARK_MINUTES: usize = 60;
/// With fewer pairs alike than that, seen from the upper end of the band, somebody has to look.
const ALIKE_LEAST: f64 = 0.999;
/// Below so many pairs a match rate says nothing yet.
const PAIRS_MIN: u64 = 50;

/// A route as a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) stage: String,
    /// The weight in force.
    pub(crate) weight: String,
    /// Width of its bar, 0 to 100.
    pub(crate) bar: String,
    /// What it should be or become; empty: that.
    pub(crate) wanted: String,
    /// The part that extracted answered, really.
    pub(crate) real: String,
    pub(crate) rps: String,
    /// Of legacy, of extracted.
    pub(crate) errors: [String; 2],
    pub(crate) error_tone: &'static str,
    /// Of legacy, of extracted.
    pub(crate) p99: [String; 2],
    pub(crate) matched: String,
    pub(crate) band: String,
    pub(crate) verdict: Words,
    pub(crate) waits: String,
    /// Points of two lines: requests of legacy, of extracted.
    pub(crate) spark: [String; 2],
}

/// What a row is made of.
pub(crate) struct About<'a> {
    pub(crate) status: &'a RouteStatus,
    pub(crate) rollout: Option<&'a RolloutSeen>,
    /// `closed`, `open`, `half_open`; `None`: it has none.
    pub(crate) breaker: Option<&'a str>,
    pub(crate) compare_verdict: Option<&'a str>,
    /// Since the process began.
    pub(crate) counts: Counts,
    pub(crate) now: Now,
    pub(crate) series: Option<&'a Series>,
}

impl Row {
    pub(crate) fn of(about: &About<'_>) -> Row {
        let (status, recent) = (about.status, &about.now.recent);
        let counts = &about.counts;
        let asked = |side: usize| {
            let answered = recent.answered.get(side).copied().unwrap_or_default();
            // A failure that legacy answered for is none of extracted's answers, but it was asked.
            if side == 1 { answered + recent.fallbacks } else { answered.saturating_sub(recent.fallbacks) }
        };
        let failed = |side: usize| recent.failed.get(side).copied().unwrap_or_default();
        let (low, high) = wilson(counts.compared.saturating_sub(counts.mismatched), counts.compared);
        let is_worse = failed(1) > 0 && failed(1) * asked(0).max(1) > 2 * failed(0).max(1) * asked(1).max(1);
        Row {
            name: status.name.clone(),
            owner: status.owner.clone().unwrap_or_default(),
            stage: status.stage.to_owned(),
            weight: spaced(&status.weight_in_force),
            bar: status.weight_in_force.trim_end_matches('%').to_owned(),
            wanted: wanted(status, about.rollout),
            real: show::share(recent.answered[1], recent.all()),
            rps: show::rate(about.now.per_second.iter().sum()),
            errors: [0, 1].map(|side| show::share(failed(side).min(asked(side)), asked(side))),
            error_tone: if is_worse { "bad" } else { "off" },
            p99: about.now.p99_us.map(show::duration),
            matched: if !status.compare || counts.compared == 0 {
                "–".to_owned()
            } else {
                show::share(counts.compared.saturating_sub(counts.mismatched), counts.compared)
            },
            band: match counts.compared {
                _ if !status.compare => "not compared".to_owned(),
                0 => "no pair yet".to_owned(),
                pairs => {
                    let (low, high) = (show::percent(low), show::percent(high));
                    format!("{} to {high} · {} pairs", low.trim_end_matches(" %"), show::grouped(pairs))
                }
            },
            verdict: verdict(about),
            waits: waits(about),
            spark: spark(about.series),
        }
    }

    /// What of it changes while one looks.
    pub(crate) fn cells(&self, into: &mut Cells) {
        let Row { name, verdict, .. } = self;
        for (key, value) in [
            ("stage", &self.stage),
            ("weight", &self.weight),
            ("bar", &self.bar),
            ("wanted", &self.wanted),
            ("real", &self.real),
            ("rps", &self.rps),
            ("el", &self.errors[0]),
            ("ee", &self.errors[1]),
            ("pl", &self.p99[0]),
            ("pe", &self.p99[1]),
            ("match", &self.matched),
            ("band", &self.band),
            ("verdict", &verdict.text),
            ("waits", &self.waits),
            ("sl", &self.spark[0]),
            ("se", &self.spark[1]),
        ] {
            into.insert(format!("r.{name}.{key}"), value.clone());
        }
        into.insert(format!("r.{name}.tone"), verdict.tone.to_owned());
        into.insert(format!("r.{name}.etone"), self.error_tone.to_owned());
    }
}

/// `10%` as people write it.
pub(crate) fn spaced(weight: &str) -> String {
    weight.strip_suffix('%').map_or_else(|| weight.to_owned(), |number| format!("{number} %"))
}

fn wanted(status: &RouteStatus, rollout: Option<&RolloutSeen>) -> String {
    if status.killed {
        return format!("{} once lifted", spaced(&status.weight));
    }
    if let Some(rollout) = rollout {
        return rollout
            .next
            .as_deref()
            .map_or_else(|| "top of the ladder".to_owned(), |next| format!("next {}", spaced(next)));
    }
    if status.weight == status.file_weight { String::new() } else { format!("file {}", spaced(&status.file_weight)) }
}

fn verdict(about: &About<'_>) -> Words {
    let status = about.status;
    if status.killed {
        return Words::new("bad", "killed: all to legacy");
    }
    if about.breaker.is_some_and(|state| state != "closed") {
        return Words::new("bad", "breaker open: legacy answers");
    }
    if let Some(rollout) = about.rollout {
        if rollout.latched.is_some() {
            return Words::new("bad", "rolled back");
        }
        match rollout.verdict.as_str() {
            "roll_back" => return Words::new("bad", "harm is proven"),
            "promote" => return Words::new("good", "proven harmless"),
            _ if rollout.held.is_some() => return Words::new("wait", "held by a person"),
            _ if rollout.step.is_some() => return Words::new("wait", "being proven"),
            _ => {}
        }
    }
    of_comparing(status.compare, about.compare_verdict, &about.counts)
}

fn of_comparing(is_compared: bool, verdict: Option<&str>, counts: &Counts) -> Words {
    let (_, alike_most) = wilson(counts.compared.saturating_sub(counts.mismatched), counts.compared);
    match verdict {
        _ if !is_compared => Words::new("off", "not compared"),
        Some("divergent") => Words::new("bad", "answers differ"),
        Some("noisy") => Words::new("good", "differs as legacy does"),
        Some("expected") => Words::new("good", "differs as intended"),
        Some("equal") => Words::new("good", "answers are equal"),
        // Which field it is may not be sure yet; that too many pairs differ is.
        _ if alike_most < ALIKE_LEAST => Words::new("bad", "answers differ"),
        Some("suspect") => Words::new("wait", "answers may differ"),
        Some("not_comparable") => Words::new("off", "not comparable"),
        _ if counts.compared < PAIRS_MIN => Words::new("wait", "too little seen"),
        _ => Words::new("wait", "not proven yet"),
    }
}

fn waits(about: &About<'_>) -> String {
    if let Some(kill) = about.status.kills.first() {
        return format!("unkill ({}: {})", kill.by, kill.reason);
    }
    let Some(rollout) = about.rollout else {
        return about
            .status
            .moved
            .as_ref()
            .map(|moved| format!("by {}: {}", moved.by, moved.reason))
            .unwrap_or_default();
    };
    if let Some(why) = rollout.latched.as_ref().or(rollout.held.as_ref()) {
        return why.clone();
    }
    let first = rollout.waits_for.first().cloned().unwrap_or_default();
    match rollout.waits_for.len() {
        0 | 1 => first,
        more => format!("{first}, and {} more", more - 1),
    }
}

fn spark(series: Option<&Series>) -> [String; 2] {
    let Some(series) = series else { return [String::new(), String::new()] };
    let minutes: Vec<&Minute> = series.minutes().rev().take(SPARK_MINUTES).collect();
    let top = minutes.iter().flat_map(|minute| minute.answered).max().unwrap_or(0);
    [0, 1].map(|side| {
        let values: Vec<Option<f64>> =
            minutes.iter().rev().map(|minute| minute.answered.get(side).copied().map(f64::from)).collect();
        lines(&values, f64::from(top), SPARK.0, SPARK.1).join(" ")
    })
}

/// All routes together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Total {
    /// Of the last five minutes, by requests.
    pub(crate) share: String,
    /// Width of its bar.
    pub(crate) bar: String,
    /// Of the last day.
    pub(crate) share_day: String,
    pub(crate) rps: String,
    pub(crate) errors: [String; 2],
    pub(crate) p99: [String; 2],
    /// Copies and pairs since the process began.
    pub(crate) pairs: String,
    pub(crate) mismatched: String,
    pub(crate) fallbacks: String,
}

impl Total {
    pub(crate) fn of(counts: &Counts, now: &Now, series: &Series) -> Total {
        let recent = &now.recent;
        let day = series.minutes().fold([0u64; 2], |sum, minute| {
            [sum[0] + u64::from(minute.answered[0]), sum[1] + u64::from(minute.answered[1])]
        });
        Total {
            share: show::share(recent.answered[1], recent.all()),
            bar: format!("{:.1}", part(recent.answered[1], recent.all()) * 100.0),
            share_day: show::share(day[1], day[0] + day[1]),
            rps: show::rate(now.per_second.iter().sum()),
            errors: [0, 1].map(|side: usize| {
                let of = recent.answered.get(side).copied().unwrap_or_default();
                show::share(recent.failed.get(side).copied().unwrap_or_default().min(of), of)
            }),
            p99: now.p99_us.map(show::duration),
            pairs: show::grouped(counts.compared),
            mismatched: show::grouped(counts.mismatched),
            fallbacks: show::grouped(recent.fallbacks),
        }
    }

    pub(crate) fn cells(&self, into: &mut Cells) {
        for (key, value) in [
            ("share", &self.share),
            ("bar", &self.bar),
            ("day", &self.share_day),
            ("rps", &self.rps),
            ("el", &self.errors[0]),
            ("ee", &self.errors[1]),
            ("pl", &self.p99[0]),
            ("pe", &self.p99[1]),
            ("pairs", &self.pairs),
            ("mismatched", &self.mismatched),
            ("fallbacks", &self.fallbacks),
        ] {
            into.insert(format!("t.{key}"), value.clone());
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
pub(crate) fn part(hits: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { hits as f64 / of as f64 }
}

/// The migrated share over time.
pub(crate) struct ShareChart {
    /// Points of lines; more than one where nothing was asked for a while.
    pub(crate) lines: Vec<String>,
    /// The same as areas.
    pub(crate) areas: Vec<String>,
    /// How long it covers, in words.
    pub(crate) span: String,
}

/// At most so many points over the width.
const POINTS_MAX: usize = 240;
pub(crate) const SHARE: (f64, f64) = (600.0, 100.0);

impl ShareChart {
    pub(crate) fn of(series: &Series) -> ShareChart {
        let share = |minute: &Minute| {
            let [legacy, extracted] = minute.answered;
            (legacy + extracted > 0).then(|| f64::from(extracted) / f64::from(legacy + extracted))
        };
        let values: Vec<Option<f64>> = series.minutes().map(share).collect();
        let lines = lines(&thinned(&values, POINTS_MAX), 1.0, SHARE.0, SHARE.1);
        let area = |line: &String| {
            let x = |point: Option<&str>| point.and_then(|point| point.split(',').next()).unwrap_or("0").to_owned();
            let (first, last) = (x(line.split(' ').next()), x(line.rsplit(' ').next()));
            format!("{first},{bottom} {line} {last},{bottom}", bottom = SHARE.1)
        };
        let areas = lines.iter().map(area).collect();
        ShareChart { areas, lines, span: show::span(u64::try_from(values.len()).unwrap_or(0) * 60) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use strangler_core::fixture::{route, table};
    use strangler_core::history::{History, Reading};
    use strangler_core::runtime::RuntimeState;
    use strangler_core::snapshot::Snapshot;

    use super::*;

    fn status() -> RouteStatus {
        Snapshot::new(table(vec![route("cart", "/cart/{id}", "5%")]), &RuntimeState::default()).0.status(0).unwrap()
    }

    fn about<'a>(status: &'a RouteStatus, rollout: Option<&'a RolloutSeen>) -> About<'a> {
        About {
            status,
            rollout,
            breaker: None,
            compare_verdict: None,
            counts: Counts::default(),
            now: Now::default(),
            series: None,
        }
    }

    #[test]
    fn a_row_says_what_is_and_what_it_waits_for() {
        let status = RouteStatus { compare: true, ..status() };
        let counts = Counts { compared: 1_000, mismatched: 3, ..Counts::default() };
        let recent = Counts { answered: [95, 4], failed: [0, 1], fallbacks: 1, ..Counts::default() };
        let now = Now { per_second: [9.0, 1.0], recent, p99_us: [Some(40_000), Some(25_000)] };
        let row = Row::of(&About { counts, now, compare_verdict: Some("suspect"), ..about(&status, None) });
        assert_eq!((row.weight.as_str(), row.real.as_str(), row.rps.as_str()), ("5 %", "4 %", "10"));
        assert_eq!(row.errors, ["0 %", "20 %"], "what legacy answered for is extracted's failure");
        assert_eq!((row.matched.as_str(), row.band.as_str()), ("99.7 %", "99.12 to 99.9 % · 1\u{202f}000 pairs"));
        assert_eq!((row.verdict.tone, row.verdict.text.as_str()), ("bad", "answers differ"), "whatever field it is");
        let few = Counts { compared: 1_000, mismatched: 1, ..Counts::default() };
        let row_of_few = Row::of(&About { counts: few, now, compare_verdict: Some("suspect"), ..about(&status, None) });
        assert_eq!((row_of_few.verdict.tone, row_of_few.verdict.text.as_str()), ("wait", "answers may differ"));
        let mut cells = Cells::new();
        row.cells(&mut cells);
        assert_eq!(cells.get("r.cart.pe").map(String::as_str), Some("25 ms"));
    }

    #[test]
    fn the_worst_is_said_first() {
        let plain = status();
        let killed = RouteStatus { killed: true, ..plain.clone() };
        let latched = RolloutSeen {
            latched: Some("by rollout: errors".to_owned()),
            verdict: "promote".to_owned(),
            ..RolloutSeen::default()
        };
        assert_eq!(Row::of(&about(&killed, Some(&latched))).verdict.text, "killed: all to legacy");
        let row = Row::of(&about(&plain, Some(&latched)));
        assert_eq!((row.verdict.text.as_str(), row.waits.as_str()), ("rolled back", "by rollout: errors"));
        let open = About { breaker: Some("open"), ..about(&plain, None) };
        assert_eq!(Row::of(&open).verdict.tone, "bad");
        assert_eq!(Row::of(&about(&plain, None)).verdict.text, "not compared");
    }

    #[test]
    fn the_share_is_drawn_with_gaps_where_nothing_was_asked() {
        let mut history = History::new(vec![1_000]);
        for minute in 0..4u64 {
            let counts = Counts { answered: [minute.min(2) * 50, minute.min(2) * 50], ..Counts::default() };
            history.note(minute * 60_000, &counts, &BTreeMap::from([("a".to_owned(), Reading::default())]));
        }
        let chart = ShareChart::of(history.total());
        assert_eq!((chart.lines, chart.span.as_str()), (vec!["0.0,50.0 300.0,50.0".to_owned()], "3 min"));
        assert_eq!(chart.areas, ["0.0,100 0.0,50.0 300.0,50.0 300.0,100"]);
    }
}

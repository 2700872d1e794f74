//! `strangler judge`: counts in, a verdict out; or rollouts in simulated time.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::{Value, json};
use strangler_core::judge::simulate::{Chance, Counted, Setting, median, rollout};
use strangler_core::judge::words;
use strangler_core::judge::{GateName, Verdict};
use strangler_core::weight::Weight;

use crate::args::{Format, JudgeArgs};
use crate::config::{evidence, render, yaml};

/// Why nothing could be judged.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The evidence could not be read.
    #[error("cannot read {name}")]
    Read {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// There is nothing to simulate.
    #[error("nothing can be simulated with that")]
    Setting,
    /// Whoever reads the output has gone.
    #[error("cannot write the verdict")]
    Write(#[from] io::Error),
}

impl JudgeError {
    /// 1 failed, 2 usage.
    pub const fn exit_code(&self) -> u8 {
        match self {
            JudgeError::Read { .. } | JudgeError::Write(_) => 1,
            JudgeError::Setting => 2,
        }
    }
}

/// Judges, prints, and answers 0 whatever the verdict; 78 where the evidence is refused.
pub fn judge(args: &JudgeArgs, out: &mut dyn Write) -> Result<ExitCode, JudgeError> {
    let Some(path) = args.evidence.as_deref().filter(|_| !args.simulate) else {
        return simulate(args, out);
    };
    let (name, text) = read(path)?;
    let loaded = evidence::load(&text);
    let shown = render::text(&loaded.faults, &name, &text, io::stderr().is_terminal());
    // Not beside the verdict: a program reads that.
    let _ = write!(io::stderr().lock(), "{shown}");
    let Some((gates, evidence)) = loaded.read else {
        return Ok(ExitCode::from(78));
    };
    let verdict = strangler_core::judge::judge(&gates, &evidence);
    let text = match args.format {
        Format::Json => format!("{}\n", serde_json::to_string(&verdict).map_err(io::Error::other)?),
        Format::Text => in_words(&verdict),
    };
    write(out, &text)?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<(String, Vec<u8>), JudgeError> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "the standard input".to_owned() } else { path.display().to_string() };
    let mut text = Vec::new();
    // One byte more than is taken, so that the reader can say that it is too much.
    let most = yaml::BYTES_MAX as u64 + 1;
    let taken = if is_stdin {
        io::stdin().lock().take(most).read_to_end(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(most).read_to_end(&mut text))
    };
    taken.map_err(|source| JudgeError::Read { name: name.clone(), source })?;
    Ok((name, text))
}

fn write(out: &mut dyn Write, text: &str) -> io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `strangler judge … | head -1` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn in_words(verdict: &Verdict) -> String {
    let mut out = format!("{} ({}): {}\n", verdict.verdict.as_str(), verdict.reason.as_str(), verdict.why);
    if !verdict.gates.is_empty() {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["gate", "state", "harm", "no harm", "what it says"]);
        for (name, report) in &verdict.gates {
            let of = |ln_e: Option<f64>, threshold: fn((f64, f64)) -> f64| {
                let known = ln_e.zip(name.thresholds().map(threshold));
                known.map_or_else(String::new, |(ln_e, threshold)| format!("{} of {threshold:.0}", e(ln_e)))
            };
            let (harm, pass) = (of(report.log_e_harm, |(harm, _)| harm), of(report.log_e_pass, |(_, pass)| pass));
            let state = report.state.as_str().replace('_', " ");
            table.add_row([name.as_str().to_owned(), state, harm, pass, report.why.clone()]);
        }
        out.push('\n');
        for line in table.lines() {
            out.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
            out.push('\n');
        }
    }
    for (what, split) in [("assignments", verdict.assignments), ("completions", verdict.completions)] {
        if let Some(split) = split {
            let alarm = if split.is_alarm { "not split as the weight says" } else { "split as the weight says" };
            out.push_str(&format!("{what}: {alarm} (evidence {} of 1000)\n", e(split.log_e)));
        }
    }
    let missing: Vec<String> = missing(verdict);
    if !missing.is_empty() {
        out.push_str(&format!("not given: {}\n", missing.join(", ")));
    }
    out
}

/// What was not there to be looked at, and would have been.
fn missing(verdict: &Verdict) -> Vec<String> {
    let seen = &verdict.on;
    let mut out = Vec::new();
    let mut note = |is_missing: bool, what: &str| {
        if is_missing {
            out.push(what.to_owned());
        }
    };
    note(seen.stages.is_empty(), "stages");
    let is_split = seen.judged_step().is_some_and(Weight::is_split);
    let stage = seen.judged_stage();
    note(is_split && stage.extracted.units == 0, "extracted.units");
    note(is_split && stage.legacy.units == 0, "legacy.units");
    note(is_split && verdict.assignments.is_none(), "assignments (the split is not checked)");
    note(is_split && verdict.completions.is_none(), "completions (whether extracted hangs is not checked)");
    note(is_split && seen.before.units == 0, "before (whether legacy has become worse is not checked)");
    note(verdict.by.names(GateName::Mismatch) && seen.comparisons.compared == 0, "comparisons");
    out
}

/// Evidence for people: how many to one.
fn e(ln_e: f64) -> String {
    let e = ln_e.exp();
    match e {
        _ if e >= 1e6 => format!("10^{:.0}", ln_e / std::f64::consts::LN_10),
        _ if e >= 10.0 => format!("{e:.0}"),
        _ => format!("{e:.2}"),
    }
}

/// One cell of the table.
struct Cell {
    rps: f64,
    extracted_rate: Weight,
    setting: Setting,
    counted: Counted,
}

fn simulate(args: &JudgeArgs, out: &mut dyn Write) -> Result<ExitCode, JudgeError> {
    let mut cells = Vec::new();
    for extracted_rate in &args.extracted_rate {
        for rps in &args.rps {
            let setting = Setting::end_to_end(*rps, args.legacy_rate.ratio(), extracted_rate.ratio());
            let setting = setting.ok_or(JudgeError::Setting)?;
            cells.push(Cell { rps: *rps, extracted_rate: *extracted_rate, setting, counted: Counted::default() });
        }
    }
    let all = u64::from(args.runs) * cells.len() as u64;
    let done = AtomicU64::new(0);
    for (at, cell) in (0u64..).zip(&mut cells) {
        // Each run has a stream of its own, so that the number of threads changes nothing.
        cell.counted = runs(&cell.setting, args.seed, at << 32, u64::from(args.runs), &done, all);
    }
    let text = match args.format {
        Format::Json => format!("{}\n", as_json(args, &cells)),
        Format::Text => as_table(args, &cells),
    };
    write(out, &text)?;
    Ok(ExitCode::SUCCESS)
}

fn runs(setting: &Setting, seed: u64, stream: u64, count: u64, done: &AtomicU64, all: u64) -> Counted {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64).min(count).max(1);
    let of_thread = |thread: u64| {
        let mut ended = Vec::new();
        for run in (thread..count).step_by(usize::try_from(threads).unwrap_or(1)) {
            ended.push((run, rollout(setting, &mut Chance::new(seed, stream + run))));
            let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
            say_progress(so_far, all);
        }
        ended
    };
    let mut ended: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|thread| scope.spawn(move || of_thread(thread))).collect();
        started.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    ended.sort_unstable_by_key(|(run, _)| *run);
    let mut counted = Counted::default();
    for (_, ended) in ended {
        counted.count(ended);
    }
    counted
}

/// In place on a terminal; elsewhere a line for every tenth.
fn say_progress(so_far: u64, all: u64) {
    let mut err = io::stderr().lock();
    let is_terminal = err.is_terminal();
    let parts = if is_terminal { 100 } else { 10 };
    // Just when another part is full.
    if so_far * parts / all == (so_far - 1) * parts / all {
        return;
    }
    let _ = match (is_terminal, so_far == all) {
        (true, false) => write!(err, "\r{so_far} of {all} rollouts").and_then(|()| err.flush()),
        (true, true) => writeln!(err, "\r{so_far} of {all} rollouts"),
        (false, _) => writeln!(err, "{so_far} of {all} rollouts"),
    };
}

fn as_json(args: &JudgeArgs, cells: &[Cell]) -> Value {
    let one = |cell: &Cell| {
        json!({
            "rps": cell.rps,
            "extracted_rate": cell.extracted_rate.ratio(),
            "runs": cell.counted.runs(),
            "promoted": cell.counted.promoted_s.len(),
            "rolled_back": cell.counted.rolled_back_s.len(),
            "held": cell.counted.held,
            "median_promoted_s": median(&cell.counted.promoted_s),
            "median_rolled_back_s": median(&cell.counted.rolled_back_s),
        })
    };
    json!({
        "seed": args.seed,
        "legacy_rate": args.legacy_rate.ratio(),
        "formula_version": strangler_core::judge::FORMULA_VERSION,
        "cells": cells.iter().map(one).collect::<Vec<_>>(),
    })
}

fn as_table(args: &JudgeArgs, cells: &[Cell]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["extracted fails", "rps", "promoted", "median", "rolled back", "median", "held"]);
    for cell in cells {
        let (promoted, rolled_back) = cell.counted.parts();
        let after = |seconds: &[u64]| median(seconds).map_or_else(String::new, words::time);
        table.add_row([
            cell.extracted_rate.to_string(),
            cell.rps.to_string(),
            words::percent(promoted),
            after(&cell.counted.promoted_s),
            words::percent(rolled_back),
            after(&cell.counted.rolled_back_s),
            words::percent((1.0 - promoted - rolled_back).max(0.0)),
        ]);
    }
    let mut out = format!(
        "legacy fails {}; steps 5%, 10%, 25%, 50%; failures alone within 1pp; a day at most; {} rollouts each, seed {}\n\n",
        args.legacy_rate, args.runs, args.seed
    );
    for line in table.lines() {
        out.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
        out.push('\n');
    }
    out
}

//! `strangler compare`: two files, one verdict.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use strangler_core::compare::NotComparable;
use strangler_core::compare::rules::Idle;
use strangler_core::contract::{Media, Said, SaidError, Verdict, compare_answers, compare_documents};
use strangler_core::day::Day;
use strangler_core::route::ComparePolicy;

use crate::args::{CompareArgs, Format};
use crate::config::{ReadError, contract, read, render};

/// Largest file that is compared. Without `--rules` all of it is; a block says itself how much (`body.max_bytes`).
const BYTES_MAX: u64 = 64 << 20;
/// Longest value that is shown to people, in characters.
const VALUE_CHARS_MAX: usize = 120;
/// Exit status: something differs.
const DIFFERENT: u8 = 1;
/// Exit status: it could not be told.
const TROUBLE: u8 = 2;

/// Why two files could not be compared. All of them are exit status 2.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Standard input can be read once.
    #[error("one of the two may be `-`, the standard input; not both")]
    StdinTwice,
    /// A file could not be read.
    #[error("cannot read {name}")]
    Read {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// More than is compared.
    #[error("{name} has more than {} MiB, which is the most that is compared", BYTES_MAX >> 20)]
    TooLarge {
        /// Which.
        name: String,
    },
    /// The rules could not be read.
    #[error(transparent)]
    Rules(#[from] ReadError),
    /// With `--http`: it is no written answer.
    #[error("cannot take {name} for an answer")]
    Said {
        /// Which.
        name: String,
        /// Why.
        source: SaidError,
    },
    /// Whoever reads the output has gone.
    #[error("cannot write the verdict")]
    Write(#[from] io::Error),
}

/// Compares, prints, and answers 0 (equal), 1 (different) or 2 (it cannot be told).
pub fn compare(args: &CompareArgs, out: &mut dyn Write) -> Result<ExitCode, CompareError> {
    let stdin = Path::new("-");
    if args.left == stdin && args.right == stdin {
        return Err(CompareError::StdinTwice);
    }
    let Some(policy) = policy(args.rules.as_deref())? else {
        return Ok(ExitCode::from(TROUBLE));
    };
    let [left, right] = [Input::read(&args.left)?, Input::read(&args.right)?];
    let today = today();
    let verdict = if args.http {
        let [left, right] = answers(args.media, [&left, &right])?;
        compare_answers(&left, &right, &policy, today)
    } else {
        let media = args.media.unwrap_or_else(|| media([&left, &right]));
        compare_documents(&left.bytes, &right.bytes, media, &policy, today)
    };
    print(args, &verdict, &policy, out)?;
    say_idle(&verdict, args.rules.as_deref());
    Ok(match verdict {
        Verdict { equal: true, .. } => ExitCode::SUCCESS,
        Verdict { not_comparable: Some(_), .. } => ExitCode::from(TROUBLE),
        _ => ExitCode::from(DIFFERENT),
    })
}

/// `None`: it was refused, and why has been said.
fn policy(rules: Option<&Path>) -> Result<Option<ComparePolicy>, CompareError> {
    let Some(path) = rules else {
        return Ok(Some(ComparePolicy { body_bytes_max: BYTES_MAX, ..ComparePolicy::default() }));
    };
    let text = read(path)?;
    let loaded = contract::load(&text);
    let shown = render::text(&loaded.faults, &path.display().to_string(), &text, io::stderr().is_terminal());
    // Not beside the verdict: a program reads that.
    let _ = write!(io::stderr().lock(), "{shown}");
    Ok(loaded.policy)
}

/// A file, or the standard input.
struct Input {
    name: String,
    bytes: Vec<u8>,
}

impl Input {
    fn read(path: &PathBuf) -> Result<Input, CompareError> {
        let is_stdin = path == Path::new("-");
        let name = if is_stdin { "the standard input".to_owned() } else { path.display().to_string() };
        let mut bytes = Vec::new();
        let taken = if is_stdin {
            io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut bytes)
        } else {
            File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
        };
        match taken {
            Err(source) => Err(CompareError::Read { name, source }),
            Ok(_) if bytes.len() as u64 > BYTES_MAX => Err(CompareError::TooLarge { name }),
            Ok(_) => Ok(Input { name, bytes }),
        }
    }
}

/// As a name says (the left's first), else as the left looks: it is what the right is held against. An empty one looks like nothing.
fn media([left, right]: [&Input; 2]) -> Media {
    let by_name = Media::of_name(&left.name).or_else(|| Media::of_name(&right.name));
    by_name.unwrap_or_else(|| Media::of_content(if left.bytes.is_empty() { &right.bytes } else { &left.bytes }))
}

/// Where neither says what its body is, both are of the type that was told, or that the left looks like.
fn answers(told: Option<Media>, inputs: [&Input; 2]) -> Result<[Said; 2], CompareError> {
    let read = |input: &Input| {
        Said::parse(&input.bytes).map_err(|source| CompareError::Said { name: input.name.clone(), source })
    };
    let [left, right] = [read(inputs[0])?, read(inputs[1])?];
    if left.has_type() || right.has_type() {
        return Ok([left, right]);
    }
    let media = told.unwrap_or_else(|| Media::of_content(if left.body.is_empty() { &right.body } else { &left.body }));
    Ok([left, right].map(|said| said.or_type(media)))
}

fn print(args: &CompareArgs, verdict: &Verdict, policy: &ComparePolicy, out: &mut dyn Write) -> io::Result<()> {
    let text = match args.format {
        Format::Json => format!("{}\n", serde_json::to_string(verdict).map_err(io::Error::other)?),
        Format::Text => shown(verdict, policy),
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `strangler compare … | head -1` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn shown(verdict: &Verdict, policy: &ComparePolicy) -> String {
    let mut out = String::new();
    if !verdict.differences.is_empty() {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["place", "kind", "left", "right", "rule"]);
        for one in &verdict.differences {
            let place = if one.path.is_empty() { "(the whole)" } else { &one.path };
            let rule = one.rule.map_or_else(String::new, |rule| format!("rules[{rule}]"));
            let (left, right) = (value(one.left.as_deref()), value(one.right.as_deref()));
            table.add_row([plain(place), one.kind.as_str().to_owned(), left, right, rule]);
        }
        for line in table.lines() {
            out.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
            out.push('\n');
        }
    }
    let more = verdict.differences_total.saturating_sub(verdict.differences.len() as u64);
    if more > 0 {
        out.push_str(&format!("… and {more} more\n"));
    }
    for one in &verdict.warnings {
        out.push_str(&format!("beside them: {}\n", plain(&one.to_string())));
    }
    match (verdict.not_comparable, verdict.equal) {
        (Some(NotComparable::Truncated), _) => out.push_str(&format!(
            "cannot be compared: larger than the rules' `body.max_bytes` ({} bytes)\n",
            policy.body_bytes_max
        )),
        (Some(why), _) => out.push_str(&format!("cannot be compared: {}\n", why.as_str())),
        (None, true) => out.push_str("equal\n"),
        (None, false) => {}
    }
    out
}

fn value(text: Option<&str>) -> String {
    let Some(text) = text else { return "(nothing)".to_owned() };
    let cut: String = text.chars().take(VALUE_CHARS_MAX).collect();
    plain(&if cut.len() < text.len() { format!("{cut}…") } else { cut })
}

/// Nothing that a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A list of exceptions only grows unless somebody is told. Beside the verdict, for a program reads that; what has run out was said
/// when the rules were read.
fn say_idle(verdict: &Verdict, rules: Option<&Path>) {
    let Some(path) = rules else { return };
    let was_asked = |rule: usize| verdict.differences.iter().any(|one| one.rule == Some(rule));
    for (rule, why) in &verdict.idle_rules {
        if *why == Idle::Unused && !was_asked(*rule) {
            let _ = writeln!(io::stderr().lock(), "{}: rules[{rule}] was of no use here", path.display());
        }
    }
}

fn today() -> Day {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Day::of_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

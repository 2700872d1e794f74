//! `estate-load`: the shoppers as a program.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use estate_chassis::time::{SECOND_MS, now_ms};
use estate_load::args::Args;
use estate_load::run::{Plan, Progress, Summary, run};
use estate_load::target::Connections;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        eprintln!("estate-load: cannot watch for signals");
        return ExitCode::FAILURE;
    };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    };
    let plan = Plan {
        per_second: args.rate.per_second(),
        lasting: args.lasting.0,
        users: args.users,
        seed: args.seed,
        concurrency: args.concurrency,
        run: u64::try_from(now_ms() / SECOND_MS).unwrap_or(0),
    };
    let is_terminal = io::stdout().is_terminal();
    let every = Duration::from_secs(if is_terminal { 1 } else { 5 });
    let show = |progress: &Progress<'_>| {
        if !args.quiet {
            show(progress, is_terminal);
        }
    };
    let summary = run(Connections::to(args.target.clone()), plan, stop, every, show).await;
    if is_terminal && !args.quiet {
        say("\r\x1b[K");
    }
    sum_up(&summary)
}

fn show(progress: &Progress<'_>, is_terminal: bool) {
    let seconds = progress.elapsed.as_secs();
    let mut line = format!("{seconds:>5} s  {}", progress.total.line(progress.recent, progress.over));
    if is_terminal {
        // A line that wraps could not be written over.
        say(&format!("\r{line}\x1b[K"));
        return;
    }
    if let Some(failure) = progress.failure.filter(|_| progress.recent.failed > 0) {
        line.push_str("  last failure: ");
        line.push_str(failure);
    }
    say(&format!("{line}\n"));
}

/// 1 if a request failed on the way that the shopper had not given up.
fn sum_up(summary: &Summary) -> ExitCode {
    let tally = &summary.tally;
    let seconds = summary.elapsed.as_secs_f64();
    say(&format!("{} requests in {seconds:.1} s: {}\n", tally.requests(), tally.line(tally, summary.elapsed)));
    if let Some(failure) = &summary.failure {
        say(&format!("last failure: {failure}\n"));
    }
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A reader that went away is no reason to stop the load.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

//! The program: one command, one exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use strangler::args::{Args, Command};
use strangler::run::verbs::{self, Verdict};
use strangler::{args, cli, run};

/// Requests allocate: this costs them a ninth less than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let outcome = match Args::parse().command {
        Command::Run(args) => {
            drop(out);
            return run::start(*args).map_or_else(|error| fail(error.exit_code(), &error), |()| ExitCode::SUCCESS);
        }
        Command::Check(args) => verbs::check(&args, &mut out),
        Command::Explain(args) => verbs::explain(&args, &mut out),
        // Its own status: 2 is trouble, as `diff` has it.
        Command::Compare(args) => {
            return run::compare::compare(&args, &mut out).unwrap_or_else(|error| fail(2, &error));
        }
        Command::Judge(args) => {
            return run::judge::judge(&args, &mut out).unwrap_or_else(|error| fail(error.exit_code(), &error));
        }
        Command::Schema { config } => verbs::schema(config, &mut out),
        Command::OverrideToken(args) => verbs::override_token(&args, &mut out),
        Command::Completions { shell } => {
            args::completions(shell, &mut out);
            Ok(Verdict::Done)
        }
        Command::Client(command) => {
            let done = cli::run(&command, &mut out).map(|()| Verdict::Done);
            return done.map_or_else(|error| fail(error.exit_code(), &error), ExitCode::from);
        }
    };
    outcome.map_or_else(|error| fail(error.exit_code(), &error), ExitCode::from)
}

/// Says what went wrong, and why, each once.
fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    let mut text = format!("strangler: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    // Nobody reads it: the exit code still tells.
    let _ = writeln!(io::stderr().lock(), "{text}");
    ExitCode::from(code)
}

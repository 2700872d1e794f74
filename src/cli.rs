//! The verbs that ask a running proxy: over its admin API, for people as tables and for programs as the API's own JSON.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

mod client;
mod coverage;
mod endpoints;
mod latency;
mod show;
mod verdicts;

use crate::args::{
    AcceptArgs, AdminArgs, ApplyArgs, ApproveArgs, AuditArgs, ClientCommand, CoverageArgs, DivergencesArgs,
    EndpointsArgs, ExplainArgs, Format, KillArgs, ReplayArgs, RollbackArgs, RolloutArgs, ScopeArgs, StatusArgs,
    UnacceptArgs, UnkillArgs, UpgradeArgs, VerdictsArgs, WeightArgs,
};
use crate::cli::client::Client;
pub use crate::cli::client::ClientError;
use strangler_core::explain::{AskError, Asked};
use strangler_core::runtime::WeightAsk;
use strangler_core::snapshot::Snapshot;

const WATCH_EVERY: Duration = Duration::from_secs(2);

/// Why a verb did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The proxy could not be asked, or said no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The routes file was refused; the faults have been printed.
    #[error("the routes file was refused; what ran before runs on")]
    Refused,
    /// The audit is not what it was; where has been printed.
    #[error("the audit was tampered with, or its store was")]
    Tampered,
    /// No such endpoint was found.
    #[error("no endpoint {0:?} was found that no route covers; `strangler endpoints` shows those that were")]
    UnknownEndpoint(String),
    /// What is asked about is no request.
    #[error("cannot explain that")]
    Ask(#[from] AskError),
    /// Nothing can be started.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    /// Whoever reads the output has gone.
    #[error("cannot write the answer")]
    Write(#[from] io::Error),
}

impl CliError {
    /// 1 failed, 2 usage, 78 configuration refused.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Refused => 78,
            CliError::Ask(_) | CliError::Client(ClientError::Url { .. }) => 2,
            CliError::Client(_)
            | CliError::Runtime(_)
            | CliError::Tampered
            | CliError::UnknownEndpoint(_)
            | CliError::Write(_) => 1,
        }
    }
}

/// Runs one verb, and prints its answer to `out`.
pub fn run(command: &ClientCommand, out: &mut dyn Write) -> Result<(), CliError> {
    match command {
        ClientCommand::Apply(args) => apply(args, out),
        ClientCommand::Weight(args) => weight(args, out),
        ClientCommand::Kill(args) => kill(args, out),
        ClientCommand::Unkill(args) => unkill(args, out),
        ClientCommand::Status(args) => status(args, out),
        ClientCommand::Upgrade(args) => upgrade(args, out),
        ClientCommand::Divergences(args) => divergences(args, out),
        ClientCommand::Accept(args) => accept(args, out),
        ClientCommand::Unaccept(args) => unaccept(args, out),
        ClientCommand::Replay(args) => replay(args, out),
        ClientCommand::Audit(args) => audit(args, out),
        ClientCommand::Hold(args) => rollout("hold", args, out),
        ClientCommand::Resume(args) => rollout("resume", args, out),
        ClientCommand::Approve(args) => approve(args, out),
        ClientCommand::Rollback(args) => rollback(args, out),
        ClientCommand::Verdicts(args) => verdicts(args, out),
        ClientCommand::Coverage(args) => coverage(args, out),
        ClientCommand::Endpoints(args) => endpoints(args, out),
    }
}

/// Explains by a running proxy.
pub fn explain_running(args: &ExplainArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let body = json!({"method": args.method, "url": args.url, "headers": args.headers});
    let answer = Client::new(&args.admin)?.post_open("/api/v1/explain", &body)?;
    print(&args.admin, &answer, show::explanation, out)
}

/// Explains by a snapshot that was made from a file.
pub fn explain_snapshot(snapshot: &Snapshot, args: &ExplainArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let asked = Asked::parse(&args.method, &args.url, args.headers.iter().map(String::as_str))?;
    let explanation = strangler_core::explain::explain(snapshot, &asked.facts());
    let answer = serde_json::to_value(explanation).map_err(io::Error::other)?;
    print(&args.admin, &answer, show::explanation, out)
}

fn apply(args: &ApplyArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let body = json!({"accept_removals": args.accept_removals, "by": by()});
    let answer = match Client::new(&args.admin)?.post("/api/v1/config/apply", &body) {
        Err(ClientError::Refused { problem, body }) if problem.code == "refused" => {
            print(&args.admin, &body, show::applied, out)?;
            return Err(CliError::Refused);
        }
        other => other?,
    };
    print(&args.admin, &answer, show::applied, out)
}

fn weight(args: &WeightArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let weight = match args.weight {
        WeightAsk::To(weight) => weight.to_string(),
        WeightAsk::File => "file".to_owned(),
    };
    let body = json!({"weight": weight, "reason": args.reason, "accept_stale": args.accept_stale, "by": by()});
    let answer = Client::new(&args.admin)?.post(&format!("/api/v1/routes/{}/weight", args.route), &body)?;
    print(&args.admin, &answer, show::moved, out)
}

fn kill(args: &KillArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let body = json!({"reason": args.reason, "accept_stale": args.accept_stale, "by": by()});
    let answer = Client::new(&args.admin)?.post(&path(&args.scope, "kill"), &body)?;
    print(&args.admin, &answer, show::killed, out)
}

fn unkill(args: &UnkillArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let body = json!({"reason": args.reason, "by": by()});
    let answer = Client::new(&args.admin)?.post(&path(&args.scope, "unkill"), &body)?;
    print(&args.admin, &answer, show::lifted, out)
}

fn audit(args: &AuditArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let client = Client::new(&args.admin)?;
    if args.verify {
        let answer = client.get_guarded("/api/v1/audit/verify")?;
        print(&args.admin, &answer, show::audit_verified, out)?;
        return if answer.get("intact") == Some(&Value::Bool(true)) { Ok(()) } else { Err(CliError::Tampered) };
    }
    let route = args.route.as_ref().map(|route| format!("&route={route}")).unwrap_or_default();
    let answer = client.get_guarded(&format!("/api/v1/audit?limit={}{route}", args.limit))?;
    print(&args.admin, &answer, show::audit, out)
}

fn rollout(verb: &str, args: &RolloutArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let body = json!({"reason": args.reason, "by": by()});
    let answer = Client::new(&args.admin)?.post(&format!("/api/v1/routes/{}/rollout/{verb}", args.route), &body)?;
    print(&args.admin, &answer, show::rollout, out)
}

fn approve(args: &ApproveArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let step = args.step.map(|step| step.to_string());
    let body = json!({"reason": args.reason, "step": step, "by": by()});
    let answer = Client::new(&args.admin)?.post(&format!("/api/v1/routes/{}/rollout/approve", args.route), &body)?;
    print(&args.admin, &answer, show::rollout, out)
}

fn rollback(args: &RollbackArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let body = json!({"reason": args.reason, "accept_stale": args.accept_stale, "by": by()});
    let answer = Client::new(&args.admin)?.post(&format!("/api/v1/routes/{}/rollout/rollback", args.route), &body)?;
    print(&args.admin, &answer, show::rollout, out)
}

fn upgrade(args: &UpgradeArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let answer = Client::new(&args.admin)?.post("/api/v1/upgrade", &json!({"by": by()}))?;
    print(&args.admin, &answer, show::upgraded, out)
}

fn path(scope: &ScopeArgs, verb: &str) -> String {
    match &scope.route {
        Some(route) => format!("/api/v1/routes/{route}/{verb}"),
        None => format!("/api/v1/{verb}"),
    }
}

fn status(args: &StatusArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let client = Client::new(&args.admin)?;
    loop {
        let answer = whole_status(&client)?;
        if args.watch && args.admin.format == Format::Text {
            // Home, and clear what is below: no flicker, and the scroll-back stays.
            out.write_all(b"\x1b[H\x1b[J")?;
        }
        print(&args.admin, &answer, show::status, out)?;
        if !args.watch {
            return Ok(());
        }
        out.flush()?;
        std::thread::sleep(WATCH_EVERY);
    }
}

/// All pages as one answer.
fn whole_status(client: &Client) -> Result<Value, CliError> {
    let page = |had: usize| client.get(&format!("/api/v1/status?offset={had}"));
    whole(client.get("/api/v1/status")?, "routes", page)
}

/// `whole` with what all further pages list under `key`.
fn whole(mut whole: Value, key: &str, page: impl Fn(usize) -> Result<Value, ClientError>) -> Result<Value, CliError> {
    let total_key = format!("{key}_total");
    loop {
        let total = whole.get(&total_key).and_then(Value::as_u64).unwrap_or_default();
        let had = whole.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        if had as u64 >= total {
            return Ok(whole);
        }
        let mut next = page(had)?;
        let more = next.get_mut(key).and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
        if more.is_empty() {
            return Ok(whole);
        }
        if let Some(all) = whole.get_mut(key).and_then(Value::as_array_mut) {
            all.extend(more);
        }
    }
}

fn divergences(args: &DivergencesArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let mut path = format!("/api/v1/divergences?limit={}", args.limit);
    if let Some(route) = &args.route {
        let _ = write!(path, "&route={route}");
    }
    let answer = Client::new(&args.admin)?.get_guarded(&path)?;
    print(&args.admin, &answer, show::divergences, out)
}

fn accept(args: &AcceptArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let until = args.until.map(|day| day.to_string());
    let body = json!({"signature": args.signature, "until": until, "reason": args.reason, "by": by()});
    let answer = Client::new(&args.admin)?.post(&format!("/api/v1/routes/{}/accept", args.route), &body)?;
    print(&args.admin, &answer, show::accepted, out)
}

fn unaccept(args: &UnacceptArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let body = json!({"signature": args.signature, "reason": args.reason, "by": by()});
    let answer = Client::new(&args.admin)?.post(&format!("/api/v1/routes/{}/unaccept", args.route), &body)?;
    print(&args.admin, &answer, show::taken_back, out)
}

fn replay(args: &ReplayArgs, out: &mut dyn Write) -> Result<(), CliError> {
    // An id has letters and digits; anything else would be another path.
    let id: String = args.id.chars().filter(char::is_ascii_alphanumeric).collect();
    let body = json!({"headers": args.headers, "by": by()});
    let answer = Client::new(&args.admin)?.post(&format!("/api/v1/divergences/{id}/replay"), &body)?;
    print(&args.admin, &answer, show::replayed, out)
}

fn verdicts(args: &VerdictsArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let route = args.route.as_ref().map(|route| format!("?route={route}")).unwrap_or_default();
    let answer = Client::new(&args.admin)?.get_guarded(&format!("/api/v1/verdicts{route}"))?;
    print(&args.admin, &answer, |answer| verdicts::shown(answer) + &latency::shown(answer), out)
}

fn coverage(args: &CoverageArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let client = Client::new(&args.admin)?;
    if let Some(route) = &args.route {
        let answer = client.get_guarded(&format!("/api/v1/coverage/{route}"))?;
        return print(&args.admin, &answer, coverage::one, out);
    }
    let page = |had: usize| client.get_guarded(&format!("/api/v1/coverage?offset={had}"));
    let answer = whole(page(0)?, "routes", page)?;
    print(&args.admin, &answer, coverage::shown, out)
}

fn endpoints(args: &EndpointsArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let client = Client::new(&args.admin)?;
    let page = |had: usize| client.get_guarded(&format!("/api/v1/endpoints?offset={had}"));
    let answer = whole(page(0)?, "endpoints", page)?;
    if let Some(wanted) = &args.cover {
        let route = endpoints::cover(&answer, wanted).ok_or_else(|| CliError::UnknownEndpoint(wanted.clone()))?;
        return Ok(out.write_all(route.as_bytes())?);
    }
    print(&args.admin, &answer, endpoints::shown, out)
}

fn print(args: &AdminArgs, answer: &Value, show: fn(&Value) -> String, out: &mut dyn Write) -> Result<(), CliError> {
    let text = match args.format {
        Format::Json => format!("{answer:#}\n"),
        Format::Text => show(answer),
    };
    match out.write_all(text.as_bytes()) {
        // `strangler status | head -1` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Whoever is logged in: a hint for people who read the audit, not a proof.
fn by() -> Option<String> {
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|variable| std::env::var(variable).ok());
    name.filter(|name| !name.trim().is_empty() && name.len() <= 64)
}

#[cfg(test)]
mod tests;

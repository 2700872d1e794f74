//! The command line: what can be written, its defaults and its help. What it means is decided elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use strangler_core::contract::Media;
use strangler_core::day::Day;
use strangler_core::name::RouteName;
use strangler_core::runtime::WeightAsk;
use strangler_core::side::Side;

mod endpoints;
mod judge;
mod rollout;
mod run;

pub use crate::args::endpoints::EndpointsArgs;
pub use crate::args::judge::JudgeArgs;
pub use crate::args::rollout::{ApproveArgs, AuditArgs, RollbackArgs, RolloutArgs};
pub use crate::args::run::{AccessLog, Listen, RunArgs};

/// Where the admin plane is when nobody says otherwise.
pub const ADMIN_URL: &str = "http://127.0.0.1:9900";

/// A reverse proxy that takes a monolith apart in production, route by route, by evidence.
#[derive(Debug, Parser)]
#[command(name = "strangler", version, about, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  strangler check routes.yaml
  strangler run --routes routes.yaml --listen 0.0.0.0:8080 --state-dir /var/lib/strangler
  strangler explain GET /api/v1/carts/7/total -H 'x-user-id: 42'
  strangler weight cart-total 10% --reason 'a quiet hour at 5%'
  strangler kill cart-total --reason 'wrong totals'
  strangler divergences cart-total --limit 5
  strangler compare legacy.json extracted.json --rules compare.yaml
  strangler judge evidence.json

Exit status: 0 done, 1 failed, 2 usage, 78 configuration refused.";

/// Everything the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the proxy.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Says all that is wrong with a routes file, or with strangler.yaml; exit 78 if anything is.
    #[command(after_help = "Examples:\n  strangler check routes.yaml\n  strangler check --config strangler.yaml")]
    Check(CheckArgs),
    /// Says which route a request takes and why not the others, its key, bucket and side; from a file or a running proxy.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Compares two bodies, or two answers, as the sides of a route are compared; exit 1 if they differ, 2 if it cannot be told.
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(CompareArgs),
    /// Says what the judge makes of counts in a file: promote, hold or roll back, and by which numbers; whatever it says, exit 0.
    #[command(after_help = judge::EXAMPLES)]
    Judge(JudgeArgs),
    /// Prints the JSON Schema of routes.yaml, or of strangler.yaml.
    Schema {
        /// That of strangler.yaml.
        #[arg(long)]
        config: bool,
    },
    /// Makes a signed override for testers.
    OverrideToken(OverrideTokenArgs),
    /// Prints completions for a shell.
    #[command(after_help = "Example:\n  strangler completions bash > /etc/bash_completion.d/strangler")]
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// What is asked of a running proxy.
    #[command(flatten)]
    Client(ClientCommand),
}

const RUN_EXAMPLES: &str = "\
Examples:
  strangler run
  strangler run --routes routes.yaml --listen 0.0.0.0:8080 --telemetry 0.0.0.0:9901 --trusted-proxies 10.0.0.0/8
  strangler run --config /etc/strangler/strangler.yaml --routes /etc/strangler/routes.yaml

Signals: TERM or INT ends it once requests under way have ended (a second one at once), HUP loads the routes file,
USR1 kills every route, USR2 starts a new binary and hands the sockets over.

Every flag can be given by its variable instead, several values with commas.
A file that is refused starts from the last good one, alarmed; with --strict it does not start.";

const COMPARE_EXAMPLES: &str = "\
Examples:
  strangler compare legacy.json extracted.json
  curl -s http://new/orders/7 | strangler compare legacy.json - --rules compare.yaml --format json
  strangler compare --http before.json after.json

The rules are what stands below `compare:` in routes.yaml. A type is told by --type, else by a file's name (.json .ndjson .html
.xml .form .txt .sse .bin; the left's first), else by the left's content. With --http a file is one answer,
{\"status\": 200, \"headers\": {\"vary\": \"accept\"}, \"body\": \"a text, or JSON\"}, and its content-type says the type.
Values are shown as they are.

Exit status: 0 equal, 1 different, 2 it cannot be told (also: the rules are refused, a file cannot be read).";

/// Of `compare`.
#[derive(Debug, ClapArgs)]
pub struct CompareArgs {
    /// What is expected; `-` is the standard input.
    pub left: PathBuf,
    /// What is held against it; `-` is the standard input.
    pub right: PathBuf,
    /// A `compare:` block.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// What the bodies are: json, ndjson, html, xml, form, text, events, bytes.
    #[arg(long = "type", value_name = "TYPE")]
    pub media: Option<Media>,
    /// The files are answers: status, headers and body.
    #[arg(long)]
    pub http: bool,
    /// How the verdict is printed.
    #[arg(long, default_value = "text", value_enum)]
    pub format: Format,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Of `check`.
#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    /// The routes file. Default: routes.yaml, unless --config is given alone.
    #[arg(env = "STRANGLER_ROUTES")]
    pub file: Option<PathBuf>,
    /// A strangler.yaml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to print what is wrong.
    #[arg(long, default_value = "text", value_enum)]
    pub format: Format,
}

/// How a running proxy is reached.
#[derive(Clone, Debug, ClapArgs)]
pub struct AdminArgs {
    /// The admin plane of the proxy.
    #[arg(long, env = "STRANGLER_ADMIN", default_value = ADMIN_URL, value_name = "URL")]
    pub admin: String,
    /// The admin token. Default: `admin-token` in the state directory.
    #[arg(long, env = "STRANGLER_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The state directory of the proxy.
    #[arg(long, env = "STRANGLER_STATE_DIR", default_value = "state", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// How to print the answer.
    #[arg(long, default_value = "text", value_enum)]
    pub format: Format,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  strangler explain GET /api/v1/carts/7/total -H 'x-user-id: 42'
  strangler explain GET http://shop.example.com/api/v1/carts/7/total --routes routes.yaml

With --routes the file is read and nobody is asked; without it a running proxy answers, kills and moved weights included.";

/// Of `explain`.
#[derive(Debug, ClapArgs)]
pub struct ExplainArgs {
    /// GET, POST, …
    pub method: String,
    /// A path, or a URL where the host matters.
    pub url: String,
    /// A header of the request; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Explain by this file instead of a running proxy.
    #[arg(long, value_name = "FILE")]
    pub routes: Option<PathBuf>,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Of `override-token`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example:\n  strangler override-token --host shop.example.com --route cart-total --side extracted --ttl 10m"
)]
pub struct OverrideTokenArgs {
    /// The host that will be asked, without port.
    #[arg(long, value_name = "NAME")]
    pub host: String,
    /// The route.
    #[arg(long, value_name = "ROUTE")]
    pub route: RouteName,
    /// The side that is to answer.
    #[arg(long, value_parser = side, value_name = "legacy|extracted")]
    pub side: Side,
    /// How long it is good for; 15 minutes at most.
    #[arg(long, default_value = "15m", value_name = "TIME", value_parser = duration)]
    pub ttl: Duration,
    /// The keys file of the proxy. Default: the one in the state directory.
    #[arg(long, env = "STRANGLER_KEYS_FILE", value_name = "FILE")]
    pub keys_file: Option<PathBuf>,
    /// The state directory of the proxy.
    #[arg(long, env = "STRANGLER_STATE_DIR", default_value = "state", value_name = "DIR")]
    pub state_dir: PathBuf,
}

/// What is asked of a running proxy.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Loads the routes file now, and says what came of it; exit 78 if it was refused.
    #[command(after_help = "Example:\n  strangler apply --accept-removals")]
    Apply(ApplyArgs),
    /// Moves a route's weight, until the file says another (a raise) or it is lifted by name (a lowering).
    #[command(after_help = WEIGHT_EXAMPLES)]
    Weight(WeightArgs),
    /// Sends all traffic of a route to legacy, at once and until it is lifted.
    #[command(after_help = KILL_EXAMPLES)]
    Kill(KillArgs),
    /// Lifts a kill.
    #[command(after_help = "Example:\n  strangler unkill cart-total --reason 'fixed in 1.4.2'")]
    Unkill(UnkillArgs),
    /// Shows who moved what, when and why, newest first; or whether anybody has tampered with that.
    #[command(after_help = "Examples:\n  strangler audit cart-total --limit 20\n  strangler audit --verify")]
    Audit(AuditArgs),
    /// Keeps a route's rollout where it is; harm still sends it back.
    #[command(after_help = "Example:\n  strangler hold cart-total --reason 'the sale begins'")]
    Hold(RolloutArgs),
    /// Lets a rollout rise again that was held, or rolled back (what was counted until then counts no more).
    #[command(after_help = "Example:\n  strangler resume cart-total --reason 'fixed in 1.4.2'")]
    Resume(RolloutArgs),
    /// Lets a rollout enter a step that `approve:` in the file names, once all else is as it should be.
    #[command(
        after_help = "Examples:\n  strangler approve cart-total --reason 'looked at the totals'\n  strangler approve cart-total --step 50% --reason MIG-142"
    )]
    Approve(ApproveArgs),
    /// Sends a rollout back now, to where its `roll_back_to` says; nothing rises before `resume` or another release.
    #[command(after_help = "Example:\n  strangler rollback cart-total --reason 'wrong totals'")]
    Rollback(RollbackArgs),
    /// Shows every route: its stage, the file's weight and the running one, and what to look at.
    #[command(after_help = "Examples:\n  strangler status\n  strangler status --watch")]
    Status(StatusArgs),
    /// Starts the binary anew and hands it the sockets; nobody is refused. If the new one fails, the old one goes on: exit 1.
    #[command(after_help = "Example:\n  install -m 755 strangler-1.1 /usr/local/bin/strangler && strangler upgrade")]
    Upgrade(UpgradeArgs),
    /// Shows the stored pairs of answers that differed, newest first.
    #[command(after_help = "Examples:\n  strangler divergences\n  strangler divergences cart-total --limit 5")]
    Divergences(DivergencesArgs),
    /// Takes a cause of divergences for an intended change: its pairs are `expected` from now on.
    #[command(after_help = ACCEPT_EXAMPLES)]
    Accept(AcceptArgs),
    /// Takes that back.
    #[command(
        after_help = "Example:\n  strangler unaccept cart-total 5b2d1c0f9a8e7d6c --reason 'it was a bug after all'"
    )]
    Unaccept(UnacceptArgs),
    /// Asks both sides again for a stored divergence, and prints what differs now (GET, HEAD and OPTIONS only).
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Shows what comparing has proven: for every endpoint and field whether it differs more than legacy from itself.
    #[command(after_help = "Examples:\n  strangler verdicts\n  strangler verdicts cart-total --format json")]
    Verdicts(VerdictsArgs),
    /// Shows what legacy was asked in the last seven days, and how much of it was compared; what is unseen is named.
    #[command(after_help = "Examples:\n  strangler coverage\n  strangler coverage cart-total --format json")]
    Coverage(CoverageArgs),
    /// Shows what the monolith is asked that no route covers, as templates, and what is dead or was never declared.
    #[command(after_help = endpoints::EXAMPLES)]
    Endpoints(EndpointsArgs),
}

/// Of `apply`.
#[derive(Debug, ClapArgs)]
pub struct ApplyArgs {
    /// Routes that carried users may be missing from the file.
    #[arg(long)]
    pub accept_removals: bool,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

const WEIGHT_EXAMPLES: &str = "\
Examples:
  strangler weight cart-total 10% --reason 'a quiet hour at 5%'
  strangler weight cart-total 1% --reason 'slow'      # holds whatever the file says, until lifted:
  strangler weight cart-total file --reason 'fixed'   # the file's weight is in force again";

/// Of `weight`.
#[derive(Debug, ClapArgs)]
pub struct WeightArgs {
    /// The route.
    pub route: RouteName,
    /// `10%`, `0.05%`, or `file` for what the file says.
    pub weight: WeightAsk,
    /// Why; shown beside the weight and kept in the audit.
    #[arg(long)]
    pub reason: String,
    /// Send users to legacy although the extracted service owns the data.
    #[arg(long)]
    pub accept_stale: bool,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

const KILL_EXAMPLES: &str = "\
Examples:
  strangler kill cart-total --reason 'wrong totals'
  strangler kill --all --reason 'incident 7'

Without the API: a line with the route's name (or *) in <state-dir>/kill, or SIGUSR1 for all.";

/// Of `kill`.
#[derive(Debug, ClapArgs)]
pub struct KillArgs {
    /// Which.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Why; kept in the audit.
    #[arg(long)]
    pub reason: String,
    /// Send users to legacy although the extracted service owns the data.
    #[arg(long)]
    pub accept_stale: bool,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Of `unkill`.
#[derive(Debug, ClapArgs)]
pub struct UnkillArgs {
    /// Which.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Why; kept in the audit.
    #[arg(long)]
    pub reason: String,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// One route or all.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub struct ScopeArgs {
    /// The route.
    pub route: Option<RouteName>,
    /// Every route.
    #[arg(long)]
    pub all: bool,
}

/// Of `status`.
#[derive(Debug, ClapArgs)]
pub struct StatusArgs {
    /// Show it anew every two seconds.
    #[arg(long)]
    pub watch: bool,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Of `upgrade`.
#[derive(Debug, ClapArgs)]
pub struct UpgradeArgs {
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Of `divergences`.
#[derive(Debug, ClapArgs)]
pub struct DivergencesArgs {
    /// Of this route only.
    pub route: Option<RouteName>,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

const ACCEPT_EXAMPLES: &str = "\
Example:
  strangler accept cart-total 5b2d1c0f9a8e7d6c --until 2026-12-31 --reason 'MIG-142: totals are rounded half up now'

`strangler divergences` lists causes with their signatures, and what is accepted. Until --until (its day included) a pair that differs
for accepted causes only is counted as `expected` and not stored.";

const REPLAY_EXAMPLES: &str = "\
Example:
  strangler replay 019a3f5c7d2e4b6a8c0d1e2f3a4b5c6d -H \"authorization: $TOKEN\"

What was not kept cannot be asked again: allow values of the path and the query with `compare: {keep: {target: [id]}}`. Credentials are
never kept; give them with -H.";

/// Of `accept`.
#[derive(Debug, ClapArgs)]
pub struct AcceptArgs {
    /// The route.
    pub route: RouteName,
    /// The cause's signature.
    pub signature: String,
    /// The last day on which it holds, as in 2026-12-31 (UTC). Default: no end.
    #[arg(long, value_name = "DAY")]
    pub until: Option<Day>,
    /// Why the change is intended; kept in the audit.
    #[arg(long)]
    pub reason: String,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Of `unaccept`.
#[derive(Debug, ClapArgs)]
pub struct UnacceptArgs {
    /// The route.
    pub route: RouteName,
    /// The cause's signature.
    pub signature: String,
    /// Why; kept in the audit.
    #[arg(long)]
    pub reason: String,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Of `replay`.
#[derive(Debug, ClapArgs)]
pub struct ReplayArgs {
    /// The divergence's id, as `strangler divergences` shows it.
    pub id: String,
    /// A header to send beside those on record; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Of `verdicts`.
#[derive(Debug, ClapArgs)]
pub struct VerdictsArgs {
    /// Of this route only.
    pub route: Option<RouteName>,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Of `coverage`.
#[derive(Debug, ClapArgs)]
pub struct CoverageArgs {
    /// Of this route only.
    pub route: Option<RouteName>,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Writes completions for a shell.
pub fn completions(shell: Shell, out: &mut dyn std::io::Write) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "strangler", &mut script);
    // Whoever reads may hang up early (`| head`): no news.
    let _ = out.write_all(&script);
}

fn side(text: &str) -> Result<Side, String> {
    let found = [Side::Legacy, Side::Extracted].into_iter().find(|side| side.as_str() == text);
    found.ok_or_else(|| "a side is `legacy` or `extracted`".to_owned())
}

/// `500ms`, `30s`, `15m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let read = |(unit, ms): (&str, u64)| {
        let number = text.strip_suffix(unit)?.parse::<u32>().ok()?;
        Some(Duration::from_millis(u64::from(number) * ms))
    };
    UNITS
        .into_iter()
        .find_map(read)
        .ok_or_else(|| "a time is a whole number with ms, s, m or h, as in `30s`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        Args::try_parse_from(line.split_whitespace()).map(|args| args.command)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn run_leaves_open_what_the_file_may_say() {
        let Ok(Command::Run(run)) = parsed("strangler run") else { panic!("run") };
        assert_eq!((run.listen, run.admin, run.state_dir), (Vec::new(), None, None));
        assert_eq!((run.config, run.routes), (None, PathBuf::from("routes.yaml")));
        assert_eq!((run.upgrade_deadline, run.telemetry, run.strict), (Duration::from_secs(30), None, false));
        let line = "strangler run --listen [::1]:80 --listen 0.0.0.0:81 --trusted-proxies 10.0.0.0/8,::1 --drain-deadline 500ms";
        let Ok(Command::Run(run)) = parsed(line) else { panic!("run") };
        assert_eq!((run.listen.len(), run.trusted_proxies.len()), (2, 2));
        assert_eq!(run.drain.drain_deadline, Some(Duration::from_millis(500)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_status_2() {
        for line in [
            "strangler",
            "strangler weight cart 10 --reason r",
            "strangler weight cart 10%",
            "strangler weight Cart 10% --reason r",
            "strangler kill --reason r",
            "strangler kill cart --all --reason r",
            "strangler run --threads 0",
            "strangler run --drain-deadline 30",
            "strangler run --trusted-proxies nonsense",
            "strangler run --listen localhost:80",
            "strangler run --limit-header-bytes 1GiB",
            "strangler run --limit-keep-alive 0s",
            "strangler divergences --limit 501",
            "strangler accept cart 5b2d1c0f9a8e7d6c",
            "strangler accept cart 5b2d1c0f9a8e7d6c --reason r --until tomorrow",
            "strangler compare a.json",
            "strangler compare a.json b.json --type yaml",
            "strangler override-token --host h --route r --side left",
            "strangler completions tcsh9",
        ] {
            assert_eq!(parsed(line).map(|_| ()).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn what_makes_sense_is_taken() {
        for line in [
            "strangler check",
            "strangler check routes.yaml --format json",
            "strangler explain GET /a -H a:b -H c:d --routes f",
            "strangler check --config strangler.yaml",
            "strangler schema",
            "strangler schema --config",
            "strangler accept cart 5b2d1c0f9a8e7d6c --reason r --until 2026-12-31",
            "strangler unaccept cart 5b2d1c0f9a8e7d6c --reason r",
            "strangler replay 019a -H a:b --format json",
            "strangler compare a.json - --rules r.yaml --http --type html --format json",
            "strangler upgrade --admin http://127.0.0.1:1",
            "strangler apply --accept-removals --admin http://127.0.0.1:1",
            "strangler weight cart file --reason r",
            "strangler kill --all --reason r --accept-stale",
            "strangler unkill cart --reason r",
            "strangler status --watch",
            "strangler divergences cart --limit 5 --format json",
            "strangler verdicts cart",
            "strangler coverage cart --format json",
            "strangler override-token --host h --route r --side legacy --ttl 5m",
            "strangler completions bash",
        ] {
            assert!(parsed(line).is_ok(), "{line}: {:?}", parsed(line).err());
        }
    }

    #[test]
    fn completions_name_the_verbs() {
        let mut script = Vec::new();
        completions(Shell::Bash, &mut script);
        assert!(String::from_utf8(script).unwrap().contains("override-token"));
    }
}

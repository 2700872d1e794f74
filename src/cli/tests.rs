use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use strangler_core::fixture::{route, table};
use strangler_core::route::{Data, Route, ShadowPolicy};
use strangler_core::table::RoutingTable;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::admin::control::Control;
use crate::admin::token::AdminTokens;
use crate::admin::{AdminState, ApplyOutcome, ApplyRequest, PlaneStatus, Readiness, RouteNumbers, serve};
use crate::args::{Args, Command};
use crate::live::Live;
use crate::store::{Keep, Store, StoreLimits, StoredDivergence, now_unix_ms};

/// A proxy's admin plane on a thread of its own, as the CLI meets it.
struct Running {
    dir: TempDir,
    url: String,
    store: Store,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn shop() -> Arc<RoutingTable> {
    let cart = Route { shadow: Some(ShadowPolicy::default()), ..route("cart-total", "/cart/{id}/total", "5%") };
    let pay = Route { data: Data::Extracted, ..route("pay", "/pay", "100%") };
    table(vec![cart, pay])
}

async fn loader(mut asked: mpsc::Receiver<ApplyRequest>) {
    while let Some(request) = asked.recv().await {
        let faults = vec!["routes.yaml:3:5: no such upstream\n  3 | extracted: x\n                 ^".to_owned()];
        let outcome = if request.accept_removals {
            ApplyOutcome { accepted: true, changed: true, revision: "abc".to_owned(), ..ApplyOutcome::default() }
        } else {
            ApplyOutcome { faults, revision: "old".to_owned(), ..ApplyOutcome::default() }
        };
        let _ = request.reply.send(outcome);
    }
}

impl Running {
    fn start() -> Running {
        let dir = TempDir::new().unwrap();
        let state_dir = dir.path().to_owned();
        let (stop, stopped) = oneshot::channel::<()>();
        let (report, reported) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (store, loaded) = Store::open(&state_dir, StoreLimits::default()).await;
                let (first, _) = Snapshot::new(shop(), &loaded.runtime);
                let live = Arc::new(Live::new(Arc::new(first), |_, _: Option<&()>| ()));
                let (apply, asked) = mpsc::channel(1);
                tokio::spawn(loader(asked));
                let state = AdminState {
                    control: Arc::new(Control::new(live, store.clone())),
                    tokens: Some(AdminTokens::read_or_make(&state_dir).unwrap().0),
                    hosts: Vec::new(),
                    metrics: Arc::new(String::new),
                    readiness: Arc::new(|| Readiness {
                        ready: true,
                        revision: "abc".to_owned(),
                        ..Readiness::default()
                    }),
                    numbers: Arc::new(|_| {
                        Some(RouteNumbers { requests_legacy: 95, failures_legacy: 2, ..RouteNumbers::default() })
                    }),
                    verdicts: Arc::new(|_, _| Vec::new()),
                    rollout: Arc::new(|_| None),
                    latencies: Arc::new(|_, _| Vec::new()),
                    coverage: Arc::new(|_, _| None),
                    endpoints: Arc::new(Default::default),
                    plane: Arc::new(PlaneStatus::default),
                    apply,
                    replay: Arc::new(|_| Box::pin(async { Err("nobody is there".to_owned()) })),
                    upgrade: mpsc::channel(1).0,
                };
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                report.send((listener.local_addr().unwrap(), store.clone())).unwrap();
                serve(listener, state, async move { drop(stopped.await) }).await.unwrap();
                store.close().await;
            });
        });
        let (address, store) = reported.recv().unwrap();
        Running { dir, url: format!("http://{address}"), store, stop: Some(stop), thread: Some(thread) }
    }

    fn ask(&self, line: &str) -> Result<String, (CliError, String)> {
        ask(line, &self.url, self.dir.path())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// `'…'` in the line holds words together.
fn ask(line: &str, url: &str, state_dir: &Path) -> Result<String, (CliError, String)> {
    let words = line.split('\'').enumerate().flat_map(|(at, piece)| match at % 2 {
        0 => piece.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        _ => vec![piece.to_owned()],
    });
    let state_dir = state_dir.display().to_string();
    let tail = ["--admin", url, "--state-dir", &state_dir].map(str::to_owned);
    let args = Args::try_parse_from(std::iter::once("strangler".to_owned()).chain(words).chain(tail));
    let mut out = Vec::new();
    let outcome = match args.unwrap_or_else(|error| panic!("{line}: {error}")).command {
        Command::Client(command) => run(&command, &mut out),
        Command::Explain(args) => explain_running(&args, &mut out),
        other @ (Command::Run(_)
        | Command::Check(_)
        | Command::Compare(_)
        | Command::Judge(_)
        | Command::Schema { .. }
        | Command::OverrideToken(_)
        | Command::Completions { .. }) => panic!("{other:?} is no verb of the client"),
    };
    let text = String::from_utf8(out).unwrap();
    // What was printed before a refusal matters, too.
    match outcome {
        Ok(()) => Ok(text),
        Err(error) => Err((error, text)),
    }
}

#[test]
fn a_weight_is_moved_and_the_status_says_so() {
    let proxy = Running::start();
    let moved = proxy.ask("weight cart-total 10% --reason 'a quiet hour'").unwrap();
    assert!(moved.starts_with("cart-total: 5% → 10%\n  a raise above the file's 5%: it ends when"), "{moved}");
    let lowered = proxy.ask("weight cart-total 1% --reason slow").unwrap();
    assert!(lowered.contains("a ceiling of 1%: it holds whatever the file says"), "{lowered}");
    let status = proxy.ask("status").unwrap();
    assert!(status.contains("ready · revision abc"), "{status}");
    let line = status.lines().find(|line| line.starts_with("cart-total ")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(
        words,
        ["cart-total", "canary", "5%", "1%", "95", "(2", "failed)", "0", "0", "legacy", "100%", "-", "-"]
    );
    assert!(status.contains("cart-total: file 5% · running 1% since "), "{status}");
    let lifted = proxy.ask("weight cart-total file --reason fixed").unwrap();
    assert!(lifted.contains("the ceiling is lifted; the file's 5% is in force again"), "{lifted}");
}

#[test]
fn a_kill_says_what_it_did_not_move() {
    let proxy = Running::start();
    let killed = proxy.ask("kill --all --reason 'incident 7'").unwrap();
    assert!(killed.starts_with("all routes killed: 1 route on legacy now\n! not moved"), "{killed}");
    let status = proxy.ask("status").unwrap();
    assert!(status.contains("! the kill of `*` (api) leaves pay where it is"), "{status}");
    assert!(status.contains("killed (canary)") && status.contains("all routes: killed (api) since"), "{status}");
    proxy.ask("kill cart-total --reason more").unwrap();
    let lifted = proxy.ask("unkill --all --reason over").unwrap();
    assert!(lifted.contains("! still killed by:\n  cart-total: killed (api)"), "{lifted}");
    let (refused, _) = proxy.ask("kill pay --reason r").unwrap_err();
    assert!(refused.to_string().contains("--accept-stale"), "{refused}");
    assert_eq!(refused.exit_code(), 1);
}

#[test]
fn a_refused_file_is_shown_with_all_its_faults() {
    let proxy = Running::start();
    let (refused, printed) = proxy.ask("apply").unwrap_err();
    assert_eq!(refused.exit_code(), 78);
    assert!(printed.starts_with("routes.yaml:3:5: no such upstream\n  3 | extracted: x\n"), "{printed}");
    assert!(printed.ends_with("refused: revision old stays in force\n"), "{printed}");
    assert_eq!(proxy.ask("apply --accept-removals").unwrap(), "revision abc is in force\n");
}

#[test]
fn a_divergence_names_its_place_and_both_values() {
    let proxy = Running::start();
    assert_eq!(proxy.ask("divergences").unwrap(), "no divergence is stored\n");
    let json = json!({
        "direction": "legacy->extracted", "method": "GET", "target": "/cart/<str len=2 #a1>/total", "differences_total": 3,
        "differences": [
            {"path": "/total_cents", "kind": "value", "legacy": "9781", "extracted": "9782"},
            {"path": "/note\u{1b}[2J", "kind": "missing", "legacy": "\"x\""},
        ],
    });
    let one = StoredDivergence {
        id: "d-1".to_owned(),
        at_unix_ms: now_unix_ms(),
        route: "cart-total".to_owned(),
        signature: "s".to_owned(),
        cause: json!({"place": "/total_cents", "kind": "value", "legacy": "integer", "extracted": "integer", "suggestion": "{…}"}).to_string(),
        json: json.to_string(),
    };
    assert!(proxy.store.record_divergence(
        one,
        Keep { per_signature: 5, score_ms: 0, age: Duration::from_secs(60), route_bytes_max: 1 << 30 }
    ));
    let mut shown = String::new();
    for _ in 0..400 {
        shown = proxy.ask("divergences cart-total --limit 5").unwrap();
        if shown.contains("d-1") {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let lines: Vec<String> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(lines[0].starts_with("cause route pairs place kind legacy → extracted"), "{shown}");
    assert!(lines[1].starts_with("s cart-total 1 /total_cents value integer → integer 20"), "{shown}");
    assert_eq!(lines[2], "if s is noise, this rule takes it: {…}");
    let lines = &lines[3..];
    assert!(lines[0].ends_with("cart-total GET /cart/<str len=2 #a1>/total (legacy answered) d-1"), "{shown}");
    assert_eq!(lines[1], "/total_cents value 9781 → 9782");
    assert_eq!(lines[2], "/note\u{fffd}[2J missing \"x\" → (nothing)", "nothing that a terminal obeys is printed");
    assert_eq!(lines[3], "… and 1 more");
    let parsed: Value = serde_json::from_str(&proxy.ask("divergences --format json").unwrap()).unwrap();
    assert_eq!(parsed["divergences"][0]["record"]["differences"][0]["legacy"], "9781");
}

#[test]
fn a_request_is_explained_by_a_proxy_and_by_a_file_alike() {
    let proxy = Running::start();
    let line = "explain GET http://shop/cart/7/total -H 'cookie: strangler_id=0123456789abcdef0123456789abcdef'";
    let by_proxy = proxy.ask(line).unwrap();
    assert!(by_proxy.contains("route     cart-total (/cart/{id}/total)"), "{by_proxy}");
    assert!(by_proxy.contains("not:\n    pay"), "{by_proxy}");
    let Ok(Args { command: Command::Explain(args) }) = Args::try_parse_from([
        "strangler",
        "explain",
        "GET",
        "http://shop/cart/7/total",
        "-H",
        "cookie: strangler_id=0123456789abcdef0123456789abcdef",
    ]) else {
        panic!("explain")
    };
    let snapshot = Snapshot::new(shop(), &strangler_core::runtime::RuntimeState::default()).0;
    let mut out = Vec::new();
    explain_snapshot(&snapshot, &args, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), by_proxy);
}

#[test]
fn an_error_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (nobody, _) = ask("status", &format!("http://{free}"), dir.path()).unwrap_err();
    assert!(nobody.to_string().contains("is `strangler run` up"), "{nobody}");
    assert_eq!(nobody.exit_code(), 1);
    let (no_token, _) = ask("kill --all --reason r", &format!("http://{free}"), dir.path()).unwrap_err();
    assert!(no_token.to_string().contains("--token-file"), "{no_token}");
    let (bad, _) = ask("status", "https://127.0.0.1:1", dir.path()).unwrap_err();
    assert_eq!(bad.exit_code(), 2);

    let proxy = Running::start();
    std::fs::write(dir.path().join("admin-token"), "not-the-right-token-at-all\n").unwrap();
    let (wrong, _) = ask("divergences", &proxy.url, dir.path()).unwrap_err();
    assert!(wrong.to_string().contains("this token is not the admin plane's"), "{wrong}");
    let (unknown, _) = proxy.ask("kill nobody --reason r").unwrap_err();
    assert_eq!(unknown.to_string(), "no route is named `nobody`");
}

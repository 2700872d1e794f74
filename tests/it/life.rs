//! How a process begins, ends and is replaced: nobody is refused, nobody is cut off, nothing is forgotten.

use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::backend::Backend;
use crate::support::proxy::{PATIENCE, Plan, Proxy, ask_admin, strangler};

/// Clients that each open a new connection for every request, and count those that are refused, reset or not answered.
struct NewConnections {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl NewConnections {
    fn start(address: SocketAddr, clients: usize) -> NewConnections {
        let (stop, done, failed) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..clients).map(|_| {
            let (stop, done, failed) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failed));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match one(address).await {
                        Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(why) => {
                            eprintln!("a connection failed: {why}");
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
        });
        let tasks = tasks.collect();
        NewConnections { stop, done, failed, tasks }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until so many more have been answered.
    async fn more(&self, count: u64) {
        let (until, target) = (Instant::now() + PATIENCE, self.done() + count);
        while self.done() < target {
            assert!(Instant::now() < until, "no more connections are answered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Good and failed ones.
    async fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        (self.done.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

async fn one(address: SocketAddr) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
    let request = b"GET /r HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.map_err(|error| format!("write: {error}"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(|error| format!("read: {error}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let is_good = answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("legacy");
    if is_good { Ok(()) } else { Err(format!("answered {answer:?}")) }
}

/// Runs `strangler upgrade` against a proxy, in a thread of its own: the load goes on.
pub(crate) async fn upgrade(proxy: &Proxy) -> Output {
    let mut command = strangler();
    command
        .arg("upgrade")
        .arg("--admin")
        .arg(format!("http://{}", proxy.admin))
        .arg("--state-dir")
        .arg(proxy.state_dir());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A link to the binary, that something else can be put in the place of.
fn linked(dir: &Path) -> PathBuf {
    let link = dir.join("strangler-link");
    symlink(env!("CARGO_BIN_EXE_strangler"), &link).unwrap();
    link
}

fn put(link: &Path, script: Option<&str>) {
    let new = link.with_extension("new");
    match script {
        Some(script) => {
            std::fs::write(&new, script).unwrap();
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        None => symlink(env!("CARGO_BIN_EXE_strangler"), &new).unwrap(),
    }
    std::fs::rename(new, link).unwrap();
}

const ROUTE: &str = "{name: r, match: '/other', extracted: extracted, weight: 50%}";

#[tokio::test]
async fn upgrades_refuse_and_reset_nobody_whatever_the_number_of_threads() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let config = tempfile::tempdir().unwrap();
    let file = config.path().join("strangler.yaml");
    std::fs::write(&file, "drain: {deadline: 10s}\n").unwrap();
    let plan = Proxy::between(&legacy, &extracted).route(ROUTE);
    let plan = plan.argument("--config").argument(file.to_str().unwrap()).without("--threads");
    std::fs::write(&file, "threads: 2\n").unwrap();
    let mut proxy = plan.start().await;
    let load = NewConnections::start(proxy.address, 64);
    load.more(50).await;

    let mut pids = vec![proxy.pid()];
    for threads in [3, 1, 2] {
        std::fs::write(&file, format!("threads: {threads}\n")).unwrap();
        let output = upgrade(&proxy).await;
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains(&format!("process {} ends", pids.last().unwrap())), "{}", text(&output));
        load.more(100).await;
        pids.extend(proxy.serving_pid());
    }
    let (done, failed) = load.stop().await;

    eprintln!("{done} new connections over 3 upgrades (2, 3, 1, 2 threads), {failed} failed");
    assert_eq!(failed, 0);
    pids.dedup();
    assert_eq!(pids.len(), 4, "{pids:?}");
    assert!(proxy.wait().success(), "the first process ends by itself");
    assert_eq!(proxy.count(r#"strangler_upgrades_total{result="taken_over"}"#).await, 1);
}

#[tokio::test]
async fn an_upgrade_that_fails_changes_nothing_and_is_told() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let dir = tempfile::tempdir().unwrap();
    let link = linked(dir.path());
    let plan = Proxy::between(&legacy, &extracted).program(link.clone());
    let proxy = plan.argument("--upgrade-deadline").argument("1s").start().await;
    let load = NewConnections::start(proxy.address, 4);

    put(&link, Some("#!/bin/sh\nexit 3\n"));
    let died = upgrade(&proxy).await;
    put(&link, Some("#!/bin/sh\nexec sleep 60\n"));
    let silent = upgrade(&proxy).await;
    put(&link, Some("#!/nowhere\n"));
    let no_program = upgrade(&proxy).await;
    load.more(50).await;

    for (output, why) in
        [(&died, "exit status: 3"), (&silent, "was not ready within 1 s"), (&no_program, "cannot start")]
    {
        assert_eq!(output.status.code(), Some(1), "{}", text(output));
        assert!(text(output).contains(why), "{}", text(output));
    }
    assert_eq!(proxy.count(r#"strangler_upgrades_total{result="failed"}"#).await, 2);
    assert_eq!(proxy.count(r#"strangler_upgrades_total{result="timed_out"}"#).await, 1);
    assert_eq!(proxy.serving_pid(), Some(proxy.pid()));
    assert_eq!(proxy.admin(Method::GET, "/readyz", "").await.status, 200);

    put(&link, None);
    proxy.signal("USR2");
    proxy.wait_for_log("the new process is ready");
    load.more(50).await;
    let (done, failed) = load.stop().await;
    eprintln!("{done} new connections over 3 failed upgrades and a good one by signal, {failed} failed");
    assert_eq!(failed, 0);
}

#[tokio::test]
async fn a_process_that_is_told_to_end_takes_its_unready_heir_along() {
    let legacy = Backend::answering(200, "legacy").await;
    let dir = tempfile::tempdir().unwrap();
    let link = linked(dir.path());
    let mut proxy = Proxy::between(&legacy, &legacy).program(link.clone()).start().await;
    let pid_file = dir.path().join("pid");
    put(&link, Some(&format!("#!/bin/sh\necho $$ > {0}.new\nmv {0}.new {0}\nexec sleep 600\n", pid_file.display())));

    proxy.signal("USR2");
    wait_until("the heir was never started", || pid_file.exists()).await;
    let heir = std::fs::read_to_string(&pid_file).unwrap();
    proxy.signal("TERM");

    assert!(proxy.wait().success());
    let heir = PathBuf::from(format!("/proc/{}/fd/1", heir.trim()));
    wait_until("the heir lives on", || !heir.exists()).await;
}

#[tokio::test]
async fn what_people_move_during_upgrades_is_not_lost() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let proxy = Proxy::between(&legacy, &extracted).route(ROUTE).start().await;
    let stop = Arc::<AtomicBool>::default();
    let mover = tokio::spawn({
        let (admin, state_dir, stop) = (proxy.admin, proxy.state_dir(), Arc::clone(&stop));
        async move {
            let (mut acknowledged, mut moved) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let weight = 1 + moved % 40;
                let body = format!(r#"{{"weight": "{weight}%", "reason": "test"}}"#);
                // Not acknowledged is not promised: a connection may end as the plane does.
                let answer = ask_admin(admin, &state_dir, Method::POST, "/api/v1/routes/r/weight", &body).await;
                if answer.is_ok_and(|it| it.status == 200) {
                    (acknowledged, moved) = (weight, moved + 1);
                }
            }
            (acknowledged, moved)
        }
    });

    for _ in 0..3 {
        let output = upgrade(&proxy).await;
        assert!(output.status.success(), "{}", text(&output));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (weight, moved) = mover.await.unwrap();
    let first = proxy.pid();
    // The signal goes to a process that has handed over already, if it still lives.
    let _ = std::process::Command::new("kill").args(["-USR1", &proxy.serving_pid().unwrap().to_string()]).status();
    let until = Instant::now() + PATIENCE;
    while !proxy.admin(Method::GET, "/api/v1/status", "").await.body.contains(r#""killed":true"#) {
        assert!(Instant::now() < until, "the kill is not in force");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let output = upgrade(&proxy).await;
    assert!(output.status.success(), "{}", text(&output));

    let status = proxy.admin(Method::GET, "/api/v1/status", "").await.body;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let route = &status["routes"][0];
    eprintln!("{moved} moves acknowledged over 3 upgrades, the last one {weight}%: {route}");
    assert!(moved > 0 && proxy.serving_pid() != Some(first));
    assert_eq!(route["killed"], true, "{route}");
    let audit = proxy.admin(Method::GET, "/api/v1/audit?limit=500", "").await.body;
    let audit: serde_json::Value = serde_json::from_str(&audit).unwrap();
    let upgrades = audit["audit"].as_array().unwrap().iter().filter(|entry| entry["what"] == "upgrade").count();
    assert_eq!(upgrades, 4, "each is on record");
    let lifted = proxy.admin(Method::POST, "/api/v1/unkill", r#"{"reason": "test"}"#).await;
    assert_eq!(lifted.status, 200, "{}", lifted.body);
    let status = proxy.admin(Method::GET, "/api/v1/status", "").await.body;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["routes"][0]["weight_in_force"], format!("{weight}%"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sigterm_fails_readiness_at_once_and_refuses_nobody_for_the_delay() {
    let legacy = Backend::with(|seen| {
        if seen.target == "/slow" {
            std::thread::sleep(Duration::from_secs(2));
        }
        Response::new("legacy".into())
    })
    .await;
    let extracted = Backend::answering(200, "extracted").await;
    let plan = Proxy::between(&legacy, &extracted).argument("--drain-delay").argument("10m");
    let mut proxy = plan.argument("--telemetry").argument("127.0.0.1:0").start().await;
    let load = NewConnections::start(proxy.address, 4);
    load.more(20).await;
    let slow = tokio::spawn({
        let address = proxy.address;
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /slow HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }
    });

    proxy.signal("TERM");
    proxy.wait_for_log("draining");
    let ready = proxy.admin(Method::GET, "/readyz", "").await;
    let alive = proxy.admin(Method::GET, "/livez", "").await;
    load.more(50).await;
    let (done, failed) = load.stop().await;

    eprintln!("{done} new connections, the last 50 of them after readiness had failed, {failed} failed");
    assert_eq!((ready.status, alive.status), (503, 200));
    assert!(ready.body.contains(r#""draining":true"#), "{}", ready.body);
    assert_eq!(failed, 0);
    assert!(slow.await.unwrap().ends_with("legacy"), "a request under way is answered");
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    assert!(TcpStream::connect(proxy.address).await.is_err());
}

#[tokio::test]
async fn the_delay_ends_by_itself_and_requests_under_way_are_answered_after_it() {
    let legacy = Backend::with(|_| {
        std::thread::sleep(Duration::from_secs(1));
        Response::new("legacy".into())
    })
    .await;
    let extracted = Backend::answering(200, "extracted").await;
    let mut proxy = Proxy::between(&legacy, &extracted).argument("--drain-delay").argument("100ms").start().await;
    let slow = tokio::spawn(one(proxy.address));
    let backend = &legacy;
    wait_until("the request never came", || backend.connections() == 1).await;

    proxy.signal("TERM");

    assert_eq!(slow.await.unwrap(), Ok(()));
    assert!(proxy.wait().success());
}

#[tokio::test]
async fn a_second_signal_ends_the_waiting() {
    let legacy = Backend::hanging().await;
    let extracted = Backend::answering(200, "extracted").await;
    let plan = Proxy::between(&legacy, &extracted).argument("--drain-delay").argument("10m");
    let mut proxy = plan.argument("--drain-deadline").argument("10m").start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n").await.unwrap();
    let backend = &legacy;
    wait_until("the request never came", || backend.connections() == 1).await;

    proxy.signal("TERM");
    proxy.wait_for_log("draining");
    proxy.signal("TERM");

    assert!(proxy.wait().success());
}

#[tokio::test]
async fn a_state_directory_has_one_process() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let proxy = Proxy::between(&legacy, &extracted).start().await;
    let mut second = strangler();
    second.arg("run").arg("--routes").arg(proxy.routes_file()).arg("--state-dir").arg(proxy.state_dir());
    second.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--access-log", "off"]);

    let output = second.output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains(&format!("process {}", proxy.pid())), "{}", text(&output));
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn the_service_manager_is_told_what_happens() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let dir = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = |expected: &str| {
        let mut told = [0u8; 512];
        loop {
            let length = manager.recv(&mut told).unwrap_or_else(|error| panic!("{expected} was never said: {error}"));
            let told = String::from_utf8_lossy(&told[..length]).into_owned();
            if told.lines().any(|line| line.starts_with(expected)) {
                return told;
            }
        }
    };
    let plan =
        Proxy::between(&legacy, &extracted).variable("NOTIFY_SOCKET", dir.path().join("notify").to_str().unwrap());
    let mut proxy = plan.variable("WATCHDOG_USEC", "1000000").start().await;

    hear("READY=1");
    hear("WATCHDOG=1");
    proxy.signal("HUP");
    assert!(hear("RELOADING=1").contains("MONOTONIC_USEC="));
    hear("READY=1");
    let output = upgrade(&proxy).await;
    assert!(output.status.success(), "{}", text(&output));
    let told = hear("MAINPID=");
    let heir = proxy.serving_pid().unwrap();
    assert!(told.contains(&format!("MAINPID={heir}\n")), "{told}");
    assert!(proxy.wait().success());
    std::process::Command::new("kill").args(["-TERM", &heir.to_string()]).status().unwrap();
    hear("STOPPING=1");
    wait_until("the heir does not end", || !Path::new(&format!("/proc/{heir}/fd/1")).exists()).await;
}

#[tokio::test]
async fn sockets_of_the_service_manager_are_taken_by_their_address() {
    let legacy = Backend::answering(200, "legacy").await;
    let dir = tempfile::tempdir().unwrap();
    let routes = dir.path().join("routes.yaml");
    std::fs::write(&routes, format!("version: 1\nlegacy: {}\n", legacy.url())).unwrap();
    let run = |listen: &str, socket: std::net::TcpListener| {
        // The shell makes it descriptor 3, and is replaced by the program without getting another number.
        let script = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$0\" \"$@\" 3<&0 0</dev/null";
        let mut command = std::process::Command::new("sh");
        command.args([
            "-c",
            script,
            env!("CARGO_BIN_EXE_strangler"),
            "run",
            "--admin",
            "127.0.0.1:0",
            "--threads",
            "2",
        ]);
        command
            .arg("--routes")
            .arg(&routes)
            .arg("--state-dir")
            .arg(dir.path().join("state"))
            .args(["--listen", listen]);
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(socket))).stdout(Stdio::null());
        command
    };

    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // A client that comes before the process does waits for it.
    let early = tokio::spawn(one(address));
    let mut child = run(&address.to_string(), socket).stderr(Stdio::null()).spawn().unwrap();
    let early = tokio::time::timeout(PATIENCE, early).await;
    let later = one(address).await;
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!((early.unwrap().unwrap(), later), (Ok(()), Ok(())));

    let stray = run("127.0.0.1:0", std::net::TcpListener::bind("127.0.0.1:0").unwrap()).output().unwrap();
    assert_eq!(stray.status.code(), Some(1));
    assert!(text(&stray).contains("(web)"), "{}", text(&stray));
}

/// A connection that stays, and what is answered on it.
struct Kept(TcpStream);

impl Kept {
    async fn open(address: SocketAddr) -> Kept {
        Kept(TcpStream::connect(address).await.unwrap())
    }

    async fn ask(&mut self, method: &str, user: &str, key: &str) -> String {
        let head = format!("{method} /pay HTTP/1.1\r\nhost: a\r\nx-user: {user}\r\nidempotency-key: {key}\r\n");
        self.0.write_all(format!("{head}content-length: 0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = [0u8; 4096];
        let read = tokio::time::timeout(PATIENCE, self.0.read(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn while_two_processes_serve_each_knows_what_the_other_has_seen_and_what_people_have_moved() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let routes = format!(
        "version: 1\nlegacy: {}\nupstreams: {{extracted: {{endpoints: ['{}']}}}}\njourneys: {{buying: {{sticky_on: ['header:x-user']}}}}\nroutes:\n  - {{name: pay, match: /pay, journey: buying, extracted: extracted, weight: 50%, idempotency: {{header: idempotency-key}}}}\n",
        legacy.url(),
        extracted.url()
    );
    let proxy = Plan::file(&routes).start().await;
    // Two users, one for each side.
    let mut users = [None, None];
    for number in 0.. {
        let user = format!("user-{number}");
        let side = Kept::open(proxy.address).await.ask("GET", &user, "none").await;
        users[usize::from(side == "extracted")].get_or_insert(user);
        if users.iter().all(Option::is_some) {
            break;
        }
    }
    let [at_legacy, at_extracted] = users.map(Option::unwrap);
    let (mut old, mut killed) = (Kept::open(proxy.address).await, Kept::open(proxy.address).await);
    for kept in [&mut old, &mut killed] {
        assert_eq!(kept.ask("GET", &at_extracted, "none").await, "extracted");
    }
    let before = proxy.pid();

    let output = upgrade(&proxy).await;
    assert!(output.status.success(), "{}", text(&output));
    // The old process still has these; the new one takes what is new.
    assert_eq!(old.ask("POST", &at_extracted, "seen-by-old").await, "extracted");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let tried_again = Kept::open(proxy.address).await.ask("POST", &at_legacy, "seen-by-old").await;
    assert_eq!(tried_again, "extracted", "whoever saw the key first does it");

    let kill = proxy.admin(Method::POST, "/api/v1/kill", r#"{"reason": "test"}"#).await;
    assert_eq!(kill.status, 200, "{}", kill.body);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(killed.ask("GET", &at_extracted, "none").await, "legacy", "a kill is in force in both");
    assert_ne!(proxy.serving_pid(), Some(before));
}

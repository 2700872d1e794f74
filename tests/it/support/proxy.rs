//! The built binary between a monolith and an extracted service, as a user would start it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::backend::Backend;

/// Bound on everything that a test waits for: far beyond what is needed, so that it never decides a result.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A proxy about to be started.
pub(crate) struct Plan {
    routes: String,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    program: Option<PathBuf>,
    left_out: Vec<&'static str>,
    dir: TempDir,
}

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// Its first listener over TLS, if it has one.
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) dir: TempDir,
    child: Child,
    log: mpsc::Receiver<String>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // One that took over is not our child; ours is asked first, or it would hand over once more.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(pid) = self.serving_pid() {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
    }
}

/// The binary, with nothing of the tester's own settings.
pub(crate) fn strangler() -> Command {
    cleaned(Command::new(env!("CARGO_BIN_EXE_strangler")))
}

fn cleaned(mut command: Command) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STRANGLER_")) {
        command.env_remove(name);
    }
    command
}

impl Plan {
    fn empty() -> Plan {
        Plan {
            routes: String::new(),
            arguments: Vec::new(),
            variables: Vec::new(),
            program: None,
            left_out: Vec::new(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A routes file with these two sides and no routes yet.
    pub(crate) fn between(legacy: &Backend, extracted: &Backend) -> Plan {
        let routes = format!(
            "version: 1\nupstreams:\n  monolith: {{endpoints: [\"{}\"]}}\n  extracted: {{endpoints: [\"{}\"]}}\nlegacy: monolith\n",
            legacy.url(),
            extracted.url()
        );
        Plan { routes, ..Plan::empty() }
    }

    /// A whole routes file.
    pub(crate) fn file(routes: &str) -> Plan {
        Plan { routes: routes.to_owned(), ..Plan::empty() }
    }

    /// One more route, in flow style: `{name: r, match: /r, extracted: extracted}`.
    pub(crate) fn route(mut self, route: &str) -> Plan {
        if !self.routes.contains("\nroutes:") {
            self.routes += "routes:\n";
        }
        self.routes += &format!("  - {route}\n");
        self
    }

    pub(crate) fn argument(mut self, argument: &str) -> Plan {
        self.arguments.push(argument.to_owned());
        self
    }

    /// A file `strangler.yaml` of this text.
    pub(crate) fn config(self, text: &str) -> Plan {
        let file = self.dir.path().join("strangler.yaml");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap().to_owned();
        self.argument("--config").argument(&file)
    }

    /// A variable of its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Plan {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a flag that is otherwise given, as in `--threads`.
    pub(crate) fn without(mut self, flag: &'static str) -> Plan {
        self.left_out.push(flag);
        self
    }

    /// Another path of the binary, which a test may put something else at.
    pub(crate) fn program(mut self, path: PathBuf) -> Plan {
        self.program = Some(path);
        self
    }

    pub(crate) fn routes_file(&self) -> PathBuf {
        self.dir.path().join("routes.yaml")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What will be written to the routes file.
    pub(crate) fn text(&self) -> &str {
        &self.routes
    }

    /// Starts it and waits until it says where it listens.
    #[expect(clippy::unused_async, reason = "reads as what it is: something that is waited for")]
    pub(crate) async fn start(self) -> Proxy {
        std::fs::write(self.routes_file(), &self.routes).unwrap();
        self.start_as_is()
    }

    /// Likewise, with the routes file as it is (or is not).
    pub(crate) fn start_as_is(self) -> Proxy {
        let access_log = std::fs::File::create(self.dir.path().join("access.log")).unwrap();
        let mut child = self.command().stderr(Stdio::piped()).stdout(access_log).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (lines, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if std::env::var_os("SHOW_PROXY_LOG").is_some() {
                    eprintln!("proxy: {line}");
                }
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let (mut address, mut tls, mut admin) = (None, None, None);
        let mut told = Vec::new();
        let until = Instant::now() + PATIENCE;
        while address.is_none() || admin.is_none() {
            let Ok(line) = log.recv_timeout(until.saturating_duration_since(Instant::now())) else {
                let _ = child.kill();
                panic!("the proxy did not start:\n{}", told.join("\n"));
            };
            if let Some(at) = line.strip_prefix("listening on http://") {
                address = Some(at.parse().unwrap());
            } else if let Some(at) = line.strip_prefix("listening on https://") {
                tls = tls.or(Some(at.parse().unwrap()));
            } else if let Some(at) = line.strip_prefix("admin on http://") {
                admin = Some(at.parse().unwrap());
            }
            told.push(line);
        }
        Proxy { address: address.unwrap(), tls, admin: admin.unwrap(), dir: self.dir, child, log }
    }

    /// The command line that `start` would run.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.program.as_ref().map_or_else(strangler, |path| cleaned(Command::new(path)));
        command.arg("run").arg("--routes").arg(self.routes_file()).arg("--state-dir").arg(self.state_dir());
        let mut usual = vec![["--listen", "127.0.0.1:0"], ["--admin", "127.0.0.1:0"], ["--threads", "2"]];
        if !self.arguments.iter().any(|argument| argument.starts_with("--access-log")) {
            usual.push(["--access-log", "off"]);
        }
        command.args(usual.iter().filter(|[flag, _]| !self.left_out.contains(flag)).flatten());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.args(&self.arguments);
        command
    }
}

impl Proxy {
    pub(crate) fn between(legacy: &Backend, extracted: &Backend) -> Plan {
        Plan::between(legacy, extracted)
    }

    pub(crate) fn routes_file(&self) -> PathBuf {
        self.dir.path().join("routes.yaml")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process that has the state directory: ours, or one that took over; `None`: it is gone.
    pub(crate) fn serving_pid(&self) -> Option<u32> {
        let pid: u32 = std::fs::read_to_string(self.state_dir().join("lock")).ok()?.trim().parse().ok()?;
        // A number may have been given to somebody else meanwhile.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(&*self.dir.path().to_string_lossy()).then_some(pid)
    }

    /// Puts another routes file in place, as an editor would: whole, by a rename.
    pub(crate) fn write_routes(&self, text: &str) {
        replace(&self.routes_file(), text);
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(Method::GET, target, &[], "").await
    }

    pub(crate) async fn post(&self, target: &str, body: &'static str) -> Answer {
        self.send(Method::POST, target, &[], body).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Answer {
        self.try_send(method, target, headers, body).await.unwrap()
    }

    /// As `send`, for a request whose connection may break.
    pub(crate) async fn try_send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Result<Answer, hyper::Error> {
        let mut request = Request::builder().method(method).uri(target).header("host", "shop.example.com");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        exchange(self.address, request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()).await
    }

    /// The admin API's answer.
    pub(crate) async fn admin(&self, method: Method, target: &str, body: &str) -> Answer {
        ask_admin(self.admin, &self.state_dir(), method, target, body).await.unwrap()
    }

    /// The value of one sample, named as it is printed; 0 when it is not there.
    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        let text = self.admin(Method::GET, "/metrics", "").await.body;
        let line = text.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// A counter's value.
    pub(crate) async fn count(&self, sample: &str) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, whole and not negative")]
        let count = self.metric(sample).await as u64;
        count
    }

    /// Waits until a sample is at least `least`.
    pub(crate) async fn wait_for_metric(&self, sample: &str, least: f64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(sample).await;
            if value >= least {
                return;
            }
            assert!(Instant::now() < until, "{sample} is {value}, not {least}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a line of its log that contains `text`.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.log.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(error) => panic!("the log never said {text:?}: {error}"),
            }
        }
    }

    /// What it has logged since it was read last.
    pub(crate) fn log_so_far(&self) -> String {
        self.log.try_iter().map(|line| line + "\n").collect()
    }

    /// Waits for a line of its access log that contains `text`; it must have been switched on.
    pub(crate) async fn wait_for_access(&self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let log = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(Instant::now() < until, "the access log never said {text:?}:\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a signal by its name, as `kill -TERM` would.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the proxy did not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The admin API's answer, where the connection may break.
pub(crate) async fn ask_admin(
    address: SocketAddr,
    state_dir: &Path,
    method: Method,
    target: &str,
    body: &str,
) -> Result<Answer, hyper::Error> {
    let token = std::fs::read_to_string(state_dir.join("admin-token")).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", address.to_string())
        .header("authorization", format!("Bearer {}", token.trim()))
        .header("content-type", "application/json");
    exchange(address, request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await
}

/// Writes a file whole: a new one beside it, renamed over it.
pub(crate) fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// One request over a connection of its own.
pub(crate) async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

//! A real PostgreSQL server on the loopback, with a data directory of its own: for the tests of the store, inside and outside.
//!
//! `STRANGLER_TEST_POSTGRES_BIN` says where its programs are (`/usr/lib/postgresql/15/bin`); without it such tests say that they did
//! not run. It refuses to run as root: then it runs as the user `postgres`.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of the role that the tests use; looked for in everything that is said.
pub(crate) const PASSWORD: &str = "hunter2-of-the-store";
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; ended when dropped.
pub(crate) struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    pub(crate) port: u16,
    child: Option<Child>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Postgres {
    /// `None`, said on standard error, where the machine has none.
    pub(crate) fn start() -> Option<Postgres> {
        let Some(bin) = std::env::var_os("STRANGLER_TEST_POSTGRES_BIN").filter(|bin| !bin.is_empty()) else {
            eprintln!("NOT RUN: STRANGLER_TEST_POSTGRES_BIN does not say where a PostgreSQL server is");
            return None;
        };
        let bin = PathBuf::from(bin);
        let dir = made(&bin);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Postgres { bin, dir, port, child: None };
        server.again();
        Some(server)
    }

    /// Its address as a user would write it.
    pub(crate) fn url(&self) -> String {
        format!("postgres://app:{PASSWORD}@127.0.0.1:{}/shop", self.port)
    }

    /// That address in a file of `dir`.
    pub(crate) fn url_file(&self, dir: &Path) -> PathBuf {
        let file = dir.join("store-url");
        std::fs::write(&file, self.url() + "\n").unwrap();
        file
    }

    /// Starts it (again), on the same port and data.
    pub(crate) fn again(&mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut command = unprivileged(&self.bin.join("postgres"));
            let socket = format!("unix_socket_directories={}", self.dir.display());
            command.arg("-D").arg(self.dir.join("data")).args(["-p", &self.port.to_string(), "-h", "127.0.0.1"]);
            // A connection that a test holds must not hold up another; a crash of the machine is not what is tested.
            command.args(["-c", &socket, "-c", "fsync=off", "-c", "max_connections=40"]);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            self.child = Some(child);
            while self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none()) {
                if self.try_sql("SELECT 1").is_some() {
                    return;
                }
                assert!(Instant::now() < until, "the server did not start");
                std::thread::sleep(Duration::from_millis(30));
            }
            // What is left of the one before may still be going.
            assert!(Instant::now() < until, "the server does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// As `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Runs statements as its administrator.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|| panic!("{sql} failed"))
    }

    fn try_sql(&self, sql: &str) -> Option<String> {
        let mut command = self.psql();
        let output = command.args(["-c", sql]).stderr(Stdio::null()).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs statements in the background: until they end, or the child is killed.
    pub(crate) fn sql_beside(&self, sql: &str) -> Child {
        self.psql().args(["-c", sql]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn psql(&self) -> Command {
        let mut command = unprivileged(&self.bin.join("psql"));
        command.arg("-h").arg(&self.dir).args(["-p", &self.port.to_string(), "-d", "shop", "-XAtq"]);
        command
    }
}

/// A copy of a data directory that is made once: `initdb` takes seconds.
fn made(bin: &Path) -> PathBuf {
    let release = bin.to_string_lossy().replace('/', "-");
    let template = std::env::temp_dir().join(format!("strangler-test-postgres{release}"));
    if !template.join("data").is_dir() {
        let dir = fresh_dir();
        let data = dir.join("data");
        let mut initdb = unprivileged(&bin.join("initdb"));
        initdb.arg("-D").arg(&data).args(["--no-sync", "-E", "UTF8", "--locale=C"]);
        done(initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256"]));
        let mut single = unprivileged(&bin.join("postgres"));
        single.args(["--single", "-c", "fsync=off", "-D"]).arg(&data).arg("postgres");
        let mut child = single.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let roles = format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'\nCREATE DATABASE shop OWNER app\n");
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), roles.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        // Another test may have been quicker.
        if std::fs::rename(&dir, &template).is_err() {
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
    let dir = fresh_dir();
    done(unprivileged(Path::new("cp")).arg("-r").arg(template.join("data")).arg(dir.join("data")));
    dir
}

fn fresh_dir() -> PathBuf {
    let made = unprivileged(Path::new("mktemp")).args(["-d", "-t", "strangler-pg.XXXXXX"]).output().unwrap();
    PathBuf::from(String::from_utf8(made.stdout).unwrap().trim())
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if is_root {
        let users = std::fs::read_to_string("/etc/passwd").unwrap();
        let line = users.lines().find(|line| line.starts_with("postgres:")).expect("a user postgres");
        let ids: Vec<u32> = line.split(':').skip(2).take(2).map(|id| id.parse().unwrap()).collect();
        command.gid(ids[1]).uid(ids[0]);
        command.env("HOME", "/");
    }
    command
}

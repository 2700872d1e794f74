//! The processes of the demo: started one after the other, stopped in the other order, none left behind.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::stop::Stop;

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// A process to be.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    program: PathBuf,
    args: Vec<String>,
    /// Ports of the loopback that it takes.
    ports: Vec<u16>,
    /// Asked until it answers 200.
    ready: Option<(u16, &'static str)>,
    /// Its end is not the end of the demo.
    may_end: bool,
}

impl Part {
    pub(crate) fn new(name: &'static str, program: PathBuf) -> Part {
        Part { name, program, args: Vec::new(), ports: Vec::new(), ready: None, may_end: false }
    }

    pub(crate) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Part {
        self.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    pub(crate) fn path(mut self, path: &Path) -> Part {
        self.args.push(path.to_string_lossy().into_owned());
        self
    }

    pub(crate) fn holds(mut self, port: u16) -> Part {
        self.ports.push(port);
        self
    }

    pub(crate) fn ready_at(mut self, port: u16, path: &'static str) -> Part {
        self.ready = Some((port, path));
        self.holds(port)
    }

    pub(crate) fn may_end(mut self) -> Part {
        self.may_end = true;
        self
    }
}

/// Refuses, naming all at once, when something listens where a part will.
pub(crate) fn demand_free_ports(parts: &[Part]) -> io::Result<()> {
    let is_taken = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err();
    let taken: Vec<String> = parts
        .iter()
        .flat_map(|part| part.ports.iter().filter(|port| is_taken(port)).map(|port| format!("{port} ({})", part.name)))
        .collect();
    if taken.is_empty() {
        return Ok(());
    }
    let noun = if taken.len() == 1 { "port is" } else { "ports are" };
    let (list, how) = (taken.join(", "), "another demo? `ss -ltnp` or `lsof -i -P` shows who listens");
    Err(io::Error::other(format!("the {noun} taken: {list}; {how}")))
}

/// The processes that run.
#[derive(Debug)]
pub(crate) struct Crew {
    logs: PathBuf,
    running: Vec<(Part, Child)>,
}

impl Crew {
    pub(crate) fn new(logs: PathBuf) -> Crew {
        Crew { logs, running: Vec::new() }
    }

    /// Starts a part and waits until it is ready.
    pub(crate) fn start(&mut self, part: Part, stop: &Stop) -> io::Result<Duration> {
        let began = Instant::now();
        let log = File::create(self.log_of(part.name))?;
        let mut command = guarded(&part.program);
        command.args(&part.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C goes to the demo alone, which stops the parts in order.
        command.process_group(0);
        let (name, ready) = (part.name, part.ready);
        let child = command.spawn().map_err(|error| io::Error::other(format!("cannot start {name}: {error}")))?;
        self.running.push((part, child));
        let Some((port, path)) = ready else { return Ok(began.elapsed()) };
        while began.elapsed() < READY_WITHIN {
            self.demand_all_run()?;
            if stop.is_asked() {
                return Err(io::Error::other("stopped before all was up"));
            }
            if get(port, path, Duration::from_secs(1)).is_ok_and(|answer| answer.status == 200) {
                return Ok(began.elapsed());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(io::Error::other(format!("{name} does not answer {path} on port {port}; {}", self.log_tail(name))))
    }

    /// An error names the first part that has ended and shows the end of its log.
    pub(crate) fn demand_all_run(&mut self) -> io::Result<()> {
        let mut ended = None;
        for (part, child) in &mut self.running {
            if let (Some(status), false) = (child.try_wait()?, part.may_end) {
                ended = Some((part.name, status));
                break;
            }
        }
        let Some((name, status)) = ended else { return Ok(()) };
        Err(io::Error::other(format!("{name} has ended ({status}); {}", self.log_tail(name))))
    }

    /// Stops the parts, last first. One that does not end in time is killed; all are when a stop is asked for again.
    pub(crate) fn stop(&mut self, stop: &Stop) {
        while let Some((_, mut child)) = self.running.pop() {
            send(&child, Signal::TERM);
            let end = Instant::now() + STOPPED_WITHIN;
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() >= end || stop.is_urgent() {
                    send(&child, Signal::KILL);
                    let _ = child.wait();
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn log_of(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    fn log_tail(&self, name: &str) -> String {
        let log = self.log_of(name);
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n  ");
        format!("{} ends with:\n  {tail}", log.display())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop(&Stop::default());
    }
}

/// Where `setpriv` can do it, the parts end even when the demo is killed outright.
fn guarded(program: &Path) -> Command {
    static CAN: OnceLock<bool> = OnceLock::new();
    let by_death = || {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]);
        command
    };
    let try_out = || by_death().arg("true").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if *CAN.get_or_init(|| cfg!(target_os = "linux") && try_out().is_ok_and(|status| status.success())) {
        let mut command = by_death();
        command.arg(program);
        return command;
    }
    Command::new(program)
}

fn send(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Gone already is as well.
        let _ = kill_process(pid, signal);
    }
}

/// An answer to [`get`].
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Asks a port of the loopback once, on a connection of its own; at most 4 MiB are read.
pub(crate) fn get(port: u16, path: &str, patience: Duration) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience)?;
    stream.set_read_timeout(Some(patience))?;
    // HTTP/1.0: the answer ends with the connection and comes in no chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nhost: 127.0.0.1:{port}\r\naccept: */*\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no whole answer"))?;
    let status =
        head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| io::Error::other("no status"))?;
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_running(pid: u32) -> bool {
        i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    }

    fn sleeping(name: &'static str) -> Part {
        Part::new(name, PathBuf::from("sleep")).args(["600"])
    }

    #[test]
    fn no_process_outlives_the_crew() {
        let folder = tempfile::tempdir().unwrap();
        let mut crew = Crew::new(folder.path().to_owned());
        crew.start(sleeping("one"), &Stop::default()).unwrap();
        crew.start(sleeping("two"), &Stop::default()).unwrap();
        let pids: Vec<u32> = crew.running.iter().map(|(_, child)| child.id()).collect();
        assert!(pids.iter().all(|pid| is_running(*pid)));
        drop(crew);
        assert!(!pids.iter().any(|pid| is_running(*pid)));
    }

    #[test]
    fn a_part_that_ends_is_named_with_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut crew = Crew::new(folder.path().to_owned());
        let part = Part::new("broken", PathBuf::from("sh")).args(["-c", "echo no space left; exit 3"]).ready_at(1, "/");
        let error = crew.start(part, &Stop::default()).unwrap_err().to_string();
        assert!(error.contains("broken has ended") && error.contains("no space left"), "{error}");
    }

    #[test]
    fn shoppers_may_go_home() {
        let folder = tempfile::tempdir().unwrap();
        let mut crew = Crew::new(folder.path().to_owned());
        crew.start(Part::new("shoppers", PathBuf::from("true")).may_end(), &Stop::default()).unwrap();
        let _ = crew.running[0].1.wait();
        crew.demand_all_run().unwrap();
    }

    #[test]
    fn taken_ports_are_named_all_at_once() {
        let held = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
        let ports = held.map(|it| (it.local_addr().unwrap().port(), it));
        let part = sleeping("proxy").holds(ports[0].0).holds(ports[1].0);
        let error = demand_free_ports(&[part]).unwrap_err().to_string();
        assert!(ports.iter().all(|(port, _)| error.contains(&format!("{port} (proxy)"))), "{error}");
    }
}

//! A new binary takes over: this process starts it, hands it the listening sockets and the lock, and only when it says that it
//! serves does this one stop accepting. Whatever goes wrong before that, this one goes on.
//!
//! What people move is moved by one process at a time: until the new one is ready by this one, which then ends its admin plane, writes
//! no more weights and kills, and says its last word; the new one opens its admin plane after that. In between callers wait in the
//! socket's queue.

mod beside;
mod channel;
pub(super) mod heir;
mod program;
mod state;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::admin::control::Control;
use crate::admin::upgrade::{UpgradeRequest, Upgraded};
use crate::live::Publish;
use crate::proxy::pins::Pins;
use crate::run::lock::Lock;
use crate::run::sockets::Kept;
use crate::run::upgrade::channel::{Channel, DESCRIPTORS_MAX, Word};
use crate::run::upgrade::program::Program;
use crate::run::upgrade::state::HandedState;
use crate::store::{AuditEntry, StoredPin};
use crate::telemetry::metrics::Metrics;
use strangler_core::chain::chain;

/// Tells a process that it is to take over, and from whom: its standard input is the way to that one.
const VARIABLE: &str = "STRANGLER_TAKE_OVER_FROM";
/// How long a process that hung up may take to be gone.
const END_MAX: Duration = Duration::from_secs(2);

/// Why there is no new process.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start { program: String, source: io::Error },
    /// It ended before it was ready.
    #[error("the new process ended before it was ready ({0}); its own log says why")]
    Ended(String),
    /// It did not say in time that it is ready.
    #[error("the new process was not ready within {} s, and was ended", .0.as_secs_f32())]
    TimedOut(Duration),
    /// It spoke out of turn.
    #[error("the new process said something that was not its turn to say; is it a strangler?")]
    Confused,
    /// It cannot be talked to.
    #[error("cannot talk to the new process")]
    Talk(#[source] io::Error),
    /// This process ends.
    #[error("this process is draining")]
    Draining,
    /// When the first process of a container ends, all others are ended.
    #[error("this is the first process of its container, whose end is the end of all; start a new container instead")]
    First,
}

/// What a new binary needs of this process.
pub(super) struct Upgrader {
    program: Program,
    deadline: Duration,
    lock: Option<Lock>,
    control: Arc<Control>,
    metrics: Arc<Metrics>,
    pins: Arc<Pins>,
    mine: Mutex<Mine>,
}

/// What changes.
struct Mine {
    kept: Vec<Kept>,
    child: Option<Child>,
    is_ending: bool,
}

/// A new process that serves, and the way to it.
#[derive(Debug)]
pub(super) struct Heir {
    channel: Arc<Channel>,
    /// Its number.
    pub(super) pid: u32,
}

impl Upgrader {
    pub(super) fn new(
        deadline: Duration,
        kept: Vec<Kept>,
        lock: Option<Lock>,
        control: Arc<Control>,
        metrics: Arc<Metrics>,
        pins: Arc<Pins>,
    ) -> Upgrader {
        let mine = Mutex::new(Mine { kept, child: None, is_ending: false });
        Upgrader { program: Program::of_this_process(), deadline, lock, control, metrics, pins, mine }
    }

    /// Works off what is asked for, one after the other, until one has succeeded.
    pub(super) async fn serve(
        self: Arc<Upgrader>,
        mut asked: mpsc::Receiver<UpgradeRequest>,
        heirs: mpsc::Sender<Heir>,
    ) {
        while let Some(UpgradeRequest { by, reply }) = asked.recv().await {
            tracing::info!(by, program = %self.program.path.display(), "starting a new binary to take over");
            let own = Arc::clone(&self);
            let outcome = tokio::task::spawn_blocking(move || own.hand_over()).await;
            match outcome {
                Ok(Ok((heir, upgraded))) => {
                    self.audit(by, &Ok(upgraded.pid));
                    tracing::info!(
                        pid = upgraded.pid,
                        took_ms = upgraded.took_ms,
                        "the new process is ready and takes over"
                    );
                    let _ = reply.send(Ok(upgraded));
                    let _ = heirs.send(heir).await;
                    return;
                }
                Ok(Err(error)) => {
                    let why = chain(&error);
                    tracing::error!(why, "the upgrade failed; this process goes on");
                    let is_late = matches!(error, UpgradeError::TimedOut(_));
                    self.sign();
                    self.audit(by, &Err(&why));
                    self.metrics.count_upgrade(if is_late { "timed_out" } else { "failed" });
                    let _ = reply.send(Err(why));
                }
                Err(_) => drop(reply.send(Err("it broke off".to_owned()))),
            }
        }
    }

    /// Queued before the other process is told anything: what is queued is on record before that one writes.
    fn audit(&self, who: String, outcome: &Result<u32, &str>) {
        self.control.note_in_audit(AuditEntry {
            who,
            what: "upgrade".to_owned(),
            to: outcome.ok().map(|pid| format!("process {pid}")),
            reason: outcome.err().unwrap_or("asked for").chars().take(1_000).collect(),
            accepted: outcome.is_ok(),
            ..AuditEntry::default()
        });
    }

    /// This process ends without an heir: one that is being started is ended, and the sockets are let go.
    pub(super) fn abandon(&self) {
        let child = {
            let mut mine = self.mine();
            mine.is_ending = true;
            mine.kept.clear();
            mine.child.take()
        };
        if let Some(child) = child {
            end(child, Duration::ZERO);
        }
    }

    /// Writes down that this process has the state directory.
    pub(super) fn sign(&self) {
        if let Some(lock) = &self.lock {
            lock.sign();
        }
    }

    /// The sockets are let go: another process has them.
    pub(super) fn release(&self) {
        self.mine().kept.clear();
    }

    /// Only as long as it takes to look: never held while something is waited for.
    fn mine(&self) -> MutexGuard<'_, Mine> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_over(&self) -> Result<(Heir, Upgraded), UpgradeError> {
        if std::process::id() == 1 {
            return Err(UpgradeError::First);
        }
        let begun = Instant::now();
        let (ours, theirs) = UnixStream::pair().map_err(UpgradeError::Talk)?;
        // Before the other one reads the store: what is seen from here on it is told.
        let (tell, waiting) = beside::queue();
        self.pins.tell(Some(tell));
        let handed = self.hand_over_to(ours, theirs, waiting, begun);
        if handed.is_err() {
            self.pins.tell(None);
        }
        handed
    }

    fn hand_over_to(
        &self,
        ours: UnixStream,
        theirs: UnixStream,
        waiting: Receiver<StoredPin>,
        begun: Instant,
    ) -> Result<(Heir, Upgraded), UpgradeError> {
        let pid = self.start(theirs)?;
        let channel = Arc::new(Channel::new(ours));
        let outcome = self.talk(&channel, begun + self.deadline);
        let child = {
            let mut mine = self.mine();
            let is_ending = mine.is_ending;
            (mine.child.take(), is_ending)
        };
        match (outcome, child) {
            (Ok(()), (Some(_), false)) => {
                let upgraded = Upgraded {
                    pid,
                    from_pid: std::process::id(),
                    program: self.program.path.display().to_string(),
                    took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                };
                beside::tell(Arc::clone(&channel), Arc::clone(&self.pins), waiting, None, Arc::default());
                Ok((Heir { channel, pid }, upgraded))
            }
            (outcome, (child, is_ending)) => {
                // Hung up first: one that waits for our word is not to wait for its end.
                drop(channel);
                let has_hung_up = matches!(outcome, Err(UpgradeError::Ended(_)));
                let status = child.map(|child| end(child, if has_hung_up { END_MAX } else { Duration::ZERO }));
                Err(match outcome {
                    _ if is_ending => UpgradeError::Draining,
                    Err(UpgradeError::Ended(_)) => {
                        UpgradeError::Ended(status.flatten().map_or("killed".to_owned(), |status| status.to_string()))
                    }
                    Err(error) => error,
                    Ok(()) => UpgradeError::Draining,
                })
            }
        }
    }

    fn start(&self, theirs: UnixStream) -> Result<u32, UpgradeError> {
        let mut mine = self.mine();
        if mine.is_ending {
            return Err(UpgradeError::Draining);
        }
        let started = Command::new(&self.program.path)
            .args(&self.program.arguments)
            .env(VARIABLE, std::process::id().to_string())
            // It says which process the watchdog is for; without it, the one that reads it.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn();
        let program = || self.program.path.display().to_string();
        let child = started.map_err(|source| UpgradeError::Start { program: program(), source })?;
        let pid = child.id();
        mine.child = Some(child);
        Ok(pid)
    }

    fn talk(&self, channel: &Channel, until: Instant) -> Result<(), UpgradeError> {
        {
            let mine = self.mine();
            self.hand_sockets(&mine.kept, channel).map_err(talk_error)?;
        }
        self.expect(channel, until, &Word::Prepared)?;
        let state = HandedState::of(self.control.snapshot().runtime());
        channel.say(&Word::State(state), &[]).map_err(talk_error)?;
        self.expect(channel, until, &Word::Ready)
    }

    fn hand_sockets(&self, kept: &[Kept], channel: &Channel) -> io::Result<()> {
        for listener in kept {
            for sockets in listener.sockets.chunks(DESCRIPTORS_MAX) {
                let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
                channel.say(&Word::Sockets(vec![listener.tag; descriptors.len()]), &descriptors)?;
            }
        }
        if let Some(lock) = &self.lock {
            channel.say(&Word::Lock, &[lock.as_fd()])?;
        }
        channel.say(&Word::Begin, &[])
    }

    fn expect(&self, channel: &Channel, until: Instant, expected: &Word) -> Result<(), UpgradeError> {
        match channel.hear(until) {
            Ok(Some((word, _))) if word == *expected => Ok(()),
            Ok(Some(_)) => Err(UpgradeError::Confused),
            Ok(None) => Err(UpgradeError::Ended(String::new())),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(UpgradeError::TimedOut(self.deadline))
            }
            Err(error) => Err(talk_error(error)),
        }
    }
}

impl Heir {
    /// The last word of this process: from now on the other one moves users.
    pub(super) fn last_word(&self, control: &Control) {
        let state = HandedState::of(control.snapshot().runtime());
        if let Err(error) = self.channel.say(&Word::Yours(state), &[]) {
            tracing::error!(%error, "the new process cannot be told the last word; it goes by what it knows");
        }
    }

    /// From now on what the other process says is in force here, too.
    pub(super) fn follow(&self, pins: &Arc<Pins>, live: Arc<dyn Publish>) {
        beside::hear(Arc::clone(&self.channel), Arc::clone(pins), live);
    }

    /// SIGUSR1 came here, and is meant for whoever serves.
    pub(super) fn kill_all(&self) {
        if let Err(error) = self.channel.say(&Word::KillAll, &[]) {
            tracing::error!(%error, pid = self.pid, "SIGUSR1 cannot be passed on; send it to the new process");
        }
    }
}

/// One that is gone already, as much as one that is alive.
fn talk_error(error: io::Error) -> UpgradeError {
    let is_gone = matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
    );
    if is_gone { UpgradeError::Ended(String::new()) } else { UpgradeError::Talk(error) }
}

/// Waits for one that ends by itself, so that it can be told how, and then no longer.
fn end(mut child: Child, patience: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Ok(status) => return status,
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

//! Reloads: when the file changes, when somebody asks, and every five seconds in case nobody noticed.
//!
//! One thread does all of it, so that two reloads are never under way at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use strangler_core::fault::Fault;
use strangler_core::reload::{
    Attempt, AttemptOutcome, ConfigStatus, Lost, ReloadVerdict, Running, Source, judge_reload, looks_cut,
};
use strangler_core::snapshot::Snapshot;
use strangler_core::table::{Revision, RoutingTable};
use tokio::sync::oneshot;

use crate::live::Publish;

use super::last_good::{Start, keep, unreadable};
use super::{Loaded, ReadError, base_of, load_below, read};

/// A change is read once the directory has been quiet for so long.
const QUIET: Duration = Duration::from_millis(30);
/// Or so long after the first sign of it.
const LATEST: Duration = Duration::from_millis(150);
/// How often the content is looked at unasked.
const POLL: Duration = Duration::from_secs(5);
/// An editor may take the file away before it puts the next one there.
const GONE_RETRIES: u32 = 3;
const GONE_WAIT: Duration = Duration::from_millis(40);
/// Requests and signs of change that may wait.
const QUEUE: usize = 16;

/// Asked whether a table may take the place of what is in force.
pub type Judge<'a> = dyn Fn(Running<'_>) -> ReloadVerdict + 'a;
/// Puts a table in force if the judge, shown what is in force at that moment, has nothing against it. Made by [`publish_to`].
pub type PutInForce = dyn Fn(&Arc<RoutingTable>, &Judge<'_>) -> ReloadVerdict + Send;
/// Told of every attempt.
pub type OnAttempt = dyn Fn(&ConfigStatus) + Send;

/// What a reloader works with.
pub struct Reloader {
    /// The routes file.
    pub path: PathBuf,
    /// Where the last good text is kept; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// How a table comes into force.
    pub put_in_force: Box<PutInForce>,
    /// Told of every attempt but those that found nothing new by themselves.
    pub on_attempt: Box<OnAttempt>,
}

/// Puts tables in force by publishing snapshots. `make` puts a table under what the latest snapshot holds beside its own.
///
/// The judge and `make` see the latest snapshot under the lock that whoever moves a weight takes, too.
pub fn publish_to(
    publish: Arc<dyn Publish>,
    make: impl Fn(&Arc<Snapshot>, Arc<RoutingTable>) -> Arc<Snapshot> + Send + 'static,
) -> Box<PutInForce> {
    Box::new(move |table, judge| {
        let mut verdict = ReloadVerdict::Accept;
        publish.change(&mut |current| {
            let weight = |index| current.state(index).map(|state| state.weight);
            verdict = judge(Running { table: current.table(), weight: &weight });
            (verdict == ReloadVerdict::Accept).then(|| make(current, Arc::clone(table)))
        });
        verdict
    })
}

/// Why a reload was not even tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Too many wait already.
    #[error("too many reloads are waiting")]
    Busy,
    /// The reloader has stopped.
    #[error("the reloader has stopped")]
    Stopped,
}

/// A wish for a reload, now.
struct ReloadRequest {
    accept_removals: bool,
    reply: Option<oneshot::Sender<ConfigStatus>>,
}

enum Message {
    Changed,
    Asked(ReloadRequest),
    Stop,
}

/// The reloader from outside.
#[derive(Clone)]
pub struct ReloadHandle {
    queue: SyncSender<Message>,
}

impl ReloadHandle {
    /// Reads the file now and answers what became of it. `accept_removals`: whatever it lacks is meant.
    pub async fn reload(&self, accept_removals: bool) -> Result<ConfigStatus, AskError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Asked(ReloadRequest { accept_removals, reply: Some(reply) }))?;
        answer.await.map_err(|_| AskError::Stopped)
    }

    /// Reads the file soon, for a signal: nobody waits for the answer.
    pub fn nudge(&self) -> Result<(), AskError> {
        self.send(Message::Asked(ReloadRequest { accept_removals: false, reply: None }))
    }

    fn send(&self, message: Message) -> Result<(), AskError> {
        self.queue.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => AskError::Busy,
            TrySendError::Disconnected(_) => AskError::Stopped,
        })
    }
}

/// A reloader at work. Dropped, it stops.
pub struct Reloading {
    handle: ReloadHandle,
    thread: Option<JoinHandle<()>>,
    /// Why the directory cannot be watched; changes are then seen within five seconds.
    pub watch_error: Option<notify::Error>,
    _watcher: Option<RecommendedWatcher>,
}

impl Reloading {
    /// For those who ask for reloads.
    pub fn handle(&self) -> ReloadHandle {
        self.handle.clone()
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        // A full queue is being worked off; the thread ends when the last sender is gone, too.
        while let Err(AskError::Busy) = self.handle.send(Message::Stop) {
            thread::sleep(Duration::from_millis(1));
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Reloader {
    /// Keeps the text of a start and begins to watch. `status` is what [`first_status`] said of it; `refused` is the text
    /// of the routes file when the start came from the last good one.
    ///
    /// # Errors
    /// No thread could be made.
    pub fn spawn(self, start: Start, status: ConfigStatus, refused: Option<&[u8]>) -> std::io::Result<Reloading> {
        let (queue, messages) = sync_channel(QUEUE);
        let changed = queue.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| is_change(event.kind)) {
                // Full: a change is waiting to be looked at already.
                let _ = changed.try_send(Message::Changed);
            }
        });
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let watching = watcher.and_then(|mut watcher| {
            watcher.watch(parent, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let (watcher, watch_error) = match watching {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error)),
        };
        let seen = match status.source {
            Source::File => Some(Revision::of(&start.text)),
            Source::LastGood => refused.map(Revision::of),
        };
        let mut work = Work { reloader: self, in_force: start.text, seen, status };
        if work.status.source == Source::File {
            work.keep();
        }
        let thread = thread::Builder::new().name("routes-reload".to_owned()).spawn(move || work.run(&messages))?;
        Ok(Reloading { handle: ReloadHandle { queue }, thread: Some(thread), watch_error, _watcher: watcher })
    }
}

/// What is known right after a start.
pub fn first_status(start: &Start, source: Source, faults: Vec<Fault>) -> ConfigStatus {
    let now = SystemTime::now();
    let outcome = match source {
        Source::File => AttemptOutcome::Accepted,
        Source::LastGood => AttemptOutcome::Refused,
    };
    ConfigStatus {
        revision: start.table.revision().clone(),
        since: now,
        source,
        last: Attempt { at: now, outcome, faults },
        not_kept: None,
    }
}

/// Whether an event can mean that the file says something else. Our own reading of it cannot.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The directory changed, or five seconds went by.
    Unasked,
    /// A person or a signal.
    Asked { accept_removals: bool },
}

struct Work {
    reloader: Reloader,
    /// The text in force.
    in_force: Vec<u8>,
    /// The last text looked at; `None`: the file could not be read.
    seen: Option<Revision>,
    status: ConfigStatus,
}

impl Work {
    fn run(&mut self, messages: &Receiver<Message>) {
        // What changed between the start's reading and the first watching would otherwise wait for the poll.
        self.attempt(Why::Unasked);
        let mut next_poll = Instant::now() + POLL;
        // The first and the last sign of a change that has not been looked at.
        let mut signs: Option<(Instant, Instant)> = None;
        loop {
            let due = signs.map_or(next_poll, |(first, last)| next_poll.min(first + LATEST).min(last + QUIET));
            match messages.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Message::Changed) => {
                    let now = Instant::now();
                    signs = Some((signs.map_or(now, |(first, _)| first), now));
                    if now < due {
                        continue;
                    }
                    // So many events that there is never a quiet moment: the latest one counts.
                    signs = None;
                    self.attempt(Why::Unasked);
                }
                Ok(Message::Asked(request)) => {
                    signs = None;
                    self.attempt(Why::Asked { accept_removals: request.accept_removals });
                    if let Some(reply) = request.reply {
                        let _ = reply.send(self.status.clone());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    signs = None;
                    self.attempt(Why::Unasked);
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= next_poll {
                next_poll = Instant::now() + POLL;
                self.keep_if_missed();
            }
        }
    }

    fn attempt(&mut self, why: Why) {
        let text = match self.read() {
            Ok(text) => text,
            Err(error) => {
                let is_known = self.seen.is_none() && why == Why::Unasked;
                self.seen = None;
                if !is_known {
                    self.say(AttemptOutcome::Refused, vec![unreadable(&error)]);
                }
                return;
            }
        };
        let revision = Revision::of(&text);
        let is_seen = self.seen.as_ref() == Some(&revision);
        // Whether users would be moved depends on the runtime's weights too, so that refusal is looked at again.
        let is_settled = self.status.last.outcome != AttemptOutcome::RefusedRemoval;
        if is_seen && is_settled && why == Why::Unasked {
            return;
        }
        self.seen = Some(revision.clone());
        if text == self.in_force {
            // What was refused before is gone, or the file is again what is in force.
            if !is_seen || why != Why::Unasked {
                self.status.source = Source::File;
                let warnings = load_below(&text, base_of(&self.reloader.path)).faults;
                self.say(AttemptOutcome::Unchanged, warnings);
            }
            return;
        }
        let Loaded { table, faults } = load_below(&text, base_of(&self.reloader.path));
        let Some(table) = table else {
            return self.say(AttemptOutcome::Refused, faults);
        };
        let accept_removals = matches!(why, Why::Asked { accept_removals: true });
        let cut = looks_cut(&self.in_force, &text);
        let judge = |running: Running<'_>| judge_reload(running, &table, cut, accept_removals);
        match (self.reloader.put_in_force)(&table, &judge) {
            ReloadVerdict::Accept => {
                self.in_force = text;
                self.status.revision = revision;
                self.status.since = SystemTime::now();
                self.status.source = Source::File;
                self.keep();
                self.say(AttemptOutcome::Accepted, faults);
            }
            ReloadVerdict::Refuse(lost) => {
                let all: Vec<Fault> = lost.iter().map(Lost::to_fault).chain(faults).collect();
                let is_known = is_seen && why == Why::Unasked && all == self.status.last.faults;
                if !is_known {
                    self.say(AttemptOutcome::RefusedRemoval, all);
                }
            }
        }
    }

    fn read(&self) -> Result<Vec<u8>, ReadError> {
        let mut read_once = read(&self.reloader.path);
        for _ in 0..GONE_RETRIES {
            let is_gone = matches!(&read_once, Err(ReadError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound);
            if !is_gone || self.seen.is_none() {
                break;
            }
            thread::sleep(GONE_WAIT);
            read_once = read(&self.reloader.path);
        }
        read_once
    }

    /// Best effort: a full or read-only disk costs the next start its safety net, and is said.
    fn keep(&mut self) {
        let Some(state_dir) = &self.reloader.state_dir else { return };
        self.status.not_kept = keep(state_dir, &self.in_force).err().map(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        });
    }

    /// A disk that was full may have room again.
    fn keep_if_missed(&mut self) {
        if self.status.not_kept.is_some() && self.status.source == Source::File {
            self.keep();
            if self.status.not_kept.is_none() {
                tracing::info!(revision = %self.status.revision, "the routes in force are kept for the next start again");
            }
        }
    }

    fn say(&mut self, outcome: AttemptOutcome, faults: Vec<Fault>) {
        self.status.last = Attempt { at: SystemTime::now(), outcome, faults };
        (self.reloader.on_attempt)(&self.status);
    }
}

#[cfg(test)]
mod tests;

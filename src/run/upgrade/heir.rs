//! The new process's side: it takes what it is handed, says when it is prepared and when it serves, and waits for the last word.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use strangler_core::runtime::RuntimeState;
use tokio::runtime::Runtime;

use crate::admin::control::Control;
use crate::live::Publish;
use crate::proxy::pins::Pins;
use crate::run::lock::Lock;
use crate::run::sockets::Tag;
use crate::run::upgrade::VARIABLE;
use crate::run::upgrade::beside;
use crate::run::upgrade::channel::{Channel, Word};
use crate::run::upgrade::state::{HandedState, changes};
use crate::store::StoredPin;

/// The process before is there and speaks at once, or something is wrong with it.
const SPEAKS_WITHIN: Duration = Duration::from_secs(10);
/// It ends its admin plane and closes its store within this; then its last word is not waited for any longer.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(15);

/// The process that is taken over from.
#[derive(Debug)]
pub(in crate::run) struct Predecessor {
    channel: Arc<Channel>,
    /// What it listens on.
    pub(in crate::run) sockets: Vec<(Tag, TcpListener)>,
    /// That of the state directory.
    pub(in crate::run) lock: Option<Lock>,
    /// What it is to be told, as soon as it may be.
    waiting: Option<Receiver<StoredPin>>,
}

impl Predecessor {
    /// The one that started this process as its heir, if one did.
    ///
    /// # Errors
    /// When it did, and then did not hand over what it should.
    pub(in crate::run) fn find() -> io::Result<Option<Predecessor>> {
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
        // The variable is inherited by whatever else is started from here; the parent's number is not.
        if parent.is_none() || std::env::var(VARIABLE).ok() != parent {
            return Ok(None);
        }
        let stream = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let mut predecessor =
            Predecessor { channel: Arc::new(Channel::new(stream)), sockets: Vec::new(), lock: None, waiting: None };
        let until = Instant::now() + SPEAKS_WITHIN;
        loop {
            let Some((word, descriptors)) = predecessor.channel.hear(until)? else {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            };
            match word {
                Word::Sockets(tags) => {
                    let sockets = descriptors.into_iter().map(TcpListener::from);
                    predecessor.sockets.extend(tags.into_iter().zip(sockets));
                }
                Word::Lock => predecessor.lock = descriptors.into_iter().next().map(Lock::handed),
                Word::Begin => return Ok(Some(predecessor)),
                Word::Prepared | Word::State(_) | Word::Ready | Word::Yours(_) | Word::KillAll | Word::Pins(_) => {
                    return Err(io::Error::other("it said something that was not its turn to say"));
                }
            }
        }
    }

    /// Says that all is loaded; what people have moved is then in force here as well.
    pub(in crate::run) fn prepared(&mut self, control: &Control, live: &dyn Publish, pins: &Pins, runtime: &Runtime) {
        let (tell, waiting) = beside::queue();
        pins.tell(Some(tell));
        self.waiting = Some(waiting);
        let said = self.channel.say(&Word::Prepared, &[]);
        let heard = said.and_then(|()| self.channel.hear(Instant::now() + SPEAKS_WITHIN));
        match heard {
            Ok(Some((Word::State(state), _))) => adopt(&state, control, live, runtime),
            other => gone_early(&other.map(|_| ())),
        }
    }

    /// Says that this process serves, and waits until the other one moves nothing any more.
    pub(in crate::run) fn ready(&self, control: &Control, live: &dyn Publish, pins: &Pins, runtime: &Runtime) {
        let said = self.channel.say(&Word::Ready, &[]);
        let until = Instant::now() + LAST_WORD_WITHIN;
        let mut heard = said.and_then(|()| self.channel.hear(until));
        loop {
            match heard {
                Ok(Some((Word::KillAll, _))) => drop(control.kill_all_by_signal()),
                Ok(Some((Word::Pins(told), _))) => beside::learn(pins, told),
                _ => break,
            }
            heard = self.channel.hear(until);
        }
        match heard {
            Ok(Some((Word::Yours(state), _))) => adopt(&state, control, live, runtime),
            other => gone_early(&other.map(|_| ())),
        }
    }

    /// Obeys what the other process passes on, for as long as it lives, and tells it what it must know. Threads of their own, that
    /// end with it.
    pub(in crate::run) fn obey(
        self,
        control: Arc<Control>,
        live: Arc<dyn Publish>,
        pins: Arc<Pins>,
        runtime: tokio::runtime::Handle,
    ) {
        let is_gone = Arc::<AtomicBool>::default();
        if let Some(waiting) = self.waiting {
            beside::tell(Arc::clone(&self.channel), Arc::clone(&pins), waiting, Some(live), Arc::clone(&is_gone));
        }
        let channel = self.channel;
        let thread = std::thread::Builder::new().name("predecessor".to_owned());
        let listening = thread.spawn(move || {
            let _in_control = runtime.enter();
            let a_day = Duration::from_hours(24);
            while let Ok(Some((word, _))) = channel.hear(Instant::now() + a_day) {
                match word {
                    Word::KillAll => drop(control.kill_all_by_signal()),
                    Word::Pins(told) => beside::learn(&pins, told),
                    Word::Sockets(_)
                    | Word::Lock
                    | Word::Begin
                    | Word::Prepared
                    | Word::State(_)
                    | Word::Ready
                    | Word::Yours(_) => {}
                }
            }
            is_gone.store(true, Ordering::Relaxed);
        });
        if let Err(error) = listening {
            tracing::warn!(%error, "signals sent to the process before are not passed on");
        }
    }
}

fn gone_early(how: &io::Result<()>) {
    let error = how.as_ref().err().map(ToString::to_string);
    tracing::warn!(error, "the process before went without a last word; what the store says is in force");
}

/// Puts in force and on record what the other process says; its lines of the kill file are read here anyhow.
fn adopt(state: &HandedState, control: &Control, live: &dyn Publish, runtime: &Runtime) {
    let Some(handed) = state.restore() else {
        tracing::error!("what the process before has moved cannot be understood; what the store says is in force");
        return;
    };
    let mut before = RuntimeState::default();
    live.change(&mut |now| {
        before = now.runtime().clone();
        (handed != before).then(|| Arc::new(now.with_runtime(&handed)))
    });
    let changes = changes(&before, &handed);
    if changes.is_empty() {
        return;
    }
    tracing::info!(
        changes = changes.len(),
        "taken over from the process before: weights and kills that were moved meanwhile"
    );
    if let Err(error) = runtime.block_on(control.store().save(changes, Vec::new())) {
        tracing::error!(%error, "they are in force, but not on record");
    }
}

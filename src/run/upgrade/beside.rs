//! Two processes that serve beside each other for a while: the one before ends its requests, the new one takes all others. Each tells
//! the other what it must know at once: which side has seen an idempotency key, and what people have moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::live::Publish;
use crate::proxy::pins::Pins;
use crate::run::upgrade::channel::{Channel, HandedPin, Word};
use crate::run::upgrade::state::HandedState;
use crate::store::StoredPin;

/// Pins that wait to be told; more are dropped and counted.
const WAITING_MAX: usize = 16_384;
/// Pins told at once.
const AT_ONCE_MAX: usize = 256;
/// How often it is looked whether something was moved.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long one may be silent.
const A_DAY: Duration = Duration::from_hours(24);

/// Where pins wait to be told.
pub(super) fn queue() -> (SyncSender<StoredPin>, Receiver<StoredPin>) {
    sync_channel(WAITING_MAX)
}

/// Tells the other process of pins, in a thread of its own that ends when that one is gone. With `live`, also of what is moved.
pub(super) fn tell(
    channel: Arc<Channel>,
    pins: Arc<Pins>,
    waiting: Receiver<StoredPin>,
    live: Option<Arc<dyn Publish>>,
    is_gone: Arc<AtomicBool>,
) {
    let thread = std::thread::Builder::new().name("telling".to_owned());
    let telling = thread.spawn(move || {
        let mut told = live.as_ref().map(|live| live.snapshot());
        while !is_gone.load(Ordering::Relaxed) {
            let said = match waiting.recv_timeout(LOOK_EVERY) {
                Ok(first) => {
                    let rest = waiting.try_iter().take(AT_ONCE_MAX - 1);
                    let batch = std::iter::once(first).chain(rest).map(HandedPin::from).collect();
                    channel.say(&Word::Pins(batch), &[])
                }
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let now = live.as_ref().map(|live| live.snapshot());
            let said = said.and_then(|()| match (&told, &now) {
                (Some(told), Some(now)) if told.runtime() != now.runtime() => {
                    channel.say(&Word::State(HandedState::of(now.runtime())), &[])
                }
                _ => Ok(()),
            });
            if said.is_err() {
                break;
            }
            told = now;
        }
        pins.tell(None);
    });
    if let Err(error) = telling {
        tracing::warn!(%error, "the other process is not told of idempotency keys");
    }
}

/// In the process before: hears what the new one says for as long as both live. What people move there is in force here as well, on
/// the connections that are still open.
pub(super) fn hear(channel: Arc<Channel>, pins: Arc<Pins>, live: Arc<dyn Publish>) {
    let thread = std::thread::Builder::new().name("heir".to_owned());
    let hearing = thread.spawn(move || {
        while let Ok(Some((word, _))) = channel.hear(Instant::now() + A_DAY) {
            match word {
                Word::Pins(told) => learn(&pins, told),
                Word::State(state) => put_in_force(live.as_ref(), &state),
                Word::Sockets(_)
                | Word::Lock
                | Word::Begin
                | Word::Prepared
                | Word::Ready
                | Word::Yours(_)
                | Word::KillAll => {}
            }
        }
    });
    if let Err(error) = hearing {
        tracing::warn!(%error, "what is moved in the new process is not in force on connections that are still open here");
    }
}

/// Notes what the other process has seen.
pub(super) fn learn(pins: &Pins, told: Vec<HandedPin>) {
    told.into_iter().map(StoredPin::from).for_each(|pin| pins.learn(&pin));
}

fn put_in_force(live: &dyn Publish, state: &HandedState) {
    let Some(handed) = state.restore() else {
        tracing::error!("what the new process has moved cannot be understood here");
        return;
    };
    live.change(&mut |now| (*now.runtime() != handed).then(|| Arc::new(now.with_runtime(&handed))));
}

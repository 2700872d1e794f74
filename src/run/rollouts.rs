//! What binds the rollouts' hand to the rest: its thread, whom it asks, and how it moves users.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use strangler_core::chain::chain;
use strangler_core::coverage::Book;
use strangler_core::hook::Message;
use strangler_core::judge::evidence::Comparisons;
use strangler_core::route::When;
use strangler_core::runtime::RolloutMove;
use tokio::sync::watch;

use crate::admin::ReadRollout;
use crate::admin::control::Control;
use crate::live::{Live, Publish};
use crate::proxy::Proxy;
use crate::proxy::attached::Attached;
use crate::rollout::{self, Beside, Condition, Mover, Moving, Parts, Views};
use crate::run::coverage;
use crate::run::hooks::Outside;
use crate::store::Store;

/// How long a process that takes over waits: the one before it still moves rollouts until it has let go.
const AFTER_ANOTHER: Duration = Duration::from_secs(5);
/// How long the last counts may take to be saved.
const LAST_SAVE_MAX: Duration = Duration::from_secs(3);

/// The thread that moves rollouts.
pub(super) struct Rolling {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Rolling {
    pub(super) fn start(parts: Parts, condition: Arc<Condition>, is_heir: bool) -> io::Result<Rolling> {
        let (stop, stopping) = watch::channel(false);
        let parts = Arc::new(parts);
        let thread = std::thread::Builder::new().name("rollouts".to_owned()).spawn(move || {
            if is_heir && waits_in_vain(&stopping) {
                return;
            }
            rollout::keep_running(&condition, &stopping, || {
                // Of its own, for nothing of the life before may go on in it.
                match tokio::runtime::Builder::new_current_thread().enable_time().build() {
                    Ok(runtime) => runtime.block_on(rollout::run(Arc::clone(&parts), stopping.clone())),
                    Err(error) => tracing::error!(%error, "rollouts cannot be moved: there is no runtime for it"),
                }
            });
        })?;
        Ok(Rolling { stop, thread })
    }

    /// Moves nothing any more. Does not wait.
    pub(super) fn tell(&self) {
        let _ = self.stop.send(true);
    }

    /// Moves nothing any more, and has saved what was counted; bounded in time.
    pub(super) fn stop(&self) {
        self.tell();
        let begun = std::time::Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < LAST_SAVE_MAX {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether it was stopped while the process before this one had its last moments.
fn waits_in_vain(stopping: &watch::Receiver<bool>) -> bool {
    let begun = std::time::Instant::now();
    while begun.elapsed() < AFTER_ANOTHER {
        if *stopping.borrow() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Moves users by the one hand that does.
struct Hand(Arc<Control>);

impl Mover for Hand {
    fn lower(&self, moved: &RolloutMove) -> Result<(), String> {
        self.0.lower_rollout(moved).map_err(|error| chain(&error))
    }

    fn record(&self, lowered: Vec<RolloutMove>) -> Moving<'_, ()> {
        Box::pin(self.0.record_lowered(lowered))
    }

    fn raise<'a>(&'a self, moved: &'a RolloutMove) -> Moving<'a, Result<(), String>> {
        Box::pin(async move { self.0.raise_rollout(moved).await.map_err(|error| chain(&error)) })
    }
}

pub(super) fn parts(
    proxy: &Arc<Proxy>,
    live: &Arc<Live<Attached>>,
    hand: &Arc<Control>,
    store: &Store,
    views: &Arc<Views>,
    book: &Arc<Mutex<Book>>,
    outside: &Outside,
) -> Parts {
    let book = Arc::clone(book);
    let (queries, asking, telling, begun) =
        (outside.queries.clone(), outside.hooks.clone(), outside.hooks.clone(), proxy.begun);
    let publish: Arc<dyn Publish> = live.clone();
    let (attached, counts) = (Arc::clone(live), Arc::clone(&proxy.metrics));
    Parts {
        live: publish,
        store: store.clone(),
        metrics: Arc::clone(&proxy.metrics),
        witnesses: Arc::clone(&proxy.settings.witnesses),
        mover: Arc::new(Hand(Arc::clone(hand))),
        beside: Box::new(move |route| {
            let (compared, mismatched) = counts.comparisons_of(route.name.as_str());
            Beside {
                is_breaker_open: attached.load().attached.is_breaker_open(route.name.as_str()),
                comparisons: Comparisons { compared, mismatched, burst: 0 },
                coverage: route
                    .rollout
                    .as_ref()
                    .and_then(|policy| policy.gates.coverage)
                    .map(|asked| coverage::gated(&book, route.name.as_str(), asked.min_each)),
                external: route
                    .rollout
                    .as_ref()
                    .and_then(|policy| queries.of(&route.name, &policy.gates.prometheus, begun.elapsed())),
            }
        }),
        leave: Box::new(move |policy, question, now| {
            let message = |when| Message::asking(now, when == When::ConfirmPromotion, question.to.to_string());
            asking.leave(now.route, policy, question, message)
        }),
        tell: Box::new(move |policy, message| telling.tell(policy, message)),
        views: Arc::clone(views),
        begun: proxy.begun,
    }
}

/// For the status.
pub(super) fn shown(views: &Arc<Views>) -> ReadRollout {
    let views = Arc::clone(views);
    Arc::new(move |route| views.get(route).and_then(|view| serde_json::to_value(view).ok()))
}

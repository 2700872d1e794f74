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
use tokio::sync::watch;

use crate::admin::ReadRollout;
use crate::admin::control::{Control, RolloutMove};
use crate::live::{Live, Publish};
use crate::proxy::Proxy;
use crate::proxy::attached::Attached;
use crate::rollout::{self, Beside, Decided, Parts, Views};
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
    pub(super) fn start(parts: Parts, is_heir: bool) -> io::Result<Rolling> {
        let (stop, stopping) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new().name("rollouts".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let mut waiting = stopping.clone();
                if is_heir {
                    let told = waiting.wait_for(|stop| *stop);
                    if tokio::time::timeout(AFTER_ANOTHER, told).await.is_ok() {
                        return;
                    }
                }
                rollout::run(parts, stopping).await;
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
    let (mover, attached, counts) = (Arc::clone(hand), Arc::clone(live), Arc::clone(&proxy.metrics));
    Parts {
        live: publish,
        store: store.clone(),
        metrics: Arc::clone(&proxy.metrics),
        witnesses: Arc::clone(&proxy.settings.witnesses),
        mover: Box::new(move |Decided { route, before, after, what }| {
            let hand = Arc::clone(&mover);
            Box::pin(async move {
                let one = RolloutMove { route, before, after, what };
                hand.move_rollout(&one).await.map_err(|error| chain(&error))
            })
        }),
        beside: Box::new(move |route| {
            let (compared, mismatched) = counts.comparisons_of(route.name.as_str());
            Beside {
                is_breaker_open: attached.load().attached.is_breaker_open(route.name.as_str()),
                comparisons: Comparisons { compared, mismatched },
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

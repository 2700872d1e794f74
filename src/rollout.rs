//! The rollouts' own hand: counts what requests prove, has it judged every second, and moves weights by what the core decides.
//!
//! On a thread of its own. Nothing here can delay a request: what comes from the data plane waits in a bounded queue, what moves
//! users is published by a swap.

mod book;
mod view;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use strangler_core::chain::chain;
use strangler_core::hook::{self, Leave, Message, Question};
use strangler_core::judge::evidence::{Comparisons, CoverageResult, External};
use strangler_core::judge::hard::Trip;
use strangler_core::judge::{Verdict, judge, judge_without_forecast};
use strangler_core::name::RouteName;
use strangler_core::rollout::{Action, Look, Seen, look};
use strangler_core::route::{Need, RolloutPolicy, Route};
use strangler_core::runtime::{Note, Progress};
use strangler_core::snapshot::Snapshot;
use tokio::sync::watch;

use crate::live::Publish;
use crate::live::witness::Witnesses;
use crate::rollout::book::Book;
pub use crate::rollout::view::{GateView, RolloutView, Views};
use crate::store::{Store, now_unix_ms};
use crate::telemetry::metrics::Metrics;

/// How often the queue is emptied.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// How often is judged.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks from one forecast to the next: what is needed still costs ten times what a judgement does.
const FORECAST_EVERY: u64 = 10;
/// Longest time that one look may add to a step: a process that was stopped has proven nothing meanwhile.
const GAP_MAX: Duration = Duration::from_secs(2);

/// A move that was decided.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The route.
    pub route: RouteName,
    /// Where it stood when this was decided.
    pub before: Option<Progress>,
    /// Where it stands then.
    pub after: Progress,
    /// `rollout_step`, `rollout_back`, `rollout_release`.
    pub what: &'static str,
}

/// Puts a move in force and on record; answers why not.
pub type Mover = Box<dyn Fn(Decided) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What is known of a route elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// Whether its breaker stands open.
    pub is_breaker_open: bool,
    /// Pairs compared since the process began.
    pub comparisons: Comparisons,
    /// What the coverage gate says; `None`: it is not asked.
    pub coverage: Option<CoverageResult>,
    /// What the queries come to, and which of them decides; `None`: there are none.
    pub external: Option<(External, Option<String>)>,
}

/// Tells what is known of a route elsewhere.
pub type ReadBeside = Box<dyn Fn(&Route) -> Beside + Send + Sync>;

/// Tells whether a raise has the leave of its hooks; asks them where that is not known, and does not wait.
pub type AskLeave = Box<dyn Fn(&RolloutPolicy, &Question, &hook::Now<'_>) -> Leave + Send + Sync>;

/// Tells those whom the policy names. Does not wait.
pub type Tell = Box<dyn Fn(&RolloutPolicy, Message) + Send + Sync>;

/// What the hand works on.
pub struct Parts {
    /// What is in force.
    pub live: Arc<dyn Publish>,
    /// Where evidence is kept.
    pub store: Store,
    /// For gauges and counters.
    pub metrics: Arc<Metrics>,
    /// From the data plane.
    pub witnesses: Arc<Witnesses>,
    /// Moves users.
    pub mover: Mover,
    /// From everywhere else.
    pub beside: ReadBeside,
    /// Asks before a raise.
    pub leave: AskLeave,
    /// Says what has happened.
    pub tell: Tell,
    /// What is shown.
    pub views: Arc<Views>,
    /// When the process began.
    pub begun: Instant,
}

/// Runs until `stop`, then saves what was counted.
pub async fn run(parts: Parts, mut stop: watch::Receiver<bool>) {
    let mut hand = Hand { books: BTreeMap::new(), is_known: false, looks: 0, last_look: Instant::now(), parts };
    let mut drain = tokio::time::interval(DRAIN_EVERY);
    drain.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = drain.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        hand.count();
        if hand.last_look.elapsed() >= LOOK_EVERY {
            hand.look().await;
        }
    }
    hand.count();
    hand.save().await;
}

struct Hand {
    parts: Parts,
    books: BTreeMap<RouteName, Book>,
    /// Whether what was counted in an earlier life has been read.
    is_known: bool,
    looks: u64,
    last_look: Instant,
}

impl Hand {
    /// Takes what has come from the data plane.
    fn count(&mut self) {
        // No more than were there: a busy data plane must not keep this busy for ever.
        for _ in 0..self.parts.witnesses.len() {
            let Some(seen) = self.parts.witnesses.pop() else { break };
            if let Some(book) = self.books.get_mut(&*seen.route) {
                book.note(&seen);
            }
        }
    }

    /// Takes what answers have named.
    fn note_releases(&mut self) {
        while let Some((route, release)) = self.parts.witnesses.pop_release() {
            if let Some(book) = self.books.get_mut(&*route) {
                book.releases.note(release);
            }
        }
    }

    /// Another release is another rollout: what was counted is not about it, and it was never rolled back. It stays where it stands.
    async fn follow_release(&mut self, route: &Route, before: &Progress) {
        let Some(book) = self.books.get(&route.name) else { return };
        let named = book.releases.release().filter(|named| before.release.as_ref() != Some(*named));
        let Some(named) = named.cloned() else { return };
        let was = before.release.as_ref().map_or_else(|| "an unnamed one".to_owned(), ToString::to_string);
        let entered = note(&format!("release {named} answers, {was} did: what was counted begins anew"));
        let after = before.naming(named.clone(), entered);
        let moved = Decided { route: route.name.clone(), before: Some(before.clone()), after, what: "rollout_release" };
        match (self.parts.mover)(moved).await {
            Ok(()) => tracing::info!(route = %route.name, release = %named, was, "another release answers"),
            Err(why) => {
                tracing::warn!(route = %route.name, release = %named, why, "another release answers, and could not be put on record");
            }
        }
    }

    async fn look(&mut self) {
        let passed = self.last_look.elapsed().min(GAP_MAX);
        self.last_look = Instant::now();
        self.looks += 1;
        let snapshot = self.parts.live.snapshot();
        self.keep_books(&snapshot).await;
        self.note_releases();
        for route in snapshot.table().routes().iter().filter(|route| route.release_header.is_some()) {
            if let Some(before) = snapshot.runtime().rollouts().get(&route.name) {
                self.follow_release(route, before).await;
            }
        }
        // As it is now: a release may have begun anew.
        let snapshot = self.parts.live.snapshot();
        if self.books.is_empty() {
            return;
        }
        for (index, route) in snapshot.table().routes().iter().enumerate() {
            if let Some(policy) = &route.rollout {
                self.look_at(&snapshot, index, route, policy, passed).await;
            }
        }
        self.save().await;
    }

    /// A book for every route with a rollout, and none for others.
    async fn keep_books(&mut self, snapshot: &Snapshot) {
        let rolled: Vec<&Arc<Route>> = snapshot.table().routes().iter().filter(|it| it.rollout.is_some()).collect();
        if rolled.is_empty() && self.books.is_empty() {
            return;
        }
        if !self.is_known {
            match self.parts.store.ledgers().await {
                Ok(stored) => {
                    self.is_known = true;
                    for one in stored {
                        match Book::stored(&one) {
                            Ok(book) => drop(self.books.insert(one.route, book)),
                            Err(error) => {
                                tracing::error!(route = %one.route, error = chain(&error), "what a rollout had counted cannot be read: it begins anew");
                            }
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "what rollouts had counted cannot be read yet: nothing rises"),
            }
        }
        let names: std::collections::BTreeSet<&RouteName> = rolled.iter().map(|route| &route.name).collect();
        self.books.retain(|name, _| names.contains(name));
        self.parts.views.retain(|name| names.contains(name));
        for route in rolled {
            if !self.books.contains_key(&route.name) {
                self.books.insert(route.name.clone(), Book::default());
            }
        }
    }

    async fn look_at(
        &mut self,
        snapshot: &Snapshot,
        index: usize,
        route: &Arc<Route>,
        policy: &RolloutPolicy,
        passed: Duration,
    ) {
        let Some(book) = self.books.get_mut(&route.name) else { return };
        let before = snapshot.runtime().rollouts().get(&route.name).cloned();
        let lost = self.parts.store.health_now().lost.filter(|_| before.is_none());
        if let Some(lost) = lost {
            // Nothing rises on less than was known: a person has to say so.
            let after = Progress::lost(note(&format!("what was known of it is lost: {lost}")));
            let moved = Decided { route: route.name.clone(), before, after, what: "rollout_lost" };
            if let Err(why) = (self.parts.mover)(moved).await {
                tracing::warn!(route = %route.name, why, "a rollout whose state is lost could not be kept down");
            }
            return;
        }
        let progress = before.clone().unwrap_or_else(|| Progress::fresh(note("the rollout begins")));
        let is_killed = snapshot.state(index).is_some_and(|state| state.killed);
        book.warmup = policy.warmup;
        book.follow(&progress);
        let beside = (self.parts.beside)(route);
        let trip = book.tick(&progress, &beside, passed, is_killed, self.parts.begun.elapsed());
        let wants_forecast = self.looks % FORECAST_EVERY == 1;
        let verdict = progress.is_begun.then(|| {
            let evidence = book.ledger.evidence(progress.weight, beside.coverage, beside.external.clone());
            if wants_forecast {
                judge(&policy.gates, &evidence)
            } else {
                judge_without_forecast(&policy.gates, &evidence)
            }
        });
        let unmet = unmet(snapshot, policy);
        let found = look(&Seen {
            route,
            policy,
            progress: &progress,
            verdict: verdict.as_ref(),
            trip,
            at_step: book.ledger.at_step(),
            requests: book.ledger.requests_at(progress.weight),
            unmet: &unmet,
            is_killed,
            is_state_known: self.is_known,
            now_unix_ms: now_unix_ms(),
        });
        book.watch.begin(&progress, is_killed);
        let looked = hook::Now {
            route: &route.name,
            progress: &progress,
            found: &found,
            verdict: verdict.as_ref(),
            is_killed,
            at_step: book.ledger.at_step(),
            requests: book.ledger.requests_at(progress.weight),
            now_unix_ms: now_unix_ms(),
        };
        let leave = match found.action {
            Action::Rise(step) => (self.parts.leave)(policy, &Question::new(&progress, step), &looked),
            Action::Stay | Action::Back(_) | Action::Page => Leave::Given,
        };
        let left = hook::with_leave(found.clone(), &leave);
        show(&self.parts.metrics, route, verdict.as_ref());
        let stands = self.act(route, before, &progress, &left, trip).await.unwrap_or_else(|| progress.clone());
        let after = hook::Now { progress: &stands, found: &left, now_unix_ms: now_unix_ms(), ..looked };
        let at = self.parts.begun.elapsed();
        if let Some(book) = self.books.get_mut(&route.name) {
            for message in book.watch.follow(&after, at) {
                (self.parts.tell)(policy, message);
            }
            let view = view::of(policy, &stands, &left, verdict.as_ref(), &book.ledger);
            self.parts.views.put(&route.name, view, wants_forecast);
        }
    }

    /// Does it; answers where the rollout stands then, if it moved.
    async fn act(
        &mut self,
        route: &Arc<Route>,
        before: Option<Progress>,
        progress: &Progress,
        found: &Look,
        trip: Option<Trip>,
    ) -> Option<Progress> {
        let (after, what, action) = match &found.action {
            Action::Stay => return None,
            Action::Page => {
                if self.looks % 60 == 1 {
                    tracing::error!(route = %route.name, why = found.why, "a rollout should be sent back, and must not be by itself");
                }
                return None;
            }
            Action::Rise(step) => (progress.entering(*step, note(&found.why)), "rollout_step", "rise"),
            Action::Back(step) => (progress.rolled_back(*step, note(&found.why)), "rollout_back", "roll_back"),
        };
        let (from, to) = (progress.weight, after.weight);
        let moved = Decided { route: route.name.clone(), before, after, what };
        let stands = moved.after.clone();
        match (self.parts.mover)(moved).await {
            Ok(()) => {
                if let Some(book) = self.books.get_mut(&route.name) {
                    book.follow(&stands);
                }
                tracing::warn!(route = %route.name, %from, %to, why = found.why, trip = trip.map(Trip::as_str), "a rollout moved");
                self.parts.metrics.count_transition(route.name.as_str(), action, "rollout");
                Some(stands)
            }
            Err(why) => {
                tracing::warn!(route = %route.name, %from, %to, why, "a rollout did not move");
                None
            }
        }
    }

    /// Puts what was counted on record. What cannot be written is tried again at the next look.
    async fn save(&mut self) {
        // What cannot be written is not put together, either; it stays where it is.
        if !self.is_known || !self.parts.store.health_now().healthy {
            return;
        }
        let unsaved: Vec<_> =
            self.books.iter_mut().filter_map(|(name, book)| Some((name.clone(), book.take_unsaved()?))).collect();
        if unsaved.is_empty() {
            return;
        }
        if let Err(error) = self.parts.store.save_ledgers(unsaved).await {
            tracing::debug!(%error, "what rollouts have counted is not on record yet");
            // Which of the keys are there cannot be told: all of them go next time, in the place of what is there.
            self.books.values_mut().for_each(Book::write_whole_next);
        }
    }
}

/// What of `needs` is not so.
fn unmet<'a>(snapshot: &Snapshot, policy: &'a RolloutPolicy) -> Vec<&'a Need> {
    let is_met = |need: &&Need| {
        let state = snapshot.route(need.route.as_str()).and_then(|(index, _)| snapshot.state(index));
        state.is_some_and(|state| !state.killed && state.weight >= need.weight)
    };
    policy.needs.iter().filter(|need| !is_met(need)).collect()
}

fn show(metrics: &Metrics, route: &Route, verdict: Option<&Verdict>) {
    let decision = verdict.map_or("hold", |verdict| verdict.verdict.as_str());
    metrics.show_rollout(route.name.as_str(), decision);
    for (gate, report) in verdict.iter().flat_map(|verdict| &verdict.gates) {
        if let Some(log_e) = report.log_e_harm {
            metrics.show_log_e(route.name.as_str(), gate.as_str(), log_e);
        }
    }
}

/// Of the rollout's own moves. Longer reasons than a note may have are cut.
fn note(why: &str) -> Note {
    let why: String = why.chars().take(250).collect();
    Note::by_the_rollout(now_unix_ms(), if why.trim().is_empty() { "it is so decided" } else { &why })
}

/// A lock that a panic has left behind is as good as any: what it holds is replaced whole.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

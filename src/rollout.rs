//! The rollouts' own hand: counts what requests prove, has it judged every second, and moves weights by what the core decides.
//!
//! On a thread of its own. Nothing here can delay a request: what comes from the data plane waits in a bounded queue, what moves
//! users is published by a swap. And nothing delays a lowering: a look waits for no disk. What has to be on record is written by an
//! errand beside it, one at a time.

mod book;
mod clock;
mod errand;
mod told;
mod view;
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use strangler_core::chain::chain;
use strangler_core::hook::{self, Leave, Message, Question};
use strangler_core::judge::evidence::{Comparisons, CoverageResult, External};
use strangler_core::judge::hard::Trip;
use strangler_core::judge::many;
use strangler_core::judge::{Verdict, judge, judge_without_forecast};
use strangler_core::name::RouteName;
use strangler_core::rollout::{Action, Look, Member, Seen, changes, look, together};
use strangler_core::route::{Need, RolloutPolicy, Route};
use strangler_core::runtime::{Note, Progress, RolloutChange, RolloutMove};
use strangler_core::snapshot::Snapshot;
use strangler_core::table::Revision;
use tokio::sync::watch;

use crate::live::Publish;
use crate::live::witness::Witnesses;
use crate::rollout::book::Book;
use crate::rollout::clock::Clock;
use crate::rollout::errand::{Done, Errand};
pub use crate::rollout::errand::{Mover, Moving};
pub use crate::rollout::view::{GateView, RolloutView, Views};
pub use crate::rollout::watched::{Condition, keep_running};
use crate::store::{Store, StoredLedger, now_unix_ms};
use crate::telemetry::metrics::Metrics;

/// How often the queue is emptied.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// How often is judged.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks from one forecast to the next: what is needed still costs ten times what a judgement does.
const FORECAST_EVERY: u64 = 10;
/// Longest time that one look may add to a step: a process that was stopped has proven nothing meanwhile.
const GAP_MAX: Duration = Duration::from_secs(2);
/// How often what was counted is put on record: often enough that a process that is killed loses no more than a second.
const SAVE_EVERY: Duration = Duration::from_millis(700);
/// A step that takes longer is said to be starved, in seconds.
const STARVED_S: u64 = 7 * 86_400;
/// Most lowerings that wait to be on record; of the oldest beyond, only where their routes stand is recorded.
const UNRECORDED_MAX: usize = 1_024;

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
    pub mover: Arc<dyn Mover>,
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
pub async fn run(parts: Arc<Parts>, mut stop: watch::Receiver<bool>) {
    let mut hand = Hand {
        books: BTreeMap::new(),
        ledgers: Ledgers::Unasked,
        looks: 0,
        last_look: None,
        last_errand: None,
        clock: Clock::default(),
        judged: 0,
        standing_out: BTreeSet::new(),
        harm: Vec::new(),
        told_starved: BTreeMap::new(),
        unrecorded: Vec::new(),
        errand: None,
        parts,
    };
    let mut drain = tokio::time::interval(DRAIN_EVERY);
    drain.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = drain.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        hand.take_errand().await;
        hand.count();
        if hand.last_look.is_none_or(|last| last.elapsed() >= LOOK_EVERY) {
            let raises = hand.look();
            hand.send_errand(raises);
        } else if hand.last_errand.is_none_or(|last| last.elapsed() >= SAVE_EVERY) {
            hand.send_errand(Vec::new());
        }
    }
    hand.finish().await;
}

/// What is known of what earlier lives have counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ledgers {
    /// Not asked yet: what comes in waits.
    Unasked,
    /// It did not answer; it is asked again, and nothing rises until then.
    Unknown,
    /// All of it.
    Known,
}

struct Hand {
    parts: Arc<Parts>,
    books: BTreeMap<RouteName, Book>,
    ledgers: Ledgers,
    looks: u64,
    last_look: Option<Instant>,
    last_errand: Option<Instant>,
    clock: Clock,
    /// How many routes were judged at the last look, and which of them stand out.
    judged: usize,
    standing_out: BTreeSet<RouteName>,
    /// Evidence of harm of those that were judged at this look.
    harm: Vec<(RouteName, f64)>,
    /// For which revision of the file it was said that a step of a route will not be proven in a week.
    told_starved: BTreeMap<RouteName, Revision>,
    /// Lowerings in force that are not on record yet, oldest first.
    unrecorded: Vec<RolloutMove>,
    /// Under way to the store and back.
    errand: Option<tokio::task::JoinHandle<Done>>,
}

/// What a look at one route found.
struct Found<'a> {
    route: &'a Arc<Route>,
    before: Option<Progress>,
    progress: Progress,
    look: Look,
    verdict: Option<Verdict>,
    trip: Option<Trip>,
    is_killed: bool,
}

impl Hand {
    /// Takes what has come from the data plane.
    fn count(&mut self) {
        if self.ledgers == Ledgers::Unasked {
            return;
        }
        let snapshot = self.parts.live.snapshot();
        // A raise is in force as soon as it is on record: what is seen from then on is of the new step.
        for (name, book) in &mut self.books {
            if let Some(progress) = snapshot.runtime().rollouts().get(name) {
                book.follow(progress);
            }
        }
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
    fn follow_release(&mut self, snapshot: &Snapshot, route: &Route) -> Option<RolloutMove> {
        let before = snapshot.runtime().rollouts().get(&route.name)?;
        let named = self.books.get(&route.name)?.releases.release()?.clone();
        if before.release.as_ref() == Some(&named) {
            return None;
        }
        let was = before.release.as_ref().map_or_else(|| "an unnamed one".to_owned(), ToString::to_string);
        let entered = note(&format!("release {named} answers, {was} did: what was counted begins anew"));
        let moved = snapshot.runtime().with_release(snapshot.table(), route, &named, &entered);
        tracing::info!(route = %route.name, release = %named, was, "another release answers");
        self.put(moved)
    }

    /// Puts a move in force where that waits for nothing; answers it where it has to be on record first.
    fn put(&mut self, moved: RolloutMove) -> Option<RolloutMove> {
        if moved.is_raise() {
            return Some(moved);
        }
        match self.parts.mover.lower(&moved) {
            Ok(()) => {
                for change in &moved.changes {
                    if let Some(book) = self.books.get_mut(&change.route) {
                        book.follow(&change.after);
                    }
                }
                self.unrecorded.push(moved);
            }
            Err(why) => tracing::warn!(what = moved.what, why, "a rollout did not move"),
        }
        None
    }

    /// Looks at every rollout. Lowerings are in force when this is done; answers the raises. Waits for nothing.
    fn look(&mut self) -> Vec<RolloutMove> {
        let passed = self.last_look.map_or(Duration::ZERO, |last| last.elapsed().min(GAP_MAX));
        self.last_look = Some(Instant::now());
        self.looks += 1;
        self.clock.look(now_unix_ms(), self.parts.begun.elapsed());
        let snapshot = self.parts.live.snapshot();
        self.keep_books(&snapshot);
        let mut raises = Vec::new();
        if self.ledgers == Ledgers::Unasked {
            return raises;
        }
        self.note_releases();
        for route in snapshot.table().routes().iter().filter(|route| route.release_header.is_some()) {
            raises.extend(self.follow_release(&snapshot, route));
        }
        // As it is now: a release may have begun anew.
        let snapshot = self.parts.live.snapshot();
        for climb in snapshot.table().climbs() {
            // What cannot be judged stays where it is, and keeps nobody else from being judged.
            let looked = catch_unwind(AssertUnwindSafe(|| self.look_at(&snapshot, &climb, passed)));
            if let Ok(raise) = looked {
                raises.extend(raise);
                continue;
            }
            self.parts.metrics.count_rollout_panic();
            let named = climb.iter().filter_map(|index| snapshot.table().routes().get(*index));
            let routes: Vec<&str> = named.map(|route| route.name.as_str()).collect();
            tracing::error!(?routes, "a rollout cannot be judged: it stays where it is");
        }
        self.compare_routes();
        raises
    }

    /// Of many routes some seem worse by chance: which of them stand out rise no further until they do not.
    fn compare_routes(&mut self) {
        let harm = std::mem::take(&mut self.harm);
        let evidence: Vec<f64> = harm.iter().map(|(_, ln_e)| *ln_e).collect();
        self.parts.metrics.show_log_e_any(many::ln_e_any(&evidence));
        self.judged = harm.len();
        // One route by itself is what the gates are for.
        let found = if harm.len() > 1 { many::found_among(&evidence, many::RATE) } else { Vec::new() };
        self.standing_out =
            harm.into_iter().zip(found).filter(|(_, found)| *found).map(|((name, _), _)| name).collect();
    }

    /// Says once for each routes file that a step will not be proven in a week at the traffic of now.
    fn tell_starved(&mut self, snapshot: &Snapshot, route: &RouteName, view: &RolloutView) {
        let Some(starved) = view.prices.iter().find(|price| price.seconds > STARVED_S) else { return };
        let revision = snapshot.table().revision();
        if self.told_starved.get(route) == Some(revision) {
            return;
        }
        self.told_starved.insert(route.clone(), revision.clone());
        let (step, gate) = (&starved.step, starved.gate.unwrap_or("min_requests"));
        let takes = strangler_core::rollout::words(starved.seconds);
        tracing::warn!(%route, step, gate, takes, "at the traffic of now a step of this rollout will not be passed within a week");
    }

    /// A book for every route with a rollout, and none for others.
    fn keep_books(&mut self, snapshot: &Snapshot) {
        let rolled: BTreeSet<&RouteName> =
            snapshot.table().routes().iter().filter(|it| it.rollout.is_some()).map(|route| &route.name).collect();
        self.books.retain(|name, _| rolled.contains(name));
        self.parts.views.retain(|name| rolled.contains(name));
        for name in rolled {
            if !self.books.contains_key(name) {
                self.books.insert(name.clone(), Book::default());
            }
        }
    }

    /// Looks at a rollout, of one route or of all routes of a journey.
    fn look_at(&mut self, snapshot: &Snapshot, climb: &[usize], passed: Duration) -> Option<RolloutMove> {
        let routes = || climb.iter().filter_map(|index| Some((*index, snapshot.table().routes().get(*index)?)));
        let policy = routes().find_map(|(_, route)| route.rollout.clone())?;
        if let Some(lost) = self.parts.store.health_now().lost {
            // Nothing rises on less than was known: a person has to say so.
            let why = note(&format!("what was known of it is lost: {lost}"));
            let unknown = routes().filter(|(_, route)| !snapshot.runtime().rollouts().contains_key(&route.name));
            let lost = |(_, route): (usize, &Arc<Route>)| RolloutChange {
                route: route.name.clone(),
                before: None,
                after: Progress::lost(route, why.clone()),
            };
            let changes: Vec<RolloutChange> = unknown.map(lost).collect();
            if !changes.is_empty() {
                return self.put(RolloutMove { changes, what: "rollout_lost" });
            }
        }
        let found: Vec<Found<'_>> =
            routes().filter_map(|(index, route)| self.judge(snapshot, index, route, passed)).collect();
        let members: Vec<Member<'_>> = found
            .iter()
            .map(|one| Member {
                route: one.route,
                before: one.before.as_ref(),
                progress: &one.progress,
                look: one.look.clone(),
            })
            .collect();
        let (decided, culprit) = together(&policy, &members);
        let decided = self.with_leave(decided, &found);
        let changes = changes(&members, &decided.action, culprit.as_ref(), &note(&decided.why));
        let raise = self.act(&decided, &found, changes);
        for one in &found {
            let now = self.parts.live.snapshot();
            let stands = now.runtime().rollouts().get(&one.route.name).unwrap_or(&one.progress);
            self.tell_hooks(one, stands, &decided);
            let Some(book) = self.books.get(&one.route.name) else { continue };
            let policy = one.route.rollout.as_deref().unwrap_or(&policy);
            let mut view = view::of(one.route, policy, stands, &decided, one.verdict.as_ref(), &book.ledger);
            if self.wants_forecast() {
                view.prices = view::prices(policy, stands, one.verdict.as_ref());
            }
            self.tell_starved(snapshot, &one.route.name, &view);
            self.parts.metrics.show_rollout_alarm(one.route.name.as_str(), view.alarm.is_some());
            self.parts.views.put(&one.route.name, view, self.wants_forecast());
        }
        raise
    }

    fn wants_forecast(&self) -> bool {
        self.looks % FORECAST_EVERY == 1
    }

    /// What a route comes to by itself.
    fn judge<'a>(
        &mut self,
        snapshot: &Snapshot,
        index: usize,
        route: &'a Arc<Route>,
        passed: Duration,
    ) -> Option<Found<'a>> {
        let wants_forecast = self.wants_forecast();
        let policy = route.rollout.as_ref()?;
        let book = self.books.get_mut(&route.name)?;
        let before = snapshot.runtime().rollouts().get(&route.name).cloned();
        let progress = before.clone().unwrap_or_else(|| Progress::starting(route, note("the rollout begins")));
        let is_killed = snapshot.state(index).is_some_and(|state| state.killed);
        book.warmup = policy.warmup;
        book.follow(&progress);
        let beside = (self.parts.beside)(route);
        let trip = book.tick(&progress, &beside, passed, is_killed, self.parts.begun.elapsed());
        let verdict = progress.is_begun.then(|| {
            let evidence = book.ledger.evidence(progress.weight, beside.coverage, beside.external.clone());
            if wants_forecast {
                judge(&policy.gates, &evidence)
            } else {
                judge_without_forecast(&policy.gates, &evidence)
            }
        });
        let unmet = unmet(snapshot, policy);
        let look = look(&Seen {
            route,
            policy,
            progress: &progress,
            verdict: verdict.as_ref(),
            trip,
            stood: book.ledger.stood(progress.weight),
            late: book.ledger.late_harm(progress.weight),
            stands_out: self.standing_out.contains(&route.name).then_some(self.judged),
            unmet: &unmet,
            is_killed,
            is_state_known: self.ledgers == Ledgers::Known,
            now_unix_ms: now_unix_ms(),
            is_clock_doubtful: self.clock.is_doubtful(),
        });
        show(&self.parts.metrics, route, verdict.as_ref());
        if let Some(verdict) = verdict.as_ref().filter(|_| progress.weight.is_split()) {
            self.harm.push((route.name.clone(), many::ln_e_harm(verdict)));
        }
        book.watch.begin(&progress, is_killed);
        Some(Found { route, before, progress, look, verdict, trip, is_killed })
    }

    /// Does it; answers what has to be on record first.
    fn act(&mut self, decided: &Look, found: &[Found<'_>], changes: Vec<RolloutChange>) -> Option<RolloutMove> {
        let what = match decided.action {
            Action::Stay => return None,
            Action::Page => {
                if self.looks % 60 == 1 {
                    let routes: Vec<&str> = found.iter().map(|one| one.route.name.as_str()).collect();
                    tracing::error!(
                        ?routes,
                        why = decided.why,
                        "a rollout should be sent back, and must not be by itself"
                    );
                }
                return None;
            }
            Action::Rise(_) => "rollout_step",
            Action::Back(_) => "rollout_back",
        };
        let moved = RolloutMove { changes, what };
        let (is_raise, told) = (moved.is_raise(), moved.clone());
        let raise = self.put(moved);
        if !is_raise && self.unrecorded.last() == Some(&told) {
            let trip = found.iter().find_map(|one| one.trip).map(Trip::as_str);
            tell(&self.parts.metrics, &told, trip);
        }
        raise
    }

    /// Takes what an errand has come back with.
    async fn take_errand(&mut self) {
        if !self.errand.as_ref().is_some_and(tokio::task::JoinHandle::is_finished) {
            return;
        }
        let Some(errand) = self.errand.take() else { return };
        self.settle(errand.await.unwrap_or_default());
    }

    fn settle(&mut self, done: Done) {
        if !done.is_saved {
            // Which of the keys are there cannot be told: all of them go next time, in the place of what is there.
            self.books.values_mut().for_each(Book::write_whole_next);
        }
        match done.ledgers {
            None if self.ledgers == Ledgers::Unasked => self.ledgers = Ledgers::Unknown,
            None => {}
            Some(Ok(stored)) => {
                self.learn(&stored);
                self.ledgers = Ledgers::Known;
                // What was waited for is here: the first look need not wait any longer.
                self.last_look = None;
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "what rollouts had counted cannot be read yet: nothing rises");
                self.ledgers = Ledgers::Unknown;
            }
        }
    }

    fn learn(&mut self, stored: &[StoredLedger]) {
        for one in stored {
            let Some(book) = self.books.get_mut(&one.route) else { continue };
            match Book::stored(one) {
                Ok(known) => *book = known,
                Err(error) => {
                    tracing::error!(route = %one.route, error = chain(&error), "what a rollout had counted cannot be read: it begins anew");
                }
            }
        }
    }

    /// Sends to the store what has to be there, unless somebody is under way. What is left behind goes with the next one: lowerings and
    /// counts wait, raises are decided anew.
    fn send_errand(&mut self, raises: Vec<RolloutMove>) {
        if self.errand.is_some() || (self.books.is_empty() && self.unrecorded.is_empty()) {
            self.bound_unrecorded();
            return;
        }
        self.last_errand = Some(Instant::now());
        let errand = self.pack(raises);
        if errand.is_needless() {
            return;
        }
        let parts = Arc::clone(&self.parts);
        self.errand = Some(tokio::spawn(errand.run(parts)));
    }

    fn pack(&mut self, raises: Vec<RolloutMove>) -> Errand {
        // What cannot be written is not put together, either; it stays where it is.
        let may_save = self.ledgers == Ledgers::Known && self.parts.store.health_now().healthy;
        let books = self.books.iter_mut().filter(|_| may_save);
        let ledgers = books.filter_map(|(name, book)| Some((name.clone(), book.take_unsaved()?))).collect();
        Errand {
            lowered: std::mem::take(&mut self.unrecorded),
            raises,
            ledgers,
            asks_ledgers: self.ledgers != Ledgers::Known,
        }
    }

    /// Where routes stand is recorded whatever is left out here; what is lost is a line of the audit, and that is said.
    fn bound_unrecorded(&mut self) {
        while self.unrecorded.len() > UNRECORDED_MAX {
            let lost = self.unrecorded.remove(0);
            tracing::error!(what = lost.what, "too many moves wait for the store: one will be missing in the audit");
        }
    }

    /// Everything on record that can be; bounded by the store's own patience.
    async fn finish(&mut self) {
        if let Some(errand) = self.errand.take() {
            let done = errand.await.unwrap_or_default();
            self.settle(done);
        }
        self.count();
        if !self.books.is_empty() || !self.unrecorded.is_empty() {
            let errand = self.pack(Vec::new());
            errand.run(Arc::clone(&self.parts)).await;
        }
    }
}

/// Says that a move is in force.
fn tell(metrics: &Metrics, moved: &RolloutMove, trip: Option<&'static str>) {
    let action = match moved.what {
        "rollout_step" => "rise",
        "rollout_back" => "roll_back",
        _ => return,
    };
    for change in &moved.changes {
        let (from, to, why) = (change.from(), change.after.weight, change.after.entered.reason());
        tracing::warn!(route = %change.route, %from, %to, why, trip, "a rollout moved");
        metrics.count_transition(change.route.as_str(), action, "rollout");
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

//! The pace: so many requests per second, so many at once, until the time is over or somebody says stop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use estate_chassis::dataset::users::Activity;
use estate_chassis::prng::Prng;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{COOKIE, HOST, USER_AGENT};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::shopper::{Call, Part, Shop, Shopper};
use crate::tally::{Ending, Tally};
use crate::target::{Answer, Connections, SendError};

/// In percent: of the clicks that pay, twice; of all requests, left before the answer.
const DOUBLE_PERCENT: u64 = 3;
const ABORT_PERCENT: u64 = 1;
/// One who leaves does so within this.
const PATIENCE_MS_MAX: i64 = 30;
/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(2);
/// Requests still running at the end get this long; then they count as aborted.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// How fast, how long, who.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub per_second: u32,
    /// `None`: until stopped.
    pub lasting: Option<Duration>,
    pub users: u32,
    pub seed: u64,
    pub concurrency: u32,
    /// See [`Shop::new`].
    pub run: u64,
}

/// What [`run`] says while it runs.
#[derive(Debug)]
pub struct Progress<'a> {
    pub elapsed: Duration,
    pub total: &'a Tally,
    /// Since the last time.
    pub recent: &'a Tally,
    pub over: Duration,
    /// What the last failure was, if there was one.
    pub failure: Option<&'a str>,
}

#[derive(Debug, Default)]
struct Books {
    total: Tally,
    recent: Tally,
    failure: Option<String>,
}

/// What one run came to.
#[derive(Debug)]
pub struct Summary {
    pub tally: Tally,
    pub elapsed: Duration,
    /// The last request that failed on the way, and why.
    pub failure: Option<String>,
}

/// Sends until the plan's end or until `stop` is ready, and tells `watch` how it goes each `every`.
pub async fn run(
    connections: Connections,
    plan: Plan,
    stop: impl Future<Output = ()>,
    every: Duration,
    mut watch: impl FnMut(&Progress<'_>),
) -> Summary {
    let mut crowd = Crowd::new(connections, plan);
    let started = Instant::now();
    let mut last_told = started;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut stop = std::pin::pin!(stop);
    let mut sent: u64 = 0;
    // Requests that a slow target kept from being sent, and that nobody will make up for.
    let mut forgone: u64 = 0;
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = ticks.tick() => (),
        }
        let elapsed = started.elapsed();
        if plan.lasting.is_some_and(|lasting| elapsed >= lasting) {
            break;
        }
        let per_second = u64::from(plan.per_second);
        let due = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_mul(per_second) / 1_000 + 1;
        // At most a second's worth is made up for: a target that stood still is not met by a flood.
        forgone = forgone.max(due.saturating_sub(sent + per_second));
        while sent + forgone < due {
            let Some(count) = crowd.send_one() else { break };
            sent += count;
        }
        crowd.reap();
        if last_told.elapsed() >= every {
            crowd.tell(elapsed, last_told.elapsed(), &mut watch);
            last_told = Instant::now();
        }
    }
    crowd.end(started).await
}

/// The customers and the requests that are on their way.
struct Crowd {
    shop: Shop,
    shoppers: Vec<Arc<tokio::sync::Mutex<Shopper>>>,
    activity: Activity,
    prng: Prng,
    connections: Connections,
    permits: Arc<Semaphore>,
    concurrency: u32,
    tasks: JoinSet<()>,
    books: Arc<Mutex<Books>>,
}

impl Crowd {
    fn new(connections: Connections, plan: Plan) -> Crowd {
        let users = plan.users.max(1);
        let shopper = |id| Arc::new(tokio::sync::Mutex::new(Shopper::new(id, plan.seed)));
        Crowd {
            shop: Shop::new(plan.run),
            shoppers: (1..=users).map(shopper).collect(),
            activity: Activity::of(users),
            prng: Prng::new(plan.seed),
            connections,
            permits: Arc::new(Semaphore::new(plan.concurrency as usize)),
            concurrency: plan.concurrency,
            tasks: JoinSet::new(),
            books: Arc::default(),
        }
    }

    /// Sends one request, or two for a double click. `None` when as many as may be are on their way.
    fn send_one(&mut self) -> Option<u64> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let mut shopper = self.idle_shopper()?;
        let part = Part::draw(&mut self.prng);
        let call = shopper.next(part, &self.shop);
        let is_double = call.is_submit && self.prng.percent(DOUBLE_PERCENT);
        let second = if is_double { Arc::clone(&self.permits).try_acquire_owned().ok() } else { None };
        let count = 1 + u64::from(second.is_some());
        let leaves = self.prng.percent(ABORT_PERCENT);
        let patience = self.prng.between(0, PATIENCE_MS_MAX).unsigned_abs();
        let visit = Visit { shopper, call, connections: self.connections.clone(), books: Arc::clone(&self.books) };
        if leaves && second.is_none() {
            self.tasks.spawn(visit.leave(Duration::from_millis(patience), permit));
        } else {
            self.tasks.spawn(visit.stay(permit, second));
        }
        Some(count)
    }

    /// A customer who is not waiting for an answer: by activity, or the next one found.
    fn idle_shopper(&mut self) -> Option<OwnedMutexGuard<Shopper>> {
        for _ in 0..8 {
            let place = self.activity.draw(&mut self.prng) as usize - 1;
            if let Some(shopper) = self.shoppers.get(place).and_then(|it| Arc::clone(it).try_lock_owned().ok()) {
                return Some(shopper);
            }
        }
        self.shoppers.iter().find_map(|it| Arc::clone(it).try_lock_owned().ok())
    }

    fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }

    fn tell(&self, elapsed: Duration, over: Duration, watch: &mut impl FnMut(&Progress<'_>)) {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = std::mem::take(&mut books.recent);
        let failure = books.failure.as_deref();
        watch(&Progress { elapsed, total: &books.total, recent: &recent, over, failure });
    }

    async fn end(mut self, started: Instant) -> Summary {
        let elapsed = started.elapsed();
        let rest = Arc::clone(&self.permits);
        let all_back = timeout(DRAIN_MAX, rest.acquire_many(self.concurrency)).await.is_ok();
        let cut_off = if all_back { 0 } else { self.concurrency as usize - self.permits.available_permits() };
        self.tasks.shutdown().await;
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..cut_off {
            books.total.count(Ending::Aborted, Duration::ZERO);
        }
        Summary { tally: std::mem::take(&mut books.total), elapsed, failure: books.failure.take() }
    }
}

/// One customer's request on its way. The customer does nothing else meanwhile.
struct Visit {
    shopper: OwnedMutexGuard<Shopper>,
    call: Call,
    connections: Connections,
    books: Arc<Mutex<Books>>,
}

impl Visit {
    async fn stay(mut self, _first: OwnedSemaphorePermit, second: Option<OwnedSemaphorePermit>) {
        let answers = if second.is_some() {
            let (one, two) = tokio::join!(self.send(), self.send());
            vec![one, two]
        } else {
            vec![self.send().await]
        };
        let answers: Vec<Answer> = answers.into_iter().flatten().collect();
        // Of two answers the one that says it was done counts.
        let telling = answers.iter().min_by_key(|answer| answer.status);
        self.shopper.learn(&self.call, telling);
    }

    async fn leave(mut self, patience: Duration, _permit: OwnedSemaphorePermit) {
        let Some(request) = self.request() else { return };
        match self.connections.send_and_leave(request, patience).await {
            Ok(_) => self.count(Ending::Aborted, Duration::ZERO),
            Err(error) => self.failed(&error),
        }
        self.shopper.learn(&self.call, None);
    }

    async fn send(&self) -> Option<Answer> {
        let request = self.request()?;
        let sent_at = Instant::now();
        match self.connections.send(request).await {
            Ok(answer) => {
                self.count(Ending::Answered(answer.status), sent_at.elapsed());
                Some(answer)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    fn request(&self) -> Option<Request<Full<Bytes>>> {
        let call = &self.call;
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.path.as_str())
            .header(HOST, self.connections.target().authority())
            .header("x-user-id", self.shopper.id())
            // As a balancer in front would say it: each customer is somewhere else.
            .header("x-forwarded-for", self.shopper.address());
        if let Some(cookie) = self.shopper.cookie() {
            request = request.header(COOKIE, cookie);
        }
        if call.headers.iter().all(|(name, _)| *name != "user-agent") {
            request = request.header(USER_AGENT, "estate-load/0.1");
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        // Only a cookie that is no header value can make this fail; such a request is not sent.
        request.body(Full::new(call.body.clone())).ok()
    }

    fn failed(&self, error: &SendError) {
        let mut why = format!("{} {}: {error}", self.call.method, self.call.path);
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            why.push_str(": ");
            why.push_str(&inner.to_string());
            cause = inner.source();
        }
        self.books.lock().unwrap_or_else(PoisonError::into_inner).failure = Some(why);
        self.count(Ending::Failed, Duration::ZERO);
    }

    fn count(&self, ending: Ending, took: Duration) {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.total.count(ending, took);
        books.recent.count(ending, took);
    }
}

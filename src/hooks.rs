//! Whom rollouts ask and tell: webhooks, and queries to a Prometheus server.
//!
//! Everything here waits by itself, beside the hand that moves rollouts: a receiver that never answers delays neither a judgement nor a
//! lowering. What waits is bounded; what does not fit is dropped and counted, the oldest first, a rollback last.

mod client;
pub mod queries;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use strangler_core::chain::chain;
use strangler_core::hook::{Asking, Keys, Kind, Leave, Message, Question, may_retry, signature, wait_before_retry};
use strangler_core::name::RouteName;
use strangler_core::route::{Hook, HookFormat, HookTo, RolloutPolicy, When};
use strangler_core::web::WebUrl;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::hooks::client::{Ask, ask, read_text};
use crate::telemetry::metrics::Metrics;

/// Messages that wait for one receiver, and for all together.
const WAITING_MAX: usize = 256;
const WAITING_ALL_MAX: usize = 4_096;
/// Messages that are being sent at once; questions have as many places of their own.
const SENDING_MAX: usize = 32;
/// Routes whose questions are remembered.
const ASKING_MAX: usize = 10_000;

/// Sends what rollouts ask and tell. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hooks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    metrics: Arc<Metrics>,
    own: Vec<SocketAddr>,
    begun: Instant,
    lanes: Mutex<BTreeMap<(RouteName, usize), VecDeque<Told>>>,
    waiting: AtomicUsize,
    telling: Semaphore,
    asking: Mutex<BTreeMap<RouteName, Asking>>,
    answering: Semaphore,
    number: AtomicU64,
}

/// A message on its way to one receiver.
#[derive(Clone, Debug)]
struct Told {
    hook: Arc<Hook>,
    message: Arc<Message>,
    when: When,
}

/// How a message ended.
#[derive(Debug)]
enum Sent {
    Delivered,
    /// Answered, and not with a 2xx.
    Refused(u16),
    /// Not answered at all.
    Failed(String),
}

impl Sent {
    const fn as_str(&self) -> &'static str {
        match self {
            Sent::Delivered => "delivered",
            Sent::Refused(_) => "refused",
            Sent::Failed(_) => "failed",
        }
    }

    fn words(&self) -> String {
        match self {
            Sent::Delivered => "passes".to_owned(),
            Sent::Refused(status) => format!("answers {status}"),
            Sent::Failed(why) => why.clone(),
        }
    }
}

impl Hooks {
    /// Sends from `runtime`; `own`: where our own admin port listens.
    pub fn new(runtime: Handle, metrics: Arc<Metrics>, own: Vec<SocketAddr>) -> Hooks {
        Hooks(Arc::new(Inner {
            runtime,
            metrics,
            own,
            begun: Instant::now(),
            lanes: Mutex::default(),
            waiting: AtomicUsize::new(0),
            telling: Semaphore::new(SENDING_MAX),
            asking: Mutex::default(),
            answering: Semaphore::new(SENDING_MAX),
            number: AtomicU64::new(0),
        }))
    }

    /// Tells everybody whom the policy names for it. Does not wait.
    pub fn tell(&self, policy: &RolloutPolicy, message: Message) {
        let message = Arc::new(message);
        for (index, hook) in policy.hooks.iter().enumerate() {
            let occasion = message.kind.occasions().iter().copied().find(|when| hook.is_for(*when));
            if let Some(when) = occasion {
                let told = Told { hook: Arc::new(hook.clone()), message: Arc::clone(&message), when };
                self.queue((message.route.clone(), index), told);
            }
        }
    }

    /// One lane for each receiver: what it is told comes in order, and another one waits for none of it.
    fn queue(&self, key: (RouteName, usize), told: Told) {
        let inner = &self.0;
        let mut lanes = locked(&inner.lanes);
        let is_running = lanes.contains_key(&key);
        let lane = lanes.entry(key.clone()).or_default();
        let is_rollback = told.message.kind == Kind::Rollback;
        // A rollback that nobody else waits behind comes in beyond the bound of all: there is one lane a receiver at most.
        let is_full = inner.waiting.load(Ordering::Relaxed) >= WAITING_ALL_MAX && !(is_rollback && lane.is_empty());
        if lane.len() >= WAITING_MAX || is_full {
            let oldest = lane.iter().position(|waits| waits.message.kind != Kind::Rollback);
            let dropped = match oldest.or_else(|| (is_rollback && !lane.is_empty()).then_some(0)) {
                Some(oldest) => lane.remove(oldest),
                None => None,
            };
            let when = dropped.as_ref().map_or(told.when, |dropped| dropped.when);
            inner.metrics.count_hook(key.0.as_str(), when.as_str(), "dropped");
            if dropped.is_none() {
                if !is_running {
                    lanes.remove(&key);
                }
                return;
            }
            inner.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        lane.push_back(told);
        inner.waiting.fetch_add(1, Ordering::Relaxed);
        drop(lanes);
        if !is_running {
            let all = self.clone();
            inner.runtime.spawn(async move { all.empty(key).await });
        }
    }

    /// Sends what waits in a lane, until nothing does.
    async fn empty(self, key: (RouteName, usize)) {
        loop {
            let told = {
                let mut lanes = locked(&self.0.lanes);
                let Some(told) = lanes.get_mut(&key).and_then(VecDeque::pop_front) else {
                    lanes.remove(&key);
                    return;
                };
                told
            };
            self.0.waiting.fetch_sub(1, Ordering::Relaxed);
            self.send(&told, &self.0.telling).await;
        }
    }

    /// Whether a raise has the leave of those that have to give it; asks them where that is not known. `message` puts the question.
    pub fn leave(
        &self,
        route: &RouteName,
        policy: &RolloutPolicy,
        question: &Question,
        message: impl Fn(When) -> Message,
    ) -> Leave {
        let asked = question.asked(policy);
        if asked.is_empty() {
            return Leave::Given;
        }
        let now = self.0.begun.elapsed();
        let mut asking = locked(&self.0.asking);
        let known = asking.get(route);
        if let Some(leave) = known.and_then(|known| known.leave(question, now)) {
            return leave;
        }
        let first = shown(asked.first().map(|(_, hook, _)| *hook));
        // An older question is still with somebody: its answer is waited for, so that one who never answers has one question at a time.
        if let Some(open) = known.filter(|known| known.is_open()) {
            return Leave::Asked(open.last_refusal(question).unwrap_or(first));
        }
        let refusal = known.and_then(|known| known.last_refusal(question));
        if asking.len() >= ASKING_MAX {
            asking.retain(|known, asking| known == route || asking.is_open());
        }
        if asking.len() >= ASKING_MAX && !asking.contains_key(route) {
            return Leave::Refused("too many questions are open".to_owned());
        }
        let number = self.0.number.fetch_add(1, Ordering::Relaxed);
        let whom = asked.iter().map(|(_, hook, _)| shown(Some(hook))).collect();
        asking.insert(route.clone(), Asking::new(question.clone(), number, whom, now));
        drop(asking);
        for (place, (_, hook, when)) in asked.into_iter().enumerate() {
            let told = Told { hook: Arc::new(hook.clone()), message: Arc::new(message(when)), when };
            let (all, route) = (self.clone(), route.clone());
            self.0.runtime.spawn(async move {
                let sent = all.send(&told, &all.0.answering).await;
                let answer = if matches!(sent, Sent::Delivered) { Ok(()) } else { Err(sent.words()) };
                let now = all.0.begun.elapsed();
                if let Some(asking) = locked(&all.0.asking).get_mut(&route).filter(|asking| asking.number == number) {
                    asking.answered(place, answer, now);
                }
            });
        }
        // Asked again in the background: until then the last answer stands.
        refusal.map_or(Leave::Asked(first), Leave::Refused)
    }

    /// Messages that wait.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Rollbacks among them.
    pub fn waiting_rollbacks(&self) -> usize {
        let is_rollback = |waits: &&Told| waits.message.kind == Kind::Rollback;
        locked(&self.0.lanes).values().map(|lane| lane.iter().filter(is_rollback).count()).sum()
    }

    /// Waits until all is told, no longer than so.
    pub async fn flush(&self, at_most: Duration) {
        let emptied = async {
            while !locked(&self.0.lanes).is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(at_most, emptied).await.is_err() {
            tracing::warn!(waiting = self.0.waiting.load(Ordering::Relaxed), "not all hooks were told before the end");
        }
    }

    /// Sends one, with its further tries; the id stays the same over them.
    async fn send(&self, told: &Told, places: &Semaphore) -> Sent {
        let Told { hook, message, when } = told;
        let id = message_id();
        let body = match hook.format {
            HookFormat::Json => message.json(&id),
            HookFormat::Slack => message.slack(),
        };
        let mut tried = 0;
        let sent = loop {
            let sent = {
                let _place = places.acquire().await;
                self.try_once(hook, &id, &body).await
            };
            tried += 1;
            let is_over = match &sent {
                Sent::Delivered => true,
                Sent::Refused(status) => !may_retry(*status),
                Sent::Failed(_) => false,
            };
            if is_over || tried > hook.retries {
                break sent;
            }
            tokio::time::sleep(wait_before_retry(tried, chance())).await;
        };
        let route = message.route.as_str();
        self.0.metrics.count_hook(route, when.as_str(), sent.as_str());
        if !matches!(sent, Sent::Delivered) {
            let (hook, why) = (shown(Some(hook)), sent.words());
            tracing::warn!(route, hook, when = when.as_str(), id, tried, why, "a hook did not pass");
        }
        sent
    }

    async fn try_once(&self, hook: &Hook, id: &str, body: &str) -> Sent {
        let prepared = tokio::time::timeout(hook.timeout, prepare(hook, id, body)).await;
        let (url, headers) = match prepared {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(why)) => return Sent::Failed(why),
            Err(_) => return Sent::Failed("its files cannot be read in time".to_owned()),
        };
        let what = Ask {
            url: &url,
            method: Method::POST,
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
            ca: hook.ca.clone(),
            timeout: hook.timeout,
            body_bytes_max: 0,
            own: &self.0.own,
        };
        match ask(what).await {
            Ok(answer) if (200..300).contains(&answer.status) => Sent::Delivered,
            Ok(answer) => Sent::Refused(answer.status),
            Err(error) => Sent::Failed(error.words()),
        }
    }
}

/// Where to, and with which headers. Files are read each time: a key or a URL may have been replaced.
async fn prepare(hook: &Hook, id: &str, body: &str) -> Result<(WebUrl, Vec<(HeaderName, HeaderValue)>), String> {
    let url = match &hook.to {
        HookTo::Url(url) => url.clone(),
        HookTo::File(path) => {
            let text = read_text(path).await.map_err(|error| chain(&error))?;
            text.trim().parse().map_err(|error| format!("{path}: {error}"))?
        }
    };
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut headers = vec![
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (HeaderName::from_static("webhook-id"), id.to_owned()),
        (HeaderName::from_static("webhook-timestamp"), unix_s.to_string()),
    ];
    if let Some(path) = &hook.key_file {
        let text = read_text(path).await.map_err(|error| chain(&error))?;
        let keys = Keys::parse(&text).map_err(|error| format!("{path}: {error}"))?;
        headers.push((HeaderName::from_static("webhook-signature"), signature(&keys, id, unix_s, body)));
    }
    let headers = headers.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)));
    Ok((url, headers.collect()))
}

/// As people are told of it: never more than its host.
fn shown(hook: Option<&Hook>) -> String {
    match hook.map(|hook| &hook.to) {
        Some(HookTo::Url(url)) => url.host().to_owned(),
        Some(HookTo::File(path)) => format!("of {path}"),
        None => String::new(),
    }
}

/// 128 random bits: nobody else has it, and a receiver may keep it to know what it has seen.
fn message_id() -> String {
    let mut bytes = [0u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        bytes = now.as_nanos().to_be_bytes();
    }
    bytes.iter().fold("msg_".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}

/// From 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0u8; 4];
    // Without chance the waits are whole, and no harm is done.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

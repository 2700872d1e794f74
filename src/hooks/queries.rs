//! The queries of `gates.prometheus`, each asked in its own time: what they say is looked up by the judge, and never waited for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use strangler_core::judge::evidence::External;
use strangler_core::judge::gates::Query;
use strangler_core::name::RouteName;
use strangler_core::veto::{Said, Silence, read, weigh};
use strangler_core::web::WebUrl;
use tokio::sync::Semaphore;

use crate::hooks::client::{Ask, ask};
use crate::hooks::locked;
use crate::live::Publish;

/// How often is looked for queries that are due.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Queries under way at once.
const ASKING_MAX: usize = 16;
/// Queries of all routes together that are asked; more say nothing.
const QUERIES_MAX: usize = 10_000;
/// Largest answer: one number has a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Which server is asked where a query names none, and what certifies it.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// Where it is.
    pub url: Option<WebUrl>,
    /// Authorities that servers' certificates may be of; `None`: the public ones.
    pub ca: Option<Arc<str>>,
}

/// What the queries have said last. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Queries(Arc<Mutex<BTreeMap<Key, Entry>>>);

/// A route's query, at its place.
type Key = (RouteName, usize);

#[derive(Debug)]
struct Entry {
    query: Query,
    asked: Option<Instant>,
    is_under_way: bool,
    said: Option<Said>,
}

impl Queries {
    /// What a route's queries come to; `None`: it has none.
    pub fn of(&self, route: &RouteName, queries: &[Query], now: Duration) -> Option<(External, Option<String>)> {
        if queries.is_empty() {
            return None;
        }
        let known = locked(&self.0);
        let said = |index: usize| {
            let entry = known.get(&(route.clone(), index))?;
            // Another query at its place has not been asked yet.
            entry.said.clone().filter(|_| queries.get(index) == Some(&entry.query))
        };
        Some(weigh(queries, said, now))
    }

    /// Asks them for as long as the process runs. `begun`: when its clock was at 0.
    pub async fn run(self, live: Arc<dyn Publish>, server: Server, own: Vec<SocketAddr>, begun: Instant) {
        let places = Arc::new(Semaphore::new(ASKING_MAX));
        let (server, own) = (Arc::new(server), Arc::new(own));
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.follow(live.as_ref());
            let mut due = self.due();
            // Whoever has waited longest first.
            due.sort_by_key(|(_, _, asked)| *asked);
            for (key, query, _) in due {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { break };
                self.begin(&key);
                let (all, server, own) = (self.clone(), Arc::clone(&server), Arc::clone(&own));
                tokio::spawn(async move {
                    let value = ask_server(&query, &server, &own).await;
                    all.end(&key, &query, Said { value, at: begun.elapsed() });
                    drop(place);
                });
            }
        }
    }

    /// The queries of the table in force, and no others.
    fn follow(&self, live: &dyn Publish) {
        let snapshot = live.snapshot();
        let mut known = locked(&self.0);
        let rolled = snapshot.table().routes().iter().filter_map(|route| Some((route, route.rollout.as_ref()?)));
        let wanted: BTreeMap<Key, &Query> = rolled
            .flat_map(|(route, policy)| {
                let queries = policy.gates.prometheus.iter().enumerate();
                queries.map(|(index, query)| ((route.name.clone(), index), query))
            })
            .take(QUERIES_MAX)
            .collect();
        known.retain(|key, entry| wanted.get(key) == Some(&&entry.query));
        for (key, query) in wanted {
            known.entry(key).or_insert_with(|| Entry {
                query: query.clone(),
                asked: None,
                is_under_way: false,
                said: None,
            });
        }
    }

    fn due(&self) -> Vec<(Key, Query, Option<Instant>)> {
        let is_due =
            |entry: &Entry| !entry.is_under_way && entry.asked.is_none_or(|asked| asked.elapsed() >= entry.query.every);
        let known = locked(&self.0);
        let due = known.iter().filter(|(_, entry)| is_due(entry));
        due.map(|(key, entry)| (key.clone(), entry.query.clone(), entry.asked)).collect()
    }

    fn begin(&self, key: &Key) {
        if let Some(entry) = locked(&self.0).get_mut(key) {
            entry.is_under_way = true;
            entry.asked = Some(Instant::now());
        }
    }

    fn end(&self, key: &Key, query: &Query, said: Said) {
        if let Some(entry) = locked(&self.0).get_mut(key).filter(|entry| entry.query == *query) {
            entry.is_under_way = false;
            entry.said = Some(said);
        }
    }
}

async fn ask_server(query: &Query, server: &Server, own: &[SocketAddr]) -> Result<f64, Silence> {
    let url = query.url.as_ref().or(server.url.as_ref()).ok_or(Silence::NoServer)?;
    let url = url.below("/api/v1/query");
    let what = Ask {
        url: &url,
        method: Method::POST,
        headers: vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))],
        body: Bytes::from(format!("query={}", encoded(&query.query))),
        ca: server.ca.clone(),
        timeout: query.timeout,
        body_bytes_max: ANSWER_BYTES_MAX,
        own,
    };
    let answer = ask(what).await.map_err(|error| Silence::Unreachable(format!("{}: {}", url.host(), error.words())))?;
    read(answer.status, &answer.body)
}

/// As forms are: everything but letters and digits by its bytes.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

//! The dashboard: pages made here and served whole, with a small script that keeps their numbers fresh and that nothing depends on.
//!
//! What is shown is decided by pure functions (`view`, and `history`, `plan`, `chart` and `show` in the core); here it is gathered.

mod acts;
mod audit;
mod config;
mod divergences;
mod endpoints;
pub(super) mod events;
mod login;
mod overview;
mod proxy;
mod route;
pub(super) mod session;
mod view;

pub(super) use crate::admin::room::acts::{demand_own_form, stale};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use askama::Template;
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use strangler_core::history::{Counts, EVERY_MS, History, Reading};
use strangler_core::runtime::utc;
use strangler_core::show::{is_hidden, visible};
use strangler_core::snapshot::Snapshot;
use strangler_core::weight::Weight;
use tokio::sync::{Semaphore, watch};

use crate::admin::problem::Problem;
use crate::admin::room::events::Events;
use crate::admin::room::session::{Session, Sessions, cookie_name, cookie_of};
use crate::admin::room::view::overview::{About, Row, Total};
use crate::admin::room::view::{Cells, RolloutSeen};
use crate::admin::{Admin, alarms};
use crate::store::now_unix_ms;
use crate::telemetry::metrics::read::bounds_us;

/// Pages and lists worked on at a time; more wait.
const HEAVY_MAX: usize = 8;
/// How old what is shown may be.
const FRESH: Duration = Duration::from_millis(900);
/// Routes that are named among the alarms.
const NAMED_MAX: usize = 10;

const STYLE: &str = include_str!("room/static/room.css");
const SCRIPT: &str = include_str!("room/static/room.js");
const ICON: &str = include_str!("room/static/icon.svg");

/// What may be on a page of ours, and nothing else.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// What the dashboard keeps.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) sessions: Sessions,
    history: Mutex<History>,
    noted_ms: Mutex<u64>,
    live: Mutex<Option<(Instant, Arc<Live>)>>,
    events: Events,
    listeners: Arc<Semaphore>,
    heavy: Semaphore,
    stopping: watch::Receiver<bool>,
}

impl Room {
    pub(super) fn new(stopping: watch::Receiver<bool>) -> Room {
        Room {
            sessions: Sessions::default(),
            history: Mutex::new(History::new(bounds_us())),
            noted_ms: Mutex::default(),
            live: Mutex::default(),
            events: Events::default(),
            listeners: Arc::new(Semaphore::new(events::LISTENERS_MAX)),
            heavy: Semaphore::new(HEAVY_MAX),
            stopping,
        }
    }

    /// Writes what was counted into the history, when it is time.
    fn note(&self, admin: &Admin) {
        let now = now_unix_ms();
        let mut noted = self.noted_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(*noted) < EVERY_MS && now >= *noted {
            return;
        }
        *noted = now;
        let (snapshot, counts) = (admin.state.control.snapshot(), (admin.state.counts)());
        let reading = |(index, name): (usize, &str)| {
            let weight = snapshot
                .state(index)
                .map_or(Weight::NONE, |state| if state.killed { Weight::NONE } else { state.weight });
            (name.to_owned(), Reading { counts: counts.get(name).copied().unwrap_or_default(), weight })
        };
        let routes = names(&snapshot).map(reading).collect();
        self.history.lock().unwrap_or_else(PoisonError::into_inner).note(now, &sum(&counts), &routes);
    }

    /// All that is shown of all routes; made at most once a second, whoever asks.
    fn live(&self, admin: &Admin) -> Arc<Live> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, live)) = live.as_ref().filter(|(made, _)| made.elapsed() < FRESH) {
            return Arc::clone(live);
        }
        let fresh = Arc::new(self.gather(admin));
        *live = Some((Instant::now(), Arc::clone(&fresh)));
        fresh
    }

    /// What was shown a moment ago is old: something was changed here.
    fn forget_live(&self) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn gather(&self, admin: &Admin) -> Live {
        let state = &admin.state;
        let (snapshot, counts, now) = (state.control.snapshot(), (state.counts)(), now_unix_ms());
        let plane = (state.plane)();
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cells = Cells::new();
        let row = |(index, name): (usize, &str)| {
            let status = snapshot.status(index)?;
            let rollout = rollout(admin, name);
            if let Some(rollout) = &rollout {
                for gate in view::route::gates(rollout) {
                    let key = format!("g.{name}.{}", gate.name);
                    cells.insert(format!("{key}.state"), gate.state.to_owned());
                    cells.insert(format!("{key}.tone"), gate.tone.to_owned());
                    cells.insert(format!("{key}.why"), gate.why);
                    cells.insert(format!("{key}.price"), gate.price);
                }
            }
            let has_breaker = snapshot.table().routes().get(index)?.breaker.is_some();
            let counts = counts.get(name).copied().unwrap_or_default();
            let series = history.route(name);
            Some(Row::of(&About {
                status: &status,
                rollout: rollout.as_ref(),
                breaker: has_breaker.then(|| plane.breakers.get(name).copied().unwrap_or("closed")),
                compare_verdict: (state.compare_verdict)(name),
                counts,
                now: series.map(|series| series.now(now, &counts, history.bounds_us())).unwrap_or_default(),
                series,
            }))
        };
        let rows: Vec<Row> = names(&snapshot).filter_map(row).collect();
        let all = sum(&counts);
        let total = Total::of(&all, &history.total().now(now, &all, history.bounds_us()), history.total());
        let share = view::overview::ShareChart::of(history.total());
        drop(history);
        for row in &rows {
            row.cells(&mut cells);
        }
        total.cells(&mut cells);
        let alarms = alarms(admin, &snapshot, &plane, &rows);
        cells.insert("t.well".to_owned(), well(rows.len(), alarms.len()));
        cells.insert("t.tone".to_owned(), if alarms.is_empty() { "good" } else { "bad" }.to_owned());
        let revision = snapshot.table().revision().as_str().to_owned();
        Live { revision, alarms, cells, rows, total, share }
    }
}

/// All that is shown of all routes, at one moment.
struct Live {
    revision: String,
    alarms: Vec<Alarm>,
    cells: Cells,
    rows: Vec<Row>,
    total: Total,
    share: view::overview::ShareChart,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("revision", &self.revision).field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

/// Something that someone should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Alarm {
    /// The route whose page says more.
    route: Option<String>,
    /// What is the matter.
    text: String,
}

fn names(snapshot: &Snapshot) -> impl Iterator<Item = (usize, &str)> {
    snapshot.table().routes().iter().enumerate().map(|(index, route)| (index, route.name.as_str()))
}

fn sum(counts: &BTreeMap<String, Counts>) -> Counts {
    counts.values().fold(Counts::default(), |mut sum, one| {
        sum.add(one);
        sum
    })
}

fn rollout(admin: &Admin, name: &str) -> Option<RolloutSeen> {
    serde_json::from_value((admin.state.rollout)(name)?).ok()
}

fn alarms(admin: &Admin, snapshot: &Snapshot, plane: &crate::admin::PlaneStatus, rows: &[Row]) -> Vec<Alarm> {
    let (control, readiness) = (&admin.state.control, (admin.state.readiness)());
    let store = (control.store().kind(), &control.store().health_now());
    let said = alarms::alarms(snapshot, &readiness, store, &plane.breakers, &plane.upstreams);
    let of_rows = rows.iter().filter(|row| row.verdict.tone == "bad" && !row.verdict.text.starts_with("breaker"));
    let of_rows =
        of_rows.take(NAMED_MAX).map(|row| Alarm { route: Some(row.name.clone()), text: row.verdict.text.clone() });
    said.into_iter().map(|text| Alarm { route: None, text }).chain(of_rows).collect()
}

/// The first thing to be read.
fn well(routes: usize, alarms: usize) -> String {
    match (alarms, routes) {
        (0, 0) => "All is well. No route is covered yet: everything falls through to the monolith.".to_owned(),
        (0, 1) => "All is well. One route, and nothing needs you.".to_owned(),
        (0, routes) => format!("All is well. {routes} routes, and nothing needs you."),
        (1, _) => "One thing needs somebody.".to_owned(),
        (alarms, _) => format!("{alarms} things need somebody."),
    }
}

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/", get(overview::page))
        .route("/routes/{name}", get(route::page))
        .route("/routes/{name}/plan", get(acts::plan))
        .route("/routes/{name}/do", post(acts::act))
        .route("/divergences", get(divergences::list))
        .route("/divergences/{id}", get(divergences::one))
        .route("/divergences/accept", post(acts::accept))
        .route("/config", get(config::page))
        .route("/config/apply", post(acts::apply))
        .route("/audit", get(audit::page))
        .route("/endpoints", get(endpoints::page))
        .route("/proxy", get(proxy::page))
        .route("/login", get(login::page).post(login::login))
        .route("/logout", post(login::logout))
        .route("/api/v1/events", get(events::events))
        .route("/room.css", get(async || asset("text/css; charset=utf-8", STYLE)))
        .route("/room.js", get(async || asset("text/javascript; charset=utf-8", SCRIPT)))
        .route("/icon.svg", get(async || asset("image/svg+xml", ICON)))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}

/// What every page has around it.
struct Frame {
    title: String,
    /// Which of the main pages is meant; empty: none.
    here: &'static str,
    session: Option<Session>,
    version: &'static str,
    revision: String,
    /// Whether its numbers are kept fresh.
    is_live: bool,
    /// Where one comes back to after logging in.
    path: String,
    alarms: usize,
}

impl Frame {
    fn new(
        admin: &Admin,
        headers: &HeaderMap,
        title: impl Into<String>,
        here: &'static str,
        path: impl Into<String>,
    ) -> Frame {
        let live = admin.room.live(admin);
        Frame {
            title: title.into(),
            here,
            session: session_of(admin, headers),
            version: env!("CARGO_PKG_VERSION"),
            revision: live.revision.clone(),
            is_live: false,
            path: path.into(),
            alarms: live.alarms.len(),
        }
    }

    fn live(self) -> Frame {
        Frame { is_live: true, ..self }
    }

    fn csrf(&self) -> &str {
        self.session.as_ref().map_or("", |session| session.csrf.as_str())
    }

    /// For a query's value.
    fn next(&self) -> String {
        encoded(&self.path)
    }

    fn by(&self) -> &str {
        self.session.as_ref().and_then(|session| session.by.as_deref()).unwrap_or("logged in")
    }
}

/// Whoever has logged in with this browser.
pub(super) fn session_of(admin: &Admin, headers: &HeaderMap) -> Option<Session> {
    admin.room.sessions.find(&cookie(admin, headers)?, Instant::now())
}

fn cookie(admin: &Admin, headers: &HeaderMap) -> Option<String> {
    let name = cookie_name(false, admin.bound.port());
    headers.get_all(header::COOKIE).iter().find_map(|header| cookie_of(header.to_str().ok()?, &name).map(str::to_owned))
}

/// A page instead of the one that was asked for.
#[derive(Debug)]
enum Fault {
    /// What went wrong, as the API says it.
    Problem(Box<Problem>),
    /// Only for those who are logged in.
    Login(String),
}

impl<E: Into<Problem>> From<E> for Fault {
    fn from(error: E) -> Fault {
        Fault::Problem(Box::new(error.into()))
    }
}

#[derive(Template)]
#[template(path = "fault.html")]
struct FaultPage {
    problem: Problem,
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        match self {
            Fault::Login(path) => see_other(&format!("/login?next={}", encoded(&path))),
            Fault::Problem(problem) => {
                let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (status, rendered(&FaultPage { problem: *problem })).into_response()
            }
        }
    }
}

/// Only for those who are logged in.
fn demand_login(frame: &Frame) -> Result<(), Fault> {
    if frame.session.is_some() { Ok(()) } else { Err(Fault::Login(frame.path.clone())) }
}

fn rendered(page: &impl Template) -> Response {
    match page.render() {
        // Escaped it is already; what turns the direction of a text or hides in it is shown as what it is, too.
        Ok(text) => Html(shown(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page of the dashboard cannot be made");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the page cannot be made").into_response()
        }
    }
}

fn shown(page: String) -> String {
    let is_line = |c: char| matches!(c, '\n' | '\t');
    if page.chars().all(|c| is_line(c) || !is_hidden(c)) {
        return page;
    }
    let mut out = String::with_capacity(page.len() + 64);
    for c in page.chars() {
        if is_line(c) || !is_hidden(c) {
            out.push(c);
        } else {
            out.push_str(&visible(c.encode_utf8(&mut [0; 4])));
        }
    }
    out
}

fn see_other(path: &str) -> Response {
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

/// A moment as people read it; UTC.
fn when(unix_ms: u64) -> String {
    utc(unix_ms).replace('T', " ").trim_end_matches('Z').to_owned()
}

/// For a query's value.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;

//! Live numbers as server-sent events: computed once a second for all who listen, and only while somebody does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::channel::Channel;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::MissedTickBehavior;

use crate::admin::api::App;
use crate::admin::problem::Problem;
use crate::admin::room::Alarm;
use crate::admin::room::view::Cells;
use crate::admin::{Admin, Hangup};

/// Browsers that listen at a time.
pub(crate) const LISTENERS_MAX: usize = 64;
/// Seconds that a listener may be behind.
const BEHIND_MAX: usize = 8;
/// Longest wait for a listener that takes nothing.
const SLOW_MAX: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_secs(1);

/// What is told.
#[derive(Debug, Default, Serialize)]
struct Told<'a> {
    /// Content hash of the routes file in force.
    revision: &'a str,
    /// What someone should look at.
    alarms: &'a [Alarm],
    /// Texts, tones, widths and lines that are new.
    set: Cells,
}

/// Where what is new is told.
#[derive(Debug)]
pub(crate) struct Events(broadcast::Sender<Bytes>);

impl Default for Events {
    fn default() -> Events {
        Events(broadcast::Sender::new(BEHIND_MAX))
    }
}

/// Reads what was counted, every second; tells what is new of it while somebody listens.
pub(in crate::admin) async fn keep_told(admin: Arc<Admin>) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut before, mut said): (Cells, Vec<Alarm>) = (Cells::new(), Vec::new());
    loop {
        every.tick().await;
        admin.room.note(&admin);
        if admin.room.events.0.receiver_count() == 0 {
            before.clear();
            continue;
        }
        let live = admin.room.live(&admin);
        let is_new = |(key, value): &(&String, &String)| before.get(*key) != Some(*value);
        let set: Cells = live.cells.iter().filter(is_new).map(|(key, value)| (key.clone(), value.clone())).collect();
        if set.is_empty() && live.alarms == said {
            // Nothing new; a comment keeps the connection, and shows when it is gone.
            let _ = admin.room.events.0.send(Bytes::from_static(b": \n\n"));
            continue;
        }
        let told = Told { revision: &live.revision, alarms: &live.alarms, set };
        let _ = admin.room.events.0.send(event(&told));
        (before, said) = (live.cells.clone(), live.alarms.clone());
    }
}

fn event(told: &Told<'_>) -> Bytes {
    let json = serde_json::to_string(told).unwrap_or_default();
    Bytes::from(format!("event: numbers\ndata: {json}\n\n"))
}

/// `GET /api/v1/events`: all numbers at once, and then what is new of them.
pub(in crate::admin) async fn events(State(admin): App, Extension(hangup): Extension<Hangup>) -> Response {
    let Ok(permit) = Arc::clone(&admin.room.listeners).try_acquire_owned() else {
        let detail = "too many listen already";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).into_response();
    };
    // Before all is told, so that nothing new is missed in between.
    let mut news = admin.room.events.0.subscribe();
    let live = admin.room.live(&admin);
    let first = event(&Told { revision: &live.revision, alarms: &live.alarms, set: live.cells.clone() });
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(BEHIND_MAX);
    let mut stopping = admin.room.stopping.clone();
    tokio::spawn(async move {
        let _permit = permit;
        let mut waiting = VecDeque::from([Bytes::from_static(b"retry: 2000\n\n"), first]);
        loop {
            let bytes = if let Some(bytes) = waiting.pop_front() {
                bytes
            } else {
                let received = tokio::select! {
                    received = news.recv() => received,
                    _ = stopping.wait_for(|stopping| *stopping) => break,
                };
                let Ok(bytes) = received else { break };
                bytes
            };
            match tokio::time::timeout(SLOW_MAX, sender.send_data(bytes)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break,
                // It reads nothing: the connection goes, and comes again if there is still somebody.
                Err(_) => {
                    hangup.now();
                    break;
                }
            }
        }
    });
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

//! `/proxy`: how the process itself is.

use askama::Template;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use strangler_core::history::quantile_us;
use strangler_core::show;

use crate::admin::api::App;
use crate::admin::room::{Frame, rendered, when};
use crate::admin::{PlaneStatus, Readiness, UpstreamStatus};
use crate::store::StoreHealth;

const UPSTREAMS_MAX: usize = 200;

#[derive(Template)]
#[template(path = "proxy.html")]
struct Page {
    frame: Frame,
    readiness: Readiness,
    overhead: [String; 2],
    in_flight: [i64; 2],
    upstreams: Vec<UpstreamStatus>,
    breakers: Vec<(String, &'static str)>,
    store_kind: &'static str,
    store: StoreHealth,
    unsaved: String,
    refused: Vec<(String, String)>,
    dropped: Vec<(String, String)>,
    pid: u32,
    up: String,
}

impl Page {
    fn at(&self, unix_ms: Option<u64>) -> String {
        let _ = self;
        unix_ms.map(when).unwrap_or_default()
    }
}

pub(super) async fn page(State(admin): App, headers: HeaderMap) -> Response {
    let _heavy = admin.room.heavy.acquire().await;
    let frame = Frame::new(&admin, &headers, "Proxy", "proxy", "/proxy");
    let (process, control) = ((admin.state.process)(), &admin.state.control);
    let PlaneStatus { breakers, mut upstreams } = (admin.state.plane)();
    upstreams.truncate(UPSTREAMS_MAX);
    let overhead = [0.5, 0.99].map(|q| show::duration(quantile_us(&process.overhead.1, &process.overhead.0, q)));
    let told = |all: std::collections::BTreeMap<String, u64>| {
        all.into_iter().map(|(name, count)| (name.replace('_', " "), show::grouped(count))).collect::<Vec<_>>()
    };
    rendered(&Page {
        frame,
        readiness: (admin.state.readiness)(),
        overhead,
        in_flight: process.in_flight,
        upstreams,
        breakers: breakers.into_iter().collect(),
        store_kind: control.store().kind(),
        store: control.store().health_now(),
        unsaved: show::grouped(control.store().changes_unsaved()),
        refused: told(process.refused),
        dropped: told(process.dropped),
        pid: std::process::id(),
        up: show::span(process.up_s),
    })
}

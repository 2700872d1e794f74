//! `/divergences`: why answers differ, and which pairs did.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use strangler_core::redact::{Cause, Difference, Divergence};
use strangler_core::show::{self, Apart, apart, visible};

use crate::admin::api::{App, unknown_route};
use crate::admin::control::AcceptedStatus;
use crate::admin::divergences::curls;
use crate::admin::problem::Problem;
use crate::admin::room::{Fault, Frame, demand_login, encoded, rendered, when};
use crate::store::{Listing, StoredDivergence};

/// Causes on a page, and pairs looked through for them.
const CAUSES_MAX: u32 = 100;
const PAIRS_MAX: u32 = 500;
/// Pairs that are linked below a cause.
const LINKED_MAX: usize = 5;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    route: String,
}

struct PairLink {
    id: String,
    at: String,
}

struct CauseCard {
    route: String,
    signature: String,
    place: String,
    kind: String,
    legacy: String,
    extracted: String,
    pairs: String,
    first: String,
    last: String,
    suggestion: Option<String>,
    links: Vec<PairLink>,
    /// Both values of the newest pair.
    example: Option<Apart>,
    is_failure: bool,
}

#[derive(Template)]
#[template(path = "divergences.html")]
struct ListPage {
    frame: Frame,
    asked: Asked,
    routes: Vec<String>,
    causes: Vec<CauseCard>,
    accepted: Vec<AcceptedStatus>,
    dropped: String,
}

pub(super) async fn list(State(admin): App, headers: HeaderMap, Query(asked): Query<Asked>) -> Result<Response, Fault> {
    let path = if asked.route.is_empty() {
        "/divergences".to_owned()
    } else {
        format!("/divergences?route={}", encoded(&asked.route))
    };
    let frame = Frame::new(&admin, &headers, "Divergences", "divergences", path);
    demand_login(&frame)?;
    let _heavy = admin.room.heavy.acquire().await;
    let (control, snapshot) = (&admin.state.control, admin.state.control.snapshot());
    let route = Some(asked.route.clone()).filter(|route| !route.is_empty());
    if let Some(name) = &route
        && snapshot.route(name).is_none()
    {
        return Err(unknown_route(name).into());
    }
    let listing = |limit| Listing { route: route.clone(), since_unix_ms: 0, limit };
    let pairs = control.store().divergences(listing(PAIRS_MAX)).await?;
    let accepted = control.accepted(route.as_deref());
    let found = control.store().causes(listing(CAUSES_MAX)).await?;
    let is_open = |route: &str, signature: &str| {
        !accepted.iter().any(|one| one.route == route && one.signature == signature && !one.expired)
    };
    let causes = found.into_iter().filter(|one| is_open(&one.route, &one.signature)).map(|one| {
        let cause: Option<Cause> = serde_json::from_str(&one.json).ok();
        let text = |of: fn(&Cause) -> &str| cause.as_ref().map(|cause| visible(of(cause))).unwrap_or_default();
        let own = pairs.iter().filter(|pair| pair.route == one.route && pair.signature == one.signature);
        let example = own.clone().next().and_then(|pair| example(&pair.json));
        let links =
            own.take(LINKED_MAX).map(|pair| PairLink { id: pair.id.clone(), at: when(pair.at_unix_ms) }).collect();
        let kind = text(|cause| &cause.kind);
        CauseCard {
            is_failure: strangler_core::difference::Kind::named(&kind)
                .is_none_or(strangler_core::difference::Kind::is_failure),
            place: text(|cause| &cause.place),
            kind,
            legacy: text(|cause| &cause.legacy),
            extracted: text(|cause| &cause.extracted),
            suggestion: cause.as_ref().and_then(|cause| cause.suggestion.clone()),
            pairs: show::grouped(one.pairs),
            first: when(one.first_unix_ms),
            last: when(one.last_unix_ms),
            route: one.route,
            signature: one.signature,
            links,
            example,
        }
    });
    let causes = causes.collect();
    let routes = snapshot
        .table()
        .routes()
        .iter()
        .filter(|route| route.compare.is_some())
        .map(|route| route.name.as_str().to_owned())
        .collect();
    let dropped = show::grouped(control.store().divergences_dropped());
    Ok(rendered(&ListPage { frame, asked, routes, causes, accepted, dropped }))
}

/// Both values of the weightiest difference of a record.
pub(super) fn example(json: &str) -> Option<Apart> {
    let record: Divergence = serde_json::from_str(json).ok()?;
    let first = record.differences.first()?;
    Some(apart(&visible(first.legacy.as_deref()?), &visible(first.extracted.as_deref()?)))
}

struct DifferenceRow {
    path: String,
    kind: String,
    cut: Apart,
    legacy: Option<String>,
    extracted: Option<String>,
    only_legacy: Vec<String>,
    only_extracted: Vec<String>,
    is_noise: bool,
}

impl DifferenceRow {
    fn of(one: &Difference) -> DifferenceRow {
        let shown = |text: &Option<String>| text.as_deref().map(visible);
        let (legacy, extracted) = (shown(&one.legacy), shown(&one.extracted));
        DifferenceRow {
            path: visible(&one.path),
            kind: one.kind.clone(),
            cut: apart(legacy.as_deref().unwrap_or_default(), extracted.as_deref().unwrap_or_default()),
            legacy,
            extracted,
            only_legacy: one.only_legacy.iter().map(|text| visible(text)).collect(),
            only_extracted: one.only_extracted.iter().map(|text| visible(text)).collect(),
            is_noise: one.noise,
        }
    }
}

struct SideCard {
    name: &'static str,
    word: &'static str,
    status: String,
    bytes: String,
    ttfb: String,
    total: String,
    /// Width of the bar of its time, 0 to 100.
    bar: String,
    truncated: bool,
    curl: String,
}

#[derive(Template)]
#[template(path = "divergence.html")]
struct PairPage {
    frame: Frame,
    record: Divergence,
    target: String,
    request_headers: Vec<(String, String)>,
    at: String,
    signature: String,
    differences: Vec<DifferenceRow>,
    warnings: Vec<DifferenceRow>,
    sides: [SideCard; 2],
    replay: Result<String, String>,
    is_failure: bool,
}

pub(super) async fn one(State(admin): App, headers: HeaderMap, Path(id): Path<String>) -> Result<Response, Fault> {
    let id: String = id.chars().take(64).collect();
    let frame =
        Frame::new(&admin, &headers, "A pair that differed", "divergences", format!("/divergences/{}", encoded(&id)));
    demand_login(&frame)?;
    let _heavy = admin.room.heavy.acquire().await;
    let unknown =
        || Problem::new(StatusCode::NOT_FOUND, "unknown_divergence", "no such divergence is stored (any more)");
    let found: StoredDivergence = admin.state.control.store().divergence(id.clone()).await?.ok_or_else(unknown)?;
    let record: Divergence = serde_json::from_str(&found.json).map_err(|_| unknown())?;
    let curl = curls(&record, &admin.state.control.snapshot()).unwrap_or_default();
    let slowest = record.legacy.total_ms.max(record.extracted.total_ms).max(0.001);
    let side = |name: &'static str, word, of: &strangler_core::redact::SideRecord, curl: &str| SideCard {
        name,
        word,
        status: match (&of.status, &of.failure) {
            (Some(status), None) => status.to_string(),
            (Some(status), Some(failure)) => format!("{status} ({failure})"),
            (None, Some(failure)) => failure.clone(),
            (None, None) => "no answer".to_owned(),
        },
        bytes: show::grouped(of.bytes),
        ttfb: format!("{:.1} ms", of.ttfb_ms),
        total: format!("{:.1} ms", of.total_ms),
        bar: format!("{:.1}", of.total_ms / slowest * 100.0),
        truncated: of.is_truncated,
        curl: visible(curl),
    };
    let replay = match record.replayable() {
        Ok(()) => Ok(format!("strangler replay {id}")),
        Err(why) => Err(why.to_string()),
    };
    Ok(rendered(&PairPage {
        frame,
        target: visible(&record.target),
        request_headers: record.request_headers.iter().map(|(name, value)| (name.clone(), visible(value))).collect(),
        at: when(record.at_unix_ms),
        signature: found.signature,
        differences: record.differences.iter().map(DifferenceRow::of).collect(),
        warnings: record.warnings.iter().map(DifferenceRow::of).collect(),
        sides: [side("Legacy", "l", &record.legacy, &curl.0), side("Extracted", "e", &record.extracted, &curl.1)],
        is_failure: strangler_core::difference::Kind::named(&record.cause.kind)
            .is_none_or(strangler_core::difference::Kind::is_failure),
        replay,
        record,
    }))
}

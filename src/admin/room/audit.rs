//! `/audit`: who changed what, when and why; and whether nobody changed the record itself.

use std::time::Duration;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use strangler_core::audit::Verifier;
use strangler_core::show::{grouped, visible};

use crate::admin::api::{App, follow};
use crate::admin::room::{Fault, Frame, demand_login, rendered, when};
use crate::store::{LIST_ROWS_MAX, Listing};

/// Entries of one page.
const ROWS: usize = 50;
/// Longest time for following the chain on the way; it is followed to its end when asked.
const VERIFY_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    page: usize,
    route: String,
    verify: bool,
}

struct Entry {
    seq: u64,
    at: String,
    who: String,
    what: String,
    route: String,
    change: String,
    reason: String,
    accepted: bool,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    frame: Frame,
    asked: Asked,
    entries: Vec<Entry>,
    newer: Option<usize>,
    older: Option<usize>,
    /// `good`, `bad` or `wait`.
    chain_tone: &'static str,
    chain: String,
}

pub(super) async fn page(State(admin): App, headers: HeaderMap, Query(asked): Query<Asked>) -> Result<Response, Fault> {
    let frame = Frame::new(&admin, &headers, "Audit", "audit", "/audit");
    demand_login(&frame)?;
    let _heavy = admin.room.heavy.acquire().await;
    let store = admin.state.control.store();
    let route = Some(asked.route.clone()).filter(|route| !route.is_empty());
    let all = store.audit(Listing { route, since_unix_ms: 0, limit: LIST_ROWS_MAX }).await?;
    let from = asked.page.saturating_mul(ROWS);
    let older = (from + ROWS < all.len()).then_some(asked.page + 1);
    let newer = asked.page.checked_sub(1);
    let entries = all.into_iter().skip(from).take(ROWS).map(|entry| Entry {
        seq: entry.seq,
        at: when(entry.at_unix_ms),
        who: visible(&entry.who),
        what: entry.what.replace('_', " "),
        route: entry.route.unwrap_or_default(),
        change: match (entry.from, entry.to) {
            (Some(from), Some(to)) => format!("{from} → {to}"),
            (None, Some(to)) => to,
            (Some(from), None) => from,
            (None, None) => String::new(),
        },
        reason: visible(&entry.reason),
        accepted: entry.accepted,
    });
    let entries = entries.collect();
    let patience = if asked.verify { Duration::from_secs(50) } else { VERIFY_MAX };
    let (chain_tone, chain) = match tokio::time::timeout(patience, follow(&admin)).await {
        Ok(Ok(Verifier { broken_at: Some(seq), .. })) => {
            ("bad", format!("The chain is broken at entry {seq}: somebody changed, removed or inserted an entry."))
        }
        Ok(Ok(verifier)) => (
            "good",
            format!("The chain holds: {} entries, and each follows from the one before.", grouped(verifier.linked)),
        ),
        Ok(Err(error)) => ("bad", format!("The chain cannot be followed: {error}")),
        Err(_) => ("wait", "The chain is long and was not followed to its end.".to_owned()),
    };
    Ok(rendered(&Page { frame, asked, entries, newer, older, chain_tone, chain }))
}

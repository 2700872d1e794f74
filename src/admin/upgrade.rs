//! Asking for a new binary: `POST /api/v1/upgrade`. Answered when the new one is ready, or has failed.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::admin::api::{App, json, to_its_end, who};
use crate::admin::problem::Problem;
use crate::admin::{Admin, Peer};

/// Asks whoever owns the process to start a new binary.
#[derive(Debug)]
pub struct UpgradeRequest {
    /// Who asked.
    pub by: String,
    /// Where the outcome goes: the new process, or why there is none and this one goes on.
    pub reply: oneshot::Sender<Result<Upgraded, String>>,
}

/// A new process that is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// The process that took over.
    pub pid: u32,
    /// The process that hands over: it ends once its requests have.
    pub from_pid: u32,
    /// What was started.
    pub program: String,
    /// From the start of the new process until it was ready, in milliseconds.
    pub took_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpgradeBody {
    by: Option<String>,
}

pub(super) async fn upgrade(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body: UpgradeBody = json(&headers, body)?;
    let by = who(&peer, body.by.as_deref())?;
    to_its_end(ask(admin, by)).await?
}

async fn ask(admin: std::sync::Arc<Admin>, by: String) -> Result<Response, Problem> {
    let (reply, outcome) = oneshot::channel();
    let busy = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "an upgrade is under way already; ask again");
    admin.state.upgrade.try_send(UpgradeRequest { by, reply }).map_err(busy)?;
    // Whoever works it off has a bound of its own, and puts it on record.
    let outcome = outcome.await.unwrap_or_else(|_| Err("this process is on its way out".to_owned()));
    match outcome {
        Ok(upgraded) => Ok(Json(upgraded).into_response()),
        Err(why) => {
            let detail = format!("the upgrade failed, and process {} goes on: {why}", std::process::id());
            Err(Problem::new(StatusCode::BAD_GATEWAY, "upgrade_failed", detail))
        }
    }
}

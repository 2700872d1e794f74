//! What a person changes by a form: first what it would do, then the change, by the same hand as the API's.

use std::sync::{Arc, PoisonError};

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::{Extension, Form};
use serde::Deserialize;
use strangler_core::day::Day;
use strangler_core::plan::{self, Plan, Wish};
use strangler_core::runtime::{KillScope, Note, RolloutAsk};
use strangler_core::show;

use crate::admin::api::{App, apply_and_audit, route_name, to_its_end, who};
use crate::admin::control::ControlError;
use crate::admin::problem::Problem;
use crate::admin::room::session::Session;
use crate::admin::room::view::overview::spaced;
use crate::admin::room::{Fault, Frame, demand_login, encoded, rendered, see_other, session_of};
use crate::admin::{Admin, Peer};
use crate::store::now_unix_ms;

/// What is asked for, as forms have it: a box that is not ticked is not sent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    act: String,
    weight: String,
    step: String,
    accept_stale: Option<String>,
    reason: String,
    csrf: String,
    version: String,
}

impl Asked {
    fn wish(&self) -> Result<Wish, Problem> {
        let bad = |code, detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail);
        let accept_stale = self.accept_stale.is_some();
        Ok(match self.act.as_str() {
            "weight" => {
                let text = self.weight.trim().replace(' ', "");
                let text = if text == "file" || text.ends_with('%') { text } else { format!("{text}%") };
                let ask = text.parse().map_err(|error| bad("bad_weight", format!("{text:?}: {error}, or `file`")))?;
                Wish::Weight { ask, accept_stale }
            }
            "kill" => Wish::Kill { accept_stale },
            "unkill" => Wish::Unkill,
            "hold" => Wish::Rollout(RolloutAsk::Hold),
            "resume" => Wish::Rollout(RolloutAsk::Resume),
            "approve" => {
                let step = Some(self.step.trim()).filter(|step| !step.is_empty()).map(str::parse).transpose();
                Wish::Rollout(RolloutAsk::Approve(
                    step.map_err(|error: strangler_core::route::StepError| bad("bad_step", error.to_string()))?,
                ))
            }
            "rollback" => Wish::Rollout(RolloutAsk::RollBack { accept_stale }),
            _ => return Err(bad("bad_act", "nothing of that name can be done to a route".to_owned())),
        })
    }
}

#[derive(Template)]
#[template(path = "plan.html")]
struct PlanPage {
    frame: Frame,
    name: String,
    asked: Asked,
    plan: Option<Plan>,
    /// Why it would be refused.
    refused: Option<String>,
    /// Whether `accept_stale` would change that.
    asks_stale: bool,
    /// Requests a second that go the other way by it.
    rate: String,
    is_grave: bool,
    label: &'static str,
}

impl PlanPage {
    fn from(&self) -> String {
        self.plan.as_ref().map(|plan| spaced(&plan.from)).unwrap_or_default()
    }

    fn to(&self) -> String {
        self.plan.as_ref().map(|plan| spaced(&plan.to)).unwrap_or_default()
    }

    fn width(weight: &str) -> &str {
        weight.trim_end_matches('%')
    }
}

/// `GET /routes/{name}/plan`: what it would do.
pub(super) async fn plan(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let route = route_name(&name)?;
    let back = format!(
        "/routes/{name}/plan?act={}&weight={}&step={}",
        encoded(&asked.act),
        encoded(&asked.weight),
        encoded(&asked.step)
    );
    let frame = Frame::new(&admin, &headers, format!("{}: {name}", label(&asked.act)), "overview", back);
    demand_login(&frame)?;
    let wish = asked.wish()?;
    let by = who(&peer, frame.session.as_ref().and_then(|session| session.by.as_deref()))?;
    // Only to ask: the reason is given with the change itself.
    let note = Note::new(&by, now_unix_ms(), "asked what it would do").map_err(ControlError::from)?;
    let snapshot = admin.state.control.snapshot();
    let planned = plan::plan(&snapshot, &route, wish, &note);
    let is_stale = |refusal: &strangler_core::runtime::Refusal| {
        matches!(refusal, strangler_core::runtime::Refusal::WouldServeStale(_))
    };
    let asks_stale = planned.as_ref().is_err_and(is_stale) || asked.accept_stale.is_some();
    let refused = planned.as_ref().err().map(ToString::to_string);
    let plan = planned.ok();
    let points = plan.as_ref().map_or(0, |plan| plan.moved_points);
    let rate = show::rate(per_second(&admin, &name) * f64::from(points.unsigned_abs()) / 10_000.0);
    let (label, is_grave) =
        (label(&asked.act), matches!(wish, Wish::Kill { .. } | Wish::Rollout(RolloutAsk::RollBack { .. })));
    Ok(rendered(&PlanPage { frame, name, asked, plan, refused, asks_stale, rate, is_grave, label }))
}

/// Requests a second of a route, whoever answers.
fn per_second(admin: &Admin, name: &str) -> f64 {
    let counts = (admin.state.counts)().get(name).copied().unwrap_or_default();
    let history = admin.room.history.lock().unwrap_or_else(PoisonError::into_inner);
    let now = history.route(name).map(|series| series.now(now_unix_ms(), &counts, history.bounds_us()));
    now.map_or(0.0, |now| now.per_second.iter().sum())
}

fn label(act: &str) -> &'static str {
    match act {
        "weight" => "Move the weight",
        "kill" => "Kill",
        "unkill" => "Lift the kill",
        "hold" => "Hold",
        "resume" => "Resume",
        "approve" => "Approve",
        "rollback" => "Roll back",
        _ => "Change",
    }
}

/// `POST /routes/{name}/do`.
pub(super) async fn act(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Path(name): Path<String>,
    asked: Result<Form<Asked>, FormRejection>,
) -> Result<Response, Fault> {
    let asked = form(asked)?;
    let session = demand_change(&admin, &headers, &asked.csrf, &format!("/routes/{name}"))?;
    let (route, wish) = (route_name(&name)?, asked.wish()?);
    let who = who(&peer, session.by.as_deref())?;
    let control = Arc::clone(&admin.state.control);
    if !wish.is_safe() && asked.version != plan::version(&control.snapshot(), Some(&route)) {
        return Err(stale().into());
    }
    let reason = asked.reason;
    let record = match wish {
        Wish::Weight { ask, accept_stale } => {
            let done =
                to_its_end(async move { control.set_weight(&who, &route, ask, accept_stale, &reason).await }).await?;
            done?.record
        }
        Wish::Kill { accept_stale } => {
            let scope = KillScope::Route(route);
            let done = to_its_end(async move { control.kill(&who, scope, accept_stale, &reason).await }).await?;
            done?.record
        }
        Wish::Unkill => {
            let scope = KillScope::Route(route);
            let done = to_its_end(async move { control.unkill(&who, scope, &reason).await }).await?;
            done?.record
        }
        Wish::Rollout(ask) => {
            let done = to_its_end(async move { control.ask_rollout(&who, &route, ask, &reason).await }).await?;
            done?.record
        }
    };
    admin.room.forget_live();
    Ok(see_other(&format!("/routes/{name}?done={}", if record.stored { "stored" } else { "unstored" })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Accepting {
    csrf: String,
    route: String,
    signature: String,
    reason: String,
    until: String,
    /// Take it back instead.
    back: Option<String>,
}

/// `POST /divergences/accept`: a cause is intended, or is not any more.
pub(super) async fn accept(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    asked: Result<Form<Accepting>, FormRejection>,
) -> Result<Response, Fault> {
    let asked = form(asked)?;
    let session = demand_change(&admin, &headers, &asked.csrf, "/divergences")?;
    let (name, who) = (route_name(&asked.route)?, who(&peer, session.by.as_deref())?);
    let bad_day = |_| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_day", "`until` is a day, as in `2026-12-01`");
    let until: Option<Day> =
        Some(asked.until.trim()).filter(|day| !day.is_empty()).map(str::parse).transpose().map_err(bad_day)?;
    let control = Arc::clone(&admin.state.control);
    let route = name.as_str().to_owned();
    let change = async move {
        if asked.back.is_some() {
            control.unaccept(&who, &name, &asked.signature, &asked.reason).await
        } else {
            control.accept(&who, &name, &asked.signature, until, &asked.reason).await
        }
    };
    to_its_end(change).await??;
    Ok(see_other(&format!("/divergences?route={route}")))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Applying {
    csrf: String,
    accept_removals: Option<String>,
}

/// `POST /config/apply`: loads the routes file now.
pub(super) async fn apply(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    asked: Result<Form<Applying>, FormRejection>,
) -> Result<Response, Fault> {
    let asked = form(asked)?;
    let session = demand_change(&admin, &headers, &asked.csrf, "/config")?;
    let who = who(&peer, session.by.as_deref())?;
    // What came of it, faults and all, is on the page.
    to_its_end(apply_and_audit(Arc::clone(&admin), asked.accept_removals.is_some(), who)).await??;
    admin.room.forget_live();
    Ok(see_other("/config"))
}

fn form<T>(given: Result<Form<T>, FormRejection>) -> Result<T, Problem> {
    given.map(|Form(given)| given).map_err(|error| Problem::new(error.status(), "body", error.body_text()))
}

/// A change by a browser: it is logged in, its page was ours, and its form was made for it.
fn demand_change(admin: &Admin, headers: &HeaderMap, csrf: &str, back: &str) -> Result<Session, Fault> {
    let Some(session) = session_of(admin, headers) else { return Err(Fault::Login(back.to_owned())) };
    demand_own_form(&session, headers, csrf.as_bytes())?;
    Ok(session)
}

/// Whether a request that a cookie lets in was made by a page of ours. That it is not of another site was asked before, where the browser
/// says so; here it must say so.
pub(in crate::admin) fn demand_own_form(session: &Session, headers: &HeaderMap, csrf: &[u8]) -> Result<(), Problem> {
    let says_whence = headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN);
    if session.is_csrf(csrf) && says_whence {
        return Ok(());
    }
    let detail = "this was not asked by a page of this dashboard; load the page again";
    Err(Problem::new(StatusCode::FORBIDDEN, "csrf", detail))
}

pub(in crate::admin) fn stale() -> Problem {
    let detail = "it was changed by somebody or something since it was read; look again, and ask again";
    Problem::new(StatusCode::PRECONDITION_FAILED, "stale", detail)
}

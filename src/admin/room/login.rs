//! A token for a cookie, and back.

use std::sync::Arc;
use std::time::Instant;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form};
use serde::Deserialize;

use crate::admin::api::{App, who};
use crate::admin::problem::Problem;
use crate::admin::room::session::{cookie_name, set_cookie};
use crate::admin::room::{Fault, Frame, cookie, rendered, see_other};
use crate::admin::{Admin, Peer};
use crate::store::{AuditEntry, now_unix_ms};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    next: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct Page {
    frame: Frame,
    next: String,
    wrong: Option<&'static str>,
}

pub(super) async fn page(State(admin): App, headers: HeaderMap, Query(asked): Query<Asked>) -> Response {
    let frame = Frame::new(&admin, &headers, "Log in", "", "/");
    if frame.session.is_some() {
        return see_other(own_path(&asked.next));
    }
    rendered(&Page { frame, next: own_path(&asked.next).to_owned(), wrong: None })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Given {
    token: String,
    name: String,
    next: String,
}

pub(super) async fn login(
    State(admin): App,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    given: Result<Form<Given>, FormRejection>,
) -> Result<Response, Fault> {
    let Form(given) = given.map_err(|error| Problem::new(error.status(), "body", error.body_text()))?;
    let Some(tokens) = &admin.state.tokens else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no_token",
            "no admin token could be read or made at start",
        )
        .into());
    };
    let by = Some(given.name.trim()).filter(|name| !name.is_empty());
    // Named badly is refused before anything is begun.
    let whom = who(&peer, by)?;
    if !tokens.allow(given.token.trim().as_bytes()) {
        let is_too_many = admin.failures.count(peer.0.ip(), Instant::now());
        if !is_too_many {
            note(&admin, format!("browser, {}", peer.0.ip()), "login_failed", false);
        }
        let frame = Frame::new(&admin, &headers, "Log in", "", "/");
        let (status, wrong) = if is_too_many {
            (StatusCode::TOO_MANY_REQUESTS, "Too many wrong tokens from this address within a minute.")
        } else {
            (StatusCode::UNAUTHORIZED, "This token is not the admin plane's.")
        };
        return Ok((status, rendered(&Page { frame, next: own_path(&given.next).to_owned(), wrong: Some(wrong) }))
            .into_response());
    }
    let Some(value) = admin.room.sessions.open(by.map(str::to_owned), Instant::now()) else {
        return Err(
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_random", "the system gives no random numbers").into()
        );
    };
    note(&admin, whom, "login", true);
    Ok(with_cookie(&admin, see_other(own_path(&given.next)), Some(&value)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Leaving {
    csrf: String,
}

pub(super) async fn logout(
    State(admin): App,
    headers: HeaderMap,
    given: Result<Form<Leaving>, FormRejection>,
) -> Result<Response, Fault> {
    let Form(given) = given.map_err(|error| Problem::new(error.status(), "body", error.body_text()))?;
    let Some(value) = cookie(&admin, &headers) else { return Ok(see_other("/")) };
    if admin.room.sessions.find(&value, Instant::now()).is_some_and(|session| session.is_csrf(given.csrf.as_bytes())) {
        admin.room.sessions.close(&value);
    }
    Ok(with_cookie(&admin, see_other("/"), None))
}

fn with_cookie(admin: &Arc<Admin>, mut response: Response, value: Option<&str>) -> Response {
    let header = set_cookie(&cookie_name(false, admin.bound.port()), value, false);
    if let Ok(header) = HeaderValue::from_str(&header) {
        response.headers_mut().append(header::SET_COOKIE, header);
    }
    response
}

fn note(admin: &Admin, who: String, what: &str, accepted: bool) {
    admin.state.control.note_in_audit(AuditEntry {
        at_unix_ms: now_unix_ms(),
        who,
        what: what.to_owned(),
        reason: "the dashboard".to_owned(),
        accepted,
        ..AuditEntry::default()
    });
}

/// A path of ours, and not another site's address; anything else is the overview.
fn own_path(asked: &str) -> &str {
    let is_own = asked.starts_with('/')
        && !asked.starts_with("//")
        && asked.len() <= 1_000
        && asked.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_own { asked } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_comes_back_to_a_page_of_ours_only() {
        assert_eq!(own_path("/routes/cart/plan?act=kill"), "/routes/cart/plan?act=kill");
        for other in
            ["", "//evil.example.com", "https://evil.example.com", "/\\evil.example.com", "/a\r\nset-cookie: x", "evil"]
        {
            assert_eq!(own_path(other), "/", "{other:?}");
        }
    }
}

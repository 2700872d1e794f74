//! What would happen to a request, and why: for people.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use serde::Serialize;

use crate::affinity::sends_form;
use crate::decide::{Decision, KeyOrigin, Reason, Remembered, STICKY_COOKIE, caller_key, decide, keep};
use crate::door::host_of;
use crate::facts::RequestFacts;
use crate::lease;
use crate::matching::{Miss, miss};
use crate::route::{FallbackPolicy, HostPattern, LeasePolicy, Route, UnsafeFallback};
use crate::runtime::utc;
use crate::shadow::{self, Manner, Refusal, plan_shadow};
use crate::side::Side;
use crate::signing::Signing;
use crate::snapshot::{Snapshot, written};
use crate::template::{PathError, normal_path};
use crate::weight::Weight;

/// Other routes that are named, nearest misses first.
pub const OTHERS_MAX: usize = 10;
/// Most headers of an asked request.
pub const HEADERS_MAX: usize = 100;

/// Why a question makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No method.
    #[error("{0:?} is no method")]
    Method(String),
    /// Neither a URL nor a path.
    #[error("{0:?} is neither a path (`/cart/7?x=1`) nor a URL (`http://shop.example.com/cart/7`)")]
    Url(String),
    /// The proxy refuses such a path with 400.
    #[error("the proxy answers 400 to the path {path:?}")]
    Path {
        /// As asked.
        path: String,
        /// Why.
        source: PathError,
    },
    /// Not `name: value`.
    #[error("{0:?} is no header; write `name: value`")]
    Header(String),
    /// More than [`HEADERS_MAX`].
    #[error("at most {HEADERS_MAX} headers can be asked about")]
    TooManyHeaders,
}

/// A request that is only asked about.
#[derive(Clone, Debug)]
pub struct Asked {
    method: Method,
    host: String,
    path: String,
    query: String,
    headers: HeaderMap,
}

impl Asked {
    /// From what a person writes: a path or a URL, and header lines `name: value`.
    pub fn parse<'a>(method: &str, url: &str, lines: impl IntoIterator<Item = &'a str>) -> Result<Asked, AskError> {
        let method: Method = method.to_ascii_uppercase().parse().map_err(|_| AskError::Method(method.to_owned()))?;
        let uri: Uri = url.parse().map_err(|_| AskError::Url(url.to_owned()))?;
        if !uri.path().starts_with('/') {
            return Err(AskError::Url(url.to_owned()));
        }
        let mut headers = HeaderMap::new();
        for line in lines {
            let bad = || AskError::Header(line.to_owned());
            let (name, value) = line.split_once(':').ok_or_else(bad)?;
            let name: HeaderName = name.trim().parse().map_err(|_| bad())?;
            headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_| bad())?);
            if headers.len() > HEADERS_MAX {
                return Err(AskError::TooManyHeaders);
            }
        }
        let written = uri.authority().map(|authority| authority.as_str().to_owned());
        let sent = || headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        // As curl does it: who names a Host means it, wherever the URL leads.
        let host = sent().or(written).unwrap_or_default();
        let authority = host.rsplit_once('@').map_or(host.as_str(), |(_, host)| host);
        // In the spelling that a request's has.
        let host = host_of(authority).map_or_else(|| authority.to_ascii_lowercase(), Cow::into_owned);
        let path = normal_path(uri.path())
            .map_err(|source| AskError::Path { path: uri.path().to_owned(), source })?
            .into_owned();
        let query = uri.query().unwrap_or_default().to_owned();
        Ok(Asked { method, host, path, query, headers })
    }

    /// As the decisions see it.
    pub fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
        }
    }
}

/// What would happen, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The method.
    pub method: String,
    /// The host that was matched; empty: none was given.
    pub host: String,
    /// The path that is matched and forwarded.
    pub path: String,
    /// The route; `None`: no route covers it.
    pub route: Option<String>,
    /// The route's path, as written.
    pub pattern: Option<String>,
    /// Which side answers.
    pub side: &'static str,
    /// The upstream of that side.
    pub upstream: String,
    /// The path that extracted is asked for, where it is another one.
    pub rewritten: Option<String>,
    /// As in `strangler_decisions_total`.
    pub reason: &'static str,
    /// The same as a sentence.
    pub because: String,
    /// Where the caller's key was looked for and found.
    pub key: Option<String>,
    /// 0..=9999; `None` where it would be drawn anew, or none is looked at.
    pub bucket: Option<u16>,
    /// How far the route has come.
    pub stage: Option<&'static str>,
    /// The weight in force, kills left aside.
    pub weight: Option<String>,
    /// How it differs from the file.
    pub drift: Option<String>,
    /// What keeps the caller on a side beside the key; `None`: nothing does.
    pub kept: Option<String>,
    /// Whether and where a copy goes.
    pub shadow: String,
    /// What happens when the side fails.
    pub fallback: String,
    /// Other routes and why they are not it, nearest first; at most [`OTHERS_MAX`].
    pub others: Vec<OtherRoute>,
    /// Routes beyond those.
    pub others_left_out: usize,
}

/// A route that the request is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherRoute {
    /// Its name.
    pub route: String,
    /// Why not.
    pub why_not: String,
}

/// Explains what would happen to a request. Without keys its leases cannot be told from forged ones, and have no say.
pub fn explain(snapshot: &Snapshot, facts: &RequestFacts<'_>) -> Explanation {
    explain_with(snapshot, facts, Signing { keys: &[], now_s: 0 })
}

/// The same with the keys of a running proxy.
pub fn explain_with(snapshot: &Snapshot, facts: &RequestFacts<'_>, signing: Signing<'_>) -> Explanation {
    let found = snapshot.table().find(facts);
    let found = found.and_then(|index| snapshot.table().routes().get(index).map(|route| (index, route)));
    let (others, others_left_out) = others(snapshot, found.map(|(index, _)| index), facts);
    let legacy = snapshot.table().legacy().name.as_str();
    let base = Explanation {
        method: facts.method.to_string(),
        host: facts.host.to_owned(),
        path: facts.path.to_owned(),
        route: None,
        pattern: None,
        side: Side::Legacy.as_str(),
        upstream: legacy.to_owned(),
        rewritten: None,
        reason: Reason::FallThrough.as_str(),
        because: "no route covers it, so it falls through to the monolith".to_owned(),
        key: None,
        bucket: None,
        stage: None,
        weight: None,
        drift: None,
        kept: None,
        shadow: "none: only routes are copied".to_owned(),
        fallback: "none: legacy is the last resort".to_owned(),
        others,
        others_left_out,
    };
    let Some((index, route)) = found else {
        return base;
    };
    // Without a key the bucket is chance, so whatever this id would draw is not shown.
    let decision = decide(snapshot, index, route, facts, None, || [b'0'; 32]);
    let (remembered, kept) = remembered(route, facts, signing);
    let is_remembered = remembered.form.is_some() || remembered.journey.is_some();
    let decision = keep(snapshot, index, route, decision, remembered, signing.now_s);
    let weight = snapshot.state(index).map(|state| state.weight).unwrap_or_default();
    let is_drawn = decision.key == KeyOrigin::Fresh && !is_remembered;
    let bucket = decision.bucket.filter(|_| !is_drawn).map(crate::split::Bucket::number);
    let because = match decision.reason {
        Reason::Killed => {
            let kill = snapshot.runtime().kills_of(route).next();
            kill.map_or_else(
                || "it is killed".to_owned(),
                |kill| format!("`{}` is killed {}", kill.scope.as_str(), kill.note),
            )
        }
        Reason::Located => "the path's value says on which side the data lives (`locate`)".to_owned(),
        Reason::Forced => "a signed override says so".to_owned(),
        Reason::Leased => format!("its lease keeps it there (bucket {}, {weight})", bucket.unwrap_or_default()),
        Reason::Pinned => "the same idempotency key was seen there first".to_owned(),
        Reason::FallThrough => base.because.clone(),
        Reason::Weight => match (bucket, decision.side) {
            (Some(bucket), Side::Extracted) => {
                format!("bucket {bucket} lies below {} ({weight})", weight.basis_points())
            }
            (Some(bucket), Side::Legacy) => {
                format!("bucket {bucket} does not lie below {} ({weight})", weight.basis_points())
            }
            (None, _) if weight.is_split() => {
                format!("a bucket would be drawn: extracted for {weight} of such callers, legacy for the others")
            }
            (None, side) => format!("the weight is {weight}, so everyone is on {side}"),
        },
    };
    // Users are split and this one has no key: either side may answer.
    let is_chance = is_drawn && decision.reason == Reason::Weight && weight.is_split();
    let extracted = route.extracted.name.as_str();
    let fallback_from = if is_chance { Side::Extracted } else { decision.side };
    Explanation {
        route: Some(route.name.as_str().to_owned()),
        pattern: Some(route.conditions.path.to_string()),
        side: if is_chance { "by chance" } else { decision.side.as_str() },
        upstream: match decision.side {
            _ if is_chance => format!("{extracted} or {legacy}"),
            Side::Legacy => legacy.to_owned(),
            Side::Extracted => extracted.to_owned(),
        },
        rewritten: route.rewrite.as_ref().and_then(|rewrite| rewrite.path_for(&route.conditions.path, facts.path)),
        reason: decision.reason.as_str(),
        because,
        key: Some(key_text(route, &decision)),
        bucket,
        stage: snapshot.stage(index).map(crate::snapshot::Stage::as_str),
        weight: Some(weight.to_string()),
        drift: snapshot.drift(route),
        kept,
        shadow: shadow_text(route, facts, decision.side, is_chance),
        fallback: fallback_text(route, facts, fallback_from),
        ..base
    }
}

/// The leases that a request brings, and a word on each of what may keep it on a side.
fn remembered(route: &Route, facts: &RequestFacts<'_>, signing: Signing<'_>) -> (Remembered, Option<String>) {
    let mut words = Vec::new();
    let mut read = |policy: Option<&Arc<LeasePolicy>>, what: &str| {
        let policy = policy?;
        let (cookie, minutes) = (&policy.cookie, policy.life.as_secs() / 60);
        let lease = match lease::read(policy, facts, signing) {
            Ok(Some(lease)) => lease,
            Ok(None) => {
                words.push(format!("{what} for {minutes} min by cookie:{cookie}, which the request does not have"));
                return None;
            }
            Err(_) if signing.keys.is_empty() => {
                words.push(format!(
                    "{what} for {minutes} min by cookie:{cookie}, which only a running proxy can verify"
                ));
                return None;
            }
            Err(error) => {
                words.push(format!("{what} for {minutes} min by cookie:{cookie}, which is not believed: {error}"));
                return None;
            }
        };
        let ends = utc((lease.begun_s + policy.life.as_secs()) * 1_000);
        words.push(format!("{what} by cookie:{cookie}, from {} to {ends}", utc(lease.begun_s * 1_000)));
        Some(lease)
    };
    let journey = read(route.lease.as_ref(), "where its journey began");
    let form = read(route.form.as_ref(), "where its form came from").filter(|_| sends_form(facts.method));
    if let Some(policy) = &route.idempotency {
        words.push(format!("where the same value of header:{} was seen first", policy.header));
    }
    (Remembered { journey, form }, (!words.is_empty()).then(|| words.join("; ")))
}

fn key_text(route: &Route, decision: &Decision) -> String {
    let sources: Vec<String> = route.sticky_on.iter().map(written).collect();
    match decision.key {
        KeyOrigin::StickyOn(place) => sources.get(place).cloned().unwrap_or_default(),
        KeyOrigin::OwnCookie => format!("cookie:{STICKY_COOKIE}"),
        KeyOrigin::Fresh if decision.cookie.is_some() => {
            format!("none: no cookie:{STICKY_COOKIE} of ours was sent, so one would be issued")
        }
        KeyOrigin::Fresh if sources.is_empty() => "none, and none is needed: users are not split".to_owned(),
        KeyOrigin::Fresh => format!("none: the request has no {}", sources.join(" and no ")),
        KeyOrigin::None => "none is looked for".to_owned(),
    }
}

fn shadow_text(route: &Route, facts: &RequestFacts<'_>, side: Side, is_chance: bool) -> String {
    let Some(policy) = &route.shadow else {
        return "none: the route has no `shadow`".to_owned();
    };
    let key = caller_key(route, facts);
    let asked = shadow::Asked {
        method: facts.method,
        path: facts.path,
        answered_by: side,
        is_forced: false,
        is_marked: false,
        is_upgrade: facts.headers.contains_key(http::header::UPGRADE),
        body_bytes: None,
        has_idempotency_key: false,
        key: key.map_or(b"", |(key, _)| key),
    };
    let compared = if route.compare.is_some() { ", and the two answers are compared" } else { "" };
    let other = if is_chance { "the side that does not answer" } else { side.other().as_str() };
    // What legacy answers may be copied elsewhere; by chance, that is what is said too.
    let elsewhere = policy.upstream.as_ref().filter(|_| side == Side::Legacy);
    let other = elsewhere.map_or(other, |upstream| upstream.name.as_str());
    match plan_shadow(route, &asked) {
        Ok(plan) if plan.manner == Manner::VerifyRead => {
            "none: what the request wrote is read from both sides afterwards, and compared".to_owned()
        }
        Ok(plan) if plan.manner == Manner::DryRun => format!("a copy goes to {other} as a dry run{compared}"),
        Ok(plan) if plan.manner == Manner::GraphqlQuery => {
            format!("if its body is a GraphQL query, a copy goes to {other}{compared}")
        }
        Ok(_) | Err(Refusal::NotSampled) if key.is_none() && policy.sample != Weight::ALL => {
            format!("by chance: a copy goes to {other} for {} of such callers{compared}", policy.sample)
        }
        Ok(_) => format!("a copy goes to {other}{compared}"),
        Err(Refusal::NotSampled) => format!("none: the caller is not in the sample of {}", policy.sample),
        Err(Refusal::Never) => "none: the path stands under `never`".to_owned(),
        Err(Refusal::Unsafe) => format!("none: a {} may have side effects", facts.method),
        Err(Refusal::MethodNotListed) => format!("none: {} is not among the methods that are copied", facts.method),
        Err(refusal) => format!("none: {}", refusal.as_str()),
    }
}

fn fallback_text(route: &Route, facts: &RequestFacts<'_>, side: Side) -> String {
    if side == Side::Legacy {
        return "none: legacy is the last resort".to_owned();
    }
    if !route.data.may_go_back() {
        return "none: the extracted service owns the data, so legacy would answer from before".to_owned();
    }
    let Some(FallbackPolicy { on_connect_failure, on_timeout, on_5xx, unsafe_requests, .. }) = &route.fallback else {
        return "none: the route says `never`".to_owned();
    };
    let causes = [(*on_connect_failure, "connect_failure"), (*on_timeout, "timeout"), (*on_5xx, "5xx")];
    let causes: Vec<&str> = causes.into_iter().filter_map(|(is_on, cause)| is_on.then_some(cause)).collect();
    match (facts.is_safe(), unsafe_requests) {
        (true, _) => format!("legacy answers after {}", causes.join(", ")),
        (false, UnsafeFallback::Unsent) => {
            format!("legacy answers only if provably nothing of the {} was sent", facts.method)
        }
        (false, UnsafeFallback::Never) => format!("none: a {} is never sent again", facts.method),
    }
}

/// How near a route was; larger is nearer.
type Nearness = (u8, usize);

fn others(snapshot: &Snapshot, found: Option<usize>, facts: &RequestFacts<'_>) -> (Vec<OtherRoute>, usize) {
    let routes = snapshot.table().routes();
    let mut nearest: Vec<(Nearness, usize)> = Vec::with_capacity(OTHERS_MAX + 1);
    for (index, route) in routes.iter().enumerate().filter(|(index, _)| Some(*index) != found) {
        let nearness = nearness(route, facts);
        let place = nearest.partition_point(|(other, _)| *other >= nearness);
        if place < OTHERS_MAX {
            nearest.insert(place, (nearness, index));
            nearest.truncate(OTHERS_MAX);
        }
    }
    let named = nearest.iter().filter_map(|(_, index)| routes.get(*index));
    let named: Vec<OtherRoute> = named
        .map(|route| OtherRoute { route: route.name.as_str().to_owned(), why_not: why_not(route, facts) })
        .collect();
    let left_out = routes.len() - usize::from(found.is_some()) - named.len();
    (named, left_out)
}

fn nearness(route: &Arc<Route>, facts: &RequestFacts<'_>) -> Nearness {
    let rank = match miss(&route.conditions, facts) {
        None => 6,
        Some(Miss::Cookie) => 5,
        Some(Miss::Query) => 4,
        Some(Miss::Header) => 3,
        Some(Miss::Method) => 2,
        Some(Miss::Path) => 1,
        Some(Miss::Host) => 0,
    };
    let pattern = route.conditions.path.to_string();
    let shared = pattern.split('/').zip(facts.path.split('/')).take_while(|(a, b)| a == b || a.starts_with('{'));
    (rank, shared.count())
}

fn why_not(route: &Route, facts: &RequestFacts<'_>) -> String {
    let conditions = &route.conditions;
    match miss(conditions, facts) {
        None => "fits too, but is less narrow".to_owned(),
        Some(Miss::Host) => match &conditions.host {
            HostPattern::Exact(host) => format!("host: it is for {host}"),
            HostPattern::Wildcard(suffix) => format!("host: it is for *{suffix}"),
            HostPattern::Any => "host".to_owned(),
        },
        Some(Miss::Path) => format!("path: it is for {}", conditions.path),
        Some(Miss::Method) => {
            let methods: Vec<&str> = conditions.methods.iter().map(Method::as_str).collect();
            format!("method: it is for {}", methods.join(", "))
        }
        Some(Miss::Header) => format!("header: its condition on {} does not hold", names(&conditions.headers)),
        Some(Miss::Query) => format!("query: its condition on {} does not hold", names(&conditions.query)),
        Some(Miss::Cookie) => format!("cookie: its condition on {} does not hold", names(&conditions.cookies)),
    }
}

fn names<K: std::fmt::Display, V>(conditions: &[(K, V)]) -> String {
    conditions.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;

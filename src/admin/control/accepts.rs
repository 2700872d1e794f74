//! Causes that people accept as intended changes, and take back.

use serde::Serialize;
use strangler_core::day::Day;
use strangler_core::difference::Kind;
use strangler_core::name::RouteName;
use strangler_core::redact::Cause;
use strangler_core::redact::accept::{ACCEPTED_MAX, Acceptance, Accepted, AcceptedKey};
use strangler_core::runtime::{Note, utc};

use crate::admin::control::{Control, ControlError};
use crate::store::{AuditEntry, Change, now_unix_ms};

/// Why a cause was not accepted, or not taken back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// Nothing has differed for it.
    #[error("route `{0}` has no cause {1:?}; `strangler divergences {0}` lists them")]
    Unknown(String, String),
    /// It is none that is accepted.
    #[error("the cause {1:?} of route `{0}` is not accepted")]
    NotAccepted(String, String),
    /// A side that fails is no intended change.
    #[error("{0:?} is a side that failed; that cannot be accepted, only mended")]
    Failure(String),
    /// Its last day is over already.
    #[error("{0} is over already; the last day on which it holds is meant")]
    Over(Day),
    /// The list is full.
    #[error("{ACCEPTED_MAX} causes are accepted already; take some back, or write rules into the routes file")]
    TooMany,
}

/// One that is accepted, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AcceptedStatus {
    /// The route.
    pub route: String,
    /// The cause's signature.
    pub signature: String,
    /// Who accepted it.
    pub by: String,
    /// When.
    pub at: String,
    /// Why.
    pub reason: String,
    /// The last day on which it holds; `None`: no end.
    pub until: Option<String>,
    /// Whether that day is over: it shows as a difference again.
    pub expired: bool,
    /// What it is.
    pub cause: Cause,
}

impl AcceptedStatus {
    fn of(key: &AcceptedKey, one: &Acceptance, today: Day) -> AcceptedStatus {
        AcceptedStatus {
            route: key.route.clone(),
            signature: key.signature.clone(),
            by: one.note.by().to_owned(),
            at: utc(one.note.at_unix_ms()),
            reason: one.note.reason().to_owned(),
            until: one.until.map(|day| day.to_string()),
            expired: one.until.is_some_and(|until| until < today),
            cause: one.cause.clone(),
        }
    }
}

impl Control {
    /// All that are accepted, of one route or of all.
    pub fn accepted(&self, route: Option<&str>) -> Vec<AcceptedStatus> {
        let today = Day::of_unix_ms(now_unix_ms());
        let all = self.accepted.load();
        let wanted = all.0.iter().filter(|(key, _)| route.is_none_or(|route| key.route == route));
        wanted.map(|(key, one)| AcceptedStatus::of(key, one, today)).collect()
    }

    /// Accepts a cause: on record first, for it hides what differs.
    pub async fn accept(
        &self,
        who: &str,
        route: &RouteName,
        signature: &str,
        until: Option<Day>,
        reason: &str,
    ) -> Result<AcceptedStatus, ControlError> {
        let note = Note::new(who, now_unix_ms(), reason)?;
        let key = key(route, signature);
        let entry = AuditEntry { to: Some(described(signature, until)), ..audit("accept", &key, &note) };
        let result = self.try_accept(key, until, note, entry.clone()).await;
        self.audit_refusal(entry, result)
    }

    async fn try_accept(
        &self,
        key: AcceptedKey,
        until: Option<Day>,
        note: Note,
        entry: AuditEntry,
    ) -> Result<AcceptedStatus, ControlError> {
        let today = Day::of_unix_ms(now_unix_ms());
        let _turn = self.turn.lock().await;
        let before = self.accepted.load().as_ref().clone();
        if let Some(until) = until.filter(|until| *until < today) {
            return Err(AcceptError::Over(until).into());
        }
        if before.0.len() >= ACCEPTED_MAX && !before.0.contains_key(&key) {
            return Err(AcceptError::TooMany.into());
        }
        let found = self.store.cause(key.clone()).await.map_err(ControlError::NotRecorded)?;
        let cause: Option<Cause> = found.and_then(|found| serde_json::from_str(&found.json).ok());
        // One that has been accepted before may be given another end when its count has gone.
        let cause = cause.or_else(|| before.0.get(&key).map(|one| one.cause.clone()));
        let Some(cause) = cause.filter(|cause| !cause.place.is_empty() || !cause.kind.is_empty()) else {
            return Err(AcceptError::Unknown(key.route, key.signature).into());
        };
        if Kind::named(&cause.kind).is_none_or(Kind::is_failure) {
            return Err(AcceptError::Failure(cause.kind).into());
        }
        let acceptance = Acceptance { note, until, cause };
        let change = Change::Accept(key.clone(), Some(acceptance.clone()));
        let saved = self.store.save_or_forget(vec![change], vec![AuditEntry { accepted: true, ..entry }]).await;
        saved.map_err(ControlError::NotRecorded)?;
        let status = AcceptedStatus::of(&key, &acceptance, today);
        let mut after = before;
        after.0.insert(key, acceptance);
        self.accepted.publish(after);
        Ok(status)
    }

    /// Takes one back: in force at once, for it shows more.
    pub async fn unaccept(
        &self,
        who: &str,
        route: &RouteName,
        signature: &str,
        reason: &str,
    ) -> Result<AcceptedStatus, ControlError> {
        let note = Note::new(who, now_unix_ms(), reason)?;
        let key = key(route, signature);
        let entry = AuditEntry { from: Some(described(signature, None)), ..audit("unaccept", &key, &note) };
        let result = self.try_unaccept(&key, entry.clone()).await;
        self.audit_refusal(entry, result)
    }

    async fn try_unaccept(&self, key: &AcceptedKey, entry: AuditEntry) -> Result<AcceptedStatus, ControlError> {
        let _turn = self.turn.lock().await;
        let mut after: Accepted = self.accepted.load().as_ref().clone();
        let Some(gone) = after.0.remove(key) else {
            return Err(AcceptError::NotAccepted(key.route.clone(), key.signature.clone()).into());
        };
        self.accepted.publish(after);
        let change = Change::Accept(key.clone(), None);
        // What cannot be written is remembered, and written once the store is sound.
        let _ = self.store.save(vec![change], vec![AuditEntry { accepted: true, ..entry }]).await;
        Ok(AcceptedStatus::of(key, &gone, Day::of_unix_ms(now_unix_ms())))
    }
}

fn key(route: &RouteName, signature: &str) -> AcceptedKey {
    // A signature has 16 digits; a longer text is of no use but to fill the audit.
    AcceptedKey { route: route.as_str().to_owned(), signature: signature.chars().take(16).collect() }
}

fn described(signature: &str, until: Option<Day>) -> String {
    let signature: String = signature.chars().take(16).collect();
    until.map_or_else(|| signature.clone(), |until| format!("{signature} until {until}"))
}

fn audit(what: &str, key: &AcceptedKey, note: &Note) -> AuditEntry {
    AuditEntry {
        at_unix_ms: note.at_unix_ms(),
        who: note.by().to_owned(),
        what: what.to_owned(),
        route: Some(key.route.clone()),
        reason: note.reason().to_owned(),
        ..AuditEntry::default()
    }
}

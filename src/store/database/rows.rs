//! Rows: how a value is written, and what is made of it when it is read.

use std::collections::BTreeMap;

use strangler_core::name::RouteName;
use strangler_core::redact::accept::{Acceptance, AcceptedKey};
use strangler_core::runtime::{Kill, Move, MoveKind, Note};
use strangler_core::weight::Weight;

use crate::store::link::{Link, Row, Value};
use crate::store::{AuditEntry, Change, Keep, StoredCause, StoredDivergence};

/// A batch of divergences; of each signature only those worth most stay, and all are counted.
pub(super) async fn insert_divergences(link: &mut Link, batch: &[(StoredDivergence, Keep)]) -> sqlx::Result<()> {
    let mut signatures = BTreeMap::new();
    for (one, keep) in batch {
        let age_ms = u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX);
        link.run(
            "INSERT INTO divergences (id, at_unix_ms, expires_unix_ms, route, signature, bytes, json, score_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (id) DO UPDATE SET at_unix_ms = excluded.at_unix_ms, expires_unix_ms = excluded.expires_unix_ms,
             route = excluded.route, signature = excluded.signature, bytes = excluded.bytes, json = excluded.json,
             score_ms = excluded.score_ms",
            &[
                (&one.id).into(),
                one.at_unix_ms.into(),
                one.at_unix_ms.saturating_add(age_ms).into(),
                (&one.route).into(),
                (&one.signature).into(),
                (one.json.len() as u64).into(),
                (&one.json).into(),
                keep.score_ms.into(),
            ],
        )
        .await?;
        let seen = signatures.entry((&one.route, &one.signature)).or_insert_with(|| Seen {
            pairs: 0,
            first: one.at_unix_ms,
            last: 0,
            cause: &one.cause,
            per_signature: keep.per_signature,
        });
        seen.pairs += 1;
        seen.first = seen.first.min(one.at_unix_ms);
        seen.last = seen.last.max(one.at_unix_ms);
        (seen.cause, seen.per_signature) = (&one.cause, keep.per_signature);
    }
    // In the order of their keys: two processes that write the same causes must not wait for each other in a ring.
    for ((route, signature), seen) in signatures {
        link.run(
            "INSERT INTO causes (route, signature, pairs, first_unix_ms, last_unix_ms, json) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (route, signature) DO UPDATE SET pairs = causes.pairs + excluded.pairs,
             first_unix_ms = CASE WHEN excluded.first_unix_ms < causes.first_unix_ms
                 THEN excluded.first_unix_ms ELSE causes.first_unix_ms END,
             last_unix_ms = CASE WHEN excluded.last_unix_ms > causes.last_unix_ms
                 THEN excluded.last_unix_ms ELSE causes.last_unix_ms END,
             json = excluded.json",
            &[
                route.into(),
                signature.into(),
                seen.pairs.into(),
                seen.first.into(),
                seen.last.into(),
                seen.cause.into(),
            ],
        )
        .await?;
        link.run(
            "DELETE FROM divergences WHERE id IN (SELECT id FROM divergences WHERE route = $1 AND signature = $2
             ORDER BY score_ms DESC, id DESC LIMIT 9223372036854775807 OFFSET $3)",
            &[route.into(), signature.into(), u64::from(seen.per_signature).into()],
        )
        .await?;
    }
    Ok(())
}

/// What one batch has of one cause.
struct Seen<'a> {
    pairs: u64,
    first: u64,
    last: u64,
    cause: &'a str,
    per_signature: u32,
}

pub(super) async fn insert(link: &mut Link, changes: &[Change], audit: &[AuditEntry]) -> sqlx::Result<()> {
    for change in changes {
        save_change(link, change).await?;
    }
    for entry in audit {
        link.run(
            "INSERT INTO audit (at_unix_ms, who, what, route, before, after, reason, accepted)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                entry.at_unix_ms.into(),
                (&entry.who).into(),
                (&entry.what).into(),
                (&entry.route).into(),
                (&entry.from).into(),
                (&entry.to).into(),
                (&entry.reason).into(),
                u64::from(entry.accepted).into(),
            ],
        )
        .await?;
    }
    Ok(())
}

async fn save_change(link: &mut Link, change: &Change) -> sqlx::Result<()> {
    let done = match change {
        Change::Move(route, None) => link.run("DELETE FROM moves WHERE route = $1", &[route.as_str().into()]).await,
        Change::Move(route, Some(moved)) => {
            let sql = "INSERT INTO moves (route, weight, file_weight, kind, who, at_unix_ms, reason)
                       VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (route) DO UPDATE SET weight = excluded.weight,
                       file_weight = excluded.file_weight, kind = excluded.kind, who = excluded.who,
                       at_unix_ms = excluded.at_unix_ms, reason = excluded.reason";
            let [who, at, reason] = note_values(&moved.note);
            let (weight, of_file) = (weight_value(moved.weight), weight_value(moved.file_weight));
            link.run(sql, &[route.as_str().into(), weight, of_file, moved.kind.as_str().into(), who, at, reason]).await
        }
        Change::Kill(scope, source, None) => {
            let sql = "DELETE FROM kills WHERE scope = $1 AND source = $2";
            link.run(sql, &[scope.as_str().into(), source.as_str().into()]).await
        }
        Change::Kill(scope, source, Some(kill)) => {
            let sql = "INSERT INTO kills (scope, source, accept_stale, who, at_unix_ms, reason)
                       VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (scope, source) DO UPDATE SET
                       accept_stale = excluded.accept_stale, who = excluded.who, at_unix_ms = excluded.at_unix_ms,
                       reason = excluded.reason";
            let [who, at, reason] = note_values(&kill.note);
            let stale = u64::from(kill.accept_stale).into();
            link.run(sql, &[scope.as_str().into(), source.as_str().into(), stale, who, at, reason]).await
        }
        Change::Accept(key, None) => {
            let sql = "DELETE FROM accepted WHERE route = $1 AND signature = $2";
            link.run(sql, &[(&key.route).into(), (&key.signature).into()]).await
        }
        Change::Accept(key, Some(accepted)) => {
            let sql = "INSERT INTO accepted (route, signature, who, at_unix_ms, reason, until, json)
                       VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (route, signature) DO UPDATE SET
                       who = excluded.who, at_unix_ms = excluded.at_unix_ms, reason = excluded.reason,
                       until = excluded.until, json = excluded.json";
            let [who, at, reason] = note_values(&accepted.note);
            let until = accepted.until.map(|day| day.to_string());
            let cause = serde_json::to_string(&accepted.cause).unwrap_or_default();
            let key = [(&key.route).into(), (&key.signature).into()];
            link.run(sql, &[key[0], key[1], who, at, reason, (&until).into(), (&cause).into()]).await
        }
        Change::Past(route, None) => link.run("DELETE FROM pasts WHERE route = $1", &[route.as_str().into()]).await,
        Change::Past(route, Some(past)) => {
            let sql = "INSERT INTO pasts (route, weight, pasts) VALUES ($1, $2, $3)
                       ON CONFLICT (route) DO UPDATE SET weight = excluded.weight, pasts = excluded.pasts";
            let pasts = past.pasts_text();
            link.run(sql, &[route.as_str().into(), weight_value(past.weight), (&pasts).into()]).await
        }
    };
    done.map(drop)
}

fn note_values(note: &Note) -> [Value<'_>; 3] {
    [note.by().into(), note.at_unix_ms().into(), note.reason().into()]
}

fn weight_value(weight: Weight) -> Value<'static> {
    u64::from(weight.basis_points()).into()
}

fn weight(row: &Row, column: &str) -> Option<Weight> {
    Weight::from_basis_points(u16::try_from(row.number(column)?).ok()?)
}

fn note(row: &Row) -> Option<Note> {
    Note::new(&row.text("who")?, row.number("at_unix_ms")?, &row.text("reason")?).ok()
}

pub(super) fn move_of(row: &Row) -> Option<(RouteName, Move)> {
    let kind: MoveKind = row.text("kind")?.parse().ok()?;
    let moved =
        Move { weight: weight(row, "weight")?, file_weight: weight(row, "file_weight")?, kind, note: note(row)? };
    Some((row.text("route")?.parse().ok()?, moved))
}

pub(super) fn kill_of(row: &Row) -> Option<Kill> {
    Some(Kill {
        scope: row.text("scope")?.parse().ok()?,
        source: row.text("source")?.parse().ok()?,
        accept_stale: row.flag("accept_stale")?,
        note: note(row)?,
    })
}

pub(super) fn divergence_of(row: &Row) -> Option<StoredDivergence> {
    Some(StoredDivergence {
        id: row.text("id")?,
        at_unix_ms: row.number("at_unix_ms")?,
        route: row.text("route")?,
        signature: row.text("signature")?,
        // It stands in the record, too, and is not read back from here.
        cause: String::new(),
        json: row.text("json")?,
    })
}

pub(super) fn cause_of(row: &Row) -> Option<StoredCause> {
    Some(StoredCause {
        route: row.text("route")?,
        signature: row.text("signature")?,
        pairs: row.number("pairs")?,
        first_unix_ms: row.number("first_unix_ms")?,
        last_unix_ms: row.number("last_unix_ms")?,
        json: row.text("json")?,
    })
}

pub(super) fn accepted_of(row: &Row) -> Option<(AcceptedKey, Acceptance)> {
    let key = AcceptedKey { route: row.text("route")?, signature: row.text("signature")? };
    let until = row.maybe_text("until")?.map(|day| day.parse()).transpose().ok()?;
    let cause = serde_json::from_str(&row.text("json")?).ok()?;
    Some((key, Acceptance { note: note(row)?, until, cause }))
}

pub(super) fn audit_of(row: &Row) -> Option<AuditEntry> {
    Some(AuditEntry {
        seq: row.number("seq")?,
        at_unix_ms: row.number("at_unix_ms")?,
        who: row.text("who")?,
        what: row.text("what")?,
        route: row.maybe_text("route")?,
        from: row.maybe_text("before")?,
        to: row.maybe_text("after")?,
        reason: row.text("reason")?,
        accepted: row.flag("accepted")?,
    })
}

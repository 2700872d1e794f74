//! Rows: how a value is written, and what is made of it when it is read.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use strangler_core::name::RouteName;
use strangler_core::redact::accept::{Acceptance, AcceptedKey};
use strangler_core::runtime::{Kill, Move, MoveKind, Note};
use strangler_core::weight::Weight;

use crate::store::{AuditEntry, Change, Keep, StoredCause, StoredDivergence};

/// A batch of divergences; of each signature only those worth most stay, and all are counted.
pub(super) async fn insert_divergences(
    connection: &mut SqliteConnection,
    batch: &[(StoredDivergence, Keep)],
) -> sqlx::Result<()> {
    let mut signatures = BTreeMap::new();
    for (one, keep) in batch {
        let age_ms = u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX);
        sqlx::query(
            "INSERT OR REPLACE INTO divergences (id, at_unix_ms, expires_unix_ms, route, signature, bytes, json, score_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .bind(&one.id)
        .bind(signed(one.at_unix_ms))
        .bind(signed(one.at_unix_ms.saturating_add(age_ms)))
        .bind(&one.route)
        .bind(&one.signature)
        .bind(signed(one.json.len() as u64))
        .bind(&one.json)
        .bind(keep.score_ms)
        .execute(&mut *connection)
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
    for ((route, signature), seen) in signatures {
        sqlx::query(
            "INSERT INTO causes (route, signature, pairs, first_unix_ms, last_unix_ms, json) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (route, signature) DO UPDATE SET pairs = pairs + excluded.pairs,
                 first_unix_ms = min(first_unix_ms, excluded.first_unix_ms),
                 last_unix_ms = max(last_unix_ms, excluded.last_unix_ms), json = excluded.json",
        )
        .bind(route)
        .bind(signature)
        .bind(seen.pairs)
        .bind(signed(seen.first))
        .bind(signed(seen.last))
        .bind(seen.cause)
        .execute(&mut *connection)
        .await?;
        sqlx::query(
            "DELETE FROM divergences WHERE id IN (SELECT id FROM divergences WHERE route = ?1 AND signature = ?2
                 ORDER BY score_ms DESC, id DESC LIMIT -1 OFFSET ?3)",
        )
        .bind(route)
        .bind(signature)
        .bind(i64::from(seen.per_signature))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// What one batch has of one cause.
struct Seen<'a> {
    pairs: i64,
    first: u64,
    last: u64,
    cause: &'a str,
    per_signature: u32,
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    changes: &[Change],
    audit: &[AuditEntry],
) -> std::result::Result<(), sqlx::Error> {
    for change in changes {
        save_change(connection, change).await?;
    }
    for entry in audit {
        sqlx::query(
            "INSERT INTO audit (at_unix_ms, who, what, route, before, after, reason, accepted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .bind(signed(entry.at_unix_ms))
        .bind(&entry.who)
        .bind(&entry.what)
        .bind(&entry.route)
        .bind(&entry.from)
        .bind(&entry.to)
        .bind(&entry.reason)
        .bind(entry.accepted)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn save_change(connection: &mut SqliteConnection, change: &Change) -> std::result::Result<(), sqlx::Error> {
    let query = match change {
        Change::Move(route, None) => sqlx::query("DELETE FROM moves WHERE route = ?1").bind(route.as_str().to_owned()),
        Change::Move(route, Some(moved)) => {
            let sql = "INSERT OR REPLACE INTO moves (route, weight, file_weight, kind, who, at_unix_ms, reason)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            sqlx::query(sql)
                .bind(route.as_str().to_owned())
                .bind(moved.weight.basis_points())
                .bind(moved.file_weight.basis_points())
                .bind(moved.kind.as_str())
                .bind(moved.note.by().to_owned())
                .bind(signed(moved.note.at_unix_ms()))
                .bind(moved.note.reason().to_owned())
        }
        Change::Kill(scope, source, None) => sqlx::query("DELETE FROM kills WHERE scope = ?1 AND source = ?2")
            .bind(scope.as_str().to_owned())
            .bind(source.as_str()),
        Change::Kill(scope, source, Some(kill)) => {
            let sql = "INSERT OR REPLACE INTO kills (scope, source, accept_stale, who, at_unix_ms, reason)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            sqlx::query(sql)
                .bind(scope.as_str().to_owned())
                .bind(source.as_str())
                .bind(kill.accept_stale)
                .bind(kill.note.by().to_owned())
                .bind(signed(kill.note.at_unix_ms()))
                .bind(kill.note.reason().to_owned())
        }
        Change::Accept(key, None) => sqlx::query("DELETE FROM accepted WHERE route = ?1 AND signature = ?2")
            .bind(key.route.clone())
            .bind(key.signature.clone()),
        Change::Accept(key, Some(accepted)) => {
            let sql = "INSERT OR REPLACE INTO accepted (route, signature, who, at_unix_ms, reason, until, json)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            sqlx::query(sql)
                .bind(key.route.clone())
                .bind(key.signature.clone())
                .bind(accepted.note.by().to_owned())
                .bind(signed(accepted.note.at_unix_ms()))
                .bind(accepted.note.reason().to_owned())
                .bind(accepted.until.map(|day| day.to_string()))
                .bind(serde_json::to_string(&accepted.cause).unwrap_or_default())
        }
        Change::Past(route, None) => sqlx::query("DELETE FROM pasts WHERE route = ?1").bind(route.as_str().to_owned()),
        Change::Past(route, Some(past)) => {
            let sql = "INSERT OR REPLACE INTO pasts (route, weight, pasts) VALUES (?1, ?2, ?3)";
            sqlx::query(sql).bind(route.as_str().to_owned()).bind(past.weight.basis_points()).bind(past.pasts_text())
        }
    };
    query.execute(connection).await.map(drop)
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn text(row: &SqliteRow, column: &str) -> Option<String> {
    row.try_get(column).ok()
}

fn number(row: &SqliteRow, column: &str) -> Option<u64> {
    row.try_get::<i64, _>(column).ok().and_then(|number| u64::try_from(number).ok())
}

fn weight(row: &SqliteRow, column: &str) -> Option<Weight> {
    Weight::from_basis_points(u16::try_from(number(row, column)?).ok()?)
}

fn note(row: &SqliteRow) -> Option<Note> {
    Note::new(&text(row, "who")?, number(row, "at_unix_ms")?, &text(row, "reason")?).ok()
}

pub(super) fn move_of(row: &SqliteRow) -> Option<(RouteName, Move)> {
    let kind: MoveKind = text(row, "kind")?.parse().ok()?;
    let moved =
        Move { weight: weight(row, "weight")?, file_weight: weight(row, "file_weight")?, kind, note: note(row)? };
    Some((text(row, "route")?.parse().ok()?, moved))
}

pub(super) fn kill_of(row: &SqliteRow) -> Option<Kill> {
    Some(Kill {
        scope: text(row, "scope")?.parse().ok()?,
        source: text(row, "source")?.parse().ok()?,
        accept_stale: row.try_get("accept_stale").ok()?,
        note: note(row)?,
    })
}

pub(super) fn divergence_of(row: &SqliteRow) -> Option<StoredDivergence> {
    Some(StoredDivergence {
        id: text(row, "id")?,
        at_unix_ms: number(row, "at_unix_ms")?,
        route: text(row, "route")?,
        signature: text(row, "signature")?,
        // It stands in the record, too, and is not read back from here.
        cause: String::new(),
        json: text(row, "json")?,
    })
}

pub(super) fn cause_of(row: &SqliteRow) -> Option<StoredCause> {
    Some(StoredCause {
        route: text(row, "route")?,
        signature: text(row, "signature")?,
        pairs: number(row, "pairs")?,
        first_unix_ms: number(row, "first_unix_ms")?,
        last_unix_ms: number(row, "last_unix_ms")?,
        json: text(row, "json")?,
    })
}

pub(super) fn accepted_of(row: &SqliteRow) -> Option<(AcceptedKey, Acceptance)> {
    let key = AcceptedKey { route: text(row, "route")?, signature: text(row, "signature")? };
    let until = row.try_get::<Option<String>, _>("until").ok()?;
    let until = until.map(|day| day.parse()).transpose().ok()?;
    let cause = serde_json::from_str(&text(row, "json")?).ok()?;
    Some((key, Acceptance { note: note(row)?, until, cause }))
}

pub(super) fn audit_of(row: &SqliteRow) -> Option<AuditEntry> {
    Some(AuditEntry {
        seq: number(row, "seq")?,
        at_unix_ms: number(row, "at_unix_ms")?,
        who: text(row, "who")?,
        what: text(row, "what")?,
        route: row.try_get("route").ok()?,
        from: row.try_get("before").ok()?,
        to: row.try_get("after").ok()?,
        reason: text(row, "reason")?,
        accepted: row.try_get("accepted").ok()?,
    })
}

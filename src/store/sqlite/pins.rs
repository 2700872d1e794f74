//! Idempotency keys, and the weights of before: what a write that is tried again is judged by.

use sqlx::Row;
use strangler_core::idempotency::PIN_LIFE_S;
use strangler_core::name::RouteName;
use strangler_core::past::RoutePast;
use strangler_core::side::Side;
use strangler_core::weight::Weight;

use crate::store::sqlite::rows::signed;
use crate::store::sqlite::{Database, DatabaseError, Result, sql_error};
use crate::store::{StoredPin, now_unix_ms};

/// Hex digits of a key, a letter for the side, ten digits of seconds.
const ROW_CHARS: usize = 32 + 1 + 10;
/// Rows read at once.
const PIECE_ROWS: i64 = 10_000;

impl Database {
    /// A batch in one transaction.
    pub(in crate::store) async fn save_pins(&mut self, batch: &[StoredPin]) -> Result<()> {
        const DOING: &str = "save idempotency keys";
        self.begin(DOING).await?;
        let mut done = Ok(());
        for pin in batch {
            let query = match pin.side {
                Some(side) => sqlx::query("INSERT OR REPLACE INTO pins (key, side, seen_s) VALUES (?1, ?2, ?3)")
                    .bind(pin.key.to_vec())
                    .bind(side.as_str())
                    .bind(signed(pin.seen_s)),
                None => sqlx::query("DELETE FROM pins WHERE key = ?1 AND seen_s = ?2")
                    .bind(pin.key.to_vec())
                    .bind(signed(pin.seen_s)),
            };
            done = query.execute(&mut self.connection).await.map(drop);
            if done.is_err() {
                break;
            }
        }
        self.end(DOING, done).await
    }

    /// Those of the last day, oldest first; where a key stands twice the later one counts. Read in the order in which they lie on the disk
    /// and in large pieces: a row at a time, half a million of them would hold the start up.
    pub(in crate::store) async fn pins(&mut self, pins_max: u64) -> Result<Vec<StoredPin>> {
        const DOING: &str = "read the idempotency keys";
        let mut pins: Vec<StoredPin> = Vec::new();
        let (mut after_s, mut after_key) = (youngest_gone_s(), [u8::MAX; 16]);
        loop {
            let piece: Option<String> = sqlx::query_scalar(
                "SELECT group_concat(hex(key) || substr(side, 1, 1) || printf('%010d', seen_s), '') FROM
                 (SELECT seen_s, key, side FROM pins WHERE (seen_s, key) > (?1, ?2) ORDER BY seen_s, key LIMIT ?3)",
            )
            .bind(signed(after_s))
            .bind(after_key.to_vec())
            .bind(PIECE_ROWS)
            .fetch_one(&mut self.connection)
            .await
            .map_err(sql_error(DOING))?;
            let before = pins.len();
            for row in piece.unwrap_or_default().as_bytes().chunks(ROW_CHARS) {
                pins.push(pin_of(row).ok_or(DatabaseError::BadRow("pins"))?);
            }
            let Some(last) = pins.get(before..).and_then(<[StoredPin]>::last) else { break };
            (after_s, after_key) = (last.seen_s, last.key);
        }
        let excess = pins.len().saturating_sub(usize::try_from(pins_max).unwrap_or(usize::MAX));
        pins.drain(..excess);
        Ok(pins)
    }

    /// Takes out what is too old and what is too much.
    pub(in crate::store) async fn sweep_pins(&mut self, pins_max: u64) -> Result<()> {
        const DOING: &str = "sweep idempotency keys";
        sqlx::query("DELETE FROM pins WHERE seen_s <= ?1")
            .bind(signed(youngest_gone_s()))
            .execute(&mut self.connection)
            .await
            .map_err(sql_error(DOING))?;
        // The second of the first one too many goes whole: a few more than asked for, and no search.
        let too_many = "SELECT seen_s FROM pins ORDER BY seen_s DESC, key DESC LIMIT 1 OFFSET ?1";
        sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM pins WHERE seen_s <= ({too_many})")))
            .bind(signed(pins_max))
            .execute(&mut self.connection)
            .await
            .map(drop)
            .map_err(sql_error(DOING))
    }

    pub(super) async fn pasts(&mut self) -> Result<Vec<(RouteName, RoutePast)>> {
        // A file of an earlier version that can only be read has no such table yet; its kills still count.
        let tables: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'pasts'")
                .fetch_one(&mut self.connection)
                .await
                .map_err(sql_error("read its tables"))?;
        if tables == 0 {
            return Ok(Vec::new());
        }
        let rows = sqlx::query("SELECT route, weight, pasts FROM pasts")
            .fetch_all(&mut self.connection)
            .await
            .map_err(sql_error("read the weights of before"))?;
        let one = |row: &sqlx::sqlite::SqliteRow| {
            let weight = Weight::from_basis_points(row.try_get("weight").ok()?)?;
            let route: String = row.try_get("route").ok()?;
            let pasts: String = row.try_get("pasts").ok()?;
            Some((route.parse().ok()?, RoutePast::parse(weight, &pasts)?))
        };
        rows.iter().map(one).collect::<Option<_>>().ok_or(DatabaseError::BadRow("pasts"))
    }
}

/// Keys seen then, or earlier, are forgotten.
fn youngest_gone_s() -> u64 {
    (now_unix_ms() / 1_000).saturating_sub(PIN_LIFE_S)
}

fn pin_of(row: &[u8]) -> Option<StoredPin> {
    let (hex, rest) = row.split_at_checked(32)?;
    let (side, seen) = rest.split_first()?;
    let mut key = [0u8; 16];
    for (byte, digits) in key.iter_mut().zip(hex.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    let side = match side {
        b'l' => Side::Legacy,
        b'e' => Side::Extracted,
        _ => return None,
    };
    Some(StoredPin { key, side: Some(side), seen_s: std::str::from_utf8(seen).ok()?.parse().ok()? })
}

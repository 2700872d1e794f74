//! Idempotency keys, and the weights of before: what a write that is tried again is judged by.

use strangler_core::idempotency::PIN_LIFE_S;
use strangler_core::name::RouteName;
use strangler_core::past::RoutePast;
use strangler_core::side::Side;
use strangler_core::weight::Weight;

use crate::store::database::{Database, DatabaseError, Result, sql_error};
use crate::store::link::{Dialect, Link, Row};
use crate::store::{StoredPin, now_unix_ms};

/// Hex digits of a key, a letter for the side, ten digits of seconds.
const ROW_CHARS: usize = 32 + 1 + 10;
/// Rows read at once.
const PIECE_ROWS: i64 = 10_000;

impl Database {
    /// A batch in one transaction.
    pub(in crate::store) async fn save_pins(&mut self, batch: &[StoredPin]) -> Result<()> {
        const DOING: &str = "save idempotency keys";
        self.link.begin().await.map_err(sql_error(DOING))?;
        let done = insert_pins(&mut self.link, batch).await;
        self.link.end(done).await.map_err(sql_error(DOING))
    }

    /// Those of the last day, oldest first; where a key stands twice the later one counts. Read in the order in which they lie on the disk
    /// and in large pieces: a row at a time, half a million of them would hold the start up.
    pub(in crate::store) async fn pins(&mut self, pins_max: u64) -> Result<Vec<StoredPin>> {
        const DOING: &str = "read the idempotency keys";
        let sql = match self.link.dialect() {
            Dialect::Sqlite => {
                "SELECT group_concat(hex(key) || substr(side, 1, 1) || printf('%010d', seen_s), '') AS piece FROM
                 (SELECT seen_s, key, side FROM pins WHERE (seen_s, key) > ($1, $2) ORDER BY seen_s, key LIMIT $3)"
            }
            Dialect::Postgres => {
                "SELECT string_agg(encode(key, 'hex') || substr(side, 1, 1) || lpad(CAST(seen_s AS TEXT), 10, '0'), ''
                 ORDER BY seen_s, key) AS piece FROM
                 (SELECT seen_s, key, side FROM pins WHERE (seen_s, key) > ($1, $2) ORDER BY seen_s, key LIMIT $3) AS found"
            }
        };
        let mut pins: Vec<StoredPin> = Vec::new();
        let (mut after_s, mut after_key) = (youngest_gone_s(), [u8::MAX; 16]);
        loop {
            let values = [after_s.into(), after_key.as_slice().into(), PIECE_ROWS.into()];
            let row = self.link.row(sql, &values).await.map_err(sql_error(DOING))?;
            let piece = row.and_then(|row| row.maybe_text("piece")).ok_or(DatabaseError::BadRow("pins"))?;
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
        let too_old = "DELETE FROM pins WHERE seen_s <= $1";
        self.link.run(too_old, &[youngest_gone_s().into()]).await.map_err(sql_error(DOING))?;
        // The second of the first one too many goes whole: a few more than asked for, and no search.
        let too_many = "DELETE FROM pins WHERE seen_s <=
                        (SELECT seen_s FROM pins ORDER BY seen_s DESC, key DESC LIMIT 1 OFFSET $1)";
        self.link.run(too_many, &[pins_max.into()]).await.map(drop).map_err(sql_error(DOING))
    }

    pub(super) async fn pasts(&mut self) -> Result<Vec<(RouteName, RoutePast)>> {
        // A file of an earlier version that can only be read has no such table yet; its kills still count.
        if self.link.dialect() == Dialect::Sqlite {
            let tables = "SELECT count(*) AS n FROM sqlite_master WHERE type = 'table' AND name = 'pasts'";
            if self.link.number(tables, &[]).await.map_err(sql_error("read its tables"))? == 0 {
                return Ok(Vec::new());
            }
        }
        let rows = self.link.rows("SELECT route, weight, pasts FROM pasts", &[]).await;
        let rows = rows.map_err(sql_error("read the weights of before"))?;
        let one = |row: &Row| {
            let weight = Weight::from_basis_points(u16::try_from(row.number("weight")?).ok()?)?;
            Some((row.text("route")?.parse().ok()?, RoutePast::parse(weight, &row.text("pasts")?)?))
        };
        rows.iter().map(one).collect::<Option<_>>().ok_or(DatabaseError::BadRow("pasts"))
    }
}

async fn insert_pins(link: &mut Link, batch: &[StoredPin]) -> sqlx::Result<()> {
    for pin in batch {
        let (key, seen) = (pin.key.as_slice().into(), pin.seen_s.into());
        match pin.side {
            Some(side) => {
                let sql = "INSERT INTO pins (key, side, seen_s) VALUES ($1, $2, $3)
                           ON CONFLICT (seen_s, key) DO UPDATE SET side = excluded.side";
                link.run(sql, &[key, side.as_str().into(), seen]).await?;
            }
            None => drop(link.run("DELETE FROM pins WHERE key = $1 AND seen_s = $2", &[key, seen]).await?),
        }
    }
    Ok(())
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

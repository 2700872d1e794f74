//! The ledger of keys, against a real database.

use axum::http::{HeaderMap, HeaderValue};
use estate_chassis::idempotency::{Entry, Fingerprint, KEPT_MS, Ledger, SCHEMA, Scope, Stored, Ticket, required_key};
use estate_chassis::problem::Problem;
use estate_chassis::store::Database;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Desk {
    ledger: Ledger,
    store: Database,
    _data: TempDir,
}

impl Desk {
    async fn open() -> Desk {
        let data = tempfile::tempdir().expect("a directory");
        let store = Database::open(data.path(), "keys.db", SCHEMA).await.expect("a database");
        Desk { ledger: Ledger::default(), store, _data: data }
    }

    async fn claim(&self, user: &str, body: &Value, now: i64) -> Result<Entry, Problem> {
        let scope = Scope { route: "POST /payments", user: user.to_owned(), key: "k1".to_owned() };
        self.ledger.claim(&self.store, scope, Fingerprint::of(body), now).await
    }

    async fn fresh(&self, user: &str, body: &Value, now: i64) -> Ticket {
        match self.claim(user, body, now).await {
            Ok(Entry::Fresh(ticket)) => ticket,
            other => panic!("the key should be free: {other:?}"),
        }
    }

    async fn record(&self, ticket: &Ticket, now: i64, is_committed: bool) {
        let mut transaction = self.store.begin().await.expect("a transaction");
        ticket.record(&mut transaction, &answer(), Some(7), now).await.expect("recorded");
        if is_committed {
            transaction.commit().await.expect("committed");
        }
    }
}

fn answer() -> Stored {
    Stored { status: 201, body: "{\"id\":7}".to_owned() }
}

#[tokio::test]
async fn a_finished_request_is_answered_again_and_another_payload_is_refused() {
    let desk = Desk::open().await;
    let body = json!({"amount": 5, "ref": "a"});
    let ticket = desk.fresh("u1", &body, 0).await;
    desk.record(&ticket, 0, true).await;
    drop(ticket);

    let same = desk.claim("u1", &json!({"ref": "a", "amount": 5}), 1).await;
    let other = desk.claim("u1", &json!({"ref": "a", "amount": 6}), 1).await;

    assert!(matches!(same, Ok(Entry::Done(stored)) if stored == answer()));
    assert_eq!(other.expect_err("refused").status, 422);
    assert!(matches!(desk.claim("u2", &body, 1).await, Ok(Entry::Fresh(_))));
}

#[tokio::test]
async fn a_request_that_is_running_holds_its_key() {
    let desk = Desk::open().await;
    let body = json!({"amount": 5});
    let ticket = desk.fresh("u1", &body, 0).await;

    let same = desk.claim("u1", &body, 0).await.expect_err("running");
    let other = desk.claim("u1", &json!({}), 0).await.expect_err("reused");
    drop(ticket);

    assert_eq!([same.status.as_u16(), other.status.as_u16()], [409, 422]);
    drop(desk.fresh("u1", &body, 0).await);
}

#[tokio::test]
async fn a_rolled_back_effect_leaves_the_key_free_and_an_expired_key_is_free_again() {
    let desk = Desk::open().await;
    let body = json!({"amount": 5});
    let ticket = desk.fresh("u1", &body, 0).await;
    desk.record(&ticket, 0, false).await;
    drop(ticket);

    let ticket = desk.fresh("u1", &body, 1).await;
    desk.record(&ticket, 1, true).await;
    drop(ticket);

    assert!(matches!(desk.claim("u1", &body, KEPT_MS).await, Ok(Entry::Done(_))));
    let ticket = desk.fresh("u1", &json!({"amount": 9}), 1 + KEPT_MS).await;
    desk.record(&ticket, 1 + KEPT_MS, true).await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency_keys")
        .fetch_one(desk.store.reader())
        .await
        .expect("a count");
    assert_eq!(rows, 1);
}

#[test]
fn a_key_is_taken_bare_or_quoted_and_nothing_else() {
    let with = |value: &'static [u8]| {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", HeaderValue::from_bytes(value).expect("a header"));
        required_key(&headers)
    };
    assert_eq!(with(b"\"8e03978e-40d5\""), with(b"8e03978e-40d5"));
    for bad in [&b""[..], b"\"\"", b"a b", b"\xff"] {
        assert_eq!(with(bad).map_err(|problem| problem.code), Err("idempotency_key_invalid"));
    }
    assert_eq!(required_key(&HeaderMap::new()).map_err(|problem| problem.code), Err("idempotency_key_required"));
}

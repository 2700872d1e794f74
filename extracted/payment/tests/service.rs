//! The service as its callers see it: over a socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::http::Method;
use estate_chassis::bugs::Bugs;
use estate_chassis::client::{Answer, call, get, post_json};
use estate_chassis::service::{Running, start};
use estate_payment::bank::Bank;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Service {
    running: Running,
    data: TempDir,
}

impl Service {
    async fn started() -> Service {
        let bank = Bank { slow: Duration::from_millis(300), silent: Duration::from_millis(300) };
        Service::on(tempfile::tempdir().expect("a directory"), bank).await
    }

    async fn on(data: TempDir, bank: Bank) -> Service {
        let router = estate_payment::build(data.path(), Bugs::none(), bank).await.expect("the service builds");
        let running = start((Ipv4Addr::LOCALHOST, 0).into(), router).await.expect("the service starts");
        Service { running, data }
    }

    fn address(&self) -> SocketAddr {
        self.running.address()
    }

    async fn pay(&self, key: &str, body: &Value) -> Answer {
        let headers = [("idempotency-key", key), ("x-user-id", "17")];
        post_json(self.address(), "/api/v1/payments", &headers, body).await.expect("an answer")
    }

    async fn step(&self, id: &Value, step: &str) -> Answer {
        let path = format!("/api/v1/payments/{id}/{step}");
        post_json(self.address(), &path, &[], &json!({})).await.expect("an answer")
    }

    async fn by_key(&self, key: &str) -> Answer {
        let path = format!("/api/v1/payments/by-key/{key}");
        call(self.address(), Method::GET, &path, &[("x-user-id", "17")], "").await.expect("an answer")
    }

    async fn switch(&self, bugs: &'static str) {
        let answer = call(self.address(), Method::PUT, "/__bugs", &[], bugs).await.expect("an answer");
        assert_eq!(answer.status, 200);
    }

    async fn stop(self) -> TempDir {
        self.running.stop().await;
        self.data
    }
}

fn payment(card_token: &str) -> Value {
    json!({"order_ref": "o-1", "amount_cents": 9781, "currency": "EUR", "card_token": card_token})
}

#[tokio::test]
async fn a_double_submit_pays_once_and_is_answered_alike() {
    let service = Service::started().await;

    let first = service.pay("k1", &payment("tok_visa")).await;
    let second = service.pay("k1", &payment("tok_visa")).await;
    let dearer = json!({"order_ref": "o-1", "amount_cents": 9782, "currency": "EUR", "card_token": "tok_visa"});
    let other = service.pay("k1", &dearer).await;

    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (201, ""));
    assert_eq!((second.status.as_u16(), second.header("idempotency-replayed")), (201, "true"));
    assert_eq!(
        (first.body, first.headers["content-type"].clone()),
        (second.body, second.headers["content-type"].clone())
    );
    assert_eq!((other.status.as_u16(), &other.json()["code"]), (422, &json!("idempotency_key_reused")));
    service.stop().await;
}

#[tokio::test]
async fn a_key_is_remembered_after_a_restart() {
    let service = Service::started().await;
    let first = service.pay("k1", &payment("tok_visa")).await.json();

    let service = Service::on(service.stop().await, Bank::default()).await;
    let second = service.pay("k1", &payment("tok_visa")).await;

    assert_eq!(first["payment_id"], json!(10_000_000));
    assert_eq!((second.json(), second.header("idempotency-replayed")), (first, "true"));
    assert_eq!(service.pay("k2", &payment("tok_visa")).await.json()["payment_id"], json!(10_000_001));
    service.stop().await;
}

#[tokio::test]
async fn with_the_bug_a_double_submit_pays_twice() {
    let service = Service::started().await;
    service.switch("ignore_idem").await;

    let first = service.pay("k1", &payment("tok_visa")).await.json();
    let second = service.pay("k1", &payment("tok_visa")).await.json();

    assert_ne!(first["payment_id"], second["payment_id"]);
    service.stop().await;
}

#[tokio::test]
async fn a_declined_card_is_402_again_and_again() {
    let service = Service::started().await;

    let first = service.pay("k1", &payment("tok_declined")).await;
    let second = service.pay("k1", &payment("tok_declined")).await;

    assert_eq!((first.status.as_u16(), &first.json()["code"]), (402, &json!("declined")));
    assert_eq!((second.status.as_u16(), second.json()), (402, first.json()));
    assert_eq!(second.header("content-type"), "application/problem+json");
    assert_eq!(service.by_key("k1").await.json()["status"], "declined");
    service.stop().await;
}

#[tokio::test]
async fn while_a_slow_payment_runs_its_key_is_taken_and_can_be_asked_for() {
    let service = Service::started().await;

    let slow_payment = payment("tok_slow_8s");
    let (first, (second, asked)) = tokio::join!(service.pay("k1", &slow_payment), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        (service.pay("k1", &slow_payment).await, service.by_key("k1").await)
    });

    assert_eq!(first.status, 201);
    assert_eq!((second.status.as_u16(), &second.json()["code"]), (409, &json!("idempotency_in_flight")));
    assert_eq!((asked.status.as_u16(), &asked.json()["code"]), (409, &json!("payment_in_flight")));
    service.stop().await;
}

#[tokio::test]
async fn a_caller_that_hung_up_finds_its_payment_by_key() {
    let service = Service::started().await;

    let body = payment("tok_timeout_then_ok");
    let hung_up = tokio::time::timeout(Duration::from_millis(150), service.pay("k1", &body)).await;
    let asked = service.by_key("k1").await;
    let again = service.pay("k1", &body).await;

    assert!(hung_up.is_err());
    assert_eq!((asked.status.as_u16(), &asked.json()["status"]), (200, &json!("authorized")));
    assert_eq!((again.json(), again.header("idempotency-replayed")), (asked.json(), "true"));
    service.stop().await;
}

#[tokio::test]
async fn a_slow_payment_is_finished_though_its_caller_hung_up() {
    let service = Service::started().await;

    let body = payment("tok_slow_8s");
    let hung_up = tokio::time::timeout(Duration::from_millis(100), service.pay("k1", &body)).await;
    let mut asked = service.by_key("k1").await;
    while asked.status == 409 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        asked = service.by_key("k1").await;
    }

    assert!(hung_up.is_err());
    assert_eq!((asked.status.as_u16(), &asked.json()["status"]), (200, &json!("authorized")));
    service.stop().await;
}

#[tokio::test]
async fn a_payment_moves_along_its_states_and_never_back() {
    let service = Service::started().await;
    let kept = service.pay("k1", &payment("tok_visa")).await.json()["payment_id"].clone();
    let dropped = service.pay("k2", &payment("tok_visa")).await.json()["payment_id"].clone();

    for (id, step, status, state) in [
        (&kept, "refund", 409, "wrong_payment_state"),
        (&kept, "capture", 200, "captured"),
        (&kept, "capture", 200, "captured"),
        (&kept, "void", 409, "wrong_payment_state"),
        (&kept, "refund", 200, "refunded"),
        (&dropped, "void", 200, "voided"),
        (&dropped, "capture", 409, "wrong_payment_state"),
        (&json!(5), "capture", 404, "payment_not_found"),
    ] {
        let answer = service.step(id, step).await;

        let said = if answer.status == 200 { answer.json()["status"].clone() } else { answer.json()["code"].clone() };
        assert_eq!((answer.status.as_u16(), said), (status, json!(state)), "{step} {id}");
    }
    let shown = get(service.address(), &format!("/api/v1/payments/{kept}")).await.expect("an answer").json();
    let expected = json!({"payment_id": kept, "order_ref": "o-1", "amount_cents": 9781, "currency": "EUR",
                          "status": "refunded", "card_last4": "4242"});
    assert_eq!(shown, expected);
    service.stop().await;
}

#[tokio::test]
async fn a_quarter_of_the_payments_fail_by_turns_while_the_bug_is_on() {
    let service = Service::started().await;
    service.switch("fail:25").await;

    let mut statuses = Vec::new();
    for number in 0..8 {
        statuses.push(service.pay(&format!("k{number}"), &payment("tok_visa")).await.status.as_u16());
    }

    assert_eq!(statuses, [201, 201, 201, 402, 201, 201, 201, 503]);
    assert_eq!(service.pay("k7", &payment("tok_visa")).await.status, 201);
    service.stop().await;
}

#[tokio::test]
async fn what_cannot_be_a_payment_is_refused_before_the_key_is_used() {
    let service = Service::started().await;
    let with = |field: &str, value: Value| {
        let mut body = payment("tok_visa");
        body[field] = value;
        body
    };
    for (body, status, code) in [
        (with("amount_cents", json!(0)), 422, "invalid_payment"),
        (with("amount_cents", json!("9")), 400, "invalid_body"),
        (with("currency", json!("GBP")), 422, "unsupported_currency"),
        (with("order_ref", json!("")), 422, "invalid_payment"),
        (with("card_token", json!("tok_none")), 422, "unknown_card_token"),
        (json!([]), 400, "invalid_body"),
    ] {
        let answer = service.pay("k1", &body).await;

        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (status, &json!(code)), "{body}");
    }
    let keyless = post_json(service.address(), "/api/v1/payments", &[], &payment("tok_visa")).await.expect("an answer");
    assert_eq!((keyless.status.as_u16(), &keyless.json()["code"]), (400, &json!("idempotency_key_required")));
    assert_eq!(service.pay("k1", &payment("tok_visa")).await.status, 201);
    service.stop().await;
}

//! The routes of the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use estate_chassis::bugs::{self, Bugs};
use estate_chassis::contract::{NewPayment, PaymentReply};
use estate_chassis::idempotency::{Entry, Fingerprint, Ledger, Scope, Stored, Ticket, required_key};
use estate_chassis::problem::Problem;
use estate_chassis::service::{ApiJson, ApiPath};
use estate_chassis::store::Database;
use estate_chassis::time::now_ms;
use serde_json::Value;
use tracing::Instrument as _;

use crate::bank::{Bank, Verdict};
use crate::faults::Fault;
use crate::payments::{self, Step};

const AUTHORIZE: &str = "POST /api/v1/payments";

/// What the routes share.
#[derive(Debug)]
pub struct Desk {
    store: Database,
    bugs: Arc<Bugs<Fault>>,
    bank: Bank,
    ledger: Ledger,
    failures: AtomicU64,
}

impl Desk {
    pub fn new(store: Database, bugs: Bugs<Fault>, bank: Bank) -> Desk {
        Desk { store, bugs: Arc::new(bugs), bank, ledger: Ledger::default(), failures: AtomicU64::new(0) }
    }
}

pub fn router(desk: Desk) -> Router {
    let switches = bugs::router(Arc::clone(&desk.bugs));
    Router::new()
        .route("/api/v1/payments", post(authorize))
        .route("/api/v1/payments/{id}", get(show))
        .route("/api/v1/payments/by-key/{key}", get(show_by_key))
        .route("/api/v1/payments/{id}/capture", post(capture))
        .route("/api/v1/payments/{id}/void", post(void))
        .route("/api/v1/payments/{id}/refund", post(refund))
        .with_state(Arc::new(desk))
        .merge(switches)
}

async fn authorize(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    ApiJson(body): ApiJson<Value>,
) -> Result<Response, Problem> {
    let key = required_key(&headers)?;
    let shape = |_| Problem::invalid_body("the body must be JSON with the fields of this endpoint");
    let payment: NewPayment = serde_json::from_value(body.clone()).map_err(shape)?;
    payment.check()?;
    let verdict = Bank::verdict(&payment.card_token)?;
    desk.fail_if_switched()?;
    let ticket = if desk.bugs.fires(Fault::IgnoreIdem) {
        None
    } else {
        let scope = Scope { route: AUTHORIZE, user: caller(&headers), key };
        match desk.ledger.claim(&desk.store, scope, Fingerprint::of(&body), now_ms()).await? {
            Entry::Done(stored) => return Ok(stored.into_response()),
            Entry::Fresh(ticket) => Some(ticket),
        }
    };
    // A task of its own: a caller that hangs up must not leave the bank's answer unwritten.
    let work = tokio::spawn(desk.pay(payment, verdict, ticket).in_current_span());
    work.await.unwrap_or_else(|_| Err(Problem::unavailable("the payment was broken off")))
}

impl Desk {
    async fn pay(
        self: Arc<Self>,
        payment: NewPayment,
        verdict: Verdict,
        ticket: Option<Ticket>,
    ) -> Result<Response, Problem> {
        self.bank.wait(verdict.before).await;
        let now = now_ms();
        let mut transaction = self.store.begin().await?;
        let made = payments::add(&mut transaction, &payment, verdict, now).await?;
        let answer = authorization(&made, verdict).await?;
        if let Some(ticket) = &ticket {
            ticket.record(&mut transaction, &answer, Some(made.payment_id), now).await?;
        }
        transaction.commit().await?;
        // From here on the key answers by itself.
        drop(ticket);
        self.bank.wait(verdict.after).await;
        let mut response = answer.into_response();
        response.headers_mut().remove("idempotency-replayed");
        Ok(response)
    }

    fn fail_if_switched(&self) -> Result<(), Problem> {
        if !self.bugs.fires(Fault::Fail) {
            return Ok(());
        }
        let is_declined = self.failures.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        Err(if is_declined { Problem::declined() } else { Problem::unavailable("the bank does not answer") })
    }
}

/// The answer in the form in which it is kept.
async fn authorization(made: &PaymentReply, verdict: Verdict) -> Result<Stored, Problem> {
    let response = if verdict.is_authorized {
        (StatusCode::CREATED, Json(made)).into_response()
    } else {
        Problem::declined().into_response()
    };
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 64 * 1024).await;
    let body = body.ok().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    let body = body.ok_or_else(|| Problem::unavailable("the reply cannot be written"))?;
    Ok(Stored { status, body })
}

async fn show(State(desk): State<Arc<Desk>>, ApiPath(id): ApiPath<String>) -> Result<Json<PaymentReply>, Problem> {
    let found = payments::find(&desk.store, number(&id)?).await?;
    found.map(Json).ok_or_else(|| Problem::payment_not_found(&id))
}

/// For a caller that had no answer and must know before it decides: 200 it was made, 409 it is being made, 404 neither.
async fn show_by_key(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    ApiPath(key): ApiPath<String>,
) -> Result<Json<PaymentReply>, Problem> {
    let scope = Scope { route: AUTHORIZE, user: caller(&headers), key };
    // Asked first: a payment that ends in between is then found.
    let is_in_flight = desk.ledger.is_in_flight(&scope);
    if let Some(payment) = payments::find_by_key(&desk.store, &scope, now_ms()).await? {
        return Ok(Json(payment));
    }
    if is_in_flight {
        let detail = "the payment with this key is being made";
        return Err(Problem::new(StatusCode::CONFLICT, "payment_in_flight", "Payment in flight", detail));
    }
    Err(Problem::payment_not_found(&scope.key))
}

async fn capture(desk: State<Arc<Desk>>, id: ApiPath<String>) -> Result<Json<PaymentReply>, Problem> {
    advance(desk, id, Step::Capture).await
}

async fn void(desk: State<Arc<Desk>>, id: ApiPath<String>) -> Result<Json<PaymentReply>, Problem> {
    advance(desk, id, Step::Void).await
}

async fn refund(desk: State<Arc<Desk>>, id: ApiPath<String>) -> Result<Json<PaymentReply>, Problem> {
    advance(desk, id, Step::Refund).await
}

async fn advance(
    State(desk): State<Arc<Desk>>,
    ApiPath(id): ApiPath<String>,
    step: Step,
) -> Result<Json<PaymentReply>, Problem> {
    payments::advance(&desk.store, number(&id)?, step, now_ms()).await.map(Json)
}

fn number(id: &str) -> Result<i64, Problem> {
    id.parse().map_err(|_| Problem::payment_not_found(id))
}

/// Whose key it is: the header that the shop sets; one caller when it is missing.
fn caller(headers: &HeaderMap) -> String {
    let user = headers.get("x-user-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
    user.chars().take(64).collect()
}

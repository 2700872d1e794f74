//! The routes of the service.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use estate_chassis::bugs::{self, Bugs};
use estate_chassis::contract::{ListQuery, PriceQuery, TotalQuery};
use estate_chassis::problem::Problem;
use estate_chassis::service::{ApiJson, ApiPath, ApiQuery};
use estate_chassis::store::Database;
use estate_chassis::time::now_ms;
use serde::Serialize;

use crate::catalogue::{Catalogue, Slips};
use crate::faults::{Fault, SLOW, spoil};
use crate::quotes::{self, NewQuote};

/// What the routes share.
#[derive(Debug)]
pub struct Pricing {
    catalogue: Catalogue,
    store: Database,
    bugs: Arc<Bugs<Fault>>,
}

impl Pricing {
    pub fn new(catalogue: Catalogue, store: Database, bugs: Arc<Bugs<Fault>>) -> Pricing {
        Pricing { catalogue, store, bugs }
    }

    fn slips(&self) -> Slips {
        Slips { rounding: self.bugs.fires(Fault::Rounding), tier_boundary: self.bugs.fires(Fault::TierBoundary) }
    }

    fn answer(&self, status: StatusCode, reply: &impl Serialize) -> Response {
        let Ok(mut value) = serde_json::to_value(reply) else {
            return Problem::unavailable("the reply cannot be written").into_response();
        };
        spoil(&mut value, &self.bugs);
        (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
    }
}

pub fn router(pricing: Pricing) -> Router {
    let switches = bugs::router(Arc::clone(&pricing.bugs));
    let pricing = Arc::new(pricing);
    Router::new()
        .route("/api/v1/products", get(list))
        .route("/api/v1/products/{sku}", get(product))
        .route("/api/v1/products/{sku}/price", get(price))
        .route("/api/v1/carts/{id}/total", get(cart_total))
        .route("/v1/quotes", post(quote))
        .route("/v1/quotes/{id}", get(quoted))
        .layer(middleware::from_fn_with_state(Arc::clone(&pricing), now_and_then_slow))
        .with_state(pricing)
        .merge(switches)
}

async fn now_and_then_slow(State(pricing): State<Arc<Pricing>>, request: Request, next: Next) -> Response {
    if pricing.bugs.fires(Fault::SlowP99) {
        tokio::time::sleep(SLOW).await;
    }
    next.run(request).await
}

async fn list(State(pricing): State<Arc<Pricing>>, ApiQuery(query): ApiQuery<ListQuery>) -> Result<Response, Problem> {
    let page = pricing.catalogue.page(query.category(), query.page()?);
    Ok(pricing.answer(StatusCode::OK, &page))
}

async fn product(State(pricing): State<Arc<Pricing>>, ApiPath(sku): ApiPath<String>) -> Result<Response, Problem> {
    let product = pricing.catalogue.product(&sku)?;
    Ok(pricing.answer(StatusCode::OK, &product))
}

async fn price(
    State(pricing): State<Arc<Pricing>>,
    ApiPath(sku): ApiPath<String>,
    ApiQuery(query): ApiQuery<PriceQuery>,
) -> Result<Response, Problem> {
    let price = pricing.catalogue.price(&sku, query.qty()?, query.currency()?, now_ms(), pricing.slips())?;
    Ok(pricing.answer(StatusCode::OK, &price))
}

async fn cart_total(
    State(pricing): State<Arc<Pricing>>,
    ApiPath(id): ApiPath<String>,
    ApiQuery(query): ApiQuery<TotalQuery>,
) -> Result<Response, Problem> {
    let items = pricing.catalogue.cart(&id)?;
    let total = pricing.catalogue.total(items, query.coupon(), query.country(), now_ms(), pricing.slips())?;
    Ok(pricing.answer(StatusCode::OK, &total))
}

async fn quote(State(pricing): State<Arc<Pricing>>, ApiJson(quote): ApiJson<NewQuote>) -> Result<Response, Problem> {
    let now = now_ms();
    let total = pricing.catalogue.total(&quote.items()?, quote.coupon(), quote.country(), now, pricing.slips())?;
    let kept = quotes::keep(&pricing.store, &quote, total, now).await?;
    Ok(pricing.answer(StatusCode::CREATED, &kept))
}

async fn quoted(State(pricing): State<Arc<Pricing>>, ApiPath(id): ApiPath<String>) -> Result<Response, Problem> {
    let quote = quotes::find(&pricing.store, &id, now_ms()).await?;
    Ok(pricing.answer(StatusCode::OK, &quote))
}

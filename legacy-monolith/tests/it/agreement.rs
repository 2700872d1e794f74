//! The contract: the monolith and the services taken out of it answer alike, but for the moment of looking and the numbers
//! of payments.

use std::net::{Ipv4Addr, SocketAddr};

use estate_chassis::bugs::Bugs;
use estate_chassis::client;
use estate_chassis::dataset::{carts, catalogue};
use estate_chassis::service;
use serde_json::{Value, json};

use crate::support::Monolith;

/// Requests that are compared at a time.
const AT_A_TIME: usize = 16;

/// Asks both sides for every path and compares status, kind of body and body.
async fn agree_on(paths: Vec<String>) {
    let monolith = Monolith::start().await;
    let pricing = estate_pricing::build(monolith.directory(), Bugs::none()).await.expect("the service builds");
    let pricing = service::start((Ipv4Addr::LOCALHOST, 0).into(), pricing).await.expect("a free port");

    let sides = [monolith.address(), pricing.address()];
    for some in paths.chunks(AT_A_TIME) {
        let asked = some.iter().cloned().map(|path| {
            tokio::spawn(async move {
                let [legacy, extracted] = [answer(sides[0], &path).await, answer(sides[1], &path).await];
                assert_eq!(legacy, extracted, "{path}");
            })
        });
        for comparison in asked.collect::<Vec<_>>() {
            comparison.await.expect("the two sides agree");
        }
    }

    pricing.stop().await;
    monolith.stop().await;
}

async fn answer(side: SocketAddr, path: &str) -> (u16, String, Value) {
    let answer = client::get(side, path).await.expect("an answer");
    let mut body = answer.json();
    assert_ne!(body, Value::Null, "{path} is answered with JSON");
    if let Some(fields) = body.as_object_mut() {
        fields.remove("as_of");
    }
    (answer.status.as_u16(), answer.header("content-type").to_owned(), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_seeded_cart_costs_the_same_with_every_coupon_and_in_every_kind_of_country() {
    let mut paths = Vec::new();
    for cart in carts::carts() {
        for coupon in ["", "SAVE10", "SAVE15", "EXPIRED5"] {
            for country in ["DE", "FR", "JP", "US"] {
                paths.push(format!("/api/v1/carts/{}/total?coupon={coupon}&country={country}", cart.id));
            }
        }
    }
    paths.extend(
        ["AT", "CH", "IT", "ES", "NL", "BE", "PL", "SE", "DK", "de", ""]
            .map(|country| format!("/api/v1/carts/1042/total?coupon=SAVE10&country={country}")),
    );
    agree_on(paths).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_article_has_the_same_price_and_the_same_description() {
    let mut paths = Vec::new();
    for product in catalogue::products() {
        let sku = product.sku;
        paths.push(format!("/api/v1/products/{sku}"));
        for query in ["", "?qty=9", "?qty=10&currency=EUR", "?qty=11&currency=JPY", "?currency=USD"] {
            paths.push(format!("/api/v1/products/{sku}/price{query}"));
        }
    }
    paths.extend((1..=17).map(|page| format!("/api/v1/products?page={page}")));
    paths.extend(catalogue::CATEGORIES.map(|category| format!("/api/v1/products?category={category}&page=2")));
    agree_on(paths).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_refused_in_the_same_words() {
    let paths = [
        "/api/v1/carts/7/total",
        "/api/v1/carts/x/total",
        "/api/v1/carts/-1/total",
        "/api/v1/carts/007/total?country=US",
        "/api/v1/carts/99999999999999999999/total",
        "/api/v1/carts/1042/total?coupon=save10",
        "/api/v1/carts/1042/total?coupon=NOPE&country=US",
        "/api/v1/products/SKU-9999",
        "/api/v1/products/SKU-9999/price",
        "/api/v1/products/SKU-1042/price?qty=0",
        "/api/v1/products/SKU-1042/price?qty=10000",
        "/api/v1/products/SKU-1042/price?qty=many",
        "/api/v1/products/SKU-1042/price?currency=GBP",
        "/api/v1/products/SKU-9999/price?currency=GBP&qty=0",
        "/api/v1/products?page=0",
        "/api/v1/products?page=10001",
        "/api/v1/products?page=one",
        "/api/v1/products?category=none",
        "/api/v1/products/%FF",
        "/api/v1/nothing",
    ];
    agree_on(paths.map(str::to_owned).into()).await;
}

/// Makes a payment and takes it through some steps; what was answered, without the payment's number.
async fn pay(side: SocketAddr, key: &str, payment: &Value, steps: &[&str]) -> Vec<(u16, Value)> {
    let made = client::post_json(side, "/api/v1/payments", &[("idempotency-key", key)], payment).await;
    let made = made.expect("an answer");
    let mut answers = vec![(made.status.as_u16(), made.json())];
    for step in steps {
        let path = format!("/api/v1/payments/{}{step}", made.json()["payment_id"]);
        let answer = if step.is_empty() {
            client::get(side, &path).await
        } else {
            client::post_json(side, &path, &[], &json!({})).await
        };
        let answer = answer.expect("an answer");
        answers.push((answer.status.as_u16(), answer.json()));
    }
    for (_, body) in &mut answers {
        body.as_object_mut().expect("an object").remove("payment_id");
    }
    answers
}

#[tokio::test]
async fn a_payment_is_answered_alike_through_all_its_life() {
    let monolith = Monolith::start().await;
    let bank = estate_payment::bank::Bank::default();
    let payment = estate_payment::build(monolith.directory(), Bugs::none(), bank).await.expect("the service builds");
    let payment = service::start((Ipv4Addr::LOCALHOST, 0).into(), payment).await.expect("a free port");

    let good = json!({"order_ref": "o-1", "amount_cents": 9_781, "currency": "EUR", "card_token": "tok_visa"});
    let with = |field: &str, value: Value| {
        let mut changed = good.clone();
        changed[field] = value;
        changed
    };
    let life = [
        (good.clone(), &["", "/refund", "/capture", "/capture", "/void", "/refund", "/refund", "/capture", ""][..]),
        (good.clone(), &["/void", "/void", "/capture", "/refund", ""][..]),
        (with("currency", json!("JPY")), &["/capture"][..]),
        (with("currency", json!("GBP")), &[][..]),
        (with("amount_cents", json!(0)), &[][..]),
        (with("amount_cents", json!("1")), &[][..]),
        (with("order_ref", json!("")), &[][..]),
        (with("card_token", json!("tok_declined")), &[][..]),
        (with("card_token", json!("4242424242424242")), &[][..]),
    ];
    for (number, (body, steps)) in life.into_iter().enumerate() {
        let key = format!("pay-{number}");
        let legacy = pay(monolith.address(), &key, &body, steps).await;
        assert_eq!(legacy, pay(payment.address(), &key, &body, steps).await, "{body} {steps:?}");
    }
    for path in ["/api/v1/payments/0", "/api/v1/payments/x", "/api/v1/payments/999999999"] {
        assert_eq!(answer(monolith.address(), path).await, answer(payment.address(), path).await, "{path}");
    }

    payment.stop().await;
    monolith.stop().await;
}

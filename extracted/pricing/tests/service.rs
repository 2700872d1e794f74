//! The service as its callers see it: over a socket.

use std::net::{Ipv4Addr, SocketAddr};

use axum::http::Method;
use estate_chassis::bugs::Bugs;
use estate_chassis::client::{Answer, call, get, post_json};
use estate_chassis::dataset::{carts, catalogue};
use estate_chassis::service::{Running, start};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Service {
    running: Running,
    data: TempDir,
}

impl Service {
    async fn started() -> Service {
        Service::on(tempfile::tempdir().expect("a directory")).await
    }

    async fn on(data: TempDir) -> Service {
        let router = estate_pricing::build(data.path(), Bugs::none()).await.expect("the service builds");
        let running = start((Ipv4Addr::LOCALHOST, 0).into(), router).await.expect("the service starts");
        Service { running, data }
    }

    fn address(&self) -> SocketAddr {
        self.running.address()
    }

    async fn get(&self, path: &str) -> Answer {
        get(self.address(), path).await.expect("an answer")
    }

    async fn switch(&self, bugs: &'static str) -> Answer {
        call(self.address(), Method::PUT, "/__bugs", &[], bugs).await.expect("an answer")
    }

    async fn stop(self) -> TempDir {
        self.running.stop().await;
        self.data
    }
}

fn sums(total: &Value) -> Vec<i64> {
    let fields = ["subtotal_cents", "discount_cents", "tax_cents", "total_cents"];
    fields.iter().filter_map(|field| total[field].as_i64()).collect()
}

const WORKED: &str = "/api/v1/carts/1042/total?coupon=SAVE10&country=DE";

#[tokio::test]
async fn the_worked_cart_differs_only_while_the_bug_is_on() {
    let service = Service::started().await;

    let sound = service.get(WORKED).await.json();
    let switched = service.switch("rounding").await;
    let wrong = service.get(WORKED).await.json();
    service.switch("").await;

    assert_eq!(switched.text(), "rounding\n");
    assert_eq!(sums(&sound), [9_133, 914, 1_562, 9_781]);
    assert_eq!(sums(&wrong), [9_133, 913, 1_562, 9_782]);
    assert_eq!(sound["lines"], wrong["lines"]);
    assert_eq!(
        sound["lines"][0],
        json!({"sku": "SKU-1042", "name": "Steel teapot, 1 litre", "qty": 2, "unit_cents": 1999, "line_cents": 3998,
               "discount_cents": 400, "tax_cents": 684})
    );
    assert_eq!(service.get(WORKED).await.json(), sound);
    service.stop().await;
}

#[tokio::test]
async fn an_unknown_bug_is_refused_with_the_known_ones() {
    let service = Service::started().await;
    service.switch("null_name:50").await;

    let refused = service.switch("roundign").await;

    assert_eq!(refused.status, 400);
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("known: rounding, slow_p99")));
    assert_eq!(service.get("/__bugs").await.text(), "null_name:50\n");
    service.stop().await;
}

#[tokio::test]
async fn products_are_listed_shown_and_priced() {
    let service = Service::started().await;
    let products = catalogue::products();
    let inactive = products.iter().find(|product| !product.active).expect("some are inactive");
    let tiered = products.iter().find(|product| product.tier.is_some()).expect("some have a tier");
    let tier = tiered.tier.expect("it has one");

    let first = service.get("/api/v1/products?page=1").await.json();
    let last = service.get("/api/v1/products?category=&page=17").await.json();
    let shown = service.get(&format!("/api/v1/products/{}", inactive.sku)).await.json();
    let unpriced = service.get(&format!("/api/v1/products/{}/price", inactive.sku)).await;
    let below = service.get(&format!("/api/v1/products/{}/price?qty=9", tiered.sku)).await.json();
    let reached = service.get(&format!("/api/v1/products/{}/price?qty=10", tiered.sku)).await.json();
    let in_yen = service.get(&format!("/api/v1/products/{}/price?qty=10&currency=JPY", tiered.sku)).await.json();

    assert_eq!((first["items"].as_array().map(Vec::len), &first["total"]), (Some(24), &json!(370)));
    assert_eq!((&last["items"], &last["page"]), (&json!([]), &json!(17)));
    assert_eq!((&shown["active"], &shown["tiers"]), (&json!(false), &json!([])));
    assert_eq!((unpriced.status.as_u16(), &unpriced.json()["code"]), (404, &json!("product_not_found")));
    assert_eq!((&below["unit_cents"], &below["tier_min_qty"]), (&json!(tiered.eur_cents), &json!(10)));
    assert_eq!(reached["unit_cents"], json!(tier.eur_cents));
    assert_eq!((&in_yen["unit_cents"], &in_yen["tier_min_qty"]), (&json!(tiered.jpy_yen), &Value::Null));
    service.stop().await;
}

#[tokio::test]
async fn the_tier_bug_shows_at_the_boundary_only() {
    let service = Service::started().await;
    let products = catalogue::products();
    let tiered = products.iter().find(|product| product.tier.is_some()).expect("some have a tier");
    let unit_cents = async |qty: i64| {
        service.get(&format!("/api/v1/products/{}/price?qty={qty}", tiered.sku)).await.json()["unit_cents"].clone()
    };
    let sound = [unit_cents(9).await, unit_cents(10).await, unit_cents(11).await];

    service.switch("tier_boundary").await;

    assert_ne!(sound[0], sound[1]);
    assert_eq!(
        [unit_cents(9).await, unit_cents(10).await, unit_cents(11).await],
        [sound[0].clone(), sound[0].clone(), sound[2].clone()]
    );
    service.stop().await;
}

#[tokio::test]
async fn a_missing_name_is_null_and_an_empty_string_with_the_bug() {
    let service = Service::started().await;
    let products = catalogue::products();
    let unnamed = products.iter().find(|product| product.name.is_none()).expect("some have no name");
    let path = format!("/api/v1/products/{}/price", unnamed.sku);

    let sound = service.get(&path).await.json();
    service.switch("null_name,null_vs_empty").await;
    let wrong = service.get(&path).await.json();

    assert_eq!((&sound["name"], &sound["tiers"]), (&Value::Null, &json!([])));
    assert_eq!((&wrong["name"], &wrong["tiers"]), (&json!(""), &Value::Null));
    service.stop().await;
}

#[tokio::test]
async fn faults_in_a_request_for_a_total_are_named_in_the_agreed_order() {
    let service = Service::started().await;
    let cheap = carts::carts().into_iter().find(|cart| cart.items.is_empty()).expect("some carts are empty").id;
    let cases = [
        ("/api/v1/carts/100000/total?country=XX".to_owned(), 404, "cart_not_found"),
        ("/api/v1/carts/abc/total".to_owned(), 404, "cart_not_found"),
        ("/api/v1/carts/1042/total?country=XX&coupon=NOPE".to_owned(), 422, "unknown_country"),
        ("/api/v1/carts/1042/total?coupon=NOPE".to_owned(), 422, "unknown_coupon"),
        ("/api/v1/carts/1042/total?coupon=EXPIRED5".to_owned(), 422, "coupon_expired"),
        (format!("/api/v1/carts/{cheap}/total?coupon=SAVE15"), 422, "coupon_minimum"),
        ("/api/v1/products/SKU-1042/price?qty=0".to_owned(), 400, "invalid_query"),
        ("/api/v1/products/SKU-1042/price?qty=x".to_owned(), 400, "invalid_query"),
        ("/api/v1/products/SKU-1042/price?currency=GBP".to_owned(), 422, "unsupported_currency"),
        ("/api/v1/products?page=0".to_owned(), 400, "invalid_query"),
        ("/nowhere".to_owned(), 404, "not_found"),
    ];
    for (path, status, code) in cases {
        let answer = service.get(&path).await;

        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (status, &json!(code)), "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_quote_outlives_a_restart() {
    let service = Service::started().await;
    let lines = json!([{"sku": "SKU-1042", "qty": 2}, {"sku": "SKU-1043", "qty": 3}, {"sku": "SKU-1044", "qty": 1}]);
    let body = json!({"lines": lines, "coupon": "SAVE10", "country": "DE"});

    let made = post_json(service.address(), "/v1/quotes", &[], &body).await.expect("an answer");
    let again = post_json(service.address(), "/v1/quotes", &[], &body).await.expect("an answer");
    let service = Service::on(service.stop().await).await;
    let found = service.get(&format!("/v1/quotes/{}", made.json()["quote_id"].as_str().unwrap_or_default())).await;

    assert_eq!((made.status.as_u16(), &made.json()["total_cents"]), (201, &json!(9_781)));
    assert_eq!(made.json()["cart_hash"], again.json()["cart_hash"]);
    assert_ne!(made.json()["quote_id"], again.json()["quote_id"]);
    assert_eq!(found.json(), made.json());
    assert_eq!(service.get("/v1/quotes/none").await.status, 404);
    service.stop().await;
}

#[tokio::test]
async fn a_quote_that_cannot_be_made_is_refused() {
    let service = Service::started().await;
    for (body, status) in [
        (json!({"lines": []}), 400),
        (json!({"lines": [{"sku": "SKU-1042", "qty": 0}]}), 400),
        (json!({"lines": [{"sku": "SKU-9", "qty": 1}]}), 404),
        (json!({"lines": "many"}), 400),
        (json!({"lines": [{"sku": "x".repeat(70_000), "qty": 1}]}), 413),
    ] {
        let answer = post_json(service.address(), "/v1/quotes", &[], &body).await.expect("an answer");

        assert_eq!(answer.status, status);
    }
    service.stop().await;
}

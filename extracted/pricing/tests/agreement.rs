//! The service and the monolith, side by side: the same questions, the same answers.

use std::net::{Ipv4Addr, SocketAddr};

use axum::http::Method;
use estate_chassis::bugs::Bugs;
use estate_chassis::client::{call, get};
use estate_chassis::dataset::carts::{CARTS, FIRST_CART};
use estate_chassis::dataset::catalogue::{CATEGORIES, PRODUCTS, sku};
use estate_chassis::service::{Running, start};
use serde_json::Value;
use tempfile::TempDir;

struct Sides {
    legacy: Running,
    extracted: Running,
    _data: TempDir,
}

impl Sides {
    async fn started() -> Sides {
        let data = tempfile::tempdir().expect("a directory");
        let anywhere: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let shop = legacy_monolith::open(data.path(), Bugs::none()).await.expect("the monolith opens");
        let legacy = start(anywhere, legacy_monolith::router(shop)).await.expect("the monolith starts");
        let pricing = estate_pricing::build(data.path(), Bugs::none()).await.expect("the service builds");
        let extracted = start(anywhere, pricing).await.expect("the service starts");
        Sides { legacy, extracted, _data: data }
    }

    /// What the two say that is not the same.
    async fn differing(&self, paths: &[String]) -> Vec<String> {
        let mut differing = Vec::new();
        for path in paths {
            let (legacy, extracted) =
                tokio::join!(said(self.legacy.address(), path), said(self.extracted.address(), path));
            if legacy != extracted {
                differing.push(format!("{path}\n  legacy:    {legacy:?}\n  extracted: {extracted:?}"));
            }
        }
        differing
    }

    async fn stop(self) {
        self.legacy.stop().await;
        self.extracted.stop().await;
    }
}

/// Status, content type and body, without the time of a price.
async fn said(address: SocketAddr, path: &str) -> (u16, String, Value) {
    let answer = get(address, path).await.expect("an answer");
    let mut body = answer.json();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("as_of");
    }
    (answer.status.as_u16(), answer.header("content-type").to_owned(), body)
}

fn totals() -> Vec<String> {
    let queries = ["", "?coupon=SAVE10&country=DE", "?coupon=SAVE15&country=CH", "?coupon=&country=FR"];
    let odd = ["?coupon=NOPE", "?coupon=EXPIRED5", "?country=XX&coupon=NOPE"].map(|query| format!("1042/total{query}"));
    let missing = ["999/total", "x/total", "-1/total", "100000/total"].map(str::to_owned);
    let seeded = (FIRST_CART..FIRST_CART + CARTS).flat_map(|id| queries.map(|query| format!("{id}/total{query}")));
    seeded.chain(odd).chain(missing).map(|rest| format!("/api/v1/carts/{rest}")).collect()
}

fn products() -> Vec<String> {
    let one = (0..=PRODUCTS).flat_map(|index| {
        let rests = ["", "/price", "/price?qty=10&currency=EUR", "/price?qty=11&currency=JPY"];
        rests.map(|rest| format!("/{}{rest}", sku(index)))
    });
    let odd = ["?qty=0", "?qty=10000", "?qty=x", "?currency=GBP"].map(|query| format!("/SKU-1042/price{query}"));
    let pages = ["", "?page=16", "?page=17", "?page=0", "?page=x", "?category=nope"].map(str::to_owned);
    let categories = CATEGORIES.map(|category| format!("?category={category}&page=2"));
    one.chain(odd).chain(pages).chain(categories).map(|rest| format!("/api/v1/products{rest}")).collect()
}

#[tokio::test]
async fn both_sides_say_the_same_until_a_bug_is_switched_on() {
    let sides = Sides::started().await;

    let of_totals = sides.differing(&totals()).await;
    let of_products = sides.differing(&products()).await;
    let switched = call(sides.extracted.address(), Method::PUT, "/__bugs", &[], "rounding").await;
    let with_bug = sides.differing(&totals()).await;

    assert_eq!(of_totals, Vec::<String>::new());
    assert_eq!(of_products, Vec::<String>::new());
    assert_eq!(switched.expect("an answer").status, 200);
    assert!(with_bug.len() > 100, "{}", with_bug.len());
    sides.stop().await;
}

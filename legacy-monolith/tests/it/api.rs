//! The JSON API besides prices and purchases: users, carts, stock, payments.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::Monolith;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

#[tokio::test]
async fn the_same_data_are_there_after_a_restart_and_nothing_is_seeded_twice() {
    let monolith = Monolith::start_from_nothing().await;
    let user = monolith.get("/api/v1/users/1187").await.json();
    assert_eq!(monolith.count("SELECT count(*) FROM users").await, 5_000);
    assert_eq!(monolith.count("SELECT count(*) FROM users WHERE name IS NULL").await, 40);
    assert_eq!(monolith.count("SELECT count(*) FROM orders").await, 20_000);
    assert_eq!(monolith.count("SELECT count(DISTINCT order_no) FROM order_items WHERE qty < 0").await, 80);
    let data = monolith.stop().await;

    let again = Monolith::on(data).await;

    assert_eq!(again.get("/api/v1/users/1187").await.json(), user);
    assert_eq!(again.count("SELECT count(*) FROM orders").await, 20_000);
    again.stop().await;
}

#[tokio::test]
async fn a_user_moves_house_and_the_taxes_move_along() {
    let monolith = Monolith::start().await;
    let path = "/api/v1/users/7/address";

    let moved = monolith.send(Method::PATCH, path, &JSON, r#"{"street":"Rue \"A\" 1","country":"FR"}"#).await;
    let again = monolith.send(Method::PATCH, path, &JSON, r#"{"city":"Lyon"}"#).await;
    let refused = monolith.send(Method::PATCH, path, &JSON, r#"{"country":"Narnia"}"#).await;

    assert_eq!(moved.status, 200);
    let expected = json!({"user_id": 7, "street": "Rue \"A\" 1", "city": "Lyon", "postcode": "", "country": "FR"});
    assert_eq!(again.json(), expected);
    assert_eq!((refused.status.as_u16(), refused.json()["code"].clone()), (422, json!("unknown_country")));
    assert_eq!(monolith.get("/api/v1/users/7").await.json()["country"], "FR");
    assert_eq!(monolith.get("/api/v1/users/5001").await.status, 404);
    assert_eq!(monolith.get("/api/v1/users/me").await.header("content-type"), "application/problem+json");
    monolith.stop().await;
}

#[tokio::test]
async fn a_new_cart_is_made_by_its_first_item_and_a_seeded_one_cannot_be_changed() {
    let monolith = Monolith::start().await;
    let item = |qty: i64| json!({"sku": "SKU-1042", "qty": qty, "user_id": 7});

    let made = monolith.post("/api/v1/carts/100001/items", &item(2)).await;
    let more = monolith.post("/api/v1/carts/100001/items", &item(1)).await;

    assert_eq!((made.status.as_u16(), more.status.as_u16()), (201, 200));
    assert_eq!(more.json(), json!({"cart_id": 100_001, "items": [{"sku": "SKU-1042", "qty": 3}]}));
    assert_eq!(monolith.get("/api/v1/carts/100001/total").await.json()["subtotal_cents"], 3 * 1_999);
    for (path, body, status, code) in [
        ("/api/v1/carts/1042/items", item(1), 409, "cart_is_fixed"),
        ("/api/v1/carts/100001/items", item(0), 422, "invalid_item"),
        ("/api/v1/carts/100001/items", item(9_997), 422, "invalid_item"),
        ("/api/v1/carts/100002/items", json!({"sku": "SKU-1", "qty": 1}), 404, "product_not_found"),
        ("/api/v1/carts/100002/items", json!({"sku": "SKU-1042", "qty": 1, "user_id": 0}), 404, "user_not_found"),
        ("/api/v1/carts/100002/items", json!({"sku": "SKU-1042"}), 400, "invalid_body"),
    ] {
        let refused = monolith.post(path, &body).await;
        assert_eq!((refused.status.as_u16(), refused.json()["code"].as_str()), (status, Some(code)), "{body}");
    }
    assert_eq!(monolith.get("/api/v1/carts/100002/total").await.status, 404, "a refused item makes no cart");
    monolith.stop().await;
}

async fn stock(monolith: &Monolith) -> (i64, i64) {
    let stock = monolith.get("/api/v1/inventory/SKU-1042").await.json();
    let number = |field: &str| stock[field].as_i64().expect("a number");
    assert_eq!(number("available"), number("on_hand") - number("reserved"));
    (number("on_hand"), number("reserved"))
}

fn reservation(qty: i64, ttl_s: i64) -> Value {
    json!({"order_ref": "o-1", "items": [{"sku": "SKU-1042", "qty": qty}], "ttl_s": ttl_s})
}

async fn reserve(monolith: &Monolith, qty: i64, ttl_s: i64) -> i64 {
    let reserved = monolith.post("/api/v1/inventory/reservations", &reservation(qty, ttl_s)).await;
    assert_eq!(reserved.status, 201, "{}", reserved.text());
    assert!(reserved.json()["expires_at"].is_string());
    reserved.json()["reservation_id"].as_i64().expect("a number")
}

#[tokio::test]
async fn stock_is_reserved_then_committed_or_released_and_never_both() {
    let monolith = Monolith::start().await;
    let (on_hand, _) = stock(&monolith).await;
    let kept = reserve(&monolith, 3, 600).await;
    let dropped = reserve(&monolith, 5, 600).await;
    assert_eq!(stock(&monolith).await, (on_hand, 8));

    let committed = monolith.post(&format!("/api/v1/inventory/reservations/{kept}/commit"), &json!({})).await;
    let released = monolith.send(Method::DELETE, &format!("/api/v1/inventory/reservations/{dropped}"), &[], "").await;

    assert_eq!((committed.status.as_u16(), released.status.as_u16()), (200, 204));
    assert_eq!(stock(&monolith).await, (on_hand - 3, 0));
    for (id, method, path, status) in [
        (kept, Method::POST, "/commit", 409),
        (kept, Method::DELETE, "", 409),
        (dropped, Method::POST, "/commit", 409),
        (dropped, Method::DELETE, "", 204),
        (0, Method::DELETE, "", 404),
    ] {
        let again = monolith.send(method, &format!("/api/v1/inventory/reservations/{id}{path}"), &[], "").await;
        assert_eq!(again.status.as_u16(), status, "{id}{path}");
    }
    assert_eq!(stock(&monolith).await, (on_hand - 3, 0));
    monolith.stop().await;
}

#[tokio::test]
async fn a_reservation_is_all_or_nothing() {
    let monolith = Monolith::start().await;
    let body = json!({"order_ref": "o-2", "ttl_s": 60,
        "items": [{"sku": "SKU-1042", "qty": 1}, {"sku": "SKU-1043", "qty": 9_999}, {"sku": "SKU-1043", "qty": 9_999},
                  {"sku": "SKU-1043", "qty": 9_999}, {"sku": "SKU-1043", "qty": 9_999}, {"sku": "SKU-1043", "qty": 9_999},
                  {"sku": "SKU-1043", "qty": 9_999}]});

    let refused = monolith.post("/api/v1/inventory/reservations", &body).await;

    assert_eq!((refused.status.as_u16(), refused.json()["code"].as_str()), (409, Some("out_of_stock")));
    assert_eq!(stock(&monolith).await.1, 0);
    assert_eq!(monolith.count("SELECT count(*) FROM reservations").await, 0);
    assert_eq!(monolith.post("/api/v1/inventory/reservations", &reservation(1, 0)).await.status, 422);
    monolith.stop().await;
}

#[tokio::test]
async fn a_reservation_past_its_time_holds_nothing() {
    let monolith = Monolith::start().await;
    let (on_hand, _) = stock(&monolith).await;
    let id = reserve(&monolith, 4, 600).await;
    let mut transaction = monolith.database.begin().await.expect("a transaction");
    sqlx::query("UPDATE reservations SET expires_at = 1").execute(&mut *transaction).await.expect("an update");
    transaction.commit().await.expect("a commit");

    assert_eq!(stock(&monolith).await, (on_hand, 0), "though nobody has swept it up");
    let committed = monolith.post(&format!("/api/v1/inventory/reservations/{id}/commit"), &json!({})).await;
    reserve(&monolith, 1, 600).await;

    assert_eq!(committed.status, 409);
    assert_eq!(stock(&monolith).await, (on_hand, 1));
    monolith.stop().await;
}

#[tokio::test]
async fn a_payment_goes_its_ways_and_no_others() {
    let monolith = Monolith::start().await;
    let pay = |token: &str| json!({"order_ref": "o-3", "amount_cents": 500, "currency": "EUR", "card_token": token});
    let mut payments = Vec::new();
    for _ in 0..2 {
        let authorized = monolith.post("/api/v1/payments", &pay("tok_visa")).await;
        assert_eq!((authorized.status.as_u16(), authorized.json()["status"].as_str()), (201, Some("authorized")));
        payments.push(authorized.json()["payment_id"].as_i64().expect("a number"));
    }

    let (booked, given_up) = (payments[0], payments[1]);
    for (id, step, status, state) in [
        (booked, "refund", 409, None),
        (booked, "capture", 200, Some("captured")),
        (booked, "capture", 200, Some("captured")),
        (booked, "void", 409, None),
        (booked, "refund", 200, Some("refunded")),
        (given_up, "void", 200, Some("voided")),
        (given_up, "capture", 409, None),
        (0, "capture", 404, None),
    ] {
        let answer = monolith.post(&format!("/api/v1/payments/{id}/{step}"), &json!({})).await;
        assert_eq!(answer.status.as_u16(), status, "{step}");
        if let Some(state) = state {
            assert_eq!(answer.json()["status"], state);
        }
    }
    for (body, status) in [(pay("tok_declined"), 402), (pay("tok_stolen"), 422)] {
        assert_eq!(monolith.post("/api/v1/payments", &body).await.status.as_u16(), status);
    }
    monolith.stop().await;
}

#[tokio::test]
async fn the_monoliths_own_bug_shows_in_yen_only_and_only_while_it_is_on() {
    let monolith = Monolith::start().await;
    let mut seen = Vec::new();

    for bugs in ["", "bug:rounding_jpy", ""] {
        assert_eq!(monolith.send(Method::PUT, "/__bugs", &[], bugs).await.status, 200);
        for currency in ["EUR", "JPY"] {
            let price = monolith.get(&format!("/api/v1/products/SKU-1042/price?currency={currency}")).await.json();
            seen.push(price["unit_cents"].as_i64().expect("a number"));
        }
    }

    let yen = seen[1];
    assert_eq!(seen, [1_999, yen, 1_999, yen * 100, 1_999, yen]);
    monolith.stop().await;
}

#[tokio::test]
async fn carts_that_nobody_came_back_for_are_forgotten_but_not_the_seeded_ones() {
    let monolith = Monolith::start().await;
    let item = json!({"sku": "SKU-1042", "qty": 1});
    monolith.post("/api/v1/carts/100001/items", &item).await;
    let mut transaction = monolith.database.begin().await.expect("a transaction");
    sqlx::query("UPDATE carts SET updated_at = '2020-01-01'").execute(&mut *transaction).await.expect("an update");
    transaction.commit().await.expect("a commit");

    monolith.post("/api/v1/carts/100002/items", &item).await;

    assert_eq!(monolith.get("/api/v1/carts/100001/total").await.status, 404);
    assert_eq!(monolith.get("/api/v1/carts/100002/total").await.status, 200);
    assert_eq!(monolith.count("SELECT count(*) FROM carts WHERE id < 100000").await, 600);
    monolith.stop().await;
}

#[tokio::test]
async fn two_monoliths_that_know_nothing_of_each_other_answer_alike() {
    let sides = [Monolith::start_from_nothing().await, Monolith::start_from_nothing().await];

    for path in [
        "/api/v1/users/7",
        "/api/v1/users/7/orders",
        "/api/v1/orders/20000",
        "/api/v1/inventory/SKU-1042",
        "/products.xml",
        "/admin/reports/daily.csv",
        "/shop?page=3",
        "/api/v1/carts/1042/total",
    ] {
        let [one, other] = [sides[0].get(path).await, sides[1].get(path).await];
        assert_eq!((one.status.as_u16(), one.body), (200, other.body), "{path}");
    }

    for side in sides {
        side.stop().await;
    }
}

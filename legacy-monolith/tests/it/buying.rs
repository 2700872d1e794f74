//! A purchase is one transaction: everything is booked, or nothing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::Monolith;

/// A user who may buy, and one who may not.
async fn users(monolith: &Monolith) -> (i64, i64) {
    let allowed = monolith.count("SELECT min(id) FROM users WHERE NOT blocked AND country = 'DE'").await;
    (allowed, monolith.count("SELECT min(id) FROM users WHERE blocked").await)
}

async fn fill(monolith: &Monolith, cart: i64, sku: &str, qty: i64) {
    let item = json!({"sku": sku, "qty": qty});
    let put = monolith.post(&format!("/api/v1/carts/{cart}/items"), &item).await;
    assert!(put.status.is_success(), "{}", put.text());
}

fn purchase(user_id: i64, cart_id: i64, card_token: &str) -> Value {
    json!({"user_id": user_id, "cart_id": cart_id, "card_token": card_token, "ship_to": {"country": "DE"}})
}

/// What a purchase touches, as one text.
async fn books(monolith: &Monolith) -> [i64; 6] {
    [
        monolith.count("SELECT sum(on_hand) FROM inventory").await,
        monolith.count("SELECT count(*) FROM payments").await,
        monolith.count("SELECT count(*) FROM orders").await,
        monolith.count("SELECT count(*) FROM order_items").await,
        monolith.count("SELECT count(*) FROM emails_sent").await,
        monolith.count("SELECT coalesce(sum(qty), 0) FROM cart_items WHERE cart_id >= 100000").await,
    ]
}

#[tokio::test]
async fn a_purchase_books_stock_payment_order_and_mail_and_empties_the_cart() {
    let monolith = Monolith::start().await;
    let (user, _) = users(&monolith).await;
    fill(&monolith, 100_001, "SKU-1042", 2).await;
    let before = books(&monolith).await;

    let mut body = purchase(user, 100_001, "tok_visa");
    body["coupon"] = json!("SAVE10");
    let bought = monolith.post("/api/v1/checkout", &body).await;

    assert_eq!(bought.status, 201, "{}", bought.text());
    let reply = bought.json();
    assert_eq!(
        (&reply["order_no"], &reply["status"], &reply["total_cents"]),
        (&json!(20_001), &json!("PAID"), &json!(4_282))
    );
    let [stock, payments, orders, lines, mails, _] = before;
    assert_eq!(books(&monolith).await, [stock - 2, payments + 1, orders + 1, lines + 1, mails + 1, 0]);
    let order = monolith.get("/api/v1/orders/20001").await.json();
    assert_eq!(
        (&order["user_id"], &order["subtotal_cents"], &order["discount_cents"]),
        (&json!(user), &json!(3_998), &json!(400))
    );
    assert_eq!(order["lines"], json!([{"sku": "SKU-1042", "qty": 2, "unit_cents": 1_999}]));
    let listed = monolith.get(&format!("/api/v1/users/{user}/orders")).await.json();
    assert_eq!(listed["orders"][0]["order_no"], 20_001);
    monolith.stop().await;
}

#[tokio::test]
async fn a_refused_purchase_leaves_no_trace() {
    let monolith = Monolith::start().await;
    let (user, blocked) = users(&monolith).await;
    fill(&monolith, 100_001, "SKU-1042", 1).await;
    let scarce: String = sqlx::query_scalar("SELECT min(sku) FROM inventory WHERE on_hand <= 3")
        .fetch_one(monolith.database.reader())
        .await
        .expect("a scarce article");
    // First what there is plenty of, so that something has to be undone.
    fill(&monolith, 100_002, "SKU-1042", 1).await;
    fill(&monolith, 100_002, &scarce, 4).await;
    let before = books(&monolith).await;

    for (body, status, code) in [
        (purchase(user, 100_001, "tok_declined"), 402, "declined"),
        (purchase(user, 100_001, "tok_stolen"), 422, "unknown_card_token"),
        (purchase(user, 100_002, "tok_visa"), 409, "out_of_stock"),
        (purchase(blocked, 100_001, "tok_visa"), 403, "user_blocked"),
        (purchase(0, 100_001, "tok_visa"), 404, "user_not_found"),
        (purchase(user, 100_003, "tok_visa"), 404, "cart_not_found"),
        (purchase(user, 1_099, "tok_visa"), 422, "cart_is_empty"),
        (json!({"user_id": user}), 400, "invalid_body"),
    ] {
        let refused = monolith.post("/api/v1/checkout", &body).await;
        assert_eq!((refused.status.as_u16(), refused.json()["code"].as_str()), (status, Some(code)), "{body}");
        assert_eq!(refused.header("content-type"), "application/problem+json");
        assert_eq!(books(&monolith).await, before, "{body}");
    }
    monolith.stop().await;
}

#[tokio::test]
async fn of_many_who_want_the_last_units_only_so_many_get_them() {
    let monolith = Monolith::start().await;
    let (user, _) = users(&monolith).await;
    let scarce: String = sqlx::query_scalar("SELECT min(sku) FROM inventory WHERE on_hand <= 3")
        .fetch_one(monolith.database.reader())
        .await
        .expect("a scarce article");
    let there =
        monolith.get(&format!("/api/v1/inventory/{scarce}")).await.json()["on_hand"].as_i64().expect("a number");
    for cart in 100_001..=100_008 {
        fill(&monolith, cart, &scarce, 1).await;
    }

    let address = monolith.address();
    let shoppers: Vec<_> = (100_001..=100_008)
        .map(|cart| {
            let body = purchase(user, cart, "tok_visa");
            tokio::spawn(
                async move { estate_chassis::client::post_json(address, "/api/v1/checkout", &[], &body).await },
            )
        })
        .collect();
    let mut bought = 0;
    for shopper in shoppers {
        let answer = shopper.await.expect("a shopper").expect("an answer");
        match answer.status.as_u16() {
            201 => bought += 1,
            other => assert_eq!(other, 409, "{}", answer.text()),
        }
    }

    assert_eq!(bought, there);
    assert_eq!(monolith.get(&format!("/api/v1/inventory/{scarce}")).await.json()["on_hand"], 0);
    assert_eq!(monolith.count("SELECT count(*) - count(DISTINCT order_no) FROM orders").await, 0);
    monolith.stop().await;
}

#[tokio::test]
async fn a_second_submit_finds_the_cart_empty() {
    let monolith = Monolith::start().await;
    let (user, _) = users(&monolith).await;
    fill(&monolith, 100_001, "SKU-1042", 1).await;
    let body = purchase(user, 100_001, "tok_visa");

    let first = monolith.post("/api/v1/checkout", &body).await;
    let second = monolith.post("/api/v1/checkout", &body).await;

    assert_eq!((first.status.as_u16(), second.status.as_u16()), (201, 422));
    assert_eq!(monolith.count("SELECT count(*) FROM orders WHERE order_no > 20000").await, 1);
    monolith.stop().await;
}

#[tokio::test]
async fn cancelling_undoes_a_purchase_once() {
    let monolith = Monolith::start().await;
    let (user, _) = users(&monolith).await;
    fill(&monolith, 100_001, "SKU-1042", 2).await;
    let stock = monolith.count("SELECT sum(on_hand) FROM inventory").await;
    assert_eq!(monolith.post("/api/v1/checkout", &purchase(user, 100_001, "tok_visa")).await.status, 201);

    let cancelled = monolith.post("/api/v1/orders/20001/cancel", &json!({})).await;
    let again = monolith.post("/api/v1/orders/20001/cancel", &json!({})).await;

    assert_eq!((cancelled.status.as_u16(), cancelled.json()["status"].as_str()), (200, Some("CANCELLED")));
    assert_eq!((again.status.as_u16(), again.json()["code"].as_str()), (409, Some("order_not_cancellable")));
    assert_eq!(monolith.count("SELECT sum(on_hand) FROM inventory").await, stock);
    let refunded = "SELECT count(*) FROM payments WHERE order_no = 20001 AND status = 'refunded'";
    assert_eq!(monolith.count(refunded).await, 1);
    assert_eq!(monolith.post("/api/v1/orders/1/cancel", &json!({})).await.status, 409, "it was shipped long ago");
    assert_eq!(monolith.post("/api/v1/orders/99999/cancel", &json!({})).await.status, 404);
    monolith.stop().await;
}

#[tokio::test]
async fn the_last_order_number_of_the_monolith_is_its_last() {
    let monolith = Monolith::start().await;
    let (user, _) = users(&monolith).await;
    let mut transaction = monolith.database.begin().await.expect("a transaction");
    sqlx::query(
        "INSERT INTO orders (order_no, user_id, status, currency, subtotal, discount, tax, total, placed_at)
         VALUES (9999998, 1, 'PAID', 'EUR', 0, 0, 0, 0, '2026-11-01T00:00:00.000Z')",
    )
    .execute(&mut *transaction)
    .await
    .expect("an insert");
    transaction.commit().await.expect("a commit");

    let mut statuses = Vec::new();
    for cart in [100_001, 100_002] {
        fill(&monolith, cart, "SKU-1042", 1).await;
        statuses.push(monolith.post("/api/v1/checkout", &purchase(user, cart, "tok_visa")).await.status.as_u16());
    }

    assert_eq!(statuses, [201, 503]);
    assert_eq!(monolith.count("SELECT max(order_no) FROM orders").await, 9_999_999);
    monolith.stop().await;
}

#[tokio::test]
async fn a_slow_and_a_silent_bank_end_in_one_order_each() {
    let monolith = Monolith::start().await;
    let (user, _) = users(&monolith).await;

    for (cart, token, last4) in [(100_001, "tok_slow_8s", "0008"), (100_002, "tok_timeout_then_ok", "0504")] {
        fill(&monolith, cart, "SKU-1042", 1).await;
        let bought = monolith.post("/api/v1/checkout", &purchase(user, cart, token)).await;
        assert_eq!(bought.status, 201, "{token}");
        let payment = monolith.get(&format!("/api/v1/payments/{}", bought.json()["payment_id"])).await.json();
        assert_eq!((&payment["status"], &payment["card_last4"]), (&json!("captured"), &json!(last4)));
    }
    assert_eq!(monolith.count("SELECT count(*) FROM orders WHERE order_no > 20000").await, 2);
    monolith.stop().await;
}

#[tokio::test]
async fn a_shopper_who_hangs_up_at_the_bank_has_bought_all_the_same() {
    let monolith = Monolith::start().await;
    let (user, _) = users(&monolith).await;
    fill(&monolith, 100_001, "SKU-1042", 1).await;
    let body = purchase(user, 100_001, "tok_slow_8s").to_string();

    let mut shopper = TcpStream::connect(monolith.address()).await.expect("a connection");
    let head = "POST /api/v1/checkout HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json";
    let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    shopper.write_all(request.as_bytes()).await.expect("a request");
    // Long enough for the request to be read, not for the bank to answer.
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(shopper);

    let mut placed = 0;
    for _ in 0..500 {
        placed = monolith.count("SELECT count(*) FROM orders WHERE order_no > 20000").await;
        if placed > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(placed, 1);
    monolith.stop().await;
}

//! Reading does not wait for buying.

use serde_json::json;

use crate::support::Monolith;

#[tokio::test]
async fn pages_prices_and_orders_are_served_while_a_transaction_holds_the_writer() {
    let monolith = Monolith::start().await;
    let purchase = monolith.database.begin().await.expect("the only writer");

    let address = monolith.address();
    let paths = ["/shop", "/api/v1/carts/1042/total", "/api/v1/orders/7", "/api/v1/products/SKU-1042/price"];
    let readers: Vec<_> = (0..32)
        .map(|index| {
            tokio::spawn(async move { estate_chassis::client::get(address, paths[index % paths.len()]).await })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.expect("a reader").expect("an answer").status, 200);
    }
    purchase.rollback().await.expect("a rollback");

    let written = monolith.post("/api/v1/carts/100001/items", &json!({"sku": "SKU-1042", "qty": 1})).await;
    assert_eq!(written.status, 201, "and the writer is free again");
    monolith.stop().await;
}

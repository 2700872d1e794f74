//! Fills an empty database with the shop's data set, in one transaction.

use estate_chassis::dataset::{self, TAKEN_AT};
use estate_chassis::store::Database;
use estate_chassis::time;
use serde::Serialize;
use sqlx::SqliteConnection;

use crate::sessions::password_hash;

/// Why the tables could not be filled; they are as empty as before.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error("the transaction of the data set failed")]
    Transaction { source: sqlx::Error },
    #[error("cannot insert into {table}")]
    Insert { table: &'static str, source: sqlx::Error },
    #[error("cannot write the rows of {table} as JSON")]
    Encode { table: &'static str, source: serde_json::Error },
}

/// Seeds a database without users; leaves any other as it is. Says whether it seeded.
pub async fn fill_if_empty(database: &Database) -> Result<bool, SeedError> {
    let failed = |source| SeedError::Transaction { source };
    let mut transaction = database.begin().await.map_err(failed)?;
    let is_filled: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users)").fetch_one(&mut *transaction).await.map_err(failed)?;
    if is_filled {
        return Ok(false);
    }
    people(&mut transaction).await?;
    catalogue(&mut transaction).await?;
    carts(&mut transaction).await?;
    history(&mut transaction).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(true)
}

async fn people(connection: &mut SqliteConnection) -> Result<(), SeedError> {
    let users = dataset::users::users().into_iter().map(|user| {
        let hash = password_hash(&user.email, &user.password);
        (user.id, user.email, hash, user.name, user.country, user.tier, i64::from(user.blocked))
    });
    insert(
        connection,
        "users",
        "INSERT INTO users (id, email, pw_hash, name, country, tier, blocked)
         SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6 FROM json_each(?)",
        users.collect(),
    )
    .await
}

async fn catalogue(connection: &mut SqliteConnection) -> Result<(), SeedError> {
    let products = dataset::catalogue::products();
    insert(
        connection,
        "products",
        "INSERT INTO products (sku, name, category, tax_class, active)
         SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?)",
        products
            .iter()
            .map(|it| (&it.sku, &it.name, it.category, it.tax_class.as_str(), i64::from(it.active)))
            .collect(),
    )
    .await?;
    let valid_from = time::rfc3339(TAKEN_AT);
    let prices = products.iter().flat_map(|it| {
        [("EUR", it.eur_cents), ("USD", it.usd_cents), ("JPY", it.jpy_yen)]
            .map(|(currency, cents)| (&it.sku, currency, cents, &valid_from))
    });
    insert(
        connection,
        "prices",
        "INSERT INTO prices (sku, currency, cents, valid_from)
         SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?)",
        prices.collect(),
    )
    .await?;
    insert(
        connection,
        "tier_prices",
        "INSERT INTO tier_prices (sku, min_qty, cents) SELECT value->>0, value->>1, value->>2 FROM json_each(?)",
        products.iter().filter_map(|it| it.tier.map(|tier| (&it.sku, tier.min_qty, tier.eur_cents))).collect(),
    )
    .await?;
    insert(
        connection,
        "coupons",
        "INSERT INTO coupons (code, percent, min_subtotal_cents, expires_at)
         SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?)",
        dataset::coupons::COUPONS
            .iter()
            .map(|it| (it.code, it.percent, it.min_subtotal_cents, it.expires_at))
            .collect(),
    )
    .await?;
    insert(
        connection,
        "inventory",
        "INSERT INTO inventory (sku, on_hand, reserved) SELECT value->>0, value->>1, 0 FROM json_each(?)",
        dataset::stock::stock().into_iter().map(|it| (it.sku, it.on_hand)).collect(),
    )
    .await
}

async fn carts(connection: &mut SqliteConnection) -> Result<(), SeedError> {
    let carts = dataset::carts::carts();
    let updated_at = time::rfc3339(TAKEN_AT);
    insert(
        connection,
        "carts",
        "INSERT INTO carts (id, user_id, updated_at) SELECT value->>0, value->>1, value->>2 FROM json_each(?)",
        carts.iter().map(|it| (it.id, it.user_id, &updated_at)).collect(),
    )
    .await?;
    insert(
        connection,
        "cart_items",
        "INSERT INTO cart_items (cart_id, sku, qty) SELECT value->>0, value->>1, value->>2 FROM json_each(?)",
        carts.iter().flat_map(|cart| cart.items.iter().map(move |it| (cart.id, &it.sku, it.qty))).collect(),
    )
    .await
}

async fn history(connection: &mut SqliteConnection) -> Result<(), SeedError> {
    let orders: Vec<_> = dataset::orders::orders().collect();
    insert(
        connection,
        "orders",
        "INSERT INTO orders (order_no, user_id, status, currency, subtotal, discount, tax, total, placed_at)
         SELECT value->>0, value->>1, value->>2, 'EUR', value->>3, value->>4, value->>5, value->>6, value->>7
         FROM json_each(?)",
        orders
            .iter()
            .map(|it| {
                let placed_at = time::rfc3339(it.placed_at);
                let (subtotal, discount, tax) = (it.subtotal_cents, it.discount_cents, it.tax_cents);
                (it.order_no, it.user_id, it.status, subtotal, discount, tax, it.total_cents, placed_at)
            })
            .collect(),
    )
    .await?;
    let lines = orders.iter().flat_map(|order| {
        order.lines.iter().enumerate().map(|(line, it)| (order.order_no, line + 1, &it.sku, it.qty, it.unit_cents))
    });
    insert(
        connection,
        "order_items",
        "INSERT INTO order_items (order_no, line, sku, qty, unit_cents)
         SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?)",
        lines.collect(),
    )
    .await?;
    let payments = orders.iter().filter_map(|order| {
        let paid = order.payment.as_ref()?;
        Some((order.order_no, paid.cents, paid.card_last4, paid.status, &paid.psp_ref, time::rfc3339(order.placed_at)))
    });
    insert(
        connection,
        "payments",
        "INSERT INTO payments (id, order_no, order_ref, cents, currency, card_last4, status, psp_ref, created_at)
         SELECT value->>0, value->>0, 'order-' || (value->>0), value->>1, 'EUR', value->>2, value->>3, value->>4, value->>5
         FROM json_each(?)",
        payments.collect(),
    )
    .await
}

/// Inserts all rows with one statement: they travel as one JSON array, which SQLite takes apart itself. Row by row, an
/// unoptimised build would need some 100,000 round trips to the connection's thread.
async fn insert<Row: Serialize>(
    connection: &mut SqliteConnection,
    table: &'static str,
    statement: &'static str,
    rows: Vec<Row>,
) -> Result<(), SeedError> {
    let rows = serde_json::to_string(&rows).map_err(|source| SeedError::Encode { table, source })?;
    sqlx::query(statement)
        .bind(rows)
        .execute(connection)
        .await
        .map_err(|source| SeedError::Insert { table, source })?;
    Ok(())
}

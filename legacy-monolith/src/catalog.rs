//! What is sold and for how much.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use estate_chassis::contract::{
    ListQuery, PER_PAGE, PriceQuery, PriceReply, ProductItem, ProductPage, ProductReply, TierReply,
};
use estate_chassis::dataset::vat::TaxClass;
use estate_chassis::money::{CURRENCIES, Cents};
use estate_chassis::problem::Problem;
use estate_chassis::service::{ApiPath, ApiQuery};
use estate_chassis::time;
use sqlx::SqliteConnection;

use crate::shop::LegacyBug;
use crate::shop::Shop;

/// The currency of lists, carts and tiers.
pub const HOME_CURRENCY: &str = CURRENCIES[0];

/// What [`LegacyBug::RoundingJpy`] multiplies by.
const IMAGINED_CENTS_OF_A_YEN: Cents = 100;

pub fn routes() -> Router<Shop> {
    Router::new()
        .route("/api/v1/products", get(list))
        .route("/api/v1/products/{sku}", get(read))
        .route("/api/v1/products/{sku}/price", get(price))
}

#[derive(Debug, sqlx::FromRow)]
struct ProductRow {
    sku: String,
    name: Option<String>,
    category: String,
    tax_class: String,
    active: bool,
    cents: Cents,
}

/// One page of what is sold, in the order of the SKU.
pub async fn page_of(
    connection: &mut SqliteConnection,
    category: Option<&str>,
    page: i64,
) -> Result<ProductPage, Problem> {
    let total = sqlx::query_scalar("SELECT count(*) FROM products WHERE active AND (?1 IS NULL OR category = ?1)")
        .bind(category)
        .fetch_one(&mut *connection)
        .await?;
    // Of several prices the youngest counts: the shop enters a price on the day from which it holds.
    let rows: Vec<ProductRow> = sqlx::query_as(
        "SELECT sku, name, category, tax_class, active,
             (SELECT cents FROM prices WHERE prices.sku = products.sku AND currency = ?2
              ORDER BY valid_from DESC LIMIT 1) AS cents
         FROM products WHERE active AND (?1 IS NULL OR category = ?1) ORDER BY sku LIMIT ?3 OFFSET ?4",
    )
    .bind(category)
    .bind(HOME_CURRENCY)
    .bind(PER_PAGE)
    .bind((page - 1) * PER_PAGE)
    .fetch_all(connection)
    .await?;
    let items = rows.into_iter().map(ProductRow::into_item).collect::<Result<_, _>>()?;
    Ok(ProductPage { items, page, per_page: PER_PAGE, total })
}

impl ProductRow {
    fn into_item(self) -> Result<ProductItem, Problem> {
        let tax_class = parse_tax_class(&self.tax_class)?;
        let ProductRow { sku, name, category, cents, .. } = self;
        Ok(ProductItem { sku, name, category, tax_class, unit_cents: cents, currency: HOME_CURRENCY.to_owned() })
    }
}

/// One article, sold or no longer sold.
pub async fn find(connection: &mut SqliteConnection, sku: &str) -> Result<ProductReply, Problem> {
    let row: Option<ProductRow> = sqlx::query_as(
        "SELECT sku, name, category, tax_class, active,
             (SELECT cents FROM prices WHERE prices.sku = products.sku AND currency = ?2
              ORDER BY valid_from DESC LIMIT 1) AS cents
         FROM products WHERE sku = ?1",
    )
    .bind(sku)
    .bind(HOME_CURRENCY)
    .fetch_optional(&mut *connection)
    .await?;
    let row = row.ok_or_else(|| Problem::product_not_found(sku))?;
    let tiers = tiers_of(connection, sku).await?;
    let active = row.active;
    let ProductItem { sku, name, category, tax_class, unit_cents, currency } = row.into_item()?;
    Ok(ProductReply { sku, name, category, tax_class, active, unit_cents, currency, tiers })
}

/// Reads what the database holds as a tax class.
pub fn parse_tax_class(text: &str) -> Result<TaxClass, Problem> {
    text.parse().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "a product cannot be taxed");
        Problem::unavailable("a product's tax class cannot be read")
    })
}

async fn tiers_of(connection: &mut SqliteConnection, sku: &str) -> Result<Vec<TierReply>, Problem> {
    let tiers: Vec<(i64, Cents)> =
        sqlx::query_as("SELECT min_qty, cents FROM tier_prices WHERE sku = ? ORDER BY min_qty")
            .bind(sku)
            .fetch_all(connection)
            .await?;
    Ok(tiers.into_iter().map(|(min_qty, unit_cents)| TierReply { min_qty, unit_cents }).collect())
}

async fn list(State(shop): State<Shop>, ApiQuery(query): ApiQuery<ListQuery>) -> Result<Json<ProductPage>, Problem> {
    let page = query.page()?;
    let mut connection = shop.database.reader().acquire().await?;
    page_of(&mut connection, query.category(), page).await.map(Json)
}

async fn read(State(shop): State<Shop>, ApiPath(sku): ApiPath<String>) -> Result<Json<ProductReply>, Problem> {
    find(&mut *shop.database.reader().acquire().await?, &sku).await.map(Json)
}

async fn price(
    State(shop): State<Shop>,
    ApiPath(sku): ApiPath<String>,
    ApiQuery(query): ApiQuery<PriceQuery>,
) -> Result<Json<PriceReply>, Problem> {
    let (qty, currency) = (query.qty()?, query.currency()?);
    let mut connection = shop.database.reader().acquire().await?;
    let found: Option<(Option<String>, Cents)> = sqlx::query_as(
        "SELECT name, cents FROM products JOIN prices USING (sku) WHERE sku = ? AND active AND currency = ?
         ORDER BY valid_from DESC LIMIT 1",
    )
    .bind(&sku)
    .bind(currency)
    .fetch_optional(&mut *connection)
    .await?;
    let (name, list_cents) = found.ok_or_else(|| Problem::product_not_found(&sku))?;
    // Tiers are agreed in the home currency only.
    let tiers = if currency == HOME_CURRENCY { tiers_of(&mut connection, &sku).await? } else { Vec::new() };
    let reached = tiers.iter().rev().find(|tier| qty >= tier.min_qty);
    let mut unit_cents = reached.map_or(list_cents, |tier| tier.unit_cents);
    if currency == "JPY" && shop.bugs.fires(LegacyBug::RoundingJpy) {
        unit_cents *= IMAGINED_CENTS_OF_A_YEN;
    }
    Ok(Json(PriceReply {
        sku,
        name,
        qty,
        unit_cents,
        tier_min_qty: tiers.first().map(|tier| tier.min_qty),
        currency: currency.to_owned(),
        tiers,
        as_of: time::rfc3339(time::now_ms()),
    }))
}

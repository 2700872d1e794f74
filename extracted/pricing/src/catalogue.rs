//! What is sold and for how much: kept in SQLite, seeded at the first start, read from memory.

use std::collections::HashMap;
use std::path::Path;

use estate_chassis::contract::{CartTotal, PER_PAGE};
use estate_chassis::contract::{PriceReply, ProductItem, ProductPage, ProductReply, TierReply};
use estate_chassis::dataset;
use estate_chassis::dataset::carts::CartItem;
use estate_chassis::dataset::vat::{TaxClass, Vat, vat};
use estate_chassis::money::{CURRENCIES, Cents};
use estate_chassis::problem::Problem;
use estate_chassis::store::{Database, StoreError};
use estate_chassis::time::{UnixMs, rfc3339};

use crate::quotes;
use crate::totals::{Line, total, total_rounded_on_the_sum};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS products(
    sku TEXT PRIMARY KEY, name TEXT, category TEXT NOT NULL, tax_class TEXT NOT NULL, active INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS prices(
    sku TEXT NOT NULL REFERENCES products, currency TEXT NOT NULL, cents INTEGER NOT NULL, valid_from INTEGER NOT NULL,
    PRIMARY KEY(sku, currency, valid_from));
CREATE TABLE IF NOT EXISTS tier_prices(
    sku TEXT NOT NULL REFERENCES products, min_qty INTEGER NOT NULL, cents INTEGER NOT NULL, PRIMARY KEY(sku, min_qty));
CREATE TABLE IF NOT EXISTS coupons(
    code TEXT PRIMARY KEY, percent INTEGER NOT NULL, min_subtotal_cents INTEGER NOT NULL, expires_at INTEGER);
CREATE TABLE IF NOT EXISTS quotes(
    quote_id TEXT PRIMARY KEY, cart_hash TEXT NOT NULL, total_cents INTEGER NOT NULL, reply TEXT NOT NULL,
    expires_at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS quotes_by_expiry ON quotes(expires_at);";

/// How this call goes wrong, if it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slips {
    pub rounding: bool,
    pub tier_boundary: bool,
}

#[derive(Debug)]
pub struct Catalogue {
    products: Vec<Product>,
    by_sku: HashMap<String, usize>,
    coupons: HashMap<String, Coupon>,
    carts: HashMap<u64, Vec<CartItem>>,
}

#[derive(Debug)]
struct Product {
    sku: String,
    name: Option<String>,
    category: String,
    tax_class: TaxClass,
    active: bool,
    /// One price for each of [`CURRENCIES`], in that order.
    prices: [Cents; CURRENCIES.len()],
    tiers: Vec<TierReply>,
}

#[derive(Clone, Copy, Debug)]
struct Coupon {
    percent: i64,
    min_subtotal_cents: Cents,
    expires_at: Option<UnixMs>,
}

impl Catalogue {
    /// Opens `<data>/pricing.db` and reads it whole: 400 articles.
    pub async fn open(data: &Path) -> Result<(Database, Catalogue), StoreError> {
        let store = Database::open(data, "pricing.db", SCHEMA).await?;
        seed(&store).await.map_err(|source| store.set_up_failed(source))?;
        let catalogue = load(&store).await.map_err(|source| store.set_up_failed(source))?;
        Ok((store, catalogue))
    }

    pub fn page(&self, category: Option<&str>, page: i64) -> ProductPage {
        let is_listed =
            |product: &&Product| product.active && category.is_none_or(|category| product.category == category);
        let listed: Vec<&Product> = self.products.iter().filter(is_listed).collect();
        let per_page = usize::try_from(PER_PAGE).unwrap_or(1);
        let before = usize::try_from(page - 1).unwrap_or(0).saturating_mul(per_page);
        let items = listed.iter().skip(before).take(per_page).map(|product| ProductItem {
            sku: product.sku.clone(),
            name: product.name.clone(),
            category: product.category.clone(),
            tax_class: product.tax_class,
            unit_cents: product.prices[0],
            currency: CURRENCIES[0].to_owned(),
        });
        let total = i64::try_from(listed.len()).unwrap_or(i64::MAX);
        ProductPage { items: items.collect(), page, per_page: PER_PAGE, total }
    }

    pub fn product(&self, sku: &str) -> Result<ProductReply, Problem> {
        let product = self.find(sku).ok_or_else(|| Problem::product_not_found(sku))?;
        Ok(ProductReply {
            sku: product.sku.clone(),
            name: product.name.clone(),
            category: product.category.clone(),
            tax_class: product.tax_class,
            active: product.active,
            unit_cents: product.prices[0],
            currency: CURRENCIES[0].to_owned(),
            tiers: product.tiers.clone(),
        })
    }

    pub fn price(
        &self,
        sku: &str,
        qty: i64,
        currency: &'static str,
        now: UnixMs,
        slips: Slips,
    ) -> Result<PriceReply, Problem> {
        let product = self.sold(sku)?;
        let place = CURRENCIES.iter().position(|known| *known == currency);
        let place = place.ok_or_else(|| Problem::unsupported_currency(currency))?;
        let has_tiers = place == 0;
        Ok(PriceReply {
            sku: product.sku.clone(),
            name: product.name.clone(),
            qty,
            unit_cents: if has_tiers { product.unit_cents(qty, slips) } else { product.prices[place] },
            tier_min_qty: product.tiers.first().filter(|_| has_tiers).map(|tier| tier.min_qty),
            currency: currency.to_owned(),
            tiers: if has_tiers { product.tiers.clone() } else { Vec::new() },
            as_of: rfc3339(now),
        })
    }

    /// The items of a seeded cart; carts that shoppers made live in the monolith.
    pub fn cart(&self, id: &str) -> Result<&[CartItem], Problem> {
        let cart = id.parse().ok().and_then(|id: u64| self.carts.get(&id));
        cart.map(Vec::as_slice).ok_or_else(|| Problem::cart_not_found(id))
    }

    pub fn total(
        &self,
        items: &[CartItem],
        coupon: Option<&str>,
        country: &str,
        now: UnixMs,
        slips: Slips,
    ) -> Result<CartTotal, Problem> {
        let vat = vat(country).ok_or_else(|| Problem::unknown_country(country))?;
        let lines = items.iter().map(|item| self.line(item, vat, slips)).collect::<Result<Vec<Line>, Problem>>()?;
        let subtotal = lines.iter().map(|line| line.unit_cents * line.qty).sum();
        let percent = coupon.map_or(Ok(0), |code| self.percent_off(code, subtotal, now))?;
        Ok(if slips.rounding { total_rounded_on_the_sum(lines, percent) } else { total(lines, percent) })
    }

    fn percent_off(&self, code: &str, subtotal: Cents, now: UnixMs) -> Result<i64, Problem> {
        let coupon = self.coupons.get(code).ok_or_else(|| Problem::unknown_coupon(code))?;
        if coupon.expires_at.is_some_and(|at| at <= now) {
            return Err(Problem::coupon_expired(code));
        }
        if subtotal < coupon.min_subtotal_cents {
            return Err(Problem::coupon_minimum(code, coupon.min_subtotal_cents));
        }
        Ok(coupon.percent)
    }

    fn line(&self, item: &CartItem, vat: &Vat, slips: Slips) -> Result<Line, Problem> {
        let product = self.sold(&item.sku)?;
        Ok(Line {
            sku: product.sku.clone(),
            name: product.name.clone(),
            qty: item.qty,
            unit_cents: product.unit_cents(item.qty, slips),
            tax_bp: vat.rate_bp(product.tax_class),
        })
    }

    fn sold(&self, sku: &str) -> Result<&Product, Problem> {
        self.find(sku).filter(|product| product.active).ok_or_else(|| Problem::product_not_found(sku))
    }

    fn find(&self, sku: &str) -> Option<&Product> {
        self.by_sku.get(sku).and_then(|place| self.products.get(*place))
    }
}

impl Product {
    /// EUR, at this quantity. Tiers are kept from the lowest quantity up, so the last one reached holds.
    fn unit_cents(&self, qty: i64, slips: Slips) -> Cents {
        let is_reached = |tier: &&TierReply| if slips.tier_boundary { qty > tier.min_qty } else { qty >= tier.min_qty };
        self.tiers.iter().rev().find(is_reached).map_or(self.prices[0], |tier| tier.unit_cents)
    }
}

/// Fills the tables once; a database that has products is left as it is.
async fn seed(store: &Database) -> Result<(), sqlx::Error> {
    let mut transaction = store.begin().await?;
    let held: i64 = sqlx::query_scalar("SELECT count(*) FROM products").fetch_one(&mut *transaction).await?;
    if held > 0 {
        return Ok(());
    }
    for product in dataset::catalogue::products() {
        sqlx::query("INSERT INTO products(sku, name, category, tax_class, active) VALUES (?, ?, ?, ?, ?)")
            .bind(&product.sku)
            .bind(&product.name)
            .bind(product.category)
            .bind(product.tax_class.as_str())
            .bind(product.active)
            .execute(&mut *transaction)
            .await?;
        for currency in CURRENCIES {
            sqlx::query("INSERT INTO prices(sku, currency, cents, valid_from) VALUES (?, ?, ?, ?)")
                .bind(&product.sku)
                .bind(currency)
                .bind(product.list_price(currency).unwrap_or(product.eur_cents))
                .bind(dataset::TAKEN_AT)
                .execute(&mut *transaction)
                .await?;
        }
        if let Some(tier) = product.tier {
            sqlx::query("INSERT INTO tier_prices(sku, min_qty, cents) VALUES (?, ?, ?)")
                .bind(&product.sku)
                .bind(tier.min_qty)
                .bind(tier.eur_cents)
                .execute(&mut *transaction)
                .await?;
        }
    }
    for coupon in dataset::coupons::COUPONS {
        sqlx::query("INSERT INTO coupons(code, percent, min_subtotal_cents, expires_at) VALUES (?, ?, ?, ?)")
            .bind(coupon.code)
            .bind(coupon.percent)
            .bind(coupon.min_subtotal_cents)
            .bind(coupon.expires_at)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}

async fn load(store: &Database) -> Result<Catalogue, sqlx::Error> {
    quotes::prune(store).await?;
    let rows: Vec<(String, Option<String>, String, String, bool)> =
        sqlx::query_as("SELECT sku, name, category, tax_class, active FROM products ORDER BY sku")
            .fetch_all(store.reader())
            .await?;
    let mut products = Vec::with_capacity(rows.len());
    for (sku, name, category, tax_class, active) in rows {
        let tax_class = tax_class.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        products.push(Product {
            sku,
            name,
            category,
            tax_class,
            active,
            prices: [0; CURRENCIES.len()],
            tiers: Vec::new(),
        });
    }
    let by_sku: HashMap<String, usize> =
        products.iter().enumerate().map(|(place, product)| (product.sku.clone(), place)).collect();
    // The latest price comes last and stays.
    let prices: Vec<(String, String, Cents)> =
        sqlx::query_as("SELECT sku, currency, cents FROM prices ORDER BY valid_from").fetch_all(store.reader()).await?;
    for (sku, currency, cents) in prices {
        let place = CURRENCIES.iter().position(|known| *known == currency);
        if let (Some(at), Some(place)) = (by_sku.get(&sku), place) {
            products[*at].prices[place] = cents;
        }
    }
    let tiers: Vec<(String, i64, Cents)> =
        sqlx::query_as("SELECT sku, min_qty, cents FROM tier_prices ORDER BY sku, min_qty")
            .fetch_all(store.reader())
            .await?;
    for (sku, min_qty, unit_cents) in tiers {
        if let Some(at) = by_sku.get(&sku) {
            products[*at].tiers.push(TierReply { min_qty, unit_cents });
        }
    }
    let coupons: Vec<(String, i64, Cents, Option<UnixMs>)> =
        sqlx::query_as("SELECT code, percent, min_subtotal_cents, expires_at FROM coupons")
            .fetch_all(store.reader())
            .await?;
    let coupons = coupons.into_iter().map(|(code, percent, min_subtotal_cents, expires_at)| {
        (code, Coupon { percent, min_subtotal_cents, expires_at })
    });
    let carts = dataset::carts::carts().into_iter().map(|cart| (cart.id, cart.items));
    Ok(Catalogue { coupons: coupons.collect(), carts: carts.collect(), products, by_sku })
}

//! The shapes of the public `/api/v1` replies and requests that both sides speak, with the defaults they agree on.
//!
//! What is absent is `null` or `[]`, never left out. No reply holds a time, except `as_of` of a price.

use serde::{Deserialize, Serialize};

use crate::dataset::vat::{COUNTRIES, TaxClass};
use crate::money::{CURRENCIES, Cents};
use crate::problem::Problem;

/// Articles on one page of the listing.
pub const PER_PAGE: i64 = 24;
/// The most units that may be asked for at once.
pub const QTY_MAX: i64 = 9_999;
/// The largest payment.
pub const PAYMENT_CENTS_MAX: Cents = 100_000_000;

/// GET `/api/v1/products`: active articles in the order of their SKU; a page past the end is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductPage {
    pub items: Vec<ProductItem>,
    /// From 1.
    pub page: i64,
    pub per_page: i64,
    /// Articles on all pages.
    pub total: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductItem {
    pub sku: String,
    pub name: Option<String>,
    pub category: String,
    pub tax_class: TaxClass,
    pub unit_cents: Cents,
    /// Always `EUR`.
    pub currency: String,
}

/// GET `/api/v1/products/{sku}`, also for an inactive article.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductReply {
    pub sku: String,
    pub name: Option<String>,
    pub category: String,
    pub tax_class: TaxClass,
    pub active: bool,
    pub unit_cents: Cents,
    /// Always `EUR`.
    pub currency: String,
    pub tiers: Vec<TierReply>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierReply {
    pub min_qty: i64,
    pub unit_cents: Cents,
}

/// GET `/api/v1/products/{sku}/price`, only for an active article.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceReply {
    pub sku: String,
    pub name: Option<String>,
    pub qty: i64,
    /// What one unit costs at this quantity: the tier's price where the tier is reached.
    pub unit_cents: Cents,
    /// The tier's quantity, reached or not; `null` without a tier. Tiers are for EUR only.
    pub tier_min_qty: Option<i64>,
    pub currency: String,
    pub tiers: Vec<TierReply>,
    /// RFC 3339, UTC: when the price was looked up. Differs between the sides by nature.
    pub as_of: String,
}

/// GET `/api/v1/carts/{id}/total`, in EUR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CartTotal {
    /// In the order in which they were put into the cart.
    pub lines: Vec<CartLine>,
    pub subtotal_cents: Cents,
    pub discount_cents: Cents,
    pub tax_cents: Cents,
    /// `subtotal - discount + tax`.
    pub total_cents: Cents,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CartLine {
    pub sku: String,
    pub name: Option<String>,
    pub qty: i64,
    pub unit_cents: Cents,
    /// `qty * unit`, before discount and tax.
    pub line_cents: Cents,
    /// The coupon's part of `line_cents`, half-up.
    pub discount_cents: Cents,
    /// Tax on `line_cents - discount_cents`, half-up.
    pub tax_cents: Cents,
}

/// POST `/api/v1/payments`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPayment {
    pub order_ref: String,
    pub amount_cents: Cents,
    pub currency: String,
    pub card_token: String,
}

impl NewPayment {
    /// What both sides refuse before asking the bank.
    pub fn check(&self) -> Result<(), Problem> {
        if self.order_ref.is_empty() || self.order_ref.len() > 64 {
            return Err(Problem::invalid_payment("order_ref must have 1 to 64 bytes"));
        }
        if !(1..=PAYMENT_CENTS_MAX).contains(&self.amount_cents) {
            return Err(Problem::invalid_payment("amount_cents must be 1 to 100000000"));
        }
        if !CURRENCIES.contains(&self.currency.as_str()) {
            return Err(Problem::unsupported_currency(&self.currency));
        }
        Ok(())
    }
}

/// What a payment's endpoints answer: 201 when new, 200 afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentReply {
    /// The monolith counts from 1, the payment service from 10_000_000.
    pub payment_id: i64,
    pub order_ref: String,
    pub amount_cents: Cents,
    pub currency: String,
    /// `authorized`, `captured`, `voided`, `refunded` or `declined`.
    pub status: String,
    pub card_last4: String,
}

/// `?category=&page=`
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ListQuery {
    category: Option<String>,
    page: Option<i64>,
}

impl ListQuery {
    /// `None`: all categories. An unknown one lists nothing.
    pub fn category(&self) -> Option<&str> {
        self.category.as_deref().filter(|category| !category.is_empty())
    }

    pub fn page(&self) -> Result<i64, Problem> {
        let page = self.page.unwrap_or(1);
        if (1..=10_000).contains(&page) { Ok(page) } else { Err(Problem::invalid_query("page must be 1 to 10000")) }
    }
}

/// `?qty=&currency=`
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PriceQuery {
    qty: Option<i64>,
    currency: Option<String>,
}

impl PriceQuery {
    /// Default: 1.
    pub fn qty(&self) -> Result<i64, Problem> {
        let qty = self.qty.unwrap_or(1);
        if (1..=QTY_MAX).contains(&qty) { Ok(qty) } else { Err(Problem::invalid_query("qty must be 1 to 9999")) }
    }

    /// Default: EUR.
    pub fn currency(&self) -> Result<&'static str, Problem> {
        match self.currency.as_deref() {
            None | Some("") => Ok(CURRENCIES[0]),
            Some(asked) => {
                let known = CURRENCIES.iter().find(|known| **known == asked);
                known.copied().ok_or_else(|| Problem::unsupported_currency(asked))
            }
        }
    }
}

/// `?coupon=&country=`
#[derive(Clone, Debug, Default, Deserialize)]
pub struct TotalQuery {
    coupon: Option<String>,
    country: Option<String>,
}

impl TotalQuery {
    pub fn coupon(&self) -> Option<&str> {
        self.coupon.as_deref().filter(|code| !code.is_empty())
    }

    /// Default: DE.
    pub fn country(&self) -> &str {
        self.country.as_deref().filter(|country| !country.is_empty()).unwrap_or(COUNTRIES[0].country)
    }
}

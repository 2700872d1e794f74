//! The 20,000 orders of the past, numbers 1 to 20000, with the scars that a grown database has.

use super::carts::CartItem;
use super::catalogue::{Product, products};
use super::coupons::{COUPONS, Coupon};
use super::users::{Activity, USERS, User, users};
use super::vat::{COUNTRIES, vat};
use super::{TAKEN_AT, part};
use crate::money::{Cents, half_up};
use crate::prng::Prng;
use crate::time::{MINUTE_MS, UnixMs};

pub const ORDERS: u32 = 20_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub order_no: u32,
    pub user_id: u32,
    /// `PAID`, `SHIPPED` or `CANCELLED`.
    pub status: &'static str,
    pub placed_at: UnixMs,
    pub country: &'static str,
    pub coupon: Option<&'static str>,
    pub lines: Vec<OrderLine>,
    pub subtotal_cents: Cents,
    pub discount_cents: Cents,
    pub tax_cents: Cents,
    pub total_cents: Cents,
    /// `None` only by [`Quirk::NoPayment`].
    pub payment: Option<HistoricPayment>,
    pub quirk: Option<Quirk>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderLine {
    pub sku: String,
    /// Below zero only by [`Quirk::NegativeQty`].
    pub qty: i64,
    pub unit_cents: Cents,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoricPayment {
    pub cents: Cents,
    pub card_last4: &'static str,
    /// `captured`, or `refunded` for a cancelled order.
    pub status: &'static str,
    pub psp_ref: String,
}

/// What years of hand-made corrections left behind, in 0.7 % of the orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// A return was booked as a line of negative quantity.
    NegativeQty,
    /// Paid outside the shop: there is no row for the payment.
    NoPayment,
}

/// The orders in the order of their numbers, made one at a time.
pub fn orders() -> impl Iterator<Item = Order> {
    let sold: Vec<Product> = products().into_iter().filter(|product| product.active).collect();
    let users = users();
    let activity = Activity::of(USERS);
    let mut prng = part(6);
    (1..=ORDERS).map(move |order_no| {
        let user_id = activity.draw(&mut prng);
        let country = users.get(user_id as usize - 1).map_or(COUNTRIES[0].country, |user: &User| user.country);
        order(order_no, user_id, country, &sold, &mut prng)
    })
}

fn quirk(order_no: u32) -> Option<Quirk> {
    match order_no % 1_000 {
        77 | 277 | 477 | 677 => Some(Quirk::NegativeQty),
        133 | 533 | 933 => Some(Quirk::NoPayment),
        _ => None,
    }
}

fn order(order_no: u32, user_id: u32, country: &'static str, sold: &[Product], prng: &mut Prng) -> Order {
    let quirk = quirk(order_no);
    let picked: Vec<&Product> = (0..prng.between(1, 4)).map(|_| &sold[prng.index(sold.len())]).collect();
    let mut items: Vec<(&Product, CartItem)> = Vec::new();
    for product in picked {
        if items.iter().all(|(_, item)| item.sku != product.sku) {
            items.push((product, CartItem { sku: product.sku.clone(), qty: prng.between(1, 3) }));
        }
    }
    if let (Some(Quirk::NegativeQty), Some((_, item))) = (quirk, items.last_mut()) {
        item.qty = -item.qty;
    }
    let coupon = prng.percent(15).then_some(&COUPONS[0]);
    let (subtotal_cents, discount_cents, tax_cents) = sums(&items, coupon, country);
    let total_cents = subtotal_cents - discount_cents + tax_cents;
    // The last ones a few minutes before the data were taken, the first about two years earlier.
    let placed_at = TAKEN_AT - UnixMs::from(ORDERS + 1 - order_no) * 52 * MINUTE_MS - prng.between(0, 51 * MINUTE_MS);
    let is_cancelled = prng.percent(4);
    let status = if is_cancelled {
        "CANCELLED"
    } else if order_no + 200 > ORDERS {
        "PAID"
    } else {
        "SHIPPED"
    };
    let card_last4 = ["4242", "1881", "0005", "3220"][prng.index(4)];
    let payment = (quirk != Some(Quirk::NoPayment)).then(|| HistoricPayment {
        cents: total_cents,
        card_last4,
        status: if is_cancelled { "refunded" } else { "captured" },
        psp_ref: format!("psp-h-{order_no}"),
    });
    Order {
        order_no,
        user_id,
        status,
        placed_at,
        country,
        coupon: coupon.map(|coupon| coupon.code),
        lines: items
            .into_iter()
            .map(|(product, item)| OrderLine { sku: item.sku, qty: item.qty, unit_cents: product.eur_cents })
            .collect(),
        subtotal_cents,
        discount_cents,
        tax_cents,
        total_cents,
        payment,
        quirk,
    }
}

/// Facts of the past, not an example to follow: live carts are priced by the monolith and by pricing, each in its own way.
fn sums(items: &[(&Product, CartItem)], coupon: Option<&Coupon>, country: &str) -> (Cents, Cents, Cents) {
    let percent = coupon.map_or(0, |coupon| coupon.percent);
    let vat = vat(country).unwrap_or(&COUNTRIES[0]);
    items.iter().fold((0, 0, 0), |(subtotal, discount, tax), (product, item)| {
        let line = product.eur_cents * item.qty;
        let off = half_up(line, percent, 100);
        (subtotal + line, discount + off, tax + half_up(line - off, vat.rate_bp(product.tax_class), 10_000))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_thousand_orders_of_which_seven_in_a_thousand_are_odd() {
        let all: Vec<Order> = orders().collect();
        assert_eq!(all.len(), ORDERS as usize);
        assert_eq!(all.iter().filter(|order| order.quirk.is_some()).count(), 140);
        for order in &all {
            assert_eq!(order.payment.is_none(), order.quirk == Some(Quirk::NoPayment));
            assert_eq!(order.lines.iter().any(|line| line.qty < 0), order.quirk == Some(Quirk::NegativeQty));
            assert!(!order.lines.is_empty() && order.placed_at < TAKEN_AT);
            assert_eq!(order.total_cents, order.subtotal_cents - order.discount_cents + order.tax_cents);
        }
        assert!(all.windows(2).all(|pair| pair[0].placed_at < pair[1].placed_at));
    }
}

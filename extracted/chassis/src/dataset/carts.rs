//! Carts that both sides know from the start and nobody changes: their totals can be compared at any time.

use super::catalogue::{Product, TIER_MIN_QTY, products, sku};
use super::part;
use super::users::{Activity, USERS};
use crate::prng::Prng;

pub const FIRST_CART: u64 = 1_000;
pub const CARTS: u64 = 600;
/// 2 × 19.99 + 3 × 8.95 + 1 × 24.50, all at the standard rate: with SAVE10 in DE it comes to 97.81.
pub const WORKED_CART: u64 = 1_042;
/// Carts made by shoppers start here; below lie those of the data set.
pub const FIRST_FREE_CART: u64 = 100_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cart {
    pub id: u64,
    pub user_id: u32,
    /// In the order in which totals list them; no SKU twice, none inactive. A few carts are empty.
    pub items: Vec<CartItem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CartItem {
    pub sku: String,
    pub qty: i64,
}

/// The carts `FIRST_CART..FIRST_CART + CARTS` in the order of their ids.
pub fn carts() -> Vec<Cart> {
    let catalogue = products();
    let sold: Vec<&Product> = catalogue.iter().filter(|product| product.active).collect();
    let tiered: Vec<&Product> = sold.iter().copied().filter(|product| product.tier.is_some()).collect();
    let activity = Activity::of(USERS);
    let mut prng = part(5);
    (FIRST_CART..FIRST_CART + CARTS)
        .map(|id| {
            let user_id = activity.draw(&mut prng);
            let items = draw_items(&sold, &tiered, &mut prng);
            let items = match id {
                WORKED_CART => worked_items(),
                // One in a hundred was emptied again.
                _ if id % 100 == 99 => Vec::new(),
                _ => items,
            };
            Cart { id, user_id, items }
        })
        .collect()
}

fn worked_items() -> Vec<CartItem> {
    [(42, 2), (43, 3), (44, 1)].map(|(index, qty)| CartItem { sku: sku(index), qty }).into()
}

fn draw_items(sold: &[&Product], tiered: &[&Product], prng: &mut Prng) -> Vec<CartItem> {
    let mut items: Vec<CartItem> = Vec::new();
    for _ in 0..prng.between(1, 5) {
        let product = sold[prng.index(sold.len())];
        let qty = [1, 1, 1, 1, 2, 2, 3, 4][prng.index(8)];
        if items.iter().all(|item| item.sku != product.sku) {
            items.push(CartItem { sku: product.sku.clone(), qty });
        }
    }
    // Rare on purpose: a fault at exactly the tier's boundary must need many samples to be seen.
    if prng.percent(3) {
        let product = tiered[prng.index(tiered.len())];
        let qty = TIER_MIN_QTY + if prng.percent(50) { 0 } else { prng.between(-1, 3) };
        items.retain(|item| item.sku != product.sku);
        items.push(CartItem { sku: product.sku.clone(), qty });
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cart(id: u64) -> Cart {
        carts().into_iter().find(|cart| cart.id == id).expect("a seeded cart")
    }

    #[test]
    fn the_worked_cart_has_its_well_known_id_and_lines() {
        let items: Vec<(String, i64)> = cart(WORKED_CART).items.into_iter().map(|item| (item.sku, item.qty)).collect();
        assert_eq!(items, [("SKU-1042".to_owned(), 2), ("SKU-1043".to_owned(), 3), ("SKU-1044".to_owned(), 1)]);
    }

    #[test]
    fn carts_hold_only_what_is_sold_and_nothing_twice() {
        let products = products();
        let carts = carts();
        assert_eq!(carts.len() as u64, CARTS);
        for cart in &carts {
            for item in &cart.items {
                assert!(products.iter().any(|product| product.sku == item.sku && product.active));
                assert_eq!(cart.items.iter().filter(|other| other.sku == item.sku).count(), 1);
                assert!(item.qty > 0);
            }
        }
        assert_eq!(carts.iter().filter(|cart| cart.items.is_empty()).count(), 6);
        assert!(carts.iter().any(|cart| cart.items.iter().any(|item| item.qty == TIER_MIN_QTY)));
    }
}

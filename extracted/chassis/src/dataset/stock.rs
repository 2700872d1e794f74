//! What lies in the warehouse at the start.

use super::catalogue::{PRODUCTS, Roles, sku};
use super::part;

/// So many articles are nearly sold out.
pub const SCARCE: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stock {
    pub sku: String,
    pub on_hand: i64,
}

/// The stock of every article in the order of its SKU: 1 to 3 units of the scarce ones, thousands of the others.
pub fn stock() -> Vec<Stock> {
    let roles = Roles::draw(&mut part(1));
    let mut prng = part(2);
    (0..PRODUCTS)
        .map(|index| {
            let plenty = prng.between(10_000, 50_000);
            let few = prng.between(1, 3);
            Stock { sku: sku(index), on_hand: if roles.scarce.contains(&index) { few } else { plenty } }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_articles_are_nearly_sold_out_and_can_be_bought() {
        let scarce: Vec<Stock> = stock().into_iter().filter(|stock| stock.on_hand <= 3).collect();
        assert_eq!(scarce.len(), SCARCE);
        let products = super::super::catalogue::products();
        for stock in scarce {
            assert!(stock.on_hand >= 1);
            assert!(products.iter().any(|product| product.sku == stock.sku && product.active));
        }
    }
}

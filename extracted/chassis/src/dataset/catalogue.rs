//! The 400 articles, `SKU-1000` to `SKU-1399`.

use super::part;
use super::vat::TaxClass;
use crate::money::Cents;
use crate::prng::Prng;

pub const PRODUCTS: usize = 400;
pub const INACTIVE: usize = 30;
pub const TIERED: usize = 25;
pub const UNNAMED: usize = 6;
/// From this quantity on the tier price holds, the quantity itself included.
pub const TIER_MIN_QTY: i64 = 10;

pub const CATEGORIES: [&str; 8] = ["kitchen", "books", "garden", "toys", "food", "office", "sports", "lighting"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    pub sku: String,
    /// A few articles have none: NULL in the database, `null` in replies.
    pub name: Option<String>,
    pub category: &'static str,
    pub tax_class: TaxClass,
    /// An inactive article is not listed and not sold.
    pub active: bool,
    pub eur_cents: Cents,
    pub usd_cents: Cents,
    /// Whole yen: JPY has no smaller unit.
    pub jpy_yen: Cents,
    pub tier: Option<Tier>,
}

/// A lower price per unit from a quantity on; EUR only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    pub min_qty: i64,
    pub eur_cents: Cents,
}

impl Product {
    /// The list price of one unit; `None` for a currency that the shop does not keep.
    pub fn list_price(&self, currency: &str) -> Option<Cents> {
        match currency {
            "EUR" => Some(self.eur_cents),
            "USD" => Some(self.usd_cents),
            "JPY" => Some(self.jpy_yen),
            _ => None,
        }
    }
}

/// All articles in the order of their SKU.
pub fn products() -> Vec<Product> {
    let mut prng = part(1);
    let roles = Roles::draw(&mut prng);
    (0..PRODUCTS).map(|index| product(index, &roles, &mut prng)).collect()
}

/// The article number of an index of `0..PRODUCTS`.
pub fn sku(index: usize) -> String {
    format!("SKU-{}", 1_000 + index)
}

/// The worked cart's articles: index, price, name.
const FIXED: [(usize, Cents, &str); 3] =
    [(42, 1_999, "Steel teapot, 1 litre"), (43, 895, "Linen kitchen towel"), (44, 2_450, "Walnut bread board")];

const ADJECTIVES: [&str; 16] = [
    "Steel", "Linen", "Walnut", "Compact", "Folding", "Glazed", "Heavy", "Little", "Merino", "Nordic", "Oak", "Quiet",
    "Red", "Solar", "Waxed", "Grün",
];
const NOUNS: [&str; 20] = [
    "teapot",
    "towel",
    "bread board",
    "lamp",
    "watering can",
    "notebook",
    "puzzle",
    "muesli",
    "racket",
    "stapler",
    "atlas",
    "rake",
    "kite",
    "honey",
    "pen",
    "mat",
    "lantern",
    "cookbook",
    "Kännchen",
    "crêpe pan",
];

/// Which article plays which part, by index; drawn once so that no article plays two.
#[derive(Debug)]
pub(super) struct Roles {
    inactive: Vec<usize>,
    tiered: Vec<usize>,
    unnamed: Vec<usize>,
    pub(super) scarce: Vec<usize>,
}

impl Roles {
    pub(super) fn draw(prng: &mut Prng) -> Roles {
        let is_free = |index: &usize| FIXED.iter().all(|(fixed, ..)| fixed != index);
        let mut indexes: Vec<usize> = (0..PRODUCTS).filter(is_free).collect();
        prng.shuffle(&mut indexes);
        let mut rest = indexes.into_iter();
        let mut take = |count| rest.by_ref().take(count).collect();
        Roles {
            inactive: take(INACTIVE),
            tiered: take(TIERED),
            unnamed: take(UNNAMED),
            scarce: take(super::stock::SCARCE),
        }
    }
}

fn product(index: usize, roles: &Roles, prng: &mut Prng) -> Product {
    let category = CATEGORIES[prng.index(CATEGORIES.len())];
    let tax_class = match prng.below(10) {
        0 => TaxClass::Zero,
        1 | 2 => TaxClass::Reduced,
        _ => TaxClass::Standard,
    };
    // Cheap articles are many, dear ones few.
    let euros = 2 + prng.between(0, 40) + if prng.percent(20) { prng.between(0, 150) } else { 0 };
    let eur_cents = euros * 100 + [99, 99, 95, 95, 49][prng.index(5)];
    let name = format!("{} {}", ADJECTIVES[prng.index(ADJECTIVES.len())], NOUNS[prng.index(NOUNS.len())]);
    let fixed = FIXED.iter().find(|(fixed, ..)| *fixed == index);
    let (eur_cents, name, tax_class) = match fixed {
        Some((_, cents, name)) => (*cents, (*name).to_owned(), TaxClass::Standard),
        None => (eur_cents, name, tax_class),
    };
    Product {
        sku: sku(index),
        name: (!roles.unnamed.contains(&index)).then_some(name),
        category: if fixed.is_some() { CATEGORIES[0] } else { category },
        tax_class,
        active: !roles.inactive.contains(&index),
        eur_cents,
        usd_cents: eur_cents * 109 / 10_000 * 100 + 99,
        jpy_yen: eur_cents * 162 / 1_000 * 10,
        tier: roles
            .tiered
            .contains(&index)
            .then(|| Tier { min_qty: TIER_MIN_QTY, eur_cents: eur_cents * 88 / 1_000 * 10 + 9 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_holds_what_was_agreed() {
        let all = products();
        assert_eq!(all, products());
        assert_eq!(all.len(), PRODUCTS);
        assert_eq!(all.iter().filter(|product| !product.active).count(), INACTIVE);
        assert_eq!(all.iter().filter(|product| product.tier.is_some() && product.active).count(), TIERED);
        assert_eq!(all.iter().filter(|product| product.name.is_none() && product.active).count(), UNNAMED);
        for class in [TaxClass::Standard, TaxClass::Reduced, TaxClass::Zero] {
            assert!(all.iter().filter(|product| product.tax_class == class).count() >= 20);
        }
    }

    #[test]
    fn prices_end_as_prices_do_and_a_tier_is_cheaper() {
        for product in products().iter().filter(|product| product.sku != "SKU-1044") {
            assert!([99, 95, 49].contains(&(product.eur_cents % 100)), "{}", product.sku);
            assert!(product.tier.is_none_or(|tier| tier.eur_cents < product.eur_cents && tier.eur_cents > 0));
            assert!(product.usd_cents > 0 && product.jpy_yen > 0);
        }
    }

    #[test]
    fn the_worked_carts_articles_are_plain() {
        let all = products();
        for (index, cents, _) in FIXED {
            let product = &all[index];
            assert_eq!((product.eur_cents, product.tax_class), (cents, TaxClass::Standard));
            assert!(product.active && product.tier.is_none() && product.name.is_some());
        }
    }
}

//! What a cart costs. Arithmetic only: no database, no clock.

use estate_chassis::contract::{CartLine, CartTotal};
use estate_chassis::money::{Cents, half_up};

/// One product in a cart, with everything that its price rests on.
#[derive(Clone, Debug)]
pub(super) struct PricedItem {
    pub(super) sku: String,
    pub(super) name: Option<String>,
    pub(super) qty: i64,
    pub(super) unit_cents: Cents,
    /// Tax on the discounted line, in basis points: 1900 is 19 %.
    pub(super) tax_basis_points: i64,
}

/// What goes into the basket, before any discount or tax.
pub(super) fn subtotal(items: &[PricedItem]) -> Cents {
    items.iter().map(|item| item.qty * item.unit_cents).sum()
}

/// Prices a cart: discount, then tax on what is left, each per line and rounded half up. The sums are the sums of the
/// lines, so that nothing is rounded twice.
pub(super) fn total(items: Vec<PricedItem>, discount_percent: i64) -> CartTotal {
    let lines: Vec<CartLine> = items.into_iter().map(|item| price_line(item, discount_percent)).collect();
    let sum = |part: fn(&CartLine) -> Cents| lines.iter().map(part).sum::<Cents>();
    let subtotal_cents = sum(|line| line.line_cents);
    let discount_cents = sum(|line| line.discount_cents);
    let tax_cents = sum(|line| line.tax_cents);
    CartTotal {
        subtotal_cents,
        discount_cents,
        tax_cents,
        total_cents: subtotal_cents - discount_cents + tax_cents,
        lines,
    }
}

fn price_line(item: PricedItem, discount_percent: i64) -> CartLine {
    let line_cents = item.qty * item.unit_cents;
    let discount_cents = half_up(line_cents, discount_percent, 100);
    let tax_cents = half_up(line_cents - discount_cents, item.tax_basis_points, 10_000);
    let PricedItem { sku, name, qty, unit_cents, .. } = item;
    CartLine { sku, name, qty, unit_cents, line_cents, discount_cents, tax_cents }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(qty: i64, unit_cents: i64) -> PricedItem {
        PricedItem { sku: String::new(), name: None, qty, unit_cents, tax_basis_points: 1_900 }
    }

    #[test]
    fn the_worked_cart_is_rounded_line_by_line_and_half_up() {
        let totals = total(vec![item(2, 1_999), item(3, 895), item(1, 2_450)], 10);

        let parts: Vec<_> =
            totals.lines.iter().map(|line| (line.line_cents, line.discount_cents, line.tax_cents)).collect();
        // 26.85 at 10 % is 2.685: half a cent goes up.
        assert_eq!(parts, [(3_998, 400, 684), (2_685, 269, 459), (2_450, 245, 419)]);
        assert_eq!((totals.subtotal_cents, totals.discount_cents, totals.tax_cents), (9_133, 914, 1_562));
        assert_eq!(totals.total_cents, 9_781);
    }

    #[test]
    fn an_empty_cart_costs_nothing() {
        assert_eq!(total(Vec::new(), 15).total_cents, 0);
    }
}

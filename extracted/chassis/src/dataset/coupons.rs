//! The coupons of the shop.

use crate::money::Cents;
use crate::time::UnixMs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coupon {
    /// Compared by exact case.
    pub code: &'static str,
    pub percent: i64,
    /// The cart's subtotal must be at least this.
    pub min_subtotal_cents: Cents,
    /// From this moment on it is refused; `None` never expires.
    pub expires_at: Option<UnixMs>,
}

/// EXPIRED5 ended with the year 2024.
pub const COUPONS: [Coupon; 3] = [
    Coupon { code: "SAVE10", percent: 10, min_subtotal_cents: 0, expires_at: None },
    Coupon { code: "SAVE15", percent: 15, min_subtotal_cents: 5_000, expires_at: None },
    Coupon { code: "EXPIRED5", percent: 5, min_subtotal_cents: 0, expires_at: Some(1_735_689_600_000) },
];

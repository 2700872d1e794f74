//! Money is integer minor units; both sides round a line half-up, away from zero for a refund.

/// Minor units of a currency: cents of EUR and USD, whole yen of JPY.
pub type Cents = i64;

/// The currencies that prices are kept in. The first is the default.
pub const CURRENCIES: [&str; 3] = ["EUR", "USD", "JPY"];

/// `amount * numerator / denominator`, rounded half-up by magnitude. A denominator of 0 gives 0.
///
/// ```
/// use estate_chassis::money::half_up;
/// assert_eq!(half_up(3_998, 10, 100), 400);
/// assert_eq!(half_up(-5, 1, 2), -3);
/// ```
pub fn half_up(amount: Cents, numerator: i64, denominator: i64) -> Cents {
    if denominator == 0 {
        return 0;
    }
    let exact = i128::from(amount) * i128::from(numerator);
    let denominator = i128::from(denominator);
    let sign = exact.signum() * denominator.signum();
    let rounded = (2 * exact.abs() + denominator.abs()) / (2 * denominator.abs());
    let limit = if sign < 0 { Cents::MIN } else { Cents::MAX };
    Cents::try_from(sign * rounded).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_goes_up_and_a_refund_mirrors_the_sale() {
        assert_eq!([half_up(25, 1, 10), half_up(24, 1, 10), half_up(15, 1, 10)], [3, 2, 2]);
        assert_eq!(half_up(-25, 1, 10), -half_up(25, 1, 10));
        assert_eq!(half_up(1, 1, 0), 0);
        assert_eq!(half_up(Cents::MAX, 3, 1), Cents::MAX);
    }
}

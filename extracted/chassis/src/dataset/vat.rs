//! Value added tax by country and class.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What kind of rate a product is taxed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaxClass {
    Standard,
    Reduced,
    Zero,
}

/// Text that names no tax class.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no tax class: standard, reduced or zero")]
pub struct UnknownTaxClass(String);

impl TaxClass {
    pub fn as_str(self) -> &'static str {
        match self {
            TaxClass::Standard => "standard",
            TaxClass::Reduced => "reduced",
            TaxClass::Zero => "zero",
        }
    }
}

impl fmt::Display for TaxClass {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl FromStr for TaxClass {
    type Err = UnknownTaxClass;

    fn from_str(text: &str) -> Result<TaxClass, UnknownTaxClass> {
        match text {
            "standard" => Ok(TaxClass::Standard),
            "reduced" => Ok(TaxClass::Reduced),
            "zero" => Ok(TaxClass::Zero),
            other => Err(UnknownTaxClass(other.to_owned())),
        }
    }
}

/// The rates of one country, in basis points (1/10_000): 8.1 % is 810.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vat {
    pub country: &'static str,
    pub standard_bp: i64,
    pub reduced_bp: i64,
}

impl Vat {
    pub fn rate_bp(&self, class: TaxClass) -> i64 {
        match class {
            TaxClass::Standard => self.standard_bp,
            TaxClass::Reduced => self.reduced_bp,
            TaxClass::Zero => 0,
        }
    }
}

/// Where the shop delivers. The first is the default.
pub const COUNTRIES: [Vat; 12] = [
    Vat { country: "DE", standard_bp: 1_900, reduced_bp: 700 },
    Vat { country: "AT", standard_bp: 2_000, reduced_bp: 1_000 },
    Vat { country: "CH", standard_bp: 810, reduced_bp: 260 },
    Vat { country: "FR", standard_bp: 2_000, reduced_bp: 550 },
    Vat { country: "IT", standard_bp: 2_200, reduced_bp: 1_000 },
    Vat { country: "ES", standard_bp: 2_100, reduced_bp: 1_000 },
    Vat { country: "NL", standard_bp: 2_100, reduced_bp: 900 },
    Vat { country: "BE", standard_bp: 2_100, reduced_bp: 600 },
    Vat { country: "PL", standard_bp: 2_300, reduced_bp: 800 },
    Vat { country: "SE", standard_bp: 2_500, reduced_bp: 1_200 },
    Vat { country: "DK", standard_bp: 2_500, reduced_bp: 2_500 },
    Vat { country: "JP", standard_bp: 1_000, reduced_bp: 800 },
];

/// The rates of a country by its two capital letters.
pub fn vat(country: &str) -> Option<&'static Vat> {
    COUNTRIES.iter().find(|vat| vat.country == country)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_read_back_as_written() {
        for class in [TaxClass::Standard, TaxClass::Reduced, TaxClass::Zero] {
            assert_eq!(class.to_string().parse(), Ok(class));
        }
        assert!("luxury".parse::<TaxClass>().is_err());
    }

    #[test]
    fn rates_are_found_by_country_and_class() {
        assert_eq!(vat("DE").map(|vat| vat.rate_bp(TaxClass::Standard)), Some(1_900));
        assert_eq!(vat("FR").map(|vat| vat.rate_bp(TaxClass::Reduced)), Some(550));
        assert_eq!(vat("CH").map(|vat| vat.rate_bp(TaxClass::Zero)), Some(0));
        assert_eq!(vat("XX"), None);
    }
}

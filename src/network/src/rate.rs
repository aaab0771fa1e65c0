//! Rates of traffic, as tc(8) writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Units of the text form with their bits per second, the largest first. Powers of ten, as on a data sheet.
const UNITS: [(&str, u64); 5] =
    [("tbit", 1_000_000_000_000), ("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000), ("bit", 1)];

/// Least and most bits per second. Below, one packet takes more than a second; above, no device follows.
const RANGE: std::ops::RangeInclusive<u64> = 8_000..=1_000_000_000_000;

/// Bits per second on the link, headers of the link included: 8 kbit/s to 1 Tbit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(u64);

/// A text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no rate from 8kbit to 1tbit, such as 500kbit, 10mbit or 1gbit")]
pub struct RateError(String);

impl Rate {
    /// The least that can be said.
    pub const LEAST: Rate = Rate(*RANGE.start());

    /// A number of Gbit/s.
    pub(crate) const fn gbit(number: u8) -> Rate {
        Rate(number as u64 * 1_000_000_000)
    }

    /// Bits per second.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Bytes per second.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0 / 8
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Rate, RateError> {
        let parse = || {
            let lower = text.to_ascii_lowercase();
            let (number, unit) = UNITS
                .iter()
                .find_map(|(unit, bits)| Some((lower.strip_suffix(unit)?, *bits)))
                .filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()))?;
            number.parse::<u64>().ok()?.checked_mul(unit).filter(|bits| RANGE.contains(bits)).map(Rate)
        };
        parse().ok_or_else(|| RateError(text.to_owned()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bits) = UNITS.iter().find(|(_, bits)| self.0.is_multiple_of(*bits)).expect("every number has bits");
        write!(f, "{}{unit}", self.0 / bits)
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Rate, RateError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> String {
        rate.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_they_print() {
        for (text, bits) in [
            ("10mbit", 10_000_000),
            ("1gbit", 1_000_000_000),
            ("8kbit", 8000),
            ("1500kbit", 1_500_000),
            ("8001bit", 8001),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.bits(), rate.to_string().as_str()), (bits, text));
        }
        assert_eq!("1000kbit".parse::<Rate>().unwrap().to_string(), "1mbit");
        assert_eq!("10Mbit".parse::<Rate>().unwrap().bytes(), 1_250_000);
        for text in
            ["", "10", "mbit", "-1mbit", "+1mbit", "1.5mbit", "7kbit", "2tbit", "99999999999999999999bit", "10mb"]
        {
            assert_eq!(text.parse::<Rate>(), Err(RateError(text.to_owned())));
        }
    }
}

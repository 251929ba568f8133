//! Durations: "90s", "1h30m", ms to weeks, or ISO 8601 without years and months.
//!
//! Both spellings are sums of components, from the larger unit to the smaller, each unit once.
//! The result is in whole milliseconds; a fraction of one rounds up, so that nothing is early.

use crate::text::clip;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};
use std::fmt;

/// From the largest to the smallest.
const UNITS: [(&str, i64); 6] = [
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
const DAY_MS: u64 = 86_400_000;
/// Components are summed in parts of a millisecond as fine as nine decimals can be.
const PARTS: i128 = 1_000_000_000;

/// Milliseconds (may be negative, for the caller to refuse by name).
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let parts = match unsigned.strip_prefix('P') {
        Some(iso) => parse_iso(iso),
        None => parse_units(unsigned, &UNITS),
    };
    let parts = parts.map_err(|flaw| flaw.tell(text))?;
    let signed = if negative { -parts } else { parts };
    // Nearly all durations fit into 64 bits even in parts, and are divided several times faster.
    let rounded = match i64::try_from(signed) {
        Ok(small) => {
            let parts = PARTS as i64;
            i128::from(small.div_euclid(parts) + i64::from(small.rem_euclid(parts) != 0))
        }
        Err(_) => signed.div_euclid(PARTS) + i128::from(signed.rem_euclid(PARTS) != 0),
    };
    i64::try_from(rounded).map_err(|_| Flaw::Overflow.tell(text))
}

/// The shortest spelling that `parse_duration` reads back.
pub fn format_duration(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    let mut rest = millis.unsigned_abs();
    match rest {
        0 => return "0s".to_owned(),
        // The way people speak of it, and as the defaults have it.
        DAY_MS => return format!("{sign}24h"),
        _ => {}
    }
    let whole = UNITS.iter().find(|(_, unit_ms)| rest.is_multiple_of(*unit_ms as u64));
    let (unit, unit_ms) = whole.expect("everything is whole in milliseconds");
    let single = format!("{sign}{}{unit}", rest / *unit_ms as u64);
    let mut sum = sign.to_owned();
    for (unit, unit_ms) in UNITS {
        let count = rest / unit_ms as u64;
        rest %= unit_ms as u64;
        if count > 0 {
            sum.push_str(&count.to_string());
            sum.push_str(unit);
        }
    }
    if sum.len() < single.len() { sum } else { single }
}

/// A duration in a JSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationValue(pub i64);

impl<'de> Deserialize<'de> for DurationValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(DurationVisitor)
    }
}

impl Serialize for DurationValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(self.0))
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = DurationValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration as text, such as \"90s\" or \"1h30m\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<DurationValue, E> {
        parse_duration(text).map(DurationValue).map_err(E::custom)
    }
}

/// What is wrong with a duration.
enum Flaw {
    Shape,
    Unit(String),
    Order,
    Calendar,
    Overflow,
}

impl Flaw {
    fn tell(&self, text: &str) -> String {
        let text = clip(text);
        match self {
            Self::Shape => {
                format!("`{text}` is no duration: write for example 90s, 1h30m, 500ms, 2w or PT90S")
            }
            Self::Unit(unit) => {
                format!("`{text}`: there is no unit `{}`; units are w, d, h, m, s, ms", clip(unit))
            }
            Self::Order => format!("`{text}`: the larger unit stands first, and each only once"),
            Self::Calendar => {
                format!("`{text}`: years and months have no fixed length; use days or weeks")
            }
            Self::Overflow => format!("`{text}` leaves the range of 64-bit milliseconds"),
        }
    }
}

/// `1h30m`, over the units allowed here.
fn parse_units(mut text: &str, mut units: &[(&str, i64)]) -> Result<i128, Flaw> {
    let mut sum = 0_i128;
    if text.is_empty() {
        return Err(Flaw::Shape);
    }
    while !text.is_empty() {
        let (parts, rest) = take_number(text)?;
        let unit_bytes =
            rest.bytes().take_while(|byte| !byte.is_ascii_digit() && *byte != b'.').count();
        let (unit, rest) = rest.split_at(unit_bytes);
        let Some(index) = units.iter().position(|(name, _)| *name == unit) else {
            return Err(match unit {
                "" => Flaw::Shape,
                known if UNITS.iter().any(|(name, _)| *name == known) => Flaw::Order,
                unknown => Flaw::Unit(unknown.to_owned()),
            });
        };
        let component = parts.checked_mul(i128::from(units[index].1));
        sum = component.and_then(|component| sum.checked_add(component)).ok_or(Flaw::Overflow)?;
        units = &units[index + 1..];
        text = rest;
    }
    Ok(sum)
}

/// What stands behind the `P`: `1W`, `1DT2H30M`, `T0.5S`.
fn parse_iso(text: &str) -> Result<i128, Flaw> {
    let (date, time) = match text.split_once('T') {
        Some((_, "")) => return Err(Flaw::Shape),
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    if date.contains(['Y', 'M']) {
        return Err(Flaw::Calendar);
    }
    if date.is_empty() && time.is_none() {
        return Err(Flaw::Shape);
    }
    let half = |text: &str, units: &[(&str, i64)]| {
        if text.is_empty() {
            return Ok(0);
        }
        parse_units(text, units).map_err(|flaw| match flaw {
            Flaw::Unit(_) => Flaw::Shape,
            other => other,
        })
    };
    let date = half(date, &[("W", UNITS[0].1), ("D", UNITS[1].1)])?;
    let time =
        half(time.unwrap_or_default(), &[("H", UNITS[2].1), ("M", UNITS[3].1), ("S", UNITS[4].1)])?;
    date.checked_add(time).ok_or(Flaw::Overflow)
}

/// A decimal number, in parts of [`PARTS`], and what follows it.
fn take_number(text: &str) -> Result<(i128, &str), Flaw> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("0", rest),
    };
    // Finer than nine decimals of a unit is finer than anybody means.
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 {
        return Err(Flaw::Shape);
    }
    let whole: u64 = whole.parse().map_err(|_| Flaw::Overflow)?;
    let fraction = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    Ok((i128::from(whole) * PARTS + fraction, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: i64) {
        assert_eq!(parse_duration(text), Ok(expected), "{text}");
    }

    fn check_refused(text: &str, part: &str) {
        let detail = parse_duration(text).unwrap_err();
        assert!(detail.contains(part), "{text}: {detail}");
    }

    #[test]
    fn units_from_weeks_to_milliseconds() {
        check("0s", 0);
        check("500ms", 500);
        check("90s", 90_000);
        check("1m30s", 90_000);
        check("1h30m", 5_400_000);
        check("24h", 86_400_000);
        check("2w", 14 * 86_400_000);
        check("1w2d3h4m5s6ms", 604_800_000 + 172_800_000 + 11_045_006);
        check("1.5s", 1_500);
        check("0.5h", 1_800_000);
        check("0.1ms", 1);
        check("-90s", -90_000);
        check("-1.5ms", -1);
        check("+5s", 5_000);
        check("9223372036854775807ms", i64::MAX);
        check("-9223372036854775808ms", i64::MIN);
    }

    #[test]
    fn iso_8601_without_years_and_months() {
        check("PT60S", 60_000);
        check("PT0.5S", 500);
        check("P1DT2H", 93_600_000);
        check("P2W", 14 * 86_400_000);
        check("PT1H30M", 5_400_000);
        check("-PT1M", -60_000);
        check("P1D", 86_400_000);
        check_refused("P1M", "no fixed length");
        check_refused("P1Y2D", "no fixed length");
        for text in ["P", "PT", "P1", "P1H", "PT1D", "P1DT", "PT1", "PT5ms", "PT-5S", "pt5s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_and_says_why() {
        for text in ["", "-", "5", "s", "1h5", ".5s", "5.s", "1 h", "--5s", "1.0000000001s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        check_refused("60", "90s");
        check_refused("5min", "no unit `min`");
        check_refused("5us", "no unit `us`");
        check_refused("5S", "no unit `S`");
        check_refused("30m1h", "larger unit stands first");
        check_refused("1h1h", "only once");
        check_refused("9223372036854775808ms", "range");
        check_refused("18446744073709551615w", "range");
        check_refused("99999999999999999999s", "range");
        check_refused("P99999999999999999999D", "range");
    }

    #[test]
    fn the_shortest_spelling() {
        for (millis, expected) in [
            (0, "0s"),
            (1, "1ms"),
            (1_000, "1s"),
            (60_000, "1m"),
            (90_000, "90s"),
            (5_400_000, "90m"),
            (3_600_000, "1h"),
            (3_600_001, "1h1ms"),
            (86_400_000, "24h"),
            (172_800_000, "2d"),
            (604_800_000, "1w"),
            (-90_000, "-90s"),
        ] {
            assert_eq!(format_duration(millis), expected);
        }
    }

    #[test]
    fn in_json_a_number_is_refused() {
        let error = serde_json::from_str::<DurationValue>("60").unwrap_err();
        assert!(error.to_string().contains("such as \"90s\""), "{error}");
        assert_eq!(
            serde_json::from_str::<DurationValue>("\"60s\"").unwrap(),
            DurationValue(60_000)
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            millis in prop_oneof![any::<i64>(), -1_000_000_000..1_000_000_000_i64]
        ) {
            prop_assert_eq!(parse_duration(&format_duration(millis)), Ok(millis));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse_duration(&text);
        }

        #[test]
        fn nothing_near_a_duration_panics(text in "[-+]?P?[0-9]{0,24}(\\.[0-9]{0,10})?[wdhmsDWTHMS]{0,2}[0-9]{0,9}[ms]{0,2}") {
            let _ = parse_duration(&text);
        }
    }
}

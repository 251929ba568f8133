//! Points in time as text: digits (epoch milliseconds), or RFC 3339 with an offset.
//!
//! Integers cover all of `i64`; RFC 3339 covers the years 0000 to 9999. Fractions of a millisecond
//! round up, so that a timer is never early. Nothing here knows a time zone but by its offset.

use super::Timestamp;
use crate::text::clip;
use jiff::civil::{self, DateTime};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::fmt;

const EPOCH: DateTime = civil::date(1970, 1, 1).at(0, 0, 0, 0);

/// From a query parameter or a JSON string's content: digits or RFC 3339.
pub fn parse_time_text(text: &str) -> Result<Timestamp, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text
            .parse()
            .map(Timestamp::from_millis)
            .map_err(|_| format!("`{}` leaves the range of 64-bit milliseconds", clip(text)));
    }
    parse_rfc3339(text).ok_or_else(|| {
        let clipped = clip(text);
        if lacks_offset(text) {
            format!("`{clipped}` has no offset; write `{clipped}Z` if it is UTC")
        } else {
            format!(
                "`{clipped}` is no time: write epoch milliseconds, or RFC 3339 with an offset \
                 such as 2026-01-01T00:00:00Z"
            )
        }
    })
}

/// A time in a JSON document: an integer, or text as [`parse_time_text`] reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeValue(pub Timestamp);

impl<'de> Deserialize<'de> for TimeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = TimeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time: a whole number of milliseconds, or RFC 3339 with an offset")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<TimeValue, E> {
        Ok(TimeValue(Timestamp::from_millis(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<TimeValue, E> {
        let millis = i64::try_from(value)
            .map_err(|_| E::custom(format!("{value} leaves the range of 64-bit milliseconds")))?;
        Ok(TimeValue(Timestamp::from_millis(millis)))
    }

    fn visit_f64<E: Error>(self, _value: f64) -> Result<TimeValue, E> {
        Err(E::custom(
            "a time in numbers is a whole number of milliseconds in the range of 64 bits, \
             without fraction or exponent",
        ))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<TimeValue, E> {
        parse_time_text(text).map(TimeValue).map_err(E::custom)
    }
}

/// `2026-01-01T00:00:00.5+01:00`, and nothing looser.
fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let bytes = text.as_bytes();
    let (head, mut rest) = bytes.split_at_checked(SHAPE.len())?;
    let fits = SHAPE.iter().zip(head).all(|(shape, byte)| match shape {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        exact => byte == exact,
    });
    if !fits {
        return None;
    }
    let number = |from: usize, to: usize| {
        head[from..to].iter().fold(0_i16, |sum, digit| sum * 10 + i16::from(digit - b'0'))
    };
    let small = |from: usize| number(from, from + 2) as i8;
    // A leap second is the first instant of the next minute, so that it is not early.
    let (second, leap) = match small(17) {
        60 => (59, 1_000),
        second => (second, 0),
    };
    let civil =
        DateTime::new(number(0, 4), small(5), small(8), small(11), small(14), second, 0).ok()?;
    let fraction_ms = if let Some((b'.', digits)) = rest.split_first() {
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, after) = digits.split_at(count);
        rest = after;
        fraction_up(digits)?
    } else {
        0
    };
    let offset_ms = parse_offset_ms(rest)?;
    let since = i64::try_from(civil.duration_since(EPOCH).as_millis()).ok()?;
    Some(Timestamp::from_millis(since + leap + fraction_ms - offset_ms))
}

/// Milliseconds of a decimal fraction of a second, rounded up.
fn fraction_up(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    let (millis, finer) = digits.split_at(digits.len().min(3));
    let padded = millis
        .iter()
        .chain(b"000")
        .take(3)
        .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some(padded + i64::from(finer.iter().any(|digit| *digit != b'0')))
}

fn parse_offset_ms(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h0, b':', m1, m0]
            if [h1, h0, m1, m0].iter().all(|digit| digit.is_ascii_digit()) =>
        {
            let two = |tens: &u8, ones: &u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
            let (hours, minutes) = (two(h1, h0), two(m1, m0));
            let offset_ms = (hours * 60 + minutes) * 60_000;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' {
                -offset_ms
            } else {
                offset_ms
            })
        }
        _ => None,
    }
}

fn lacks_offset(text: &str) -> bool {
    parse_rfc3339(&format!("{text}Z")).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: i64) {
        assert_eq!(parse_time_text(text).map(Timestamp::as_millis), Ok(expected), "{text}");
    }

    fn check_refused(text: &str, part: &str) {
        let detail = parse_time_text(text).unwrap_err();
        assert!(detail.contains(part), "{text}: {detail}");
    }

    fn check_json(json: &str, expected: Result<i64, &str>) {
        match (serde_json::from_str::<TimeValue>(json), expected) {
            (Ok(time), Ok(expected)) => assert_eq!(time.0.as_millis(), expected, "{json}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{json}: {error}"),
            (got, _) => panic!("{json}: {got:?}"),
        }
    }

    #[test]
    fn digits_are_milliseconds() {
        check("0", 0);
        check("-1", -1);
        check("1767225600000", 1_767_225_600_000);
        check("9223372036854775807", i64::MAX);
        check("-9223372036854775808", i64::MIN);
        check_refused("9223372036854775808", "range");
        for text in ["", "-", "+1", "1.5", "1e3", "0x10", " 1", "soon"] {
            check_refused(text, "RFC 3339");
        }
    }

    #[test]
    fn rfc_3339_with_an_offset() {
        check("2026-01-01T00:00:00Z", 1_767_225_600_000);
        check("2026-01-01t00:00:00z", 1_767_225_600_000);
        check("2026-01-01 00:00:00Z", 1_767_225_600_000);
        check("2026-01-01T01:00:00+01:00", 1_767_225_600_000);
        check("2025-12-31T18:30:00-05:30", 1_767_225_600_000);
        check("2026-01-01T00:00:00-00:00", 1_767_225_600_000);
        check("2016-12-31T23:59:60Z", 1_483_228_800_000);
        check("0000-01-01T00:00:00Z", -62_167_219_200_000);
        check("9999-12-31T23:59:59.999Z", 253_402_300_799_999);
        check("9999-12-31T23:59:59-23:59", 253_402_300_799_000 + 86_340_000);
    }

    #[test]
    fn fractions_of_a_millisecond_round_up() {
        check("1970-01-01T00:00:00.5Z", 500);
        check("1970-01-01T00:00:00.001Z", 1);
        check("1970-01-01T00:00:00.0010000000000000Z", 1);
        check("1970-01-01T00:00:00.0010000000000001Z", 2);
        check("1970-01-01T00:00:00.9999Z", 1_000);
        check("1969-12-31T23:59:59.9991Z", 0);
    }

    #[test]
    fn what_is_not_rfc_3339_is_refused_and_says_why() {
        check_refused("2026-01-01T00:00:00", "`2026-01-01T00:00:00Z` if it is UTC");
        for text in [
            "2026-01-01",
            "2026-1-1T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00Z",
            "20260101T000000Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+01",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00Z[Europe/Paris]",
            "2026-01-01T00:00:00Zx",
            "é026-01-01T00:00:00Z",
        ] {
            check_refused(text, "is no time");
        }
        check_refused(&"ä".repeat(1_000), &format!("`{}` is", "ä".repeat(32)));
    }

    #[test]
    fn in_json_numbers_are_whole() {
        check_json("5", Ok(5));
        check_json("-1", Ok(-1));
        check_json("\"5\"", Ok(5));
        check_json("\"1970-01-01T00:00:01Z\"", Ok(1_000));
        check_json("9223372036854775807", Ok(i64::MAX));
        check_json("9223372036854775808", Err("range"));
        check_json("99999999999999999999", Err("range"));
        check_json("1.5", Err("without fraction"));
        check_json("1.0", Err("without fraction"));
        check_json("1e3", Err("without fraction or exponent"));
        check_json("true", Err("expected a time"));
        check_json("[]", Err("expected a time"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse_time_text(&text);
        }

        #[test]
        fn nothing_near_a_time_panics(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})?([Zz]|[+-][0-9]{2}:[0-9]{2})?") {
            let _ = parse_time_text(&text);
        }
    }
}

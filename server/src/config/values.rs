//! Values of the configuration that people write with a unit: durations and sizes.
//!
//! Both are text in TOML, in the environment and in `config show`; a bare number of bytes is read
//! too, a bare number of milliseconds is not: its unit could not be told.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::Duration;
use stormwheel::duration::{format_duration, parse_duration};

/// A length of time, never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// In whole milliseconds.
    pub fn as_millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(self.as_millis()))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)
            .map_err(|_| de::Error::custom("a duration is text with a unit, such as \"10s\""))?;
        let millis = parse_duration(&text).map_err(de::Error::custom)?;
        u64::try_from(millis)
            .map(|millis| Self(Duration::from_millis(millis)))
            .map_err(|_| de::Error::custom("a duration here is not negative"))
    }
}

/// A number of bytes: `65536`, `"64KiB"`, `"64MiB"`, `"1GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

const UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size; write bytes, KiB, MiB or GiB: \"64MiB\"");
        let trimmed = text.trim();
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((trimmed.strip_suffix(name)?, *unit)))
            .unwrap_or((trimmed, 1));
        let count: usize = digits.trim().parse().map_err(|_| wrong())?;
        count.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = UNITS
            .into_iter()
            .find(|(_, unit)| self.0 > 0 && self.0.is_multiple_of(*unit))
            .unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;
        impl Visitor<'_> for TextOrNumber {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or text such as \"64MiB\"")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<ByteSize, E> {
                usize::try_from(number)
                    .map(ByteSize)
                    .map_err(|_| E::custom("a size is not negative"))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ByteSize, E> {
                usize::try_from(number)
                    .map(ByteSize)
                    .map_err(|_| E::custom("a size this large cannot be"))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                ByteSize::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(TextOrNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_size(text: &str, bytes: usize, spelled: &str) {
        let size = ByteSize::parse(text).unwrap();
        assert_eq!(size, ByteSize(bytes), "{text}");
        assert_eq!(size.to_string(), spelled);
    }

    #[test]
    fn sizes_are_read_and_spelled_in_their_largest_unit() {
        check_size("65536", 65_536, "64KiB");
        check_size("64MiB", 64 << 20, "64MiB");
        check_size("1 GiB", 1 << 30, "1GiB");
        check_size("1025", 1_025, "1025B");
        check_size("0", 0, "0B");
        for bad in ["", "x", "-1", "1.5MiB", "64MB", "99999999999GiB"] {
            assert!(ByteSize::parse(bad).is_err(), "{bad}");
        }
    }
}

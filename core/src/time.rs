//! Points in time, the two time domains, and the two roundings that make timers meet or part.
//!
//! A [`Timestamp`] is a signed 64-bit number of milliseconds since the Unix epoch; every value of
//! `i64` is legal and ordinary. Arithmetic that can leave the range is checked or saturating, by
//! name. Nothing here reads a clock.

pub mod text;

use crate::key_group::xxh3_64;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

/// Milliseconds since the Unix epoch, signed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest time there is; as a watermark: none seen yet.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time there is; as a watermark: the final one.
    pub const MAX: Self = Self(i64::MAX);

    /// A timestamp of so many milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This time moved by `millis`, or `None` where that leaves the range.
    pub const fn checked_add(self, millis: i64) -> Option<Self> {
        match self.0.checked_add(millis) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// This time moved by `millis`, stopping at the ends of the range.
    #[must_use]
    pub const fn saturating_add(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this time, stopping at the ends of the range.
    pub const fn saturating_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Rounds down to a multiple of `resolution_ms` (floor, so negative times round down too).
    ///
    /// A time so close to [`Timestamp::MIN`] that no multiple lies at or below it becomes `MIN`.
    /// [`Timestamp::MAX`] stays: it means "at the final watermark", which no rounding may move.
    #[must_use]
    pub const fn floor_to(self, resolution_ms: i64) -> Self {
        if resolution_ms <= 1 || self.0 == i64::MAX {
            return self;
        }
        match self.0.checked_sub(self.0.rem_euclid(resolution_ms)) {
            Some(floored) => Self(floored),
            None => Self::MIN,
        }
    }

    /// Maps the signed range onto `u64` so that the order of the numbers is kept.
    pub(crate) const fn to_ordered(self) -> u64 {
        (self.0 as u64) ^ (1 << 63)
    }

    /// The inverse of [`Timestamp::to_ordered`].
    pub(crate) const fn from_ordered(ordered: u64) -> Self {
        Self((ordered ^ (1 << 63)) as i64)
    }
}

/// Later by so many milliseconds, stopping at the ends of the range: functions reckon with times all
/// the time, and at the final watermark nothing may wrap around.
impl Add<i64> for Timestamp {
    type Output = Self;

    fn add(self, millis: i64) -> Self {
        self.saturating_add(millis)
    }
}

/// Earlier by so many milliseconds, stopping at the ends of the range.
impl Sub<i64> for Timestamp {
    type Output = Self;

    fn sub(self, millis: i64) -> Self {
        Self(self.0.saturating_sub(millis))
    }
}

/// Milliseconds between two times, stopping at the ends of the range.
impl Sub for Timestamp {
    type Output = i64;

    fn sub(self, earlier: Self) -> i64 {
        self.saturating_since(earlier)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which clock a timer follows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Event time: the watermark of the namespace.
    Event,
    /// Processing time: the clock of the namespace.
    #[default]
    Processing,
}

impl Domain {
    /// Both, in the order in which they sort.
    pub const ALL: [Self; 2] = [Self::Event, Self::Processing];

    /// The name on the wire: `event` or `processing`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Processing => "processing",
        }
    }
}

/// How far inside its window of `spread_ms` a timer of this key and name moves.
///
/// `xxh3(key, name) mod (spread + 1)`: the same for the same key and name, today and after a
/// restart, and even over a crowd of keys.
pub fn spread_offset(key: &[u8], name: Option<&str>, spread_ms: i64) -> i64 {
    if spread_ms <= 0 {
        return 0;
    }
    let mut hash = xxh3_64(key);
    if let Some(name) = name {
        // The name is folded in by a second hash seeded with the first: no buffer to join them in.
        hash = xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), hash);
    }
    let window = spread_ms as u64 + 1;
    (hash % window) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_floor(time: i64, resolution: i64, expected: i64) {
        let floored = Timestamp::from_millis(time).floor_to(resolution);
        assert_eq!(floored.as_millis(), expected, "floor({time}, {resolution})");
    }

    #[test]
    fn floor_rounds_down_on_both_sides_of_the_epoch() {
        check_floor(1_999, 1_000, 1_000);
        check_floor(1_000, 1_000, 1_000);
        check_floor(0, 1_000, 0);
        check_floor(-1, 1_000, -1_000);
        check_floor(-1_000, 1_000, -1_000);
        check_floor(-1_001, 1_000, -2_000);
        check_floor(7, 1, 7);
        check_floor(7, 0, 7);
    }

    #[test]
    fn floor_never_leaves_the_range() {
        check_floor(i64::MIN, 1_000, i64::MIN);
        check_floor(i64::MIN + 1, 1_000, i64::MIN);
        check_floor(i64::MAX, 1_000, i64::MAX);
        check_floor(i64::MAX - 1, 1_000, i64::MAX - 1 - (i64::MAX - 1) % 1_000);
    }

    #[test]
    fn reckoning_stops_at_the_ends_of_the_range() {
        assert_eq!((Timestamp::MAX + 1, Timestamp::MIN - 1), (Timestamp::MAX, Timestamp::MIN));
        assert_eq!(
            (Timestamp::MIN - i64::MIN, Timestamp::MAX - Timestamp::MIN),
            (Timestamp(0), i64::MAX)
        );
        assert_eq!(Timestamp(5) - Timestamp(7), -2);
    }

    #[test]
    fn ordered_keeps_the_order_and_comes_back() {
        let times = [i64::MIN, i64::MIN + 1, -1, 0, 1, 1_767_225_600_000, i64::MAX];
        for pair in times.windows(2) {
            let (a, b) = (Timestamp::from_millis(pair[0]), Timestamp::from_millis(pair[1]));
            assert!(a.to_ordered() < b.to_ordered());
            assert_eq!(Timestamp::from_ordered(a.to_ordered()), a);
            assert_eq!(Timestamp::from_ordered(b.to_ordered()), b);
        }
    }

    #[test]
    fn spread_is_stable_and_inside_its_window() {
        assert_eq!(spread_offset(b"k", None, 0), 0);
        for key in 0..1_000u32 {
            let offset = spread_offset(&key.to_le_bytes(), None, 29);
            assert!((0..=29).contains(&offset));
            assert_eq!(offset, spread_offset(&key.to_le_bytes(), None, 29));
        }
        assert_ne!(
            spread_offset(b"k", Some("a"), i64::MAX),
            spread_offset(b"k", Some("b"), i64::MAX)
        );
    }
}

//! Which windows an element belongs to.

use crate::duration::DurationValue;
use crate::function::{FunctionError, Result};
use serde::{Serialize, Serializer};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assigner {
    /// Windows of one size, that begin at `offset` and every multiple of `slide` from there.
    Aligned { size: i64, slide: i64, offset: i64 },
    /// A window is as long as no two of its elements, in their order, are further apart than `gap`.
    Session { gap: i64 },
}

/// A window: from `start` on, before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Span {
    /// The last millisecond that belongs to it.
    pub(super) fn max_timestamp(self) -> i64 {
        self.end - 1
    }

    /// Whether the two are one session: they overlap, or one begins where the other ends.
    pub(super) fn touches(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The shortest that holds both.
    pub(super) fn cover(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// As a namespace says it.
impl Serialize for Assigner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "lowercase")]
        enum Form {
            Tumbling { size: DurationValue, offset: DurationValue },
            Sliding { size: DurationValue, slide: DurationValue, offset: DurationValue },
            Session { gap: DurationValue },
        }
        let form = match *self {
            Self::Aligned { size, slide, offset } => {
                let [size, slide, offset] = [size, slide, offset].map(DurationValue);
                if size == slide {
                    Form::Tumbling { size, offset }
                } else {
                    Form::Sliding { size, slide, offset }
                }
            }
            Self::Session { gap } => Form::Session { gap: DurationValue(gap) },
        };
        form.serialize(serializer)
    }
}

impl Assigner {
    /// The windows of an element of this time, the earliest first.
    pub(super) fn assign(self, at: i64) -> Result<Vec<Span>> {
        let wide = i128::from(at);
        let span = |start: i128, size: i64| {
            let end = start + i128::from(size);
            match (i64::try_from(start), i64::try_from(end)) {
                (Ok(start), Ok(end)) => Ok(Span { start, end }),
                _ => Err(FunctionError::new(format!(
                    "an element of the time {at} has no window: it would begin or end outside of \
                     the range of 64-bit milliseconds"
                ))),
            }
        };
        match self {
            Self::Session { gap } => Ok(vec![span(wide, gap)?]),
            Self::Aligned { size, slide, offset } => {
                // Rounded down, before the epoch too.
                let last = wide - (wide - i128::from(offset)).rem_euclid(i128::from(slide));
                let count = (last + i128::from(size) - wide - 1).div_euclid(i128::from(slide));
                (0..=count).rev().map(|back| span(last - back * i128::from(slide), size)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(assigner: Assigner, at: i64, expected: &[(i64, i64)]) {
        let spans: Vec<_> =
            assigner.assign(at).unwrap().iter().map(|span| (span.start, span.end)).collect();
        assert_eq!(spans, expected, "{assigner:?} at {at}");
    }

    #[test]
    fn windows_of_one_size_begin_at_multiples_rounded_down() {
        let tumbling = |size, offset| Assigner::Aligned { size, slide: size, offset };
        check(tumbling(10, 0), 0, &[(0, 10)]);
        check(tumbling(10, 0), 9, &[(0, 10)]);
        check(tumbling(10, 0), -1, &[(-10, 0)]);
        check(tumbling(10, 0), -10, &[(-10, 0)]);
        check(tumbling(10, 3), 2, &[(-7, 3)]);
        check(tumbling(10, -3), -3, &[(-3, 7)]);
        check(tumbling(1, 0), i64::MAX - 1, &[(i64::MAX - 1, i64::MAX)]);
        check(tumbling(1, 0), i64::MIN, &[(i64::MIN, i64::MIN + 1)]);
        for (size, at) in [(10, i64::MAX), (10, i64::MIN), (1, i64::MAX)] {
            let error = tumbling(size, 0).assign(at).unwrap_err();
            assert!(error.message().starts_with(&format!("an element of the time {at} has no")));
        }
    }

    #[test]
    fn sliding_windows_overlap_and_need_not_divide_evenly() {
        let sliding = |size, slide, offset| Assigner::Aligned { size, slide, offset };
        check(sliding(10, 5, 0), 7, &[(0, 10), (5, 15)]);
        check(sliding(10, 5, 0), -1, &[(-10, 0), (-5, 5)]);
        check(sliding(10, 4, 0), 8, &[(0, 10), (4, 14), (8, 18)]);
        check(sliding(10, 4, 0), 11, &[(4, 14), (8, 18)]);
        check(sliding(10, 10, 2), 2, &[(2, 12)]);
    }

    #[test]
    fn sessions_that_touch_are_one() {
        check(Assigner::Session { gap: 10 }, -4, &[(-4, 6)]);
        let span = |start, end| Span { start, end };
        assert!(span(0, 10).touches(span(10, 20)) && span(10, 20).touches(span(0, 10)));
        assert!(!span(0, 10).touches(span(11, 21)));
        assert_eq!(span(0, 10).cover(span(5, 15)), span(0, 15));
        assert_eq!(span(0, 15).max_timestamp(), 14);
    }
}

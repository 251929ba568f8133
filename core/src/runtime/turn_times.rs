//! How long the turns of a shard take: while it takes one, it serves nobody else.
//!
//! The thread of a shard counts for itself and reads no clock for it but the two readings that tell
//! how busy it was. A turn that did nothing is left out, or the many of an idle shard would drown the
//! others; one that was long is never left out, whatever it did.

use std::time::Duration;

/// Upper bounds of the buckets of the time that a turn takes, in seconds.
pub const TURN_BOUNDS_SECONDS: [f64; 14] = [
    0.000_05,
    0.0001,
    0.000_25,
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.5,
    f64::INFINITY,
];

/// A turn as long as this counts even if it did nothing.
const LONG: Duration = Duration::from_micros(100);
/// The longest turn is told for as long as this, and for at most twice as long.
const SPAN: Duration = Duration::from_mins(1);

/// A histogram of how long turns took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TurnHistogram {
    /// How many fell into each bucket (not cumulative), in the order of [`TURN_BOUNDS_SECONDS`].
    pub counts: [u64; TURN_BOUNDS_SECONDS.len()],
    /// The sum of all, in seconds.
    pub sum_seconds: f64,
}

/// What a shard notes down of its turns.
#[derive(Debug, Default)]
pub(super) struct TurnTimes {
    histogram: TurnHistogram,
    /// The longest of this span and of the one before.
    longest: [Duration; 2],
    /// Which span it is, counted from the start.
    span: u128,
}

impl TurnTimes {
    /// A turn has ended so long after the start, and has taken so long.
    pub(super) fn note(&mut self, since_start: Duration, took: Duration, is_idle: bool) {
        let span = since_start.as_millis() / SPAN.as_millis();
        if span != self.span {
            let before = if span == self.span + 1 { self.longest[0] } else { Duration::ZERO };
            (self.longest, self.span) = ([Duration::ZERO, before], span);
        }
        if is_idle && took < LONG {
            return;
        }
        let seconds = took.as_secs_f64();
        let bucket = TURN_BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        self.histogram.counts[bucket.min(TURN_BOUNDS_SECONDS.len() - 1)] += 1;
        self.histogram.sum_seconds += seconds;
        self.longest[0] = self.longest[0].max(took);
    }

    /// All since the start.
    pub(super) fn histogram(&self) -> TurnHistogram {
        self.histogram
    }

    /// The longest of the last minute or two. Reading it takes it from nobody: whoever looks once a
    /// minute sees every one that there is, however many look.
    pub(super) fn longest(&self) -> Duration {
        self.longest[0].max(self.longest[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_turn_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let mut turns = TurnTimes::default();
        for took in [0, 50, 51, 5_000, 5_001, 500_001] {
            turns.note(SECOND, micros(took), false);
        }
        let mut expected = [0; TURN_BOUNDS_SECONDS.len()];
        (expected[0], expected[1], expected[7], expected[8], expected[13]) = (2, 1, 1, 1, 1);
        assert_eq!(turns.histogram().counts, expected);
        assert!((turns.histogram().sum_seconds - 0.510_103).abs() < 1e-9);
    }

    #[test]
    fn a_turn_that_did_nothing_counts_only_if_it_was_long() {
        let mut turns = TurnTimes::default();
        turns.note(SECOND, micros(99), true);
        assert_eq!((turns.histogram(), turns.longest()), Default::default());
        turns.note(SECOND, micros(100), true);
        assert_eq!((turns.histogram().counts[1], turns.longest()), (1, micros(100)));
    }

    #[test]
    fn the_longest_is_told_for_a_minute_and_then_forgotten() {
        let mut turns = TurnTimes::default();
        turns.note(59 * SECOND, micros(700), false);
        turns.note(60 * SECOND, micros(200), false);
        turns.note(119 * SECOND, micros(1), true);
        assert_eq!(turns.longest(), micros(700));
        turns.note(120 * SECOND, micros(1), true);
        assert_eq!(turns.longest(), micros(200));
        turns.note(240 * SECOND, micros(1), true);
        assert_eq!(turns.longest(), Duration::ZERO, "nothing was long for more than a minute");
    }
}

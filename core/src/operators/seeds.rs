//! Random histories for the tests of operators: a seed is a history; and keys that hold very much.

use crate::function::{
    CallAt, Element, Instance, Result, Scratch, StoredId, StoredTimers, process_element,
};
use crate::op::Payload;
use crate::time::{Domain, Timestamp};
use serde::Serialize;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A small random number generator (splitmix64).
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn of(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> i64 {
        (self.next() % bound) as i64
    }

    /// From `low` to `high`, both included.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    /// True once in so many times.
    pub(super) fn one_in(&mut self, times: i64) -> bool {
        self.between(1, times) == 1
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.between(0, from.len() as i64 - 1) as usize]
    }
}

/// Plays a history for each seed: a thousand, or as many as `STORMWHEEL_OPERATOR_SEEDS` says.
pub(super) fn for_each_seed(play: impl Fn(&mut Rng)) {
    for seed in 0..tests::seeds() {
        let played = catch_unwind(AssertUnwindSafe(|| play(&mut Rng::of(seed))));
        played.unwrap_or_else(|_| panic!("seed {seed}"));
    }
}

mod tests {
    #[allow(clippy::disallowed_methods, reason = "how long to play is the caller's choice")]
    pub(super) fn seeds() -> u64 {
        let seeds = std::env::var("STORMWHEEL_OPERATOR_SEEDS");
        seeds.map_or(1_000, |seeds| seeds.parse().expect("a number of seeds"))
    }
}

/// Lets an instance process an element of a key for which it keeps this.
pub(super) fn process_on<S: Serialize>(
    instance: &mut Instance,
    state: &S,
    value: &str,
) -> Result<()> {
    let version = vec![1];
    let state = postcard::to_extend(state, version)?;
    let timestamp = Timestamp::from_millis(0);
    let at = CallAt {
        key: b"k",
        timestamp,
        domain: None,
        watermark: None,
        processing_time: Some(timestamp),
        is_ending: false,
        lateness_ms: 0,
        state: Some(&state),
    };
    let element = Element { timestamp, input: 0, value: Payload::Json(value.as_bytes()) };
    process_element(instance, at, &NoTimers, &mut Scratch::default(), element)
}

struct NoTimers;

impl StoredTimers for NoTimers {
    fn find(&self, _: Domain, _: StoredId<'_>) -> Option<Timestamp> {
        None
    }

    fn for_each(&self, _: Domain, _: &mut dyn FnMut(Timestamp, Option<&str>)) {}

    fn count(&self) -> usize {
        0
    }
}

//! How many timers fall due in each step of time, moved with every change, so that nobody has to
//! scan for it.
//!
//! Steps near a moving base are counted in a ring (once there are enough of them to be worth one),
//! all others in an ordered map. The ring follows the time that passes.

use crate::query::FORECAST_STEP_MS;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::ops::Range;

/// Different steps that a small owner may have before it gets a ring.
const SPARSE_MAX: usize = 64;
/// Timers that an owner may have before it gets a ring, however few their steps are: from then on
/// the time that a search takes weighs more than the ring.
const SPARSE_TIMERS_MAX: u64 = 4_096;

/// See the module. Counts in steps of `STEP_MS` milliseconds; the ring covers `RING_STEPS` of them.
#[derive(Debug)]
pub(crate) struct DueCounts<const STEP_MS: i64, const RING_STEPS: usize> {
    /// The first step that the ring covers.
    base: i64,
    ring: Vec<u32>,
    sparse: BTreeMap<i64, u64>,
    total: u64,
}

impl<const STEP_MS: i64, const RING_STEPS: usize> Default for DueCounts<STEP_MS, RING_STEPS> {
    fn default() -> Self {
        // Places in the ring are then a mask, and steps a multiplication, away.
        const { assert!(RING_STEPS.is_power_of_two()) };
        Self { base: i64::MIN, ring: Vec::new(), sparse: BTreeMap::new(), total: 0 }
    }
}

impl<const STEP_MS: i64, const RING_STEPS: usize> DueCounts<STEP_MS, RING_STEPS> {
    /// All timers counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// One more timer at this time.
    #[inline]
    pub(crate) fn add(&mut self, time: Timestamp) {
        self.total += 1;
        let step = Self::step_of(time);
        if let Some(count) = self.ring_slot(step) {
            *count += 1;
            return;
        }
        self.add_sparse(step);
    }

    #[inline(never)]
    fn add_sparse(&mut self, step: i64) {
        *self.sparse.entry(step).or_default() += 1;
        let is_worth_it = self.sparse.len() > SPARSE_MAX || self.total > SPARSE_TIMERS_MAX;
        if self.ring.is_empty() && is_worth_it {
            self.open_ring();
        }
    }

    /// One timer less at this time.
    #[inline]
    pub(crate) fn remove(&mut self, time: Timestamp) {
        self.total -= 1;
        let step = Self::step_of(time);
        if let Some(count) = self.ring_slot(step) {
            *count -= 1;
            return;
        }
        self.remove_sparse(step);
    }

    #[inline(never)]
    fn remove_sparse(&mut self, step: i64) {
        let count = self.sparse.get_mut(&step).expect("a timer that goes was counted");
        *count -= 1;
        if *count == 0 {
            self.sparse.remove(&step);
        }
    }

    /// A timer that moves from one time to another.
    #[inline]
    pub(crate) fn shift(&mut self, from: Timestamp, to: Timestamp) {
        if Self::step_of(from) != Self::step_of(to) {
            self.remove(from);
            self.add(to);
        }
    }

    /// Lets the ring begin at this time, if it began earlier.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        let base = Self::step_of(now);
        if base <= self.base {
            return;
        }
        if self.ring.is_empty() {
            self.base = base;
            return;
        }
        let end = self.base.saturating_add(RING_STEPS as i64);
        let left_behind = self.base..base.min(end);
        for step in left_behind {
            let index = Self::ring_index(step);
            let count = std::mem::take(&mut self.ring[index]);
            if count > 0 {
                *self.sparse.entry(step).or_default() += count as u64;
            }
        }
        self.base = base;
        self.fill_ring();
    }

    /// How many timers are due in a range of steps: a range of whole multiples of the step.
    pub(crate) fn count(&self, steps: Range<i64>) -> u64 {
        if steps.is_empty() {
            return 0;
        }
        let mut count: u64 = self.sparse.range(steps.clone()).map(|(_, count)| count).sum();
        if !self.ring.is_empty() {
            let end = self.base.saturating_add(RING_STEPS as i64);
            for step in steps.start.max(self.base)..steps.end.min(end) {
                count += self.ring[Self::ring_index(step)] as u64;
            }
        }
        count
    }

    /// Which step a time belongs to.
    #[inline]
    pub(crate) fn step_of(time: Timestamp) -> i64 {
        time.as_millis().div_euclid(STEP_MS)
    }

    #[inline]
    fn ring_index(step: i64) -> usize {
        step.rem_euclid(RING_STEPS as i64) as usize
    }

    #[inline]
    fn ring_slot(&mut self, step: i64) -> Option<&mut u32> {
        // What lies before the base wraps around to far behind the end.
        let offset = step.wrapping_sub(self.base) as u64;
        if offset >= RING_STEPS as u64 {
            return None;
        }
        self.ring.get_mut(Self::ring_index(step))
    }

    fn open_ring(&mut self) {
        if self.base == i64::MIN {
            self.base = *self.sparse.keys().next().expect("there are more than a few");
        }
        self.ring = vec![0; RING_STEPS];
        self.fill_ring();
    }

    fn fill_ring(&mut self) {
        let end = self.base.saturating_add(RING_STEPS as i64);
        let inside: Vec<i64> = self.sparse.range(self.base..end).map(|(step, _)| *step).collect();
        for step in inside {
            let count = self.sparse.remove(&step).expect("it was just seen");
            let index = Self::ring_index(step);
            self.ring[index] += count as u32;
        }
    }
}

/// By second, for a day and a half: what a shard says of all its namespaces.
pub(crate) type SecondCounts = DueCounts<1_000, 131_072>;
/// By minute, for a day and a half: the forecast of one namespace on one lane.
pub(crate) type MinuteCounts = DueCounts<FORECAST_STEP_MS, 2_048>;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(i64),
        Remove(usize),
        Shift(usize, i64),
        Advance(i64),
    }

    fn times() -> impl Strategy<Value = i64> {
        prop_oneof![6 => -2_000..20_000i64, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => times().prop_map(Step::Add),
            2 => any::<usize>().prop_map(Step::Remove),
            2 => (any::<usize>(), times()).prop_map(|(n, t)| Step::Shift(n, t)),
            1 => times().prop_map(Step::Advance),
        ]
    }

    proptest! {
        #[test]
        fn counts_agree_with_a_list(steps in prop::collection::vec(steps(), 1..400)) {
            let mut counts = DueCounts::<10, 64>::default();
            let mut list: Vec<i64> = Vec::new();
            for step in steps {
                match step {
                    Step::Add(time) => {
                        counts.add(at(time));
                        list.push(time);
                    }
                    Step::Remove(n) if !list.is_empty() => {
                        let time = list.swap_remove(n % list.len());
                        counts.remove(at(time));
                    }
                    Step::Shift(n, to) if !list.is_empty() => {
                        let n = n % list.len();
                        counts.shift(at(list[n]), at(to));
                        list[n] = to;
                    }
                    Step::Advance(now) => counts.advance(at(now)),
                    Step::Remove(_) | Step::Shift(..) => {}
                }
            }
            prop_assert_eq!(counts.total(), list.len() as u64);
            for range in [-200..2_000, 0..1, 5..60, i64::MIN / 10..i64::MAX / 10 + 1] {
                let expected = list
                    .iter()
                    .filter(|time| range.contains(&time.div_euclid(10)))
                    .count() as u64;
                prop_assert_eq!(counts.count(range), expected);
            }
        }
    }

    #[test]
    fn a_ring_opens_only_for_many_different_steps_or_many_timers() {
        let mut counts = DueCounts::<10, 2_048>::default();
        for _ in 0..1_000 {
            counts.add(at(5));
        }
        assert!(counts.ring.is_empty());
        for step in 0..100 {
            counts.add(at(step * 10));
        }
        assert!(!counts.ring.is_empty());
        assert_eq!(counts.count(0..1), 1_001);
        assert_eq!(DueCounts::<10, 2_048>::step_of(at(-1)), -1);
        let mut counts = DueCounts::<10, 2_048>::default();
        for n in 0..=SPARSE_TIMERS_MAX {
            assert!(counts.ring.is_empty(), "{n}");
            counts.add(at(5));
        }
        assert!(!counts.ring.is_empty());
        assert_eq!(counts.count(0..1), SPARSE_TIMERS_MAX + 1);
    }
}

//! What a restart holds back: processing timers that fell due while nothing could fire, and that
//! are let go over the time that follows, or later by as long as nothing could fire.
//!
//! A timer's time is its identity, and never changes; held is when it is let go. That follows from
//! its time, the hash of its key, and this one note for a whole namespace on a lane, so it need
//! not be written down key by key. A key's timers are let go in their order: what stands behind a
//! held one waits for it.

use crate::namespace::OverduePolicy;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Restarts that are told apart; with more, the newest are taken together. Not the oldest: what
/// these let go later than before could pass by those behind them, and come out earlier.
const RESTARTS_MAX: usize = 8;

/// See the module. Made of what each restart holds back, the oldest first: each takes what those
/// before it let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Held(Vec<Hold>);

/// What one restart holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    /// What was to be let go at or below it is held.
    until: Timestamp,
    /// It is let go so much later, and not before the span.
    later_ms: i64,
    /// Where the span begins.
    span_from: Timestamp,
    /// How long it is. The hash of its key says where in the span a timer is let go.
    span_ms: i64,
}

impl Held {
    /// What a policy holds of what is due at `to`, after a time from `from` to `to` in which nothing
    /// could fire, beside what was held `before`. `None`: nothing.
    pub(crate) fn after(
        before: Option<&Self>,
        policy: OverduePolicy,
        from: Timestamp,
        to: Timestamp,
    ) -> Option<Self> {
        let mut it = before.cloned().unwrap_or(Self(Vec::new()));
        if it.last_release() <= from {
            // All of that was let go before the service went down.
            it.0.clear();
        }
        it.0.extend(Hold::new(policy, from, to));
        it.bounded()
    }

    /// What several lanes of one namespace hold, in one note for all of them. A lane notes a restart
    /// only if something was due on it then; what did not fall due in a restart, the note of that
    /// one does not touch. So each timer is let go as on its own lane, or later: where a lane had
    /// taken its newest restarts together, or where a restart ended a longer downtime on another lane,
    /// which had not decided about the one before.
    pub(crate) fn joined<'a>(lanes: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut holds: Vec<Hold> = lanes.flat_map(|held| &held.0).copied().collect();
        // By the time of the restart: each takes what those before it let go.
        holds.sort_unstable();
        holds.dedup_by(|newer, older| {
            let is_same = newer.until == older.until;
            if is_same {
                *older = older.beside(*newer);
            }
            is_same
        });
        Self(holds).bounded()
    }

    fn bounded(mut self) -> Option<Self> {
        while self.0.len() > RESTARTS_MAX
            && let (Some(newest), Some(last)) = (self.0.pop(), self.0.last_mut())
        {
            *last = last.with(newest);
        }
        (!self.0.is_empty()).then_some(self)
    }

    /// When a key is let go whose earliest timer stands at `time`: never before that.
    #[inline]
    pub(crate) fn release_at(&self, time: Timestamp, key_hash: u64) -> Timestamp {
        self.0.iter().fold(time, |time, hold| hold.release_at(time, key_hash))
    }

    /// Timers above it are not held.
    pub(crate) fn until(&self) -> Timestamp {
        self.0.last().map_or(Timestamp::MIN, |hold| hold.until)
    }

    /// Everything is let go by then.
    pub(crate) fn last_release(&self) -> Timestamp {
        self.0.iter().map(Hold::last_release).max().unwrap_or(Timestamp::MIN)
    }
}

impl Hold {
    fn new(policy: OverduePolicy, from: Timestamp, to: Timestamp) -> Option<Self> {
        let nothing = Self { until: to, later_ms: 0, span_from: Timestamp::MIN, span_ms: 0 };
        match policy {
            OverduePolicy::Fire | OverduePolicy::Drop => None,
            OverduePolicy::Spread { over_ms } => {
                Some(Self { span_from: to, span_ms: over_ms.max(0), ..nothing })
            }
            OverduePolicy::Shift => {
                Some(Self { later_ms: to.saturating_since(from).max(0), ..nothing })
            }
        }
    }

    /// Both in one, this the older: nothing is let go before it would be by one after the other.
    fn with(self, newer: Self) -> Self {
        Self {
            until: self.until.max(newer.until),
            later_ms: self.later_ms.saturating_add(newer.later_ms),
            span_from: newer.span_from.max(self.span_from.saturating_add(newer.later_ms)),
            span_ms: self.span_ms.max(newer.span_ms),
        }
    }

    /// What two lanes hold of the same restart: nothing is let go before it would be by either.
    fn beside(self, other: Self) -> Self {
        Self {
            until: self.until,
            later_ms: self.later_ms.max(other.later_ms),
            span_from: self.span_from.max(other.span_from),
            span_ms: self.span_ms.max(other.span_ms),
        }
    }

    #[inline]
    fn release_at(&self, time: Timestamp, key_hash: u64) -> Timestamp {
        if time > self.until {
            return time;
        }
        // The high bits: the low ones say which key group it is. A longer span moves no key earlier.
        let share = (u128::from(key_hash) * (self.span_ms as u128 + 1)) >> 64;
        let in_span = self.span_from.saturating_add(share as i64);
        time.saturating_add(self.later_ms).max(in_span)
    }

    fn last_release(&self) -> Timestamp {
        let later = self.until.saturating_add(self.later_ms);
        later.max(self.span_from.saturating_add(self.span_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_group::xxh3_64;
    use proptest::prelude::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn policies() -> impl Strategy<Value = OverduePolicy> {
        prop_oneof![
            (0..5_000i64).prop_map(|over_ms| OverduePolicy::Spread { over_ms }),
            Just(OverduePolicy::Shift),
        ]
    }

    proptest! {
        #[test]
        fn one_restart_more_lets_nothing_go_earlier(
            downs in prop::collection::vec((policies(), 0..900i64, 0..900i64), 1..20),
            time in prop_oneof![-100..9_000i64, any::<i64>()],
            key in any::<u64>(),
        ) {
            let (time, hash) = (at(time), xxh3_64(&key.to_le_bytes()));
            let mut held: Option<Held> = None;
            let mut now = 0;
            for (policy, up_ms, down_ms) in downs {
                let (from, to) = (at(now + up_ms), at(now + up_ms + down_ms));
                now += up_ms + down_ms;
                let release_by = |held: &Held| held.release_at(time, hash);
                let before = held.as_ref().map_or(time, release_by);
                let next = Held::after(held.as_ref(), policy, from, to).expect("it holds");
                let release = release_by(&next);
                // What was let go before the service went down is not there any more.
                if before > from {
                    prop_assert!(release >= time && release >= before);
                    let alone = Held::after(None, policy, from, to).expect("it holds");
                    let expected = if before <= to { alone.release_at(before, hash) } else { before };
                    prop_assert!(release >= expected);
                    prop_assert!(release == expected || next.0.len() == RESTARTS_MAX);
                }
                prop_assert!(time > next.until() || release <= next.last_release());
                held = Some(next);
            }
        }
    }

    proptest! {
        #[test]
        fn what_the_lanes_hold_joined_lets_nothing_go_earlier_than_its_lane(
            downs in prop::collection::vec((policies(), 0..900i64, 1..900i64), 1..16),
            timers in prop::collection::vec((0..4usize, 0..9_000i64, any::<u64>()), 1..40),
        ) {
            let mut lanes: [Option<Held>; 4] = Default::default();
            let timers = timers.iter().map(|(lane, time, key)| {
                (*lane, at(*time), xxh3_64(&key.to_le_bytes()))
            });
            let mut timers: Vec<(usize, Timestamp, u64)> = timers.collect();
            let release = |held: &Option<Held>, time: Timestamp, hash: u64| {
                held.as_ref().map_or(time, |held| held.release_at(time, hash))
            };
            let (mut now, mut was_bounded) = (0, false);
            for (policy, up_ms, down_ms) in downs {
                let (from, to) = (at(now + up_ms), at(now + up_ms + down_ms));
                now += up_ms + down_ms;
                // What was let go before the service went down is not there any more.
                timers.retain(|(lane, time, hash)| release(&lanes[*lane], *time, *hash) > from);
                for (index, held) in lanes.iter_mut().enumerate() {
                    let mut own = timers.iter().filter(|it| it.0 == index);
                    let is_due = own.any(|(_, time, hash)| release(held, *time, *hash) <= to);
                    if is_due {
                        *held = Held::after(held.as_ref(), policy, from, to);
                    }
                    was_bounded |= held.as_ref().is_some_and(|it| it.0.len() == RESTARTS_MAX);
                }
            }
            let joined = Held::joined(lanes.iter().flatten());
            was_bounded |= joined.as_ref().is_some_and(|it| it.0.len() == RESTARTS_MAX);
            prop_assert!(joined.as_ref().is_none_or(|it| it.0.len() <= RESTARTS_MAX));
            for (lane, time, hash) in timers {
                let alone = release(&lanes[lane], time, hash);
                if alone > at(now) {
                    let together = release(&joined, time, hash);
                    prop_assert!(together == alone || (was_bounded && together > alone));
                }
            }
        }
    }

    #[test]
    fn lanes_that_met_different_restarts_hold_together_what_each_holds_of_its_keys() {
        let policy = OverduePolicy::Spread { over_ms: 1_000 };
        let first = Held::after(None, policy, at(0), at(100));
        let second = Held::after(None, policy, at(200), at(300));
        let both = Held::after(first.as_ref(), policy, at(200), at(300)).expect("it holds");
        let merged = |lanes: &[&Option<Held>]| Held::joined(lanes.iter().copied().flatten());
        for lanes in [[&first, &second], [&second, &first]] {
            assert_eq!(merged(&lanes).as_ref(), Some(&both));
        }
        assert_eq!(merged(&[&None, &Some(both.clone()), &second]), Some(both.clone()));
        assert_eq!(merged(&[&None]), None);
        // The first half of the keys were let go before the second restart. What is left of the lane
        // of the first goes when it was to go, what the other lane has when that said.
        for hash in (1..64).map(|n: u64| n << 58) {
            let [alone, later] = [&first, &second].map(|held| held.as_ref().expect("it holds"));
            let release = alone.release_at(at(50), hash);
            if release > at(300) {
                assert_eq!(both.release_at(at(50), hash), release);
            }
            assert_eq!(both.release_at(at(250), hash), later.release_at(at(250), hash));
        }
    }

    #[test]
    fn a_restart_that_was_longer_on_one_lane_shifts_once_where_lanes_are_joined() {
        let short = Held::after(None, OverduePolicy::Shift, at(200), at(300));
        let long = Held::after(None, OverduePolicy::Shift, at(50), at(300));
        for lanes in [[&short, &long], [&long, &short]] {
            let both = Held::joined(lanes.into_iter().flatten()).expect("it holds");
            for (time, release) in [(40, 290), (250, 500), (301, 301)] {
                assert_eq!(both.release_at(at(time), 0), at(release));
            }
        }
    }

    #[test]
    fn a_spread_is_even_over_its_span_in_every_key_group() {
        let policy = OverduePolicy::Spread { over_ms: 9 };
        let held = Held::after(None, policy, at(0), at(100)).expect("it holds something");
        assert_eq!(held.last_release(), at(109));
        let mut counts = [0; 10];
        let hashes = (0..1_000_000u64).map(|n| xxh3_64(&n.to_le_bytes()));
        for hash in hashes.filter(|hash| hash % 128 == 5) {
            assert_eq!(held.release_at(at(101), hash), at(101));
            counts[held.release_at(at(50), hash).saturating_since(at(100)) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (600..1_000).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_shift_is_as_long_as_the_time_that_was_lost() {
        let held = Held::after(None, OverduePolicy::Shift, at(40), at(100)).expect("it holds");
        for (time, release) in [(30, 90), (41, 101), (100, 160), (101, 101)] {
            assert_eq!(held.release_at(at(time), u64::MAX), at(release));
        }
        assert_eq!(held.last_release(), at(160));
        let held = Held::after(None, OverduePolicy::Shift, at(40), Timestamp::MAX);
        let held = held.expect("it holds");
        assert_eq!(held.release_at(Timestamp::MAX, 0), Timestamp::MAX);
        for policy in [OverduePolicy::Fire, OverduePolicy::Drop] {
            assert_eq!(Held::after(None, policy, at(40), at(100)), None);
        }
    }
}

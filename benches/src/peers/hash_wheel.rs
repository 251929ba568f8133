//! The wheel of `hierarchical_hash_wheel_timer` that can cancel, which has a map of its own.
//!
//! A timer that is registered again takes the place of the one before it, which stays in the wheel
//! until its time comes, as what is cancelled does: memory follows the traffic, not the timers.

use super::{Millis, Peer};
use hierarchical_hash_wheel_timer::wheels::Skip;
use hierarchical_hash_wheel_timer::wheels::cancellable::{
    CancellableTimerEntry, QuadWheelWithOverflow,
};
use std::rc::Rc;
use std::time::Duration;

/// In the id of a timer that heartbeats move, for its time.
const MOVES: Millis = Millis::MAX;

#[derive(Debug)]
struct Timer<const K: usize>(([u8; K], Millis));

impl<const K: usize> CancellableTimerEntry for Timer<K> {
    type Id = ([u8; K], Millis);

    fn id(&self) -> &Self::Id {
        &self.0
    }
}

/// See the module.
#[derive(Default)]
pub struct Timers<const K: usize> {
    wheel: QuadWheelWithOverflow<Timer<K>>,
    now: Millis,
}

impl<const K: usize> Timers<K> {
    fn insert(&mut self, id: ([u8; K], Millis), at: Millis) {
        let delay = Duration::from_millis(u64::from(at - self.now));
        let inserted = self.wheel.insert_ref_with_delay(Rc::new(Timer(id)), delay);
        assert!(inserted.is_ok(), "it is due later than now");
    }
}

impl<const K: usize> Peer<K> for Timers<K> {
    fn register(&mut self, key: [u8; K], at: Millis) {
        self.insert((key, at), at);
    }

    fn cancel(&mut self, key: [u8; K], at: Millis) {
        // It may have fired: that is no error here.
        let _ = self.wheel.cancel(&(key, at));
    }

    fn touch(&mut self, key: [u8; K], _before: Option<Millis>, at: Millis) {
        self.insert((key, MOVES), at);
    }

    fn advance(&mut self, to: Millis, mut fired: impl FnMut(&[u8; K])) -> usize {
        let mut count = 0;
        while self.now < to {
            let skipped = match self.wheel.can_skip() {
                Skip::None => 0,
                Skip::Millis(millis) => millis.min(to - self.now),
                Skip::Empty => to - self.now,
            };
            self.wheel.skip(skipped);
            self.now += skipped;
            if self.now < to {
                self.now += 1;
                for timer in self.wheel.tick() {
                    fired(&timer.0.0);
                    count += 1;
                }
            }
        }
        count
    }
}

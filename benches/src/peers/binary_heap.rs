//! The standard library's heap of (time, key), and a set of those that live.
//!
//! What is cancelled leaves the set and stays in the heap until it comes up: memory follows the
//! traffic, not the timers.

use super::{Millis, Peer, hasher};
use ahash::RandomState;
use hashbrown::HashSet;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// See the module.
#[derive(Debug)]
pub struct Timers<const K: usize> {
    heap: BinaryHeap<Reverse<(Millis, [u8; K])>>,
    living: HashSet<(Millis, [u8; K]), RandomState>,
}

impl<const K: usize> Default for Timers<K> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), living: HashSet::with_hasher(hasher()) }
    }
}

impl<const K: usize> Peer<K> for Timers<K> {
    fn register(&mut self, key: [u8; K], at: Millis) {
        if self.living.insert((at, key)) {
            self.heap.push(Reverse((at, key)));
        }
    }

    fn cancel(&mut self, key: [u8; K], at: Millis) {
        self.living.remove(&(at, key));
    }

    fn touch(&mut self, key: [u8; K], before: Option<Millis>, at: Millis) {
        if let Some(before) = before {
            self.living.remove(&(before, key));
        }
        self.register(key, at);
    }

    fn advance(&mut self, to: Millis, mut fired: impl FnMut(&[u8; K])) -> usize {
        let mut count = 0;
        while let Some(first) = self.heap.peek()
            && first.0.0 <= to
            && let Some(Reverse(timer)) = self.heap.pop()
        {
            if self.living.remove(&timer) {
                fired(&timer.1);
                count += 1;
            }
        }
        count
    }
}

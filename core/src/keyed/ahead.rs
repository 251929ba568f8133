//! Looking ahead. What an operation needs of its key lies in three places, each told by the one
//! before: a bucket of the table, a slot, and what the slot links to. Operations on their way ask for
//! them one after the other, and while one waits for memory, those before it are applied.
//!
//! Nothing but speed depends on it: a guess may be wrong, and what was asked for may have moved by
//! the time it is used.

use super::{BucketIndex, KeyTable, Pools, SlotIndex};
use std::collections::VecDeque;

/// Operations on their way.
#[derive(Debug)]
pub(crate) struct Ahead<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Of those that wait: how many have asked for everything, and how many for their slot.
    linked: usize,
    guessed: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    it: T,
    hash: u64,
    /// The bucket, then the slot that it asks for.
    bucket: Option<BucketIndex>,
    guess: Option<SlotIndex>,
}

impl<T> Ahead<T> {
    /// Operations that take a step together.
    pub(crate) const STEP: usize = 16;

    pub(crate) fn new() -> Self {
        Self { waiting: VecDeque::with_capacity(4 * Self::STEP), linked: 0, guessed: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sets an operation on its way: asks for the bucket. `table` is where its key would be.
    #[inline]
    pub(crate) fn push(&mut self, pools: &Pools, table: Option<&KeyTable>, it: T, hash: u64) {
        let bucket = table.and_then(|table| pools.prefetch_table(table, hash));
        self.waiting.push_back(Waiting { it, hash, bucket, guess: None });
    }

    /// Everybody asks for the next thing, with [`Ahead::STEP`] that come and go between two calls.
    /// Returns how many had asked for everything before: they have it by now.
    #[inline]
    pub(crate) fn ask(&mut self, pools: &Pools) -> usize {
        let ready = self.linked;
        for waiting in self.waiting.range(self.linked..self.guessed) {
            if let Some(slot) = waiting.guess {
                pools.prefetch_links(slot);
            }
        }
        for waiting in self.waiting.range_mut(self.guessed..) {
            let hash = waiting.hash;
            waiting.guess = waiting.bucket.and_then(|bucket| pools.prefetch_guess(bucket, hash));
        }
        self.linked = self.guessed;
        self.guessed = self.waiting.len();
        ready
    }

    /// Takes the first one off, with the hash of its key.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(T, u64)> {
        let Waiting { it, hash, .. } = self.waiting.pop_front()?;
        self.linked = self.linked.saturating_sub(1);
        self.guessed = self.guessed.saturating_sub(1);
        Some((it, hash))
    }
}

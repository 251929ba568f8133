//! Looking ahead. What an operation needs of its key lies in three places, each told by the one
//! before: a bucket of the table, a slot, and what the slot links to. Operations on their way ask for
//! them one after the other, and while one waits for memory, those before it are applied.
//!
//! They go in batches: each step, a fresh batch has asked for its buckets, the one before it asks
//! for slots, the one before that for links, and the oldest has everything.
//!
//! Nothing but speed depends on it: a guess may be wrong, and what was asked for may have moved by
//! the time it is used.

use super::{BucketIndex, KeyTable, Pools, SlotIndex};

/// Operations on their way.
#[derive(Debug)]
pub(crate) struct Ahead<T> {
    /// Those that have asked for their bucket, for their slot too, and for everything.
    batches: [Vec<OnItsWay<T>>; 3],
}

/// An operation on its way.
#[derive(Debug)]
pub(crate) struct OnItsWay<T> {
    pub(crate) it: T,
    /// The hash of its key.
    pub(crate) hash: u64,
    /// The bucket, then the slot that it asks for.
    bucket: Option<BucketIndex>,
    guess: Option<SlotIndex>,
}

impl<T> Ahead<T> {
    /// Operations that take a step together.
    pub(crate) const STEP: usize = 16;

    pub(crate) fn new() -> Self {
        Self { batches: [const { Vec::new() }; 3] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.iter().all(Vec::is_empty)
    }

    /// Sets an operation on its way: asks for the bucket. `table` is where its key would be.
    #[inline]
    pub(crate) fn push(&mut self, pools: &Pools, table: Option<&KeyTable>, it: T, hash: u64) {
        let bucket = table.and_then(|table| pools.prefetch_table(table, hash));
        self.batches[0].push(OnItsWay { it, hash, bucket, guess: None });
    }

    /// Everybody asks for the next thing. `ready` becomes the batch that had asked for everything
    /// before: it has it by now. What was in it is gone.
    #[inline]
    pub(crate) fn step(&mut self, pools: &Pools, ready: &mut Vec<OnItsWay<T>>) {
        let [fresh, guessed, linked] = &mut self.batches;
        for way in &*guessed {
            if let Some(slot) = way.guess {
                pools.prefetch_links(slot);
            }
        }
        for way in &mut *fresh {
            let hash = way.hash;
            way.guess = way.bucket.and_then(|bucket| pools.prefetch_guess(bucket, hash));
        }
        ready.clear();
        std::mem::swap(ready, linked);
        std::mem::swap(linked, guessed);
        std::mem::swap(guessed, fresh);
        fresh.reserve(Self::STEP);
    }
}

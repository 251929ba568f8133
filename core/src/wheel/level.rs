//! One level of a wheel: 64 buckets, and bitmaps that say which of them are worth a look.
//!
//! A bucket knows the earliest time that was ever put into it, and whether all its entries have
//! that time. Of a later entry it keeps the slot and the low half of the time: up to level 5 the
//! bucket's place tells the rest, above it only the owner can.

use super::pool::{EntryPool, List};

/// log2 of the buckets in a level.
pub(super) const LEVEL_BITS: u32 = 6;
/// Buckets in a level: as many as an occupancy bitmap has bits.
pub(super) const BUCKETS: usize = 1 << LEVEL_BITS;
/// Enough levels for all 64 bits of a time. With fewer, the first time past the last level's
/// boundary would land in the wrong bucket.
pub(super) const LEVELS: usize = u64::BITS.div_ceil(LEVEL_BITS) as usize;
/// From this level on, a bucket spans more than the 32 bits of the time that an entry keeps.
pub(super) const FIRST_OPAQUE_LEVEL: usize = (u32::BITS / LEVEL_BITS + 1) as usize;

/// Where something is: a level, and the number of a bucket in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) level: usize,
    pub(super) index: usize,
}

impl Place {
    /// The bucket for `time`, seen from `base` ≤ `time`: its level is the highest digit (of 6 bits)
    /// in which the two differ, its number is that digit of `time`.
    #[inline]
    pub(super) fn of(time: u64, base: u64) -> Self {
        let difference = (time ^ base) | (BUCKETS as u64 - 1);
        let level = (u64::BITS - 1 - difference.leading_zeros()) / LEVEL_BITS;
        let index = (time >> (level * LEVEL_BITS)) as usize % BUCKETS;
        Self { level: level as usize, index }
    }

    /// The first time of this bucket, seen from `base`.
    pub(super) fn start(self, base: u64) -> u64 {
        let shift = self.level as u32 * LEVEL_BITS;
        let kept = u64::MAX.checked_shl(shift + LEVEL_BITS).unwrap_or(0);
        (base & kept) | (self.index as u64) << shift
    }

    /// The last time of this bucket, seen from `base`.
    pub(super) fn end(self, base: u64) -> u64 {
        self.start(base) | ((1 << (self.level as u32 * LEVEL_BITS)) - 1)
    }
}

/// Packs an entry: the slot, and the low half of its time.
#[inline]
pub(super) fn pack(time: u64, slot: u32) -> u64 {
    u64::from(slot) << 32 | u64::from(time as u32)
}

/// The slot of an entry.
#[inline]
pub(super) fn slot_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Bucket {
    /// The earliest time put here since the bucket was last empty.
    pub(super) first: u64,
    pub(super) list: List,
    /// How many of the entries the owner no longer means: never more than there really are.
    pub(super) stranded: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Level {
    /// Buckets that hold entries (or lent all of theirs to the sweep).
    pub(super) occupied: u64,
    /// Occupied buckets whose entries were seen to differ in time.
    pub(super) mixed: u64,
    /// Buckets in line for a sweep.
    pub(super) lined_up: u64,
    pub(super) buckets: [Bucket; BUCKETS],
}

impl Level {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self { occupied: 0, mixed: 0, lined_up: 0, buckets: [Bucket::default(); BUCKETS] })
    }

    /// Adds an entry; whether its bucket was empty. What seldom changes is only read here: a write
    /// would make each insert wait for the one before.
    #[inline]
    pub(super) fn insert(
        &mut self,
        pool: &mut EntryPool,
        index: usize,
        time: u64,
        slot: u32,
    ) -> bool {
        let bit = 1 << index;
        let bucket = &mut self.buckets[index];
        let was_empty = self.occupied & bit == 0;
        if was_empty {
            self.occupied |= bit;
            bucket.first = time;
        } else if time != bucket.first {
            if self.mixed & bit == 0 {
                self.mixed |= bit;
            }
            if time < bucket.first {
                bucket.first = time;
            }
        }
        bucket.list.push(pool, pack(time, slot));
        was_empty
    }

    /// Empties a bucket; the caller has taken its list, or frees it.
    pub(super) fn vacate(&mut self, index: usize) -> Bucket {
        let bit = 1 << index;
        self.occupied &= !bit;
        self.mixed &= !bit;
        self.lined_up &= !bit;
        std::mem::take(&mut self.buckets[index])
    }
}

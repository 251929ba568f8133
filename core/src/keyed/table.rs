//! The key table of one partition: from a key to its slot.
//!
//! Linear hashing (Litwin 1980): one bucket is split at a time, in order, so that the table grows
//! with its keys and no insertion ever pays for more than one bucket. A bucket is one cache line:
//! twelve one-byte tags, twelve slot numbers, and the number of an overflow bucket.
//!
//! ```text
//!  0           12          60         64
//!  | tag × 12  | slot × 12 | overflow |
//! ```
//!
//! The partition comes from the low bits of the hash (modulo), the bucket from bits 16 and up, the
//! tag from the top byte: three different sets of bits, or all keys of a partition would look alike.

use super::bytes::BytesPool;
use super::segments::Segments;
use super::slot::{SlotIndex, SlotPool};
use crate::prefetch::prefetch;
use bytemuck::Zeroable;

const CELLS: usize = 12;
/// Keys a bucket, on the average, before the next one is split. While a round of splits is under
/// way the buckets still to be split hold up to twice as many as those that were.
const FILL: usize = 7;
const TAG_EMPTY: u8 = 0;
const HASH_SHIFT: u32 = 16;

#[derive(Debug, Clone, Copy, Zeroable)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u8; CELLS],
    slots: [u32; CELLS],
    /// Index of an overflow bucket plus one; 0: none.
    overflow: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// A bit for each cell whose tag may be `tag`: every true match, and now and then a false one.
    #[inline]
    fn candidates(&self, tag: u8) -> Candidates {
        const LOW: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        let zero_bytes = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
        let t = &self.tags;
        let first = u64::from_le_bytes([t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]]);
        let second = u32::from_le_bytes([t[8], t[9], t[10], t[11]]);
        let pattern = LOW * tag as u64;
        let first = zero_bytes(first ^ pattern);
        // The upper half of the second word is cut off: its bytes are no cells.
        let second = zero_bytes(second as u64 ^ pattern) & (HIGH >> 32);
        Candidates { first, second }
    }

    /// The overflow bucket behind this one.
    #[inline]
    fn next(&self) -> Option<Place> {
        (self.overflow != 0).then(|| Place::Overflow(self.overflow as usize - 1))
    }

    fn put(&mut self, tag: u8, slot: SlotIndex) -> bool {
        let Some(cell) = self.tags.iter().position(|t| *t == TAG_EMPTY) else {
            return false;
        };
        self.tags[cell] = tag;
        self.slots[cell] = slot.0;
        true
    }
}

/// Where a bucket is kept.
#[derive(Debug, Clone, Copy)]
enum Place {
    Home(usize),
    Overflow(usize),
}

/// Cells of a bucket worth a look.
struct Candidates {
    first: u64,
    second: u64,
}

impl Iterator for Candidates {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.first != 0 {
            let cell = self.first.trailing_zeros() as usize / 8;
            self.first &= self.first - 1;
            return Some(cell);
        }
        if self.second != 0 {
            let cell = 8 + self.second.trailing_zeros() as usize / 8;
            self.second &= self.second - 1;
            return Some(cell);
        }
        None
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    buckets: Segments<Bucket, 1>,
    overflow: Vec<Bucket>,
    overflow_free: Vec<u32>,
    len: usize,
}

#[inline]
fn tag_of(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(1)
}

impl KeyTable {
    /// How many keys it holds.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn bucket_of(&self, hash: u64) -> usize {
        let buckets = self.buckets.len();
        let place = (hash >> HASH_SHIFT) as usize;
        let mask = buckets.next_power_of_two() - 1;
        let index = place & mask;
        if index < buckets { index } else { index & (mask >> 1) }
    }

    /// Asks for the line of the bucket where a key of this hash would be.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if self.buckets.len() > 0 {
            prefetch(self.buckets.get(self.bucket_of(hash)));
        }
    }

    /// The first slot whose tag matches, for its line to be asked for early.
    #[inline]
    pub(crate) fn guess(&self, hash: u64) -> Option<SlotIndex> {
        if self.buckets.len() == 0 {
            return None;
        }
        let bucket = self.buckets.get(self.bucket_of(hash));
        let cell = bucket.candidates(tag_of(hash)).next()?;
        Some(SlotIndex(bucket.slots[cell]))
    }

    /// The slot of a key.
    #[inline]
    pub(crate) fn find(
        &self,
        slots: &SlotPool,
        bytes: &BytesPool,
        key: &[u8],
        hash: u64,
    ) -> Option<SlotIndex> {
        if self.len == 0 {
            return None;
        }
        let tag = tag_of(hash);
        let mut bucket = self.buckets.get(self.bucket_of(hash));
        loop {
            for cell in bucket.candidates(tag) {
                let slot = SlotIndex(bucket.slots[cell]);
                if slots.holds(bytes, slot, key, hash) {
                    return Some(slot);
                }
            }
            if bucket.overflow == 0 {
                return None;
            }
            bucket = &self.overflow[bucket.overflow as usize - 1];
        }
    }

    /// Whether a slot whose key has this hash is in the table.
    #[inline]
    pub(crate) fn contains(&self, hash: u64, slot: SlotIndex) -> bool {
        if self.len == 0 {
            return false;
        }
        let tag = tag_of(hash);
        let mut bucket = self.buckets.get(self.bucket_of(hash));
        loop {
            let is_it = |cell: usize| bucket.tags[cell] == tag && bucket.slots[cell] == slot.0;
            if bucket.candidates(tag).any(is_it) {
                return true;
            }
            if bucket.overflow == 0 {
                return false;
            }
            bucket = &self.overflow[bucket.overflow as usize - 1];
        }
    }

    /// Adds a slot. Its key must not be in the table.
    #[inline]
    pub(crate) fn insert(&mut self, slots: &SlotPool, hash: u64, slot: SlotIndex) {
        if self.len >= self.buckets.len() * FILL {
            self.grow(slots);
        }
        let index = self.bucket_of(hash);
        self.put(index, tag_of(hash), slot);
        self.len += 1;
    }

    /// Removes a slot that is in the table.
    #[inline]
    pub(crate) fn remove(&mut self, hash: u64, slot: SlotIndex) {
        let index = self.bucket_of(hash);
        let mut place = Place::Home(index);
        loop {
            let bucket = self.at_mut(place);
            let tag = tag_of(hash);
            // The tag is compared in full: a candidate may be a cell that was emptied.
            let is_it = |cell: &usize| bucket.tags[*cell] == tag && bucket.slots[*cell] == slot.0;
            if let Some(cell) = bucket.candidates(tag).find(is_it) {
                bucket.tags[cell] = TAG_EMPTY;
                self.len -= 1;
                return;
            }
            place = bucket.next().expect("a slot that is removed is in the table");
        }
    }

    /// All slots, in no order that means anything.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = SlotIndex> {
        (0..self.buckets.len())
            .map(|index| self.buckets.get(index))
            .chain(&self.overflow)
            .flat_map(|bucket| bucket.tags.iter().zip(&bucket.slots))
            .filter(|(tag, _)| **tag != TAG_EMPTY)
            .map(|(_, slot)| SlotIndex(*slot))
    }

    /// How many steps of [`KeyTable::visit`] walk the whole table, as it is now.
    pub(crate) fn visit_len(&self) -> usize {
        self.buckets.len()
    }

    /// Calls `each` for the slots of one bucket and its overflow.
    pub(crate) fn visit(&self, bucket: usize, mut each: impl FnMut(SlotIndex)) {
        let mut bucket = self.buckets.get(bucket);
        loop {
            for (tag, slot) in bucket.tags.iter().zip(&bucket.slots) {
                if *tag != TAG_EMPTY {
                    each(SlotIndex(*slot));
                }
            }
            if bucket.overflow == 0 {
                return;
            }
            bucket = &self.overflow[bucket.overflow as usize - 1];
        }
    }

    /// Bytes of its buckets.
    pub(crate) fn bytes(&self) -> usize {
        self.buckets.bytes() + self.overflow.capacity() * size_of::<Bucket>()
    }

    #[inline]
    fn at_mut(&mut self, place: Place) -> &mut Bucket {
        match place {
            Place::Home(index) => self.buckets.get_mut(index),
            Place::Overflow(index) => &mut self.overflow[index],
        }
    }

    fn put(&mut self, index: usize, tag: u8, slot: SlotIndex) {
        let mut place = Some(Place::Home(index));
        while let Some(here) = place {
            let bucket = self.at_mut(here);
            if bucket.put(tag, slot) {
                return;
            }
            place = bucket.next();
        }
        let mut fresh = Bucket::zeroed();
        fresh.put(tag, slot);
        let home = self.buckets.get_mut(index);
        fresh.overflow = home.overflow;
        if let Some(free) = self.overflow_free.pop() {
            home.overflow = free + 1;
            self.overflow[free as usize] = fresh;
        } else {
            home.overflow = self.overflow.len() as u32 + 1;
            self.overflow.push(fresh);
        }
    }

    /// Buckets are split in order, so it is known what the splits after the one of `old` will need:
    /// the slots of the next bucket, and the line of the one behind it.
    fn prefetch_splits(&self, slots: &SlotPool, old: usize) {
        if old + 2 >= self.buckets.len() {
            return;
        }
        let next = self.buckets.get(old + 1);
        for (tag, slot) in next.tags.iter().zip(&next.slots) {
            if *tag != TAG_EMPTY {
                prefetch(slots.get(SlotIndex(*slot)));
            }
        }
        prefetch(self.buckets.get(old + 2));
    }

    /// Adds a bucket and moves into it what belongs there from the one it is split off.
    fn grow(&mut self, slots: &SlotPool) {
        let new = self.buckets.push(Bucket::zeroed());
        if new == 0 {
            return;
        }
        let old = new - (1 << new.ilog2());
        self.prefetch_splits(slots, old);
        let mut chain = *self.buckets.get(old);
        *self.buckets.get_mut(old) = Bucket::zeroed();
        loop {
            for (tag, slot) in chain.tags.iter().zip(&chain.slots) {
                if *tag != TAG_EMPTY {
                    let slot = SlotIndex(*slot);
                    let index = self.bucket_of(slots.hash(slot));
                    debug_assert!(index == old || index == new);
                    self.put(index, *tag, slot);
                }
            }
            if chain.overflow == 0 {
                return;
            }
            let next = chain.overflow - 1;
            chain = std::mem::replace(&mut self.overflow[next as usize], Bucket::zeroed());
            self.overflow_free.push(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_group::xxh3_64;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct World {
        slots: SlotPool,
        bytes: BytesPool,
        table: KeyTable,
        oracle: BTreeMap<Vec<u8>, SlotIndex>,
    }

    impl World {
        fn find(&self, key: &[u8]) -> Option<SlotIndex> {
            self.table.find(&self.slots, &self.bytes, key, xxh3_64(key))
        }

        fn toggle(&mut self, key: &[u8]) {
            let hash = xxh3_64(key);
            if let Some(slot) = self.oracle.remove(key) {
                assert_eq!(self.find(key), Some(slot));
                self.table.remove(hash, slot);
                self.slots.release(&mut self.bytes, slot);
            } else {
                assert_eq!(self.find(key), None);
                let slot = self.slots.take(&mut self.bytes, key, hash);
                self.table.insert(&self.slots, hash, slot);
                self.oracle.insert(key.to_vec(), slot);
            }
        }

        fn check(&self) {
            assert_eq!(self.table.len(), self.oracle.len());
            for (key, slot) in &self.oracle {
                assert_eq!(self.find(key), Some(*slot));
                assert!(self.table.contains(xxh3_64(key), *slot));
                assert!(!self.table.contains(xxh3_64(key), SlotIndex(u32::MAX)));
            }
            let mut all: Vec<_> = self.table.iter().collect();
            let mut visited = Vec::new();
            for bucket in 0..self.table.visit_len() {
                self.table.visit(bucket, |slot| visited.push(slot));
            }
            let mut expected: Vec<_> = self.oracle.values().copied().collect();
            all.sort_unstable();
            visited.sort_unstable();
            expected.sort_unstable();
            assert_eq!(all, expected);
            assert_eq!(visited, expected);
        }
    }

    #[test]
    fn it_grows_bucket_by_bucket_and_shrinks_to_nothing() {
        let mut world = World::default();
        for n in 0..20_000u32 {
            world.toggle(format!("key-{n}").as_bytes());
        }
        world.check();
        let guessed = world.oracle.iter().filter(|(key, slot)| {
            world.table.prefetch(xxh3_64(key));
            world.table.guess(xxh3_64(key)) == Some(**slot)
        });
        assert!(guessed.count() > 15_000, "most slots are asked for in time");
        let bytes_a_key = world.table.bytes() as f64 / 20_000.0;
        assert!(bytes_a_key < 14.0, "{bytes_a_key} bytes a key");
        for n in 0..20_000u32 {
            world.toggle(format!("key-{n}").as_bytes());
        }
        world.check();
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map(keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..400)) {
            let mut world = World::default();
            for key in &keys {
                world.toggle(key);
            }
            world.check();
            for key in &keys {
                world.toggle(&key[..key.len().div_ceil(2)]);
            }
            world.check();
        }
    }
}

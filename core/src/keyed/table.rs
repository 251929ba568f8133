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
use super::region::{Region, stretch_of};
use super::slot::{SlotIndex, SlotPool};
use crate::prefetch::prefetch;
use bytemuck::{Pod, Zeroable};

const CELLS: usize = 12;
/// Keys a bucket, on the average, before the next one is split. While a round of splits is under
/// way the buckets still to be split hold up to twice as many as those that were.
const FILL: usize = 6;
const TAG_EMPTY: u8 = 0;
const HASH_SHIFT: u32 = 16;

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Bucket {
    tags: [u8; CELLS],
    slots: [u32; CELLS],
    /// Where the overflow bucket is, plus one; 0: there is none.
    overflow: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64);

/// Where a bucket is in the pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BucketIndex(u32);

/// The buckets of all tables of a shard.
pub(crate) type Buckets = Region<Bucket, { stretch_of::<Bucket>() }>;

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

    /// Where the overflow bucket behind this one is.
    #[inline]
    fn next(&self) -> Option<u32> {
        self.overflow.checked_sub(1)
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

/// See the module. Its buckets come from a pool that all tables of the shard share, in runs that
/// double; it must be [released](KeyTable::release) before it is dropped.
#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    /// Where the runs of buckets begin: run `n` holds the buckets from `(1 << n) - 1` on.
    runs: Vec<u32>,
    buckets: usize,
    /// Overflow buckets that no chain needs any more.
    spare: Vec<u32>,
    len: usize,
    /// No bucket is split for now: see [`KeyTable::hold`].
    is_held: bool,
}

#[inline]
fn tag_of(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(1)
}

/// The first slot of a bucket whose tag matches, for its line to be asked for early.
#[inline]
pub(crate) fn guess(pool: &Buckets, bucket: BucketIndex, hash: u64) -> Option<SlotIndex> {
    let bucket = pool.get(bucket.0);
    let cell = bucket.candidates(tag_of(hash)).next()?;
    Some(SlotIndex(bucket.slots[cell]))
}

impl KeyTable {
    /// How many keys it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Holds its shape, or lets it grow again. While it is held a key stays in the bucket where it
    /// is, and what comes makes the chains longer instead.
    pub(crate) fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// Whether it has fewer buckets than its keys ask for.
    #[inline]
    fn is_overfull(&self) -> bool {
        self.len >= self.buckets * FILL
    }

    /// Makes up for one split that was put off while it was held. Returns whether more are due.
    pub(crate) fn catch_up(&mut self, pool: &mut Buckets, slots: &SlotPool) -> bool {
        // One key below what the next insertion would split for: that one splits by itself.
        let is_due = |it: &Self| it.len > it.buckets * FILL;
        if !self.is_held && is_due(self) {
            self.grow(pool, slots);
        }
        !self.is_held && is_due(self)
    }

    /// Which bucket a hash belongs to.
    #[inline]
    pub(crate) fn bucket_of(&self, hash: u64) -> usize {
        let place = (hash >> HASH_SHIFT) as usize;
        let mask = self.buckets.next_power_of_two() - 1;
        let index = place & mask;
        if index < self.buckets { index } else { index & (mask >> 1) }
    }

    /// Where in the pool a bucket is.
    #[inline]
    fn at(&self, bucket: usize) -> u32 {
        let run = (bucket + 1).ilog2();
        self.runs[run as usize] + (bucket + 1 - (1 << run)) as u32
    }

    #[inline]
    fn home(&self, hash: u64) -> u32 {
        self.at(self.bucket_of(hash))
    }

    /// Asks for the line of the bucket where a key of this hash would be, and says which it is.
    #[inline]
    pub(crate) fn prefetch(&self, pool: &Buckets, hash: u64) -> Option<BucketIndex> {
        if self.buckets == 0 {
            return None;
        }
        let home = self.home(hash);
        prefetch(pool.get(home));
        Some(BucketIndex(home))
    }

    /// The slot of a key.
    #[inline]
    pub(crate) fn find(
        &self,
        pool: &Buckets,
        slots: &SlotPool,
        bytes: &BytesPool,
        key: &[u8],
        hash: u64,
    ) -> Option<SlotIndex> {
        let holds = |slot| slots.holds(bytes, slot, key, hash);
        self.search(pool, hash, |bucket, cell| holds(SlotIndex(bucket.slots[cell])))
    }

    /// Whether a slot whose key has this hash is in the table.
    #[inline]
    pub(crate) fn contains(&self, pool: &Buckets, hash: u64, slot: SlotIndex) -> bool {
        // The tag is compared in full: a candidate may be a cell that was emptied.
        let tag = tag_of(hash);
        let is_it =
            |bucket: &Bucket, cell| bucket.tags[cell] == tag && bucket.slots[cell] == slot.0;
        self.search(pool, hash, is_it).is_some()
    }

    #[inline]
    fn search(
        &self,
        pool: &Buckets,
        hash: u64,
        is_it: impl Fn(&Bucket, usize) -> bool,
    ) -> Option<SlotIndex> {
        if self.len == 0 {
            return None;
        }
        let mut bucket = pool.get(self.home(hash));
        loop {
            for cell in bucket.candidates(tag_of(hash)) {
                if is_it(bucket, cell) {
                    return Some(SlotIndex(bucket.slots[cell]));
                }
            }
            bucket = pool.get(bucket.next()?);
        }
    }

    /// Adds a slot. Its key must not be in the table.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        pool: &mut Buckets,
        slots: &SlotPool,
        hash: u64,
        slot: SlotIndex,
    ) {
        if self.is_overfull() && (!self.is_held || self.buckets == 0) {
            self.grow(pool, slots);
            if self.is_overfull() {
                // It was held: it catches up by two splits for each key, so that no key pays for
                // many.
                self.grow(pool, slots);
            }
        }
        self.prefetch_split(pool, slots, (self.buckets * FILL).saturating_sub(self.len));
        self.put(pool, self.home(hash), tag_of(hash), slot);
        self.len += 1;
    }

    /// Removes a slot that is in the table.
    #[inline]
    pub(crate) fn remove(&mut self, pool: &mut Buckets, hash: u64, slot: SlotIndex) {
        let tag = tag_of(hash);
        let mut at = self.home(hash);
        loop {
            let bucket = pool.get_mut(at);
            let is_it = |cell: &usize| bucket.tags[*cell] == tag && bucket.slots[*cell] == slot.0;
            if let Some(cell) = bucket.candidates(tag).find(is_it) {
                bucket.tags[cell] = TAG_EMPTY;
                self.len -= 1;
                return;
            }
            at = bucket.next().expect("a slot that is removed is in the table");
        }
    }

    /// How many steps of [`KeyTable::visit`] walk the whole table, as it is now.
    pub(crate) fn visit_len(&self) -> usize {
        self.buckets
    }

    /// Calls `each` for the slots of one bucket and its overflow.
    pub(crate) fn visit(&self, pool: &Buckets, bucket: usize, mut each: impl FnMut(SlotIndex)) {
        let mut at = Some(self.at(bucket));
        while let Some(here) = at {
            let bucket = pool.get(here);
            for (tag, slot) in bucket.tags.iter().zip(&bucket.slots) {
                if *tag != TAG_EMPTY {
                    each(SlotIndex(*slot));
                }
            }
            at = bucket.next();
        }
    }

    /// Gives the buckets of an empty table back.
    pub(crate) fn release(&mut self, pool: &mut Buckets) {
        debug_assert_eq!(self.len, 0);
        for bucket in 0..self.buckets {
            let mut next = pool.get(self.at(bucket)).next();
            while let Some(at) = next {
                next = pool.get(at).next();
                pool.release(at, 0);
            }
        }
        for spare in self.spare.drain(..) {
            pool.release(spare, 0);
        }
        for (log, run) in self.runs.drain(..).enumerate() {
            pool.release(run, log as u32);
        }
        self.buckets = 0;
        self.is_held = false;
    }

    fn put(&mut self, pool: &mut Buckets, home: u32, tag: u8, slot: SlotIndex) {
        let mut at = Some(home);
        while let Some(here) = at {
            let bucket = pool.get_mut(here);
            if bucket.put(tag, slot) {
                return;
            }
            at = bucket.next();
        }
        let fresh = self.spare.pop().unwrap_or_else(|| pool.take(0));
        let behind = std::mem::replace(&mut pool.get_mut(home).overflow, fresh + 1);
        let bucket = pool.get_mut(fresh);
        *bucket = Bucket { overflow: behind, ..Bucket::zeroed() };
        bucket.put(tag, slot);
    }

    /// Asks for what the next split will need, with so much room left before it: for the bucket, and
    /// once that has come for its slots. Not earlier, or it would be gone again by then.
    #[inline]
    fn prefetch_split(&self, pool: &Buckets, slots: &SlotPool, room: usize) {
        if room != 3 && room != 1 {
            return;
        }
        let next = pool.get(self.at(self.buckets - (1 << self.buckets.ilog2())));
        if room == 3 {
            prefetch(next);
            return;
        }
        for (tag, slot) in next.tags.iter().zip(&next.slots) {
            if *tag != TAG_EMPTY {
                prefetch(slots.get(SlotIndex(*slot)));
            }
        }
    }

    /// Makes room for so many keys at once, if it holds none yet: nothing is split for them.
    pub(crate) fn reserve(&mut self, pool: &mut Buckets, keys: usize) {
        while self.len == 0 && self.buckets * FILL < keys {
            self.add_bucket(pool);
        }
    }

    /// Adds an empty bucket, and returns which it is.
    fn add_bucket(&mut self, pool: &mut Buckets) -> usize {
        let new = self.buckets;
        if (new + 1).is_power_of_two() {
            self.runs.push(pool.take((new + 1).ilog2()));
        }
        self.buckets += 1;
        *pool.get_mut(self.at(new)) = Bucket::zeroed();
        new
    }

    /// Adds a bucket and moves into it what belongs there from the one it is split off.
    fn grow(&mut self, pool: &mut Buckets, slots: &SlotPool) {
        let new = self.add_bucket(pool);
        if new == 0 {
            return;
        }
        let bit = new.ilog2();
        let old = new - (1 << bit);
        let homes = [self.at(old), self.at(new)];
        // Both halves are filled from the front; only what one bucket cannot hold begins a chain.
        let mut halves = [Bucket::zeroed(); 2];
        let mut filled = [0; 2];
        let mut beyond = Vec::new();
        let mut chain = *pool.get(homes[0]);
        loop {
            for (tag, slot) in chain.tags.into_iter().zip(chain.slots) {
                if tag == TAG_EMPTY {
                    continue;
                }
                let half = (slots.hash(SlotIndex(slot)) >> (HASH_SHIFT + bit)) as usize & 1;
                let cell = filled[half];
                filled[half] += 1;
                if cell < CELLS {
                    halves[half].tags[cell] = tag;
                    halves[half].slots[cell] = slot;
                } else {
                    beyond.push((homes[half], tag, SlotIndex(slot)));
                }
            }
            let Some(next) = chain.next() else { break };
            chain = *pool.get(next);
            self.spare.push(next);
        }
        for (home, half) in homes.into_iter().zip(halves) {
            *pool.get_mut(home) = half;
        }
        for (home, tag, slot) in beyond {
            self.put(pool, home, tag, slot);
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
        pool: Buckets,
        table: KeyTable,
        oracle: BTreeMap<Vec<u8>, SlotIndex>,
    }

    impl World {
        fn find(&self, key: &[u8]) -> Option<SlotIndex> {
            self.table.find(&self.pool, &self.slots, &self.bytes, key, xxh3_64(key))
        }

        fn toggle(&mut self, key: &[u8]) {
            let hash = xxh3_64(key);
            if let Some(slot) = self.oracle.remove(key) {
                assert_eq!(self.find(key), Some(slot));
                self.table.remove(&mut self.pool, hash, slot);
                self.slots.release(&mut self.bytes, slot);
            } else {
                assert_eq!(self.find(key), None);
                let slot = self.slots.take(&mut self.bytes, key, hash);
                self.table.insert(&mut self.pool, &self.slots, hash, slot);
                self.oracle.insert(key.to_vec(), slot);
            }
        }

        fn check(&self) {
            assert_eq!(self.table.len(), self.oracle.len());
            for (key, slot) in &self.oracle {
                assert_eq!(self.find(key), Some(*slot));
                assert!(self.table.contains(&self.pool, xxh3_64(key), *slot));
                assert!(!self.table.contains(&self.pool, xxh3_64(key), SlotIndex(u32::MAX)));
            }
            let mut visited = Vec::new();
            for bucket in 0..self.table.visit_len() {
                self.table.visit(&self.pool, bucket, |slot| visited.push(slot));
            }
            let mut expected: Vec<_> = self.oracle.values().copied().collect();
            visited.sort_unstable();
            expected.sort_unstable();
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
            let bucket = world.table.prefetch(&world.pool, xxh3_64(key)).unwrap();
            guess(&world.pool, bucket, xxh3_64(key)) == Some(**slot)
        });
        assert!(guessed.count() > 15_000, "most slots are asked for in time");
        let bytes_a_key = world.pool.bytes() as f64 / 20_000.0;
        assert!(bytes_a_key < 20.0, "{bytes_a_key} bytes a key");
        for n in 0..20_000u32 {
            world.toggle(format!("key-{n}").as_bytes());
        }
        world.check();
    }

    #[test]
    fn a_table_with_room_is_like_one_that_grew() {
        for reserved in [0, 1, 6, 7, 8, 900, 1_000, 5_000] {
            let mut world = World::default();
            world.table.reserve(&mut world.pool, reserved);
            let buckets = world.table.visit_len();
            assert_eq!(buckets, reserved.div_ceil(FILL));
            world.check();
            for n in 0..1_000u32 {
                world.toggle(&n.to_le_bytes());
                assert!(n as usize >= reserved || world.table.visit_len() == buckets);
            }
            world.table.reserve(&mut world.pool, 100_000);
            assert!(world.table.visit_len() < 1_000, "it holds keys already");
            world.check();
        }
    }

    #[test]
    fn a_held_table_stays_right_and_catches_up() {
        for by_insertion in [false, true] {
            let mut world = World::default();
            for n in 0..100u32 {
                world.toggle(&n.to_le_bytes());
            }
            let (buckets, hash) = (world.table.visit_len(), xxh3_64(b"x"));
            let home = world.table.bucket_of(hash);
            world.table.hold(true);
            for n in 100..5_000u32 {
                world.toggle(&n.to_le_bytes());
            }
            assert!(!world.table.catch_up(&mut world.pool, &world.slots), "it is held");
            assert_eq!((world.table.visit_len(), world.table.bucket_of(hash)), (buckets, home));
            world.check();
            world.table.hold(false);
            if by_insertion {
                for n in 5_000..6_000u32 {
                    world.toggle(&n.to_le_bytes());
                }
            } else {
                while world.table.catch_up(&mut world.pool, &world.slots) {}
            }
            assert!(world.table.visit_len() >= world.table.len() / FILL);
            world.check();
            let long = (0..world.table.visit_len()).filter(|bucket| {
                let mut keys = 0;
                world.table.visit(&world.pool, *bucket, |_| keys += 1);
                keys > 3 * CELLS
            });
            assert_eq!(long.count(), 0, "no chain stays long");
            for n in 0..if by_insertion { 6_000u32 } else { 5_000 } {
                world.toggle(&n.to_le_bytes());
            }
            world.check();
        }
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

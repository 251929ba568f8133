//! The levels of a wheel together: placing, cascading, and handing out what is due.
//!
//! All entries are placed as seen from `base`: an entry differs from it in the digit of its level
//! at the highest, and is greater there. So the lowest occupied bucket of the lowest occupied level
//! holds the earliest entries, and two bitmaps find it. `base` moves only to where this stays true:
//! anywhere before the earliest bucket, or into it once it is taken out.
//!
//! A bucket that is due is taken out as a whole into *limbo* and worked off from there, in slices
//! if need be: handed out if its entries share one time, else placed anew (cascaded) with `base` at
//! its earliest entry. Until limbo is empty nothing else moves; inserts go on, as placing depends
//! on `base` alone.

use super::level::{Bucket, FIRST_OPAQUE_LEVEL, LEVELS, Level, Place, slot_of};
use super::pool::{Batch, CHUNK_ENTRIES, EntryPool, List};
use super::sweep::Sweep;
use super::{Owner, Sink};
use crate::time::Timestamp;

/// The low half of a time, which is what an entry keeps.
const LOW: u64 = u32::MAX as u64;

/// Longer buckets than this are cascaded even if all of them is due: a sort of more is slower.
const SORTED_LEN_MAX: usize = 128;

/// A bucket that was taken out of its level and is being worked off.
#[derive(Debug, Default)]
struct Limbo {
    list: List,
    /// The time of its entries, or the earliest of their times; `base` stands there.
    first: u64,
    /// The last time of the bucket.
    end: u64,
    /// Whether the times differ, so that it has to be cascaded.
    is_mixed: bool,
    /// Whether to ask the owner what it means before placing an entry anew.
    must_ask: bool,
    stranded: u32,
}

impl Limbo {
    /// Asking loads the owner's memory, so it must be worth it: one entry in eight is stranded.
    fn weigh_asking(&mut self) {
        self.must_ask |= self.stranded > self.list.len() / 8;
    }

    /// Whether sorting beats cascading: few entries that are all due and tell their times.
    fn is_sortable(&self, until: u64, room: usize) -> bool {
        self.is_mixed
            && !self.must_ask
            && self.end <= until
            && self.list.len() as usize <= SORTED_LEN_MAX.min(room)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) base: u64,
    /// Entries held, in buckets, in limbo and lent to the sweep.
    pub(super) len: usize,
    /// One bit for each level with an occupied bucket.
    summary: u16,
    limbo: Limbo,
    pub(super) sweep: Sweep,
    pub(super) levels: [Option<Box<Level>>; LEVELS],
}

impl Stack {
    pub(super) fn new(base: u64) -> Self {
        Self {
            base,
            len: 0,
            summary: 0,
            limbo: Limbo::default(),
            sweep: Sweep::default(),
            levels: Default::default(),
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, pool: &mut EntryPool, time: u64, slot: u32) {
        self.place(pool, time, slot);
        self.len += 1;
    }

    #[inline]
    fn place(&mut self, pool: &mut EntryPool, time: u64, slot: u32) {
        debug_assert!(time >= self.base, "{time} lies before {}", self.base);
        let Place { level, index } = Place::of(time, self.base);
        let was_empty =
            self.levels[level].get_or_insert_with(Level::new).insert(pool, index, time, slot);
        if was_empty {
            self.summary |= 1 << level;
        }
    }

    /// The occupied bucket with the earliest entries.
    fn earliest(&self) -> Option<(Place, &Level)> {
        let level = self.summary.trailing_zeros() as usize;
        let inside = self.levels.get(level)?.as_deref()?;
        let index = inside.occupied.trailing_zeros() as usize;
        Some((Place { level, index }, inside))
    }

    /// A time at or before that of the earliest entry.
    pub(super) fn next_time(&self) -> Option<u64> {
        if !self.limbo.list.is_empty() {
            return Some(self.limbo.first);
        }
        let (place, level) = self.earliest()?;
        Some(level.buckets[place.index].first)
    }

    /// Whether an entry at `time` may be in limbo.
    fn may_be_in_limbo(&self, time: u64) -> bool {
        !self.limbo.list.is_empty() && time <= self.limbo.end
    }

    /// Notes that the owner no longer means an entry at `time`, which is past the position.
    pub(super) fn strand(&mut self, pool: &mut EntryPool, owner: &impl Owner, time: u64) {
        if self.may_be_in_limbo(time) {
            // In limbo or placed already, who knows: counting it in a bucket could count one too
            // many there, and free live entries.
            self.limbo.stranded += 1;
            self.limbo.weigh_asking();
        } else {
            self.count_stranded(pool, Place::of(time, self.base));
        }
        self.pay_for_sweep(pool, owner);
    }

    /// Empties a bucket and gives its entries, those lent to the sweep included.
    pub(super) fn vacate(&mut self, pool: &mut EntryPool, place: Place) -> List {
        let Some(level) = self.levels[place.level].as_deref_mut() else {
            return List::default();
        };
        let mut list = level.vacate(place.index).list;
        if level.occupied == 0 {
            self.summary &= !(1 << place.level);
        }
        if let Some(lent) = self.sweep.give_back(place) {
            list.append(pool, lent);
        }
        list
    }

    /// Hands out what is due at `until`; whether all of it. Moves `position` along.
    pub(super) fn gather(
        &mut self,
        pool: &mut EntryPool,
        owner: &impl Owner,
        until: u64,
        position: &mut u64,
        sink: &mut Sink<'_>,
    ) -> bool {
        loop {
            while !self.limbo.list.is_empty() && self.limbo.first <= until {
                if sink.is_full() {
                    return false;
                }
                if self.limbo.is_mixed {
                    self.cascade(pool, owner, sink);
                } else {
                    self.hand_out(pool, sink);
                }
            }
            if !self.limbo.list.is_empty() {
                return true;
            }
            let Some((place, level)) = self.earliest() else {
                self.base = self.base.max(until);
                return true;
            };
            let first = level.buckets[place.index].first;
            if first > until {
                if place.start(self.base) > until {
                    self.base = self.base.max(until);
                }
                return true;
            }
            if sink.is_full() {
                return false;
            }
            let is_mixed = level.mixed >> place.index & 1 == 1;
            *position = if is_mixed { first - 1 } else { first };
            self.detach(pool, place, is_mixed);
            if self.limbo.is_sortable(until, sink.left()) {
                *position = self.limbo.end;
                self.sort_out(pool, sink);
            }
        }
    }

    /// Hands out all of limbo, sorted.
    fn sort_out(&mut self, pool: &mut EntryPool, sink: &mut Sink<'_>) {
        let high = self.limbo.end & !LOW;
        let start = sink.out.len();
        let mut batch: Batch = [0; CHUNK_ENTRIES];
        while !self.limbo.list.is_empty() {
            let count = self.limbo.list.take(pool, CHUNK_ENTRIES, &mut batch);
            for &entry in &batch[..count] {
                sink.push(high | (entry & LOW), slot_of(entry));
            }
            self.len -= count;
        }
        sink.out[start..].sort_unstable_by_key(|&(time, _)| time);
    }

    /// Takes the earliest bucket out into limbo and moves `base` to its earliest entry.
    fn detach(&mut self, pool: &mut EntryPool, place: Place, is_mixed: bool) {
        let Some(level) = self.levels[place.level].as_deref() else {
            return;
        };
        let Bucket { first, stranded, .. } = level.buckets[place.index];
        self.limbo = Limbo {
            first,
            end: place.end(self.base),
            is_mixed,
            // Up there an entry alone does not tell its time.
            must_ask: place.level >= FIRST_OPAQUE_LEVEL,
            stranded,
            list: self.vacate(pool, place),
        };
        self.limbo.weigh_asking();
        self.base = first;
    }

    /// Hands out entries from limbo that all have one time.
    fn hand_out(&mut self, pool: &mut EntryPool, sink: &mut Sink<'_>) {
        let time = Timestamp::from_ordered(self.limbo.first);
        let mut batch: Batch = [0; CHUNK_ENTRIES];
        while !self.limbo.list.is_empty() && !sink.is_full() {
            let count = self.limbo.list.take(pool, sink.left(), &mut batch);
            sink.push_all(time, &batch[..count]);
            self.len -= count;
        }
    }

    /// Places one chunk of limbo anew.
    fn cascade(&mut self, pool: &mut EntryPool, owner: &impl Owner, sink: &mut Sink<'_>) {
        let mut batch: Batch = [0; CHUNK_ENTRIES];
        let count = self.limbo.list.take(pool, CHUNK_ENTRIES, &mut batch);
        let batch = &batch[..count];
        sink.spend(count);
        if self.limbo.must_ask {
            return self.cascade_validated(pool, owner, batch);
        }
        let high = self.limbo.end & !LOW;
        for &entry in batch {
            self.place(pool, high | (entry & LOW), slot_of(entry));
        }
    }

    /// Places the entries that the owner still means, drops the others.
    fn cascade_validated(&mut self, pool: &mut EntryPool, owner: &impl Owner, batch: &[u64]) {
        for &entry in batch {
            owner.touch(slot_of(entry));
        }
        let Limbo { first, end, .. } = self.limbo;
        for &entry in batch {
            let armed = owner.armed_at(slot_of(entry)).map(Timestamp::to_ordered);
            match armed {
                Some(time) if time & LOW == entry & LOW && (first..=end).contains(&time) => {
                    self.place(pool, time, slot_of(entry));
                }
                _ => self.len -= 1,
            }
        }
    }

    #[cfg(test)]
    pub(super) fn limbo_entries(&self, pool: &EntryPool) -> Vec<u64> {
        self.limbo.list.entries(pool)
    }

    /// Bytes of the levels.
    pub(super) fn memory_bytes(&self) -> usize {
        let levels = self.levels.iter().flatten().count();
        size_of::<Self>() + levels * size_of::<Level>() + self.sweep.memory_bytes()
    }

    /// Gives all chunks back.
    pub(super) fn free(mut self, pool: &mut EntryPool) {
        self.limbo.list.free(pool);
        self.sweep.free(pool);
        for level in self.levels.iter_mut().flatten() {
            for bucket in &mut level.buckets {
                bucket.list.free(pool);
            }
        }
    }
}

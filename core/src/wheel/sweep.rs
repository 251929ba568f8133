//! Sweeping: bringing the memory of a wheel back to what its owner still means.
//!
//! Moving a timer earlier or cancelling it strands its entry. Each bucket counts those. When all of
//! a bucket is stranded it is freed unseen; when more than half of a long one is, it is put in line,
//! and each further strand pays for looking at a few entries. So entries follow the live timers, not
//! the traffic, and no call takes long.
//!
//! The one rule that must hold: a bucket never counts more stranded entries than it has. Too high a
//! count frees live entries, too low a one merely costs memory for a while.
//!
//! Sweeping works on a list lent by its bucket; survivors are appended to the bucket as they are
//! found. An entry that is armed again at its old time has a twin that looks alive as well. Where a
//! sweep finds too little because of twins, a second one remembers the slots it has seen.

use super::Owner;
use super::level::{LEVELS, Place, slot_of};
use super::pool::{Batch, CHUNK_ENTRIES, EntryPool, List};
use super::stack::Stack;
use crate::time::Timestamp;
use std::collections::BTreeSet;

/// Shorter buckets are not worth a sweep: they fit a chunk.
const SWEEP_LEN_MIN: u32 = 64;
/// Entries looked at for each one stranded. A sweep finds at least every second one stranded, so
/// two would break even, and four halve the time in which more garbage can gather.
/// While a sweep lasts a bucket may thus grow to about 3 times what is live in it.
const SWEPT_PER_STRAND: u32 = 4;

/// The sweep that is going on, and what is in line after it.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// What the bucket at `place` has lent and was not looked at yet; empty if no sweep goes on.
    list: List,
    place: Option<Place>,
    /// The slots kept so far, in a second sweep that looks for twins.
    seen: Option<BTreeSet<u32>>,
    /// One bit for each level that may have buckets in line.
    lined_up: u16,
    /// Entries that past strands have paid for.
    paid: u32,
}

impl Sweep {
    /// Entries that the bucket at `place` has lent.
    fn lent_by(&self, place: Place) -> u32 {
        if self.place == Some(place) { self.list.len() } else { 0 }
    }

    /// Ends the sweep of the bucket at `place`, if that is the one, and gives back what it lent.
    #[inline]
    pub(super) fn give_back(&mut self, place: Place) -> Option<List> {
        if self.place != Some(place) {
            return None;
        }
        self.place = None;
        self.seen = None;
        Some(std::mem::take(&mut self.list))
    }

    /// What the bucket at `place` has lent.
    #[cfg(test)]
    pub(super) fn lent_list(&self, place: Place) -> List {
        if self.place == Some(place) { self.list } else { List::default() }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        // A B-tree of small keys is about two thirds full.
        self.seen.as_ref().map_or(0, |seen| seen.len() * 6)
    }

    pub(super) fn free(&mut self, pool: &mut EntryPool) {
        self.list.free(pool);
    }
}

impl Stack {
    /// Counts one more stranded entry in a bucket: frees the bucket or lines it up if that is due.
    pub(super) fn count_stranded(&mut self, pool: &mut EntryPool, place: Place) {
        let Some(level) = self.levels[place.level].as_deref_mut() else {
            return;
        };
        if level.occupied >> place.index & 1 == 0 {
            return;
        }
        let lent = self.sweep.lent_by(place);
        let bucket = &mut level.buckets[place.index];
        bucket.stranded += 1;
        let len = bucket.list.len() + lent;
        if bucket.stranded >= len {
            let mut list = self.vacate(pool, place);
            self.len -= list.len() as usize;
            list.free(pool);
        } else if len >= SWEEP_LEN_MIN && bucket.stranded > len / 2 {
            level.lined_up |= 1 << place.index;
            self.sweep.lined_up |= 1 << place.level;
        }
    }

    /// Sweeps a chunk whenever enough strands have paid for one.
    pub(super) fn pay_for_sweep(&mut self, pool: &mut EntryPool, owner: &impl Owner) {
        self.sweep.paid += SWEPT_PER_STRAND;
        if self.sweep.paid >= CHUNK_ENTRIES as u32 {
            self.sweep.paid = 0;
            self.sweep_chunk(pool, owner);
        }
    }

    /// Looks at one chunk of the bucket being swept, or of the next in line. Returns the number of
    /// entries looked at, 0 if there is nothing to sweep.
    pub(super) fn sweep_chunk(&mut self, pool: &mut EntryPool, owner: &impl Owner) -> usize {
        let Some(place) = self.sweep.place.or_else(|| self.start_sweep()) else {
            return 0;
        };
        let mut batch: Batch = [0; CHUNK_ENTRIES];
        let count = self.sweep.list.take(pool, CHUNK_ENTRIES, &mut batch);
        let dropped = self.sweep_batch(pool, owner, place, &batch[..count]);
        self.len -= dropped as usize;
        if let Some(level) = self.levels[place.level].as_deref_mut() {
            let bucket = &mut level.buckets[place.index];
            bucket.stranded = bucket.stranded.saturating_sub(dropped);
        }
        if self.sweep.list.is_empty() {
            self.finish_sweep(pool, place);
        }
        count
    }

    /// Lends the next bucket in line to the sweep.
    fn start_sweep(&mut self) -> Option<Place> {
        while self.sweep.lined_up != 0 {
            let number = self.sweep.lined_up.trailing_zeros() as usize % LEVELS;
            let level = self.levels[number].as_deref_mut();
            let Some(level) = level.filter(|level| level.lined_up != 0) else {
                self.sweep.lined_up &= !(1 << number);
                continue;
            };
            let index = level.lined_up.trailing_zeros() as usize;
            level.lined_up &= level.lined_up - 1;
            self.sweep.list = std::mem::take(&mut level.buckets[index].list);
            self.sweep.place = Some(Place { level: number, index });
            return self.sweep.place;
        }
        None
    }

    /// Appends to the bucket what the owner still means; returns how many it does not.
    fn sweep_batch(
        &mut self,
        pool: &mut EntryPool,
        owner: &impl Owner,
        place: Place,
        batch: &[u64],
    ) -> u32 {
        for &entry in batch {
            owner.touch(slot_of(entry));
        }
        let base = self.base;
        let Some(level) = self.levels[place.level].as_deref_mut() else {
            return 0;
        };
        let list = &mut level.buckets[place.index].list;
        let mut dropped = 0;
        for &entry in batch {
            let slot = slot_of(entry);
            let armed = owner.armed_at(slot).map(Timestamp::to_ordered);
            let is_meant = armed
                .is_some_and(|time| time as u32 == entry as u32 && Place::of(time, base) == place);
            if is_meant && self.sweep.seen.as_mut().is_none_or(|seen| seen.insert(slot)) {
                list.push(pool, entry);
            } else {
                dropped += 1;
            }
        }
        dropped
    }

    /// Closes the sweep of a bucket. If it is as bad as before, the rest are twins: it goes again.
    fn finish_sweep(&mut self, pool: &mut EntryPool, place: Place) {
        let had_seen = self.sweep.seen.take().is_some();
        self.sweep.place = None;
        let Some(level) = self.levels[place.level].as_deref_mut() else {
            return;
        };
        level.lined_up &= !(1 << place.index);
        let bucket = &mut level.buckets[place.index];
        let len = bucket.list.len();
        if bucket.stranded >= len {
            let mut list = self.vacate(pool, place);
            self.len -= list.len() as usize;
            list.free(pool);
        } else if !had_seen && len >= SWEEP_LEN_MIN && bucket.stranded > len / 2 {
            self.sweep.list = std::mem::take(&mut bucket.list);
            self.sweep.place = Some(place);
            self.sweep.seen = Some(BTreeSet::new());
        }
    }
}

//! A partition written down while it goes on working, and put back.
//!
//! A snapshot is the partition as it is at the moment when it begins, written bucket by bucket of
//! the key table, in slices. Before something touches a key whose bucket has not been written, that
//! whole bucket is: into a buffer that the next slice takes first. So that a key stays in its
//! bucket meanwhile, the table holds its shape and catches up afterwards.

use super::producers::Producers;
use super::{Context, Partition};
use crate::key_group::{KeyGroup, Layout, xxh3_64};
use crate::keyed::{Cell, Identity, KeyTable, NameClass, Pools, SlotIndex};
use crate::snapshot::{
    KEY_ENTRY_BYTES_MIN, PartitionReader, SnapshotFault, encode_head, encode_slot,
};
use crate::time::Domain;

/// Buckets whose slots are asked for together before any of them is written.
const AT_ONCE_BUCKETS: usize = 8;

/// A snapshot that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    /// What was written and no slice has taken yet.
    ready: Vec<u8>,
    /// Buckets below it are written.
    cursor: usize,
    /// There are so many.
    end: usize,
    /// A bit for each bucket: it was written before its turn.
    early: Box<[u64]>,
    slots: Vec<SlotIndex>,
}

impl Writing {
    fn is_written(&self, bucket: usize) -> bool {
        bucket < self.cursor || self.early[bucket / 64] & (1 << (bucket % 64)) != 0
    }

    /// Writes the buckets from `first` up to before `end` that are not written yet, and returns how
    /// many keys that were.
    fn write(&mut self, pools: &Pools, table: &KeyTable, first: usize, end: usize) -> usize {
        let mut slots = std::mem::take(&mut self.slots);
        slots.clear();
        for bucket in (first..end).filter(|bucket| !self.is_written(*bucket)) {
            pools.visit(table, bucket, |slot| slots.push(slot));
        }
        for slot in &slots {
            pools.prefetch(*slot);
        }
        for slot in &slots {
            encode_slot(&mut self.ready, pools, *slot);
        }
        self.slots = slots;
        self.slots.len()
    }
}

/// Bytes that a key with a timer has in a snapshot, more or less.
const KEY_BYTES_HINT: usize = 32;

impl Partition {
    /// Whether something has changed since the last snapshot of it began.
    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Whether a snapshot of it is being written.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether a snapshot is being written that has buckets left.
    pub(super) fn is_written_by_buckets(&self) -> bool {
        self.writing.as_deref().is_some_and(|it| it.cursor < it.end)
    }

    /// Begins a snapshot of it as it is now, with nothing due in it, and returns how many keys that
    /// are. What comes from here on makes it dirty again.
    pub(crate) fn begin_snapshot(&mut self) -> u64 {
        self.is_dirty = false;
        self.begin_copy()
    }

    /// Begins to write it as it is now for somebody else than the next recovery: what has changed
    /// since the last snapshot has still changed. Returns how many keys it has.
    pub(crate) fn begin_copy(&mut self) -> u64 {
        let (end, keys) = (self.table.visit_len(), self.table.len() as u64);
        // Growing by doubling would copy megabytes in one turn; what is not used costs nothing.
        let mut ready = Vec::with_capacity(keys as usize * KEY_BYTES_HINT);
        encode_head(&mut ready, self.producers.as_slice(), keys);
        let early = vec![0; end.div_ceil(64)].into_boxed_slice();
        let slots = Vec::new();
        self.writing = Some(Box::new(Writing { ready, cursor: 0, end, early, slots }));
        self.table.hold(end > 0);
        keys
    }

    /// Nobody wants any more what was begun.
    pub(crate) fn give_up_copy(&mut self) {
        self.writing = None;
        // What comes next makes it grow as it should have.
        self.table.hold(self.visiting.is_some());
    }

    /// Whether there is nothing to write of it.
    pub(crate) fn is_bare(&self) -> bool {
        self.table.len() == 0 && self.producers.as_slice().is_empty()
    }

    /// Appends the next piece of the snapshot, spending about one of `budget` for each key. Returns
    /// whether that was all.
    pub(crate) fn write_slice(
        &mut self,
        pools: &mut Pools,
        out: &mut Vec<u8>,
        budget: &mut u32,
    ) -> bool {
        let Some(writing) = &mut self.writing else {
            return true;
        };
        while writing.cursor < writing.end && *budget > 0 {
            let first = writing.cursor;
            let end = writing.end.min(first + AT_ONCE_BUCKETS);
            let keys = writing.write(pools, &self.table, first, end);
            writing.cursor = end;
            *budget = budget.saturating_sub((keys + end - first) as u32);
        }
        if out.is_empty() {
            // The usual case, without a copy.
            std::mem::swap(out, &mut writing.ready);
        } else {
            out.append(&mut writing.ready);
        }
        if writing.cursor < writing.end {
            return false;
        }
        self.table.hold(self.visiting.is_some());
        while pools.catch_up(&mut self.table) {
            *budget = budget.saturating_sub(1);
            if *budget == 0 {
                return false;
            }
        }
        self.writing = None;
        true
    }

    /// Something is about to touch the key of this hash: what has not been written of its bucket is
    /// written first.
    #[cold]
    #[inline(never)]
    pub(super) fn write_first(&mut self, pools: &Pools, hash: u64) {
        let Some(writing) = &mut self.writing else {
            return;
        };
        if writing.cursor == writing.end {
            return;
        }
        let bucket = self.table.bucket_of(hash);
        if !writing.is_written(bucket) {
            writing.write(pools, &self.table, bucket, bucket + 1);
            writing.early[bucket / 64] |= 1 << (bucket % 64);
        }
    }

    /// Puts what a snapshot holds into this partition, which has nothing yet: afterwards it behaves
    /// as the one that was written. `what` is how faults call the snapshot. A fault leaves it half
    /// done: nothing can be made of it.
    pub(crate) fn load(
        &mut self,
        cx: &mut Context<'_>,
        layout: Layout,
        group: KeyGroup,
        what: &str,
        bytes: &[u8],
    ) -> Result<(), SnapshotFault> {
        let mut reader = PartitionReader::open(what, bytes)?;
        // What it says of its keys is believed as far as its bytes can hold them.
        let keys = (reader.keys() as usize).min(bytes.len() / KEY_ENTRY_BYTES_MIN);
        cx.shared.pools.reserve_table(&mut self.table, keys);
        while let Some((key, timers)) = reader.next_key()? {
            let hash = xxh3_64(key);
            if layout.group_of(hash) != group {
                return Err(reader.fault("a key belongs to another key group"));
            }
            if cx.shared.pools.find(&self.table, key, hash).is_some() {
                return Err(reader.fault("a key stands twice"));
            }
            let slot = cx.shared.pools.add(&mut self.table, key, hash);
            cx.shared.stats.keys += 1;
            cx.around.timeline.keys += 1;
            if let Some(state) = reader.state() {
                cx.shared.pools.set_state(slot, state);
            }
            for _ in 0..timers {
                let timer = reader.next_timer()?;
                if let Some(name) = timer.name
                    && timers > 1
                    && cx.shared.pools.timer(slot, timer.domain, Identity::Name(name)).is_some()
                {
                    return Err(reader.fault("a name stands twice"));
                }
                let link = cx.shared.pools.store_blob(timer.name, timer.payload);
                let cell = Cell { time: timer.time, name: NameClass::of(timer.name), link };
                cx.shared.pools.insert(slot, timer.domain, cell);
                cx.counted(timer.domain, timer.time);
            }
            for domain in Domain::ALL {
                cx.settle(slot, domain, None);
            }
        }
        self.producers = Producers::new(reader.producers().to_vec());
        self.as_of = cx.position;
        Ok(())
    }
}

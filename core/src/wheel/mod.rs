//! The hierarchical timing wheel: entries of a slot and a time, handed out in the order of time.
//!
//! A time is a number of 64 bits, read as 11 digits of 6 bits. Seen from the wheel's base, an entry
//! stands on the level of the highest digit in which its time differs, in the bucket that this digit
//! numbers. With base 0 and entries at 5, 70, 71 and 4100:
//!
//! ```text
//! level 2   digit 2 = 4096s   [ 1: 4100 ]
//! level 1   digit 1 =   64s   [ 1: 70 71 ]
//! level 0   digit 0 =    1s   [ 5: 5 ]
//! ```
//!
//! Going to 70 hands out 5, then moves base to 70: bucket 1 of level 1 cascades, 70 comes out, and 71
//! stands in bucket 7 of level 0. The bucket of 4100 was not touched. Empty time costs nothing, be
//! it a millisecond or a century, as each level has a bitmap of its occupied buckets.
//!
//! The wheel is an index. It does not know what a slot is and never says that an entry is valid: an
//! [`Owner`] knows at what time a slot's live entry stands here, its armed time, and ignores all
//! others. So moving a timer later costs nothing here (the owner puts it back when its old entry
//! comes up), and moving it earlier adds an entry and *strands* the old one. What is stranded is
//! counted and swept, so that memory follows live timers.
//!
//! Never lost, never early: an entry that its owner means comes out once its time is reached.
//! Twice or in vain is possible: an entry that is stranded and armed again at the same time has
//! a twin. Nothing here reads a clock, allocates per entry, or takes long: [`Wheel::gather`] and
//! [`Wheel::sweep`] work in slices of a budget.
//!
//! `pool` holds the entries, `level` one level, `stack` the levels together with the cascade, and
//! `sweep` the bookkeeping of what is stranded. This file adds what keeps small wheels small: up to
//! [`SMALL_LEN_MAX`] entries stand in one sorted vector, without levels.

mod level;
mod pool;
mod stack;
mod sweep;
#[cfg(test)]
mod tests;

use crate::time::Timestamp;
use level::slot_of;
pub use pool::EntryPool;
use stack::Stack;
use std::collections::BTreeSet;

/// A wheel with no more entries than this has no levels. At 16 bytes an entry it stays below
/// what the levels would take, and an insert into it still moves less than a page.
pub const SMALL_LEN_MAX: usize = 64;

/// Who owns the entries: tells at what time a slot's live entry stands in this wheel.
pub trait Owner {
    /// The armed time of `slot`: that of the one entry that is meant, if any.
    fn armed_at(&self, slot: u32) -> Option<Timestamp>;

    /// Loads the slot's cache line early: `armed_at` will be asked soon.
    fn touch(&self, slot: u32) {
        let _ = slot;
    }
}

/// The timing wheel of one namespace, domain and lane. See the module.
///
/// A wheel must be [cleared](Wheel::clear) before it is dropped, else the pool never gets its
/// chunks back.
#[derive(Debug)]
pub struct Wheel {
    position: u64,
    /// All entries in order, as long as there are no levels.
    small: Vec<(u64, u32)>,
    stack: Option<Box<Stack>>,
    /// Entries inserted at or below the position while there are levels.
    past: BTreeSet<(u64, u32)>,
}

impl Wheel {
    /// An empty wheel that stands at `origin`; allocates nothing.
    pub const fn new(origin: Timestamp) -> Self {
        Self {
            position: origin.to_ordered(),
            small: Vec::new(),
            stack: None,
            past: BTreeSet::new(),
        }
    }

    /// Entries held, stranded ones included.
    pub fn len(&self) -> usize {
        let stacked = self.stack.as_ref().map_or(0, |stack| stack.len);
        self.small.len() + self.past.len() + stacked
    }

    /// Whether no entry is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything at or below it was handed out, but for what was inserted there afterwards and for
    /// the rest of an unfinished gather. Never goes back.
    pub fn position(&self) -> Timestamp {
        Timestamp::from_ordered(self.position)
    }

    /// Adds an entry. At or below the position it comes out first with the next gather.
    #[inline]
    pub fn insert(&mut self, pool: &mut EntryPool, time: Timestamp, slot: u32) {
        let time = time.to_ordered();
        match &mut self.stack {
            Some(stack) if time > self.position => stack.insert(pool, time, slot),
            _ => self.insert_slow(pool, time, slot),
        }
    }

    #[inline(never)]
    fn insert_slow(&mut self, pool: &mut EntryPool, time: u64, slot: u32) {
        if self.stack.is_some() {
            self.past.insert((time, slot));
            return;
        }
        let index = self.small.partition_point(|&held| held < (time, slot));
        self.small.insert(index, (time, slot));
        if self.small.len() > SMALL_LEN_MAX {
            self.promote(pool);
        }
    }

    /// Moves the entries of the small form to levels.
    fn promote(&mut self, pool: &mut EntryPool) {
        let stack = self.stack.insert(Box::new(Stack::new(self.position)));
        for (time, slot) in std::mem::take(&mut self.small) {
            if time > self.position {
                stack.insert(pool, time, slot);
            } else {
                self.past.insert((time, slot));
            }
        }
    }

    /// Goes back to the small form once nothing is held.
    fn demote_if_empty(&mut self) {
        if self.past.is_empty() && self.stack.as_ref().is_some_and(|stack| stack.len == 0) {
            self.stack = None;
        }
    }

    /// The owner no longer means the entry (`time`, `slot`) that it had inserted.
    ///
    /// To be called when `owner` already says so, and before the next strand, sweep or gather of
    /// this wheel: an entry found dead by those and then stranded would be counted twice.
    pub fn strand(&mut self, pool: &mut EntryPool, owner: &impl Owner, time: Timestamp, slot: u32) {
        let time = time.to_ordered();
        let Some(stack) = &mut self.stack else {
            if let Ok(index) = self.small.binary_search(&(time, slot)) {
                self.small.remove(index);
            }
            return;
        };
        if time > self.position {
            stack.strand(pool, owner, time);
        } else {
            // Not there means handed out already: it is in the owner's hands.
            self.past.remove(&(time, slot));
        }
        self.demote_if_empty();
    }

    /// A lower bound for the earliest entry's time, stranded ones included: the earliest time ever
    /// inserted into the earliest bucket. Exact unless that one has been stranded.
    pub fn next_time(&self) -> Option<Timestamp> {
        let small = self.small.first().or(self.past.first());
        let small = small.map(|&(time, _)| time);
        let stacked = self.stack.as_ref().and_then(|stack| stack.next_time());
        let earliest = small.into_iter().chain(stacked).min();
        earliest.map(Timestamp::from_ordered)
    }

    /// Moves the wheel to `until`: appends what is due, at most `room` entries, to `out` in
    /// ascending order of time, also over calls; entries of one time come in any order.
    ///
    /// Spends about one of `budget` for each entry that is moved. Returns whether it is done:
    /// nothing at or below `until` is left, and the position is at least there. Else room or budget
    /// ran out, and another call goes on.
    pub fn gather(
        &mut self,
        pool: &mut EntryPool,
        owner: &impl Owner,
        until: Timestamp,
        out: &mut Vec<(Timestamp, u32)>,
        room: usize,
        budget: &mut u32,
    ) -> bool {
        let until = until.to_ordered();
        let mut sink = Sink { out, room, budget };
        let is_done = self.gather_small(until, &mut sink)
            && self.stack.as_mut().is_none_or(|stack| {
                stack.gather(pool, owner, until, &mut self.position, &mut sink)
            });
        if is_done {
            self.position = self.position.max(until);
            self.demote_if_empty();
        }
        is_done
    }

    /// Hands out what is due of the small form and of the past; whether all of it.
    fn gather_small(&mut self, until: u64, sink: &mut Sink<'_>) -> bool {
        let due = self.small.partition_point(|&(time, _)| time <= until);
        let taken = due.min(sink.left());
        for (time, slot) in self.small.drain(..taken) {
            // What was handed out must not look as if it were still here.
            self.position = self.position.max(time);
            sink.push(time, slot);
        }
        if taken < due {
            return false;
        }
        while let Some(&(time, slot)) = self.past.first().filter(|(time, _)| *time <= until) {
            if sink.is_full() {
                return false;
            }
            self.past.pop_first();
            sink.push(time, slot);
        }
        true
    }

    /// Works off sweeping that is in line, about one entry for one of `budget`.
    pub fn sweep(&mut self, pool: &mut EntryPool, owner: &impl Owner, budget: &mut u32) {
        let Some(stack) = &mut self.stack else {
            return;
        };
        while *budget > 0 {
            let count = stack.sweep_chunk(pool, owner);
            if count == 0 {
                break;
            }
            *budget = budget.saturating_sub(count as u32);
        }
        self.demote_if_empty();
    }

    /// Bytes of its own and of its levels, without those of the pool.
    pub fn memory_bytes(&self) -> usize {
        // A B-tree of 16-byte items is about two thirds full.
        size_of::<Self>()
            + self.small.capacity() * size_of::<(u64, u32)>()
            + self.past.len() * 24
            + self.stack.as_ref().map_or(0, |stack| stack.memory_bytes())
    }

    /// Forgets all entries and gives their chunks back. The position stays.
    pub fn clear(&mut self, pool: &mut EntryPool) {
        self.small = Vec::new();
        self.past.clear();
        if let Some(stack) = self.stack.take() {
            stack.free(pool);
        }
    }
}

/// Where a gather puts what is due, and what it may still spend.
struct Sink<'a> {
    out: &'a mut Vec<(Timestamp, u32)>,
    room: usize,
    budget: &'a mut u32,
}

impl Sink<'_> {
    fn is_full(&self) -> bool {
        self.left() == 0
    }

    /// Entries that can still be handed out.
    fn left(&self) -> usize {
        self.room.min(*self.budget as usize)
    }

    fn spend(&mut self, count: usize) {
        *self.budget = self.budget.saturating_sub(count as u32);
    }

    fn push(&mut self, time: u64, slot: u32) {
        self.out.push((Timestamp::from_ordered(time), slot));
        self.room -= 1;
        self.spend(1);
    }

    /// Hands out entries that all stand at `time`.
    fn push_all(&mut self, time: Timestamp, entries: &[u64]) {
        self.out.extend(entries.iter().map(|&entry| (time, slot_of(entry))));
        self.room -= entries.len();
        self.spend(entries.len());
    }
}

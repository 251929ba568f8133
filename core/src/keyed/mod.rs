//! Keys, their slots and their timers: one look-up finds a key's slot, and the slot holds the rest.
//!
//! A [`KeyTable`] belongs to a partition; the [`Pools`] that its slots, long keys, payloads and
//! timer lists come from are shared by all partitions of a shard. What a timer is told apart by:
//! (domain, time) without a name, (domain, name) with one. A key may also have a state, bytes that
//! outlive its timers. This module moves timers in and out of slots and knows nothing of clocks,
//! wheels or firing.

mod ahead;
mod blob;
mod bytes;
mod region;
mod segments;
mod several;
mod slot;
mod state;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use ahead::{Ahead, OnItsWay};
pub(crate) use blob::Link;
pub(crate) use several::{Cell, Identity, NameClass};
pub(crate) use slot::SlotIndex;
pub(crate) use table::{BucketIndex, KeyTable};

use crate::op::{DEFAULT_TIMER_NAME, Payload};
use crate::prefetch::prefetch;
use crate::time::{Domain, Timestamp};
use bytes::{BytesHandle, BytesPool};
use several::{Lists, Several};
use slot::{Class, SlotPool};
use table::Buckets;

/// What the partitions of a shard draw from.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    slots: SlotPool,
    buckets: Buckets,
    bytes: BytesPool,
    lists: Lists,
}

impl NameClass {
    /// How a timer of this name is named.
    pub(crate) fn of(name: Option<&str>) -> Self {
        match name {
            None => Self::Unnamed,
            Some(DEFAULT_TIMER_NAME) => Self::Default,
            Some(_) => Self::Named,
        }
    }

    const fn class(self) -> Class {
        match self {
            Self::Unnamed => Class::Unnamed,
            Self::Default => Class::Default,
            Self::Named => Class::Named,
        }
    }
}

impl Pools {
    /// The slot of a key.
    #[inline]
    pub(crate) fn find(&self, table: &KeyTable, key: &[u8], hash: u64) -> Option<SlotIndex> {
        table.find(&self.buckets, &self.slots, &self.bytes, key, hash)
    }

    /// Gives a key that is not in the table a slot without timers.
    #[inline]
    pub(crate) fn add(&mut self, table: &mut KeyTable, key: &[u8], hash: u64) -> SlotIndex {
        let slot = self.slots.take(&mut self.bytes, key, hash);
        table.insert(&mut self.buckets, &self.slots, hash, slot);
        slot
    }

    /// Takes a key without timers and state out of its table.
    #[inline]
    pub(crate) fn remove(&mut self, table: &mut KeyTable, hash: u64, slot: SlotIndex) {
        debug_assert!(self.slots.get(slot).class() == Class::Idle);
        table.remove(&mut self.buckets, hash, slot);
        self.slots.release(&mut self.bytes, slot);
    }

    /// Asks for a slot's line.
    #[inline]
    pub(crate) fn prefetch(&self, slot: SlotIndex) {
        prefetch(self.slots.get(slot));
    }

    /// Asks for the bucket of the table where a key of this hash would be, and says which it is.
    #[inline]
    pub(crate) fn prefetch_table(&self, table: &KeyTable, hash: u64) -> Option<BucketIndex> {
        table.prefetch(&self.buckets, hash)
    }

    /// Asks for the slot that a key of this hash probably has, once its bucket has come.
    #[inline]
    pub(crate) fn prefetch_guess(&self, bucket: BucketIndex, hash: u64) -> Option<SlotIndex> {
        let slot = table::guess(&self.buckets, bucket, hash)?;
        self.prefetch(slot);
        Some(slot)
    }

    /// Asks for what a slot leads to, once its line has come: a long key, the blob of its timer, its
    /// state, its list. The slot may be one that nobody uses any more.
    #[inline]
    pub(crate) fn prefetch_links(&self, slot: SlotIndex) {
        let it = self.slots.get(slot);
        match it.class() {
            Class::Idle => return,
            Class::Several => self.lists.prefetch(it.link),
            _ if it.link == Link::NONE.to_raw() => {}
            _ => self.bytes.prefetch(BytesHandle::from_raw(it.link)),
        }
        if let Some(handle) = it.key_elsewhere() {
            self.bytes.prefetch(handle);
        }
    }

    /// Whether a slot whose key has this hash is in the table.
    #[inline]
    pub(crate) fn contains(&self, table: &KeyTable, hash: u64, slot: SlotIndex) -> bool {
        table.contains(&self.buckets, hash, slot)
    }

    /// Calls `each` for the slots of one bucket of a table and its overflow.
    pub(crate) fn visit(&self, table: &KeyTable, bucket: usize, each: impl FnMut(SlotIndex)) {
        table.visit(&self.buckets, bucket, each);
    }

    /// Makes room for so many keys in a table that holds none yet.
    pub(crate) fn reserve_table(&mut self, table: &mut KeyTable, keys: usize) {
        table.reserve(&mut self.buckets, keys);
    }

    /// Makes up for one split of a table that was put off. Returns whether more are due.
    pub(crate) fn catch_up(&mut self, table: &mut KeyTable) -> bool {
        table.catch_up(&mut self.buckets, &self.slots)
    }

    /// Gives back what an empty table holds.
    pub(crate) fn release_table(&mut self, table: &mut KeyTable) {
        table.release(&mut self.buckets);
    }

    /// The key of a slot.
    #[inline]
    pub(crate) fn key(&self, slot: SlotIndex) -> &[u8] {
        self.slots.key(&self.bytes, slot)
    }

    /// The hash of a slot's key.
    #[inline]
    pub(crate) fn hash(&self, slot: SlotIndex) -> u64 {
        self.slots.hash(slot)
    }

    /// How many timers the key has, over both domains.
    #[inline]
    pub(crate) fn count(&self, slot: SlotIndex) -> usize {
        match self.slots.get(slot).class() {
            Class::Idle | Class::Stated => 0,
            Class::Several => self.several(slot).len(),
            _ => 1,
        }
    }

    /// The timer that fires first in a domain.
    #[inline]
    pub(crate) fn earliest(&self, slot: SlotIndex, domain: Domain) -> Option<Timestamp> {
        let it = self.slots.get(slot);
        match it.class() {
            Class::Idle | Class::Stated => None,
            Class::Several => self.several(slot).domain(domain).earliest().map(|cell| cell.time),
            _ => (it.domain() == domain).then_some(it.timestamp()),
        }
    }

    /// Where the wheel's live entry for this key and domain stands.
    #[inline]
    pub(crate) fn armed(&self, slot: SlotIndex, domain: Domain) -> Option<Timestamp> {
        let it = self.slots.get(slot);
        match it.class() {
            Class::Idle | Class::Stated => None,
            Class::Several => self.several(slot).domain(domain).armed,
            _ => (it.domain() == domain).then_some(it.armed()),
        }
    }

    /// Notes where the wheel's live entry stands: at or before the earliest timer, or behind it if
    /// the key is held back. Far from its timer it costs a key with only one a list of its own.
    #[inline]
    pub(crate) fn set_armed(&mut self, slot: SlotIndex, domain: Domain, armed: Option<Timestamp>) {
        let it = self.slots.get_mut(slot);
        match (it.class(), armed) {
            (Class::Idle | Class::Stated, _) => debug_assert!(armed.is_none()),
            (Class::Several, _) => {
                self.several_mut(slot).domain_mut(domain).armed = armed;
                self.narrow(slot);
            }
            (_, Some(armed)) => {
                debug_assert!(it.domain() == domain);
                if let Some(lag) = Self::lag(it.timestamp(), armed) {
                    it.lag = lag;
                } else {
                    self.widen(slot);
                    self.several_mut(slot).domain_mut(domain).armed = Some(armed);
                }
            }
            (_, None) => debug_assert!(it.domain() != domain),
        }
    }

    /// How far an entry should stand before its timer, at most.
    pub(crate) const LAG_MS_MAX: i64 = i32::MAX as i64;

    /// How far before a timer an entry stands, if a slot can say so.
    #[inline]
    fn lag(time: Timestamp, armed: Timestamp) -> Option<i32> {
        i32::try_from(time.saturating_since(armed)).ok()
    }

    /// The timer of this identity.
    #[inline]
    pub(crate) fn timer(
        &self,
        slot: SlotIndex,
        domain: Domain,
        identity: Identity<'_>,
    ) -> Option<Cell> {
        match self.slots.get(slot).class() {
            Class::Idle | Class::Stated => None,
            Class::Several => self.several(slot).domain(domain).find(&self.bytes, identity),
            _ => {
                let (its_domain, cell) = self.only(slot)?;
                let is_it = match identity {
                    Identity::Time(time) => cell.name == NameClass::Unnamed && cell.time == time,
                    Identity::Name(name) => cell.name(&self.bytes) == Some(name),
                };
                (is_it && its_domain == domain).then_some(cell)
            }
        }
    }

    /// Stores what travels with a timer of this name.
    pub(crate) fn store_blob(&mut self, name: Option<&str>, payload: Option<Payload<'_>>) -> Link {
        let name = match NameClass::of(name) {
            NameClass::Named => name.unwrap_or_default(),
            NameClass::Unnamed | NameClass::Default => "",
        };
        Link::store(&mut self.bytes, name, payload)
    }

    /// Gives back what travelled with a timer.
    #[inline]
    pub(crate) fn free_blob(&mut self, cell: Cell) {
        cell.link.free(&mut self.bytes);
    }

    /// The name and the payload of a timer.
    pub(crate) fn blob(&self, cell: Cell) -> (Option<&str>, Option<Payload<'_>>) {
        (cell.name(&self.bytes), cell.link.load(&self.bytes).1)
    }

    /// Adds a timer; none of its identity is there. What the wheel knows of the key stays as it is,
    /// but a key with one timer must be armed anew by the caller.
    #[inline]
    pub(crate) fn insert(&mut self, slot: SlotIndex, domain: Domain, cell: Cell) {
        match self.slots.get(slot).class() {
            Class::Idle => self.set_only(slot, domain, cell, None),
            Class::Stated => self.insert_beside_state(slot, domain, cell),
            Class::Several => self.several_insert(slot, domain, cell),
            _ => {
                self.widen(slot);
                self.several_insert(slot, domain, cell);
            }
        }
    }

    /// Takes a timer out; its blob is the caller's to free. A key with one timer that is left must
    /// be armed anew by the caller.
    pub(crate) fn take(
        &mut self,
        slot: SlotIndex,
        domain: Domain,
        identity: Identity<'_>,
    ) -> Option<Cell> {
        if self.slots.get(slot).class() == Class::Several {
            let list = self.slots.get(slot).link;
            let cell = self.lists.get_mut(list).domain_mut(domain).remove(&self.bytes, identity)?;
            self.narrow(slot);
            return Some(cell);
        }
        let cell = self.timer(slot, domain, identity)?;
        self.forget_only(slot, domain);
        Some(cell)
    }

    /// Takes the timer out that fires first; its blob is the caller's to free.
    #[inline]
    pub(crate) fn take_earliest(&mut self, slot: SlotIndex, domain: Domain) -> Option<Cell> {
        if self.slots.get(slot).class() == Class::Several {
            let cell = self.several_mut(slot).domain_mut(domain).pop_earliest()?;
            self.narrow(slot);
            return Some(cell);
        }
        let (its_domain, cell) = self.only(slot)?;
        if its_domain != domain {
            return None;
        }
        self.forget_only(slot, domain);
        Some(cell)
    }

    /// The key's one timer is gone; its state stays.
    #[inline]
    fn forget_only(&mut self, slot: SlotIndex, domain: Domain) {
        let it = self.slots.get_mut(slot);
        let left = if it.class().links_state() { Class::Stated } else { Class::Idle };
        it.set_class(left, domain);
    }

    /// If the key's only timer is the one of this name in this domain: moves it to `time` and says
    /// where it stood. The wheel's entry stays where it is, which must be at or before `time`, less
    /// than [`Pools::LAG_MS_MAX`] away: else nothing is done.
    #[inline]
    pub(crate) fn postpone_only(
        &mut self,
        slot: SlotIndex,
        domain: Domain,
        name: &str,
        time: Timestamp,
    ) -> Option<Timestamp> {
        let it = self.slots.get_mut(slot);
        if it.class() != Class::Default || it.domain() != domain || name != DEFAULT_TIMER_NAME {
            return None;
        }
        let (before, armed) = (it.timestamp(), it.armed());
        if time < armed || time.saturating_since(armed) > Self::LAG_MS_MAX {
            return None;
        }
        it.lag = time.saturating_since(armed) as i32;
        it.time = time.as_millis();
        Some(before)
    }

    /// Calls `each` for the key's timers in a domain, in the order of firing.
    pub(crate) fn for_each(&self, slot: SlotIndex, domain: Domain, mut each: impl FnMut(Cell)) {
        match self.slots.get(slot).class() {
            Class::Idle | Class::Stated => {}
            Class::Several => self.several(slot).domain(domain).for_each(each),
            _ => {
                if let Some((its_domain, cell)) = self.only(slot)
                    && its_domain == domain
                {
                    each(cell);
                }
            }
        }
    }

    /// Takes all timers of a key out, with what travelled with them, and its state.
    pub(crate) fn clear(&mut self, slot: SlotIndex) {
        self.clear_state(slot);
        for domain in Domain::ALL {
            while let Some(cell) = self.take_earliest(slot, domain) {
                self.free_blob(cell);
            }
        }
    }

    /// Memory by part.
    pub(crate) fn memory(&self) -> [(&'static str, usize); 4] {
        [
            ("slots", self.slots.bytes()),
            ("key_tables", self.buckets.bytes()),
            ("payloads", self.bytes.bytes()),
            ("timer_lists", self.lists.bytes()),
        ]
    }

    #[inline]
    fn only(&self, slot: SlotIndex) -> Option<(Domain, Cell)> {
        let it = self.slots.get(slot);
        let link = Link::from_raw(it.link);
        let (name, link) = match it.class() {
            Class::Unnamed => (NameClass::Unnamed, link),
            Class::Default => (NameClass::Default, link),
            Class::Named => (NameClass::Named, link),
            Class::StatedUnnamed => (NameClass::Unnamed, Link::NONE),
            Class::StatedDefault => (NameClass::Default, Link::NONE),
            Class::Idle | Class::Stated | Class::Several => return None,
        };
        Some((it.domain(), Cell { time: it.timestamp(), name, link }))
    }

    fn several(&self, slot: SlotIndex) -> &Several {
        self.lists.get(self.slots.get(slot).link)
    }

    fn several_mut(&mut self, slot: SlotIndex) -> &mut Several {
        self.lists.get_mut(self.slots.get(slot).link)
    }

    fn several_insert(&mut self, slot: SlotIndex, domain: Domain, cell: Cell) {
        let list = self.slots.get(slot).link;
        self.lists.get_mut(list).domain_mut(domain).insert(&self.bytes, cell);
    }

    #[inline]
    fn set_only(&mut self, slot: SlotIndex, domain: Domain, cell: Cell, armed: Option<Timestamp>) {
        let it = self.slots.get_mut(slot);
        it.set_class(cell.name.class(), domain);
        it.time = cell.time.as_millis();
        it.link = cell.link.to_raw();
        it.lag = armed.and_then(|armed| Self::lag(cell.time, armed)).unwrap_or(0);
    }

    /// From one timer to a list of one, so that another can join it.
    fn widen(&mut self, slot: SlotIndex) {
        let Some((domain, cell)) = self.only(slot) else {
            return;
        };
        let (armed, state) = (self.slots.get(slot).armed(), self.state_link(slot));
        let list = self.lists.take();
        let several = self.lists.get_mut(list);
        several.state = state;
        let timers = several.domain_mut(domain);
        timers.insert(&self.bytes, cell);
        timers.armed = Some(armed);
        let it = self.slots.get_mut(slot);
        it.set_class(Class::Several, domain);
        it.link = list;
    }

    /// From a list with one timer or none back to a slot that needs no list. Only where the wheel's
    /// entry can be told by a lag, the other domain has none, and the link is free.
    fn narrow(&mut self, slot: SlotIndex) {
        let several = self.several(slot);
        let (left, state) = (several.only(), several.state);
        if left.is_none() && several.len() > 0 {
            return;
        }
        let armed = match left {
            None => None,
            Some((domain, cell)) => {
                let other =
                    if domain == Domain::Event { Domain::Processing } else { Domain::Event };
                let armed = several.domain(domain).armed;
                let lag = armed.and_then(|armed| Self::lag(cell.time, armed));
                let is_linked = state.is_some() && !cell.goes_with_state();
                if several.domain(other).armed.is_some() || lag.is_none() || is_linked {
                    return;
                }
                armed
            }
        };
        self.lists.release(self.slots.get(slot).link);
        match left {
            Some((domain, cell)) => self.set_only(slot, domain, cell, armed),
            None => self.slots.get_mut(slot).set_class(Class::Idle, Domain::Processing),
        }
        if let Some(state) = state {
            self.link_state(slot, state);
        }
    }
}

//! The state of a key: bytes that outlive its timers, kept behind its slot.
//!
//! ```text
//!  | length in LEB128 | state … |
//! ```
//!
//! The slot has one link. A key with a state and no timer, or one that has nothing else to link,
//! links its state; any other has a list of timers, and the state's link stands there. A state that
//! is written again takes its own place if it still fits.

use super::several::Cell;
use super::slot::Class;
use super::{BytesPool, Link, NameClass, Pools, SlotIndex, bytes::BytesHandle};
use crate::time::Domain;

/// Where a state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateLink(u32);

/// The most bytes that a length takes: states are far below 2^28 bytes.
const LENGTH_BYTES_MAX: usize = 4;

/// The length as it stands before a state, and how many bytes that are.
fn length_of(state: &[u8]) -> ([u8; LENGTH_BYTES_MAX], usize) {
    let (mut bytes, mut count, mut rest) = ([0; LENGTH_BYTES_MAX], 0, state.len());
    while rest >= 0x80 && count + 1 < LENGTH_BYTES_MAX {
        bytes[count] = (rest & 0x7f) as u8 | 0x80;
        rest >>= 7;
        count += 1;
    }
    assert!(rest < 0x80, "a state is held against its limit before it comes here");
    bytes[count] = rest as u8;
    (bytes, count + 1)
}

impl StateLink {
    fn load(self, bytes: &BytesPool) -> &[u8] {
        let cell = bytes.get(BytesHandle::from_raw(self.0));
        let (mut length, mut at) = (0, 0);
        loop {
            length |= ((cell[at] & 0x7f) as usize) << (7 * at);
            at += 1;
            if cell[at - 1] < 0x80 {
                return &cell[at..at + length];
            }
        }
    }
}

impl Cell {
    /// Whether a slot can hold it beside a state: it has nothing to link.
    pub(super) fn goes_with_state(self) -> bool {
        self.link == Link::NONE && self.name != NameClass::Named
    }
}

impl Pools {
    /// The state of a key.
    #[inline]
    pub(crate) fn state(&self, slot: SlotIndex) -> Option<&[u8]> {
        self.state_link(slot).map(|link| link.load(&self.bytes))
    }

    /// Whether a key has neither timers nor a state.
    #[inline]
    pub(crate) fn is_idle(&self, slot: SlotIndex) -> bool {
        match self.slots.get(slot).class() {
            Class::Idle => true,
            Class::Several => self.several(slot).len() == 0 && self.several(slot).state.is_none(),
            _ => false,
        }
    }

    /// Sets the state of a key. What the wheel knows of it stays as it is.
    pub(crate) fn set_state(&mut self, slot: SlotIndex, state: &[u8]) {
        let (length, length_bytes) = length_of(state);
        let parts = [&length[..length_bytes], state];
        if let Some(StateLink(old)) = self.state_link(slot) {
            let new = self.bytes.replace(BytesHandle::from_raw(old), &parts);
            if new.to_raw() != old {
                self.relink_state(slot, StateLink(new.to_raw()));
            }
            return;
        }
        let state = StateLink(self.bytes.store(&parts).to_raw());
        if self.only(slot).is_some_and(|(_, cell)| !cell.goes_with_state()) {
            self.widen(slot);
        }
        self.link_state(slot, state);
    }

    /// Takes the state of a key away. What the wheel knows of it stays as it is.
    pub(crate) fn clear_state(&mut self, slot: SlotIndex) {
        let Some(StateLink(link)) = self.state_link(slot) else {
            return;
        };
        self.bytes.free(BytesHandle::from_raw(link));
        let it = self.slots.get_mut(slot);
        let domain = it.domain();
        match it.class() {
            Class::Several => {
                self.several_mut(slot).state = None;
                self.narrow(slot);
                return;
            }
            Class::StatedUnnamed => it.set_class(Class::Unnamed, domain),
            Class::StatedDefault => it.set_class(Class::Default, domain),
            _ => it.set_class(Class::Idle, domain),
        }
        it.link = Link::NONE.to_raw();
    }

    #[inline]
    pub(super) fn state_link(&self, slot: SlotIndex) -> Option<StateLink> {
        let it = self.slots.get(slot);
        let class = it.class();
        if class == Class::Several {
            return self.several(slot).state;
        }
        class.links_state().then_some(StateLink(it.link))
    }

    /// Links a state to a slot that has none, and whose own link is free unless it has a list.
    pub(super) fn link_state(&mut self, slot: SlotIndex, state: StateLink) {
        let it = self.slots.get_mut(slot);
        let (class, domain) = (it.class(), it.domain());
        let stated = match class {
            Class::Several => {
                self.several_mut(slot).state = Some(state);
                return;
            }
            Class::Idle => Class::Stated,
            Class::Unnamed => Class::StatedUnnamed,
            _ => Class::StatedDefault,
        };
        debug_assert!(class == Class::Idle || it.link == Link::NONE.to_raw());
        it.set_class(stated, domain);
        it.link = state.0;
    }

    fn relink_state(&mut self, slot: SlotIndex, state: StateLink) {
        if self.slots.get(slot).class() == Class::Several {
            self.several_mut(slot).state = Some(state);
        } else {
            self.slots.get_mut(slot).link = state.0;
        }
    }

    /// Adds a timer to a key that has none, but a state.
    pub(super) fn insert_beside_state(&mut self, slot: SlotIndex, domain: Domain, cell: Cell) {
        let Some(state) = self.state_link(slot) else { return };
        if cell.goes_with_state() {
            self.set_only(slot, domain, cell, None);
            self.link_state(slot, state);
            return;
        }
        let list = self.lists.take();
        self.lists.get_mut(list).state = Some(state);
        let it = self.slots.get_mut(slot);
        it.set_class(Class::Several, domain);
        it.link = list;
        self.several_insert(slot, domain, cell);
    }
}

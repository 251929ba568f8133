//! Slots: 32 bytes for a key and its timer.
//!
//! ```text
//!  0        8      12     16     17                  32
//!  | time   | lag  | link | kind | key (up to 15 B)  |
//!
//!  kind:  bits 0-3 length of a key kept inline, 0 for one kept elsewhere
//!         bit  4   domain of the timer
//!         bits 5-7 class: no timer, unnamed, the default name, another name, several timers; with
//!                  state: no timer, unnamed, the default name
//!  link:  what travels with the one timer (`blob`), or where the several are (`list`), or the
//!         key's state (`state`); a key with a state and a timer that has something else to link
//!         has a list, and so have all keys with several timers
//!  lag:   how far the wheel's live entry for this key stands before `time`; behind it if negative
//!  key:   the bytes; or, for a longer one, its handle (4), its length (2) and its hash (8)
//! ```
//!
//! A key with one timer, by far the most common kind, is its slot and nothing more: no look-up
//! beyond the table's, and a heartbeat that moves it later is one write to this line. The lag makes
//! postponing free: the entry stays where it is, at `time - lag`, until it comes up. Behind its time
//! stands that of a key that is held back.

use super::bytes::{BytesHandle, BytesPool};
use super::region::{Region, stretch_of};
use super::segments::Segments;
use crate::key_group::xxh3_64;
use crate::prefetch::prefetch;
use crate::time::{Domain, Timestamp};
use bytemuck::{Pod, Zeroable};

/// The number of a slot, in the pool that all partitions of a shard share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotIndex(pub(crate) u32);

/// What timers a slot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// None.
    Idle,
    /// One without a name.
    Unnamed,
    /// One with the default name.
    Default,
    /// One with another name, which stands in its blob.
    Named,
    /// Several, or one that has a link of its own beside the key's state; `link` says where.
    Several,
    /// None, but a state.
    Stated,
    /// One without a name and payload, and a state.
    StatedUnnamed,
    /// One with the default name and without payload, and a state.
    StatedDefault,
}

impl Class {
    /// Whether `link` is the key's state.
    pub(crate) const fn links_state(self) -> bool {
        matches!(self, Self::Stated | Self::StatedUnnamed | Self::StatedDefault)
    }
}

/// The slot that is taken so many takes later is asked for now: nothing else tells of it.
const TAKEN_SOON: usize = 16;
const KEY_INLINE_BYTES: usize = 15;
const KEY_LENGTH_MASK: u8 = 0x0f;
const DOMAIN_EVENT: u8 = 0x10;
const CLASS_SHIFT: u8 = 5;

/// See the module.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) time: i64,
    pub(crate) lag: i32,
    pub(crate) link: u32,
    kind: u8,
    key: [u8; KEY_INLINE_BYTES],
}

// Two of them fill a cache line, and none stands across two: the region begins on a page.
const _: () = assert!(size_of::<Slot>() == 32);

impl Slot {
    /// What timers it has.
    #[inline]
    pub(crate) const fn class(&self) -> Class {
        match self.kind >> CLASS_SHIFT {
            0 => Class::Idle,
            1 => Class::Unnamed,
            2 => Class::Default,
            3 => Class::Named,
            4 => Class::Several,
            5 => Class::Stated,
            6 => Class::StatedUnnamed,
            _ => Class::StatedDefault,
        }
    }

    /// Says what timers it has; for one timer, in which domain.
    #[inline]
    pub(crate) const fn set_class(&mut self, class: Class, domain: Domain) {
        let domain = match domain {
            Domain::Event => DOMAIN_EVENT,
            Domain::Processing => 0,
        };
        self.kind = (self.kind & KEY_LENGTH_MASK) | domain | ((class as u8) << CLASS_SHIFT);
    }

    /// The domain of its one timer.
    #[inline]
    pub(crate) const fn domain(&self) -> Domain {
        if self.kind & DOMAIN_EVENT == 0 { Domain::Processing } else { Domain::Event }
    }

    /// The time of its one timer.
    #[inline]
    pub(crate) const fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.time)
    }

    /// Where the wheel's live entry for its one timer stands.
    #[inline]
    pub(crate) const fn armed(&self) -> Timestamp {
        // The lag is a difference of two legal times, so it comes off without leaving the range.
        Timestamp::from_millis(self.time.wrapping_sub(self.lag as i64))
    }

    /// Where its key is kept, if that is not here.
    #[inline]
    pub(crate) fn key_elsewhere(&self) -> Option<BytesHandle> {
        (self.kind & KEY_LENGTH_MASK == 0).then(|| self.external().0)
    }

    fn external(&self) -> (BytesHandle, usize, u64) {
        let key = &self.key;
        let handle = u32::from_le_bytes([key[0], key[1], key[2], key[3]]);
        let length = u16::from_le_bytes([key[4], key[5]]);
        let mut hash = [0; 8];
        hash.copy_from_slice(&key[6..14]);
        (BytesHandle::from_raw(handle), length as usize, u64::from_le_bytes(hash))
    }
}

/// The slots of a shard.
#[derive(Debug, Default)]
pub(crate) struct SlotPool {
    slots: Region<Slot, { stretch_of::<Slot>() }>,
    used: usize,
    free: Segments<u32, 1_024>,
}

impl SlotPool {
    /// The slot.
    #[inline]
    pub(crate) fn get(&self, index: SlotIndex) -> &Slot {
        self.slots.get(index.0)
    }

    /// The slot.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: SlotIndex) -> &mut Slot {
        self.slots.get_mut(index.0)
    }

    /// Takes a slot for a key without timers.
    #[inline]
    pub(crate) fn take(&mut self, bytes: &mut BytesPool, key: &[u8], hash: u64) -> SlotIndex {
        let mut slot = Slot::zeroed();
        if key.len() <= KEY_INLINE_BYTES {
            slot.kind = key.len() as u8;
            slot.key[..key.len()].copy_from_slice(key);
        } else {
            let handle = bytes.store(&[key]);
            slot.key[0..4].copy_from_slice(&handle.to_raw().to_le_bytes());
            slot.key[4..6].copy_from_slice(&(key.len() as u16).to_le_bytes());
            slot.key[6..14].copy_from_slice(&hash.to_le_bytes());
        }
        self.used += 1;
        if let Some(soon) = self.free.below_top(TAKEN_SOON) {
            prefetch(self.slots.get(soon));
        }
        let index = self.free.pop().unwrap_or_else(|| self.slots.take(0));
        *self.slots.get_mut(index) = slot;
        SlotIndex(index)
    }

    /// Gives a slot back.
    #[inline]
    pub(crate) fn release(&mut self, bytes: &mut BytesPool, index: SlotIndex) {
        let slot = self.slots.get_mut(index.0);
        if let Some(handle) = slot.key_elsewhere() {
            bytes.free(handle);
        }
        *slot = Slot::zeroed();
        self.free.push(index.0);
        self.used -= 1;
    }

    /// The key of a slot.
    #[inline]
    pub(crate) fn key<'a>(&'a self, bytes: &'a BytesPool, index: SlotIndex) -> &'a [u8] {
        let slot = self.get(index);
        let length = (slot.kind & KEY_LENGTH_MASK) as usize;
        if length > 0 {
            return &slot.key[..length];
        }
        let (handle, length, _) = slot.external();
        &bytes.get(handle)[..length]
    }

    /// The hash of the slot's key.
    #[inline]
    pub(crate) fn hash(&self, index: SlotIndex) -> u64 {
        let slot = self.get(index);
        let length = (slot.kind & KEY_LENGTH_MASK) as usize;
        if length > 0 { xxh3_64(&slot.key[..length]) } else { slot.external().2 }
    }

    /// Whether the slot holds this key.
    #[inline]
    pub(crate) fn holds(&self, bytes: &BytesPool, index: SlotIndex, key: &[u8], hash: u64) -> bool {
        let slot = self.get(index);
        let length = (slot.kind & KEY_LENGTH_MASK) as usize;
        if length > 0 {
            return length == key.len() && is_same(&slot.key, key);
        }
        let (handle, length, its_hash) = slot.external();
        its_hash == hash && length == key.len() && &bytes.get(handle)[..length] == key
    }

    /// Slots in use.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Bytes of all slots taken so far, and of the list of free ones.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.bytes() + self.free.bytes()
    }
}

/// Whether a key of a slot begins with `key`, which is not longer: two overlapping words are compared
/// where that is enough, instead of a call for a few bytes.
#[inline]
fn is_same(stored: &[u8; KEY_INLINE_BYTES], key: &[u8]) -> bool {
    let length = key.len();
    let (Some((a, _)), Some((b, _))) =
        (stored[..length].split_first_chunk::<8>(), key.split_first_chunk::<8>())
    else {
        return stored.iter().zip(key).all(|(a, b)| a == b);
    };
    let (Some((_, y)), Some((_, z))) =
        (stored[..length].split_last_chunk::<8>(), key.split_last_chunk::<8>())
    else {
        return false;
    };
    u64::from_le_bytes(*a) == u64::from_le_bytes(*b)
        && u64::from_le_bytes(*y) == u64::from_le_bytes(*z)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_holds_short_and_long_keys() {
        let (mut slots, mut bytes) = (SlotPool::default(), BytesPool::default());
        for length in [1, 2, 14, 15, 16, 32, 1_024] {
            let key: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let hash = xxh3_64(&key);
            let index = slots.take(&mut bytes, &key, hash);
            assert_eq!(slots.key(&bytes, index), key);
            assert_eq!(slots.hash(index), hash);
            assert!(slots.holds(&bytes, index, &key, hash));
            assert!(!slots.holds(&bytes, index, &key[..length - 1], xxh3_64(&key[..length - 1])));
            for wrong in 0..length {
                let mut other = key.clone();
                other[wrong] ^= 1;
                assert!(!slots.holds(&bytes, index, &other, xxh3_64(&other)), "{wrong}");
            }
            slots.release(&mut bytes, index);
            assert_eq!(slots.take(&mut bytes, b"other", xxh3_64(b"other")), index);
            slots.release(&mut bytes, index);
        }
        assert_eq!(slots.used(), 0);
        assert_eq!(bytes.bytes(), 0);
    }

    #[test]
    fn class_and_domain_leave_the_key_alone() {
        let (mut slots, mut bytes) = (SlotPool::default(), BytesPool::default());
        let index = slots.take(&mut bytes, b"key", xxh3_64(b"key"));
        for class in [
            Class::Idle,
            Class::Unnamed,
            Class::Default,
            Class::Named,
            Class::Several,
            Class::Stated,
            Class::StatedUnnamed,
            Class::StatedDefault,
        ] {
            for domain in Domain::ALL {
                slots.get_mut(index).set_class(class, domain);
                assert_eq!(slots.get(index).class(), class);
                assert_eq!(slots.get(index).domain(), domain);
                assert_eq!(slots.key(&bytes, index), b"key");
            }
        }
    }

    #[test]
    fn the_lag_reaches_over_the_whole_range() {
        let mut slot = Slot::zeroed();
        slot.time = i64::MIN + 5;
        slot.lag = 5;
        assert_eq!(slot.armed(), Timestamp::MIN);
        slot.time = i64::MAX;
        slot.lag = i32::MAX;
        assert_eq!(slot.armed().as_millis(), i64::MAX - i32::MAX as i64);
        slot.time = i64::MIN;
        slot.lag = i32::MIN;
        assert_eq!(slot.armed().as_millis(), i64::MIN - i32::MIN as i64);
    }
}

//! The bytes of one partition: its producers, then its keys with their states and timers, in no
//! order that means anything.
//!
//! ```text
//! partition  version u8 = 2 | producers n | n × producer | keys n | n × key
//! producer   name length n | name | sequence n | index n
//! key        key length n | head n | key | state length n? state? | timers × timer
//!
//!   head:  bit 0     a state follows the key
//!          above     how many timers; a key has a state or timers
//!
//! timer      head u8 | time i64 | name length u8? name? | payload length n? payload?
//!
//!   head:  bit 0     domain: 0 processing, 1 event
//!          bits 1-2  name: 0 none, 1 the default one, 2 another, which follows
//!          bits 3-4  payload: 0 none, 1 JSON, 2 binary
//!          bits 5-7  0
//!   n: a number of up to 64 bits in LEB128; all else is little-endian
//! ```
//!
//! A key's timers stand in the order (domain, time, name) in which they fire. A key of 15 bytes
//! with one timer takes 26 bytes. There is no padding and no second form of anything.
//!
//! Version 1, which is still read, knew no states: the number of timers stood where the head is.

use super::fault::SnapshotFault;
use super::varint;
use crate::keyed::{NameClass, Pools, SlotIndex};
use crate::limits::{
    IDENTIFIER_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, STATE_BYTES_MAX,
    TIMERS_PER_KEY_MAX,
};
use crate::op::{DEFAULT_TIMER_NAME, Payload};
use crate::time::{Domain, Timestamp};
use std::borrow::Cow;

/// A producer of operations: its name, and the sequence and index up to which it was heard.
pub(crate) type Producer = (String, u64, u32);

/// The fewest bytes that a key takes: one byte of it, and a state of none.
pub(crate) const KEY_ENTRY_BYTES_MIN: usize = 4;

const VERSION: u8 = 2;
const VERSION_WITHOUT_STATES: u8 = 1;
const STATE: u64 = 1;
const TIMERS_SHIFT: u32 = 1;
const EVENT: u8 = 1;
const NAME_SHIFT: u8 = 1;
const NAME_DEFAULT: u8 = 1;
const NAME_OTHER: u8 = 2;
const PAYLOAD_SHIFT: u8 = 3;
const PAYLOAD_JSON: u8 = 1;
const PAYLOAD_BINARY: u8 = 2;
const HEAD_BITS: u8 = 5;

/// Appends what stands before the keys, of which `keys` will follow.
pub(crate) fn encode_head(out: &mut Vec<u8>, producers: &[Producer], keys: u64) {
    out.push(VERSION);
    encode_producers(out, producers);
    varint::put(out, keys);
}

fn encode_producers(out: &mut Vec<u8>, producers: &[Producer]) {
    varint::put(out, producers.len() as u64);
    for (name, sequence, index) in producers {
        varint::put(out, name.len() as u64);
        out.extend_from_slice(name.as_bytes());
        varint::put(out, *sequence);
        varint::put(out, *index as u64);
    }
}

/// Appends the key of a slot with its state and its timers.
#[inline]
pub(crate) fn encode_slot(out: &mut Vec<u8>, pools: &Pools, slot: SlotIndex) {
    let key = pools.key(slot);
    varint::put(out, key.len() as u64);
    let state = pools.state(slot);
    let has_state = if state.is_some() { STATE } else { 0 };
    varint::put(out, (pools.count(slot) as u64) << TIMERS_SHIFT | has_state);
    out.extend_from_slice(key);
    if let Some(state) = state {
        varint::put(out, state.len() as u64);
        out.extend_from_slice(state);
    }
    for domain in Domain::ALL {
        pools.for_each(slot, domain, |cell| {
            // The default name and none need no look at what travels with the timer, if nothing
            // does.
            let (name, payload) = pools.blob(cell);
            let name_class = match cell.name {
                NameClass::Unnamed => 0,
                NameClass::Default => NAME_DEFAULT,
                NameClass::Named => NAME_OTHER,
            };
            let payload_class = match payload {
                None => 0,
                Some(Payload::Json(_)) => PAYLOAD_JSON,
                Some(Payload::Binary(_)) => PAYLOAD_BINARY,
            };
            let mut fixed = [0; 9];
            let event = if domain == Domain::Event { EVENT } else { 0 };
            fixed[0] = event | name_class << NAME_SHIFT | payload_class << PAYLOAD_SHIFT;
            fixed[1..].copy_from_slice(&cell.time.as_millis().to_le_bytes());
            out.extend_from_slice(&fixed);
            if name_class == NAME_OTHER {
                let name = name.unwrap_or_default();
                out.push(name.len() as u8);
                out.extend_from_slice(name.as_bytes());
            }
            if let Some(payload) = payload {
                varint::put(out, payload.bytes().len() as u64);
                out.extend_from_slice(payload.bytes());
            }
        });
    }
}

/// A key, how many timers it has, and the bytes of both and of its state, as this version writes
/// them.
pub(crate) type KeyEntry<'a> = (&'a [u8], u32, Cow<'a, [u8]>);

/// One timer of a key that is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerEntry<'a> {
    pub(crate) domain: Domain,
    pub(crate) time: Timestamp,
    pub(crate) name: Option<&'a str>,
    pub(crate) payload: Option<Payload<'a>>,
}

/// Reads a partition: its producers, then [each key](PartitionReader::next_key), the
/// [state](PartitionReader::state) and [each timer](PartitionReader::next_timer) of the key that
/// came last. Everything is held against
/// the limits; that no key comes twice is for the partition to see.
pub(crate) struct PartitionReader<'a> {
    what: &'a str,
    length: usize,
    rest: &'a [u8],
    producers: Vec<Producer>,
    has_states: bool,
    keys: u64,
    keys_left: u64,
    timers_left: u32,
    state: Option<&'a [u8]>,
    /// What the timer before this one of the key was ordered by.
    last: Option<(Domain, Timestamp, Option<&'a str>)>,
}

impl<'a> PartitionReader<'a> {
    /// Begins to read; `what` is how faults call these bytes.
    pub(crate) fn open(what: &'a str, bytes: &'a [u8]) -> Result<Self, SnapshotFault> {
        let mut it = Self {
            what,
            length: bytes.len(),
            rest: bytes,
            producers: Vec::new(),
            has_states: true,
            keys: 0,
            keys_left: 0,
            timers_left: 0,
            state: None,
            last: None,
        };
        let version = it.byte("it has no version")?;
        it.has_states = version == VERSION;
        if !it.has_states && version != VERSION_WITHOUT_STATES {
            let (found, known) = (version as u32, VERSION as u32);
            return Err(SnapshotFault::Newer { object: what.to_owned(), found, known });
        }
        it.producers = it.take_producers()?;
        it.keys = it.number("the number of its keys")?;
        it.keys_left = it.keys;
        Ok(it)
    }

    /// The producers.
    pub(crate) fn producers(&self) -> &[Producer] {
        &self.producers
    }

    /// How many keys it says there are.
    pub(crate) fn keys(&self) -> u64 {
        self.keys
    }

    /// How many bytes all of it has.
    pub(crate) fn len_bytes(&self) -> usize {
        self.length
    }

    /// Something is wrong with what was read last.
    #[cold]
    pub(crate) fn fault(&self, detail: &'static str) -> SnapshotFault {
        SnapshotFault::damaged(self.what, (self.length - self.rest.len()) as u64, detail)
    }

    /// The next key and how many timers follow; `None`: there are no more, and nothing is left.
    #[inline]
    pub(crate) fn next_key(&mut self) -> Result<Option<(&'a [u8], u32)>, SnapshotFault> {
        if self.timers_left > 0 {
            return Err(self.fault("timers of the key were not read"));
        }
        if self.keys_left == 0 {
            if !self.rest.is_empty() {
                return Err(self.fault("something stands behind the last key"));
            }
            return Ok(None);
        }
        self.keys_left -= 1;
        let length = self.number("the length of a key")? as usize;
        let head = self.number("the number of a key's timers")?;
        let (timers, has_state) =
            if self.has_states { (head >> TIMERS_SHIFT, head & STATE != 0) } else { (head, false) };
        if !(1..=KEY_BYTES_MAX).contains(&length) {
            return Err(self.fault("the length of a key is out of bounds"));
        }
        if timers > TIMERS_PER_KEY_MAX as u64 || timers == 0 && !has_state {
            return Err(self.fault("the number of a key's timers is out of bounds"));
        }
        let key = self.bytes(length, "a key is cut short")?;
        self.state = if has_state { Some(self.take_state()?) } else { None };
        self.timers_left = timers as u32;
        self.last = None;
        Ok(Some((key, timers as u32)))
    }

    /// The state of the key that came last.
    pub(crate) fn state(&self) -> Option<&'a [u8]> {
        self.state
    }

    fn take_state(&mut self) -> Result<&'a [u8], SnapshotFault> {
        let length = self.number("the length of a state")? as usize;
        if length > STATE_BYTES_MAX {
            return Err(self.fault("the length of a state is out of bounds"));
        }
        self.bytes(length, "a state is cut short")
    }

    /// The next key with its state and all its timers, looked at and left as they are.
    pub(crate) fn next_entry(&mut self) -> Result<Option<KeyEntry<'a>>, SnapshotFault> {
        let before = self.rest;
        let Some((key, timers)) = self.next_key()? else {
            return Ok(None);
        };
        let behind_head = self.rest;
        for _ in 0..timers {
            self.next_timer()?;
        }
        let bytes = if self.has_states {
            Cow::Borrowed(&before[..before.len() - self.rest.len()])
        } else {
            let mut bytes = Vec::new();
            varint::put(&mut bytes, key.len() as u64);
            varint::put(&mut bytes, (timers as u64) << TIMERS_SHIFT);
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&behind_head[..behind_head.len() - self.rest.len()]);
            Cow::Owned(bytes)
        };
        Ok(Some((key, timers, bytes)))
    }

    /// The next timer of the key that came last.
    #[inline]
    pub(crate) fn next_timer(&mut self) -> Result<TimerEntry<'a>, SnapshotFault> {
        let Some(left) = self.timers_left.checked_sub(1) else {
            return Err(self.fault("the key has no more timers"));
        };
        self.timers_left = left;
        let head = self.byte("a timer is cut short")?;
        let Some((time, behind)) = self.rest.split_first_chunk::<8>() else {
            return Err(self.fault("a timer is cut short"));
        };
        self.rest = behind;
        let time = Timestamp::from_millis(i64::from_le_bytes(*time));
        let domain = if head & EVENT == 0 { Domain::Processing } else { Domain::Event };
        let name = match head >> NAME_SHIFT & 3 {
            0 => None,
            NAME_DEFAULT => Some(DEFAULT_TIMER_NAME),
            NAME_OTHER => Some(self.name()?),
            _ => return Err(self.fault("a timer has no such class of name")),
        };
        let payload = match head >> PAYLOAD_SHIFT & 3 {
            0 => None,
            PAYLOAD_JSON => Some(Payload::Json(self.payload()?)),
            PAYLOAD_BINARY => Some(Payload::Binary(self.payload()?)),
            _ => return Err(self.fault("a timer has no such class of payload")),
        };
        if head >> HEAD_BITS != 0 {
            return Err(self.fault("a timer has bits that mean nothing"));
        }
        let order = (domain, time, name);
        if self.last.is_some_and(|last| last >= order) {
            return Err(self.fault("the timers of a key are out of order"));
        }
        self.last = Some(order);
        Ok(TimerEntry { domain, time, name, payload })
    }

    fn name(&mut self) -> Result<&'a str, SnapshotFault> {
        let length = self.byte("a name is cut short")? as usize;
        let name = self.bytes(length, "a name is cut short")?;
        let Ok(name) = std::str::from_utf8(name) else {
            return Err(self.fault("a name is no text"));
        };
        const { assert!(NAME_BYTES_MAX == u8::MAX as usize, "any length of a name is legal") };
        if name.is_empty() || name == DEFAULT_TIMER_NAME {
            return Err(self.fault("a name is of another class"));
        }
        Ok(name)
    }

    fn payload(&mut self) -> Result<&'a [u8], SnapshotFault> {
        let length = self.number("the length of a payload")? as usize;
        if length > PAYLOAD_BYTES_MAX {
            return Err(self.fault("the length of a payload is out of bounds"));
        }
        self.bytes(length, "a payload is cut short")
    }

    fn take_producers(&mut self) -> Result<Vec<Producer>, SnapshotFault> {
        let count = self.number("the number of its producers")?;
        // Not reserved: the count is only as good as the bytes that follow.
        let mut producers = Vec::new();
        for _ in 0..count {
            let length = self.number("the length of a producer's name")? as usize;
            if !(1..=IDENTIFIER_BYTES_MAX).contains(&length) {
                return Err(self.fault("the length of a producer's name is out of bounds"));
            }
            let name = self.bytes(length, "a producer's name is cut short")?;
            let Ok(name) = std::str::from_utf8(name) else {
                return Err(self.fault("a producer's name is no text"));
            };
            let sequence = self.number("the sequence of a producer")?;
            let Ok(index) = u32::try_from(self.number("the index of a producer")?) else {
                return Err(self.fault("the index of a producer is out of bounds"));
            };
            producers.push((name.to_owned(), sequence, index));
        }
        Ok(producers)
    }

    #[inline]
    fn number(&mut self, detail: &'static str) -> Result<u64, SnapshotFault> {
        varint::take(&mut self.rest).ok_or_else(|| self.fault(detail))
    }

    #[inline]
    fn byte(&mut self, detail: &'static str) -> Result<u8, SnapshotFault> {
        let Some((byte, behind)) = self.rest.split_first() else {
            return Err(self.fault(detail));
        };
        self.rest = behind;
        Ok(*byte)
    }

    #[inline]
    fn bytes(&mut self, length: usize, detail: &'static str) -> Result<&'a [u8], SnapshotFault> {
        let Some((bytes, behind)) = self.rest.split_at_checked(length) else {
            return Err(self.fault(detail));
        };
        self.rest = behind;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;

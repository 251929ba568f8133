//! Output records: what an operator emitted, with an id that replay reproduces. A record is a fire,
//! or a value of a function; the two are written down alike.
//!
//! A slice of firing writes its records into an [`OutputWriter`], one buffer without an allocation
//! a record; the output log gives the block its place in the one sequence of the process and hands
//! it to readers as it is. Formats (JSON, server-sent events) are the server's business.

use crate::op::Payload;
use crate::time::{Domain, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A namespace's incarnation: never reused, so that nothing of a deleted one meets its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamespaceId(pub u64);

/// A place in the output log: "after this record". One number for the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor(pub u64);

/// What makes an output record itself, the same on replay and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputId {
    /// The incarnation of its namespace.
    pub namespace: NamespaceId,
    /// The lane of the record that caused it.
    pub lane: u16,
    /// The position in that lane of the record that caused it.
    pub position: u64,
    /// The hash of its key.
    pub key_hash: u64,
    /// Which of the key's outputs under that position it is.
    pub ordinal: u32,
}

impl fmt::Display for OutputId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:x}-{:x}-{:x}-{:016x}-{:x}",
            self.namespace.0, self.lane, self.position, self.key_hash, self.ordinal
        )
    }
}

/// A block of output records with its place in the sequence. All of one namespace.
#[derive(Debug)]
pub struct OutputBlock {
    /// The cursor of its first record; the others follow without a gap.
    pub first: Cursor,
    /// When it was appended, on the adjusted clock.
    pub appended_ms: i64,
    /// Its records.
    pub records: OutputBytes,
}

impl OutputBlock {
    /// The records with their cursors, those after `after` only.
    pub fn after(&self, after: Cursor) -> impl Iterator<Item = (Cursor, OutputRecord<'_>)> {
        let first = self.first.0;
        self.records
            .iter()
            .enumerate()
            .map(move |(index, record)| (Cursor(first + index as u64), record))
            .filter(move |(cursor, _)| *cursor > after)
    }

    /// The cursor of its last record.
    pub const fn last(&self) -> Cursor {
        Cursor(self.first.0 + self.records.count as u64 - 1)
    }
}

/// A place in the output log's files that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFault {
    /// The file, relative to the data directory.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What is wrong there.
    pub detail: String,
}

impl fmt::Display for OutputFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.file, self.offset, self.detail)
    }
}

/// One output record, borrowed from its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRecord<'a> {
    /// What makes it itself.
    pub id: OutputId,
    /// Its key.
    pub key: &'a [u8],
    /// The name of the timer that fired, if it has one.
    pub name: Option<&'a str>,
    /// Which clock the timer followed.
    pub domain: Domain,
    /// When it was due.
    pub fire_at: Timestamp,
    /// The tick (processing time) or the watermark (event time) that made it due.
    pub due_by: Timestamp,
    /// What travelled with the timer, or the value.
    pub payload: Option<Payload<'a>>,
    /// A fire, or a value.
    pub kind: OutputKind<'a>,
}

/// What an output record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind<'a> {
    /// A timer has fired.
    Fire,
    /// A function has emitted a value, which is the payload. The domain and `fire_at` are those of
    /// the timer at which it did (`due_by` is the same as `fire_at`, and there is no name); an
    /// element counts as of event time, at its timestamp.
    Value {
        /// The side output that it went to; `None`: the main one.
        tag: Option<&'a str>,
        /// Its timestamp, if it has one.
        timestamp: Option<Timestamp>,
    },
}

impl<'a> OutputKind<'a> {
    /// The side output that it went to; `None`: the main one.
    pub const fn tag(self) -> Option<&'a str> {
        match self {
            Self::Fire => None,
            Self::Value { tag, .. } => tag,
        }
    }
}

impl OutputRecord<'_> {
    /// For a processing-time fire: how late it is by the tick that made it due, never negative.
    pub fn lateness_ms(&self) -> i64 {
        self.due_by.saturating_since(self.fire_at).max(0)
    }
}

const HEAD_BYTES: usize = 48;
const HINT_BYTES_MAX: usize = 64 << 10;
const NAME_NONE: u16 = u16::MAX;
const FLAG_EVENT: u8 = 1;
const FLAG_PAYLOAD: u8 = 2;
const FLAG_BINARY: u8 = 4;
const FLAG_OVERDUE: u8 = 8;
const FLAG_RESTART: u8 = 16;
/// It is a value: the name is its tag, and its timestamp stands where `due_by` is.
const FLAG_VALUE: u8 = 32;
/// It is a value without a timestamp.
const FLAG_TIMELESS: u8 = 64;
const FLAGS_KNOWN: u8 = FLAG_EVENT
    | FLAG_PAYLOAD
    | FLAG_BINARY
    | FLAG_OVERDUE
    | FLAG_RESTART
    | FLAG_VALUE
    | FLAG_TIMELESS;

/// Collects the output records of one namespace on one lane.
///
/// ```text
///  0        8        16       24       32       36       40   42    44   45    48
///  | fire_at | due_by | position | key_hash | ordinal | payload | key | name | flags | 0 | key name payload
/// ```
#[derive(Debug, Default)]
pub struct OutputWriter {
    bytes: Vec<u8>,
    count: u32,
    /// What the last block took: the next one is probably like it.
    hint_bytes: u32,
}

impl OutputWriter {
    /// How many records it holds.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes it holds.
    pub const fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a record. Its namespace and lane are those of the block it ends up in.
    pub fn push(&mut self, record: &OutputRecord<'_>) {
        self.push_flagged(record, 0);
    }

    /// Appends the record of a timer that was due already when it was registered: its lateness is
    /// not the service's.
    pub fn push_overdue(&mut self, record: &OutputRecord<'_>) {
        self.push_flagged(record, FLAG_OVERDUE);
    }

    /// Appends the record of a timer that was due while nothing could fire: its lateness is that of
    /// a restart.
    pub fn push_restarted(&mut self, record: &OutputRecord<'_>) {
        self.push_flagged(record, FLAG_RESTART);
    }

    #[inline]
    fn push_flagged(&mut self, record: &OutputRecord<'_>, mut flags: u8) {
        if self.bytes.is_empty() {
            self.bytes.reserve(self.hint_bytes as usize + HEAD_BYTES);
        }
        let payload_bytes = record.payload.map_or(0, |payload| payload.bytes().len());
        if record.domain == Domain::Event {
            flags |= FLAG_EVENT;
        }
        match record.payload {
            None => {}
            Some(Payload::Json(_)) => flags |= FLAG_PAYLOAD,
            Some(Payload::Binary(_)) => flags |= FLAG_PAYLOAD | FLAG_BINARY,
        }
        let (name, due_by) = match record.kind {
            OutputKind::Fire => (record.name, record.due_by),
            OutputKind::Value { tag, timestamp } => {
                flags |= FLAG_VALUE;
                if timestamp.is_none() {
                    flags |= FLAG_TIMELESS;
                }
                (tag, timestamp.unwrap_or(record.fire_at))
            }
        };
        let mut head = [0; HEAD_BYTES];
        head[0..8].copy_from_slice(&record.fire_at.as_millis().to_le_bytes());
        head[8..16].copy_from_slice(&due_by.as_millis().to_le_bytes());
        head[16..24].copy_from_slice(&record.id.position.to_le_bytes());
        head[24..32].copy_from_slice(&record.id.key_hash.to_le_bytes());
        head[32..36].copy_from_slice(&record.id.ordinal.to_le_bytes());
        head[36..40].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
        head[40..42].copy_from_slice(&(record.key.len() as u16).to_le_bytes());
        let name_bytes = name.map_or(NAME_NONE, |name| name.len() as u16);
        head[42..44].copy_from_slice(&name_bytes.to_le_bytes());
        head[44] = flags;
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(record.key);
        self.bytes.extend_from_slice(name.unwrap_or_default().as_bytes());
        self.bytes.extend_from_slice(record.payload.map_or(&[], |payload| payload.bytes()));
        self.count += 1;
    }

    /// Closes the block and leaves the writer empty.
    pub fn finish(&mut self, namespace: NamespaceId, lane: u16) -> OutputBytes {
        self.hint_bytes = self.bytes.len().min(HINT_BYTES_MAX) as u32;
        let bytes = std::mem::take(&mut self.bytes).into_boxed_slice();
        let count = std::mem::take(&mut self.count);
        OutputBytes { namespace, lane, count, is_live: false, bytes }
    }
}

/// Output records of one namespace and lane, in the order in which they were emitted.
#[derive(Debug)]
pub struct OutputBytes {
    /// The namespace they belong to.
    pub namespace: NamespaceId,
    /// The lane they come from.
    pub lane: u16,
    /// How many they are.
    pub count: u32,
    /// They were just emitted, on the system clock: how late they are is worth counting.
    pub(crate) is_live: bool,
    bytes: Box<[u8]>,
}

impl OutputBytes {
    /// Records that were written down by [`OutputBytes::as_bytes`]. `None` unless the bytes are
    /// `count` whole records: what was taken in here can be read without a check from then on.
    pub fn from_bytes(
        namespace: NamespaceId,
        lane: u16,
        count: u32,
        bytes: Box<[u8]>,
    ) -> Option<Self> {
        let mut rest = &bytes[..];
        for _ in 0..count {
            let (head, behind) = rest.split_first_chunk::<HEAD_BYTES>()?;
            let head = RawHead(head);
            let (tail, behind) = behind.split_at_checked(head.tail_bytes())?;
            let key_bytes = head.short(40) as usize;
            let payload_bytes = head.int(36) as usize;
            let name = &tail[key_bytes..tail.len() - payload_bytes];
            let has_payload = head.flags() & FLAG_PAYLOAD != 0;
            let is_value = head.flags() & FLAG_VALUE != 0;
            let is_sound = head.flags() & !FLAGS_KNOWN == 0
                && (has_payload || !is_value)
                && (is_value || head.flags() & FLAG_TIMELESS == 0)
                && (has_payload || (payload_bytes == 0 && head.flags() & FLAG_BINARY == 0))
                && std::str::from_utf8(name).is_ok();
            if !is_sound {
                return None;
            }
            rest = behind;
        }
        rest.is_empty().then_some(Self { namespace, lane, count, is_live: false, bytes })
    }

    /// The same records, of another namespace.
    pub(crate) fn moved_to(self, namespace: NamespaceId) -> Self {
        Self { namespace, ..self }
    }

    /// The records as they are written down.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes it holds.
    pub const fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records in pieces of whole records, each with their count, of at most `bytes_max` bytes
    /// unless a single record is larger.
    pub fn pieces(&self, bytes_max: usize) -> impl Iterator<Item = (u32, &[u8])> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (mut count, mut end) = (0, 0);
            while let Some((head, _)) = rest[end..].split_first_chunk::<HEAD_BYTES>() {
                let next = end + HEAD_BYTES + RawHead(head).tail_bytes();
                if count > 0 && next > bytes_max {
                    break;
                }
                (count, end) = (count + 1, next);
            }
            let (piece, behind) = rest.split_at(end);
            rest = behind;
            (count > 0).then_some((count, piece))
        })
    }

    /// Those of the records that are to be kept; `None` if there are none.
    pub fn retain(self, mut keeps: impl FnMut(&OutputRecord<'_>) -> bool) -> Option<Self> {
        let keep: Vec<bool> = self.iter().map(|record| keeps(&record)).collect();
        let count = keep.iter().filter(|keep| **keep).count() as u32;
        if count == self.count {
            return Some(self).filter(|_| count > 0);
        }
        let mut bytes = Vec::with_capacity(self.bytes.len());
        // Pieces of no more than one record each.
        for ((_, record), _) in self.pieces(0).zip(keep).filter(|(_, keep)| *keep) {
            bytes.extend_from_slice(record);
        }
        (count > 0).then(|| Self { count, bytes: bytes.into_boxed_slice(), ..self })
    }

    /// When those processing-time fires were due that waited for their time, whose lateness is the
    /// service's own; and whether it is due to a restart.
    pub fn waited_for(&self) -> impl Iterator<Item = (Timestamp, bool)> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (head, behind) = rest.split_first_chunk::<HEAD_BYTES>()?;
            let head = RawHead(head);
            rest = &behind[head.tail_bytes()..];
            Some((head.fire_at(), head.flags()))
        })
        .filter(|(_, flags)| flags & (FLAG_OVERDUE | FLAG_EVENT) == 0)
        .map(|(time, flags)| (time, flags & FLAG_RESTART != 0))
    }

    /// The records, in order.
    pub fn iter(&self) -> OutputIter<'_> {
        OutputIter { block: self, rest: &self.bytes }
    }
}

impl<'a> IntoIterator for &'a OutputBytes {
    type Item = OutputRecord<'a>;
    type IntoIter = OutputIter<'a>;

    fn into_iter(self) -> OutputIter<'a> {
        self.iter()
    }
}

/// The fixed part of a record, as drawn at [`OutputWriter`].
struct RawHead<'a>(&'a [u8; HEAD_BYTES]);

impl RawHead<'_> {
    #[inline]
    fn long(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[at..at + 8]);
        u64::from_le_bytes(bytes)
    }

    #[inline]
    fn int(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    #[inline]
    fn short(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn fire_at(&self) -> Timestamp {
        Timestamp::from_millis(self.long(0) as i64)
    }

    fn flags(&self) -> u8 {
        self.0[44]
    }

    fn tail_bytes(&self) -> usize {
        let name = self.short(42);
        let name = if name == NAME_NONE { 0 } else { name as usize };
        self.short(40) as usize + name + self.int(36) as usize
    }
}

/// Walks the records of a block.
#[derive(Debug, Clone)]
pub struct OutputIter<'a> {
    block: &'a OutputBytes,
    rest: &'a [u8],
}

impl<'a> Iterator for OutputIter<'a> {
    type Item = OutputRecord<'a>;

    fn next(&mut self) -> Option<OutputRecord<'a>> {
        let (head, rest) = self.rest.split_first_chunk::<HEAD_BYTES>()?;
        let head = RawHead(head);
        let flags = head.flags();
        let (key, rest) = rest.split_at(head.short(40) as usize);
        let name_bytes = head.short(42);
        let named = name_bytes != NAME_NONE;
        let (name, rest) = rest.split_at(if named { name_bytes as usize } else { 0 });
        let (payload, rest) = rest.split_at(head.int(36) as usize);
        self.rest = rest;
        let name = named.then(|| std::str::from_utf8(name).expect("names were text when pushed"));
        let (fire_at, due_by) = (head.fire_at(), Timestamp::from_millis(head.long(8) as i64));
        let is_value = flags & FLAG_VALUE != 0;
        Some(OutputRecord {
            id: OutputId {
                namespace: self.block.namespace,
                lane: self.block.lane,
                position: head.long(16),
                key_hash: head.long(24),
                ordinal: head.int(32),
            },
            key,
            name: if is_value { None } else { name },
            domain: if flags & FLAG_EVENT == 0 { Domain::Processing } else { Domain::Event },
            fire_at,
            due_by: if is_value { fire_at } else { due_by },
            payload: match flags & (FLAG_PAYLOAD | FLAG_BINARY) {
                0 => None,
                FLAG_PAYLOAD => Some(Payload::Json(payload)),
                _ => Some(Payload::Binary(payload)),
            },
            kind: if is_value {
                let timestamp = (flags & FLAG_TIMELESS == 0).then_some(due_by);
                OutputKind::Value { tag: name, timestamp }
            } else {
                OutputKind::Fire
            },
        })
    }
}

#[cfg(test)]
mod tests;

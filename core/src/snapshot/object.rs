//! Objects: many entries in one byte string, compressed, with an index and a digest.
//!
//! ```text
//! object   header | data blocks | index blocks | footer            all numbers little-endian
//!
//! header    0 magic "SWSNAPO1" | 8 format version u32 = 1 | 12 directory id, 16 bytes
//!          28 CRC32C of 0..28                                                     32 bytes
//! block     0 kind u32: 0 data, 1 index | 4 compressed bytes u32 | 8 raw bytes u32
//!          12 CRC32C of 0..12 and of what follows | 16 one frame of zstd
//! footer    0 magic "SWSNAPF1" | 8 where the index begins u64 | 16 data blocks u32
//!          20 index blocks u32 | 24 entries u64 | 32 length of the whole object u64
//!          40 digest: xxh3-128 of all that stands before it | 56 CRC32C of 0..56  60 bytes
//! row       0 kind u8: 1 partition, 2 lane head, 3 controls | 1 key group or lane u16
//!           3 namespace u64 | 11 position u64 | 19 keys u64 | 27 length u64       35 bytes
//! ```
//!
//! The raw bytes of the data blocks are the entries, one behind the other: an entry may span
//! blocks, and many small ones share a block. The raw bytes of the index blocks are a row for each
//! entry, in the same order, so that the lengths tell where each begins. A block has 256 KiB raw,
//! the last of its kind less. Every byte stands under a checksum and under the digest.
//!
//! Reading believes no size before the checksum over it matched, and takes no more memory than
//! the object, its index, and the one entry that is asked for.

mod reader;
#[cfg(test)]
mod tests;

pub(crate) use reader::{ObjectReader, directory_of};

use crate::key_group::{KeyGroup, LaneIndex};
use crate::output::NamespaceId;
use crc32c::{crc32c, crc32c_append};
use xxhash_rust::xxh3::xxh3_128;
use zstd::bulk::Compressor;

/// Raw bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 256 << 10;

const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
const HEADER_MAGIC: &[u8; 8] = b"SWSNAPO1";
const FOOTER_BYTES: usize = 60;
const FOOTER_MAGIC: &[u8; 8] = b"SWSNAPF1";
const DIGEST_AT: usize = 40;
const BLOCK_HEAD_BYTES: usize = 16;
const KIND_DATA: u32 = 0;
const KIND_INDEX: u32 = 1;
const ROW_BYTES: usize = 35;
/// Measured on timers: higher levels are slower and hardly smaller.
const LEVEL: i32 = 1;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EntryKind {
    /// A partition as it was at this position of its lane.
    Partition { namespace: NamespaceId, group: KeyGroup, position: u64 },
    /// The head of a lane as it was at this position.
    LaneHead { lane: LaneIndex, position: u64 },
    /// The controls of the namespaces that are at home in this lane, at the position of its head.
    Controls { lane: LaneIndex },
}

/// One entry of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    /// Keys of a partition; 0 for everything else.
    pub(crate) keys: u64,
    /// Its bytes.
    pub(crate) length: u64,
}

/// An object that is complete.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) bytes: Vec<u8>,
    /// What the manifest says of it, beside its length.
    pub(crate) digest: u128,
}

impl Entry {
    fn write(&self, out: &mut Vec<u8>) {
        let (kind, place, namespace, position) = match self.kind {
            EntryKind::Partition { namespace, group, position } => {
                (1, group.0, namespace.0, position)
            }
            EntryKind::LaneHead { lane, position } => (2, lane.0, 0, position),
            EntryKind::Controls { lane } => (3, lane.0, 0, 0),
        };
        out.push(kind);
        out.extend_from_slice(&place.to_le_bytes());
        for number in [namespace, position, self.keys, self.length] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn read(row: &[u8; ROW_BYTES]) -> Option<Self> {
        let place = u16::from_le_bytes([row[1], row[2]]);
        let (namespace, position) = (NamespaceId(long(row, 3)), long(row, 11));
        let kind = match row[0] {
            1 => EntryKind::Partition { namespace, group: KeyGroup(place), position },
            2 => EntryKind::LaneHead { lane: LaneIndex(place), position },
            3 => EntryKind::Controls { lane: LaneIndex(place) },
            _ => return None,
        };
        Some(Self { kind, keys: long(row, 19), length: long(row, 27) })
    }
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut long = [0; 8];
    long.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(long)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// Packs entries into an object.
pub(crate) struct ObjectWriter {
    out: Vec<u8>,
    blocks: Blocks,
    entries: Vec<Entry>,
    /// The raw bytes of all entries that are complete.
    complete: u64,
    /// The raw bytes of all data so far.
    raw: u64,
}

/// Cuts raw bytes into blocks of one kind.
struct Blocks {
    kind: u32,
    count: u32,
    pending: Vec<u8>,
    compressor: Compressor<'static>,
}

impl Blocks {
    fn push(&mut self, out: &mut Vec<u8>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - self.pending.len();
            let (here, behind) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(here);
            bytes = behind;
            if self.pending.len() == BLOCK_BYTES {
                self.close(out);
            }
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.pending.is_empty() {
            return;
        }
        let frame = self.compressor.compress(&self.pending);
        let frame = frame.expect("the buffer is as long as a frame can be");
        let mut head = [0; 12];
        head[..4].copy_from_slice(&self.kind.to_le_bytes());
        head[4..8].copy_from_slice(&(frame.len() as u32).to_le_bytes());
        head[8..].copy_from_slice(&(self.pending.len() as u32).to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&crc32c_append(crc32c(&head), &frame).to_le_bytes());
        out.extend_from_slice(&frame);
        self.pending.clear();
        self.count += 1;
    }
}

impl ObjectWriter {
    /// An empty object of this data directory.
    pub(crate) fn new(directory: &[u8; 16]) -> Self {
        let mut out = Vec::new();
        out.extend_from_slice(HEADER_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(directory);
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        let compressor = Compressor::new(LEVEL).expect("it is a level that there is");
        let blocks = Blocks { kind: KIND_DATA, count: 0, pending: Vec::new(), compressor };
        Self { out, blocks, entries: Vec::new(), complete: 0, raw: 0 }
    }

    /// Adds an entry.
    pub(crate) fn add(&mut self, kind: EntryKind, keys: u64, bytes: &[u8]) {
        self.append(bytes);
        self.end(kind, keys);
    }

    /// Adds a piece of an entry that comes in several.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.raw += bytes.len() as u64;
        self.blocks.push(&mut self.out, bytes);
    }

    /// That was the last piece of an entry.
    pub(crate) fn end(&mut self, kind: EntryKind, keys: u64) {
        let length = self.raw - self.complete;
        self.complete = self.raw;
        self.entries.push(Entry { kind, keys, length });
    }

    /// What it holds.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// About how long it would be if it were complete now, and not more than that.
    pub(crate) fn len(&self) -> usize {
        let pending = self.blocks.pending.len() + self.entries.len() * ROW_BYTES;
        // A frame of what does not compress is a little longer than it.
        let heads = (pending / BLOCK_BYTES + 2) * (BLOCK_HEAD_BYTES + 64);
        self.out.len() + pending + pending / 128 + heads + FOOTER_BYTES
    }

    /// Completes it.
    pub(crate) fn finish(self) -> Finished {
        let Self { mut out, mut blocks, entries, complete, raw } = self;
        assert_eq!(complete, raw, "the last entry was ended");
        blocks.close(&mut out);
        let data_blocks = std::mem::take(&mut blocks.count);
        blocks.kind = KIND_INDEX;
        let index_at = out.len() as u64;
        let mut rows = Vec::with_capacity(entries.len() * ROW_BYTES);
        for entry in &entries {
            entry.write(&mut rows);
        }
        blocks.push(&mut out, &rows);
        blocks.close(&mut out);
        let footer_at = out.len();
        out.extend_from_slice(FOOTER_MAGIC);
        out.extend_from_slice(&index_at.to_le_bytes());
        out.extend_from_slice(&data_blocks.to_le_bytes());
        out.extend_from_slice(&blocks.count.to_le_bytes());
        out.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        out.extend_from_slice(&((footer_at + FOOTER_BYTES) as u64).to_le_bytes());
        let digest = xxh3_128(&out);
        out.extend_from_slice(&digest.to_le_bytes());
        let crc = crc32c(&out[footer_at..]);
        out.extend_from_slice(&crc.to_le_bytes());
        Finished { bytes: out, digest }
    }
}

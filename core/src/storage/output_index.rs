//! Where the output log's blocks stand: for each namespace its chunks, for each segment how far it
//! goes, and what has gone by retention.
//!
//! A *chunk* is a run of blocks of one namespace, close to each other in one segment. The index
//! holds chunks, not blocks: a reader jumps to a chunk and walks it by its headers. A chunk ends
//! when its own records, or the stretch of the segment that a reader would have to walk, come to a
//! bound; the second bound holds only while the segment has few chunks, so that memory follows the
//! number of namespaces and of segments, not that of blocks.
//!
//! Segments leave in order, oldest first: a hole in the sequence is what recovery takes for damage.

use super::output_lost::Lost;
use crate::log::block::BlockSalt;
use crate::namespace::Retention;
use crate::output::{Cursor, NamespaceId};
use crate::ports::DiskFile;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// Bytes of its own records after which a chunk ends.
pub(super) const CHUNK_BYTES_MAX: u64 = 256 << 10;
/// Bytes of a segment that a chunk spans at most, as long as the segment has few chunks.
const CHUNK_SPAN_MAX: u64 = 1 << 20;
/// Chunks of a segment up to which they end by their span.
const CHUNKS_BY_SPAN_MAX: u32 = 4_096;

/// A block as the index sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) namespace: NamespaceId,
    pub(super) sequence: u64,
    pub(super) first: Cursor,
    pub(super) count: u32,
    pub(super) appended_ms: i64,
    /// The number of the segment it is in, and where it begins and ends there.
    pub(super) segment: u64,
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Placed {
    pub(super) const fn last(&self) -> Cursor {
        Cursor(self.first.0 + self.count as u64 - 1)
    }
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) segment: u64,
    /// Where its first block begins and its last one ends.
    pub(super) start: u64,
    pub(super) end: u64,
    /// The sequence of its first block.
    pub(super) sequence: u64,
    pub(super) first: Cursor,
    pub(super) last: Cursor,
    /// How many blocks and records it holds, so that a walk knows that it has met all of them.
    pub(super) blocks: u32,
    pub(super) records: u64,
    /// Bytes of its own blocks.
    pub(super) bytes: u64,
    pub(super) newest_ms: i64,
}

/// A segment of the output log: pinned by whoever holds it, so that nobody reads a file that was
/// given to somebody else.
pub(super) struct OutputSegment {
    pub(super) number: u64,
    pub(super) name: Arc<str>,
    pub(super) file: Arc<dyn DiskFile>,
    /// Bytes of the file.
    pub(super) size: u64,
    /// What its blocks are salted with.
    pub(super) salt: BlockSalt,
}

struct Segment {
    pin: Arc<OutputSegment>,
    /// The newest record in it; that of the segment before as long as there is none.
    last: Cursor,
    /// How many chunks of it are retained.
    chunks: u32,
}

struct Held {
    /// `None`: found on disk, and nobody has said yet that the namespace exists.
    retention: Option<Retention>,
    chunks: VecDeque<Chunk>,
    bytes: u64,
    /// The last record that went; reading after it works.
    gone: Cursor,
}

/// See the module.
pub(super) struct OutputIndex {
    /// What lies at or before this cursor went with its segments.
    base: Cursor,
    latest: Cursor,
    /// Bytes of all segments that are here, those that are leaving included.
    disk_bytes: u64,
    /// By number, which rises by one from each to the next.
    segments: VecDeque<Segment>,
    /// Went, but somebody reads it yet.
    leaving: VecDeque<Arc<OutputSegment>>,
    by_namespace: BTreeMap<NamespaceId, Held>,
    /// What went before this process, as long as nobody has said that all namespaces are known.
    recovering: Option<Lost>,
}

impl OutputIndex {
    pub(super) fn new(base: Cursor) -> Self {
        Self {
            base,
            latest: base,
            disk_bytes: 0,
            segments: VecDeque::new(),
            leaving: VecDeque::new(),
            by_namespace: BTreeMap::new(),
            recovering: Some(Lost::default()),
        }
    }

    pub(super) const fn latest(&self) -> Cursor {
        self.latest
    }

    /// Bytes that the log's segments take on disk.
    pub(super) const fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// The newest segment goes on in another file.
    pub(super) fn open_segment(&mut self, segment: Arc<OutputSegment>) {
        if let Some(newest) = self.segments.back() {
            assert_eq!(newest.pin.number + 1, segment.number, "segments follow without a gap");
        }
        self.disk_bytes += segment.size;
        self.segments.push_back(Segment { pin: segment, last: self.latest, chunks: 0 });
    }

    /// A namespace is there, or its retention has changed; what it will hold comes after `latest`.
    pub(super) fn admit(&mut self, namespace: NamespaceId, retention: Retention, latest: Cursor) {
        // While the log is being recovered nobody can tell a new one from one whose records are
        // all there, or went long ago.
        let gone = self.recovering.as_ref().map_or(latest, |lost| lost.of(namespace));
        self.held(namespace, gone).retention = Some(retention);
    }

    fn held(&mut self, namespace: NamespaceId, gone: Cursor) -> &mut Held {
        self.by_namespace.entry(namespace).or_insert_with(|| Held {
            retention: None,
            chunks: VecDeque::new(),
            bytes: 0,
            gone,
        })
    }

    /// A block that was found on disk: of a namespace that is made known later, or never.
    pub(super) fn found(&mut self, placed: &Placed) {
        self.held(placed.namespace, Cursor(0));
        self.add(placed);
    }

    /// All was found. Whatever is missing of a namespace went with segments before the first one
    /// that is there: of some it is known how much, the others missed nothing.
    pub(super) fn settle(&mut self, lost: Lost) {
        for (namespace, held) in &mut self.by_namespace {
            held.gone = lost.of(*namespace);
        }
        self.recovering = Some(lost);
    }

    /// A block is on disk. Blocks come in the order of their cursors.
    pub(super) fn add(&mut self, placed: &Placed) {
        assert!(placed.first > self.latest && placed.count > 0, "cursors only rise");
        self.latest = placed.last();
        let segment = self.segments.back_mut().expect("a block stands in the newest segment");
        assert_eq!(segment.pin.number, placed.segment, "blocks come in order");
        segment.last = placed.last();
        let Some(held) = self.by_namespace.get_mut(&placed.namespace) else {
            // Deleted meanwhile: nobody can read it any more.
            return;
        };
        let bytes = placed.end - placed.start;
        held.bytes += bytes;
        if let Some(chunk) = held.chunks.back_mut()
            && chunk.takes(placed, segment.chunks)
        {
            chunk.end = placed.end;
            chunk.last = placed.last();
            chunk.blocks += 1;
            chunk.records += placed.count as u64;
            chunk.bytes += bytes;
            chunk.newest_ms = chunk.newest_ms.max(placed.appended_ms);
            return;
        }
        segment.chunks += 1;
        held.chunks.push_back(Chunk {
            segment: placed.segment,
            start: placed.start,
            end: placed.end,
            sequence: placed.sequence,
            first: placed.first,
            last: placed.last(),
            blocks: 1,
            records: placed.count as u64,
            bytes,
            newest_ms: placed.appended_ms,
        });
    }

    /// Forgets what belongs to namespaces that nobody has admitted.
    pub(super) fn forget_unknown(&mut self) {
        self.recovering = None;
        let is_unknown = |held: &Held| held.retention.is_none();
        let by_namespace = self.by_namespace.iter();
        let unknown: Vec<NamespaceId> =
            by_namespace.filter(|(_, held)| is_unknown(held)).map(|(id, _)| *id).collect();
        for namespace in unknown {
            self.end(namespace);
        }
    }

    pub(super) fn end(&mut self, namespace: NamespaceId) {
        let Some(held) = self.by_namespace.remove(&namespace) else {
            return;
        };
        for chunk in &held.chunks {
            release(&mut self.segments, chunk);
        }
    }

    /// What lies at or before this cursor went with its segments, unless it is kept.
    pub(super) const fn base(&self) -> Cursor {
        self.base
    }

    /// The last record of each namespace that went.
    pub(super) fn gone(&self) -> Vec<(NamespaceId, Cursor)> {
        let all = self.by_namespace.iter().map(|(namespace, held)| (*namespace, held.gone));
        all.filter(|(_, gone)| gone.0 > 0).collect()
    }

    /// Lets go of what stands at or before this cursor, whatever the retention says: whoever reads
    /// this namespace is done with it.
    pub(super) fn release(&mut self, namespace: NamespaceId, until: Cursor) {
        let Some(held) = self.by_namespace.get_mut(&namespace) else {
            return;
        };
        while held.chunks.front().is_some_and(|chunk| chunk.last <= until) {
            held.drop_oldest(&mut self.segments);
        }
    }

    /// Reading after this cursor yields the earliest record that is kept of this namespace.
    pub(super) fn earliest(&self, namespace: NamespaceId) -> Cursor {
        self.by_namespace.get(&namespace).map_or(self.base, |held| held.gone)
    }

    /// The newest record that is kept of this namespace.
    pub(super) fn newest(&self, namespace: NamespaceId) -> Option<Cursor> {
        self.by_namespace.get(&namespace)?.chunks.back().map(|chunk| chunk.last)
    }

    /// The chunks of a namespace with records after `after`, of which the first begins at or before
    /// `until`, some `bytes_max` bytes of them; and the segments that they are in.
    pub(super) fn chunks_after(
        &self,
        namespace: NamespaceId,
        after: Cursor,
        until: Cursor,
        bytes_max: u64,
    ) -> Vec<(Chunk, Arc<OutputSegment>)> {
        let Some(held) = self.by_namespace.get(&namespace) else {
            return Vec::new();
        };
        let start = held.chunks.partition_point(|chunk| chunk.last <= after);
        let mut bytes = 0;
        let mut found = Vec::new();
        for chunk in held.chunks.range(start..) {
            if chunk.first > until || (bytes > 0 && bytes + chunk.bytes > bytes_max) {
                break;
            }
            bytes += chunk.bytes;
            found.push((*chunk, self.pin(chunk.segment)));
        }
        found
    }

    /// The segments from the one with the first chunk of any of these namespaces on.
    pub(super) fn segments_of(
        &self,
        namespaces: &BTreeSet<NamespaceId>,
    ) -> VecDeque<Arc<OutputSegment>> {
        let held = namespaces.iter().filter_map(|it| self.by_namespace.get(it));
        let first = held.filter_map(|held| held.chunks.front()).map(|chunk| chunk.segment).min();
        let Some(first) = first else {
            return VecDeque::new();
        };
        let all = self.segments.iter().map(|segment| &segment.pin);
        all.filter(|pin| pin.number >= first).cloned().collect()
    }

    /// The chunk in which a namespace's first record of a time or later is.
    pub(super) fn chunk_at(
        &self,
        namespace: NamespaceId,
        time_ms: i64,
    ) -> Option<(Chunk, Arc<OutputSegment>)> {
        let held = self.by_namespace.get(&namespace)?;
        let start = held.chunks.partition_point(|chunk| chunk.newest_ms < time_ms);
        let chunk = *held.chunks.get(start)?;
        Some((chunk, self.pin(chunk.segment)))
    }

    fn pin(&self, number: u64) -> Arc<OutputSegment> {
        let oldest = self.segments.front().expect("a chunk stands in a segment").pin.number;
        Arc::clone(&self.segments[(number - oldest) as usize].pin)
    }

    /// Lets go of what retentions no longer cover, and of whole segments, oldest first, while the
    /// log is larger than `bytes_max`; never of a segment with records after `floor`. What went is
    /// told by [`OutputIndex::next_left`].
    pub(super) fn retain(&mut self, now_ms: i64, floor: Cursor, bytes_max: u64) {
        for held in self.by_namespace.values_mut() {
            while held.is_past(now_ms) {
                held.drop_oldest(&mut self.segments);
            }
        }
        // The newest is being written.
        let mut bytes: u64 = self.segments.iter().map(|segment| segment.pin.size).sum();
        while self.segments.len() > 1 {
            let oldest = &self.segments[0];
            let is_over = bytes > bytes_max;
            if oldest.last > floor || (oldest.chunks > 0 && !is_over) {
                break;
            }
            bytes -= oldest.pin.size;
            self.drop_segment();
        }
    }

    fn drop_segment(&mut self) {
        let number = self.segments[0].pin.number;
        if self.segments[0].chunks > 0 {
            for held in self.by_namespace.values_mut() {
                while held.chunks.front().is_some_and(|chunk| chunk.segment == number) {
                    held.drop_oldest(&mut self.segments);
                }
            }
        }
        let Some(segment) = self.segments.pop_front() else {
            return;
        };
        assert_eq!(segment.chunks, 0, "nothing is kept of a segment that goes");
        self.base = self.base.max(segment.last);
        self.leaving.push_back(segment.pin);
    }

    /// The oldest of the segments that went, once nobody reads it any more. A read takes its pins
    /// under the lock that this index is behind, so there is no way back from the last one. They
    /// leave in order: one that is read holds up those behind it.
    pub(super) fn next_left(&mut self) -> Option<Arc<OutputSegment>> {
        let next = self.leaving.front().filter(|pin| Arc::strong_count(pin) == 1).cloned();
        // Pairs with the release by which the last reader let go of its pin.
        fence(Ordering::Acquire);
        next
    }

    /// That one's file is somebody else's now.
    pub(super) fn left(&mut self) {
        if let Some(segment) = self.leaving.pop_front() {
            self.disk_bytes -= segment.size;
        }
    }

    #[cfg(test)]
    pub(super) fn chunk_count(&self) -> usize {
        self.by_namespace.values().map(|held| held.chunks.len()).sum()
    }
}

fn release(segments: &mut VecDeque<Segment>, chunk: &Chunk) {
    let oldest = segments[0].pin.number;
    segments[(chunk.segment - oldest) as usize].chunks -= 1;
}

impl Chunk {
    /// Whether a block of the same namespace goes on with this chunk.
    fn takes(&self, placed: &Placed, chunks: u32) -> bool {
        self.segment == placed.segment
            && self.bytes < CHUNK_BYTES_MAX
            && (chunks >= CHUNKS_BY_SPAN_MAX || placed.end - self.start <= CHUNK_SPAN_MAX)
    }
}

impl Held {
    /// Whether the oldest chunk is too old, or one too many. The newest one stays, however large it
    /// is; what is too old goes, or a namespace that fell silent would hold the log for ever.
    fn is_past(&self, now_ms: i64) -> bool {
        let (Some(retention), Some(oldest)) = (self.retention, self.chunks.front()) else {
            return false;
        };
        now_ms.saturating_sub(oldest.newest_ms) > retention.age_ms
            || (self.chunks.len() > 1 && self.bytes > retention.bytes)
    }

    fn drop_oldest(&mut self, segments: &mut VecDeque<Segment>) {
        let Some(chunk) = self.chunks.pop_front() else {
            return;
        };
        release(segments, &chunk);
        self.bytes -= chunk.bytes;
        self.gone = self.gone.max(chunk.last);
    }
}

//! Reading the output log's files, beside whoever writes them.
//!
//! A reader asks the index for chunks, under its lock, and reads them after the lock was let go. It
//! walks a chunk by the headers of the blocks, so that what belongs to other namespaces is passed
//! over unread where it is large. Of its own blocks it checks everything, of the others that they
//! follow each other; and that it met as many blocks and records as the index holds. So a damaged
//! header does not make a record disappear in silence.

use super::output_index::{Chunk, OutputIndex, OutputSegment};
use crate::log::block::{self, BLOCK_BODY_BYTES_MAX, BLOCK_HEADER_BYTES, BlockHeader, BlockKind};
use crate::namespace::Retention;
use crate::output::{Cursor, NamespaceId, OutputBlock, OutputBytes, OutputFault};
use crate::ports::DiskFile;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a body before the records: the namespace.
pub(super) const BODY_HEAD_BYTES: usize = 8;
/// Bytes of the largest piece that is read at a time.
pub(super) const PIECE_BYTES_MAX: usize = 256 << 10;
/// Bytes of the first piece after a jump: a header, and probably the next ones.
const PIECE_BYTES_MIN: usize = 4 << 10;

/// The readers' side of the output log's files: shared, and cheap to clone.
#[derive(Clone)]
pub(crate) struct OutputReader {
    index: Arc<Mutex<OutputIndex>>,
}

/// Chunks that are to be read; their files stay what they are until this is dropped.
pub(crate) struct ReadPlan {
    namespace: NamespaceId,
    chunks: Vec<(Chunk, Arc<OutputSegment>)>,
}

impl OutputReader {
    pub(super) fn new(index: OutputIndex) -> Self {
        Self { index: Arc::new(Mutex::new(index)) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, OutputIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is to read of a namespace behind `after` that begins at or before `until`, some
    /// `bytes_max` bytes of it but at least a chunk; `None` if there is nothing.
    pub(crate) fn plan(
        &self,
        namespace: NamespaceId,
        after: Cursor,
        until: Cursor,
        bytes_max: usize,
    ) -> Option<ReadPlan> {
        let chunks = self.lock().chunks_after(namespace, after, until, bytes_max as u64);
        (!chunks.is_empty()).then_some(ReadPlan { namespace, chunks })
    }

    /// Where the first record of a time or later is, more or less.
    pub(crate) fn plan_at(&self, namespace: NamespaceId, time_ms: i64) -> Option<ReadPlan> {
        let chunk = self.lock().chunk_at(namespace, time_ms)?;
        Some(ReadPlan { namespace, chunks: vec![chunk] })
    }

    /// A namespace is there, or its retention has changed; what it will hold comes after `latest`.
    pub(crate) fn admit(&self, namespace: NamespaceId, retention: Retention, latest: Cursor) {
        self.lock().admit(namespace, retention, latest);
    }

    /// A namespace is gone, and its outputs with it.
    pub(crate) fn end(&self, namespace: NamespaceId) {
        self.lock().end(namespace);
    }

    /// Nobody reads this namespace at or before this cursor any more.
    pub(crate) fn release(&self, namespace: NamespaceId, until: Cursor) {
        self.lock().release(namespace, until);
    }

    /// Reading after this cursor yields the earliest record that is kept of this namespace.
    pub(crate) fn earliest(&self, namespace: NamespaceId) -> Cursor {
        self.lock().earliest(namespace)
    }

    /// The newest record that is kept of this namespace.
    pub(crate) fn newest(&self, namespace: NamespaceId) -> Option<Cursor> {
        self.lock().newest(namespace)
    }

    /// The newest record that is durable, of all namespaces.
    pub(crate) fn latest(&self) -> Cursor {
        self.lock().latest()
    }

    /// Bytes that the log takes on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.lock().disk_bytes()
    }
}

impl ReadPlan {
    /// Reads. The blocks come in order, those before the asked cursor included where they stand in
    /// the same chunk.
    pub(crate) fn read(&self) -> Result<Vec<OutputBlock>, OutputFault> {
        let mut blocks = Vec::new();
        for (chunk, segment) in &self.chunks {
            read_chunk(self.namespace, chunk, segment, &mut blocks)?;
        }
        Ok(blocks)
    }

    /// The cursor before the first record of a time or later; before the first record of all if
    /// that cannot be read.
    pub(crate) fn find_time(&self, time_ms: i64) -> Cursor {
        let before = |cursor: Cursor| Cursor(cursor.0 - 1);
        let first = before(self.chunks[0].0.first);
        self.read().map_or(first, |blocks| {
            let found = blocks.iter().find(|block| block.appended_ms >= time_ms);
            found.map_or(first, |block| before(block.first))
        })
    }
}

fn read_chunk(
    namespace: NamespaceId,
    chunk: &Chunk,
    segment: &OutputSegment,
    blocks: &mut Vec<OutputBlock>,
) -> Result<(), OutputFault> {
    let fault = |offset: u64, detail: String| OutputFault {
        file: segment.name.to_string(),
        offset,
        detail,
    };
    let mut window = Window::new(&*segment.file, chunk.end);
    let (mut offset, mut sequence, mut next) = (chunk.start, chunk.sequence, chunk.first);
    let (mut own_blocks, mut own_records) = (0, 0);
    while offset < chunk.end {
        let seen = window.get(offset, BLOCK_HEADER_BYTES + BODY_HEAD_BYTES);
        let seen = seen.map_err(|error| fault(offset, error.to_string()))?;
        let header =
            block::peek(segment.salt, seen).map_err(|flaw| fault(offset, flaw.to_string()))?;
        let size = header.size() as u64;
        let follows = header.sequence == sequence && header.first == next.0;
        if !follows || header.length as usize > BLOCK_BODY_BYTES_MAX || size > chunk.end - offset {
            let expected = format!("block {sequence} with record {} does not stand here", next.0);
            return Err(fault(offset, expected));
        }
        let is_own = header.kind == BlockKind::Outputs
            && namespace_of(&seen[BLOCK_HEADER_BYTES..]) == Some(namespace);
        if is_own {
            let whole = window.get(offset, size as usize);
            let whole = whole.map_err(|error| fault(offset, error.to_string()))?;
            let (header, body) = block::decode(segment.salt, whole)
                .map_err(|flaw| fault(offset, flaw.to_string()))?;
            let records = records_of(&header, body)
                .ok_or_else(|| fault(offset, "the records make no sense".to_owned()))?;
            own_blocks += 1;
            own_records += records.count as u64;
            blocks.push(OutputBlock { first: next, appended_ms: header.now_ms, records });
        }
        sequence += 1;
        next = Cursor(next.0.saturating_add(header.count as u64));
        offset += size;
    }
    if (own_blocks, own_records) != (chunk.blocks, chunk.records) {
        let detail = format!(
            "{own_records} records in {own_blocks} blocks are here up to {offset}, there were {} \
             in {}",
            chunk.records, chunk.blocks
        );
        return Err(fault(chunk.start, detail));
    }
    Ok(())
}

/// The namespace that a body begins with.
fn namespace_of(body: &[u8]) -> Option<NamespaceId> {
    body.first_chunk().map(|bytes| NamespaceId(u64::from_le_bytes(*bytes)))
}

/// The records of a block whose checksum has matched; `None` if its writer was not in its senses.
pub(super) fn records_of(header: &BlockHeader, body: &[u8]) -> Option<OutputBytes> {
    let namespace = namespace_of(body)?;
    let records = body[BODY_HEAD_BYTES..].into();
    OutputBytes::from_bytes(namespace, header.lane, header.count, records)
        .filter(|records| records.count > 0)
}

/// A piece of a file in memory. Pieces grow while it is read through, and begin small where it
/// jumps.
pub(super) struct Window<'a> {
    file: &'a dyn DiskFile,
    end: u64,
    bytes: Vec<u8>,
    start: u64,
    piece: usize,
}

impl<'a> Window<'a> {
    /// A window on a file of which nothing at or behind `end` is looked at.
    pub(super) fn new(file: &'a dyn DiskFile, end: u64) -> Self {
        Self { file, end, bytes: Vec::new(), start: 0, piece: PIECE_BYTES_MIN }
    }

    /// The bytes at an offset: so many, or fewer at the end.
    pub(super) fn get(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let length = length.min(self.end.saturating_sub(offset) as usize);
        if length == 0 {
            return Ok(&[]);
        }
        let window_end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + length as u64 > window_end {
            let is_jump = offset < self.start || offset > window_end;
            self.piece =
                if is_jump { PIECE_BYTES_MIN } else { (self.piece * 2).min(PIECE_BYTES_MAX) };
            // What is here already is not read again.
            let kept = if is_jump { 0 } else { (window_end - offset) as usize };
            self.bytes.drain(..self.bytes.len() - kept);
            self.start = offset;
            let left = (self.end - offset) as usize;
            let wanted = length.max(self.piece).min(left);
            self.bytes.resize(wanted.max(kept), 0);
            self.fill(kept)?;
        }
        let at = (offset - self.start) as usize;
        Ok(&self.bytes[at..(at + length).min(self.bytes.len())])
    }

    fn fill(&mut self, mut filled: usize) -> io::Result<()> {
        while filled < self.bytes.len() {
            let at = self.start + filled as u64;
            match self.file.read_at(at, &mut self.bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}

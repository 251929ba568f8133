//! The output log's files from one end to the other: the blocks of some namespaces, as they are, in
//! the order of their cursors.
//!
//! Blocks are walked by their headers; of those that are wanted everything is checked, of the others
//! that they follow each other. The segments are pinned until the walk has passed them.

use super::output_index::OutputSegment;
use super::output_reader::{BODY_HEAD_BYTES, OutputReader, Window, records_of};
use crate::log::block::{
    self, BLOCK_BODY_BYTES_MAX, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, OUTPUT_JOURNAL,
};
use crate::log::segment::SEGMENT_HEADER_BYTES;
use crate::output::{Cursor, NamespaceId, OutputFault};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// See the module.
pub(crate) struct OutputWalk {
    segments: VecDeque<Arc<OutputSegment>>,
    offset: u64,
    /// The sequence and the cursor that the next block has; `None` before the first.
    next: Option<(u64, Cursor)>,
    /// The last record that is wanted.
    until: Cursor,
    /// What is wanted: of each namespace the records behind this one.
    wanted: BTreeMap<NamespaceId, Cursor>,
}

/// A block that is wanted.
pub(crate) struct WalkedBlock<'a> {
    pub(crate) namespace: NamespaceId,
    pub(crate) count: u32,
    /// All of it, with its header.
    pub(crate) bytes: &'a [u8],
}

impl OutputReader {
    /// A walk over what is kept of these namespaces, up to and with the record at `until`.
    pub(crate) fn walk(&self, namespaces: &BTreeSet<NamespaceId>, until: Cursor) -> OutputWalk {
        let index = self.lock();
        let wanted = namespaces.iter().map(|it| (*it, index.earliest(*it))).collect();
        let newest = namespaces.iter().filter_map(|it| index.newest(*it)).max();
        let segments = index.segments_of(namespaces);
        let offset = SEGMENT_HEADER_BYTES as u64;
        let until = newest.map_or(Cursor(0), |newest| newest.min(until));
        let mut walk = OutputWalk { segments, offset, next: None, until, wanted };
        if newest.is_none() {
            walk.segments.clear();
        }
        walk
    }
}

impl OutputWalk {
    /// Whether all was read.
    pub(crate) fn is_done(&self) -> bool {
        self.segments.is_empty()
    }

    /// Reads on, through some `bytes_max` bytes of the files.
    pub(crate) fn read_some(
        &mut self,
        bytes_max: u64,
        each: &mut dyn FnMut(&WalkedBlock<'_>),
    ) -> Result<(), OutputFault> {
        let Some(segment) = self.segments.front().map(Arc::clone) else {
            return Ok(());
        };
        let fault = |offset: u64, detail: String| OutputFault {
            file: segment.name.to_string(),
            offset,
            detail,
        };
        let mut window = Window::new(&*segment.file, segment.size);
        let end = self.offset.saturating_add(bytes_max);
        while self.offset < end {
            let offset = self.offset;
            let seen = window.get(offset, BLOCK_HEADER_BYTES + BODY_HEAD_BYTES);
            let seen = seen.map_err(|error| fault(offset, error.to_string()))?;
            let found = block::peek(segment.salt, seen).ok().filter(|header| self.follows(header));
            let Some(header) = found else {
                // What the segment held has been read; the next one goes on, if this is not the end.
                self.segments.pop_front();
                let is_first = offset == SEGMENT_HEADER_BYTES as u64;
                if self.segments.is_empty() || is_first {
                    let detail = "the next block does not stand here".to_owned();
                    return Err(fault(offset, detail));
                }
                self.offset = SEGMENT_HEADER_BYTES as u64;
                return Ok(());
            };
            let size = header.size();
            if header.length as usize > BLOCK_BODY_BYTES_MAX
                || size as u64 > segment.size.saturating_sub(offset)
            {
                return Err(fault(offset, "the block is longer than its segment".to_owned()));
            }
            let namespace = seen[BLOCK_HEADER_BYTES..].first_chunk();
            let namespace = namespace.map(|bytes| NamespaceId(u64::from_le_bytes(*bytes)));
            let last = Cursor(header.first.saturating_add(u64::from(header.count)) - 1);
            if header.kind == BlockKind::Outputs
                && let Some(namespace) = namespace
                && self.wanted.get(&namespace).is_some_and(|gone| last > *gone)
            {
                let bytes = window.get(offset, size);
                let bytes = bytes.map_err(|error| fault(offset, error.to_string()))?;
                let (header, body) = block::decode(segment.salt, bytes)
                    .map_err(|flaw| fault(offset, flaw.to_string()))?;
                if records_of(&header, body).is_none() {
                    return Err(fault(offset, "the records make no sense".to_owned()));
                }
                each(&WalkedBlock { namespace, count: header.count, bytes });
            }
            self.next = Some((header.sequence + 1, Cursor(last.0 + 1)));
            self.offset += size as u64;
            if last >= self.until {
                self.segments.clear();
                return Ok(());
            }
        }
        Ok(())
    }

    fn follows(&self, header: &BlockHeader) -> bool {
        header.journal == OUTPUT_JOURNAL
            && header.first > 0
            && self.next.is_none_or(|(sequence, first)| {
                header.sequence == sequence && header.first == first.0
            })
    }
}

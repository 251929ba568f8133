//! What the output log's segments say after a crash: clean end, torn tail or corruption.
//!
//! The rule is that of the journals: the first place where the next block does not stand is a hole.
//! If a valid block behind it says that the hole was durable when it was written, that is corruption;
//! else everything from the hole on is void, and nobody has ever seen it.
//!
//! Unlike a journal, the output log goes on over the epochs: sequence, chain and cursors continue,
//! and epochs only rise. What an earlier epoch left behind is told by its epoch: recovery writes a
//! mark of its own before it goes on, and a segment's header says in which epoch it began.

use super::output_index::{OutputSegment, Placed};
use super::output_lost::Lost;
use super::output_reader::{Window, records_of};
use crate::log::block::{
    self, BLOCK_ALIGN, BLOCK_BODY_BYTES_MAX, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, BlockSalt,
    OUTPUT_JOURNAL,
};
use crate::log::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::output::{Cursor, OutputBytes};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// How often each byte may be checksummed in search of blocks behind a hole. What a crash leaves
/// needs it once or twice; beyond this, somebody drew blocks into blocks.
const EFFORT: u64 = 8;

/// A segment as it was found.
pub(super) struct FoundSegment {
    pub(super) header: SegmentHeader,
    pub(super) segment: Arc<OutputSegment>,
    /// How long the file really is.
    pub(super) len: u64,
}

/// A place in the segments: which one of those that were found, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: usize,
    pub(super) offset: u64,
}

/// How the log goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) place: Place,
    /// The sequence of the next block.
    pub(super) sequence: u64,
    /// The checksum of the last block.
    pub(super) chain: u32,
    /// The newest record; `None` if no block is there.
    pub(super) latest: Option<Cursor>,
    pub(super) durable_to: u64,
    pub(super) epoch: u32,
    pub(super) now_ms: i64,
}

/// What the segments say.
pub(super) struct Scan {
    /// The cursor that the first block names.
    pub(super) first: Option<Cursor>,
    pub(super) head: Head,
    pub(super) ending: Ending,
    /// The blocks behind `durable_to`.
    pub(super) unproven: Vec<Unproven>,
}

/// A block that stands, and of which no other says that it is durable.
pub(super) struct Unproven {
    pub(super) segment: usize,
    pub(super) sequence: u64,
    pub(super) range: Range<u64>,
}

/// How the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Clean,
    /// Something stands behind the last block, and none of it was ever durable: so many whole blocks
    /// among it.
    Torn {
        blocks: u64,
    },
    /// What was durable is not there.
    Corrupt(&'static str),
}

/// What a block says.
pub(super) enum Said<'a> {
    Records(&'a Placed, OutputBytes),
    /// What went with segments.
    Lost(&'a [u8]),
}

/// A file could not be read.
pub(super) struct ScanError {
    pub(super) segment: usize,
    pub(super) source: io::Error,
}

/// Walks all blocks in order, hands those that say something to `take`, and says how the log ends.
pub(super) fn scan(
    segments: &[FoundSegment],
    mut take: impl FnMut(Said<'_>),
) -> Result<Scan, ScanError> {
    let start = SEGMENT_HEADER_BYTES as u64;
    let first_sequence = segments.first().map_or(0, |first| first.header.first_sequence);
    let mut head = Head {
        place: Place { segment: 0, offset: start },
        sequence: first_sequence.max(1),
        chain: 0,
        latest: None,
        durable_to: 0,
        epoch: 0,
        now_ms: i64::MIN,
    };
    let mut unproven: VecDeque<Unproven> = VecDeque::new();
    let mut first = None;
    let corrupt = |head, detail| {
        let ending = Ending::Corrupt(detail);
        Scan { first: None, head, ending, unproven: Vec::new() }
    };
    for (index, found) in segments.iter().enumerate() {
        if index == 0 && first_sequence == 0 && found.header.number != 1 {
            // The segment before this one is let go only once this one's first block is durable.
            return Ok(corrupt(head, "the segments before this one are missing"));
        }
        let mut window = Window::new(&*found.segment.file, found.len);
        let mut offset = start;
        let epoch = head.epoch.max(found.header.epoch);
        loop {
            let bytes = block_at(found.segment.salt, &mut window, offset);
            let bytes = bytes.map_err(|source| ScanError { segment: index, source })?;
            let Some((header, body)) = stands(found.segment.salt, bytes, &head, epoch) else {
                break;
            };
            let end = offset + header.size() as u64;
            first.get_or_insert(Cursor(header.first));
            if header.kind == BlockKind::Outputs {
                let Some(records) = records_of(&header, body) else {
                    // The checksum fits: it was written so, and no writer of this version does.
                    let detail = "a block of outputs holds what no output is";
                    let place = Place { segment: index, offset };
                    return Ok(corrupt(Head { place, ..head }, detail));
                };
                let placed = Placed {
                    namespace: records.namespace,
                    sequence: header.sequence,
                    first: Cursor(header.first),
                    count: header.count,
                    appended_ms: header.now_ms,
                    segment: found.header.number,
                    start: offset,
                    end,
                };
                take(Said::Records(&placed, records));
            } else if !body.is_empty() {
                take(Said::Lost(body));
            }
            let durable_to = head.durable_to.max(header.durable_to);
            let (segment, sequence, range) = (index, header.sequence, offset..end);
            unproven.push_back(Unproven { segment, sequence, range });
            while unproven.front().is_some_and(|block| block.sequence <= durable_to) {
                unproven.pop_front();
            }
            offset = end;
            head = Head {
                place: Place { segment: index, offset },
                sequence: header.sequence + 1,
                chain: header.crc,
                // A mark holds no record, and names the one that comes next.
                latest: Some(Cursor(header.first + header.count as u64 - 1)),
                durable_to,
                epoch: header.epoch,
                now_ms: head.now_ms.max(header.now_ms),
            };
        }
        if offset == start {
            break;
        }
    }
    let ending = look_behind(segments, &head)?;
    Ok(Scan { first, head, ending, unproven: unproven.into() })
}

/// The bytes of the block that seems to begin here; those of a header if none does.
fn block_at<'a>(salt: BlockSalt, window: &'a mut Window<'_>, offset: u64) -> io::Result<&'a [u8]> {
    let size = block::peek(salt, window.get(offset, BLOCK_HEADER_BYTES)?).map_or(0, |header| {
        if header.length as usize > BLOCK_BODY_BYTES_MAX { 0 } else { header.size() }
    });
    window.get(offset, size.max(BLOCK_HEADER_BYTES))
}

/// The next block, if it stands here. What the first one of all follows on is not there.
fn stands<'a>(
    salt: BlockSalt,
    bytes: &'a [u8],
    head: &Head,
    epoch: u32,
) -> Option<(BlockHeader, &'a [u8])> {
    let (header, body) = block::decode(salt, bytes).ok()?;
    let fits_kind = match header.kind {
        BlockKind::Outputs => header.last().is_some_and(|last| last < u64::MAX),
        BlockKind::Mark => Lost::fits(header.length as usize) && header.count == 0,
        _ => false,
    };
    let follows =
        head.latest.is_none_or(|latest| header.chain == head.chain && header.first == latest.0 + 1);
    let stands = fits_kind
        && follows
        && is_ours(&header, epoch)
        && header.first > 0
        && header.sequence == head.sequence
        && header.durable_to < header.sequence;
    stands.then_some((header, body))
}

/// Whether a block was written to the output log, and not before an epoch.
fn is_ours(header: &BlockHeader, epoch: u32) -> bool {
    header.journal == OUTPUT_JOURNAL
        && header.epoch >= epoch
        && matches!(header.kind, BlockKind::Outputs | BlockKind::Mark)
}

/// Looks for blocks behind the hole, and for one that says that it was durable.
fn look_behind(segments: &[FoundSegment], head: &Head) -> Result<Ending, ScanError> {
    let hole = head.sequence;
    let mut blocks = 0;
    let mut is_torn = false;
    let mut effort: u64 = segments[head.place.segment.min(segments.len())..]
        .iter()
        .fold(0, |sum, found| sum.saturating_add(found.len.saturating_mul(EFFORT)));
    for (index, found) in segments.iter().enumerate().skip(head.place.segment) {
        let salt = found.segment.salt;
        let is_first = index == head.place.segment;
        let epoch = head.epoch.max(found.header.epoch);
        let mut window = Window::new(&*found.segment.file, found.len);
        let offset = if is_first { head.place.offset } else { SEGMENT_HEADER_BYTES as u64 };
        let mut place = Place { segment: index, offset };
        while place.offset + BLOCK_HEADER_BYTES as u64 <= found.len {
            let error = |source| ScanError { segment: index, source };
            let seen = window.get(place.offset, BLOCK_HEADER_BYTES).map_err(error)?;
            let is_hole = place == head.place;
            is_torn |= is_hole && block::resembles(salt, seen, epoch, OUTPUT_JOURNAL, hole);
            let claimed = block::peek(salt, seen).ok().filter(|header| {
                is_ours(header, epoch)
                    && header.sequence >= hole
                    && header.length as usize <= BLOCK_BODY_BYTES_MAX
                    && header.size() as u64 <= found.len - place.offset
            });
            let Some(claimed) = claimed else {
                place.offset += BLOCK_ALIGN as u64;
                continue;
            };
            let size = claimed.size();
            let Some(left) = effort.checked_sub(size as u64) else {
                let detail = "there are too many damaged blocks to tell what was durable";
                return Ok(Ending::Corrupt(detail));
            };
            effort = left;
            let whole = window.get(place.offset, size).map_err(error)?;
            let Ok((header, _)) = block::decode(salt, whole) else {
                place.offset += BLOCK_ALIGN as u64;
                continue;
            };
            place.offset += size as u64;
            is_torn = true;
            blocks += 1;
            if header.durable_to >= hole {
                return Ok(Ending::Corrupt("a block that was durable does not stand here"));
            }
        }
    }
    Ok(if is_torn { Ending::Torn { blocks } } else { Ending::Clean })
}

//! The scan: what the segments of one journal say after a crash. Clean end, torn tail or corruption.
//!
//! Unsynced blocks may have reached the disk in any order, or not at all, so a block that is not
//! there says nothing by itself. What tells the difference is `durable_to`: every block says which
//! sequence was known to be durable when it was written. The first place where the next block in
//! sequence does not stand is a *hole*. If any block behind the hole says that the hole's sequence
//! was durable, it is corruption; else it is a torn tail, and everything from the hole on is void:
//! nothing of it was ever answered.
//!
//! Segments are recycled, so behind the last block stand zeroes or stale blocks: of another epoch or
//! journal, or of a sequence that is past. They are no evidence of anything.
//!
//! Whatever the bytes are, a scan ends: it looks at each byte a bounded number of times and keeps
//! one entry for each block that stands.

use super::block::{
    BLOCK_ALIGN, BLOCK_HEADER_BYTES, BlockFlaw, BlockHeader, BlockKind, NO_LANE, decode, peek,
    resembles,
};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use std::collections::BTreeMap;

/// How often each byte may be checksummed in search of blocks behind a hole. What a crash leaves
/// needs it once or twice; beyond this, somebody drew blocks into blocks.
const EFFORT: u64 = 8;

/// A place in the segments that were fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The how manieth segment.
    pub(crate) segment: usize,
    pub(crate) offset: u64,
}

/// A block that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) header: BlockHeader,
}

/// How a journal ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was sealed.
    Sealed,
    /// Nothing of it stands behind the last block.
    Clean,
    /// Something of it stands behind the last block, and none of it was ever durable.
    Torn(Torn),
    /// What was durable is not there.
    Corrupt(Corrupt),
}

/// What is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) place: Place,
    /// The sequence that does not stand there.
    pub(crate) sequence: u64,
    /// Bytes from there to the end of what was found in that segment.
    pub(crate) bytes: u64,
    /// Whole blocks behind it, in all segments.
    pub(crate) blocks: u64,
}

/// What is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Corrupt {
    pub(crate) place: Place,
    /// The segment of this number is not there at all.
    pub(crate) missing_number: Option<u64>,
    /// The sequence that should stand there; 0 if that is not known.
    pub(crate) sequence: u64,
    /// What is left of the block says that it was of this lane.
    pub(crate) lane: Option<u16>,
    /// What is left of the block says that it began at this position.
    pub(crate) position: Option<u64>,
    pub(crate) detail: &'static str,
}

/// What the segments of a journal say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The blocks that stand, in sequence. Not for use if the ending is corrupt.
    pub(crate) blocks: Vec<Found>,
    pub(crate) ending: Ending,
    /// Behind the last block that stands: where an `end` belongs if there is none.
    pub(crate) end: Place,
    /// The sequence of the block that would follow.
    pub(crate) next_sequence: u64,
    /// The highest `durable_to` of a block that stands.
    pub(crate) durable_to: u64,
    /// The checksum of the last block of no lane, 0 if there is none.
    pub(crate) no_lane_chain: u32,
}

enum State {
    /// The next segment may go on where this one ends.
    Open(Hole),
    /// It is known that the hole is one, or nothing may follow.
    Closed(Hole),
    Sealed(Hole),
    Corrupt(Corrupt),
}

/// The first place where the next block does not stand.
#[derive(Clone, Copy)]
struct Hole {
    place: Place,
    sequence: u64,
    missing_number: Option<u64>,
    lane: Option<u16>,
    position: Option<u64>,
    detail: &'static str,
    /// There is something there that looks like the block.
    is_damaged: bool,
    /// Where what was found behind it ends, in the same segment.
    void_end: u64,
    void_blocks: u64,
}

/// Takes the segments of one journal in the order of their numbers.
pub(crate) struct Scanner {
    blocks: Vec<Found>,
    chains: BTreeMap<u16, u32>,
    /// The first block of the journal is there, so the first of each lane follows on nothing.
    is_from_start: bool,
    segments: usize,
    number: u64,
    next_sequence: u64,
    durable_to: u64,
    /// Bytes that may still be checksummed behind the hole.
    effort: u64,
    state: Option<State>,
}

impl Scanner {
    pub(crate) fn new() -> Self {
        Self {
            blocks: Vec::new(),
            chains: BTreeMap::new(),
            is_from_start: false,
            segments: 0,
            number: 0,
            next_sequence: 0,
            durable_to: 0,
            effort: 0,
            state: None,
        }
    }

    /// Takes the next segment: what its header says, and all its bytes, the header's included. Its
    /// number is greater than that of the segment before.
    pub(crate) fn feed(&mut self, header: &SegmentHeader, bytes: &[u8]) {
        let segment = self.segments;
        let is_next = segment == 0 || self.number.checked_add(1) == Some(header.number);
        let number_before = self.number;
        self.segments += 1;
        self.number = header.number;
        self.effort = self.effort.saturating_add(EFFORT * bytes.len() as u64);
        let start = Place { segment, offset: SEGMENT_HEADER_BYTES as u64 };
        self.state = Some(match self.state.take() {
            None => self.begin(start, header, bytes),
            Some(State::Open(_)) if is_next && self.stands(header, bytes, start).is_some() => {
                self.walk(start, header, bytes)
            }
            // Segments get their names one after another, each durably, and leave in order.
            Some(State::Open(hole)) if !is_next => State::Corrupt(corrupt(&Hole {
                missing_number: Some(number_before.saturating_add(1)),
                detail: "a segment is missing",
                ..hole
            })),
            Some(State::Open(hole)) => {
                let mut hole = hole;
                let here = hole_at(start, header, bytes, hole.sequence);
                if !hole.is_damaged && (here.is_damaged || header.first_sequence == hole.sequence) {
                    // The journal went on here: the hole is where this segment's first block was.
                    hole = here;
                }
                self.look_behind(hole, start, header, bytes)
                    .map_or_else(State::Corrupt, State::Closed)
            }
            Some(State::Closed(hole)) => self
                .look_behind(hole, start, header, bytes)
                .map_or_else(State::Corrupt, State::Closed),
            Some(State::Sealed(hole)) => self
                .look_behind(hole, start, header, bytes)
                .map_or_else(State::Corrupt, State::Sealed),
            Some(State::Corrupt(corrupt)) => State::Corrupt(corrupt),
        });
    }

    /// What all of it says.
    pub(crate) fn finish(self) -> Scan {
        let nowhere = Place { segment: 0, offset: SEGMENT_HEADER_BYTES as u64 };
        let (ending, end) = match self.state {
            None => (Ending::Clean, nowhere),
            Some(State::Sealed(hole)) => (Ending::Sealed, hole.place),
            Some(State::Corrupt(corrupt)) => (Ending::Corrupt(corrupt), corrupt.place),
            Some(State::Open(hole) | State::Closed(hole)) => {
                let torn = Torn {
                    place: hole.place,
                    sequence: hole.sequence,
                    bytes: hole.void_end - hole.place.offset,
                    blocks: hole.void_blocks,
                };
                let is_torn = hole.is_damaged || hole.void_blocks > 0;
                (if is_torn { Ending::Torn(torn) } else { Ending::Clean }, hole.place)
            }
        };
        Scan {
            blocks: self.blocks,
            ending,
            end,
            next_sequence: self.next_sequence,
            durable_to: self.durable_to,
            no_lane_chain: self.chains.get(&NO_LANE).copied().unwrap_or(0),
        }
    }

    fn begin(&mut self, start: Place, header: &SegmentHeader, bytes: &[u8]) -> State {
        self.is_from_start = header.number == 1;
        self.next_sequence = if self.is_from_start { 1 } else { header.first_sequence };
        if self.next_sequence != 0 {
            return self.walk(start, header, bytes);
        }
        // The segment before this one is let go only once this one's first sequence is durable.
        State::Corrupt(Corrupt {
            place: start,
            missing_number: Some(header.number.saturating_sub(1)),
            sequence: 0,
            lane: None,
            position: None,
            detail: "the segments before the first one are missing",
        })
    }

    /// Takes the blocks that stand, up to the first place where the next one does not.
    fn walk(&mut self, start: Place, header: &SegmentHeader, bytes: &[u8]) -> State {
        let mut place = start;
        while let Some(block) = self.stands(header, bytes, place) {
            self.chains.insert(block.lane, block.crc);
            self.durable_to = self.durable_to.max(block.durable_to);
            self.next_sequence = self.next_sequence.saturating_add(1);
            self.blocks.push(Found { place, header: block });
            place.offset += block.size() as u64;
            if block.kind == BlockKind::End {
                let hole = Hole {
                    detail: "blocks that were durable stand behind the end of the journal",
                    ..hole_at(place, header, bytes, block.sequence)
                };
                return self
                    .look_behind(hole, place, header, bytes)
                    .map_or_else(State::Corrupt, State::Sealed);
            }
        }
        let hole = hole_at(place, header, bytes, self.next_sequence);
        match self.look_behind(hole, place, header, bytes) {
            Err(corrupt) => State::Corrupt(corrupt),
            Ok(hole) if hole.void_blocks > 0 => State::Closed(hole),
            Ok(hole) => State::Open(hole),
        }
    }

    /// The header of the next block in sequence, if that stands here.
    fn stands(&self, header: &SegmentHeader, bytes: &[u8], at: Place) -> Option<BlockHeader> {
        let (block, _) = decode(header.salt(), bytes.get(at.offset as usize..)?).ok()?;
        let fits_kind = match block.kind {
            BlockKind::Records => block.lane != NO_LANE && block.last().is_some(),
            BlockKind::Mark | BlockKind::End => block.lane == NO_LANE && block.length == 0,
            BlockKind::Outputs => false,
        };
        let chain = self.chains.get(&block.lane).copied();
        let fits_chain = match chain {
            Some(chain) => block.chain == chain,
            None => !self.is_from_start || block.chain == 0,
        };
        let stands = is_of(&block, header)
            && block.sequence == self.next_sequence
            && block.durable_to < block.sequence
            && fits_kind
            && fits_chain;
        stands.then_some(block)
    }

    /// Looks for blocks of this journal behind the hole, and for one that says that it was durable.
    fn look_behind(
        &mut self,
        mut hole: Hole,
        from: Place,
        header: &SegmentHeader,
        bytes: &[u8],
    ) -> Result<Hole, Corrupt> {
        let salt = header.salt();
        let mut at = from.offset as usize;
        while let Some(rest) = bytes.get(at..)
            && rest.len() >= BLOCK_HEADER_BYTES
        {
            let claimed = peek(salt, rest).ok().filter(|block| {
                is_of(block, header)
                    && block.sequence >= hole.sequence
                    && block.size() <= rest.len()
            });
            let Some(claimed) = claimed else {
                at += BLOCK_ALIGN;
                continue;
            };
            let Some(effort) = self.effort.checked_sub(claimed.size() as u64) else {
                let detail = "there are too many damaged blocks to tell what was durable";
                return Err(corrupt(&Hole { detail, ..hole }));
            };
            self.effort = effort;
            if decode(salt, rest).is_err() {
                at += BLOCK_ALIGN;
                continue;
            }
            at += claimed.size();
            if claimed.sequence > hole.sequence {
                hole.void_blocks += 1;
                if from.segment == hole.place.segment {
                    hole.void_end = hole.void_end.max(at as u64);
                }
                if claimed.durable_to >= hole.sequence {
                    return Err(corrupt(&hole));
                }
            }
        }
        Ok(hole)
    }
}

fn hole_at(place: Place, header: &SegmentHeader, bytes: &[u8], sequence: u64) -> Hole {
    let rest = bytes.get(place.offset as usize..).unwrap_or_default();
    let salt = header.salt();
    let found = decode(salt, rest).map(|(block, _)| block);
    let is_stale = found.is_ok_and(|block| !is_of(&block, header) || block.sequence < sequence);
    let is_damaged = !is_stale && resembles(salt, rest, header.epoch, header.journal, sequence);
    let claimed = if is_damaged { peek(salt, rest).ok() } else { None };
    let of_lane = claimed
        .filter(|block| block.sequence == sequence && matches!(block.kind, BlockKind::Records));
    let size = claimed.map_or(BLOCK_ALIGN, |block| block.size()).min(rest.len());
    Hole {
        place,
        sequence,
        missing_number: None,
        lane: of_lane.map(|block| block.lane),
        position: of_lane.map(|block| block.first),
        detail: match found {
            Err(BlockFlaw::Crc | BlockFlaw::Padding) if is_damaged => {
                "a block that was durable does not match its checksum"
            }
            Ok(block) if is_of(&block, header) && block.sequence == sequence => {
                "a block that was durable does not follow on the one before it"
            }
            _ => "a block that was durable is not there",
        },
        is_damaged,
        void_end: place.offset + if is_damaged { size as u64 } else { 0 },
        void_blocks: 0,
    }
}

fn corrupt(hole: &Hole) -> Corrupt {
    Corrupt {
        place: hole.place,
        missing_number: hole.missing_number,
        sequence: hole.sequence,
        lane: hole.lane,
        position: hole.position,
        detail: hole.detail,
    }
}

/// Whether a block was written for this segment's journal in its epoch. One that was not is stale.
fn is_of(block: &BlockHeader, header: &SegmentHeader) -> bool {
    block.epoch == header.epoch && block.journal == header.journal
}

#[cfg(test)]
mod tests;

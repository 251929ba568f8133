//! A journal of this epoch: takes the blocks of its lanes, writes them, syncs them.
//!
//! Three steps, each its own call: [`Journal::append`] encodes and gives the sequence, `write` hands
//! the bytes to the files, `sync` makes them durable. A failed write or sync is final: the kernel
//! may have marked the pages clean, so a later success would prove nothing. The journal is poisoned
//! and says so to every call from then on.
//!
//! The next segment is held in hand before it is needed, so that [`Journal::assured`] is a promise. A
//! block that needs several gets all of them before it is begun: half of one could never be taken back.
//! A journal can begin without any, on a full disk: then nothing is assured until there is a spare.

use super::segments::{Segment, Segments, capacity};
use super::{DiskFault, write_all};
use crate::log::block::{
    BLOCK_BODY_BYTES_MAX, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, NO_LANE, OUTPUT_JOURNAL,
    block_size, encode,
};
use crate::log::segment::{
    JOURNAL_FOLDER, JournalSegment, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentKind,
};
use crate::log::{LaneBlock, split_record};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// A larger buffer is not kept: it was a storm's.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// Which journal it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JournalOptions {
    /// Greater than any epoch that the directory has seen.
    pub(crate) epoch: u32,
    pub(crate) journal: u16,
    /// How many journals are written beside each other in this epoch, this one included.
    pub(crate) journals: u16,
    /// The version of the engine, for whoever replays the blocks.
    pub(crate) engine_version: u16,
}

/// A journal that is being written.
pub(crate) struct Journal {
    segments: Arc<Segments>,
    options: JournalOptions,
    /// Full segments, the oldest first.
    closed: VecDeque<Closed>,
    /// `None`: there was no room for one yet.
    current: Option<Current>,
    /// Segments in hand that come after the current one: one as a rule.
    ahead: VecDeque<Segment>,
    /// What was appended and not yet written.
    pending: Vec<Run>,
    /// Kept from one write to the next.
    buffer: Vec<u8>,
    /// What was written and not yet synced.
    dirty: Vec<Segment>,
    /// The checksum of each lane's last block.
    chains: BTreeMap<u16, u32>,
    sequence: u64,
    written: u64,
    durable: u64,
    /// The last block with records.
    last_records: u64,
    /// The highest `durable_to` that a block says.
    said_durable: u64,
    now_ms: i64,
    is_sealed: bool,
    poison: Option<DiskFault>,
}

struct Current {
    segment: Segment,
    /// Where the next block goes, counting what is not yet written.
    end: u64,
    content: Content,
}

struct Closed {
    name: Arc<str>,
    content: Content,
}

/// What a segment holds.
#[derive(Default)]
struct Content {
    first_sequence: u64,
    /// The last position of each lane in it.
    lasts: BTreeMap<u16, u64>,
}

/// Bytes that belong behind each other in a file.
struct Run {
    segment: Segment,
    offset: u64,
    bytes: Vec<u8>,
}

impl Journal {
    /// A new journal. It takes a segment if there is room for one, and a second one if there is a
    /// spare.
    pub(crate) fn create(
        segments: Arc<Segments>,
        options: JournalOptions,
    ) -> Result<Self, DiskFault> {
        assert!(options.journal != OUTPUT_JOURNAL, "this number is that of the output log");
        let (name, header) = label(&segments, options, 1);
        let current = match segments.take(&name, header) {
            Ok(segment) => {
                let content = Content { first_sequence: 1, ..Content::default() };
                Some(Current { segment, end: SEGMENT_HEADER_BYTES as u64, content })
            }
            Err(fault) if fault.is_full() => None,
            Err(fault) => return Err(fault),
        };
        let mut journal = Self {
            segments,
            options,
            closed: VecDeque::new(),
            current,
            ahead: VecDeque::new(),
            pending: Vec::new(),
            buffer: Vec::new(),
            dirty: Vec::new(),
            chains: BTreeMap::new(),
            sequence: 0,
            written: 0,
            durable: 0,
            last_records: 0,
            said_durable: 0,
            now_ms: 0,
            is_sealed: false,
            poison: None,
        };
        journal.refill()?;
        Ok(journal)
    }

    /// Takes a block and returns the sequence that it is durable with. What is too long for one
    /// block becomes several, each with whole records.
    ///
    /// Within what [`Journal::assured`] promised, it only fails if the journal is poisoned. Beyond,
    /// it makes a segment on the spot; if there is no room for one ([`DiskFault::is_full`]), nothing
    /// was taken and the same block can be appended later.
    pub(crate) fn append(&mut self, block: &LaneBlock) -> Result<u64, DiskFault> {
        self.check()?;
        assert!(block.count > 0 && block.lane != NO_LANE, "a block has records, and a lane");
        self.now_ms = block.now_ms;
        if block.records.len() <= self.body_max() {
            return self.put_records(block, block.first_position, block.count, &block.records);
        }
        let pieces = self.split(block)?;
        self.hold(self.rolls(&pieces))?;
        for piece in pieces {
            let outcome = self.put_records(block, piece.first, piece.count, piece.records);
            // If half of it is in, what was to follow from the whole can never be said.
            self.poisoned(outcome.map(|_| ()))?;
        }
        Ok(self.sequence)
    }

    /// How many further segments these pieces need.
    fn rolls(&self, pieces: &[Piece<'_>]) -> usize {
        let (mut left, mut count) = (self.left(), 0);
        for piece in pieces {
            let size = block_size(piece.records.len()) as u64;
            if size > left {
                (left, count) = (capacity(self.segments.segment_bytes()), count + 1);
            }
            left -= size;
        }
        count
    }

    /// Takes so many segments in hand; if they cannot be had, no more than there were.
    fn hold(&mut self, count: usize) -> Result<(), DiskFault> {
        let before = self.ahead.len();
        if count > before {
            self.segments.look_for_room(count - before)?;
        }
        while self.ahead.len() < count {
            let (name, header) = self.next_label();
            match self.segments.take(&name, header) {
                Ok(segment) => self.ahead.push_back(segment),
                Err(fault) => {
                    self.give_back(before)?;
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    /// Gives back what is in hand, the newest first, but for so many.
    fn give_back(&mut self, kept: usize) -> Result<(), DiskFault> {
        while self.ahead.len() > kept
            && let Some(newest) = self.ahead.pop_back()
        {
            self.segments.retire(&newest.name)?;
        }
        Ok(())
    }

    /// If blocks became durable and nothing on the disk says so yet, appends a mark that does, and
    /// returns true: it is to be written and synced like any other. Without it, damage to the last
    /// synced block would look like a torn tail.
    pub(crate) fn mark(&mut self) -> Result<bool, DiskFault> {
        self.check()?;
        let is_due = self.durable.min(self.last_records) > self.said_durable;
        if is_due {
            self.put_empty(BlockKind::Mark)?;
        }
        Ok(is_due)
    }

    /// Appends a mark that carries the clock, for whoever asks later how long the service was up.
    pub(crate) fn stamp(&mut self, now_ms: i64) -> Result<(), DiskFault> {
        self.check()?;
        self.now_ms = now_ms;
        self.put_empty(BlockKind::Mark)
    }

    /// Writes what was appended.
    pub(crate) fn write(&mut self) -> Result<(), DiskFault> {
        self.check()?;
        let outcome = self.write_pending();
        self.poisoned(outcome)?;
        let outcome = self.refill();
        self.poisoned(outcome)
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&mut self) -> Result<(), DiskFault> {
        self.check()?;
        let outcome = self.dirty.iter().try_for_each(|segment| {
            segment.file.sync().map_err(DiskFault::at(&segment.name, "sync"))
        });
        self.poisoned(outcome)?;
        self.dirty.clear();
        self.durable = self.written;
        Ok(())
    }

    /// Takes the next segment in hand if there is a spare for it, and says whether it is in hand.
    pub(crate) fn hold_next(&mut self) -> Result<bool, DiskFault> {
        self.check()?;
        let outcome = self.refill();
        self.poisoned(outcome)?;
        Ok(!self.ahead.is_empty())
    }

    /// A graceful end: everything is written and synced, then a block that says that nothing
    /// follows. The journal takes nothing more.
    pub(crate) fn seal(&mut self) -> Result<(), DiskFault> {
        self.write()?;
        self.sync()?;
        if self.current.is_none() && !self.ahead.is_empty() {
            // Of a run that has written anything all journals are there: its only file stays.
            self.roll()?;
        }
        // A journal that never had room for a block needs no end.
        if self.current.is_some() {
            self.put_empty(BlockKind::End)?;
            let outcome = self.write_pending();
            self.poisoned(outcome)?;
            self.sync()?;
        }
        self.is_sealed = true;
        self.give_back(0)
    }

    /// Lets go of segments that no replay needs: those at the beginning whose blocks all end at or
    /// below the position that their lane is replayed behind. Never the current one. How many.
    pub(crate) fn cut(&mut self, starts: &[u64]) -> Result<usize, DiskFault> {
        self.check()?;
        let mut count = 0;
        while let (Some(oldest), Some(current)) = (self.closed.front(), &self.current) {
            let following = self.closed.get(1).map_or(&current.content, |next| &next.content);
            // The header of the following one says which sequence it begins with. Only once that
            // is durable can it be the first.
            if following.first_sequence > self.durable || !is_passed(&oldest.content.lasts, starts)
            {
                break;
            }
            self.segments.retire(&oldest.name)?;
            self.closed.pop_front();
            count += 1;
        }
        Ok(count)
    }

    /// Bytes of blocks ([`block_size`] of each body) that can be appended for certain.
    pub(crate) fn assured(&self) -> u64 {
        if self.poison.is_some() || self.is_sealed {
            return 0;
        }
        let next = self.ahead.front().map_or(0, |next| capacity(next.header.size));
        let splits = self.segments.segment_bytes() / BLOCK_BODY_BYTES_MAX as u64;
        // What is split needs a header more for each piece.
        self.left().max(next).saturating_sub(splits * block_size(BLOCK_HEADER_BYTES) as u64)
    }

    /// Whether there is a file of it.
    pub(crate) fn has_begun(&self) -> bool {
        self.current.is_some() || !self.ahead.is_empty()
    }

    /// The sequence of the last block that was appended.
    #[cfg(test)]
    pub(crate) fn appended(&self) -> u64 {
        self.sequence
    }

    /// The sequence of the last block that was written.
    #[cfg(test)]
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The sequence of the last block that is durable.
    #[cfg(test)]
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// A write or a sync has failed: nothing more will ever be durable.
    #[cfg(test)]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    fn check(&self) -> Result<(), DiskFault> {
        if let Some(poison) = &self.poison {
            return Err(poison.again());
        }
        if self.is_sealed {
            let source = io::Error::other("the journal is sealed");
            return Err(DiskFault::new(self.name(), "write", source));
        }
        Ok(())
    }

    /// The file that is written.
    fn name(&self) -> &str {
        self.current.as_ref().map_or(JOURNAL_FOLDER, |current| &current.segment.name)
    }

    fn poisoned(&mut self, outcome: Result<(), DiskFault>) -> Result<(), DiskFault> {
        outcome.map_err(|fault| {
            let fault = fault.for_good();
            self.poison = Some(fault.again());
            fault
        })
    }

    /// Bytes that blocks can still have in the current segment.
    fn left(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| {
            let size = current.segment.header.size;
            (size - BLOCK_HEADER_BYTES as u64).saturating_sub(current.end)
        })
    }

    /// Bytes of the longest body.
    fn body_max(&self) -> usize {
        let room = capacity(self.segments.segment_bytes()) as usize - BLOCK_HEADER_BYTES;
        room.min(BLOCK_BODY_BYTES_MAX)
    }

    fn split<'a>(&self, block: &'a LaneBlock) -> Result<Vec<Piece<'a>>, DiskFault> {
        let body_max = self.body_max();
        let refused = |detail: &str| {
            let source = io::Error::new(ErrorKind::InvalidInput, detail);
            DiskFault::new(self.name(), "append to", source)
        };
        let mut pieces = Vec::new();
        let (mut rest, mut first, mut left) =
            (&block.records[..], block.first_position, block.count);
        while left > 0 {
            let (mut bytes, mut count) = (0, 0);
            while count < left {
                let (_, behind) =
                    split_record(&rest[bytes..]).ok_or_else(|| refused("no record"))?;
                let end = rest.len() - behind.len();
                if end > body_max {
                    break;
                }
                (bytes, count) = (end, count + 1);
            }
            if count == 0 {
                return Err(refused("a record is longer than a segment holds"));
            }
            let (records, behind) = rest.split_at(bytes);
            pieces.push(Piece { first, count, records });
            rest = behind;
            first += u64::from(count);
            left -= count;
        }
        if rest.is_empty() { Ok(pieces) } else { Err(refused("more records than counted")) }
    }

    fn put_records(
        &mut self,
        block: &LaneBlock,
        first: u64,
        count: u32,
        records: &[u8],
    ) -> Result<u64, DiskFault> {
        let header = BlockHeader {
            lane: block.lane,
            count,
            first,
            now_ms: block.now_ms,
            ..self.header(BlockKind::Records)
        };
        let last = header.last().expect("there are not 2^64 positions");
        self.put(header, records)?;
        self.last_records = self.sequence;
        if let Some(current) = &mut self.current {
            current.content.lasts.insert(block.lane, last);
        }
        Ok(self.sequence)
    }

    fn put_empty(&mut self, kind: BlockKind) -> Result<(), DiskFault> {
        self.put(self.header(kind), &[])
    }

    fn header(&self, kind: BlockKind) -> BlockHeader {
        BlockHeader {
            kind,
            lane: NO_LANE,
            length: 0,
            count: 0,
            epoch: self.options.epoch,
            journal: self.options.journal,
            engine_version: self.options.engine_version,
            sequence: self.sequence + 1,
            durable_to: self.durable,
            first: 0,
            now_ms: self.now_ms,
            chain: 0,
            crc: 0,
        }
    }

    fn put(&mut self, header: BlockHeader, body: &[u8]) -> Result<(), DiskFault> {
        let size = block_size(body.len()) as u64;
        // Each segment keeps room for the end, which so never needs a new one.
        if size > self.left() && header.kind != BlockKind::End {
            self.roll()?;
        }
        let current = self.current.as_mut().expect("a journal that rolled has a segment");
        let chain = self.chains.entry(header.lane).or_insert(0);
        if self.pending.is_empty() {
            let (segment, offset) = (current.segment.clone(), current.end);
            let bytes = std::mem::take(&mut self.buffer);
            self.pending.push(Run { segment, offset, bytes });
        }
        let run = self.pending.last_mut().expect("one was just made");
        let header = BlockHeader { chain: *chain, ..header };
        *chain = encode(&mut run.bytes, self.segments.salt(), &header, body);
        current.end += size;
        self.sequence = header.sequence;
        self.said_durable = header.durable_to;
        Ok(())
    }

    /// Goes on in the next segment.
    fn roll(&mut self) -> Result<(), DiskFault> {
        let mut next = if let Some(next) = self.ahead.pop_front() {
            next
        } else {
            let (name, header) = self.next_label();
            self.segments.take(&name, header)?
        };
        // Written with the first block and not synced before it: the header is in one sector.
        next.header.first_sequence = self.sequence + 1;
        let bytes = next.header.encode();
        self.pending.push(Run { segment: next.clone(), offset: 0, bytes });
        let content = Content { first_sequence: next.header.first_sequence, ..Content::default() };
        let current = Current { segment: next, end: SEGMENT_HEADER_BYTES as u64, content };
        let full = self.current.replace(current);
        self.closed.extend(full.map(|it| Closed { name: it.segment.name, content: it.content }));
        Ok(())
    }

    fn write_pending(&mut self) -> Result<(), DiskFault> {
        for run in self.pending.drain(..) {
            write_all(&*run.segment.file, run.offset, &run.bytes)
                .map_err(DiskFault::at(&run.segment.name, "write"))?;
            if self.dirty.last().is_none_or(|dirty| dirty.name != run.segment.name) {
                self.dirty.push(run.segment);
            }
            if run.bytes.capacity() <= BUFFER_BYTES_MAX {
                self.buffer = run.bytes;
                self.buffer.clear();
            }
        }
        self.written = self.sequence;
        Ok(())
    }

    fn refill(&mut self) -> Result<(), DiskFault> {
        if self.ahead.is_empty() && !self.is_sealed {
            let (name, header) = self.next_label();
            match self.segments.take_ready(&name, header) {
                Ok(next) => self.ahead.extend(next),
                // Less is assured; what is in hand is whole.
                Err(fault) if fault.is_full() => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    fn next_label(&self) -> (String, SegmentHeader) {
        let current = self.current.as_ref().map_or(0, |current| current.segment.header.number);
        label(&self.segments, self.options, current + self.ahead.len() as u64 + 1)
    }
}

struct Piece<'a> {
    first: u64,
    count: u32,
    records: &'a [u8],
}

/// Whether no lane needs any of it.
pub(super) fn is_passed(lasts: &BTreeMap<u16, u64>, starts: &[u64]) -> bool {
    lasts.iter().all(|(lane, last)| starts.get(*lane as usize).is_some_and(|start| last <= start))
}

fn label(segments: &Segments, options: JournalOptions, number: u64) -> (String, SegmentHeader) {
    let JournalOptions { epoch, journal, journals, .. } = options;
    let header = SegmentHeader {
        kind: SegmentKind::Journal,
        directory_id: segments.directory_id(),
        epoch,
        journal,
        journals,
        number,
        // Of the others it is known once something is written into them.
        first_sequence: u64::from(number == 1),
        size: segments.segment_bytes(),
    };
    (JournalSegment { epoch, journal, number }.path(), header)
}

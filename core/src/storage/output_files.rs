//! The output log's files: one sequence of blocks over segments, written by one, read by many.
//!
//! [`OutputFiles::append`] gives records their cursors and keeps them; `write` puts them into the
//! segments, `sync` makes them durable and, with that, readable. What failed while something was
//! being written or synced is final: the files are poisoned, and every later call says so again. A
//! disk that is full is not: nothing was begun then, and a later call goes on.
//!
//! A block is never larger than [`PIECE_BYTES_MAX`] unless a single record is. What is appended as
//! one may so stand in several blocks.

use super::output_index::{OutputIndex, OutputSegment, Placed};
use super::output_lost;
use super::output_reader::{BODY_HEAD_BYTES, OutputReader, PIECE_BYTES_MAX};
use super::segments::{Segment, Segments, capacity};
use super::{DiskFault, write_all};
use crate::log::block::{
    self, BLOCK_BODY_BYTES_MAX, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, NO_LANE, OUTPUT_JOURNAL,
};
use crate::log::segment::{
    OUTPUT_FOLDER, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentKind, output_path,
};
use crate::output::{Cursor, OutputBytes};
#[cfg(test)]
use crate::{
    namespace::Retention,
    output::{NamespaceId, OutputBlock, OutputFault},
};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// A new log begins behind a multiple of this.
pub(super) const CURSORS_PER_SECOND: u64 = 1 << 20;

/// A block holds no more.
const RECORD_BYTES_MAX: usize = BLOCK_BODY_BYTES_MAX - BODY_HEAD_BYTES;

/// What the output log is opened with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutputOptions {
    /// The epoch that begins.
    pub(crate) epoch: u32,
    /// The version of the engine that writes.
    pub(crate) engine_version: u16,
    /// The adjusted clock: a new log's first cursor is made of it.
    pub(crate) now_ms: i64,
    /// Outputs behind this cursor may be emitted once more by the replay; `None`: there is no
    /// snapshot, all may be.
    pub(crate) scan_from: Option<Cursor>,
    /// The log was durable up to here when the newest snapshot was made.
    pub(crate) reached: Option<Cursor>,
    /// Bytes that the log's segments may take; at least one is always kept.
    pub(crate) bytes_max: u64,
}

/// See the module.
pub(crate) struct OutputFiles {
    segments: Arc<Segments>,
    epoch: u32,
    engine_version: u16,
    bytes_max: u64,
    piece_bytes_max: usize,
    reader: OutputReader,
    floor: Cursor,
    /// What went at or before it is written down, or was found so.
    lost_to: Cursor,
    current: Option<Current>,
    /// The segment after the current one, ready.
    in_hand: Option<Segment>,
    next_number: u64,
    /// Blocks that are not in a file yet, and what they are.
    pending: Vec<u8>,
    queue: VecDeque<Queued>,
    /// What is in the files and not durable yet.
    written: Vec<Written>,
    unsynced: Vec<Arc<OutputSegment>>,
    sequence: u64,
    written_to: u64,
    durable_to: u64,
    /// How far the blocks that are durable say that the log is, and how far it is with outputs.
    said_to: u64,
    outputs_to: u64,
    chain: u32,
    latest: Cursor,
    appended_ms: i64,
    body: Vec<u8>,
    poison: Option<DiskFault>,
}

/// The segment that is written.
pub(super) struct Current {
    pub(super) segment: Arc<OutputSegment>,
    pub(super) offset: u64,
}

struct Queued {
    size: u64,
    sequence: u64,
    durable_to: u64,
    /// None for a mark.
    block: Option<Placed>,
}

enum Written {
    Segment(Arc<OutputSegment>),
    Block(Placed),
    SaysDurable(u64),
}

/// Where a log goes on.
pub(super) struct Beginning {
    pub(super) index: OutputIndex,
    pub(super) current: Option<Current>,
    pub(super) sequence: u64,
    pub(super) chain: u32,
    pub(super) latest: Cursor,
    pub(super) appended_ms: i64,
}

impl OutputFiles {
    /// The cursor before the first one of a log that begins now: made of the second, so that the
    /// cursors of an earlier log lie behind it and are told of the gap.
    pub(crate) const fn first_cursor(now_ms: i64) -> Cursor {
        let seconds = if now_ms > 0 { now_ms as u64 / 1_000 } else { 0 };
        // Beyond the year 500,000 cursors begin where those of that year did.
        Cursor(if seconds < 1 << 43 { seconds * CURSORS_PER_SECOND } else { 1 << 62 })
    }

    pub(super) fn new(segments: Arc<Segments>, options: &OutputOptions, begin: Beginning) -> Self {
        let number = begin.current.as_ref().map_or(0, |current| current.segment.number);
        let piece_bytes_max = capacity(segments.segment_bytes()).min(PIECE_BYTES_MAX as u64)
            as usize
            - BLOCK_HEADER_BYTES
            - BODY_HEAD_BYTES;
        Self {
            segments,
            epoch: options.epoch,
            engine_version: options.engine_version,
            bytes_max: options.bytes_max,
            piece_bytes_max,
            lost_to: begin.index.base(),
            reader: OutputReader::new(begin.index),
            floor: options.scan_from.unwrap_or(Cursor(0)),
            current: begin.current,
            in_hand: None,
            next_number: number + 1,
            pending: Vec::new(),
            queue: VecDeque::new(),
            written: Vec::new(),
            unsynced: Vec::new(),
            sequence: begin.sequence,
            written_to: begin.sequence - 1,
            durable_to: begin.sequence - 1,
            said_to: 0,
            outputs_to: 0,
            chain: begin.chain,
            latest: begin.latest,
            appended_ms: begin.appended_ms,
            body: Vec::new(),
            poison: None,
        }
    }

    /// The readers' side.
    pub(crate) fn reader(&self) -> OutputReader {
        self.reader.clone()
    }

    /// The newest record that was appended.
    pub(crate) const fn latest(&self) -> Cursor {
        self.latest
    }

    /// Gives records their place: the cursor of the first of them, and when they count as appended,
    /// which never falls. Nothing is written. A record that no block holds poisons the files: what
    /// follows from what was applied cannot be told to anybody any more.
    pub(crate) fn append(
        &mut self,
        records: &OutputBytes,
        now_ms: i64,
    ) -> Result<(Cursor, i64), DiskFault> {
        // A piece of more bytes is a single record.
        let mut pieces = records.pieces(self.piece_bytes_max).map(|(_, piece)| piece.len());
        if records.len_bytes() > RECORD_BYTES_MAX
            && let Some(bytes) = pieces.find(|bytes| *bytes > RECORD_BYTES_MAX)
        {
            let detail = format!("an output has {bytes} bytes, allowed are {RECORD_BYTES_MAX}");
            let source = io::Error::new(io::ErrorKind::InvalidInput, detail);
            return self.poison_by(Err(DiskFault::new(OUTPUT_FOLDER, "append to", source)));
        }
        let first = Cursor(self.latest.0 + 1);
        self.appended_ms = self.appended_ms.max(now_ms);
        let mut body = std::mem::take(&mut self.body);
        for (count, piece) in records.pieces(self.piece_bytes_max) {
            body.clear();
            body.extend_from_slice(&records.namespace.0.to_le_bytes());
            body.extend_from_slice(piece);
            let placed = Placed {
                namespace: records.namespace,
                sequence: self.sequence,
                first: Cursor(self.latest.0 + 1),
                count,
                appended_ms: self.appended_ms,
                // Known when it is written.
                segment: 0,
                start: 0,
                end: 0,
            };
            self.enqueue(BlockKind::Outputs, records.lane, Some(placed), &body);
            self.latest = placed.last();
        }
        self.body = body;
        Ok((first, self.appended_ms))
    }

    fn enqueue(&mut self, kind: BlockKind, lane: u16, block: Option<Placed>, body: &[u8]) {
        let header = BlockHeader {
            kind,
            lane,
            length: body.len() as u32,
            count: block.map_or(0, |block| block.count),
            epoch: self.epoch,
            journal: OUTPUT_JOURNAL,
            engine_version: self.engine_version,
            sequence: self.sequence,
            durable_to: self.durable_to,
            first: self.latest.0 + 1,
            now_ms: self.appended_ms,
            chain: self.chain,
            crc: 0,
        };
        let before = self.pending.len();
        self.chain = block::encode(&mut self.pending, self.segments.salt(), &header, body);
        let size = (self.pending.len() - before) as u64;
        let (sequence, durable_to) = (self.sequence, self.durable_to);
        self.queue.push_back(Queued { size, sequence, durable_to, block });
        self.sequence += 1;
    }

    /// Writes what was appended, into further segments if need be.
    pub(crate) fn write(&mut self) -> Result<(), DiskFault> {
        self.check()?;
        while let Some(next) = self.queue.front() {
            let (size, sequence) = (next.size, next.sequence);
            if !self.current.as_ref().is_some_and(|current| current.has_room(next)) {
                let outcome = self.roll(size, sequence);
                self.poison_unless_full(outcome)?;
            }
            let outcome = self.write_run();
            self.poison_by(outcome)?;
        }
        Ok(())
    }

    /// Writes as many blocks as the current segment has room for.
    fn write_run(&mut self) -> Result<(), DiskFault> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let start = current.offset;
        while let Some(next) = self.queue.front()
            && current.has_room(next)
        {
            let end = current.offset + next.size;
            if let Some(block) = next.block {
                let segment = current.segment.number;
                let placed = Placed { segment, start: current.offset, end, ..block };
                self.written.push(Written::Block(placed));
            }
            self.written.push(Written::SaysDurable(next.durable_to));
            self.written_to = next.sequence;
            current.offset = end;
            self.queue.pop_front();
        }
        let run = (current.offset - start) as usize;
        let name = &current.segment.name;
        write_all(&*current.segment.file, start, &self.pending[..run])
            .map_err(DiskFault::at(name, "write"))?;
        self.pending.drain(..run);
        if !self.unsynced.iter().any(|segment| Arc::ptr_eq(segment, &current.segment)) {
            self.unsynced.push(Arc::clone(&current.segment));
        }
        Ok(())
    }

    /// Goes on in the next segment, in which the block of this sequence is the first.
    fn roll(&mut self, size: u64, sequence: u64) -> Result<(), DiskFault> {
        let name = output_path(self.next_number);
        if size > capacity(self.segments.segment_bytes()) {
            let detail = "a block is larger than a segment";
            let source = io::Error::new(io::ErrorKind::InvalidInput, detail);
            return Err(DiskFault::new(&name, "write a block to", source));
        }
        let segment = match self.in_hand.take() {
            Some(segment) => segment,
            None => self.segments.take(&name, self.header(self.next_number))?,
        };
        let header = SegmentHeader { first_sequence: sequence, ..segment.header };
        write_all(&*segment.file, 0, &header.encode()).map_err(DiskFault::at(&name, "write"))?;
        let segment = Arc::new(OutputSegment {
            number: header.number,
            name: segment.name,
            file: segment.file,
            size: header.size,
            salt: self.segments.salt(),
        });
        self.next_number += 1;
        self.written.push(Written::Segment(Arc::clone(&segment)));
        self.current = Some(Current { segment, offset: SEGMENT_HEADER_BYTES as u64 });
        Ok(())
    }

    fn header(&self, number: u64) -> SegmentHeader {
        SegmentHeader {
            kind: SegmentKind::Outputs,
            directory_id: self.segments.directory_id(),
            epoch: self.epoch,
            journal: OUTPUT_JOURNAL,
            journals: 0,
            number,
            first_sequence: 0,
            size: self.segments.segment_bytes(),
        }
    }

    /// Makes what was written durable, and readable.
    pub(crate) fn sync(&mut self) -> Result<(), DiskFault> {
        self.check()?;
        for segment in std::mem::take(&mut self.unsynced) {
            let outcome = segment.file.sync().map_err(DiskFault::at(&segment.name, "sync"));
            self.poison_by(outcome)?;
        }
        self.durable_to = self.written_to;
        let mut index = self.reader.lock();
        for written in self.written.drain(..) {
            match written {
                Written::Segment(segment) => index.open_segment(segment),
                Written::Block(placed) => {
                    self.outputs_to = placed.sequence;
                    index.add(&placed);
                }
                Written::SaysDurable(sequence) => self.said_to = sequence,
            }
        }
        Ok(())
    }

    /// Takes the next segment in hand, so that rolling costs no more than a write. That there is no
    /// room for one is no fault; [`OutputFiles::room_bytes`] tells.
    pub(crate) fn prepare(&mut self) -> Result<(), DiskFault> {
        self.check()?;
        if self.in_hand.is_some() {
            return Ok(());
        }
        let header = self.header(self.next_number);
        match self.segments.take(&output_path(self.next_number), header) {
            Ok(segment) => self.in_hand = Some(segment),
            Err(fault) if fault.is_full() => {}
            Err(fault) => return self.poison_by(Err(fault)),
        }
        Ok(())
    }

    /// Bytes of blocks that find room without another segment being made.
    #[cfg(test)]
    pub(crate) fn room_bytes(&self) -> u64 {
        let current = self.current.as_ref();
        let here = current.map_or(0, |current| current.end().saturating_sub(current.offset));
        let next = self.in_hand.as_ref().map_or(0, |segment| capacity(segment.header.size));
        (here + next).saturating_sub(self.pending.len() as u64)
    }

    /// Whether the newest outputs would be taken for a torn tail if they were damaged: no block says
    /// yet that they are durable. [`OutputFiles::mark`] writes one.
    pub(crate) const fn wants_mark(&self) -> bool {
        self.said_to < self.outputs_to
    }

    /// Writes down how far the log is durable, and syncs. For an idle moment, and for the end.
    pub(crate) fn mark(&mut self) -> Result<(), DiskFault> {
        self.write()?;
        self.sync()?;
        self.enqueue(BlockKind::Mark, NO_LANE, None, &[]);
        self.write()?;
        self.sync()
    }

    /// Nothing behind this cursor is deleted: a recovery may need it.
    pub(crate) fn set_floor(&mut self, floor: Cursor) {
        self.floor = self.floor.max(floor);
    }

    /// Bytes that the log's segments may take.
    #[cfg(test)]
    pub(crate) fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// A namespace is there, or its retention has changed.
    #[cfg(test)]
    pub(crate) fn admit(&mut self, namespace: NamespaceId, retention: Retention) {
        let latest = self.latest;
        self.reader.admit(namespace, retention, latest);
    }

    /// A namespace is gone, and its outputs with it.
    #[cfg(test)]
    pub(crate) fn end(&mut self, namespace: NamespaceId) {
        self.reader.end(namespace);
    }

    /// All namespaces that exist have been admitted: what is there of others goes.
    pub(crate) fn forget_unknown(&mut self) {
        self.reader.lock().forget_unknown();
    }

    /// Lets go of what retention no longer covers, and gives back the segments that nobody needs.
    pub(crate) fn retain(&mut self, now_ms: i64) -> Result<(), DiskFault> {
        self.check()?;
        self.reader.lock().retain(now_ms, self.floor, self.bytes_max);
        self.say_lost()?;
        // In order: a segment that is missing between two others would be taken for damage.
        loop {
            let next = self.reader.lock().next_left();
            let Some(segment) = next else {
                return Ok(());
            };
            self.segments.retire(&segment.name)?;
            self.reader.lock().left();
        }
    }

    /// Writes down what goes with segments, before they do. If there is no room for it they go all
    /// the same: they make some, and a start then takes whatever might have gone for gone.
    fn say_lost(&mut self) -> Result<(), DiskFault> {
        let (base, gone) = {
            let index = self.reader.lock();
            if index.base() <= self.lost_to {
                return Ok(());
            }
            (index.base(), index.gone())
        };
        self.lost_to = base;
        for body in output_lost::bodies(base, &gone, self.piece_bytes_max) {
            self.enqueue(BlockKind::Mark, NO_LANE, None, &body);
        }
        match self.write().and_then(|()| self.sync()) {
            Err(fault) if fault.is_full() => Ok(()),
            outcome => outcome,
        }
    }

    /// Blocks of a namespace with records after `after`, some `bytes_max` bytes of them.
    #[cfg(test)]
    pub(crate) fn read(
        &self,
        namespace: NamespaceId,
        after: Cursor,
        bytes_max: usize,
    ) -> Result<Vec<OutputBlock>, OutputFault> {
        let plan = self.reader.plan(namespace, after, Cursor(u64::MAX), bytes_max);
        let mut blocks = plan.map_or_else(|| Ok(Vec::new()), |plan| plan.read())?;
        blocks.retain(|block| block.last() > after);
        Ok(blocks)
    }

    fn check(&self) -> Result<(), DiskFault> {
        self.poison.as_ref().map_or(Ok(()), |fault| Err(fault.again()))
    }

    fn poison_by<T>(&mut self, outcome: Result<T, DiskFault>) -> Result<T, DiskFault> {
        outcome.map_err(|fault| {
            let fault = fault.for_good();
            self.poison = Some(fault.again());
            fault
        })
    }

    fn poison_unless_full<T>(&mut self, outcome: Result<T, DiskFault>) -> Result<T, DiskFault> {
        match outcome {
            Err(fault) if fault.is_full() => Err(fault),
            outcome => self.poison_by(outcome),
        }
    }
}

impl Current {
    fn has_room(&self, next: &Queued) -> bool {
        let end = self.offset + next.size;
        let is_empty = next.size == BLOCK_HEADER_BYTES as u64;
        end <= if is_empty { self.segment.size } else { self.end() }
    }

    /// Where blocks with a body end at the latest: behind it there is room for a mark, so that a
    /// recovery can write one into the segment that it finds.
    fn end(&self) -> u64 {
        self.segment.size - BLOCK_HEADER_BYTES as u64
    }
}

const _: () = assert!(PIECE_BYTES_MAX <= BLOCK_BODY_BYTES_MAX);

#[cfg(test)]
mod tests;

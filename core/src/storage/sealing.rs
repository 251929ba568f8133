//! Sealing: what recovery decided about a journal becomes its last word.
//!
//! What may be in the page cache only is written again and synced, then an `end` block is written
//! and synced, then the segments behind it go. Each step may be cut off by another crash and is done
//! again from the beginning, with the same outcome.

use super::recovery::{Recovered, SegmentFile};
use super::segments::zero;
use super::{DiskFault, read_full, write_all};
use crate::log::block::{BlockHeader, BlockKind, NO_LANE, encode};
use crate::log::scan::{Ending, Found, Place, Scan};
use crate::log::segment::{JOURNAL_FOLDER, JournalSegment};
use crate::ports::Disk;
use std::ops::Range;
use std::sync::Arc;

/// A journal of the newest epoch, and what is left to be done to it.
#[derive(Debug)]
pub(super) struct Unsealed {
    journal: JournalSegment,
    /// Its segments among [`Recovered::files`], up to the one in which it ends.
    files: Range<usize>,
    /// The segments behind that one.
    void: Vec<Arc<str>>,
    /// For each segment: the sequence of its first block.
    first_sequences: Vec<u64>,
    /// The blocks that no other says to be durable.
    tail: Vec<Found>,
    end: Place,
    is_torn: bool,
    is_sealed: bool,
    next_sequence: u64,
    no_lane_chain: u32,
    now_ms: i64,
}

impl Unsealed {
    /// What the scan of a journal asks for.
    pub(super) fn new(
        journal: JournalSegment,
        files: Range<usize>,
        void: Vec<Arc<str>>,
        scan: &Scan,
    ) -> Self {
        let first_sequence = |index| {
            let first = scan.blocks.iter().find(|block| block.place.segment == index);
            first.map_or(scan.next_sequence, |block| block.header.sequence)
        };
        // Of a sealed journal this is the end: it stands, but is it on the disk?
        let tail = scan.blocks.partition_point(|block| block.header.sequence <= scan.durable_to);
        Self {
            journal,
            void,
            first_sequences: (0..files.len()).map(first_sequence).collect(),
            files,
            tail: scan.blocks[tail..].to_vec(),
            end: scan.end,
            is_torn: matches!(scan.ending, Ending::Torn(_)),
            is_sealed: scan.ending == Ending::Sealed,
            next_sequence: scan.next_sequence,
            no_lane_chain: scan.no_lane_chain,
            now_ms: scan.blocks.last().map_or(0, |block| block.header.now_ms),
        }
    }

    fn seal(
        &self,
        disk: &dyn Disk,
        files: &mut [SegmentFile],
        engine_version: u16,
    ) -> Result<(), DiskFault> {
        let last = files.len() - 1;
        for (index, (file, first)) in files.iter_mut().zip(&self.first_sequences).enumerate() {
            let mut is_written = rewrite_tail(file, index, &self.tail)?;
            if file.header.first_sequence != *first {
                file.header.first_sequence = *first;
                write_all(&*file.file, 0, &file.header.encode())
                    .map_err(DiskFault::at(&file.name, "write"))?;
                is_written = true;
            }
            if index == last && self.is_torn {
                zero(&*file.file, self.end.offset, file.header.size)
                    .map_err(DiskFault::at(&file.name, "write"))?;
                is_written = true;
            }
            if is_written {
                file.file.sync().map_err(DiskFault::at(&file.name, "sync"))?;
            }
        }
        if !self.is_sealed {
            // It claims that everything before it is durable, so only now.
            self.write_end(&files[last], engine_version)?;
        }
        for name in &self.void {
            disk.remove(name).map_err(DiskFault::at(name, "remove"))?;
        }
        if self.void.is_empty() { Ok(()) } else { sync_folder(disk) }
    }

    fn write_end(&self, file: &SegmentFile, engine_version: u16) -> Result<(), DiskFault> {
        let header = BlockHeader {
            kind: BlockKind::End,
            lane: NO_LANE,
            length: 0,
            count: 0,
            epoch: self.journal.epoch,
            journal: self.journal.journal,
            engine_version,
            sequence: self.next_sequence,
            durable_to: self.next_sequence - 1,
            first: 0,
            now_ms: self.now_ms,
            chain: self.no_lane_chain,
            crc: 0,
        };
        let mut bytes = Vec::new();
        encode(&mut bytes, file.header.salt(), &header, &[]);
        write_all(&*file.file, self.end.offset, &bytes)
            .map_err(DiskFault::at(&file.name, "write"))?;
        file.file.sync().map_err(DiskFault::at(&file.name, "sync"))
    }
}

impl Recovered {
    /// Seals the journals of the newest epoch. `engine_version` is that of the engine that seals.
    pub(crate) fn seal(&mut self, disk: &dyn Disk, engine_version: u16) -> Result<(), DiskFault> {
        if !self.files.is_empty() {
            // What was decided on must not depend on names that a second crash takes back.
            sync_folder(disk)?;
        }
        for journal in std::mem::take(&mut self.unsealed) {
            let files = &mut self.files[journal.files.clone()];
            journal.seal(disk, files, engine_version)?;
        }
        Ok(())
    }
}

fn sync_folder(disk: &dyn Disk) -> Result<(), DiskFault> {
    disk.sync_folder(JOURNAL_FOLDER).map_err(DiskFault::at(JOURNAL_FOLDER, "sync"))
}

/// Writes again, as it is, what may be in the page cache only: a sync that failed in the run before
/// left such pages clean.
fn rewrite_tail(file: &SegmentFile, index: usize, tail: &[Found]) -> Result<bool, DiskFault> {
    let mut own = tail.iter().filter(|block| block.place.segment == index);
    let Some(first) = own.next() else { return Ok(false) };
    let last = own.next_back().unwrap_or(first);
    let from = first.place.offset;
    let to = last.place.offset + last.header.size() as u64;
    let mut bytes = vec![0; (to - from) as usize];
    read_full(&*file.file, from, &mut bytes).map_err(DiskFault::at(&file.name, "read"))?;
    write_all(&*file.file, from, &bytes).map_err(DiskFault::at(&file.name, "write"))?;
    Ok(true)
}

//! The output log after a restart: read as a whole, sealed, and gone on with.
//!
//! Cursors go on behind the last block that stands. Those of a torn tail are given again: a block
//! is readable only once it is durable, and what was durable is not torn, so nobody has ever seen
//! them.
//!
//! Before anything new is written, what stands behind the last block that is known to be durable is
//! written once more, in place, and synced: it may be in memory only, since a sync that failed in
//! the old process leaves pages that look clean. What is void is zeroed, so that no later crash
//! brings it back.

use super::output_files::{Beginning, CURSORS_PER_SECOND, Current, OutputFiles, OutputOptions};
use super::output_ids::OutputIds;
use super::output_index::{OutputIndex, OutputSegment, Placed};
use super::output_lost::Lost;
use super::output_reader::{PIECE_BYTES_MAX, Window};
use super::output_scan::{Ending, FoundSegment, Said, Scan, scan};
use super::recovery_fault::{Corruption, RecoveryFault};
use super::segments::{Segments, zero};
use super::{DiskFault, read_full, write_all};
use crate::log::segment::{
    HeaderFlaw, OUTPUT_FOLDER, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentKind, output_path,
    parse_output,
};
use crate::output::{Cursor, OutputBlock};
use crate::ports::{Disk, DiskFile};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// The output log as it was found: nothing is written yet.
pub(crate) struct OutputLook {
    /// To be read from only, before it is sealed.
    pub(crate) files: OutputFiles,
    /// What was found of a crash.
    pub(crate) torn: Option<OutputTornTail>,
    pub(crate) ids: OutputIds,
    segments: Arc<Segments>,
    found: Vec<FoundSegment>,
    scan: Scan,
}

/// The output log, ready to go on.
pub(crate) struct OutputRecovery {
    pub(crate) files: OutputFiles,
    /// What the log holds behind the cursor from which the replay starts.
    pub(crate) ids: OutputIds,
    /// What was cut, if something was.
    pub(crate) torn: Option<OutputTornTail>,
}

/// What a crash left unfinished at the end of the output log. Nobody has ever seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTornTail {
    /// The file, relative to the data directory.
    pub file: String,
    /// Where in it the log ends.
    pub offset: u64,
    /// The sequence of the block that does not stand there.
    pub sequence: u64,
    /// Whole blocks that stand behind it.
    pub blocks: u64,
}

impl fmt::Display for OutputTornTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, sequence, blocks } = self;
        write!(f, "{file} ends at offset {offset}, before block {sequence}: ")?;
        write!(f, "what stands behind it ({blocks} whole blocks) never became durable")
    }
}

impl OutputFiles {
    /// Reads the log, seals it and goes on with it in a new epoch.
    pub(crate) fn recover(
        disk: &dyn Disk,
        segments: Arc<Segments>,
        options: &OutputOptions,
    ) -> Result<OutputRecovery, RecoveryFault> {
        Self::look(disk, segments, options)?.seal()
    }

    /// Reads the log.
    pub(crate) fn look(
        disk: &dyn Disk,
        segments: Arc<Segments>,
        options: &OutputOptions,
    ) -> Result<OutputLook, RecoveryFault> {
        let found = find(disk, segments.directory_id())?;
        let mut gathered = Gathered::new(&found, options.scan_from);
        let scan = scan(&found, |said| match said {
            Said::Records(placed, records) => {
                let (first, appended_ms) = (placed.first, placed.appended_ms);
                gathered.take(placed, &OutputBlock { first, appended_ms, records });
            }
            Said::Lost(body) => gathered.lost.read(body),
        });
        let scan = scan.map_err(|error| {
            DiskFault::new(&found[error.segment].segment.name, "read", error.source)
        })?;
        if let Ending::Corrupt(detail) = scan.ending {
            return Err(corrupt_at(&found, &scan, detail.to_owned()));
        }
        check(&found, &scan, options)?;
        let latest = scan.head.latest.unwrap_or_else(|| {
            Self::first_cursor(options.now_ms).max(options.scan_from.unwrap_or(Cursor(0)))
        });
        let (index, ids) = gathered.finish(&scan, latest);
        let current = found.get(scan.head.place.segment).map(|found| {
            let segment = Arc::clone(&found.segment);
            Current { segment, offset: scan.head.place.offset }
        });
        let begin = Beginning {
            index,
            current,
            sequence: scan.head.sequence,
            chain: scan.head.chain,
            latest,
            appended_ms: scan.head.now_ms,
        };
        let files = Self::new(Arc::clone(&segments), options, begin);
        let torn = torn(&found, &scan);
        Ok(OutputLook { files, torn, ids, segments, found, scan })
    }
}

impl OutputLook {
    /// Whether any block stands in it.
    pub(crate) fn has_blocks(&self) -> bool {
        self.scan.head.latest.is_some()
    }

    /// Makes what was found the last word, and goes on.
    pub(crate) fn seal(self) -> Result<OutputRecovery, RecoveryFault> {
        let has_blocks = self.has_blocks();
        let Self { mut files, torn, ids, segments, found, scan } = self;
        seal(&found, &scan)?;
        // The newest first: a crash in between leaves no hole.
        for late in found.iter().skip(scan.head.place.segment + 1).rev() {
            segments.retire(&late.segment.name)?;
        }
        if has_blocks {
            // From here on, what carries an earlier epoch is stale. If there is no room for the
            // mark, it waits, and a segment of this epoch says the same in its header.
            match files.mark() {
                Err(fault) if !fault.is_full() => return Err(fault.into()),
                _ => {}
            }
        }
        Ok(OutputRecovery { files, ids, torn })
    }
}

/// The segments that are there, in order.
fn find(disk: &dyn Disk, directory_id: [u8; 16]) -> Result<Vec<FoundSegment>, RecoveryFault> {
    let listed = disk.list(OUTPUT_FOLDER).map_err(DiskFault::at(OUTPUT_FOLDER, "list"))?;
    let mut numbers: Vec<u64> = listed.iter().filter_map(|name| parse_output(name)).collect();
    numbers.sort_unstable();
    let mut found: Vec<FoundSegment> = Vec::with_capacity(numbers.len());
    for number in numbers {
        if let Some(before) = found.last()
            && before.header.number + 1 != number
        {
            let missing = output_path(before.header.number + 1);
            return Err(corrupt(&missing, 0, "the segment is missing".to_owned()));
        }
        found.push(open(disk, number, directory_id)?);
    }
    Ok(found)
}

pub(super) fn open(
    disk: &dyn Disk,
    number: u64,
    directory_id: [u8; 16],
) -> Result<FoundSegment, RecoveryFault> {
    let name = output_path(number);
    let file = disk.open(&name).map_err(DiskFault::at(&name, "open"))?;
    let len = file.len_bytes().map_err(DiskFault::at(&name, "measure"))?;
    let mut page = vec![0; SEGMENT_HEADER_BYTES];
    read_full(&*file, 0, &mut page).map_err(DiskFault::at(&name, "read"))?;
    let header = SegmentHeader::decode(&page).map_err(|flaw| match flaw {
        HeaderFlaw::Version(found) => RecoveryFault::Newer { file: name.clone(), found },
        flaw => corrupt(&name, 0, flaw.to_string()),
    })?;
    if header.directory_id != directory_id {
        return Err(RecoveryFault::Foreign { file: name });
    }
    let is_whole = header.size == len && len % 8 == 0;
    let flaw = if header.kind != SegmentKind::Outputs || header.number != number {
        "the header is that of another segment".to_owned()
    } else if !is_whole {
        format!("the file has {len} bytes, its header says {}", header.size)
    } else {
        let (name, salt) = (name.into(), header.salt());
        let segment = Arc::new(OutputSegment { number, name, file, size: len, salt });
        return Ok(FoundSegment { header, segment, len });
    };
    Err(corrupt(&name, 0, flaw))
}

fn corrupt(file: &str, offset: u64, detail: String) -> RecoveryFault {
    let (sequence, lane, position) = (None, None, None);
    let file = file.to_owned();
    RecoveryFault::Corrupt(Corruption { file, offset, sequence, lane, position, detail })
}

pub(super) fn corrupt_at(found: &[FoundSegment], scan: &Scan, detail: String) -> RecoveryFault {
    let place = scan.head.place;
    let file = found.get(place.segment).map_or(OUTPUT_FOLDER, |found| &found.segment.name);
    let sequence = Some(scan.head.sequence);
    let (file, offset) = (file.to_owned(), place.offset);
    let (lane, position) = (None, None);
    RecoveryFault::Corrupt(Corruption { file, offset, sequence, lane, position, detail })
}

/// What was there before, and what the snapshot leans on, must be there.
pub(super) fn check(
    found: &[FoundSegment],
    scan: &Scan,
    options: &OutputOptions,
) -> Result<(), RecoveryFault> {
    let is_whole = found.first().is_none_or(|first| first.header.number == 1);
    let (Some(first), Some(latest)) = (scan.first, scan.head.latest) else {
        // A segment goes only once there is a block in one behind it.
        if let Some(reached) = options.reached
            && reached.0 % CURSORS_PER_SECOND != 0
        {
            // Its last segment is never let go.
            let missing = format!("the output log ({OUTPUT_FOLDER}/) is");
            let evidence = format!("a snapshot was made when record {} stood in it", reached.0);
            return Err(RecoveryFault::Gone { missing, evidence });
        }
        let detail = "the block that the log begins with is not there";
        return if is_whole { Ok(()) } else { Err(corrupt_at(found, scan, detail.to_owned())) };
    };
    if let Some(reached) = options.reached.max(options.scan_from).filter(|it| latest < *it) {
        let detail = format!("the log ends with record {}, and there was {}", latest.0, reached.0);
        return Err(corrupt_at(found, scan, detail));
    }
    let Some(scan_from) = options.scan_from else {
        return Ok(());
    };
    if first.0 > scan_from.0 + 1 && !is_whole {
        let detail = format!("records {} to {} are missing", scan_from.0 + 1, first.0 - 1);
        return Err(corrupt(&found[0].segment.name, SEGMENT_HEADER_BYTES as u64, detail));
    }
    Ok(())
}

/// What is made of the blocks while they are walked.
struct Gathered<'a> {
    found: &'a [FoundSegment],
    scan_from: Option<Cursor>,
    index: Option<OutputIndex>,
    opened: usize,
    ids: OutputIds,
    lost: Lost,
}

impl<'a> Gathered<'a> {
    fn new(found: &'a [FoundSegment], scan_from: Option<Cursor>) -> Self {
        let (ids, lost) = (OutputIds::default(), Lost::default());
        Self { found, scan_from, index: None, opened: 0, ids, lost }
    }

    fn take(&mut self, placed: &Placed, block: &OutputBlock) {
        let index = self.index.get_or_insert_with(|| OutputIndex::new(Cursor(placed.first.0 - 1)));
        while self.found[..self.opened].last().map(|found| found.header.number)
            != Some(placed.segment)
        {
            index.open_segment(Arc::clone(&self.found[self.opened].segment));
            self.opened += 1;
        }
        index.found(placed);
        self.ids.insert_after(block, self.scan_from.unwrap_or(Cursor(0)));
    }

    fn finish(mut self, scan: &Scan, latest: Cursor) -> (OutputIndex, OutputIds) {
        let mut index = self.index.unwrap_or_else(|| OutputIndex::new(latest));
        if self.found.first().is_some_and(|first| first.header.number > 1) {
            self.lost.bound(index.base());
        }
        index.settle(self.lost);
        let last = scan.head.place.segment;
        for found in self
            .found
            .iter()
            .skip(self.opened)
            .take_while(|found| found.segment.number <= self.found[last].segment.number)
        {
            index.open_segment(Arc::clone(&found.segment));
        }
        (index, self.ids)
    }
}

/// Makes sure of what stands, and that what does not stand never will.
fn seal(found: &[FoundSegment], scan: &Scan) -> Result<(), DiskFault> {
    for block in &scan.unproven {
        let FoundSegment { segment, header, .. } = &found[block.segment];
        let again = || DiskFault::at(&segment.name, "write again");
        if block.range.start == SEGMENT_HEADER_BYTES as u64 {
            // The block may have reached the disk before the header that tells of it.
            let header = SegmentHeader { first_sequence: block.sequence, ..*header };
            write_all(&*segment.file, 0, &header.encode()).map_err(again())?;
        }
        rewrite(&*segment.file, &block.range).map_err(again())?;
    }
    let place = scan.head.place;
    if matches!(scan.ending, Ending::Torn { .. }) {
        let found = &found[place.segment];
        zero(&*found.segment.file, place.offset, found.len)
            .map_err(DiskFault::at(&found.segment.name, "clear"))?;
    }
    let first = scan.unproven.first().map_or(place.segment, |block| block.segment);
    for found in found.iter().take(place.segment + 1).skip(first.min(place.segment)) {
        found.segment.file.sync().map_err(DiskFault::at(&found.segment.name, "sync"))?;
    }
    Ok(())
}

pub(super) fn torn(found: &[FoundSegment], scan: &Scan) -> Option<OutputTornTail> {
    let Ending::Torn { blocks } = scan.ending else { return None };
    let (place, sequence) = (scan.head.place, scan.head.sequence);
    let file = found[place.segment].segment.name.to_string();
    Some(OutputTornTail { file, offset: place.offset, sequence, blocks })
}

/// Writes a part of a file once more, as it reads.
fn rewrite(file: &dyn DiskFile, range: &Range<u64>) -> io::Result<()> {
    let mut window = Window::new(file, range.end);
    let mut at = range.start;
    while at < range.end {
        let piece = window.get(at, PIECE_BYTES_MAX)?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all(file, at, piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

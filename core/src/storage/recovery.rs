//! Recovery: what the journals of all earlier runs say, lane by lane.
//!
//! Nothing is written here: a directory that is refused stays as it was found. Once everything is
//! known to be whole, the journals are sealed ([`Recovered::seal`]). Only then may a new epoch begin,
//! so an unsealed journal of any but the newest epoch has lost its end.

use super::old_journals::{OldJournals, OldSegment};
use super::recovery_fault::{Corruption, RecoveryFault};
use super::sealing::Unsealed;
use super::{DiskFault, read_full};
use crate::log::block::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, decode};
use crate::log::scan::{Corrupt, Ending, Found, Scanner};
use crate::log::segment::{
    HeaderFlaw, JOURNAL_FOLDER, JournalSegment, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentKind,
};
use crate::ports::{Disk, DiskFile};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// How to read the journals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecoveryOptions {
    pub(crate) directory_id: [u8; 16],
    pub(crate) lanes: u16,
}

/// Where a block of records is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockRef {
    pub(crate) lane: u16,
    pub(crate) epoch: u32,
    /// The position of the first record.
    pub(crate) first: u64,
    /// How many records, at least one.
    pub(crate) count: u32,
    /// The intake clock.
    pub(crate) now_ms: i64,
    /// The version of the engine that wrote it.
    pub(crate) engine_version: u16,
    /// Which block of its journal it is.
    pub(crate) sequence: u64,
    /// Which of [`Recovered::files`] it is in.
    pub(crate) file: u32,
    pub(crate) offset: u64,
    /// Bytes of the records.
    pub(crate) length: u32,
    pub(crate) crc: u32,
}

impl BlockRef {
    /// A block of records that stands there.
    pub(super) fn new(header: &BlockHeader, file: u32, offset: u64) -> Self {
        Self {
            lane: header.lane,
            epoch: header.epoch,
            first: header.first,
            count: header.count,
            now_ms: header.now_ms,
            engine_version: header.engine_version,
            sequence: header.sequence,
            file,
            offset,
            length: header.length,
            crc: header.crc,
        }
    }

    /// The position of the last record.
    pub(crate) fn last(&self) -> u64 {
        // Blocks without records, or beyond the last position, do not pass the scan.
        self.first + (u64::from(self.count) - 1)
    }
}

/// A torn tail: none of it was ever answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TornTail {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// The sequence that does not stand there.
    pub(crate) sequence: u64,
    /// Whole blocks that were void with it.
    pub(crate) blocks: u64,
}

impl fmt::Display for TornTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, bytes, sequence, blocks } = self;
        write!(f, "{file} ends at offset {offset}, before block {sequence}: ")?;
        write!(f, "{bytes} bytes behind it ({blocks} whole blocks) never became durable")
    }
}

/// A journal as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JournalSummary {
    pub(crate) epoch: u32,
    pub(crate) journal: u16,
    pub(crate) segments: usize,
    pub(crate) blocks: usize,
    /// Something else than an end stands in it.
    pub(crate) is_written: bool,
    /// It was sealed before it was read.
    pub(crate) was_sealed: bool,
    pub(crate) last_sequence: u64,
    /// The number of its first segment that is there.
    pub(crate) first_number: u64,
    /// How many journals its epoch has.
    pub(crate) journals: u16,
}

/// What the journals say.
pub(crate) struct Recovered {
    /// The highest epoch that was seen; 0 if there are no journals.
    pub(crate) highest_epoch: u32,
    /// By lane, its blocks in the order of their positions. There may be gaps before the positions
    /// that replay starts at: see [`Recovered::check_from`].
    pub(crate) lanes: Vec<Vec<BlockRef>>,
    /// By epoch, the first and the newest intake clock.
    pub(crate) clocks: BTreeMap<u32, (i64, i64)>,
    pub(crate) torn: Vec<TornTail>,
    pub(crate) journals: Vec<JournalSummary>,
    /// Names in the folder of the journals that are not ours; they are left alone.
    pub(crate) strangers: Vec<String>,
    /// What is to be let go once the snapshots have passed it.
    pub(crate) old: OldJournals,
    pub(crate) files: Vec<SegmentFile>,
    /// What is to be done before the next epoch begins.
    pub(super) unsealed: Vec<Unsealed>,
}

/// A segment that was read.
pub(crate) struct SegmentFile {
    pub(crate) name: Arc<str>,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) header: SegmentHeader,
}

impl Recovered {
    /// The service was up then, in this epoch.
    pub(crate) fn was_up(&mut self, epoch: u32, at_ms: i64) {
        let (first, last) = self.clocks.entry(epoch).or_insert((at_ms, at_ms));
        (*first, *last) = (at_ms.min(*first), at_ms.max(*last));
    }

    /// The newest clock of all.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        self.clocks.values().map(|(_, last)| *last).max()
    }

    /// The blocks of a lane that hold a position above its start; of the first, some may be below.
    pub(crate) fn blocks_from(&self, lane: u16, start: u64) -> &[BlockRef] {
        let blocks = self.lanes.get(lane as usize).map_or(&[][..], Vec::as_slice);
        &blocks[blocks.partition_point(|block| block.last() <= start)..]
    }

    /// The file that a block is in.
    pub(crate) fn file_name(&self, block: &BlockRef) -> &str {
        &self.files[block.file as usize].name
    }

    /// The records of a block, checked once more: the disk may have changed its mind.
    pub(crate) fn read_block(&self, block: &BlockRef) -> Result<Vec<u8>, RecoveryFault> {
        let file = &self.files[block.file as usize];
        let mut bytes = vec![0; crate::log::block::block_size(block.length as usize)];
        let read = read_full(&*file.file, block.offset, &mut bytes)
            .map_err(DiskFault::at(&file.name, "read"))?;
        match decode(file.header.salt(), &bytes[..read]) {
            Ok((header, _)) if header.crc == block.crc && header.sequence == block.sequence => {
                bytes.truncate(BLOCK_HEADER_BYTES + block.length as usize);
                bytes.drain(..BLOCK_HEADER_BYTES);
                Ok(bytes)
            }
            outcome => Err(Corruption {
                file: file.name.to_string(),
                offset: block.offset,
                sequence: Some(block.sequence),
                lane: Some(block.lane),
                position: Some(block.first),
                detail: outcome.map_or_else(
                    |flaw| flaw.to_string(),
                    |_| "another block stands where this one was".to_owned(),
                ),
            }
            .into()),
        }
    }
}

/// Reads the journals of all epochs.
pub(crate) fn read_journals(
    disk: &dyn Disk,
    options: &RecoveryOptions,
) -> Result<Recovered, RecoveryFault> {
    let mut recovery = Recovery { disk, options, recovered: empty(options.lanes) };
    let mut segments = Vec::new();
    for name in disk.list(JOURNAL_FOLDER).map_err(DiskFault::at(JOURNAL_FOLDER, "list"))? {
        match JournalSegment::parse(&name) {
            Some(segment) => segments.push(segment),
            None => recovery.recovered.strangers.push(format!("{JOURNAL_FOLDER}/{name}")),
        }
    }
    segments.sort_unstable();
    let highest_epoch = segments.last().map_or(0, |last| last.epoch);
    recovery.recovered.highest_epoch = highest_epoch;
    for journal in segments.chunk_by(|a, b| (a.epoch, a.journal) == (b.epoch, b.journal)) {
        recovery.read_journal(journal, highest_epoch)?;
    }
    recovery.order()?;
    Ok(recovery.recovered)
}

fn empty(lanes: u16) -> Recovered {
    Recovered {
        highest_epoch: 0,
        lanes: vec![Vec::new(); lanes as usize],
        clocks: BTreeMap::new(),
        torn: Vec::new(),
        journals: Vec::new(),
        strangers: Vec::new(),
        old: OldJournals::default(),
        files: Vec::new(),
        unsealed: Vec::new(),
    }
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    options: &'a RecoveryOptions,
    recovered: Recovered,
}

impl Recovery<'_> {
    fn read_journal(
        &mut self,
        segments: &[JournalSegment],
        highest_epoch: u32,
    ) -> Result<(), RecoveryFault> {
        let JournalSegment { epoch, journal, .. } = segments[0];
        let mut scanner = Scanner::new();
        let mut files = Vec::with_capacity(segments.len());
        for segment in segments {
            let (file, bytes) = read_segment(self.disk, *segment, &self.options.directory_id)?;
            scanner.feed(&file.header, &bytes);
            files.push(file);
        }
        let scan = scanner.finish();
        match &scan.ending {
            Ending::Corrupt(corrupt) => return Err(corruption(segments[0], &files, corrupt).into()),
            Ending::Torn(_) | Ending::Clean if epoch < highest_epoch => {
                return Err(Corruption {
                    file: files[scan.end.segment].name.to_string(),
                    offset: scan.end.offset,
                    sequence: Some(scan.next_sequence),
                    lane: None,
                    position: None,
                    detail: "the end of the journal is missing, and a later epoch has begun"
                        .to_owned(),
                }
                .into());
            }
            Ending::Torn(torn) => self.recovered.torn.push(TornTail {
                file: files[torn.place.segment].name.to_string(),
                offset: torn.place.offset,
                bytes: torn.bytes,
                sequence: torn.sequence,
                blocks: torn.blocks,
            }),
            Ending::Sealed | Ending::Clean => {}
        }
        self.check_lanes(&files, &scan.blocks)?;
        let count = files.len();
        // Journals of earlier epochs were all sealed before this one began.
        if epoch == highest_epoch {
            let base = self.recovered.files.len();
            let void = files.drain(scan.end.segment + 1..).map(|file| file.name).collect();
            self.recovered.unsealed.push(Unsealed::new(
                segments[0],
                base..base + files.len(),
                void,
                &scan,
            ));
        }
        self.recovered.journals.push(JournalSummary {
            epoch,
            journal,
            segments: count,
            blocks: scan.blocks.len(),
            is_written: scan.blocks.iter().any(|block| block.header.kind != BlockKind::End),
            was_sealed: scan.ending == Ending::Sealed,
            last_sequence: scan.next_sequence - 1,
            first_number: segments[0].number,
            journals: files.first().map_or(0, |file| file.header.journals),
        });
        self.keep(epoch, files, &scan.blocks);
        Ok(())
    }

    fn check_lanes(&self, files: &[SegmentFile], blocks: &[Found]) -> Result<(), Corruption> {
        let lanes = self.options.lanes;
        let strange = blocks
            .iter()
            .find(|block| block.header.kind == BlockKind::Records && block.header.lane >= lanes);
        strange.map_or(Ok(()), |block| {
            Err(Corruption {
                file: files[block.place.segment].name.to_string(),
                offset: block.place.offset,
                sequence: Some(block.header.sequence),
                lane: Some(block.header.lane),
                position: Some(block.header.first),
                detail: format!("there are {lanes} lanes"),
            })
        })
    }

    /// Notes the blocks of a journal with their lanes.
    fn keep(&mut self, epoch: u32, files: Vec<SegmentFile>, blocks: &[Found]) {
        let base = self.recovered.files.len();
        let mut old: VecDeque<OldSegment> = files
            .iter()
            .map(|file| OldSegment { name: Arc::clone(&file.name), lasts: BTreeMap::new() })
            .collect();
        for Found { place, header } in blocks {
            if matches!(header.kind, BlockKind::Records | BlockKind::Mark) {
                self.recovered.was_up(epoch, header.now_ms);
            }
            let (BlockKind::Records, Some(last)) = (header.kind, header.last()) else { continue };
            old[place.segment].lasts.insert(header.lane, last);
            let block = BlockRef::new(header, (base + place.segment) as u32, place.offset);
            self.recovered.lanes[header.lane as usize].push(block);
        }
        self.recovered.files.extend(files);
        self.recovered.old.journals.push(old);
    }

    /// Orders the blocks of each lane and looks that no position stands twice.
    fn order(&mut self) -> Result<(), RecoveryFault> {
        for blocks in &mut self.recovered.lanes {
            blocks.sort_by_key(|block| (block.epoch, block.first, block.sequence));
        }
        for (lane, blocks) in self.recovered.lanes.iter().enumerate() {
            for pair in blocks.windows(2) {
                if pair[1].first <= pair[0].last() {
                    return Err(RecoveryFault::Twice {
                        lane: lane as u16,
                        position: pair[1].first,
                        first: self.recovered.file_name(&pair[0]).to_owned(),
                        second: self.recovered.file_name(&pair[1]).to_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Reads a segment of a journal: all of its bytes, once its first page is known to be right.
pub(super) fn read_segment(
    disk: &dyn Disk,
    segment: JournalSegment,
    directory_id: &[u8; 16],
) -> Result<(SegmentFile, Vec<u8>), RecoveryFault> {
    let name = segment.path();
    let file = disk.open(&name).map_err(DiskFault::at(&name, "open"))?;
    let length = file.len_bytes().map_err(DiskFault::at(&name, "measure"))?;
    let damaged = |detail: String| Corruption {
        file: name.clone(),
        offset: 0,
        sequence: None,
        lane: None,
        position: None,
        detail,
    };
    let mut page = vec![0; SEGMENT_HEADER_BYTES];
    let read = read_full(&*file, 0, &mut page).map_err(DiskFault::at(&name, "read"))?;
    let header = SegmentHeader::decode(&page[..read]).map_err(|flaw| match flaw {
        HeaderFlaw::Version(found) => RecoveryFault::Newer { file: name.clone(), found },
        flaw => damaged(flaw.to_string()).into(),
    })?;
    if header.directory_id != *directory_id {
        return Err(RecoveryFault::Foreign { file: name });
    }
    let named =
        JournalSegment { epoch: header.epoch, journal: header.journal, number: header.number };
    if named != segment || header.kind != SegmentKind::Journal {
        return Err(damaged("its header is that of another segment".to_owned()).into());
    }
    if length < header.size {
        // It was written in full before it had this name.
        let detail = format!("it has {length} bytes, its header says {}", header.size);
        return Err(Corruption { offset: length, ..damaged(detail) }.into());
    }
    let mut bytes = page;
    bytes.resize(header.size as usize, 0);
    let rest = &mut bytes[SEGMENT_HEADER_BYTES..];
    let read = read_full(&*file, SEGMENT_HEADER_BYTES as u64, rest)
        .map_err(DiskFault::at(&name, "read"))?;
    bytes.truncate(SEGMENT_HEADER_BYTES + read);
    Ok((SegmentFile { name: name.into(), file, header }, bytes))
}

/// What a scan found wrong, in words; `files` are those that were fed.
pub(super) fn corruption(
    journal: JournalSegment,
    files: &[SegmentFile],
    corrupt: &Corrupt,
) -> Corruption {
    let missing = corrupt.missing_number.map(|number| {
        let missing = JournalSegment { number, ..journal }.path();
        let behind = &files[corrupt.place.segment].name;
        (missing, format!("{}; what is there ends in {behind}", corrupt.detail))
    });
    let (file, detail) = missing.unwrap_or_else(|| {
        (files[corrupt.place.segment].name.to_string(), corrupt.detail.to_owned())
    });
    let is_missing = corrupt.missing_number.is_some();
    Corruption {
        file,
        offset: if is_missing { 0 } else { corrupt.place.offset },
        sequence: (corrupt.sequence != 0).then_some(corrupt.sequence),
        lane: corrupt.lane,
        position: corrupt.position,
        detail,
    }
}

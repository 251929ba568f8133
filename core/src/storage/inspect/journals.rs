//! The journals, one by one, and what stands behind damage.

use super::{Finding, Inspection, JournalInfo, LaneInfo, Weight};
use crate::log::block::{BLOCK_ALIGN, BlockKind, decode};
use crate::log::scan::{Ending, Found, Place, Scanner};
use crate::log::segment::{
    JOURNAL_FOLDER, JournalSegment, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentKind,
};
use crate::ports::Disk;
use crate::storage::read_full;
use crate::storage::recovery::{BlockRef, SegmentFile, TornTail, corruption, read_segment};
use crate::storage::recovery_fault::RecoveryFault;
use std::io::ErrorKind;

/// The directory that any segment says it is of.
pub(super) fn any_directory_id(disk: &dyn Disk) -> Option<[u8; 16]> {
    let names = disk.list(JOURNAL_FOLDER).ok()?;
    let mut segments = names.iter().filter_map(|name| JournalSegment::parse(name));
    segments.find_map(|segment| {
        let mut page = vec![0; SEGMENT_HEADER_BYTES];
        read_full(&*disk.open(&segment.path()).ok()?, 0, &mut page).ok()?;
        SegmentHeader::decode(&page).ok().map(|header| header.directory_id)
    })
}

impl Inspection {
    pub(super) fn look_at_journals(&mut self, disk: &dyn Disk, directory_id: &[u8; 16]) {
        let names = match disk.list(JOURNAL_FOLDER) {
            Ok(names) => names,
            Err(error) => {
                let sentence = format!("cannot list {JOURNAL_FOLDER}/: {error}");
                self.find(Weight::Stops, JOURNAL_FOLDER, None, sentence);
                return;
            }
        };
        let mut segments = Vec::new();
        for name in names {
            let Some(segment) = JournalSegment::parse(&name) else {
                let file = format!("{JOURNAL_FOLDER}/{name}");
                let sentence = format!("{file} is not one of ours; it is left alone");
                self.find(Weight::Note, &file, None, sentence);
                continue;
            };
            segments.push(segment);
        }
        segments.sort_unstable();
        let highest = segments.last().map_or(0, |last| last.epoch);
        for journal in segments.chunk_by(|a, b| (a.epoch, a.journal) == (b.epoch, b.journal)) {
            self.look_at_journal(disk, directory_id, journal, highest);
        }
        self.blocks.sort_by_key(|block| (block.lane, block.epoch, block.first, block.sequence));
        for lane in self.blocks.chunk_by(|a, b| a.lane == b.lane) {
            self.lanes.push(lane_info(lane));
        }
    }

    fn look_at_journal(
        &mut self,
        disk: &dyn Disk,
        directory_id: &[u8; 16],
        segments: &[JournalSegment],
        highest_epoch: u32,
    ) {
        let JournalSegment { epoch, journal, .. } = segments[0];
        let mut scanner = Scanner::new();
        let mut files: Vec<SegmentFile> = Vec::new();
        let mut is_readable = true;
        for segment in segments {
            match read_segment(disk, *segment, directory_id) {
                Ok((file, bytes)) => {
                    scanner.feed(&file.header, &bytes);
                    files.push(file);
                }
                Err(fault) => {
                    is_readable &= self.take_fault(&segment.path(), &fault);
                }
            }
        }
        let scan = scanner.finish();
        let mut blocks = scan.blocks;
        let is_complete = is_readable && files.len() == segments.len();
        let end = match &scan.ending {
            _ if files.is_empty() => "damaged",
            Ending::Corrupt(corrupt) if is_readable => {
                let found = corruption(segments[0], &files, corrupt);
                let (offset, sentence) = (Some(found.offset), found.to_string());
                self.find(Weight::Stops, &found.file, offset, sentence);
                blocks.extend(self.salvage(&files, corrupt.place, scan.next_sequence));
                "damaged"
            }
            // The segment that cannot be read is what was told; behind it stand others.
            Ending::Corrupt(corrupt) => {
                blocks.extend(self.salvage(&files, corrupt.place, scan.next_sequence));
                "damaged"
            }
            Ending::Sealed => "sealed",
            Ending::Torn(_) | Ending::Clean if epoch < highest_epoch && is_complete => {
                let name = &files[scan.end.segment].name;
                let sentence = format!(
                    "{name} is damaged at offset {}: the end of the journal is missing, and a later \
                     run has begun",
                    scan.end.offset
                );
                self.find(Weight::Stops, name, Some(scan.end.offset), sentence);
                "damaged"
            }
            Ending::Torn(torn) => {
                let name = files[torn.place.segment].name.to_string();
                let tail = TornTail {
                    file: name.clone(),
                    offset: torn.place.offset,
                    bytes: torn.bytes,
                    sequence: torn.sequence,
                    blocks: torn.blocks,
                };
                self.find(Weight::Torn, &name, Some(torn.place.offset), tail.to_string());
                "torn"
            }
            Ending::Clean => "open",
        };
        self.journals.push(JournalInfo {
            epoch,
            journal,
            segments: segments.iter().map(|segment| segment.path()).collect(),
            bytes: files.iter().map(|file| file.header.size).sum(),
            blocks: blocks.len(),
            last_sequence: blocks.last().map_or(0, |block| block.header.sequence),
            end,
        });
        self.keep(&files, &blocks);
    }

    /// Notes why a segment cannot be read; false if it is damage, true if it is just not there any more.
    fn take_fault(&mut self, name: &str, fault: &RecoveryFault) -> bool {
        let (weight, offset) = match fault {
            RecoveryFault::Disk(disk) if disk.source.kind() == ErrorKind::NotFound => {
                let sentence = format!("{name} went while it was looked at: a service is at work");
                self.find(Weight::Note, name, None, sentence);
                return true;
            }
            RecoveryFault::Newer { .. } | RecoveryFault::Foreign { .. } => (Weight::Refused, None),
            RecoveryFault::Corrupt(found) => (Weight::Stops, Some(found.offset)),
            _ => (Weight::Stops, None),
        };
        self.find(weight, name, offset, fault.to_string());
        false
    }

    /// Blocks behind damage: whole ones of the same journal, in sequence, with what is missing between
    /// them told.
    fn salvage(&mut self, files: &[SegmentFile], from: Place, sequence: u64) -> Vec<Found> {
        let (mut blocks, mut next) = (Vec::new(), sequence);
        let mut is_first = true;
        for (index, file) in files.iter().enumerate().skip(from.segment) {
            let mut bytes = vec![0; file.header.size as usize];
            let Ok(read) = read_full(&*file.file, 0, &mut bytes) else { continue };
            bytes.truncate(read);
            let salt = file.header.salt();
            let start =
                if index == from.segment { from.offset } else { SEGMENT_HEADER_BYTES as u64 };
            let mut at = start as usize;
            while let Some(rest) = bytes.get(at..)
                && !rest.is_empty()
            {
                let block = decode(salt, rest).ok().map(|(block, _)| block).filter(|block| {
                    (block.epoch, block.journal) == (file.header.epoch, file.header.journal)
                        && block.sequence >= next
                        && file.header.kind == SegmentKind::Journal
                });
                let Some(header) = block else {
                    at += BLOCK_ALIGN;
                    continue;
                };
                // The first gap is what the scan has told.
                if header.sequence > next && !is_first {
                    let (name, last) = (&file.name, header.sequence - 1);
                    let sentence = format!(
                        "{name} is damaged before offset {at}: blocks {next} to {last} are not there"
                    );
                    let finding = Finding::new(Weight::Stops, name, Some(at as u64), sentence);
                    self.findings.push(finding);
                }
                is_first = false;
                next = header.sequence.saturating_add(1);
                blocks.push(Found { place: Place { segment: index, offset: at as u64 }, header });
                at += header.size();
            }
        }
        blocks
    }

    fn keep(&mut self, files: &[SegmentFile], blocks: &[Found]) {
        let base = self.files.len();
        self.files.extend(files.iter().map(|file| file.name.to_string()));
        for Found { place, header } in blocks {
            if header.kind == BlockKind::Records || header.kind == BlockKind::Mark {
                self.newest_ms = self.newest_ms.max(Some(header.now_ms));
            }
            if header.kind == BlockKind::Records && header.last().is_some() {
                let file = (base + place.segment) as u32;
                self.blocks.push(BlockRef::new(header, file, place.offset));
            }
        }
    }
}

fn lane_info(blocks: &[BlockRef]) -> LaneInfo {
    let pairs = blocks.windows(2).map(|pair| (pair[0].last() + 1, pair[1].first));
    let gaps = pairs.filter(|(next, first)| first > next).map(|(next, first)| (next, first - 1));
    LaneInfo {
        lane: blocks[0].lane,
        first: blocks[0].first,
        last: blocks[blocks.len() - 1].last(),
        records: blocks.iter().map(|block| u64::from(block.count)).sum(),
        blocks: blocks.len() as u64,
        missing: gaps.collect(),
    }
}

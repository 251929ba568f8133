//! Journals, crashes and recovery together, on a disk that forgets.

mod calls;
mod chance;
mod damage;
mod journals;

use super::memory_disk::MemoryDisk;
use super::segments::SEGMENT_BYTES_MIN;
use super::{
    Journal, JournalOptions, Recovered, RecoveryFault, RecoveryOptions, Segments, SegmentsOptions,
    read_journals,
};
use crate::log::LaneBlock;
use std::sync::Arc;

const ID: [u8; 16] = *b"0123456789abcdef";
const LANES: u16 = 4;

fn segments_with(disk: &MemoryDisk, spares: usize, bytes_max: u64) -> Arc<Segments> {
    let options = SegmentsOptions {
        segment_bytes: SEGMENT_BYTES_MIN,
        spares,
        bytes_max,
        ..SegmentsOptions::new(ID)
    };
    Arc::new(Segments::open(Arc::new(disk.clone()), options).unwrap())
}

fn segments(disk: &MemoryDisk) -> Arc<Segments> {
    segments_with(disk, 2, u64::MAX)
}

fn options(epoch: u32, journal: u16) -> JournalOptions {
    JournalOptions { epoch, journal, journals: 1, engine_version: 7 }
}

fn journal(segments: &Arc<Segments>, epoch: u32) -> Journal {
    Journal::create(Arc::clone(segments), options(epoch, 0)).unwrap()
}

/// A block whose bytes follow from its place.
fn block(lane: u16, first_position: u64, count: u32, bytes: usize) -> LaneBlock {
    let records =
        (0..bytes).map(|at| (at as u64 * 7 + first_position * 31 + u64::from(lane)) as u8);
    LaneBlock {
        lane,
        first_position,
        count,
        now_ms: 1_000 + first_position as i64,
        records: records.collect(),
    }
}

fn commit(journal: &mut Journal) {
    journal.write().unwrap();
    journal.sync().unwrap();
}

fn read_with(disk: &MemoryDisk, seal: bool) -> Result<Recovered, RecoveryFault> {
    let mut recovered = read_journals(disk, &RecoveryOptions { directory_id: ID, lanes: LANES })?;
    if seal {
        recovered.seal(disk, 7)?;
    }
    Ok(recovered)
}

fn read(disk: &MemoryDisk) -> Result<Recovered, RecoveryFault> {
    read_with(disk, false)
}

/// All blocks, lane by lane.
fn content(recovered: &Recovered) -> Vec<LaneBlock> {
    let blocks = recovered.lanes.iter().flatten();
    let content = blocks.map(|block| LaneBlock {
        lane: block.lane,
        first_position: block.first,
        count: block.count,
        now_ms: block.now_ms,
        records: recovered.read_block(block).unwrap(),
    });
    content.collect()
}

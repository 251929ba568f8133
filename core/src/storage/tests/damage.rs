//! Damage to the files of a small journal, exhaustively: found with its place, or harmless.

use super::*;
use crate::log::block::{BlockSalt, block_size, decode};
use crate::log::segment::SEGMENT_HEADER_BYTES;
use crate::storage::Corruption;

const NAME: &str = "journal/00000001-000-0000000001.log";

/// A journal of some blocks with a mark, and what stands in it.
fn small() -> (MemoryDisk, Vec<LaneBlock>) {
    let disk = MemoryDisk::default();
    let mut journal = journal(&segments_with(&disk, 0, u64::MAX), 1);
    let blocks = vec![
        block(0, 1, 2, 30),
        block(1, 1, 1, 11),
        block(0, 3, 1, 64),
        block(1, 2, 5, 3),
        block(0, 4, 1, 20),
    ];
    for (index, block) in blocks.iter().enumerate() {
        journal.append(block).unwrap();
        if index % 2 == 1 {
            commit(&mut journal);
        }
        if index == 3 {
            journal.mark().unwrap();
        }
    }
    commit(&mut journal);
    (disk.crash(None), blocks)
}

/// Where each block of the file is, with the `durable_to` that it says.
fn places(bytes: &[u8]) -> Vec<(usize, usize, u64)> {
    let mut places = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    while let Ok((header, _)) = decode(BlockSalt::of(&ID), &bytes[at..]) {
        places.push((at, at + header.size(), header.durable_to));
        at += header.size();
    }
    places
}

fn is_corrupt_at(outcome: &Result<Recovered, RecoveryFault>, offset: usize) -> bool {
    matches!(outcome, Err(RecoveryFault::Corrupt(Corruption { file, offset: at, .. }))
        if file == NAME && *at == offset as u64)
}

/// A file that was damaged in the block of this index: what it must say.
fn check(bytes: Vec<u8>, blocks: &[LaneBlock], places: &[(usize, usize, u64)], damaged: usize) {
    let disk = MemoryDisk::default();
    disk.put(NAME, bytes);
    let outcome = read(&disk);
    let others = places.iter().enumerate().filter(|(index, _)| *index != damaged);
    let said = others.map(|(_, (_, _, durable_to))| *durable_to).max().unwrap_or(0);
    let place = places[damaged].0;
    if said > damaged as u64 {
        assert!(is_corrupt_at(&outcome, place), "block {damaged}");
        return;
    }
    let recovered = outcome.unwrap_or_else(|fault| panic!("block {damaged}: {fault}"));
    assert_eq!(recovered.torn.len(), 1, "block {damaged}");
    assert_eq!(recovered.torn[0].offset, place as u64);
    // Sealed, it says the same, and a second crash changes nothing.
    let sealed = read_with(&disk, true).unwrap();
    assert_eq!(content(&sealed), content(&recovered));
    let again = read_with(&disk.crash(None), true).unwrap();
    assert!(again.torn.is_empty() && again.journals[0].was_sealed);
    assert_eq!(content(&again), content(&recovered));
    let sum: usize = again.lanes.iter().map(Vec::len).sum();
    // The fifth block of the file is the mark.
    assert_eq!(sum, damaged - usize::from(damaged > 4));
    assert!(content(&again).iter().all(|block| blocks.contains(block)));
}

#[test]
fn every_flipped_bit_is_found() {
    let (disk, blocks) = small();
    let bytes = disk.bytes(NAME);
    let places = places(&bytes);
    assert_eq!(places.len(), 6);
    for (damaged, (from, to, _)) in places.iter().enumerate() {
        for bit in from * 8..to * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            check(broken, &blocks, &places, damaged);
        }
    }
}

#[test]
fn every_flipped_bit_of_a_header_page_is_found() {
    let (disk, _) = small();
    let bytes = disk.bytes(NAME);
    for bit in 0..SEGMENT_HEADER_BYTES * 8 {
        let mut broken = bytes.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let disk = MemoryDisk::default();
        disk.put(NAME, broken);
        assert!(is_corrupt_at(&read(&disk), 0), "bit {bit}");
    }
}

#[test]
fn every_truncation_is_found() {
    let (disk, _) = small();
    let bytes = disk.bytes(NAME);
    for length in 0..bytes.len() {
        let disk = MemoryDisk::default();
        disk.put(NAME, bytes[..length].to_vec());
        let offset = if length < SEGMENT_HEADER_BYTES { 0 } else { length };
        assert!(is_corrupt_at(&read(&disk), offset), "{length} bytes");
    }
}

#[test]
fn zeroes_from_any_place_on_are_found_where_a_mark_is_left() {
    let (disk, blocks) = small();
    let bytes = disk.bytes(NAME);
    let places = places(&bytes);
    for (damaged, (from, to, _)) in places.iter().enumerate().take(5) {
        let mut broken = bytes.clone();
        broken[*from..*to].fill(0);
        check(broken, &blocks, &places, damaged);
    }
}

#[test]
fn files_of_another_place_are_told() {
    let (disk, _) = small();
    let bytes = disk.bytes(NAME);
    let elsewhere = MemoryDisk::default();
    elsewhere.put("journal/00000001-000-0000000002.log", bytes.clone());
    let fault = read(&elsewhere).err().unwrap();
    assert!(fault.to_string().contains("header is that of another segment"), "{fault}");

    let options = RecoveryOptions { directory_id: [7; 16], lanes: LANES };
    let fault = read_journals(&disk, &options).err().unwrap();
    assert!(matches!(fault, RecoveryFault::Foreign { .. }), "{fault}");
    let options = RecoveryOptions { directory_id: ID, lanes: 1 };
    let fault = read_journals(&disk, &options).err().unwrap();
    assert!(fault.to_string().contains("there are 1 lanes"), "{fault}");
    assert_eq!(disk.bytes(NAME), bytes, "nothing was written");

    disk.put("journal/notes.txt", vec![]);
    assert_eq!(read(&disk).unwrap().strangers, ["journal/notes.txt"]);
}

#[test]
fn a_position_stands_once() {
    let (disk, _) = small();
    let mut second = Journal::create(segments(&disk), options(1, 1)).unwrap();
    second.append(&block(0, 4, 1, 5)).unwrap();
    commit(&mut second);
    let fault = read(&disk).err().unwrap();
    assert!(matches!(fault, RecoveryFault::Twice { lane: 0, position: 4, .. }), "{fault}");
}

#[test]
fn a_journal_without_its_end_is_damaged_once_another_epoch_began() {
    let (disk, _) = small();
    let _later = journal(&segments(&disk), 2);
    let fault = read_with(&disk, true).err().unwrap();
    assert!(fault.to_string().contains("a later epoch has begun"), "{fault}");
}

#[test]
fn a_block_is_checked_again_when_it_is_read() {
    let (disk, _) = small();
    let recovered = read(&disk).unwrap();
    let reference = recovered.lanes[1][0];
    let file = crate::ports::Disk::open(&disk, NAME).unwrap();
    file.write_at(reference.offset + 64, b"?").unwrap();
    let fault = recovered.read_block(&reference).unwrap_err();
    assert!(fault.to_string().contains("block 2, lane 1, from position 1"), "{fault}");
    assert_eq!(block_size(reference.length as usize), 80);
}

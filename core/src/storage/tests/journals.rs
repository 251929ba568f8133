//! What a journal, its segments and its recovery do when little goes wrong.

use super::*;
use crate::log::block::block_size;
use crate::log::encode_control;
use crate::storage::memory_disk::Failure;
use std::io::ErrorKind;

#[test]
fn what_was_synced_is_read_again() {
    let disk = MemoryDisk::default();
    let segments = segments(&disk);
    let mut journal = journal(&segments, 1);
    let blocks = [block(0, 1, 3, 100), block(0, 4, 1, 7), block(2, 1, 2, 0)];
    for (index, block) in blocks.iter().enumerate() {
        assert_eq!(journal.append(block).unwrap(), index as u64 + 1);
    }
    assert!(!journal.mark().unwrap(), "nothing is durable yet");
    commit(&mut journal);
    assert_eq!((journal.appended(), journal.written(), journal.durable()), (3, 3, 3));
    assert!(journal.mark().unwrap());
    commit(&mut journal);
    assert!(!journal.mark().unwrap(), "a mark needs no mark");

    let disk = disk.crash(None);
    for seal in [false, true, true] {
        let recovered = read_with(&disk, seal).unwrap();
        assert_eq!(content(&recovered), blocks);
        assert_eq!(recovered.highest_epoch, 1);
        assert_eq!(recovered.newest_ms(), Some(1_004));
        assert!(recovered.torn.is_empty());
        recovered.check_from(&[0; 4]).unwrap();
        recovered.check_from(&[3, 0, 2, 0]).unwrap();
        assert_eq!(recovered.blocks_from(0, 2).len(), 2);
        assert_eq!(recovered.blocks_from(0, 3).len(), 1);
        assert_eq!(recovered.blocks_from(0, 4).len(), 0);
    }
    assert!(read(&disk).unwrap().journals[0].was_sealed);
}

#[test]
fn what_was_not_synced_is_cut() {
    let disk = MemoryDisk::default();
    let mut journal = journal(&segments(&disk), 1);
    journal.append(&block(1, 1, 1, 500)).unwrap();
    commit(&mut journal);
    journal.append(&block(1, 2, 1, 500)).unwrap();
    journal.append(&block(1, 3, 1, 500)).unwrap();
    journal.write().unwrap();
    assert_eq!(content(&read(&disk.kill()).unwrap()).len(), 3, "the machine lives");
    assert_eq!(content(&read(&disk.crash(None)).unwrap()).len(), 1, "the power went");
}

#[test]
fn a_graceful_end_is_sealed_and_takes_nothing_more() {
    let disk = MemoryDisk::default();
    let segments = segments(&disk);
    segments.prepare().unwrap();
    segments.prepare().unwrap();
    let mut journal = journal(&segments, 1);
    journal.append(&block(1, 1, 1, 50)).unwrap();
    journal.seal().unwrap();
    assert!(journal.append(&block(1, 2, 1, 50)).is_err());
    assert_eq!(journal.assured(), 0);
    let disk = disk.crash(None);
    let recovered = read(&disk).unwrap();
    assert!(recovered.journals[0].was_sealed);
    assert_eq!(content(&recovered).len(), 1);
    let names = disk.names();
    assert_eq!(names, ["journal/00000001-000-0000000001.log", "spare/0000000003"]);
}

#[test]
fn journals_go_on_in_the_next_segment_and_are_cut() {
    let disk = MemoryDisk::default();
    let segments = segments(&disk);
    let mut journal = journal(&segments, 1);
    for position in 1..=40u64 {
        segments.prepare().unwrap();
        journal.append(&block((position % 2) as u16, position.div_ceil(2), 1, 2_000)).unwrap();
        commit(&mut journal);
        assert!(journal.hold_next().unwrap());
    }
    let all = read(&disk.crash(None)).unwrap();
    assert_eq!(content(&all).len(), 40);
    assert!(all.journals[0].segments > 6);
    // Lane 0 holds everything back.
    assert_eq!(journal.cut(&[0, 20, 0, 0]).unwrap(), 0);
    let count = journal.cut(&[10, 20, 0, 0]).unwrap();
    assert!(count > 2, "{count}");
    let rest = read(&disk.crash(None)).unwrap();
    rest.check_from(&[10, 20, 0, 0]).unwrap();
    let fault = rest.check_from(&[0, 0, 0, 0]).unwrap_err();
    assert!(matches!(fault, RecoveryFault::Missing { lane: 0, from: 1, .. }), "{fault}");
    // The current one never goes.
    journal.cut(&[u64::MAX; 4]).unwrap();
    assert_eq!(read(&disk.crash(None)).unwrap().journals[0].segments, 2);
    journal.append(&block(0, 21, 1, 10)).unwrap();
    commit(&mut journal);
    read(&disk.crash(None)).unwrap().check_from(&[20, 20, 0, 0]).unwrap();
}

#[test]
fn a_segment_stays_until_the_one_behind_it_is_durable() {
    let disk = MemoryDisk::default();
    let mut journal = journal(&segments(&disk), 1);
    journal.append(&block(0, 1, 1, 9_000)).unwrap();
    commit(&mut journal);
    journal.append(&block(0, 2, 1, 9_000)).unwrap();
    journal.write().unwrap();
    assert_eq!(journal.cut(&[1, 0, 0, 0]).unwrap(), 0);
    journal.sync().unwrap();
    assert_eq!(journal.cut(&[1, 0, 0, 0]).unwrap(), 1);
    let recovered = read(&disk.crash(None)).unwrap();
    recovered.check_from(&[1, 0, 0, 0]).unwrap();
    assert_eq!(content(&recovered), [block(0, 2, 1, 9_000)]);
}

#[test]
fn what_is_longer_than_a_segment_becomes_several_blocks() {
    let disk = MemoryDisk::default();
    let mut journal = journal(&segments(&disk), 1);
    let mut records = Vec::new();
    for index in 0..500u32 {
        encode_control(&mut records, format!("command {index:060}").as_bytes());
    }
    let whole = LaneBlock { lane: 3, first_position: 11, count: 500, now_ms: 5, records };
    journal.append(&whole).unwrap();
    commit(&mut journal);
    let recovered = read(&disk.crash(None)).unwrap();
    recovered.check_from(&[0, 0, 0, 10]).unwrap();
    let parts = content(&recovered);
    assert!(parts.len() > 2);
    assert_eq!(parts.iter().map(|part| part.count).sum::<u32>(), 500);
    assert_eq!(parts.concat_records(), whole.records);

    let too_long = LaneBlock { count: 1, ..block(0, 1, 1, 40_000) };
    assert!(journal.append(&too_long).is_err());
    assert!(!journal.is_poisoned());
}

trait ConcatRecords {
    fn concat_records(&self) -> Vec<u8>;
}

impl ConcatRecords for Vec<LaneBlock> {
    fn concat_records(&self) -> Vec<u8> {
        self.iter().flat_map(|block| block.records.iter().copied()).collect()
    }
}

#[test]
fn what_is_assured_can_be_appended_without_a_new_segment() {
    for bytes in [10, 100, 1_000, 3_000, 11_000] {
        let disk = MemoryDisk::default();
        let segments = segments(&disk);
        segments.prepare().unwrap();
        segments.prepare().unwrap();
        let mut journal = journal(&segments, 1);
        journal.append(&block(0, 1, 1, 700)).unwrap();
        let mut position = 1;
        for _ in 0..2 {
            let mut assured = journal.assured();
            let size = block_size(bytes) as u64;
            let calls = disk.calls();
            while assured >= size {
                assured -= size;
                position += 1;
                journal.append(&block(0, position, 1, bytes)).unwrap();
            }
            assert_eq!(disk.calls(), calls, "appending what is assured touches no disk");
            commit(&mut journal);
        }
        let recovered = read(&disk.crash(None)).unwrap();
        recovered.check_from(&[0; 4]).unwrap();
        assert_eq!(recovered.lanes[0].len() as u64, position);
    }
}

#[test]
fn a_failed_sync_or_write_is_final() {
    for calls_before in [0, 1] {
        let disk = MemoryDisk::default();
        let mut journal = journal(&segments(&disk), 1);
        journal.append(&block(0, 1, 1, 100)).unwrap();
        disk.fail_at(calls_before, Failure::Error(ErrorKind::Other));
        let fault = journal.write().and_then(|()| journal.sync()).unwrap_err();
        assert!(fault.to_string().contains("journal/00000001-000-0000000001.log"), "{fault}");
        assert!(journal.is_poisoned());
        for outcome in [journal.write(), journal.sync(), journal.mark().map(|_| ())] {
            assert_eq!(outcome.unwrap_err().to_string(), fault.to_string());
        }
        assert!(journal.append(&block(0, 2, 1, 100)).is_err());
        assert_eq!((journal.durable(), journal.assured()), (0, 0));
        assert!(content(&read(&disk.crash(None)).unwrap()).is_empty());
    }
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_written_again() {
    let disk = MemoryDisk::default();
    let mut journal = journal(&segments(&disk), 1);
    journal.append(&block(0, 1, 1, 100)).unwrap();
    disk.fail_at(1, Failure::Error(ErrorKind::Other));
    assert!(journal.write().and_then(|()| journal.sync()).is_err());
    // The process ends; the pages are clean, and not on the disk.
    let disk = disk.kill();
    assert_eq!(content(&read_with(&disk, true).unwrap()).len(), 1);
    assert_eq!(content(&read(&disk.crash(None)).unwrap()).len(), 1, "what was said stays true");
}

#[test]
fn a_seal_that_is_only_in_the_cache_is_written_again() {
    let disk = MemoryDisk::default();
    let mut journal = journal(&segments(&disk), 1);
    journal.append(&block(0, 1, 1, 100)).unwrap();
    commit(&mut journal);
    disk.fail_at(1, Failure::Error(ErrorKind::Other));
    assert!(journal.seal().is_err());
    let disk = disk.kill();
    assert!(read_with(&disk, true).unwrap().journals[0].was_sealed);
    assert!(read(&disk.crash(None)).unwrap().journals[0].was_sealed);
}

#[test]
fn short_and_interrupted_calls_are_gone_on_with() {
    let disk = MemoryDisk::default();
    let mut journal = journal(&segments(&disk), 1);
    for position in 1..=3 {
        journal.append(&block(0, position, 1, 300)).unwrap();
        disk.fail_at(0, Failure::Short);
        disk.fail_at(1, Failure::Error(ErrorKind::Interrupted));
        disk.fail_at(2, Failure::Short);
        commit(&mut journal);
    }
    let disk = disk.crash(None);
    for call in [3, 4, 5] {
        disk.fail_at(call, Failure::Short);
        disk.fail_at(call + 1, Failure::Error(ErrorKind::Interrupted));
    }
    assert_eq!(content(&read(&disk).unwrap()).len(), 3);
}

#[test]
fn journals_of_several_runs_follow_each_other() {
    let disk = MemoryDisk::default();
    let mut position = [0; LANES as usize];
    let mut disk = disk;
    for (epoch, journals) in [(1, 3), (2, 1), (3, 4), (4, 2)] {
        let recovered = read_with(&disk, true).unwrap();
        assert_eq!(recovered.highest_epoch, epoch - 1);
        recovered.check_from(&[0; 4]).unwrap();
        let segments = segments(&disk);
        let mut open: Vec<Journal> = (0..journals)
            .map(|index| Journal::create(Arc::clone(&segments), options(epoch, index)).unwrap())
            .collect();
        for turn in 0..10u16 {
            let lane = turn % LANES;
            let journal = &mut open[(lane % journals) as usize];
            position[lane as usize] += 2;
            journal.append(&block(lane, position[lane as usize] - 1, 2, 40)).unwrap();
            commit(journal);
        }
        disk = disk.crash(None);
    }
    let recovered = read_with(&disk, true).unwrap();
    recovered.check_from(&[0; 4]).unwrap();
    for (blocks, position) in recovered.lanes.iter().zip(position) {
        assert_eq!(blocks.last().map(crate::storage::recovery::BlockRef::last), Some(position));
    }
    let mut old = recovered.old;
    assert_eq!(old.segments(), 10);
    let segments = segments(&disk);
    assert_eq!(old.cut(&[0; 4], &segments).unwrap(), 0);
    assert_eq!(old.cut(&position, &segments).unwrap(), 10);
    assert_eq!(old.segments(), 0);
    assert_eq!(read(&disk.crash(None)).unwrap().journals, []);
}

#[test]
fn spares_are_made_up_to_the_target_and_the_bound() {
    let disk = MemoryDisk::default();
    let bytes_max = 3 * SEGMENT_BYTES_MIN;
    let segments = segments_with(&disk, 2, bytes_max);
    let mut journal = journal(&segments, 1);
    assert!(segments.prepare().unwrap());
    assert!(segments.prepare().unwrap());
    assert!(!segments.prepare().unwrap());
    assert!(!segments.is_full());
    assert!(journal.hold_next().unwrap());
    assert_eq!(segments.bytes(), bytes_max);
    assert!(!segments.prepare().unwrap());
    assert!(segments.is_full());
    // Two are written full, the spare is taken, then there is no room.
    let mut position = 0;
    let fault = loop {
        match journal.append(&block(0, position + 1, 1, 5_000)) {
            Ok(_) => position += 1,
            Err(fault) => break fault,
        }
        commit(&mut journal);
    };
    assert!(fault.is_full(), "{fault}");
    assert!(!journal.is_poisoned());
    assert_eq!(position, 6);
    // Snapshots have passed: the oldest two go, and it goes on by itself.
    journal.cut(&[4, 0, 0, 0]).unwrap();
    assert_eq!(segments.spares(), 2);
    journal.append(&block(0, 7, 1, 5_000)).unwrap();
    commit(&mut journal);
    segments.prepare().unwrap();
    assert!(!segments.is_full() || segments.bytes() == bytes_max);
    read(&disk.crash(None)).unwrap().check_from(&[4, 0, 0, 0]).unwrap();

    segments.set_other_bytes(bytes_max);
    disk.set_free_bytes(0);
    assert!(!segments.prepare().unwrap());
    assert!(segments.is_full());
    segments.set_other_bytes(0);
    assert!(!segments.prepare().unwrap());
    assert!(segments.is_full());
}

#[test]
fn no_room_while_a_spare_is_made_leaves_nothing_behind() {
    for call in 0..5 {
        let disk = MemoryDisk::default();
        let segments = segments(&disk);
        disk.fail_at(call, Failure::Error(ErrorKind::StorageFull));
        assert!(!segments.prepare().unwrap(), "call {call}");
        assert!(segments.is_full());
        assert_eq!(disk.names(), Vec::<String>::new());
        assert!(segments.prepare().unwrap());
        assert!(!segments.is_full());
    }
}

#[test]
fn spares_are_whole_and_of_this_size() {
    let disk = MemoryDisk::default();
    disk.put("spare/0000000003", vec![0; SEGMENT_BYTES_MIN as usize]);
    disk.put("spare/0000000004.new", vec![0; SEGMENT_BYTES_MIN as usize]);
    disk.put("spare/0000000005", vec![0; 100]);
    disk.put("spare/stranger", vec![1]);
    let segments = segments(&disk);
    assert_eq!(segments.spares(), 1);
    assert_eq!(disk.names().len(), 4, "looking changes nothing");
    segments.tidy().unwrap();
    assert!(segments.prepare().unwrap());
    assert_eq!(disk.names(), ["spare/0000000003", "spare/0000000006", "spare/stranger"]);
}

#[test]
fn a_spare_whose_sync_has_failed_is_none_for_the_next_process() {
    let disk = MemoryDisk::default();
    let segments_before = segments(&disk);
    disk.fail_at(2, Failure::Error(ErrorKind::Other));
    disk.fail_at(3, Failure::Error(ErrorKind::Other));
    assert!(segments_before.prepare().is_err());
    assert_eq!(disk.names(), ["spare/0000000001.new"], "nor could it be removed");
    // The process ends; the file reads back whole, and is not on the disk.
    let disk = disk.kill();
    let segments = segments(&disk);
    segments.tidy().unwrap();
    assert_eq!((segments.spares(), disk.names().len()), (0, 0));
    let mut journal = journal(&segments, 1);
    journal.append(&block(0, 1, 1, 100)).unwrap();
    commit(&mut journal);
    assert_eq!(content(&read(&disk.crash(None)).unwrap()).len(), 1);
}

#[test]
fn the_name_of_a_spare_that_was_found_is_made_durable_before_it_is_taken() {
    let disk = MemoryDisk::default();
    disk.put("spare/0000000003", vec![0; SEGMENT_BYTES_MIN as usize]);
    let found = segments(&disk);
    found.tidy().unwrap();
    assert_eq!((found.spares(), disk.synced()), (1, vec!["spare".to_owned()]));
}

#[test]
fn a_name_never_stands_before_its_content() {
    let disk = MemoryDisk::default();
    let segments = segments(&disk);
    segments.prepare().unwrap();
    let _journal = journal(&segments, 1);
    let name = "spare/0000000001";
    let unmade = "spare/0000000001.new";
    assert_eq!(disk.synced(), [unmade, "spare", name, "journal", "spare"]);
}

#[test]
fn what_there_is_no_room_for_as_a_whole_is_not_begun() {
    let disk = MemoryDisk::default();
    let bytes_max = 4 * SEGMENT_BYTES_MIN;
    let segments = segments_with(&disk, 2, bytes_max);
    let mut journal = journal(&segments, 1);
    while segments.prepare().unwrap() {}
    assert!(journal.hold_next().unwrap());
    while segments.prepare().unwrap() {}
    journal.append(&block(1, 1, 1, 50)).unwrap();
    commit(&mut journal);
    let mut records = Vec::new();
    for index in 0..500u32 {
        encode_control(&mut records, format!("command {index:0120}").as_bytes());
    }
    assert!(records.len() as u64 > bytes_max);
    let whole = LaneBlock { lane: 3, first_position: 1, count: 500, now_ms: 5, records };
    for _ in 0..3 {
        let fault = journal.append(&whole).unwrap_err();
        assert!(fault.is_full(), "{fault}");
        assert!(!journal.is_poisoned());
        assert!(segments.is_full(), "somebody waits for room");
        assert!(!segments.prepare().unwrap());
        assert!(segments.is_full(), "and still does");
        assert_eq!(journal.appended(), 1, "nothing of it was taken");
        commit(&mut journal);
    }
    // Others go on meanwhile, and a crash leaves nothing of it.
    journal.append(&block(1, 2, 1, 50)).unwrap();
    commit(&mut journal);
    assert_eq!(content(&read(&disk.crash(None)).unwrap()).len(), 2);
}

#[test]
fn what_waited_for_room_as_a_whole_is_taken_once_there_is_some() {
    let disk = MemoryDisk::default();
    let segments = segments(&disk);
    let mut journal = journal(&segments, 1);
    while segments.prepare().unwrap() {}
    disk.set_free_bytes(0);
    let mut records = Vec::new();
    for index in 0..500u32 {
        encode_control(&mut records, format!("command {index:0120}").as_bytes());
    }
    let whole = LaneBlock { lane: 3, first_position: 1, count: 500, now_ms: 5, records };
    assert!(journal.append(&whole).unwrap_err().is_full());
    disk.set_free_bytes(u64::MAX);
    segments.prepare().unwrap();
    assert!(!segments.is_full());
    journal.append(&whole).unwrap();
    assert!(read(&disk.crash(None)).unwrap().torn.is_empty(), "files in hand are no damage");
    commit(&mut journal);
    let recovered = read(&disk.crash(None)).unwrap();
    assert_eq!(content(&recovered).concat_records(), whole.records);
    recovered.check_from(&[0; 4]).unwrap();
}

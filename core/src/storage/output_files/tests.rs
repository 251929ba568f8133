//! The output log's files against a list of records: appended, read, retained, killed, crashed,
//! damaged.

use super::*;
use crate::log::block::BlockSalt;
use crate::op::Payload;
use crate::output::{OutputId, OutputRecord, OutputWriter};
use crate::ports::{Disk, DiskFile};
use crate::storage::memory_disk::{Failure, MemoryDisk, Rng};
use crate::storage::output_recovery::OutputRecovery;
use crate::storage::{Corruption, RecoveryFault, SegmentsOptions};
use crate::time::{Domain, Timestamp};
use proptest::prelude::*;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

const A: NamespaceId = NamespaceId(1);
const B: NamespaceId = NamespaceId(2);
const ALL: Retention = Retention { age_ms: i64::MAX, bytes: u64::MAX };
const SEGMENT_BYTES: u64 = 16 << 10;
const BASE: u64 = 5 << 20;

fn id(namespace: NamespaceId, position: u64) -> OutputId {
    OutputId { namespace, lane: 3, position, key_hash: 7, ordinal: 0 }
}

/// Records at these positions, each with a payload of so many bytes.
fn records(namespace: NamespaceId, positions: &[u64], bytes: usize) -> OutputBytes {
    let mut writer = OutputWriter::default();
    let payload = vec![b'x'; bytes];
    for position in positions {
        writer.push(&OutputRecord {
            id: id(namespace, *position),
            key: b"key",
            name: None,
            domain: Domain::Processing,
            fire_at: Timestamp::from_millis(0),
            due_by: Timestamp::from_millis(0),
            payload: Some(Payload::Binary(&payload)),
            kind: crate::output::OutputKind::Fire,
        });
    }
    writer.finish(namespace, 3)
}

struct World {
    disk: MemoryDisk,
    files: OutputFiles,
    recovered: (crate::storage::OutputIds, Option<crate::storage::OutputTornTail>),
    position: u64,
}

fn options(epoch: u32, scan_from: Option<Cursor>) -> OutputOptions {
    OutputOptions {
        epoch,
        engine_version: 1,
        now_ms: 5_000,
        scan_from,
        reached: None,
        bytes_max: u64::MAX,
    }
}

fn recover(
    disk: &MemoryDisk,
    epoch: u32,
    scan_from: Option<Cursor>,
) -> Result<OutputRecovery, RecoveryFault> {
    let mut segments = SegmentsOptions::new([7; 16]);
    segments.segment_bytes = SEGMENT_BYTES;
    let segments = Arc::new(Segments::open(Arc::new(disk.clone()), segments)?);
    OutputFiles::recover(disk, segments, &options(epoch, scan_from))
}

impl World {
    fn new() -> Self {
        Self::open(MemoryDisk::default(), 1)
    }

    fn open(disk: MemoryDisk, epoch: u32) -> Self {
        Self::try_open(disk, epoch, None).unwrap()
    }

    fn try_open(
        disk: MemoryDisk,
        epoch: u32,
        scan_from: Option<Cursor>,
    ) -> Result<Self, RecoveryFault> {
        let OutputRecovery { mut files, ids, torn } = recover(&disk, epoch, scan_from)?;
        for namespace in [A, B] {
            files.admit(namespace, ALL);
        }
        files.forget_unknown();
        Ok(Self { disk, files, recovered: (ids, torn), position: 0 })
    }

    fn append(&mut self, namespace: NamespaceId, count: u64, bytes: usize, now_ms: i64) -> u64 {
        let positions: Vec<u64> = (1..=count).map(|index| self.position + index).collect();
        self.position += count;
        let (first, _) =
            self.files.append(&records(namespace, &positions, bytes), now_ms).unwrap();
        first.0 - BASE
    }

    fn commit(&mut self) {
        self.files.write().unwrap();
        self.files.sync().unwrap();
    }

    fn put(&mut self, namespace: NamespaceId, count: u64, bytes: usize, now_ms: i64) {
        self.append(namespace, count, bytes, now_ms);
        self.commit();
    }

    /// The positions that a reader gets that reads to the end, piece by piece, with their cursors.
    fn read(&self, namespace: NamespaceId, after: u64) -> Result<Vec<(u64, u64)>, OutputFault> {
        let mut after = Cursor(BASE + after);
        let mut all = Vec::new();
        loop {
            let blocks = self.files.read(namespace, after, 1)?;
            let Some(last) = blocks.last() else {
                return Ok(all);
            };
            for (cursor, record) in blocks.iter().flat_map(|block| block.after(after)) {
                all.push((cursor.0 - BASE, record.id.position));
            }
            after = last.last();
        }
    }

    fn cursors(&self, namespace: NamespaceId, after: u64) -> Vec<u64> {
        self.read(namespace, after).unwrap().into_iter().map(|(cursor, _)| cursor).collect()
    }

    fn earliest(&self, namespace: NamespaceId) -> u64 {
        self.files.reader().earliest(namespace).0.saturating_sub(BASE)
    }

    fn outputs(&self) -> Vec<String> {
        let names = self.disk.names().into_iter();
        names.filter_map(|name| name.strip_prefix("outputs/").map(str::to_owned)).collect()
    }
}

fn corruption(outcome: Result<World, RecoveryFault>) -> Corruption {
    match outcome {
        Err(RecoveryFault::Corrupt(fault)) => fault,
        Err(other) => panic!("another fault: {other}"),
        Ok(world) => panic!("taken for sound, torn: {:?}", world.recovered.1),
    }
}

#[test]
fn records_are_read_once_synced_and_each_once_across_restarts() {
    let mut world = World::new();
    assert_eq!(world.append(A, 2, 10, 0), 1);
    assert_eq!(world.append(B, 3, 10, 0), 3);
    world.files.write().unwrap();
    assert!(world.cursors(A, 0).is_empty(), "not durable yet");
    world.files.sync().unwrap();
    assert_eq!(world.cursors(A, 0), [1, 2]);
    assert_eq!(world.cursors(B, 4), [5]);
    for epoch in 2..6 {
        world = World { position: world.position, ..World::open(world.disk.kill(), epoch) };
        assert_eq!(world.recovered.1, None);
        world.put(A, 1, 10, 0);
    }
    assert_eq!(world.read(A, 0).unwrap(), [(1, 1), (2, 2), (6, 6), (7, 7), (8, 8), (9, 9)]);
    assert_eq!(world.earliest(A), 0);
    assert_eq!(world.outputs(), ["0000000001.out"]);
}

#[test]
fn large_blocks_are_split_and_segments_follow_each_other() {
    let mut world = World::new();
    world.append(A, 30, 1_500, 0);
    world.append(B, 1, 1, 0);
    world.commit();
    assert!(world.outputs().len() > 3);
    let expected: Vec<u64> = (1..=30).collect();
    assert_eq!(world.cursors(A, 0), expected);
    assert_eq!(world.cursors(A, 17), expected[17..]);
    let world = World::open(world.disk.crash(None), 2);
    assert_eq!(world.cursors(A, 0), expected);
    assert_eq!(world.cursors(B, 0), [31]);
}

#[test]
fn a_record_that_no_segment_holds_is_a_fault_of_its_own() {
    let mut world = World::new();
    world.append(A, 1, SEGMENT_BYTES as usize, 0);
    let fault = world.files.write().unwrap_err();
    assert!(!fault.is_full(), "no room would help: {fault}");
    assert!(world.files.sync().is_err(), "and final");
}

#[test]
fn a_torn_tail_is_cut_and_reported_and_its_cursors_are_given_again() {
    let mut torn = 0;
    for seed in 0..300 {
        let mut world = World::new();
        world.put(A, 3, 10, 0);
        for _ in 0..5 {
            world.append(A, 3, 600, 0);
            world.files.write().unwrap();
        }
        let mut world = World::open(world.disk.crash(Some(&mut Rng(seed))), 2);
        torn += u64::from(world.recovered.1.is_some());
        let cursors = world.cursors(A, 0);
        let kept = cursors.len() as u64;
        assert_eq!(cursors, (1..=kept).collect::<Vec<_>>());
        assert!(kept >= 3, "what was synced is there");
        assert_eq!(world.append(B, 1, 10, 0), kept + 1);
        world.commit();
        let world = World::open(world.disk.crash(None), 3);
        assert_eq!((world.cursors(A, 0), world.cursors(B, 0)), (cursors, vec![kept + 1]));
        assert_eq!(world.recovered.1, None);
    }
    assert!(torn > 50, "{torn} tails were torn");
}

#[test]
fn what_a_later_block_calls_durable_must_stand() {
    let mut world = World::new();
    for _ in 0..3 {
        world.put(A, 1, 100, 0);
    }
    let name = "outputs/0000000001.out";
    let bytes = world.disk.bytes(name);
    let size = block::peek(BlockSalt::of(&[7; 16]), &bytes[SEGMENT_HEADER_BYTES..]).unwrap().size();
    for bit in 0..size * 8 {
        let mut broken = bytes.clone();
        broken[SEGMENT_HEADER_BYTES + size + bit / 8] ^= 1 << (bit % 8);
        let disk = world.disk.kill();
        disk.put(name, broken);
        let fault = corruption(World::try_open(disk, 2, None));
        assert_eq!(fault.file, name);
        assert_eq!(fault.offset, (SEGMENT_HEADER_BYTES + size) as u64, "bit {bit}");
    }
    // Of the last block nobody says so: it is void, unless it was marked, or a snapshot knew of it.
    let last = SEGMENT_HEADER_BYTES + 2 * size + 70;
    let break_last = |disk: MemoryDisk| {
        let mut broken = disk.bytes(name);
        broken[last] ^= 1;
        disk.put(name, broken);
        disk
    };
    let torn = World::open(break_last(world.disk.kill()), 2);
    assert_eq!(torn.cursors(A, 0), [1, 2]);
    assert_eq!(torn.recovered.1.unwrap().offset, (SEGMENT_HEADER_BYTES + 2 * size) as u64);
    let known = Some(Cursor(BASE + 3));
    corruption(World::try_open(break_last(world.disk.kill()), 2, known));
    assert!(world.files.wants_mark());
    world.files.mark().unwrap();
    assert!(!world.files.wants_mark());
    corruption(World::try_open(break_last(world.disk.kill()), 2, None));
}

#[test]
fn segments_that_are_missing_cut_or_strange_are_told() {
    let mut world = World::new();
    for _ in 0..40 {
        world.put(A, 1, 1_500, 0);
    }
    let names = world.outputs();
    assert!(names.len() >= 4);
    let path = |index: usize| format!("outputs/{}", names[index]);
    for index in 0..names.len() - 1 {
        let disk = world.disk.kill();
        disk.remove(&path(index)).unwrap();
        let fault = corruption(World::try_open(disk, 2, Some(Cursor(BASE))));
        assert_eq!(fault.file, path(index.max(1)), "the first one there, or the first missing");
        let disk = world.disk.kill();
        let mut bytes = disk.bytes(&path(index));
        bytes.truncate(bytes.len() - 8);
        disk.put(&path(index), bytes);
        assert_eq!(corruption(World::try_open(disk, 2, None)).file, path(index));
        let disk = world.disk.kill();
        disk.put(&path(index), world.disk.bytes(&path(index + 1)));
        assert_eq!(corruption(World::try_open(disk, 2, None)).file, path(index));
        let disk = world.disk.kill();
        let mut bytes = disk.bytes(&path(index));
        bytes[20] ^= 1;
        disk.put(&path(index), bytes);
        assert_eq!(corruption(World::try_open(disk, 2, None)).offset, 0);
    }
    let mut other = SegmentsOptions::new([8; 16]);
    other.segment_bytes = SEGMENT_BYTES;
    let segments = Arc::new(Segments::open(Arc::new(world.disk.clone()), other).unwrap());
    let outcome = OutputFiles::recover(&world.disk, segments, &options(2, None));
    assert!(matches!(outcome.map(|_| ()), Err(RecoveryFault::Foreign { .. })));
}

#[test]
fn a_damaged_block_is_told_when_it_is_read_and_others_are_not_concerned() {
    let mut world = World::new();
    world.put(A, 1, 100, 0);
    world.put(B, 1, 100, 0);
    world.put(A, 1, 100, 0);
    let name = "outputs/0000000001.out";
    let bytes = world.disk.bytes(name);
    let file = world.disk.open(name).unwrap();
    let size = block::peek(BlockSalt::of(&[7; 16]), &bytes[SEGMENT_HEADER_BYTES..]).unwrap().size();
    for bit in 0..3 * size * 8 {
        let at = SEGMENT_HEADER_BYTES + bit / 8;
        let flipped = bytes[at] ^ 1 << (bit % 8);
        file.write_at(at as u64, &[flipped]).unwrap();
        let is_own = (bit / 8) / size != 1;
        match world.read(A, 0) {
            Err(fault) => assert_eq!(fault.file, name),
            Ok(read) => {
                assert!(!is_own, "bit {bit} of its own");
                assert_eq!(read, [(1, 1), (3, 3)]);
            }
        }
        file.write_at(at as u64, &bytes[at..=at]).unwrap();
    }
    assert_eq!(world.cursors(A, 0), [1, 3]);
}

#[test]
fn retention_by_age_bytes_and_in_all_and_never_above_the_floor() {
    let mut world = World::new();
    for index in 0..60 {
        world.put(if index < 30 { A } else { B }, 1, 1_500, index);
    }
    let segments = world.outputs().len();
    world.files.retain(100).unwrap();
    assert_eq!(world.outputs().len(), segments, "all is retained");

    // Nothing above the floor goes from the disk, though a reader is refused it.
    world.files.admit(A, Retention { age_ms: 10, ..ALL });
    world.files.retain(100).unwrap();
    assert_eq!(world.outputs().len(), segments);
    assert_eq!(world.earliest(A), 30);
    assert!(world.cursors(A, 30).is_empty());
    world.files.set_floor(Cursor(BASE + 31));
    world.files.retain(100).unwrap();
    let left = world.outputs().len();
    assert!(left < segments);
    assert_eq!(world.cursors(B, 30).len(), 30);

    world.files.set_floor(Cursor(BASE + 60));
    world.files.admit(B, Retention { bytes: 1, ..ALL });
    world.files.retain(100).unwrap();
    let newest = world.cursors(B, world.earliest(B));
    assert_eq!(newest.last(), Some(&60), "the newest always stays");
    world.files.admit(B, Retention { age_ms: 1, ..ALL });
    world.files.retain(100).unwrap();
    assert_eq!(world.earliest(B), 60, "unless it is too old");
    assert_eq!(world.outputs().len(), 1);

    for _ in 0..40 {
        world.put(A, 1, 1_500, 100);
    }
    world.files.set_floor(Cursor(BASE + 90));
    world.files.set_bytes_max(2 * SEGMENT_BYTES);
    world.files.retain(100).unwrap();
    let left = world.cursors(A, world.earliest(A));
    assert!(left[0] > 70 && left[0] <= 91, "the floor holds: {left:?}");
    world.files.set_floor(Cursor(BASE + 100));
    world.files.retain(100).unwrap();
    assert_eq!(world.outputs().len(), 2);
    assert_eq!(world.files.reader().disk_bytes(), 2 * SEGMENT_BYTES);
    let mut world = World::open(world.disk.crash(None), 2);
    let left = world.cursors(A, world.earliest(A));
    assert_eq!(left.last(), Some(&100));
    world.files.end(A);
    assert!(world.cursors(A, 99).is_empty());
    assert_eq!(world.append(B, 1, 1, 0), 101);
}

#[test]
fn only_who_lost_something_has_a_gap_after_a_restart_however_far_the_log_has_moved_on() {
    let mut world = World::new();
    world.put(A, 40, 1_500, 0);
    world.put(B, 1, 10, 100);
    world.files.set_floor(Cursor(BASE + 41));
    world.files.admit(A, Retention { age_ms: 10, ..ALL });
    let segments = world.outputs().len();
    world.files.retain(100).unwrap();
    assert!(world.outputs().len() < segments);
    for epoch in 2..6 {
        assert_eq!((world.earliest(A), world.earliest(B)), (40, 0));
        assert_eq!(world.cursors(B, 0), [41]);
        world = World::open(world.disk.crash(None), epoch);
    }
    // Where it was said goes, too: then it is said again.
    world.position = 100;
    for now_ms in 0..40 {
        world.put(A, 1, 1_500, 200 + now_ms);
    }
    world.files.admit(B, Retention { age_ms: 10, ..ALL });
    world.files.set_floor(Cursor(BASE + 81));
    world.files.retain(200).unwrap();
    world.files.admit(A, Retention { age_ms: 10, ..ALL });
    world.files.retain(300).unwrap();
    assert_eq!(world.outputs().len(), 1);
    let world = World::open(world.disk.crash(None), 6);
    assert_eq!((world.earliest(A), world.earliest(B)), (81, 41));
}

#[test]
fn a_segment_that_is_read_does_not_leave_and_holds_up_those_behind_it() {
    let mut world = World::new();
    for _ in 0..40 {
        world.put(A, 1, 1_500, 0);
    }
    world.files.set_floor(Cursor(BASE + 40));
    let plan = world.files.reader().plan(A, Cursor(BASE), Cursor(u64::MAX), 1).unwrap();
    let segments = world.outputs();
    world.files.admit(A, Retention { age_ms: 1, ..ALL });
    world.files.retain(1_000).unwrap();
    assert_eq!(world.outputs(), segments);
    assert_eq!(plan.read().unwrap()[0].first, Cursor(BASE + 1));
    drop(plan);
    world.files.retain(1_000).unwrap();
    assert_eq!(world.outputs().len(), 1);
}

#[test]
fn namespaces_that_nobody_admits_are_forgotten_and_missed_by_nobody() {
    let mut world = World::new();
    world.put(A, 1, 10, 0);
    world.put(B, 1, 10, 0);
    let OutputRecovery { mut files, .. } = recover(&world.disk.kill(), 2, None).unwrap();
    files.admit(B, ALL);
    files.forget_unknown();
    assert!(files.read(A, Cursor(BASE), 1).unwrap().is_empty());
    assert_eq!(files.read(B, Cursor(BASE), 1).unwrap().len(), 1);
    assert_eq!(files.reader().earliest(B), Cursor(0), "nothing of it is missing");
    files.admit(NamespaceId(3), ALL);
    assert_eq!(files.reader().earliest(NamespaceId(3)), Cursor(BASE + 2));
}

#[test]
fn a_replay_finds_what_the_log_holds() {
    let mut world = World::new();
    world.put(A, 4, 10, 0);
    let world = World::try_open(world.disk.crash(None), 2, Some(Cursor(BASE + 2))).unwrap();
    let (ids, _) = &world.recovered;
    assert_eq!(ids.len(), 2);
    let held = |position| ids.contains(&id(A, position));
    assert_eq!([1, 2, 3, 4, 5].map(held), [false, false, true, true, false]);
    assert!(!ids.contains(&id(B, 3)), "of another namespace");
    let kept = ids.filter(records(A, &[3, 9, 4, 10], 20)).unwrap();
    let positions: Vec<u64> = kept.iter().map(|record| record.id.position).collect();
    assert_eq!(positions, [9, 10]);
    assert!(ids.filter(records(A, &[3, 4], 20)).is_none());
}

#[test]
fn a_full_disk_is_no_end_and_any_other_failure_is() {
    let mut world = World::new();
    world.put(A, 1, 10, 0);
    world.disk.set_free_bytes(0);
    world.append(A, 12, 1_500, 0);
    let fault = world.files.write().unwrap_err();
    assert!(fault.is_full());
    assert!(world.files.prepare().is_ok(), "no room for the next one, and no fault");
    assert!(world.files.write().unwrap_err().is_full());
    world.disk.set_free_bytes(u64::MAX);
    world.commit();
    assert_eq!(world.cursors(A, 0), (1..=13).collect::<Vec<_>>());
    world.files.prepare().unwrap();
    assert!(world.files.room_bytes() > SEGMENT_BYTES / 2);
    world.put(A, 12, 1_500, 0);

    world.append(A, 1, 10, 0);
    world.files.write().unwrap();
    world.disk.fail_at(0, Failure::Error(ErrorKind::Other));
    assert_eq!(world.files.sync().unwrap_err().action, "sync");
    assert!(world.files.write().is_err() && world.files.sync().is_err(), "for good");
    assert_eq!(world.cursors(A, 24), [25]);
}

#[test]
fn each_call_may_fail_and_nothing_that_was_durable_is_lost() {
    let run = |world: &mut World| {
        for index in 0..12 {
            let durable = world.files.latest().0 - BASE;
            world.append(if index % 2 == 0 { A } else { B }, 2, 1_500, index);
            if world.files.write().and_then(|()| world.files.sync()).is_err() {
                return durable;
            }
            let _ = world.files.prepare();
        }
        world.files.latest().0 - BASE
    };
    let mut whole = World::new();
    let start = whole.disk.calls();
    assert_eq!(run(&mut whole), 24);
    let calls = whole.disk.calls() - start;
    for failure in [
        Failure::Short,
        Failure::Error(ErrorKind::Interrupted),
        Failure::Error(ErrorKind::StorageFull),
        Failure::Error(ErrorKind::Other),
    ] {
        for n in 0..calls {
            let mut world = World::new();
            world.disk.fail_at(n, failure);
            let durable = run(&mut world);
            for seed in 0..4 {
                let disk = world.disk.crash(Some(&mut Rng(n * 4 + seed)));
                // The recovery itself may fail in the same ways, and is then begun anew.
                disk.fail_at(Rng(n * 4 + seed).below(60), failure);
                let world = World::try_open(disk.clone(), 2, None).or_else(|fault| {
                    assert!(matches!(fault, RecoveryFault::Disk(_)), "{fault}");
                    World::try_open(disk.crash(Some(&mut Rng(seed))), 3, None)
                });
                let world = world.unwrap();
                // What was to fail may only do so here.
                let read =
                    |namespace| world.read(namespace, 0).or_else(|_| world.read(namespace, 0));
                let mut all: Vec<u64> = [A, B]
                    .into_iter()
                    .flat_map(|namespace| read(namespace).unwrap())
                    .map(|(cursor, _)| cursor)
                    .collect();
                all.sort_unstable();
                assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
                assert!(all.len() as u64 >= durable, "call {n}: {} of {durable}", all.len());
            }
        }
    }
}

/// A disk that counts the bytes that are read.
struct Counting {
    disk: MemoryDisk,
    read_bytes: Arc<AtomicU64>,
}

struct CountingFile(Arc<dyn DiskFile>, Arc<AtomicU64>);

impl Disk for Counting {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountingFile(self.disk.create(name)?, Arc::clone(&self.read_bytes))))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountingFile(self.disk.open(name)?, Arc::clone(&self.read_bytes))))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.disk.sync_folder(folder)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for CountingFile {
    fn len_bytes(&self) -> io::Result<u64> {
        self.0.len_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read_at(offset, buffer)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

#[test]
fn what_belongs_to_others_is_passed_over_unread() {
    let read_bytes = Arc::new(AtomicU64::new(0));
    let disk =
        Arc::new(Counting { disk: MemoryDisk::default(), read_bytes: Arc::clone(&read_bytes) });
    let mut options_of_segments = SegmentsOptions::new([7; 16]);
    options_of_segments.segment_bytes = 16 << 20;
    let segments = Segments::open(Arc::clone(&disk) as Arc<dyn Disk>, options_of_segments);
    let recovery =
        OutputFiles::recover(&*disk, Arc::new(segments.unwrap()), &options(1, None)).unwrap();
    let mut files = recovery.files;
    files.admit(A, ALL);
    files.admit(B, ALL);
    // 100 small blocks, and 24 MiB of another namespace's between them.
    for position in 0..100 {
        files.append(&records(A, &[position], 10), 0).unwrap();
        files.append(&records(B, &[position], 240 << 10), 0).unwrap();
    }
    files.write().unwrap();
    files.sync().unwrap();
    let chunks = files.reader().lock().chunk_count();
    assert!(chunks < 200, "{chunks} chunks for 200 blocks");
    read_bytes.store(0, Ordering::Relaxed);
    let blocks = files.read(A, Cursor(BASE), usize::MAX).unwrap();
    assert_eq!(blocks.len(), 100);
    let read = read_bytes.load(Ordering::Relaxed);
    assert!(read <= 200 * (4 << 10), "{read} bytes were read");
    // The last one is found without a walk through what is before.
    read_bytes.store(0, Ordering::Relaxed);
    let after = Cursor(files.latest().0 - 3);
    assert_eq!(files.read(A, after, usize::MAX).unwrap().len(), 1);
    let read = read_bytes.load(Ordering::Relaxed);
    assert!(read <= 16 << 10, "{read} bytes were read");
}

#[derive(Debug, Clone)]
enum Step {
    Append { is_a: bool, count: u64, bytes: usize },
    Commit,
    Mark,
    Retain { is_a: bool, bytes: u64 },
    Kill,
    Crash { seed: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 1..6u64, 0..3_000usize)
            .prop_map(|(is_a, count, bytes)| Step::Append { is_a, count, bytes }),
        4 => Just(Step::Commit),
        1 => Just(Step::Mark),
        1 => (any::<bool>(), 0..60_000u64)
            .prop_map(|(is_a, bytes)| Step::Retain { is_a, bytes }),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_log_is_a_list(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        // All records with their cursors, of which so many are durable.
        let mut model: Vec<(u64, NamespaceId, u64)> = Vec::new();
        let (mut durable, mut epoch) = (0, 1);
        for step in steps {
            let mut next = None;
            match step {
                Step::Append { is_a, count, bytes } => {
                    let namespace = if is_a { A } else { B };
                    let first = world.append(namespace, count, bytes, 0);
                    let position = world.position - count;
                    model.extend((0..count).map(|n| (first + n, namespace, position + n + 1)));
                }
                Step::Commit => {
                    world.commit();
                    durable = model.len();
                }
                Step::Mark => {
                    world.files.mark().unwrap();
                    durable = model.len();
                }
                Step::Retain { is_a, bytes } => {
                    let namespace = if is_a { A } else { B };
                    world.commit();
                    durable = model.len();
                    world.files.set_floor(world.files.latest());
                    world.files.admit(namespace, Retention { bytes, ..ALL });
                    world.files.retain(0).unwrap();
                    world.files.admit(namespace, ALL);
                }
                Step::Kill => {
                    let _ = world.files.write();
                    next = Some(world.disk.kill());
                }
                Step::Crash { seed } => {
                    let _ = world.files.write();
                    next = Some(world.disk.crash(Some(&mut Rng(seed))));
                }
            }
            if let Some(disk) = next {
                epoch += 1;
                let position = world.position;
                world = World { position, ..World::open(disk, epoch) };
                let latest = world.files.latest().0 - BASE;
                let kept = model.iter().filter(|(cursor, ..)| *cursor <= latest).count();
                prop_assert!(kept >= durable, "{kept} of {durable}");
                prop_assert_eq!(latest, kept as u64);
                model.truncate(kept);
                durable = kept;
            }
            for namespace in [A, B] {
                let earliest = world.earliest(namespace);
                let read = world.read(namespace, earliest).unwrap();
                let expected: Vec<(u64, u64)> = model[..durable]
                    .iter()
                    .filter(|(cursor, of, _)| *of == namespace && *cursor > earliest)
                    .map(|(cursor, _, position)| (*cursor, *position))
                    .collect();
                prop_assert_eq!(read, expected);
                let mut own = model.iter().filter(|(_, of, _)| *of == namespace);
                let lost_own = own.any(|(cursor, ..)| *cursor == earliest);
                prop_assert!(earliest == 0 || lost_own, "behind {earliest}, and nothing went");
            }
        }
    }
}

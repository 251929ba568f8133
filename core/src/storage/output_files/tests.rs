//! The output log's files against a list of records: appended, read, retained, killed, crashed,
//! damaged.

use super::*;
use crate::op::Payload;
use crate::output::{OutputId, OutputRecord, OutputWriter};
use crate::storage::memory_disk::MemoryDisk;
use crate::storage::output_recovery::OutputRecovery;
use crate::storage::{Corruption, RecoveryFault, SegmentsOptions};
use crate::time::{Domain, Timestamp};

mod chance;
mod damage;
mod failures;
mod reading;
mod retention;

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
        let (first, _) = self.files.append(&records(namespace, &positions, bytes), now_ms).unwrap();
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

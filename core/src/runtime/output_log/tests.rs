//! What readers see of the output log, with files behind it and without.

use super::*;
use crate::output::OutputBytes;
use crate::output::{OutputId, OutputRecord, OutputWriter};
use crate::ports::Disk;
use crate::storage::memory_disk::{Failure, MemoryDisk};
use crate::storage::{OutputOptions, Segments, SegmentsOptions};
use crate::time::{Domain, Timestamp};
use std::task::Context;

const A: NamespaceId = NamespaceId(1);
const B: NamespaceId = NamespaceId(2);

fn records(namespace: NamespaceId, count: u32) -> OutputBytes {
    let mut writer = OutputWriter::default();
    for ordinal in 0..count {
        writer.push(&OutputRecord {
            id: OutputId { namespace, lane: 0, position: 1, key_hash: 2, ordinal },
            key: b"key",
            name: None,
            domain: Domain::Processing,
            fire_at: Timestamp::from_millis(0),
            due_by: Timestamp::from_millis(0),
            payload: None,
            kind: crate::output::OutputKind::Fire,
        });
    }
    writer.finish(namespace, 0)
}

struct World {
    log: Arc<OutputLog>,
    base: u64,
}

impl World {
    fn new(bytes_max: usize) -> Self {
        let log = Arc::new(OutputLog::new(5_000, bytes_max));
        for namespace in [A, B] {
            log.admit(namespace, Retention { age_ms: 1_000, bytes: 1 << 20 });
        }
        Self { log, base: 5 << 20 }
    }

    fn append(&self, namespace: NamespaceId, count: u32, now_ms: i64) {
        self.log.publish_now(std::iter::once((records(namespace, count), now_ms)));
    }

    fn read(&self, namespace: NamespaceId, after: u64) -> Result<Vec<u64>, ReadRejection> {
        let after = Cursor(self.base + after);
        let read = self.log.read(namespace, after, usize::MAX)?;
        let cursors = read.blocks.iter().flat_map(|block| block.after(after));
        Ok(cursors.map(|(cursor, _)| cursor.0 - self.base).collect())
    }
}

#[test]
fn a_reader_sees_its_namespace_only_and_each_record_once() {
    let world = World::new(1 << 20);
    world.append(A, 2, 0);
    world.append(B, 3, 0);
    world.append(A, 1, 0);
    assert_eq!(world.read(A, 0), Ok(vec![1, 2, 6]));
    assert_eq!(world.read(A, 1), Ok(vec![2, 6]));
    assert_eq!(world.read(A, 6), Ok(vec![]));
    assert_eq!(world.read(B, 3), Ok(vec![4, 5]));
    let latest = Cursor(world.base + 6);
    assert_eq!(world.read(A, 7), Err(ReadRejection::Ahead { latest }));
}

#[test]
fn cursors_of_an_earlier_log_are_told_of_the_gap() {
    let world = World::new(1 << 20);
    let read = world.log.read(A, Cursor(4 << 20), 1);
    let earliest = Cursor(world.base);
    assert_eq!(read.map(|_| ()), Err(ReadRejection::Gap { earliest }));
}

#[test]
fn the_oldest_go_when_the_bound_is_met() {
    let world = World::new(3 * (BLOCK_BYTES + 51));
    for _ in 0..4 {
        world.append(A, 1, 0);
    }
    let earliest = Cursor(world.base + 1);
    assert_eq!(world.read(A, 0), Err(ReadRejection::Gap { earliest }));
    assert_eq!(world.read(A, 1), Ok(vec![2, 3, 4]));
    assert_eq!(world.log.earliest(A), earliest);
    assert_eq!(world.log.len_bytes(), 3 * (BLOCK_BYTES + 51));
}

#[test]
fn retention_by_age_and_bytes() {
    let world = World::new(1 << 20);
    world.append(A, 1, 0);
    world.append(A, 1, 900);
    world.append(A, 1, 1_001);
    assert_eq!(world.read(A, 1), Ok(vec![2, 3]));
    assert!(world.read(A, 0).is_err());
    world.log.admit(A, Retention { age_ms: 1_000, bytes: 1 });
    world.append(A, 1, 1_001);
    assert_eq!(world.read(A, 3), Ok(vec![4]), "the newest always stays");
    assert!(world.read(A, 2).is_err());
}

#[test]
fn a_time_finds_its_cursor() {
    let world = World::new(1 << 20);
    world.append(A, 2, 100);
    world.append(A, 2, 200);
    assert_eq!(world.log.at_time(A, 100).0 - world.base, 0);
    assert_eq!(world.log.at_time(A, 101).0 - world.base, 2);
    assert_eq!(world.log.at_time(A, 201), world.log.latest());
}

#[test]
fn a_waiting_reader_is_woken_by_its_namespace_and_by_the_end() {
    let world = World::new(1 << 20);
    let (waker, count) = futures_waker();
    let mut context = Context::from_waker(&waker);
    let after = world.log.latest();
    let mut waiter = world.log.waiter(A);
    assert!(waiter.poll_ready(after, &mut context).is_pending());
    world.append(B, 1, 0);
    assert_eq!(Arc::strong_count(&count), 3, "one here, one in the waker, one waiting");
    world.append(A, 1, 0);
    assert!(waiter.poll_ready(after, &mut context).is_ready());
    let after = world.log.latest();
    assert!(waiter.poll_ready(after, &mut context).is_pending());
    assert!(!world.log.is_ended(A));
    world.log.end(A);
    assert!(waiter.poll_ready(after, &mut context).is_ready());
    assert!(world.log.is_ended(A) && !world.log.is_ended(B));
    world.log.close();
    assert!(world.log.is_ended(B));
}

#[test]
fn a_reader_that_leaves_leaves_nothing_and_a_new_waker_takes_the_place_of_the_old() {
    let world = World::new(1 << 20);
    let (first, count) = futures_waker();
    let (second, counts) = futures_waker();
    let after = world.log.latest();
    let mut waiters: Vec<_> = (0..50).map(|_| world.log.waiter(A)).collect();
    for waiter in &mut waiters {
        assert!(waiter.poll_ready(after, &mut Context::from_waker(&first)).is_pending());
    }
    assert_eq!(Arc::strong_count(&count), 2 + 50);
    for waiter in &mut waiters {
        assert!(waiter.poll_ready(after, &mut Context::from_waker(&second)).is_pending());
    }
    assert_eq!((Arc::strong_count(&count), Arc::strong_count(&counts)), (2, 2 + 50));
    waiters.truncate(20);
    assert_eq!(Arc::strong_count(&counts), 2 + 20, "nothing is left of those that went");
    world.append(A, 1, 0);
    assert_eq!(Arc::strong_count(&counts), 2);
    waiters.clear();
    world.log.end(A);
}

/// A log over files in memory, and whoever writes it.
struct Files {
    disk: MemoryDisk,
    log: Arc<OutputLog>,
    committer: OutputCommitter,
    ran: Arc<Mutex<Vec<(u32, u64)>>>,
    base: u64,
}

impl Files {
    fn open(disk: MemoryDisk, epoch: u32, memory_bytes_max: usize) -> Self {
        let mut options = SegmentsOptions::new([1; 16]);
        options.segment_bytes = 16 << 10;
        let segments = Segments::open(Arc::new(disk.clone()), options).unwrap();
        let options = OutputOptions {
            epoch,
            engine_version: 1,
            now_ms: 5_000,
            scan_from: None,
            reached: None,
            bytes_max: u64::MAX,
        };
        let recovery = OutputFiles::recover(&disk, Arc::new(segments), &options).unwrap();
        let log = Arc::new(OutputLog::over(&recovery.files, memory_bytes_max));
        for namespace in [A, B] {
            log.admit(namespace, Retention { age_ms: 1_000, bytes: 1 << 20 });
        }
        let mut committer = OutputCommitter::new(Arc::clone(&log), recovery.files);
        committer.forget_unknown();
        Self { disk, log, committer, ran: Arc::default(), base: 5 << 20 }
    }

    /// Hands records over, and something that notes where the log stood when it ran.
    fn take(&mut self, namespace: NamespaceId, count: u32, now_ms: i64, mark: u32) {
        let (log, ran, base) = (Arc::clone(&self.log), Arc::clone(&self.ran), self.base);
        let then = Box::new(move || ran.lock().unwrap().push((mark, log.latest().0 - base)));
        let outputs = if count == 0 { Vec::new() } else { vec![records(namespace, count)] };
        self.committer.take(outputs, now_ms, vec![then]);
    }

    fn ran(&self) -> Vec<(u32, u64)> {
        std::mem::take(&mut *self.ran.lock().unwrap())
    }

    fn read(&self, namespace: NamespaceId, after: u64) -> Result<Vec<u64>, ReadRejection> {
        let mut after = Cursor(self.base + after);
        let mut all = Vec::new();
        loop {
            let read = self.log.read(namespace, after, 1)?;
            let Some(last) = read.blocks.last() else {
                return Ok(all);
            };
            let cursors = read.blocks.iter().flat_map(|block| block.after(after));
            all.extend(cursors.map(|(cursor, _)| cursor.0 - self.base));
            after = last.last();
        }
    }
}

#[test]
fn with_files_a_block_is_visible_once_it_is_durable_and_then_what_waited_runs() {
    let mut files = Files::open(MemoryDisk::default(), 1, 1 << 20);
    let (waker, _) = futures_waker();
    let mut context = Context::from_waker(&waker);
    let after = files.log.latest();
    files.take(A, 0, 0, 1);
    assert_eq!(files.ran(), [(1, 0)], "nothing to wait for");
    files.take(A, 2, 0, 2);
    files.take(A, 0, 0, 3);
    files.take(B, 1, 0, 4);
    assert!(files.log.backlog_bytes() > 0);
    assert_eq!(files.read(A, 0), Ok(vec![]));
    let mut waiter = files.log.waiter(A);
    assert!(waiter.poll_ready(after, &mut context).is_pending());
    assert_eq!(files.ran(), []);
    files.committer.commit(&mut |_| {}).unwrap();
    assert_eq!(files.ran(), [(2, 3), (3, 3), (4, 3)]);
    assert_eq!(files.log.backlog_bytes(), 0);
    assert!(waiter.poll_ready(after, &mut context).is_ready());
    assert_eq!((files.read(A, 0), files.read(B, 0)), (Ok(vec![1, 2]), Ok(vec![3])));

    files.take(A, 1, 0, 5);
    files.disk.fail_at(1, Failure::Error(std::io::ErrorKind::Other));
    assert_eq!(files.committer.commit(&mut |_| {}).unwrap_err().action, "sync");
    assert!(files.committer.commit(&mut |_| {}).is_err(), "for good");
    assert_eq!(files.ran(), []);
    assert_eq!(files.read(A, 0), Ok(vec![1, 2]));
}

#[test]
fn what_memory_has_let_go_comes_from_the_files_and_so_it_does_after_a_restart() {
    let mut files = Files::open(MemoryDisk::default(), 1, 4 * (BLOCK_BYTES + 51));
    for now_ms in 0..40 {
        files.take(if now_ms % 2 == 0 { A } else { B }, 1, now_ms, 0);
        files.committer.commit(&mut |_| {}).unwrap();
    }
    let odd: Vec<u64> = (1..40).step_by(2).collect();
    assert_eq!(files.read(A, 0), Ok(odd.clone()));
    assert_eq!(files.read(A, 36), Ok(vec![37, 39]), "from memory");
    let latest = Cursor(files.base + 40);
    assert_eq!(files.read(A, 41), Err(ReadRejection::Ahead { latest }));
    let check_times = |files: &Files| {
        for time_ms in -1..41 {
            let cursor = files.log.at_time(A, time_ms).0 - files.base;
            let first = odd.iter().find(|cursor| **cursor as i64 > time_ms);
            assert_eq!(files.read(A, cursor).unwrap().first(), first, "at {time_ms}");
        }
    };
    check_times(&files);

    files.committer.rest().unwrap();
    let mut files = Files::open(files.disk.crash(None), 2, 4 * (BLOCK_BYTES + 51));
    assert_eq!(files.read(A, 0), Ok(odd.clone()));
    check_times(&files);
    let (waker, _) = futures_waker();
    let mut context = Context::from_waker(&waker);
    let at = |after: u64| Cursor((5 << 20) + after);
    let mut waiter = files.log.waiter(A);
    assert!(waiter.poll_ready(at(38), &mut context).is_ready());
    assert!(waiter.poll_ready(at(39), &mut context).is_pending());
    assert_eq!(files.log.earliest(A), Cursor(0), "nothing of it is missing");
    assert_eq!(files.log.appended(), 0, "counted from the start");

    // Everything of before is too old now; and a reader is told.
    files.take(B, 1, 5_000, 0);
    files.committer.commit(&mut |_| {}).unwrap();
    assert_eq!(files.read(A, 0), Err(ReadRejection::Gap { earliest: at(39) }));
    assert_eq!(files.read(A, 39), Ok(vec![]));
    files.log.end(A);
    assert!(files.log.is_ended(A));
    assert_eq!(files.read(A, 40), Ok(vec![]));
    files.take(A, 1, 5_000, 9);
    files.committer.commit(&mut |_| {}).unwrap();
    assert_eq!(files.ran().last(), Some(&(9, 41)), "outputs of what is deleted have no place");
}

#[test]
fn a_damaged_file_is_a_fault_that_names_the_place() {
    let mut files = Files::open(MemoryDisk::default(), 1, 1);
    files.take(A, 1, 0, 0);
    files.committer.commit(&mut |_| {}).unwrap();
    let name = "outputs/0000000001.out";
    files.disk.open(name).unwrap().write_at(4_096 + 80, b"?").unwrap();
    let Err(ReadRejection::Fault(fault)) = files.read(A, 0) else {
        panic!("the damage was not seen");
    };
    assert_eq!((fault.file.as_str(), fault.offset), (name, 4_096));
    assert_eq!(fault.to_string(), format!("{name} at 4096: the checksum does not match"));
}

#[test]
fn a_record_that_no_block_holds_ends_the_log_in_words() {
    let mut files = Files::open(MemoryDisk::default(), 1, 1 << 20);
    let mut writer = OutputWriter::default();
    let payload = vec![b'x'; 9 << 20];
    writer.push(&OutputRecord {
        id: OutputId { namespace: A, lane: 0, position: 1, key_hash: 2, ordinal: 0 },
        key: b"key",
        name: None,
        domain: Domain::Processing,
        fire_at: Timestamp::from_millis(0),
        due_by: Timestamp::from_millis(0),
        payload: Some(crate::op::Payload::Binary(&payload)),
        kind: crate::output::OutputKind::Fire,
    });
    files.committer.take(vec![writer.finish(A, 0)], 0, Vec::new());
    for _ in 0..2 {
        let fault = files.committer.commit(&mut |_| {}).unwrap_err();
        assert!(!fault.is_full(), "{fault}");
        assert!(fault.to_string().contains("9437"), "{fault}");
        files.take(A, 1, 0, 1);
    }
    assert_eq!(files.read(A, 0), Ok(vec![]));
    assert_eq!(files.ran(), []);
}

#[test]
fn what_went_by_retention_leaves_nothing_behind() {
    let world = World::new(1 << 20);
    world.append(B, 1, 0);
    for now_ms in 0..20_000 {
        world.append(A, 1, now_ms * 100);
    }
    assert!(world.log.lock().order.len() <= ORDER_MIN + 1);
    assert_eq!(world.read(B, 0), Ok(vec![1]));
}

struct Quiet;

impl std::task::Wake for Quiet {
    fn wake(self: Arc<Self>) {}
}

fn futures_waker() -> (Waker, Arc<Quiet>) {
    let quiet = Arc::new(Quiet);
    (Waker::from(Arc::clone(&quiet)), quiet)
}

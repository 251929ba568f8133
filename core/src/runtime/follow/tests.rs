//! What a replay emits, on a disk without room for it.

use super::*;
use crate::op::Payload;
use crate::output::{OutputId, OutputKind, OutputRecord, OutputWriter};
use crate::storage::memory_disk::MemoryDisk;
use crate::storage::{OutputFiles, OutputOptions, Segments, SegmentsOptions};
use crate::time::{Domain, Timestamp};
use std::sync::Arc;

const NAMESPACE: NamespaceId = NamespaceId(1);

/// A block with one output of some bytes.
fn block(position: u64, bytes: usize) -> OutputBytes {
    let mut writer = OutputWriter::default();
    let payload = vec![b'x'; bytes];
    writer.push(&OutputRecord {
        id: OutputId { namespace: NAMESPACE, lane: 0, position, key_hash: 2, ordinal: 0 },
        key: b"key",
        name: None,
        domain: Domain::Processing,
        fire_at: Timestamp::from_millis(0),
        due_by: Timestamp::from_millis(0),
        payload: Some(Payload::Binary(&payload)),
        kind: OutputKind::Fire,
    });
    writer.finish(NAMESPACE, 0)
}

#[test]
fn what_waits_for_room_is_bounded_and_written_once_there_is_some() {
    const BYTES: usize = 1 << 20;
    let disk = MemoryDisk::default();
    let mut options = SegmentsOptions::new([1; 16]);
    options.segment_bytes = 4 << 20;
    let segments = Segments::open(Arc::new(disk.clone()), options).expect("it is empty");
    let options = OutputOptions {
        epoch: 1,
        engine_version: 1,
        now_ms: 5_000,
        scan_from: None,
        reached: None,
        bytes_max: u64::MAX,
    };
    let files = OutputFiles::recover(&disk, Arc::new(segments), &options).expect("it is empty");
    let log = Arc::new(OutputLog::over(&files.files, BYTES));
    let mut committer = OutputCommitter::new(Arc::clone(&log), files.files);
    log.admit(NAMESPACE, KEPT);
    let mut emitted = Emitted::new(&mut committer, &log, 20 << 20);
    disk.set_free_bytes(0);
    let mut kept = 0;
    let fault = loop {
        match emitted.keep(block(kept, BYTES), 5_000) {
            Ok(()) => kept += 1,
            Err(fault) => break fault,
        }
        assert!(log.backlog_bytes() <= 20 << 20 && kept < 100);
    };
    assert!(fault.is_full() && fault.to_string().contains("20971520"), "{fault}");
    assert!(kept > 20, "{kept} were kept");
    disk.set_free_bytes(u64::MAX);
    emitted.write(5_000).expect("there is room now");
    assert_eq!(log.backlog_bytes(), 0);
    let read = log.read(NAMESPACE, log.earliest(NAMESPACE), usize::MAX).expect("it can be read");
    assert!(!read.blocks.is_empty());
}

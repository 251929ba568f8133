//! The n-th call fails, for every n: nothing that was said to be durable is lost, whether the
//! process or the power goes next, and nothing panics.

use super::*;
use crate::storage::DiskFault;
use crate::storage::memory_disk::{Failure, Rng};
use std::io::ErrorKind;

/// Two runs, the first one with rolling, cutting and a torn tail, the second one sealed. Returns
/// the last position that is known to be durable, and the one that a replay starts behind.
fn life(disk: &MemoryDisk, said: &mut (u64, u64)) -> Result<(), RecoveryFault> {
    let segments_options =
        SegmentsOptions { segment_bytes: SEGMENT_BYTES_MIN, spares: 1, ..SegmentsOptions::new(ID) };
    for epoch in 1..=2 {
        let recovered = read_with(disk, true)?;
        recovered.check_from(&[said.1, 0, 0, 0]).unwrap();
        let last =
            recovered.lanes[0].last().map_or(said.1, crate::storage::recovery::BlockRef::last);
        assert!(last >= said.0, "{last} of {}", said.0);
        let segments = Arc::new(Segments::open(Arc::new(disk.clone()), segments_options)?);
        let epoch = recovered.highest_epoch.max(epoch - 1) + 1;
        let mut journal = Journal::create(Arc::clone(&segments), options(epoch, 0))?;
        let mut old = recovered.old;
        let mut position = last;
        for turn in 0..8 {
            position += 1;
            journal.append(&block(0, position, 1, 5_000))?;
            journal.write()?;
            if turn % 2 == 1 {
                journal.sync()?;
                said.0 = position;
            }
            segments.prepare()?;
            if turn == 5 {
                said.1 = position - 2;
                old.cut(&[said.1, 0, 0, 0], &segments)?;
                journal.cut(&[said.1, 0, 0, 0])?;
            }
        }
        journal.mark()?;
        journal.append(&block(0, position + 1, 1, 100))?;
        journal.write()?;
        if epoch > 1 {
            journal.seal()?;
            said.0 = position + 1;
        }
    }
    Ok(())
}

#[test]
fn the_nth_call_fails_for_every_n() {
    let disk = MemoryDisk::default();
    life(&disk, &mut (0, 0)).unwrap();
    let calls = disk.calls();
    assert!(calls > 100, "{calls}");
    let failures = [
        Failure::Error(ErrorKind::Other),
        Failure::Error(ErrorKind::StorageFull),
        Failure::Error(ErrorKind::Interrupted),
        Failure::Short,
    ];
    for n in 0..calls {
        for failure in failures {
            let disk = MemoryDisk::default();
            disk.fail_at(n, failure);
            let mut said = (0, 0);
            let outcome = life(&disk, &mut said);
            let is_disk = matches!(outcome, Ok(()) | Err(RecoveryFault::Disk(DiskFault { .. })));
            assert!(is_disk, "call {n}, {failure:?}");
            if matches!(failure, Failure::Short) {
                assert!(outcome.is_ok(), "call {n}");
            }
            let chance = disk.crash(Some(&mut Rng(n)));
            for disk in [disk.kill(), disk.kill().crash(None), chance] {
                let mut said = said;
                life(&disk, &mut said).unwrap_or_else(|fault| panic!("call {n}: {fault}"));
            }
        }
    }
}

#[test]
fn a_segment_that_could_not_be_let_go_is_let_go_later() {
    for spares in [0, 2] {
        for call in 0..4 {
            let disk = MemoryDisk::default();
            let segments = segments_with(&disk, spares, u64::MAX);
            drop(journal(&segments, 1));
            let in_journals = || disk.names().into_iter().find(|name| name.starts_with("journal/"));
            let name = in_journals().expect("a journal has a segment");
            disk.fail_at(call, Failure::Error(ErrorKind::Other));
            let is_failed = segments.retire(&name).is_err();
            if is_failed {
                segments.retire(&name).expect("only one call fails");
            }
            assert_eq!(in_journals(), None);
            assert!(is_failed || call > 0, "the first call is one of them");
        }
    }
}

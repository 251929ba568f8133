//! Replays, full disks, and calls that fail.

use super::*;
use crate::storage::memory_disk::{Failure, Rng};
use std::io::ErrorKind;

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

//! What is kept, how long, and who is told of what went.

use super::*;

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

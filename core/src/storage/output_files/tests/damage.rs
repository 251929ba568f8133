//! What a crash or a flipped bit leaves of the output log.

use super::*;
use crate::log::block::BlockSalt;
use crate::ports::Disk;
use crate::storage::memory_disk::Rng;

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

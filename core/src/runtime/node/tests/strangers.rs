//! What stands in the snapshot store and is none of ours.

use super::*;
use crate::key_group::LaneIndex;
use crate::ports::SnapshotStore;
use crate::snapshot::{EntryKind, ObjectWriter};
use crate::storage::Identity;

/// What others keep in the same place.
const STRANGERS: [&str; 8] = [
    "cat.jpg",
    "imported/sp-20260101T000000Z-0001/objects/0001",
    "manifests/00000001-00000001.old",
    "objects/00000001-00000001-0001.old",
    "objects/1",
    "savepoints/copied/objects/0001",
    "savepoints/readme",
    "savepoints/sp-20260101T000000Z-0001/notes.txt",
];

fn object_of(directory: &[u8; 16]) -> Vec<u8> {
    let mut writer = ObjectWriter::new(directory);
    writer.add(EntryKind::LaneHead { lane: LaneIndex(0), position: 1 }, 0, b"a head");
    writer.finish().bytes
}

#[test]
fn what_others_keep_in_the_store_is_left_alone() {
    let store = Arc::<MemoryStore>::default();
    let unfinished = "savepoints/sp-20260101T000000Z-0001/objects/0001";
    for name in STRANGERS.iter().chain([&unfinished]) {
        store.put(name, vec![7]).expect("it is new");
    }
    let mut world = World::closed(MemoryDisk::default(), Arc::clone(&store), Arc::default(), 2);
    world.open();
    for round in 0..4 {
        world.register(round * 10..round * 10 + 10, 1_000_000);
        world.checkpoint();
        world.crash();
    }
    for name in STRANGERS {
        assert_eq!(store.get(name).ok(), Some(vec![7]), "{name}");
    }
    assert!(store.get(unfinished).is_err(), "what was never finished goes");
    let own = store.list("manifests/").expect("it is in memory");
    assert_eq!(own.len(), 3, "two of its own: {own:?}");
}

#[test]
fn an_object_of_another_directory_is_left_alone() {
    let name = "objects/00000001-00000001-0001";
    let store = Arc::<MemoryStore>::default();
    // Another service was given the same place, and is about to publish its first checkpoint.
    store.put(name, object_of(&[9; 16])).expect("it is new");
    let mut world = World::closed(MemoryDisk::default(), Arc::clone(&store), Arc::default(), 1);
    world.open();
    assert!(store.get(name).is_ok());
    // Its own of a checkpoint that came to nothing goes.
    let identity = Identity::read(&world.disk).expect("it can be read").expect("it is there");
    let own = "objects/00000001-00000001-0002";
    store.put(own, object_of(&identity.directory_id)).expect("it is new");
    world.crash();
    assert!(store.get(name).is_ok());
    assert!(store.get(own).is_err());
}

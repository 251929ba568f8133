//! A recovery whose shards have threads of their own comes to the same as one without.

use super::*;
use crate::ports::SnapshotStore;
use std::collections::BTreeSet;

impl World {
    /// What is there of it, opened once more: timers that wait, and what fired under which id.
    fn opened_again(
        &self,
        store: MemoryStore,
        is_threaded: bool,
        shards: u16,
    ) -> (u64, BTreeSet<(String, String)>, Vec<String>) {
        let clock = Arc::clone(&self.clock);
        let mut it = World::closed(self.disk.crash(None), Arc::new(store), clock, shards);
        it.is_threaded = is_threaded;
        it.open();
        let outputs = it.outputs(None);
        let fired: BTreeSet<_> =
            outputs.iter().map(|(_, key, id)| (key.clone(), id.clone())).collect();
        assert_eq!(fired.len(), outputs.len(), "none twice");
        let healed = it.node().engine().durability().recovered.expect("there are files").healed;
        (it.pending(), fired, healed)
    }

    /// A copy of its store, with a bit of the newest object wrong if asked.
    fn store_copied(&self, is_damaged: bool) -> MemoryStore {
        let copy = MemoryStore::new();
        let names = self.store.list("").expect("it is in memory");
        let newest = names.iter().filter(|name| name.starts_with("objects/")).max();
        for name in &names {
            let mut bytes = self.store.get(name).expect("it is there");
            if is_damaged && Some(name) == newest {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            copy.put(name, bytes).expect("it is new");
        }
        copy
    }
}

#[test]
fn threads_load_and_follow_the_same() {
    let mut world = World::new(3);
    for round in 0..3u32 {
        let keys = round * 1_000..round * 1_000 + 500;
        world.register(keys.clone(), 1_000 * i64::from(round + 1));
        world.register(keys.start + 500..keys.start + 600, 1_000_000);
        world.checkpoint();
        world.register(keys.start + 600..keys.start + 700, 1_000_000);
        // What fires now is followed by the start, and stands in the output log already.
        world.pass(1_000);
        world.settle();
    }
    // Due, written down, and not in the output log yet.
    world.register(10_000..10_400, 3_500);
    world.pass(1_000);
    for part in [0, 1, 2].map(NodePart::Shard) {
        world.node().step(part).expect("it works");
    }
    for part in [0, 1, 2].map(NodePart::Committer) {
        world.node().step(part).expect("it works");
    }
    for is_damaged in [false, true] {
        let expected = world.opened_again(world.store_copied(is_damaged), false, 1);
        assert_eq!((expected.0, expected.1.len()), (600, 1_900));
        assert_eq!(expected.2.is_empty(), !is_damaged, "{:?}", expected.2);
        for shards in 1..=4 {
            let threaded = world.opened_again(world.store_copied(is_damaged), true, shards);
            assert_eq!(threaded, expected, "{shards} shards");
        }
    }
}

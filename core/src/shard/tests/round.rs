//! A round of snapshots, turn by turn.

use super::*;
use std::collections::BTreeSet;

impl World {
    fn touch(&mut self, namespace: NamespaceId, n: u64) {
        let (name, domain, after_ms) = ("timeout", Domain::Processing, 1_000);
        let action = Action::Touch { name, domain, after_ms };
        self.op(namespace, &Op { key: key_of(n).as_bytes(), action });
    }
}

#[test]
fn each_turn_takes_the_head_of_one_lane_and_partitions_come_behind_all_of_them() {
    let mut world = World::new(Pace::default(), 0);
    let namespace = world.create("a", NamespaceConfig::default());
    (0..200).for_each(|n| world.touch(namespace, n));
    world.settle();
    world.outside.parts.clear();
    let request = CheckpointRequest { round: 1, rewrite: Arc::default(), over_ms: 0 };
    world.inbox.push_back(Message::Checkpoint(request));
    let mut positions = Vec::new();
    for lane in 0..3 {
        assert!(world.turn() == Next::Now, "there is more to be written");
        assert_eq!(world.outside.parts.len(), lane + 1);
        let Some(Part::Head { lane: LaneIndex(found), head, .. }) = world.outside.parts.last()
        else {
            panic!("another part: {:?}", world.outside.parts.last());
        };
        assert_eq!((*found as usize, head.namespaces.len()), (lane, 1));
        positions.push(head.position);
        // Work goes on between the heads.
        (0..50).for_each(|n| world.touch(namespace, n));
    }
    world.settle();
    let mut groups = BTreeSet::new();
    for part in &world.outside.parts[3..] {
        match part {
            Part::Partition { group, position, .. } => {
                let head = positions[world.layout.lane_of(*group).0 as usize];
                assert!(*position >= head, "{position} of a lane whose head stands at {head}");
                groups.insert(*group);
            }
            part => assert!(matches!(part, Part::Done { round: 1, .. }), "{part:?}"),
        }
    }
    assert!(matches!(world.outside.parts.last(), Some(Part::Done { .. })));
    assert_eq!(groups.len(), 8, "all key groups were written to");
}

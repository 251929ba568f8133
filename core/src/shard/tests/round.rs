//! A round of snapshots, turn by turn.

use super::*;
use crate::namespace::LateTimers;
use std::collections::BTreeSet;

impl World {
    fn touch(&mut self, namespace: NamespaceId, n: u64) {
        let (name, domain, after_ms) = ("timeout", Domain::Processing, 1_000);
        let action = Action::Touch { name, domain, after_ms };
        self.op(namespace, &Op { key: key_of(n).as_bytes(), action });
    }
}

impl World {
    fn register(&mut self, namespace: NamespaceId, n: u64, domain: Domain, at: i64) {
        let register = Register {
            domain,
            name: None,
            when: When::At(Timestamp::from_millis(at)),
            payload: None,
            resolution_ms: None,
            spread_ms: None,
            only: Only::Always,
        };
        let action = Action::Register(register);
        self.op(namespace, &Op { key: key_of(n).as_bytes(), action });
    }

    /// Begins a round and takes the heads. Partitions wait.
    fn take_heads(&mut self) {
        self.outside.parts.clear();
        let request = CheckpointRequest { round: 1, rewrite: Arc::default(), over_ms: i64::MAX };
        self.inbox.push_back(Message::Checkpoint(request));
        for _ in 0..3 {
            self.turn();
        }
        assert_eq!(self.outside.parts.len(), 3);
    }

    /// Writes the partitions, all of them younger than the heads.
    fn take_partitions(&mut self) {
        self.shard.round.as_mut().expect("it is under way").request.over_ms = 0;
        self.settle();
        assert!(matches!(self.outside.parts.last(), Some(Part::Done { .. })));
    }

    /// Another shard, made of what the round wrote and of the log behind its heads.
    fn load_and_follow(&self) -> (World, Vec<OutputBytes>) {
        let mut other = World::new(Pace::default(), self.now.as_millis());
        let (mut starts, mut as_of, mut outputs) = ([0; 3], AsOf::default(), Vec::new());
        for part in &self.outside.parts {
            match part {
                Part::Head { lane, head, controls } => {
                    starts[lane.0 as usize] = head.position;
                    other.shard.load_head(*lane, head.clone()).expect("it is whole");
                    other.shard.load_controls(*lane, controls.clone());
                }
                Part::Partition { namespace, group, position, bytes, .. } => {
                    let (lane, now) = (self.layout.lane_of(*group), self.now.as_millis());
                    as_of.insert(*namespace, *group, *position);
                    let (shard, id) = (&mut other.shard, *namespace);
                    shard
                        .load_partition(lane, id, *group, *position, now, "it", bytes)
                        .expect("it is whole");
                }
                _ => {}
            }
        }
        for block in &self.outside.blocks {
            let last = block.first_position + u64::from(block.count) - 1;
            if last > starts[block.lane as usize] {
                let followed = other.shard.replay(block, &as_of, &mut |it| outputs.push(it));
                followed.expect("the log can be followed");
            }
        }
        let mut numbers = BTreeMap::new();
        other.shard.add_applied_numbers(&mut numbers);
        let turn = other.shard.recovered(&numbers);
        let mut send = |_, message| other.inbox.push_back(message);
        turn.synced.run(&mut send, &mut |_| {});
        (other, outputs)
    }

    /// Lets this one and one made of the round go the same way, which fires something: they agree.
    fn check_both(mut self, namespace: NamespaceId, mut go: impl FnMut(&mut World)) {
        let (mut other, outputs) = self.load_and_follow();
        let before = all_records(&self.outside.outputs);
        assert!(all_records(&outputs).iter().all(|(id, it)| before.get(id) == Some(it)));
        for world in [&mut self, &mut other] {
            world.outside.outputs.clear();
            go(world);
            world.settle();
        }
        let fired = all_records(&self.outside.outputs);
        assert_eq!(fired.len(), 1);
        assert_eq!(all_records(&other.outside.outputs), fired);
        let pending = |world: &World| -> u64 {
            let lanes = world.shard.lanes.iter();
            let homes = lanes.filter_map(|lane| Some(lane.home(lane.find(namespace)?)));
            homes.map(|home| home.around.timeline.pending()).sum()
        };
        assert_eq!((pending(&self), pending(&other)), (0, 0));
        for world in [&self, &other] {
            assert_eq!(world.shard.near().total(), 0);
        }
    }
}

#[test]
fn an_advance_on_a_clock_that_has_gone_leaves_the_timers_on_the_new_one_alone() {
    for (first, second) in
        [(ClockKind::System, ClockKind::Manual), (ClockKind::Manual, ClockKind::System)]
    {
        let mut world = World::new(Pace::default(), 0);
        let on = |clock| NamespaceConfig { clock, ..NamespaceConfig::default() };
        let namespace = world.create("a", on(first));
        world.register(namespace, 1, Domain::Processing, 1_000);
        world.settle();
        world.take_heads();
        if first == ClockKind::Manual {
            world.clock("a", 5_000);
        } else {
            world.now = Timestamp::from_millis(5_000);
        }
        world.settle();
        assert_eq!(world.outside.outputs.len(), 1);
        world.create("a", on(second));
        world.register(namespace, 1, Domain::Processing, 2_000);
        world.settle();
        world.take_partitions();
        world.check_both(namespace, |world| {
            if second == ClockKind::Manual {
                world.clock("a", 3_000);
            } else {
                world.now = Timestamp::from_millis(6_000);
            }
        });
    }
}

#[test]
fn a_watermark_that_a_partition_has_seen_leaves_what_waits_since_then_alone() {
    let mut world = World::new(Pace::default(), 0);
    let namespace = world.create("a", NamespaceConfig::default());
    world.register(namespace, 1, Domain::Event, 1_000);
    world.settle();
    world.take_heads();
    world.watermark("a", 1_500);
    world.settle();
    assert_eq!(world.outside.outputs.len(), 1);
    let late_timers = LateTimers::NextWatermark;
    world.create("a", NamespaceConfig { late_timers, ..NamespaceConfig::default() });
    world.register(namespace, 1, Domain::Event, 1_200);
    world.settle();
    world.take_partitions();
    world.check_both(namespace, |world| world.watermark("a", 2_000));
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

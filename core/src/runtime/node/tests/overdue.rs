//! What becomes of timers that fell due while the service was down.

use super::*;
use crate::key_group::{LaneIndex, Layout, xxh3_64};
use crate::namespace::{Command, NamespaceConfig, OverduePolicy};
use std::collections::BTreeSet;

const SPREAD: OverduePolicy = OverduePolicy::Spread { over_ms: 10_000 };

impl World {
    fn with_policy(shards: u16, overdue: OverduePolicy) -> Self {
        let mut it = Self::new(shards);
        let config = NamespaceConfig { overdue, ..NamespaceConfig::default() };
        let put = Command::Put { config, expected_version: None };
        let done = Arc::new(Mutex::new(None));
        let mine = Arc::clone(&done);
        let reply = Box::new(move |answer| *mine.lock().unwrap() = Some(answer));
        it.node().engine().command("default", put, false, reply);
        it.settle();
        assert!(done.lock().unwrap().take().is_some_and(|answer| answer.is_ok()));
        it
    }

    /// Everything that was not synced is gone, and so is the service for so long.
    fn down(&mut self, millis: i64) {
        self.node = None;
        self.disk = self.disk.crash(None);
        self.pass(millis);
        self.open();
    }

    /// Lets so much time pass, in steps of 100 ms.
    fn live(&mut self, millis: i64) {
        for _ in 0..millis / 100 {
            self.pass(100);
            self.settle();
        }
    }

    fn fired_count(&mut self) -> usize {
        self.outputs(None).len()
    }

    /// Those that fired so far: each once, under one id.
    fn fired_ids(&mut self) -> BTreeSet<(String, String)> {
        let outputs = self.outputs(None);
        let count = outputs.len();
        let keys: BTreeSet<&String> = outputs.iter().map(|(_, key, _)| key).collect();
        assert_eq!(keys.len(), count, "none twice");
        outputs.into_iter().map(|(_, key, id)| (key, id)).collect()
    }

    /// By policy, and how many fires were late live and because of a restart.
    fn counted(&mut self) -> ([u64; 4], [u64; 2]) {
        let metrics = self.node().engine().metrics();
        let lateness = [metrics.lateness, metrics.restart_lateness];
        let late = lateness.map(|it| it.counts.iter().sum());
        (metrics.overdue_at_restart, late)
    }
}

#[test]
fn fire_lets_all_go_at_once() {
    let mut world = World::with_policy(2, OverduePolicy::Fire);
    world.register(0..500, 1_000);
    world.register(500..600, 9_000);
    world.down(8_000);
    assert_eq!(world.fired_count(), 500);
    assert_eq!(world.counted(), ([500, 0, 0, 0], [0, 500]));
    world.live(1_000);
    check_all_fire_once(&mut world, 600);
    assert_eq!(world.counted(), ([500, 0, 0, 0], [100, 500]));
}

#[test]
fn spread_flattens_what_was_due() {
    for shards in [1, 3] {
        let mut world = World::with_policy(shards, SPREAD);
        world.register(0..2_000, 1_000);
        world.register(2_000..2_100, 12_000);
        world.down(8_000);
        assert_eq!(world.counted().0, [0, 2_000, 0, 0]);
        let mut before = world.fired_count();
        assert!(before < 10, "the first few");
        for second in 1..=10 {
            world.live(1_000);
            let now = world.fired_count();
            let others = if second == 4 { 100 } else { 0 };
            assert!((140..260).contains(&(now - before - others)), "{} in one", now - before);
            before = now;
        }
        check_all_fire_once(&mut world, 2_100);
        assert_eq!(world.counted(), ([0, 2_000, 0, 0], [100, 2_000]));
        world.down(1_000);
        check_all_fire_once(&mut world, 2_100);
        assert_eq!(world.counted().0, [0; 4], "nothing was due this time");
    }
}

#[test]
fn shift_is_as_long_as_the_service_was_down() {
    let mut world = World::with_policy(2, OverduePolicy::Shift);
    world.register(0..10, 1_000);
    world.register(10..20, 2_000);
    world.register(20..30, 3_000);
    world.down(2_500);
    assert_eq!(world.counted().0, [0, 0, 20, 0]);
    assert_eq!((world.fired_count(), world.pending()), (0, 30));
    for (wait_ms, fired) in [(499, 0), (1, 10), (499, 10), (1, 20), (999, 20), (1, 30)] {
        world.pass(wait_ms);
        world.settle();
        assert_eq!(world.fired_count(), fired);
    }
    check_all_fire_once(&mut world, 30);
}

#[test]
fn drop_counts_and_never_fires() {
    let mut world = World::with_policy(2, OverduePolicy::Drop);
    world.register(0..300, 1_000);
    world.register(300..310, 9_000);
    world.down(8_000);
    assert_eq!((world.fired_count(), world.pending()), (0, 10));
    assert_eq!(world.counted(), ([0, 0, 0, 300], [0, 0]));
    world.down(0);
    assert_eq!((world.fired_count(), world.pending()), (0, 10));
    world.checkpoint();
    world.down(500);
    world.live(1_000);
    assert_eq!((world.fired_count(), world.pending()), (10, 0));
    assert_eq!(world.counted().0, [0; 4], "each is counted once");
}

#[test]
fn a_crash_or_a_checkpoint_amid_a_spread_changes_nothing() {
    let mut worlds: Vec<World> = (0..4).map(|_| World::with_policy(2, SPREAD)).collect();
    for (n, world) in worlds.iter_mut().enumerate() {
        world.register(0..400, 1_000);
        if n >= 2 {
            world.checkpoint();
        }
        world.down(8_000);
    }
    for second in 0..10 {
        let expected = worlds[0].fired_ids();
        for world in &mut worlds[1..] {
            assert_eq!(world.fired_ids(), expected, "after {second} s");
        }
        if second == 3 || second == 6 {
            worlds[1].down(0);
            worlds[2].checkpoint();
            worlds[3].checkpoint();
            worlds[3].shards = 5 - worlds[3].shards;
            worlds[3].down(0);
        }
        for world in &mut worlds {
            world.live(1_000);
        }
    }
    for world in &mut worlds {
        check_all_fire_once(world, 400);
    }
}

#[test]
fn a_second_downtime_amid_a_spread_holds_back_what_was_due_in_it() {
    let mut world = World::with_policy(2, SPREAD);
    world.register(0..1_000, 1_000);
    world.down(8_000);
    world.live(5_000);
    let first = world.fired_count();
    assert!((400..600).contains(&first), "{first} in the first half");
    world.down(2_000);
    let left = world.fired_count() - first;
    assert!(left < 20, "{left} at once");
    let again = world.counted().0[1];
    assert!((140..260).contains(&again), "{again} were due in it");
    world.live(3_000);
    let then = world.fired_count() - first;
    assert!((220..380).contains(&then), "{then} go when they were to go before");
    world.live(7_000);
    check_all_fire_once(&mut world, 1_000);
}

#[test]
fn a_second_downtime_shifts_what_was_due_in_it_once_more() {
    let mut world = World::with_policy(1, OverduePolicy::Shift);
    world.register(0..10, 2_000);
    world.down(3_600_000);
    world.register(10..20, 3_700_000);
    world.down(1_500);
    assert_eq!((world.fired_count(), world.counted().0), (0, [0; 4]), "nothing was due in it");
    world.down(1_000);
    assert_eq!((world.fired_count(), world.counted().0), (0, [0, 0, 10, 0]));
    world.pass(499);
    world.settle();
    assert_eq!(world.fired_count(), 0);
    world.pass(1);
    world.settle();
    assert_eq!(world.fired_count(), 10);
    world.pass(97_000);
    world.settle();
    check_all_fire_once(&mut world, 20);
}

/// The first key on a lane.
fn key_on(lane: u16) -> u32 {
    let layout = Layout::new(8, 4, 1).expect("it is one");
    let lane_of = |n: &u32| layout.lane_of(layout.group_of(xxh3_64(format!("key {n}").as_bytes())));
    (0..1_000).find(|n| lane_of(n) == LaneIndex(lane)).expect("each lane has keys")
}

#[test]
fn what_is_held_on_one_lane_only_is_held_in_a_restored_directory_too() {
    for (first, second) in [(0, 3), (3, 0)] {
        let mut world = World::with_policy(2, OverduePolicy::Shift);
        let (first, second) = (key_on(first), key_on(second));
        world.register(first..first + 1, 2_000);
        world.down(3_600_000);
        world.register(second..second + 1, 3_600_500);
        world.down(1_000);
        let info = world.savepoint(&[]);
        let (mut new, _) = world.restored(&info.id, (16, 2), 1);
        for (wait_ms, fired) in [(0, 0), (499, 0), (1, 1), (499, 1), (1, 2)] {
            new.pass(wait_ms);
            new.settle();
            assert_eq!(new.fired_count(), fired);
        }
    }
}

#[test]
fn a_crash_before_every_lane_has_decided_shortens_no_shift() {
    // With all journals saying that the service is up, or none but the one that decides.
    for are_stamped in [false, true] {
        let mut world = World::with_policy(2, OverduePolicy::Shift);
        let (first, second) = (key_on(0), key_on(3));
        world.register(first..first + 1, 2_000);
        world.register(second..second + 1, 2_000);
        world.node = None;
        world.disk = world.disk.crash(None);
        world.pass(3_600_000);
        world.open_parts();
        if are_stamped {
            for committer in [NodePart::Committer(0), NodePart::Committer(1)] {
                world.node().step(committer).expect("the disk works");
            }
        }
        // One of the shards decides what becomes of its timers, and writes it down.
        for _ in 0..3 {
            for part in [NodePart::Shard(0), NodePart::Committer(0)] {
                world.node().step(part).expect("the disk works");
            }
        }
        world.down(5_000);
        // For one of them it were two downtimes, one behind the other, for the other one all the same.
        for (wait_ms, fired) in [(0, 0), (1_999, 0), (1, 2)] {
            world.pass(wait_ms);
            world.settle();
            assert_eq!(world.fired_count(), fired, "after {wait_ms} ms more");
        }
    }
}

#[test]
fn a_savepoint_asked_for_before_a_lane_has_decided_shortens_no_shift() {
    let mut world = World::with_policy(2, OverduePolicy::Shift);
    world.register(0..20, 2_000);
    world.node = None;
    world.disk = world.disk.crash(None);
    world.pass(3_600_000);
    world.open_parts();
    let info = world.savepoint(&[]);
    let (mut new, _) = world.restored(&info.id, (16, 2), 1);
    for (wait_ms, fired) in [(0, 0), (1_999, 0), (1, 20)] {
        new.pass(wait_ms);
        new.settle();
        assert_eq!(new.fired_count(), fired, "after {wait_ms} ms more");
    }
}

//! Restarts as a key sees them: what a held timer keeps waiting, and what lets that go.

use super::*;

const OVER_MS: i64 = 1_000_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn put(world: &mut World, namespace: NamespaceId, key: &str, name: &str, time: i64) {
    let register = Register {
        domain: Domain::Processing,
        name: Some(name),
        when: When::At(at(time)),
        payload: None,
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    };
    world.op(namespace, &Op { key: key.as_bytes(), action: Action::Register(register) });
    world.settle();
}

fn delete(world: &mut World, namespace: NamespaceId, key: &str, name: &str) {
    let (domain, target) = (Domain::Processing, Target::Name(name));
    world.op(namespace, &Op { key: key.as_bytes(), action: Action::Delete { domain, target } });
    world.settle();
}

/// What fired of a key, in its order.
fn fired(world: &World, namespace: NamespaceId, key: &str) -> Vec<String> {
    let fires = world.fires(namespace).remove(key.as_bytes()).unwrap_or_default();
    fires.into_iter().map(|fire| fire.4.unwrap_or_default()).collect()
}

fn shown(world: &World, namespace: NamespaceId, key: &str) -> Vec<String> {
    let group = world.layout.group_of(xxh3_64(key.as_bytes()));
    let lane = world.shard.lane(world.layout.lane_of(group));
    let home = lane.home(lane.find(namespace).expect("it is there"));
    let pools = &world.shard.shared.pools;
    let timers = home.key_timers(pools, group, key.as_bytes());
    let names: Vec<String> = timers.into_iter().filter_map(|timer| timer.name).collect();
    for name in ["a", "b", "c"] {
        let one = home.key_timer(pools, group, key.as_bytes(), Domain::Processing, name);
        assert_eq!(one.is_some(), names.iter().any(|it| it == name));
    }
    names
}

/// `k` has a held timer `a`, and `b` behind it, whose time has passed since: others of its lane have
/// fired.
fn held() -> (World, NamespaceId) {
    let mut world = World::new(Pace::default(), 1_000);
    let overdue = OverduePolicy::Spread { over_ms: OVER_MS };
    let config = NamespaceConfig { overdue, ..NamespaceConfig::default() };
    let namespace = world.create("n", config);
    put(&mut world, namespace, "k", "a", 1_100);
    put(&mut world, namespace, "k", "b", 2_100);
    for n in 0..30 {
        put(&mut world, namespace, &format!("{n}"), "x", 2_200);
    }
    world.restart(1_000);
    world.settle();
    assert_eq!(world.shard.stats().overdue_at_restart, [0, 1, 0, 0]);
    world.now = at(2_300);
    world.settle();
    for n in 0..30 {
        assert_eq!(fired(&world, namespace, &format!("{n}")), ["x"]);
    }
    assert_eq!(fired(&world, namespace, "k"), [""; 0]);
    assert_eq!(shown(&world, namespace, "k"), ["a", "b"]);
    (world, namespace)
}

#[test]
fn what_waits_behind_a_held_timer_goes_with_it() {
    let (mut world, namespace) = held();
    world.now = at(2_000 + OVER_MS);
    world.settle();
    assert_eq!(fired(&world, namespace, "k"), ["a", "b"]);
    world.check_replay(&[namespace], 0);
}

#[test]
fn what_waits_behind_a_held_timer_goes_when_that_is_cancelled() {
    let (mut world, namespace) = held();
    delete(&mut world, namespace, "k", "a");
    assert_eq!(fired(&world, namespace, "k"), ["b"]);
    world.check_replay(&[namespace], 0);
    assert_eq!(world.shard.stats().keys, 0);
}

#[test]
fn what_waits_behind_a_held_timer_goes_when_that_is_moved() {
    let (mut world, namespace) = held();
    put(&mut world, namespace, "k", "a", 2_400);
    assert_eq!(fired(&world, namespace, "k"), ["b"]);
    world.now = at(2_400);
    world.settle();
    assert_eq!(fired(&world, namespace, "k"), ["b", "a"]);
    world.check_replay(&[namespace], 0);
}

#[test]
fn what_has_passed_fires_at_once_unless_an_earlier_one_is_held() {
    let (mut world, namespace) = held();
    put(&mut world, namespace, "k", "c", 1_050);
    assert_eq!(fired(&world, namespace, "k"), ["c"], "nothing goes before it");
    put(&mut world, namespace, "k", "c", 1_500);
    assert_eq!(shown(&world, namespace, "k"), ["a", "c", "b"]);
    delete(&mut world, namespace, "k", "a");
    assert_eq!(shown(&world, namespace, "k"), ["c", "b"], "it is held as the one before it");
    put(&mut world, namespace, "another", "c", 1_500);
    assert_eq!(fired(&world, namespace, "another"), ["c"]);
    world.now = at(2_000 + OVER_MS);
    world.settle();
    assert_eq!(fired(&world, namespace, "k"), ["c", "c", "b"]);
    world.check_replay(&[namespace], 0);
}

#[test]
fn a_second_return_that_finds_nothing_due_leaves_what_waits_as_it_was() {
    let (mut world, namespace) = held();
    put(&mut world, namespace, "k", "c", 2_250);
    world.restart(1_000);
    world.settle();
    assert_eq!(world.shard.stats().overdue_at_restart, [0; 4]);
    assert_eq!(shown(&world, namespace, "k"), ["a", "b", "c"]);
    delete(&mut world, namespace, "k", "a");
    assert_eq!(fired(&world, namespace, "k"), ["b", "c"], "what is gone was all they waited for");
    world.check_replay(&[namespace], 0);
}

#[test]
fn a_second_return_that_finds_others_due_may_hold_what_waits() {
    let (mut world, namespace) = held();
    for n in 0..30 {
        put(&mut world, namespace, &format!("{n}"), "x", 2_400);
    }
    world.restart(1_000);
    world.settle();
    assert_eq!(world.shard.stats().overdue_at_restart, [0, 30, 0, 0]);
    delete(&mut world, namespace, "k", "a");
    assert_eq!(shown(&world, namespace, "k"), ["b"], "it has a place among those");
    world.now = at(3_300 + OVER_MS);
    world.settle();
    assert_eq!(fired(&world, namespace, "k"), ["b"]);
    world.check_replay(&[namespace], 0);
}

#[test]
fn a_downtime_of_years_is_held_back_like_any_other() {
    let year_ms = 366 * 86_400_000;
    let mut world = World::new(Pace::default(), 1_000);
    let overdue = OverduePolicy::Shift;
    let config = NamespaceConfig { overdue, ..NamespaceConfig::default() };
    let namespace = world.create("n", config);
    for n in 0..100 {
        put(&mut world, namespace, &key_of(n), "a", 1_100);
    }
    world.restart(20 * year_ms);
    world.settle();
    assert_eq!(world.shard.stats().overdue_at_restart, [0, 0, 100, 0]);
    delete(&mut world, namespace, &key_of(3), "a");
    world.now = at(1_100 + 20 * year_ms - 1);
    world.settle();
    assert!(world.fires(namespace).is_empty());
    world.now = at(1_100 + 20 * year_ms);
    world.settle();
    assert_eq!(world.fires(namespace).len(), 99);
    world.check_replay(&[namespace], 100);
}

//! Pauses: nothing fires, and what fell due follows the policy afterwards.

use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn put(world: &mut World, namespace: NamespaceId, domain: Domain, key: &str, time: i64) {
    let register = Register {
        domain,
        name: None,
        when: When::At(at(time)),
        payload: None,
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    };
    world.op(namespace, &Op { key: key.as_bytes(), action: Action::Register(register) });
    world.settle();
}

/// The times that have fired, and of which domain, in no order of keys.
fn fired(world: &World, namespace: NamespaceId) -> Vec<(Domain, i64)> {
    let fires = world.fires(namespace).into_values().flatten();
    let mut fired: Vec<_> = fires.map(|fire| (fire.2, fire.3.as_millis())).collect();
    fired.sort_unstable();
    fired
}

/// A namespace on the machine's clock, paused at 1,000, with a timer of 1,100 and one of 1,300 that
/// came in meanwhile; it is 2,000 now.
fn paused(overdue: OverduePolicy) -> (World, NamespaceId) {
    let mut world = World::new(Pace::default(), 1_000);
    let namespace = world.create("n", NamespaceConfig { overdue, ..NamespaceConfig::default() });
    put(&mut world, namespace, Domain::Processing, "a", 1_100);
    world.command("n", Command::Pause);
    world.settle();
    world.now = at(1_200);
    world.settle();
    put(&mut world, namespace, Domain::Processing, "b", 1_300);
    world.now = at(2_000);
    world.settle();
    assert_eq!(fired(&world, namespace), []);
    (world, namespace)
}

fn resume(world: &mut World) {
    world.command("n", Command::Resume);
    world.settle();
}

#[test]
fn what_fell_due_in_a_pause_fires_when_it_is_over() {
    let (mut world, namespace) = paused(OverduePolicy::Fire);
    world.check_replay(&[namespace], 0);
    resume(&mut world);
    let processing = |time| (Domain::Processing, time);
    assert_eq!(fired(&world, namespace), [processing(1_100), processing(1_300)]);
    put(&mut world, namespace, Domain::Processing, "c", 2_100);
    world.now = at(2_100);
    world.settle();
    assert_eq!(fired(&world, namespace).len(), 3, "it goes on");
    world.check_replay(&[namespace], 0);
}

#[test]
fn what_fell_due_in_a_pause_follows_the_policy() {
    let (mut world, namespace) = paused(OverduePolicy::Drop);
    resume(&mut world);
    assert_eq!(world.shard.stats().overdue_at_restart, [0, 0, 0, 2]);
    assert_eq!((fired(&world, namespace), world.shard.stats().keys), (vec![], 0));
    world.check_replay(&[namespace], 0);

    let (mut world, namespace) = paused(OverduePolicy::Shift);
    resume(&mut world);
    world.now = at(2_099);
    world.settle();
    assert_eq!(fired(&world, namespace), []);
    world.now = at(2_100);
    world.settle();
    assert_eq!(fired(&world, namespace), [(Domain::Processing, 1_100)]);
    world.check_replay(&[namespace], 0);
}

#[test]
fn a_pause_outlives_a_restart_and_takes_the_downtime_in() {
    let (mut world, namespace) = paused(OverduePolicy::Shift);
    world.restart(3_000);
    world.settle();
    assert_eq!((fired(&world, namespace), world.now), (vec![], at(5_000)));
    resume(&mut world);
    world.now = at(5_099);
    world.settle();
    assert_eq!(fired(&world, namespace), []);
    world.now = at(5_100);
    world.settle();
    assert_eq!(fired(&world, namespace), [(Domain::Processing, 1_100)]);
    world.check_replay(&[namespace], 0);
}

#[test]
fn watermarks_and_a_manual_clock_are_kept_for_the_resume() {
    let mut world = World::new(Pace::default(), 1_000);
    let config = NamespaceConfig { clock: ClockKind::Manual, ..NamespaceConfig::default() };
    let namespace = world.create("n", config);
    world.clock("n", 10);
    put(&mut world, namespace, Domain::Processing, "a", 15);
    put(&mut world, namespace, Domain::Event, "a", 15);
    world.command("n", Command::Pause);
    world.clock("n", 20);
    world.watermark("n", 30);
    world.settle();
    put(&mut world, namespace, Domain::Processing, "b", 18);
    world.restart(0);
    world.settle();
    assert_eq!(fired(&world, namespace), []);
    resume(&mut world);
    let expected = [(Domain::Event, 15), (Domain::Processing, 15), (Domain::Processing, 18)];
    assert_eq!(fired(&world, namespace), expected);
    world.clock("n", 21);
    world.settle();
    world.check_replay(&[namespace], 0);
}

#[test]
fn a_downtime_that_begins_before_a_lane_has_heard_of_a_resume_follows_the_policy_too() {
    let (mut world, namespace) = paused(OverduePolicy::Drop);
    put(&mut world, namespace, Domain::Processing, "c", 2_500);
    put(&mut world, namespace, Domain::Processing, "d", 3_500);
    world.command("n", Command::Resume);
    world.turn();
    assert!(!world.inbox.is_empty(), "no lane has heard of it");
    world.restart(1_000);
    world.settle();
    assert_eq!(world.shard.stats().overdue_at_restart, [0, 0, 0, 3]);
    assert_eq!((fired(&world, namespace), world.now), (vec![], at(3_000)));
    world.now = at(3_500);
    world.settle();
    assert_eq!(fired(&world, namespace), [(Domain::Processing, 3_500)]);
    world.check_replay(&[namespace], 0);
}

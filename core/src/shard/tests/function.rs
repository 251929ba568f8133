//! A function through slices of every size, restarts with every policy, and elements in the middle of
//! storms: whoever follows the log comes to the same states, timers and outputs.

use super::*;
use crate::namespace::{ErrorPolicy, OnError};
use crate::op::{Element, ResultKind};

fn config(clock: ClockKind, overdue: OverduePolicy, late_timers: LateTimers) -> NamespaceConfig {
    let operator = "busy".to_owned();
    // What fails fails again, later where there is a clock: and comes to the same.
    let on_error = OnError { retry: 2, backoff_ms: 40, then: ErrorPolicy::Skip };
    let plain = NamespaceConfig::default();
    NamespaceConfig { operator, clock, late_timers, on_error, overdue, ..plain }
}

fn any_element(dice: &mut Dice, world: &mut World, namespace: NamespaceId, around: i64, keys: u64) {
    let mut steps = Vec::new();
    for _ in 0..dice.below(5) {
        let near = around.saturating_add(dice.below(400) as i64 - 200);
        steps.push(match dice.below(16) {
            step @ 0..6 => (step, near),
            6..9 => (0, near),
            9 if dice.one_in(4) => (6, 0),
            10 => (8, 0),
            11 => (9, near),
            12 if dice.one_in(3) => (10, near),
            _ => (7, dice.below(9) as i64),
        });
    }
    let value = serde_json::to_vec(&steps).expect("plain data");
    let timestamp = Timestamp::from_millis(around.saturating_add(dice.below(50) as i64 - 10));
    let element = Element { timestamp, input: 0, value: Payload::Json(&value) };
    let key = key_of(dice.below(keys));
    world.op(namespace, &Op { key: key.as_bytes(), action: Action::Element(element) });
}

/// Lets time pass until nothing has to be called again.
fn try_again(world: &mut World) {
    world.settle();
    while world.shard.next_retry().is_some() {
        world.now = world.now.saturating_add(40);
        world.settle();
    }
}

fn play(seed: u64) -> u64 {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut dice = Dice(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let budget = [1, 2, 3, 7, 40, 1_000][dice.below(6) as usize];
    let (ops, messages) = (1 + dice.below(9) as u32, 1 + dice.below(9) as u32);
    let pace = Pace { ops, messages, budget, ..Pace::default() };
    let mut world = World::new(pace, 1_000_000);
    let overdue = any_policy(&mut dice);
    let late_timers = [LateTimers::Fire, LateTimers::NextWatermark][seed as usize % 2];
    let namespaces = [
        world.create("m", config(ClockKind::Manual, OverduePolicy::Fire, late_timers)),
        world.create("s", config(ClockKind::System, overdue, late_timers)),
    ];
    let (mut clock, mut watermark) = (1_000, 1_000_000);
    let keys = 1 + dice.below(60);
    for _ in 0..1_000 {
        match dice.below(40) {
            0 => {
                clock += dice.below(500) as i64;
                world.clock("m", clock);
            }
            1 => {
                watermark += dice.below(500) as i64;
                world.watermark(["m", "s"][dice.below(2) as usize], watermark);
            }
            2..5 => world.now = world.now.saturating_add(dice.below(300) as i64),
            5 if dice.one_in(8) => {
                world.restart([0, 50, 500, 5_000][dice.below(4) as usize]);
                let overdue = any_policy(&mut dice);
                let config = config(ClockKind::System, overdue, late_timers);
                world.command("s", Command::Put { config, expected_version: None });
            }
            5..20 => {
                world.turn();
            }
            _ => {
                let place = dice.below(2) as usize;
                let now = if place == 0 { clock } else { world.now.as_millis() };
                let around = if dice.one_in(2) { now } else { watermark };
                any_element(&mut dice, &mut world, namespaces[place], around, keys);
            }
        }
    }
    for name in ["m", "s"] {
        let timers = ProcessingTimers::ALL[dice.below(3) as usize];
        world.command(name, Command::Close(timers));
    }
    for _ in 0..dice.below(20) {
        world.turn();
    }
    if dice.one_in(2) {
        world.restart(50);
    }
    try_again(&mut world);
    world.check_replay(&namespaces, keys);
    for name in ["m", "s"] {
        world.command(name, Command::Close(ProcessingTimers::Drain));
    }
    try_again(&mut world);
    world.check_replay(&namespaces, keys);
    assert_eq!(world.shard.stats().pending, [0, 0]);
    assert_eq!(world.outside.registry.finished.lock().unwrap().len(), 2);
    let results = world.outcomes.lock().unwrap();
    let processed = results.iter().filter(|(_, outcome)| {
        outcome.as_ref().is_ok_and(|applied| applied.result == ResultKind::Processed)
    });
    assert!(processed.count() > 50);
    world.shard.stats().fired.iter().sum()
}

#[test]
fn a_function_that_is_followed_comes_to_the_same() {
    let mut fired = 0;
    for seed in 0..100 {
        let game = std::panic::catch_unwind(|| play(seed));
        fired += game.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(fired > 5_000, "timers have fired: {fired}");
}

/// An element of `Busy`.
fn element(world: &mut World, namespace: NamespaceId, key: &str, steps: &str) {
    let value = Payload::Json(steps.as_bytes());
    let element = Element { timestamp: Timestamp::from_millis(1), input: 0, value };
    world.op(namespace, &Op { key: key.as_bytes(), action: Action::Element(element) });
    world.settle();
}

fn results(world: &World) -> Vec<Result<ResultKind, Rejection>> {
    let mut outcomes = world.outcomes.lock().unwrap();
    outcomes.drain(..).map(|(_, outcome)| outcome.map(|applied| applied.result)).collect()
}

fn later(world: &mut World, millis: i64) {
    world.now = world.now.saturating_add(millis);
    world.settle();
}

fn impatient(then: ErrorPolicy) -> NamespaceConfig {
    let on_error = OnError { retry: 2, backoff_ms: 100, then };
    NamespaceConfig { on_error, ..config(ClockKind::System, OverduePolicy::Fire, LateTimers::Fire) }
}

#[test]
fn what_is_called_again_later_lets_its_partition_wait_and_nobody_else() {
    let mut world = World::new(Pace::default(), 1_000_000);
    let id = world.create("s", impatient(ErrorPolicy::Skip));
    let group = |key: &str| Layout::new(8, 3, 1).unwrap().group_of(xxh3_64(key.as_bytes()));
    let names: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    let beside = names.iter().find(|key| group(key) == group("bad")).unwrap();
    let other = names.iter().find(|key| group(key) != group("bad")).unwrap();
    let next = |world: &mut World| world.turn();
    element(&mut world, id, "bad", "[[10,1]]");
    element(&mut world, id, beside, "[[7,1]]");
    element(&mut world, id, other, "[[7,2]]");
    assert_eq!(results(&world), [Ok(ResultKind::Processed)], "that of the other one");
    assert_eq!(next(&mut world), Next::At(world.now + 100), "nobody is kept busy by it");
    assert_eq!(world.shard.stats().retries, 1);
    later(&mut world, 99);
    assert_eq!((results(&world), world.shard.stats().retries), (vec![], 1));
    later(&mut world, 1);
    assert_eq!((results(&world), world.shard.stats().retries), (vec![], 2));
    // What comes last waits behind what came first.
    element(&mut world, id, "bad", "[[7,5]]");
    later(&mut world, 100);
    let expected = [ResultKind::Failed, ResultKind::Processed, ResultKind::Processed].map(Ok);
    assert_eq!(results(&world), expected);
    assert_eq!((world.shard.next_retry(), next(&mut world)), (None, Next::Never));
    world.check_replay(&[id], 0);
}

#[test]
fn an_advance_waits_for_the_timers_that_are_called_again_later() {
    let mut world = World::new(Pace::default(), 1_000_000);
    let id = world.create("s", impatient(ErrorPolicy::Skip));
    // At a time that leaves 6, `Busy` fails with an even sum.
    for (key, time) in [("a", 13), ("b", 9), ("c", 20)] {
        element(&mut world, id, key, &format!("[[7,1],[0,{time}],[0,{}]]", time + 7));
    }
    let _ = results(&world);
    world.watermark("s", 30);
    world.settle();
    let emitted = |world: &World| world.outside.outputs.iter().map(|it| it.iter().count()).sum();
    let first: usize = emitted(&world);
    assert_eq!(first, 2, "those of `b`");
    assert!(world.shard.lanes.iter().any(Lane::is_draining));
    world.watermark("s", 31);
    element(&mut world, id, "a", "[[7,1]]");
    assert_eq!(results(&world), [], "it waits for the timers of its key");
    later(&mut world, 100);
    assert_eq!(emitted(&world), first);
    for _ in 0..4 {
        later(&mut world, 100);
    }
    assert!(!world.shard.lanes.iter().any(Lane::is_draining));
    assert_eq!(results(&world), [Ok(ResultKind::Late)], "it comes behind the watermark");
    assert_eq!(world.shard.stats().timers_failed, 4);
    world.check_replay(&[id], 0);
}

#[test]
fn a_namespace_that_has_stopped_waits_for_nobody_and_its_lanes_know_it_after_a_restart() {
    let mut world = World::new(Pace::default(), 1_000_000);
    let id = world.create("s", impatient(ErrorPolicy::Stop));
    element(&mut world, id, "bad", "[[10,1]]");
    element(&mut world, id, "bad", "[[7,1]]");
    later(&mut world, 100);
    assert_eq!(results(&world), []);
    later(&mut world, 100);
    let refused =
        |outcome: &Result<_, _>| matches!(outcome, Err(Rejection::NamespaceStopped { .. }));
    let both = results(&world);
    assert!(both.len() == 2 && both.iter().all(refused), "{both:?}");
    assert_eq!((world.shard.stats().stopped, world.shard.next_retry()), (1, None));
    let records = |world: &World| world.outside.blocks.len();
    let before = records(&world);
    for key in 0..20 {
        element(&mut world, id, &key_of(key), "[[7,1]]");
    }
    assert!(results(&world).iter().all(refused));
    assert_eq!(records(&world), before, "nothing of it is written down");
    world.check_replay(&[id], 20);
    world.restart(50);
    world.settle();
    assert_eq!(world.shard.stats().stopped, 1);
    element(&mut world, id, "good", "[[7,1]]");
    assert!(results(&world).iter().all(refused));
    world.command("s", Command::Resume);
    world.settle();
    assert_eq!(world.shard.stats().stopped, 0);
    element(&mut world, id, "good", "[[7,1]]");
    assert_eq!(results(&world), [Ok(ResultKind::Processed)]);
    world.check_replay(&[id], 20);
}

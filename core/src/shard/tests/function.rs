//! A function through slices of every size, restarts with every policy, and elements in the middle of
//! storms: whoever follows the log comes to the same states, timers and outputs.

use super::*;
use crate::op::{Element, ResultKind};

fn config(clock: ClockKind, overdue: OverduePolicy, late_timers: LateTimers) -> NamespaceConfig {
    let operator = "busy".to_owned();
    NamespaceConfig { operator, clock, late_timers, overdue, ..NamespaceConfig::default() }
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
    world.settle();
    world.check_replay(&namespaces, keys);
    for name in ["m", "s"] {
        world.command(name, Command::Close(ProcessingTimers::Drain));
    }
    world.settle();
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

//! What becomes of operations that a producer sends again, some of which were refused.

use super::*;

/// Sends one request: of each key so many timers, each at a time of its own. Says what each came to;
/// `None`: it was refused.
fn send(world: &mut World, sequence: u64, timers: &[(&str, i64)]) -> Vec<Option<ResultKind>> {
    let engine = world.node().engine().clone();
    let namespace = engine.namespace("default").expect("it is always there");
    let mut batch = engine.batch(&namespace);
    batch.producer("meter-7", sequence);
    for (key, at) in timers {
        let register = Register {
            domain: Domain::Processing,
            name: None,
            when: When::At(Timestamp::from_millis(START_MS + at)),
            payload: None,
            resolution_ms: None,
            spread_ms: None,
            only: Only::Always,
        };
        let op = Op { key: key.as_bytes(), action: Action::Register(register) };
        batch.push(&op).expect("it is well-formed");
    }
    let answer = Arc::new(Mutex::new(Vec::new()));
    let mine = Arc::clone(&answer);
    engine.submit(batch, Box::new(move |outcomes: Vec<Outcome>| *mine.lock().unwrap() = outcomes));
    world.settle();
    let outcomes = answer.lock().unwrap();
    outcomes.iter().map(|it| it.as_ref().ok().map(|it| it.result)).collect()
}

#[test]
fn what_was_refused_is_tried_again_until_something_behind_it_was_taken() {
    use ResultKind::{Created, Repeated};
    let mut world = World::new(1);
    // One key group, so that both keys are at home in one partition.
    world.layout = (1, 1);
    (world.disk, world.store) = (MemoryDisk::default(), Arc::default());
    world.open();
    let mut config = NamespaceConfig::default();
    config.limits.timers_per_key = 1;
    let put = Command::Put { config, expected_version: None };
    world.node().engine().command("default", put, true, Box::new(|it| assert!(it.is_ok())));
    world.settle();
    assert_eq!(send(&mut world, 1, &[("full", 1_000)]), [Some(Created)]);
    for _ in 0..2 {
        assert_eq!(send(&mut world, 2, &[("full", 2_000)]), [None], "it is tried again");
    }
    let both = [("full", 2_000), ("free", 2_000)];
    assert_eq!(send(&mut world, 3, &both), [None, Some(Created)]);
    world.pass(1_000);
    world.settle();
    for is_checkpointed in [false, true] {
        assert_eq!(send(&mut world, 3, &both), [Some(Repeated); 2], "it was dealt with");
        assert_eq!(world.pending(), 1);
        if is_checkpointed {
            world.checkpoint();
        }
        world.crash();
    }
    assert_eq!(send(&mut world, 4, &both[..1]), [Some(Created)], "there is room by now");
}

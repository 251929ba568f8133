//! Cursors over restarts: what they can be read from, and what is told of the others.

use super::*;
use crate::runtime::ReadRejection;

#[test]
fn a_cursor_from_before_the_first_output_holds_over_restarts() {
    for is_checkpointed in [false, true] {
        let mut world = World::new(2);
        let engine = world.node().engine().clone();
        let id = engine.namespace("default").expect("it is always there").id;
        let cursors = [engine.outputs().earliest(id), engine.outputs().latest()];
        drop(engine);
        if is_checkpointed {
            world.checkpoint();
        }
        for round in 0..3 {
            world.pass(5_000);
            world.crash();
            let engine = world.node().engine().clone();
            for cursor in cursors {
                let read = engine.outputs().read(id, cursor, 1 << 20);
                let count = read.expect("nothing went").blocks.len();
                assert_eq!(count > 0, round == 2, "{cursor:?} in round {round}");
            }
            if round == 1 {
                world.register(0..3, 12_000);
            }
        }
    }
}

#[test]
fn a_cursor_of_before_a_savepoint_is_of_another_log_in_what_was_restored_of_it() {
    let mut world = World::new(1);
    world.register(0..3, 5);
    world.pass(5);
    world.settle();
    let old = world.outputs(None);
    let info = world.savepoint(&[]);
    let (mut new, told) = world.restored(&info.id, (8, 4), 1);
    assert_eq!(told.outputs, 3);
    let engine = new.node().engine().clone();
    let id = engine.namespace("default").expect("it is always there").id;
    for (cursor, ..) in &old {
        let read = engine.outputs().read(id, *cursor, 1 << 20);
        assert!(matches!(read, Err(ReadRejection::Foreign { born }) if born > old[2].0));
    }
    assert_eq!(new.outputs(None).len(), 3);
}

#[test]
fn a_cursor_of_an_earlier_namespace_of_the_name_is_refused_also_after_a_restart() {
    let mut world = World::new(2);
    let ask = |world: &mut World, name: &str, command: Command| {
        world.node().engine().command(name, command, true, Box::new(|it| assert!(it.is_ok())));
        world.settle();
    };
    world.register(0..3, 5);
    world.pass(5);
    world.settle();
    let old = world.outputs(None);
    assert_eq!(old.len(), 3);
    let put = Command::Put { config: NamespaceConfig::default(), expected_version: None };
    ask(&mut world, "other", put);
    ask(&mut world, "default", Command::Delete { force: true });
    world.register(0..2, 9);
    world.pass(5);
    world.settle();
    for (is_crashed, is_checkpointed) in [(false, false), (true, false), (true, true)] {
        if is_checkpointed {
            world.checkpoint();
        }
        if is_crashed {
            world.crash();
        }
        let engine = world.node().engine().clone();
        for name in ["default", "other"] {
            let id = engine.namespace(name).expect("it is there").id;
            let born = old[2].0;
            for (cursor, ..) in &old[..2] {
                let read = engine.outputs().read(id, *cursor, 1 << 20);
                assert_eq!(read.err(), Some(ReadRejection::Foreign { born }));
            }
            assert!(engine.outputs().earliest(id) >= born);
            assert!(engine.outputs().at_time(id, 0) >= born);
        }
        drop(engine);
        assert_eq!(world.outputs(None).len(), 2);
    }
}

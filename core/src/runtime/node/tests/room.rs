//! A shard that waits for room in its log.

use super::*;
use std::time::Duration;

#[test]
fn what_was_received_while_it_waits_for_room_is_neither_lost_nor_passed_by() {
    let mut world = World::new(1);
    let batches: Vec<_> =
        (0..20u32).map(|n| world.submit(n * 500..(n + 1) * 500, 1_000_000, Ack::Synced)).collect();
    let node = world.node();
    // Its committer does not work: after a while a message is put off, and those behind it wait.
    for _ in 0..batches.len() {
        node.step(NodePart::Shard(0)).expect("nothing is written");
        assert!(node.workers[0].receive(Duration::ZERO));
        assert!(node.workers[0].receive(Duration::ZERO));
    }
    assert!(!node.workers[0].is_queue_empty(), "there is no room for all");
    world.settle();
    for answer in batches {
        assert_eq!(answer.lock().unwrap().len(), 500);
    }
    assert_eq!(world.pending(), 10_000);
}

#[test]
fn whoever_waits_for_room_is_told_once_there_will_be_none() {
    for is_poisoned in [true, false] {
        let mut world = World::new(1);
        let batches: Vec<_> = (0..20u32)
            .map(|n| world.submit(n * 500..(n + 1) * 500, 1_000_000, Ack::Synced))
            .collect();
        let node = world.node();
        for _ in 0..batches.len() {
            node.step(NodePart::Shard(0)).expect("nothing is written");
        }
        let expected = if is_poisoned {
            node.common.poison("the disk is gone");
            Rejection::Poisoned
        } else {
            node.common.end();
            Rejection::Stopping
        };
        for _ in 0..batches.len() {
            node.step(NodePart::Shard(0)).expect("nothing is written");
        }
        assert!(node.workers[0].is_queue_empty(), "nobody waits any more");
        // Those that were taken in before wait for the journal, and go with its thread.
        let taken = world.pending();
        let mut refused = 0;
        for answer in batches {
            let outcomes = answer.lock().unwrap();
            refused += outcomes.len() as u64;
            assert!(outcomes.iter().all(|outcome| *outcome == Err(expected.clone())));
        }
        assert!(refused >= 500 && taken >= 500, "{refused} and {taken}");
        assert_eq!(taken + refused, 10_000);
    }
}

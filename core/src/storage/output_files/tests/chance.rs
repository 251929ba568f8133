//! Any history of appending, killing and crashing.

use super::*;
use crate::storage::memory_disk::Rng;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Append { is_a: bool, count: u64, bytes: usize },
    Commit,
    Mark,
    Retain { is_a: bool, bytes: u64 },
    Kill,
    Crash { seed: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 1..6u64, 0..3_000usize)
            .prop_map(|(is_a, count, bytes)| Step::Append { is_a, count, bytes }),
        4 => Just(Step::Commit),
        1 => Just(Step::Mark),
        1 => (any::<bool>(), 0..60_000u64)
            .prop_map(|(is_a, bytes)| Step::Retain { is_a, bytes }),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_log_is_a_list(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        // All records with their cursors, of which so many are durable.
        let mut model: Vec<(u64, NamespaceId, u64)> = Vec::new();
        let (mut durable, mut epoch) = (0, 1);
        for step in steps {
            let mut next = None;
            match step {
                Step::Append { is_a, count, bytes } => {
                    let namespace = if is_a { A } else { B };
                    let first = world.append(namespace, count, bytes, 0);
                    let position = world.position - count;
                    model.extend((0..count).map(|n| (first + n, namespace, position + n + 1)));
                }
                Step::Commit => {
                    world.commit();
                    durable = model.len();
                }
                Step::Mark => {
                    world.files.mark().unwrap();
                    durable = model.len();
                }
                Step::Retain { is_a, bytes } => {
                    let namespace = if is_a { A } else { B };
                    world.commit();
                    durable = model.len();
                    world.files.set_floor(world.files.latest());
                    world.files.admit(namespace, Retention { bytes, ..ALL });
                    world.files.retain(0).unwrap();
                    world.files.admit(namespace, ALL);
                }
                Step::Kill => {
                    let _ = world.files.write();
                    next = Some(world.disk.kill());
                }
                Step::Crash { seed } => {
                    let _ = world.files.write();
                    next = Some(world.disk.crash(Some(&mut Rng(seed))));
                }
            }
            if let Some(disk) = next {
                epoch += 1;
                let position = world.position;
                world = World { position, ..World::open(disk, epoch) };
                let latest = world.files.latest().0 - BASE;
                let kept = model.iter().filter(|(cursor, ..)| *cursor <= latest).count();
                prop_assert!(kept >= durable, "{kept} of {durable}");
                prop_assert_eq!(latest, kept as u64);
                model.truncate(kept);
                durable = kept;
            }
            for namespace in [A, B] {
                let earliest = world.earliest(namespace);
                let read = world.read(namespace, earliest).unwrap();
                let expected: Vec<(u64, u64)> = model[..durable]
                    .iter()
                    .filter(|(cursor, of, _)| *of == namespace && *cursor > earliest)
                    .map(|(cursor, _, position)| (*cursor, *position))
                    .collect();
                prop_assert_eq!(read, expected);
                let mut own = model.iter().filter(|(_, of, _)| *of == namespace);
                let lost_own = own.any(|(cursor, ..)| *cursor == earliest);
                prop_assert!(earliest == 0 || lost_own, "behind {earliest}, and nothing went");
            }
        }
    }
}

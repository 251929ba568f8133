//! The service on an engine that takes one step at a time, over a disk that forgets what was not
//! synced: whatever was answered holds, wherever it is cut off.

use super::super::core::{Core, Stored, ask_namespaces};
use super::super::{Answer, Error, Fire, Options, OverduePolicy, When};
use super::TestClock;
use crate::namespace::ClockKind;
use crate::op::{Action, Only, Op, Outcome, Payload, Register};
use crate::output::OutputId;
use crate::ports::{MachineClock, SnapshotStore};
use crate::runtime::{Node, NodePart, StorageOptions};
use crate::storage::MemoryStore;
use crate::storage::memory_disk::{MemoryDisk, Rng};
use crate::time::{Domain, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

struct World {
    disk: MemoryDisk,
    store: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    open: Option<(Node, Arc<Core>)>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::<TestClock>::default();
        let mut it = Self { disk: MemoryDisk::default(), store: Arc::default(), clock, open: None };
        it.reopen();
        it
    }

    fn reopen(&mut self) {
        let storage = StorageOptions::new(
            Arc::new(self.disk.clone()),
            Arc::clone(&self.store) as Arc<dyn SnapshotStore>,
        );
        let storage = StorageOptions {
            segment_bytes: 64 << 10,
            checkpoint_interval_ms: 0,
            checkpoint_over_ms: 0,
            ..Options::new().adapt(storage)
        };
        let clock = Arc::clone(&self.clock) as Arc<dyn MachineClock>;
        let mut node =
            Node::open(&Options::engine_options(), Some(storage), clock).expect("it opens");
        settle(&mut node);
        let asked = ask_namespaces(node.engine(), ClockKind::System, OverduePolicy::Fire);
        settle(&mut node);
        now(&asked).expect("they are made, or there");
        let stored = Stored::ask(node.engine()).expect("they are there");
        settle(&mut node);
        // Everything is answered: nothing waits here.
        let stored = stored.wait().expect("it can be read");
        let core = Core::new(node.engine().clone(), stored).expect("it can be read");
        self.open = Some((node, core));
    }

    fn parts(&mut self) -> (&mut Node, &Arc<Core>) {
        let (node, core) = self.open.as_mut().expect("it is open");
        (node, core)
    }

    fn core(&self) -> &Arc<Core> {
        &self.open.as_ref().expect("it is open").1
    }

    fn settle(&mut self) {
        settle(self.parts().0);
    }

    fn crash(&mut self, rng: Option<&mut Rng>) {
        self.open = None;
        self.disk = self.disk.crash(rng);
        self.reopen();
    }

    fn schedule(&mut self, keys: &[String], after: i64) -> Answer<Vec<Outcome>> {
        let mut batch = self.core().batch().expect("it is open");
        for key in keys {
            let register = Register {
                domain: Domain::Processing,
                name: None,
                when: When::After(after),
                payload: Some(Payload::Binary(b"payload")),
                resolution_ms: None,
                spread_ms: None,
                only: Only::Always,
            };
            let op = Op { key: key.as_bytes(), action: Action::Register(register) };
            batch.push(&op).expect("it is legal");
        }
        self.core().submit(batch)
    }

    fn pass(&mut self, millis: i64) {
        self.clock.pass(millis);
    }

    fn take_all(&mut self) -> Vec<Fire> {
        self.settle();
        self.core().take_until(Timestamp::MAX).expect("they can be read")
    }

    /// Timers of this many keys, all of which have fired.
    fn fire(&mut self, count: u32) -> Vec<Fire> {
        let keys: Vec<_> = (0..count).map(|number| format!("{number:05}")).collect();
        let scheduled = self.schedule(&keys, 5);
        self.settle();
        assert!(now(&scheduled).expect("it is answered").iter().all(Result::is_ok));
        self.pass(5);
        let fires = self.take_all();
        assert_eq!(fires.len(), keys.len());
        fires
    }

    fn ack(&mut self, fires: &[&Fire]) {
        let cursors: Vec<u64> = fires.iter().map(|fire| fire.cursor).collect();
        let answer = self.core().ack(&cursors);
        self.settle();
        now(&answer).expect("it is written down");
    }
}

fn settle(node: &mut Node) {
    assert!(node.settle(1_000_000).expect("the disk works"), "it comes to rest");
}

/// The answer, which is there.
fn now<T>(answer: &Answer<T>) -> Result<T, Error> {
    answer.take().expect("it is answered")
}

fn keys(fires: &[Fire]) -> Vec<Vec<u8>> {
    fires.iter().map(|fire| fire.key().to_vec()).collect()
}

#[test]
fn what_is_acknowledged_in_any_order_never_comes_again() {
    let mut world = World::new();
    // Over several chunks of bits.
    let fires = world.fire(10_000);
    let (odd, even): (Vec<_>, Vec<_>) = fires.iter().partition(|fire| fire.cursor % 2 == 1);
    world.ack(&odd);
    for (index, fire) in even.iter().enumerate().take(100) {
        if index % 3 == 0 {
            world.ack(&[fire]);
        }
    }
    let left = |until: usize| -> Vec<_> {
        let open = even.iter().enumerate();
        let open = open.filter(|(index, _)| *index >= until && (*index >= 100 || index % 3 != 0));
        open.map(|(_, fire)| fire.key().to_vec()).collect()
    };
    world.crash(None);
    assert_eq!(keys(&world.take_all()), left(0));
    // A handle of before the restart says nothing here; the new ones do.
    world.core().redeliver().unwrap();
    let again = world.take_all();
    assert_eq!(keys(&again), left(0));
    let first: Vec<&Fire> = again.iter().take(again.len() - left(4_000).len()).collect();
    world.ack(&first);
    world.core().redeliver().unwrap();
    assert_eq!(keys(&world.take_all()), left(4_000));
    world.crash(None);
    let rest = world.take_all();
    assert_eq!(keys(&rest), left(4_000));
    world.ack(&rest.iter().collect::<Vec<_>>());
    world.crash(None);
    assert_eq!(keys(&world.take_all()), Vec::<Vec<u8>>::new());
}

#[test]
fn an_acknowledgement_that_is_not_durable_is_not_answered() {
    let mut world = World::new();
    let fires = world.fire(1);
    let answer = world.core().ack(&[fires[0].cursor]);
    assert!(answer.take().is_none());
    world.crash(None);
    assert!(matches!(now(&answer), Err(Error::Unanswered)));
    assert_eq!(world.take_all()[0].id(), fires[0].id(), "it comes again, and is the same");
    let late = fires[0].submit_ack();
    assert!(matches!(now(&late), Err(Error::Closed)));
}

#[test]
fn what_is_not_acknowledged_is_kept_for_ever_and_what_is_goes() {
    const YEAR_MS: i64 = 366 * 86_400_000;
    let mut world = World::new();
    let outputs = |world: &World| {
        world.disk.names().iter().filter(|name| name.starts_with("outputs/")).count()
    };
    let mut all = Vec::new();
    for round in 0..12 {
        let fires = world.fire(1_000);
        // The first stays open: all that follows stays, too.
        world.ack(&fires[usize::from(round == 0)..].iter().collect::<Vec<_>>());
        all.extend(fires);
    }
    world.pass(YEAR_MS);
    world.parts().0.engine().accept_clock();
    world.settle();
    world.core().redeliver().unwrap();
    let left = world.take_all();
    assert_eq!((left.len(), left[0].id()), (1, all[0].id()));
    let before = outputs(&world);
    assert!(before > 10, "{before} segments");
    world.ack(&[&left[0]]);
    // Retention looks when something is written, and neither of the two checkpoints that are kept
    // may need what goes.
    for _ in 0..2 {
        world.parts().0.engine().checkpoint(Box::new(drop));
        world.settle();
    }
    world.pass(2_000);
    let fires = world.fire(1);
    world.ack(&[&fires[0]]);
    world.pass(2_000);
    world.fire(1);
    let after = outputs(&world);
    assert!(after <= 3, "{after} segments of {before}");
    world.crash(None);
    assert_eq!(world.take_all().len(), 1);
}

/// While a recovery makes up for outputs, it does not know yet how long they are to be kept.
#[test]
fn a_recovery_lets_nothing_go_for_its_age() {
    let mut world = World::new();
    let mut expected = keys(&world.fire(2_000));
    world.pass(3 * 86_400_000);
    let scheduled = world.schedule(&["new".to_owned()], 5);
    world.settle();
    now(&scheduled).expect("it is answered");
    world.pass(5);
    // The tick is durable, what fires of it is not.
    for _ in 0..10 {
        for part in [NodePart::Shard(0), NodePart::Committer(0)] {
            world.parts().0.step(part).expect("the disk works");
        }
    }
    assert!(world.core().try_next().unwrap().is_none());
    world.crash(None);
    expected.push(b"new".to_vec());
    let found = keys(&world.take_all());
    assert_eq!(found.len(), expected.len());
    assert!(found == expected);
}

/// What the answers said.
#[derive(Default)]
struct Told {
    scheduled: BTreeSet<String>,
    acknowledged: BTreeSet<OutputId>,
    seen: BTreeMap<String, OutputId>,
}

/// Schedules, handles and acknowledges at random, with as many steps in between as chance has it,
/// and cuts it off somewhere.
fn check_history(seed: u64) {
    let mut rng = Rng(seed);
    let mut world = World::new();
    let mut told = Told::default();
    let mut number = 0;
    for _ in 0..6 {
        let mut scheduling = Vec::new();
        let mut acking: Vec<(OutputId, Answer<()>)> = Vec::new();
        let mut held: Vec<Fire> = Vec::new();
        for _ in 0..rng.below(60) {
            match rng.below(8) {
                0 => {
                    let keys: Vec<_> = (0..=rng.below(3))
                        .map(|_| {
                            number += 1;
                            format!("key-{number}")
                        })
                        .collect();
                    let answer = world.schedule(&keys, rng.below(30) as i64);
                    scheduling.push((keys, answer));
                }
                1 => world.pass(rng.below(20) as i64),
                2 | 3 => {
                    if let Some(fire) = world.core().try_next().expect("it can be read") {
                        let key = String::from_utf8(fire.key().to_vec()).unwrap();
                        let id = fire.id();
                        assert!(!told.acknowledged.contains(&id), "seed {seed}: {key} came again");
                        let before = *told.seen.entry(key.clone()).or_insert(id);
                        assert_eq!(before, id, "seed {seed}: {key} fired twice");
                        held.push(fire);
                    }
                }
                4 if !held.is_empty() => {
                    let fire = held.swap_remove(rng.below(held.len() as u64) as usize);
                    let answer = world.core().ack(&[fire.cursor]);
                    acking.push((fire.id(), answer));
                }
                5 if rng.below(8) == 0 => {
                    world.core().redeliver().unwrap();
                    held.clear();
                }
                6 if rng.below(8) == 0 => {
                    world.parts().0.engine().checkpoint(Box::new(drop));
                }
                _ => {}
            }
            for _ in 0..rng.below(12) {
                let (node, _) = world.parts();
                let parts = node.parts();
                let part = parts[rng.below(parts.len() as u64) as usize];
                node.step(part).expect("the disk works");
            }
            for (keys, answer) in &scheduling {
                if matches!(answer.take(), Some(Ok(_))) {
                    told.scheduled.extend(keys.iter().cloned());
                }
            }
            for (id, answer) in &acking {
                if matches!(answer.take(), Some(Ok(()))) {
                    told.acknowledged.insert(*id);
                }
            }
        }
        let is_torn = rng.below(2) == 0;
        let mut tear = Rng(rng.next());
        world.crash(is_torn.then_some(&mut tear));
    }
    world.pass(1_000);
    for fire in world.take_all() {
        assert!(!told.acknowledged.contains(&fire.id()), "seed {seed}: it came again");
        let key = String::from_utf8(fire.key().to_vec()).unwrap();
        let before = *told.seen.entry(key.clone()).or_insert(fire.id());
        assert_eq!(before, fire.id(), "seed {seed}: {key} fired twice");
    }
    for key in &told.scheduled {
        assert!(told.seen.contains_key(key), "seed {seed}: {key} was lost");
    }
}

#[test]
fn whatever_was_answered_holds_wherever_it_is_cut_off() {
    for seed in 0..60 {
        check_history(seed);
    }
}

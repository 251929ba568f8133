//! A node over a disk in memory: what was acknowledged survives, and fires once.

use super::*;
use crate::error::Rejection;
use crate::namespace::{Command, NamespaceConfig, SourceChange};
use crate::op::{Action, Op, Outcome, Register, When};
use crate::op::{Only, ResultKind};
use crate::output::Cursor;
use crate::runtime::{Ack, ClockOptions, OnStep};
use crate::storage::MemoryStore;
use crate::storage::memory_disk::MemoryDisk;
use crate::time::{Domain, Timestamp};
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;

mod close;
mod cursors;
mod figures;
mod forged;
mod full_disk;
mod overdue;
mod producers;
mod recovery;
mod refusals;
mod room;
mod sizes;
mod strangers;

const START_MS: i64 = 1_700_000_000_000;

/// Since the start, and by how much the machine's clock was set forward meanwhile.
#[derive(Default)]
struct TestClock(AtomicI64, AtomicI64);

impl MachineClock for TestClock {
    fn realtime_ms(&self) -> i64 {
        START_MS + self.boottime_ms() + self.1.load(Ordering::Relaxed)
    }

    fn boottime_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

mod savepoints;

struct World {
    disk: MemoryDisk,
    store: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    shards: u16,
    /// Key groups and lanes.
    layout: (u16, u16),
    savepoint_every_ms: i64,
    max_disk_bytes: u64,
    segment_bytes: u64,
    /// Its recovery has threads.
    is_threaded: bool,
    node: Option<Node>,
}

impl World {
    fn new(shards: u16) -> Self {
        let (disk, store) = (MemoryDisk::default(), Arc::<MemoryStore>::default());
        let mut it = Self::closed(disk, store, Arc::default(), shards);
        it.open();
        it
    }

    fn of_segments(shards: u16, segment_bytes: u64) -> Self {
        let mut it = Self::closed(MemoryDisk::default(), Arc::default(), Arc::default(), shards);
        it.segment_bytes = segment_bytes;
        it.open();
        it
    }

    fn closed(
        disk: MemoryDisk,
        store: Arc<MemoryStore>,
        clock: Arc<TestClock>,
        shards: u16,
    ) -> Self {
        let (layout, savepoint_every_ms, max_disk_bytes) = ((8, 4), 0, u64::MAX);
        let (segment_bytes, is_threaded, node) = (64 << 10, false, None);
        Self {
            disk,
            store,
            clock,
            shards,
            layout,
            savepoint_every_ms,
            max_disk_bytes,
            segment_bytes,
            is_threaded,
            node,
        }
    }

    fn open(&mut self) {
        self.open_parts();
        self.settle();
    }

    fn open_parts(&mut self) {
        self.node = Some(self.try_open().expect("it opens"));
    }

    fn try_open(&self) -> Result<Node, Fault> {
        let options = EngineOptions {
            shards: self.shards,
            lanes: self.layout.1,
            max_parallelism: self.layout.0,
            clock: ClockOptions { on_step: OnStep::Jump, ..ClockOptions::default() },
            ..EngineOptions::default()
        };
        let disk = Arc::new(self.disk.clone());
        let store = Arc::clone(&self.store) as Arc<dyn crate::ports::SnapshotStore>;
        let storage = StorageOptions {
            segment_bytes: self.segment_bytes,
            checkpoint_interval_ms: 0,
            checkpoint_over_ms: 0,
            savepoint_every_ms: self.savepoint_every_ms,
            savepoints_kept: 2,
            max_disk_bytes: self.max_disk_bytes,
            ..StorageOptions::new(disk, store)
        };
        let clock = Arc::clone(&self.clock) as Arc<dyn MachineClock>;
        let opened = open(&options, Some(storage), clock, self.is_threaded)?;
        Ok(Node::of(opened, &options))
    }

    fn node(&mut self) -> &mut Node {
        self.node.as_mut().expect("it is open")
    }

    fn settle(&mut self) {
        let is_settled = self.node().settle(1_000_000).expect("the disk works");
        assert!(is_settled, "it comes to rest");
    }

    /// Everything that was not synced is gone.
    fn crash(&mut self) {
        self.node = None;
        self.disk = self.disk.crash(None);
        self.open();
    }

    fn pass(&mut self, millis: i64) {
        self.clock.0.fetch_add(millis, Ordering::Relaxed);
    }

    fn submit(
        &mut self,
        keys: std::ops::Range<u32>,
        at: i64,
        ack: Ack,
    ) -> Arc<Mutex<Vec<Outcome>>> {
        let engine = self.node().engine().clone();
        let namespace = engine.namespace("default").expect("it is always there");
        let mut batch = engine.batch(&namespace);
        batch.ack(ack);
        for n in keys {
            let register = Register {
                domain: Domain::Processing,
                name: None,
                when: When::At(Timestamp::from_millis(START_MS + at)),
                payload: None,
                resolution_ms: None,
                spread_ms: None,
                only: Only::Always,
            };
            let key = format!("key {n}");
            let op = Op { key: key.as_bytes(), action: Action::Register(register) };
            batch.push(&op).expect("it is well-formed");
        }
        let answer = Arc::new(Mutex::new(Vec::new()));
        let mine = Arc::clone(&answer);
        engine.submit(batch, Box::new(move |outcomes| *mine.lock().unwrap() = outcomes));
        answer
    }

    fn register(&mut self, keys: std::ops::Range<u32>, at: i64) {
        let count = keys.len();
        let answer = self.submit(keys, at, Ack::Synced);
        self.settle();
        let outcomes = answer.lock().unwrap();
        assert_eq!(outcomes.len(), count);
        for outcome in outcomes.iter() {
            assert_eq!(outcome.as_ref().map(|it| it.result), Ok(ResultKind::Created));
        }
    }

    fn pending(&mut self) -> u64 {
        let engine = self.node().engine().clone();
        engine.namespace("default").map_or(0, |it| it.pending())
    }

    fn outputs(&mut self, after: Option<Cursor>) -> Vec<(Cursor, String, String)> {
        let engine = self.node().engine().clone();
        let namespace = engine.namespace("default").expect("it is always there").id;
        let mut after = after.unwrap_or_else(|| engine.outputs().earliest(namespace));
        let mut all = Vec::new();
        loop {
            let read = engine.outputs().read(namespace, after, 1 << 20).expect("it can be read");
            let mut last = None;
            for block in &read.blocks {
                for (cursor, it) in block.after(after) {
                    let key = String::from_utf8_lossy(it.key).into_owned();
                    all.push((cursor, key, it.id.to_string()));
                    last = Some(cursor);
                }
            }
            match last {
                Some(cursor) => after = cursor,
                None => return all,
            }
        }
    }

    fn checkpoint(&mut self) {
        let done = Arc::new(Mutex::new(None));
        let mine = Arc::clone(&done);
        let reply = Box::new(move |info| *mine.lock().unwrap() = Some(info));
        self.node().engine().checkpoint(reply);
        self.settle();
        let info = done.lock().unwrap().take().expect("it was published");
        assert!(info.is_ok_and(|info| info.ended_ms.is_some()));
    }
}

fn check_all_fire_once(world: &mut World, keys: u32) {
    let outputs = world.outputs(None);
    let mut seen: Vec<&str> = outputs.iter().map(|(_, key, _)| key.as_str()).collect();
    seen.sort_unstable();
    let mut expected: Vec<String> = (0..keys).map(|n| format!("key {n}")).collect();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[test]
fn what_was_acknowledged_survives_and_fires_once() {
    for shards in [1, 3] {
        let mut world = World::new(shards);
        world.register(0..300, 1_000);
        world.crash();
        assert_eq!(world.pending(), 300);
        world.pass(1_000);
        world.settle();
        check_all_fire_once(&mut world, 300);
        let before = world.outputs(None);
        world.crash();
        assert_eq!(world.outputs(None), before, "each under its cursor and id");
        assert_eq!(world.pending(), 0);
    }
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    let mut world = World::new(1);
    let [synced, written, accepted] = [Ack::Synced, Ack::Written, Ack::Accepted].map(|ack| {
        let at = 5_000 + ack as i64;
        world.submit(0..1, at, ack)
    });
    let seen = |it: &Arc<Mutex<Vec<Outcome>>>| !it.lock().unwrap().is_empty();
    world.node().step(NodePart::Shard(0)).expect("it works");
    assert_eq!([&accepted, &written, &synced].map(seen), [true, false, false]);
    world.node().step(NodePart::Committer(0)).expect("it works");
    assert_eq!([&accepted, &written, &synced].map(seen), [true, true, true]);
}

#[test]
fn checkpoints_shorten_the_log_and_lose_nothing() {
    for shards in [1, 2] {
        let mut world = World::new(shards);
        let mut expected = 0;
        for round in 0..6u32 {
            // Enough for several segments.
            for piece in 0..20 {
                let first = round * 10_000 + piece * 100;
                world.register(first..first + 100, 60_000 + i64::from(piece));
                expected += 100;
            }
            world.checkpoint();
            if round % 2 == 1 {
                world.crash();
            }
            assert_eq!(world.pending(), expected);
        }
        let names = world.disk.names();
        let journals = names.iter().filter(|name| name.starts_with("journal/")).count();
        assert!(journals <= 4 + 2 * shards as usize, "{journals} segments are left");
        let replayed = world.node().engine().durability().recovered.expect("there are files");
        assert!(replayed.loaded_keys > 0);
        world.pass(70_000);
        world.settle();
        assert_eq!(world.outputs(None).len() as u64, expected);
        world.crash();
        assert_eq!(world.outputs(None).len() as u64, expected);
        assert_eq!(world.pending(), 0);
    }
}

#[test]
fn another_number_of_shards_takes_over() {
    let mut world = World::new(1);
    world.register(0..200, 1_000);
    world.checkpoint();
    world.register(200..400, 1_000);
    for shards in [3, 4, 2] {
        world.shards = shards;
        world.crash();
        assert_eq!(world.pending(), 400);
    }
    world.pass(1_000);
    world.settle();
    check_all_fire_once(&mut world, 400);
}

#[test]
fn a_graceful_end_leaves_no_log_to_follow() {
    let mut world = World::new(2);
    world.register(0..100, 1_000);
    let node = world.node.take().expect("it is open");
    node.close(1_000_000).expect("the disk works");
    world.open();
    let info = world.node().engine().durability().recovered.expect("there are files");
    assert_eq!((info.loaded_keys, info.replayed_records), (100, 0));
    world.pass(1_000);
    world.settle();
    check_all_fire_once(&mut world, 100);
}

#[test]
fn a_clock_that_stepped_back_fires_nothing_early() {
    let mut world = World::new(1);
    world.pass(10_000);
    world.register(0..10, 20_000);
    world.node = None;
    world.pass(-8_000);
    world.open();
    world.register(10..11, 10_000);
    assert_eq!(world.outputs(None).len(), 1, "the service has come to 10 s before");
    world.pass(17_999);
    world.settle();
    assert_eq!(world.outputs(None).len(), 1);
    world.pass(1);
    world.settle();
    assert_eq!(world.outputs(None).len(), 11);
}

#[test]
fn namespaces_and_watermarks_survive() {
    let mut world = World::new(2);
    let engine = world.node().engine().clone();
    let answers = Arc::new(Mutex::new(Vec::new()));
    for name in ["a", "b", "c"] {
        let mine = Arc::clone(&answers);
        let config = NamespaceConfig::default();
        let put = Command::Put { config, expected_version: None };
        engine.command(name, put, false, Box::new(move |it| mine.lock().unwrap().push(it)));
    }
    world.settle();
    assert_eq!(answers.lock().unwrap().len(), 3);
    let change = SourceChange::Watermark(Timestamp::from_millis(77));
    let source = Command::Source { source: "s".to_owned(), change };
    let mine = Arc::clone(&answers);
    engine.command("b", source, true, Box::new(move |it| mine.lock().unwrap().push(it)));
    let mine = Arc::clone(&answers);
    let delete = Command::Delete { force: true };
    engine.command("c", delete, true, Box::new(move |it| mine.lock().unwrap().push(it)));
    world.settle();
    assert!(answers.lock().unwrap().iter().all(Result::is_ok));
    drop(engine);
    for is_checkpointed in [false, true] {
        if is_checkpointed {
            world.checkpoint();
        }
        world.crash();
        let engine = world.node().engine().clone();
        let names: Vec<String> =
            engine.directory().by_name.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "b", "default"]);
        assert_eq!(engine.namespace("c").map(|_| ()), Err(Rejection::NamespaceUnknown));
        let seen = Arc::new(Mutex::new(None));
        let mine = Arc::clone(&seen);
        let namespace = engine.namespace("b").expect("it is there");
        engine.describe(&namespace, Box::new(move |it| *mine.lock().unwrap() = Some(it)));
        drop(engine);
        world.settle();
        let status = seen.lock().unwrap().take().expect("it was answered").expect("it is there");
        assert_eq!(status.watermark, Some(Timestamp::from_millis(77)));
    }
}

#[test]
fn what_a_producer_sends_again_is_taken_once() {
    let mut world = World::new(2);
    let send = |world: &mut World, sequence: u64| -> Vec<ResultKind> {
        let engine = world.node().engine().clone();
        let namespace = engine.namespace("default").expect("it is always there");
        let mut batch = engine.batch(&namespace);
        batch.producer("meter-7", sequence);
        for n in 0..20 {
            let register = Register {
                domain: Domain::Processing,
                name: None,
                when: When::After(1_000),
                payload: None,
                resolution_ms: None,
                spread_ms: None,
                only: Only::Always,
            };
            let key = format!("key {}", n % 5);
            let op = Op { key: key.as_bytes(), action: Action::Register(register) };
            batch.push(&op).expect("it is well-formed");
        }
        let answer = Arc::new(Mutex::new(Vec::new()));
        let mine = Arc::clone(&answer);
        engine.submit(
            batch,
            Box::new(move |outcomes: Vec<Outcome>| *mine.lock().unwrap() = outcomes),
        );
        world.settle();
        let outcomes = answer.lock().unwrap();
        outcomes.iter().map(|it| it.as_ref().expect("it is well-formed").result).collect()
    };
    let first = send(&mut world, 1);
    assert_eq!(first.iter().filter(|it| **it == ResultKind::Created).count(), 5);
    for is_checkpointed in [false, false, true] {
        if is_checkpointed {
            world.checkpoint();
        }
        world.pass(10);
        assert_eq!(send(&mut world, 1), [ResultKind::Repeated; 20]);
        world.crash();
        assert_eq!(send(&mut world, 1), [ResultKind::Repeated; 20]);
        assert_eq!(world.pending(), 5);
    }
    world.pass(10);
    assert!(!send(&mut world, 2).contains(&ResultKind::Repeated));
    assert_eq!(world.pending(), 10);
    assert_eq!(send(&mut world, 1), [ResultKind::Repeated; 20], "older ones were taken before");
}

#[test]
fn a_limit_holds_over_all_shards_and_refuses_only_what_is_new() {
    const LIMIT: u64 = 25;
    let mut world = World::new(3);
    let mut config = NamespaceConfig::default();
    config.limits.timers = Some(LIMIT);
    let put = Command::Put { config, expected_version: None };
    world.node().engine().command("default", put, false, Box::new(drop));
    world.settle();
    let answers =
        [world.submit(0..40, 1_000, Ack::Synced), world.submit(40..80, 1_000, Ack::Synced)];
    world.settle();
    let kinds = |answer: &Mutex<Vec<Outcome>>| -> Vec<Option<ResultKind>> {
        answer.lock().unwrap().iter().map(|it| it.as_ref().ok().map(|it| it.result)).collect()
    };
    let all: Vec<_> = answers.iter().flat_map(|answer| kinds(answer)).collect();
    let created = all.iter().filter(|it| **it == Some(ResultKind::Created)).count();
    assert_eq!((created as u64, world.pending()), (LIMIT, LIMIT));
    for is_opened_again in [false, true] {
        if is_opened_again {
            world.crash();
        }
        let again = world.submit(0..80, 1_000, Ack::Synced);
        world.settle();
        let expected: Vec<_> = all.iter().map(|it| it.map(|_| ResultKind::Duplicate)).collect();
        assert_eq!(kinds(&again), expected);
        assert_eq!(world.pending(), LIMIT);
    }
}

#[test]
fn shards_that_stand_are_seen_although_nobody_looks_at_the_clock() {
    let mut world = World::new(2);
    let engine = world.node().engine().clone();
    let since = || -> Vec<i64> {
        engine.status().shards.iter().map(|shard| shard.since_last_turn_ms).collect()
    };
    assert_eq!(since(), [0, 0]);
    world.pass(7_000);
    assert_eq!(since(), [7_000, 7_000]);
    world.node().step(NodePart::Shard(1)).expect("it works");
    assert_eq!(since(), [7_000, 0]);
    let last_turns: Vec<f64> =
        engine.metrics().shards.iter().map(|shard| shard.last_turn_seconds).collect();
    let started = START_MS as f64 / 1_000.0;
    assert_eq!(last_turns, [started, started + 7.0]);
}

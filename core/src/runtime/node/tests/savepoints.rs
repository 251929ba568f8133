//! Savepoints of a node, and what is restored of them.

use super::*;
use crate::namespace::{ClockChange, ClockKind, Command, NamespaceConfig, SourceChange};
use crate::ports::{Disk, SnapshotStore};
use crate::runtime::SavepointInfo;
use crate::storage::{RestoreFault, RestoreInfo, RestoreOptions, SavepointReader, restore};
use std::collections::{BTreeMap, BTreeSet};

type Answer<T> = Arc<Mutex<Option<Result<T, Rejection>>>>;

fn slot<T: Send + 'static>() -> (Answer<T>, crate::runtime::Reply<Result<T, Rejection>>) {
    let answer = Arc::new(Mutex::new(None));
    let mine = Arc::clone(&answer);
    (answer, Box::new(move |it| *mine.lock().unwrap() = Some(it)))
}

impl World {
    fn ask_savepoint(&mut self, namespaces: &[&str]) -> Answer<SavepointInfo> {
        let (answer, reply) = slot();
        let names = namespaces.iter().map(ToString::to_string).collect();
        let names = (!namespaces.is_empty()).then_some(names);
        self.node().engine().savepoint(names, reply);
        answer
    }

    pub(super) fn savepoint(&mut self, namespaces: &[&str]) -> SavepointInfo {
        let answer = self.ask_savepoint(namespaces);
        self.settle();
        let info = answer.lock().unwrap().take().expect("it was answered");
        info.expect("nothing stands against it")
    }

    fn command(&mut self, name: &str, command: Command) {
        let (answer, reply) = slot();
        self.node().engine().command(name, command, true, reply);
        self.settle();
        assert!(answer.lock().unwrap().take().expect("it was answered").is_ok());
    }

    fn put(&mut self, name: &str, clock: ClockKind) {
        let config = NamespaceConfig { clock, ..NamespaceConfig::default() };
        self.command(name, Command::Put { config, expected_version: None });
    }

    fn register_in(&mut self, name: &str, key: &str, domain: Domain, at: i64) -> Answer<()> {
        let engine = self.node().engine().clone();
        let namespace = engine.namespace(name).expect("it is there");
        let mut batch = engine.batch(&namespace);
        let register = Register {
            domain,
            name: Some("n"),
            when: When::At(Timestamp::from_millis(START_MS + at)),
            payload: Some(crate::op::Payload::Json(b"{\"a\":1}")),
            resolution_ms: None,
            spread_ms: None,
            only: Only::Always,
        };
        let op = Op { key: key.as_bytes(), action: Action::Register(register) };
        batch.push(&op).expect("it is well-formed");
        let (answer, reply) = slot();
        let answered = move |outcomes: Vec<Outcome>| reply(outcomes[0].clone().map(drop));
        engine.submit(batch, Box::new(answered));
        answer
    }

    fn reader(&self, id: &str) -> SavepointReader {
        let store = Arc::clone(&self.store) as Arc<dyn SnapshotStore>;
        SavepointReader::open(store, &format!("savepoints/{id}/")).expect("it is whole")
    }

    /// A world that goes on from a savepoint of this one.
    pub(super) fn restored(
        &self,
        id: &str,
        layout: (u16, u16),
        shards: u16,
    ) -> (World, RestoreInfo) {
        let mut world =
            World::closed(MemoryDisk::default(), Arc::default(), Arc::clone(&self.clock), shards);
        let disk = Arc::new(world.disk.clone()) as Arc<dyn Disk>;
        let store = Arc::clone(&world.store) as Arc<dyn SnapshotStore>;
        let info = restore(&self.reader(id), &disk, &store, &options(layout));
        world.layout = layout;
        world.open();
        (world, info.expect("it can be restored"))
    }

    fn pending_in(&mut self, name: &str) -> u64 {
        let engine = self.node().engine().clone();
        engine.namespace(name).expect("it is there").pending()
    }

    /// What stands in the output log of a namespace, without what a new life changes.
    fn fired(&mut self, name: &str) -> Vec<(String, i64, i64)> {
        let engine = self.node().engine().clone();
        let id = engine.namespace(name).expect("it is there").id;
        let mut after = engine.outputs().earliest(id);
        let mut all = Vec::new();
        loop {
            let read = engine.outputs().read(id, after, 1 << 20).expect("it can be read");
            let before = after;
            for block in &read.blocks {
                for (cursor, it) in block.after(before) {
                    assert_eq!(it.id.namespace, id);
                    let key = String::from_utf8_lossy(it.key).into_owned();
                    all.push((key, it.fire_at.as_millis(), block.appended_ms));
                    after = cursor;
                }
            }
            if after == before {
                return all;
            }
        }
    }
}

fn options((max_parallelism, lanes): (u16, u16)) -> RestoreOptions {
    RestoreOptions {
        directory_id: [7; 16],
        max_parallelism,
        lanes,
        now_ms: START_MS + 1_000_000,
        segment_bytes: 64 << 10,
    }
}

fn saved_keys(reader: &SavepointReader) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let read: Result<(), crate::storage::SavepointFault> = reader.each_timer(&mut |timer| {
        keys.insert(String::from_utf8_lossy(timer.key).into_owned());
        Ok(())
    });
    read.expect("it is whole");
    keys
}

/// A client registers one key after another, each once the one before was acknowledged, while storms
/// fire and savepoints are made; parts take their steps in an order drawn by the seed.
fn check_cut(shards: u16, seed: u64) {
    let mut world = World::new(shards);
    let mut random = seed;
    let mut draw = move |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (random >> 33) as usize % below
    };
    world.register(1_000..1_500, 1_000);
    let parts = world.node().parts();
    let mut next = 0;
    let mut answer = world.register_in("default", "chain 0", Domain::Processing, 1 << 40);
    let mut savepoint = None;
    for step in 0..3_000 {
        let part = parts[draw(parts.len())];
        world.node().step(part).expect("the disk works");
        if answer.lock().unwrap().is_some() {
            next += 1;
            // Every third is due when it is registered: it is an output at once.
            let at = if next % 3 == 0 { -5 } else { 1 << 40 };
            answer = world.register_in("default", &format!("chain {next}"), Domain::Processing, at);
        }
        if step == 1_000 + draw(500) || step == 1_600 {
            savepoint.get_or_insert_with(|| world.ask_savepoint(&[]));
        }
        if step % 100 == 0 {
            world.pass(100);
        }
    }
    world.settle();
    let info = savepoint.expect("it was asked for").lock().unwrap().take();
    let info = info.expect("it was answered").expect("nothing stands against it");
    let reader = world.reader(&info.id);
    reader.verify().expect("it is whole");
    let (mut restored, told) = world.restored(&info.id, (8, 4), 1);
    assert_eq!(told.timers, info.namespaces[0].timers);
    let mut keys = saved_keys(&reader);
    let outputs = restored.fired("default");
    keys.extend(outputs.iter().map(|(key, _, _)| key.clone()));
    let chain: BTreeSet<u32> =
        keys.iter().filter_map(|key| key.strip_prefix("chain ")?.parse().ok()).collect();
    assert!(chain.len() > 10 && chain.len() < next, "{} of {next}", chain.len());
    assert_eq!(chain, (0..chain.len() as u32).collect(), "an effect without its cause");
    // Each timer of the storm is pending or has fired: never both, never neither.
    assert_eq!(keys.iter().filter(|key| key.starts_with("key ")).count(), 500);
    let fired = outputs.iter().filter(|(key, _, _)| key.starts_with("key ")).count() as u64;
    let due_later = chain.iter().filter(|n| *n % 3 != 0 || **n == 0).count() as u64;
    assert_eq!(told.timers, 500 - fired + due_later);
    assert_eq!(restored.pending(), told.timers);
}

#[test]
fn no_effect_is_in_a_savepoint_without_its_cause() {
    for seed in 0..30 {
        check_cut(1 + (seed % 4) as u16, seed);
    }
}

#[test]
fn another_layout_holds_and_fires_the_same() {
    let mut world = World::new(3);
    world.put("event", ClockKind::System);
    world.put("manual", ClockKind::Manual);
    world.put("empty", ClockKind::System);
    let watermark = |at: i64| Command::Source {
        source: "s".to_owned(),
        change: SourceChange::Watermark(Timestamp::from_millis(START_MS + at)),
    };
    let clock = |at: i64| Command::Clock(ClockChange::Set(Timestamp::from_millis(START_MS + at)));
    for n in 0..200 {
        for (name, domain) in [
            ("default", Domain::Processing),
            ("event", Domain::Event),
            ("manual", Domain::Processing),
        ] {
            world.register_in(name, &format!("{name} {n}"), domain, 10 * n);
        }
    }
    world.settle();
    world.pass(500);
    world.settle();
    world.command("event", watermark(700));
    world.command("manual", clock(900));
    let names = ["default", "event", "manual", "empty"];
    let before: Vec<_> = names.map(|name| (world.pending_in(name), world.fired(name))).into();
    assert_eq!(before.iter().map(|it| it.0).collect::<Vec<_>>(), [149, 129, 109, 0]);
    let info = world.savepoint(&[]);
    let counts: BTreeMap<_, _> =
        info.namespaces.iter().map(|it| (&*it.name, (it.timers, it.outputs))).collect();
    assert_eq!(counts["default"], (149, 51));
    assert_eq!(counts["manual"], (109, 91));
    let old_ids: BTreeSet<_> = {
        let engine = world.node().engine().clone();
        engine.directory().by_name.values().map(|it| it.id).collect()
    };
    for (layout, shards) in
        [((8, 4), 1), ((8, 8), 3), ((16, 4), 2), ((4, 2), 2), ((7, 5), 4), ((1, 1), 1)]
    {
        let (mut new, told) = world.restored(&info.id, layout, shards);
        assert_eq!((told.namespaces, told.timers, told.outputs), (4, 387, 213));
        let after: Vec<_> = names.map(|name| (new.pending_in(name), new.fired(name))).into();
        assert_eq!(after, before, "{layout:?}");
        {
            let engine = new.node().engine().clone();
            let ids: BTreeSet<_> = engine.directory().by_name.values().map(|it| it.id).collect();
            assert!(ids.is_disjoint(&old_ids));
        }
        new.command("event", watermark(800));
        assert_eq!(new.pending_in("event"), 119, "time goes on from where it stood");
        new.command("event", watermark(10_000));
        new.command("manual", clock(10_000));
        new.register_in("default", "one more", Domain::Processing, 1_500);
        new.pass(10_000);
        new.settle();
        for (name, keys) in [("default", 201), ("event", 200), ("manual", 200)] {
            let fired = new.fired(name);
            assert_eq!((new.pending_in(name), fired.len()), (0, keys), "{name} {layout:?}");
            let keys: BTreeSet<_> = fired.iter().map(|(key, _, _)| key).collect();
            assert_eq!(keys.len(), fired.len(), "each once");
        }
        let ids = new.outputs(None);
        let unique: BTreeSet<_> = ids.iter().map(|(_, _, id)| id).collect();
        assert_eq!(unique.len(), ids.len(), "no output has the id of a restored one");
        new.put("later", ClockKind::System);
        new.checkpoint();
        new.crash();
        assert_eq!(new.fired("event").len(), 200);
        world.pass(-10_000);
    }
}

#[test]
fn only_what_was_asked_for_is_in_it() {
    let mut world = World::new(2);
    world.put("a", ClockKind::System);
    world.register(0..50, 1_000);
    world.register_in("a", "mine", Domain::Processing, 1_000);
    world.register_in("a", "gone", Domain::Processing, -1);
    world.settle();
    let info = world.savepoint(&["a"]);
    let names: Vec<&str> = info.namespaces.iter().map(|it| &*it.name).collect();
    assert_eq!((names, info.namespaces[0].timers), (vec!["a"], 1));
    let (mut new, told) = world.restored(&info.id, (8, 4), 1);
    assert_eq!((told.timers, told.outputs), (1, 1));
    assert_eq!((new.pending_in("a"), new.pending()), (1, 0));
    let unknown = world.ask_savepoint(&["a", "b"]);
    world.settle();
    let unknown = unknown.lock().unwrap().take().expect("it was answered");
    assert_eq!(unknown, Err(Rejection::NamespaceUnknown));
    assert_eq!(world.node().engine().savepoints().len(), 1);
}

#[test]
fn a_namespace_that_goes_meanwhile_is_whole_in_it() {
    const KEYS: u64 = 60_000;
    let mut world = World::new(2);
    world.put("a", ClockKind::System);
    let engine = world.node().engine().clone();
    let namespace = engine.namespace("a").expect("it is there");
    let mut batch = engine.batch(&namespace);
    for n in 0..KEYS {
        let register = Register {
            domain: Domain::Processing,
            name: None,
            when: When::At(Timestamp::from_millis(START_MS + 60_000)),
            payload: None,
            resolution_ms: None,
            spread_ms: None,
            only: Only::Always,
        };
        let action = Action::Register(register);
        batch.push(&Op { key: &n.to_le_bytes(), action }).expect("it is well-formed");
    }
    engine.submit(batch, Box::new(drop));
    drop((engine, namespace));
    world.settle();
    let parts = world.node().parts();
    let answer = world.ask_savepoint(&[]);
    let mut deleted = None;
    for _ in 0..100_000 {
        for part in &parts {
            world.node().step(*part).expect("the disk works");
        }
        // All have been told to go on, and it takes them several turns to write all of it.
        let is_cut = world.node().engine().savepoints().first().is_some_and(|it| it.now_ms > 0);
        if is_cut && deleted.is_none() {
            let (answer, reply) = slot();
            world.node().engine().command("a", Command::Delete { force: true }, true, reply);
            deleted = Some(answer);
        }
        if answer.lock().unwrap().is_some() {
            break;
        }
    }
    world.settle();
    let info = answer.lock().unwrap().take().expect("it was answered").expect("it is there");
    let a = info.namespaces.iter().find(|it| it.name == "a").expect("it was there");
    assert_eq!((a.keys, a.timers), (KEYS, KEYS));
    let deleted = deleted.expect("it was asked for").lock().unwrap().take();
    assert!(deleted.is_some_and(|it| it.is_ok()), "it is gone");
    world.reader(&info.id).verify().expect("it is whole");
}

#[test]
fn a_crash_in_the_middle_leaves_no_savepoint() {
    let mut seen_half = false;
    for steps in (0..120).step_by(3) {
        let mut world = World::new(2);
        world.register(0..300, 1_000);
        let answer = world.ask_savepoint(&[]);
        let parts = world.node().parts();
        for step in 0..steps {
            world.node().step(parts[step % parts.len()]).expect("the disk works");
        }
        let is_done = answer.lock().unwrap().is_some();
        seen_half |= !is_done && !world.store.list("savepoints/").unwrap().is_empty();
        world.crash();
        let infos = world.node().engine().savepoints();
        assert_eq!(infos.len(), usize::from(is_done), "after {steps} steps");
        let left = world.store.list("savepoints/").unwrap();
        assert_eq!(left.is_empty(), infos.is_empty(), "{left:?}");
        for info in infos {
            world.reader(&info.id).verify().expect("it is whole");
        }
        world.checkpoint();
        assert_eq!(world.store.list("savepoints/").unwrap(), left);
        assert_eq!(world.pending(), 300);
    }
    assert!(seen_half, "some crash came between two files");
}

#[test]
fn what_does_not_come_to_its_end_is_given_up_and_all_goes_on() {
    let mut world = World::new(2);
    world.register(0..10, 60_000);
    // What nobody makes durable keeps every shard from coming to an end.
    let late = world.submit(100..150, 60_000, Ack::Synced);
    let answer = world.ask_savepoint(&[]);
    let parts = world.node().parts();
    for round in 0..200 {
        for part in parts.iter().filter(|part| !matches!(part, NodePart::Committer(_))) {
            world.node().step(*part).expect("the disk works");
        }
        if round == 100 {
            assert!(answer.lock().unwrap().is_none());
            world.pass(5_001);
        }
    }
    let failed = answer.lock().unwrap().take().expect("it was answered");
    assert_eq!(failed.map_err(|it| it.slug()), Err("savepoint-failed"));
    assert!(world.node().engine().savepoints()[0].failure.is_some());
    world.settle();
    assert_eq!(late.lock().unwrap().len(), 50);
    world.register(10..20, 60_000);
    world.pass(60_000);
    world.settle();
    assert_eq!(world.pending(), 0);
    let info = world.savepoint(&[]);
    world.reader(&info.id).verify().expect("it is whole");
}

#[test]
fn damage_is_told_with_its_place_and_nothing_is_restored() {
    let mut world = World::new(1);
    world.register(0..50, 1_000);
    world.register_in("default", "gone", Domain::Processing, -1);
    world.settle();
    let info = world.savepoint(&[]);
    let folder = format!("savepoints/{}/", info.id);
    for name in world.store.list(&folder).unwrap() {
        let bytes = world.store.get(&name).unwrap();
        for bit in (0..bytes.len() * 8).step_by(37) {
            let copy = MemoryStore::new();
            for other in world.store.list(&folder).unwrap() {
                let mut bytes = world.store.get(&other).unwrap();
                if other == name {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                copy.put(&other, bytes).unwrap();
            }
            let copy: Arc<dyn SnapshotStore> = Arc::new(copy);
            let fault = match SavepointReader::open(copy, &folder) {
                Err(fault) => fault.to_string(),
                Ok(reader) => {
                    let fault = reader.verify().expect_err("a bit is wrong").to_string();
                    let disk = Arc::new(MemoryDisk::default());
                    let port = Arc::clone(&disk) as Arc<dyn Disk>;
                    let store: Arc<dyn SnapshotStore> = Arc::new(MemoryStore::new());
                    let restored = restore(&reader, &port, &store, &options((8, 4)));
                    assert!(restored.is_err(), "{name}: bit {bit}");
                    assert!(!disk.names().contains(&"stormwheel.json".to_owned()));
                    fault
                }
            };
            assert!(fault.contains(&name), "{name}: bit {bit}: {fault}");
        }
    }
}

#[test]
fn a_restore_wants_an_empty_place() {
    let mut world = World::new(1);
    let info = world.savepoint(&[]);
    let reader = world.reader(&info.id);
    let empty_disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let empty_store: Arc<dyn SnapshotStore> = Arc::new(MemoryStore::new());
    let own_disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
    let own_store = Arc::clone(&world.store) as Arc<dyn SnapshotStore>;
    for (disk, store) in [(&own_disk, &empty_store), (&empty_disk, &own_store)] {
        let refused = restore(&reader, disk, store, &options((8, 4)));
        assert!(matches!(refused, Err(RestoreFault::NotEmpty { .. })), "{refused:?}");
    }
    let refused = restore(&reader, &empty_disk, &empty_store, &options((2, 4)));
    assert!(matches!(refused, Err(RestoreFault::Layout { .. })), "{refused:?}");
    let gone = SavepointReader::open(empty_store, "").err().expect("there is none");
    assert!(gone.to_string().contains("there is no savepoint here"), "{gone}");
}

#[test]
fn savepoints_are_made_by_themselves_and_the_oldest_go() {
    let mut world = World::new(1);
    world.savepoint_every_ms = 60_000;
    world.crash();
    let asked = world.savepoint(&[]);
    for _ in 0..5 {
        world.pass(60_000);
        world.settle();
    }
    let ids = |world: &mut World| -> Vec<String> {
        world.node().engine().savepoints().into_iter().map(|info| info.id).collect()
    };
    let before = ids(&mut world);
    assert_eq!(before.len(), 3, "{before:?}");
    assert!(before[..2].iter().all(|id| id.starts_with("auto-")));
    assert_eq!(before[2], asked.id);
    let folders: BTreeSet<String> = world
        .store
        .list("savepoints/")
        .unwrap()
        .iter()
        .filter_map(|name| name.split('/').nth(1).map(str::to_owned))
        .collect();
    assert_eq!(folders.len(), 3, "{folders:?}");
    world.crash();
    assert_eq!(ids(&mut world), before, "they are found again");
}

#[test]
fn a_schedule_goes_on_while_the_clock_of_the_machine_stands() {
    let mut world = World::new(1);
    world.savepoint_every_ms = 60_000;
    world.crash();
    world.pass(30_000);
    world.settle();
    // An hour back: until that has passed, timers wait, and what is made by itself does not.
    world.clock.1.fetch_sub(3_600_000, std::sync::atomic::Ordering::Relaxed);
    let count = |world: &mut World| world.node().engine().savepoints().len();
    for (wait_ms, expected) in [(29_999, 0), (1, 1), (59_999, 1), (1, 2)] {
        world.pass(wait_ms);
        world.settle();
        assert_eq!(count(&mut world), expected);
    }
    world.crash();
    world.pass(59_999);
    world.settle();
    assert_eq!(count(&mut world), 2, "a start does not begin to count anew");
    world.pass(1);
    world.settle();
    assert_eq!(count(&mut world), 2, "two are kept");
    let newest = world.node().engine().savepoints().swap_remove(0);
    assert!(newest.id.ends_with("-0003"), "{}", newest.id);
}

#[test]
fn what_is_removed_is_gone_and_counts_no_more() {
    let mut world = World::new(2);
    world.register(0..300, 1_000_000);
    world.max_disk_bytes = 8 << 20;
    world.crash();
    // What is taken besides the logs.
    let counted = |world: &mut World| {
        let figures = world.node().engine().durability_metrics();
        let free = figures.data_dir_free_bytes.expect("there is a bound");
        (8 << 20) - free - world.taken_bytes()
    };
    assert_eq!(counted(&mut world), 0);
    let info = world.savepoint(&[]);
    assert!(info.bytes > 0);
    assert_eq!(counted(&mut world), info.bytes);
    world.crash();
    assert_eq!(counted(&mut world), info.bytes, "a start counts it, too");
    let remove = |world: &mut World, id: &str| {
        let (answer, reply) = slot();
        world.node().engine().remove_savepoint(id, reply);
        world.node().step(NodePart::Checkpointer).expect("the store works");
        answer.lock().unwrap().take().expect("it was answered")
    };
    let under_way = world.ask_savepoint(&[]);
    world.node().step(NodePart::Checkpointer).expect("the store works");
    let begun = world.node().engine().savepoints().swap_remove(0);
    assert_eq!(remove(&mut world, &begun.id), Err(Rejection::SavepointUnderWay));
    world.settle();
    assert!(under_way.lock().unwrap().take().is_some_and(|it| it.is_ok()));
    for id in [&info.id, &begun.id] {
        assert_eq!(remove(&mut world, id), Ok(()));
        assert_eq!(remove(&mut world, id), Err(Rejection::SavepointUnknown));
    }
    world.settle();
    assert_eq!(world.store.list("savepoints/").unwrap(), Vec::<String>::new());
    assert_eq!(counted(&mut world), 0);
    world.crash();
    assert!(world.node().engine().savepoints().is_empty());
}

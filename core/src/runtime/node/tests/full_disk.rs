//! A start on a disk that is full already.

use super::*;
use crate::ports::Disk;

impl World {
    /// Lets all parts take steps, whatever the disk has no room for.
    fn go_round(&mut self) {
        for part in self.node().parts().repeat(30) {
            match self.node().step(part) {
                Err(fault) if fault.is_full() => {}
                outcome => {
                    outcome.expect("there is no room, and that is all");
                }
            }
        }
    }

    /// Everything that was not synced is gone, and so is all room for more.
    fn crash_and_fill(&mut self) {
        self.node = None;
        self.disk = self.disk.crash(None);
        for name in self.disk.names().iter().filter(|name| name.starts_with("spare/")) {
            self.disk.remove(name).expect("it is there");
        }
        self.disk = self.disk.kill();
        self.disk.set_free_bytes(0);
        self.open_parts();
        self.go_round();
    }

    fn is_described(&mut self) -> bool {
        let engine = self.node().engine().clone();
        let namespace = engine.namespace("default").expect("it is always there");
        let answer = Arc::new(Mutex::new(None));
        let mine = Arc::clone(&answer);
        engine.describe(&namespace, Box::new(move |it| *mine.lock().unwrap() = Some(it)));
        self.go_round();
        answer.lock().unwrap().take().is_some_and(|answer| answer.is_ok())
    }

    /// Whether a write, a command and a checkpoint are refused, each for the same reason.
    fn refuses_what_adds(&mut self) -> bool {
        let write = self.submit(70..71, 2_000_000, Ack::Synced);
        let answers: Arc<Mutex<Vec<Option<Rejection>>>> = Arc::default();
        let [command, checkpoint] = [0, 1].map(|_| Arc::clone(&answers));
        let put = Command::Put { config: NamespaceConfig::default(), expected_version: None };
        let engine = self.node().engine().clone();
        let noted = move |answer: Option<Rejection>| command.lock().unwrap().push(answer);
        engine.command("more", put, false, Box::new(move |it| noted(it.err())));
        engine.checkpoint(Box::new(move |it| checkpoint.lock().unwrap().push(it.err())));
        self.go_round();
        let mut answers = answers.lock().unwrap().clone();
        answers.extend(write.lock().unwrap().iter().map(|it| it.clone().err()));
        let is_full = |it: &Option<Rejection>| matches!(it, Some(Rejection::DiskFull { .. }));
        answers.len() == 3 && answers.iter().all(is_full)
    }
}

#[test]
fn it_can_be_read_from_and_goes_on_once_there_is_room() {
    for shards in [1, 3] {
        let mut world = World::new(shards);
        world.register(0..50, 1_000);
        world.register(50..60, 1_000_000);
        world.pass(8_000);
        for _ in 0..2 {
            world.crash_and_fill();
            assert_eq!(world.pending(), 60);
            assert!(world.is_described());
            assert!(world.refuses_what_adds());
            assert!(world.node().engine().durability().is_disk_full);
            assert!(world.outputs(None).is_empty(), "a fire needs room for its tick");
        }
        world.disk.set_free_bytes(u64::MAX);
        world.settle();
        assert_eq!((world.pending(), world.outputs(None).len()), (10, 50));
        assert!(!world.node().engine().durability().is_disk_full);
        world.register(60..70, 1_000_000);
        world.checkpoint();
        world.crash();
        assert_eq!(world.pending(), 20);
        world.pass(1_000_000);
        world.settle();
        check_all_fire_once(&mut world, 70);
    }
}

#[test]
fn outputs_that_it_replays_wait_for_room() {
    let mut world = World::new(1);
    // More than the segment that is there has room for.
    world.register(0..2_000, 1_000);
    world.pass(1_000);
    // Due, written down, and no output of it stands in the log yet.
    for part in [NodePart::Shard(0), NodePart::Committer(0), NodePart::Shard(0)] {
        world.node().step(part).expect("the disk works");
    }
    world.crash_and_fill();
    let before = world.outputs(None).len();
    assert!(before < 2_000, "{before}");
    world.disk.set_free_bytes(u64::MAX);
    world.settle();
    check_all_fire_once(&mut world, 2_000);
}

#[test]
fn a_stop_before_there_was_room_leaves_all_as_it_was() {
    let mut world = World::new(2);
    world.register(0..60, 1_000_000);
    world.crash_and_fill();
    let node = world.node.take().expect("it is open");
    let closed = node.close(100);
    assert!(closed.is_ok() || closed.is_err_and(|fault| fault.is_full()));
    world.disk.set_free_bytes(u64::MAX);
    world.open();
    assert_eq!(world.pending(), 60);
}

#[test]
fn a_new_directory_needs_room_to_begin_and_says_how_much() {
    let disk = MemoryDisk::default();
    disk.set_free_bytes(100_000);
    let options =
        EngineOptions { shards: 2, lanes: 4, max_parallelism: 8, ..EngineOptions::default() };
    let open = || {
        let store: Arc<MemoryStore> = Arc::default();
        let storage = StorageOptions {
            segment_bytes: 1 << 20,
            ..StorageOptions::new(Arc::new(disk.clone()), store)
        };
        Node::open(&options, Some(storage), Arc::new(TestClock::default()))
    };
    let fault = open().err().expect("there is no room").to_string();
    assert!(fault.contains("journal") && fault.contains("2097152 bytes"), "{fault}");
    disk.set_free_bytes(u64::MAX);
    let mut node = open().expect("now there is");
    assert!(node.settle(100_000).expect("the disk works"));
    assert!(node.engine().namespace("default").is_ok());
}

#[test]
fn a_command_that_was_half_done_keeps_no_read_waiting() {
    let mut world = World::new(3);
    world.register(0..60, 1_000_000);
    let put = Command::Put { config: NamespaceConfig::default(), expected_version: None };
    world.node().engine().clone().command("more", put, false, Box::new(|_| {}));
    // Written down where the namespace is at home, wherever that is; done nowhere yet.
    for shard in 0..3 {
        for part in [NodePart::Shard(shard), NodePart::Committer(shard)] {
            world.node().step(part).expect("the disk works");
        }
    }
    world.crash_and_fill();
    let engine = world.node().engine().clone();
    let namespace = engine.namespace("default").expect("it is always there");
    let answers = Arc::new(Mutex::new(Vec::new()));
    for key in 0..30 {
        let mine = Arc::clone(&answers);
        let reply = Box::new(move |it| mine.lock().unwrap().push(it));
        engine.key_timers(&namespace, format!("key-{key}").as_bytes(), reply);
    }
    world.go_round();
    assert_eq!(answers.lock().unwrap().len(), 30, "reads go on");
    assert!(world.node().engine().namespace("more").is_err(), "there was no room for it");
    world.disk.set_free_bytes(u64::MAX);
    world.settle();
    assert!(world.node().engine().namespace("more").is_ok());
    assert_eq!(world.pending(), 60);
}

impl World {
    /// Outputs of this namespace go once they are so old.
    fn retain_for(&mut self, age_ms: i64) {
        let mut config = NamespaceConfig::default();
        config.retention.age_ms = age_ms;
        let put = Command::Put { config, expected_version: None };
        self.node().engine().command("default", put, false, Box::new(drop));
        self.settle();
    }

    fn output_files(&self) -> usize {
        self.disk.names().iter().filter(|name| name.starts_with("outputs/")).count()
    }
}

#[test]
fn outputs_that_are_kept_no_longer_make_room_for_those_that_wait() {
    let mut world = World::new(1);
    world.retain_for(20_000);
    world.register(0..12_000, 1_000);
    world.pass(1_000);
    world.settle();
    world.register(12_000..24_000, 30_000);
    for _ in 0..3 {
        world.checkpoint();
    }
    let files = world.output_files();
    assert!(files > 8, "{files} files of outputs");
    // As much again has no room.
    let bytes = world.node().common.segments.as_ref().expect("there are files").bytes();
    world.node = None;
    world.max_disk_bytes = bytes + 2 * world.segment_bytes;
    world.disk = world.disk.crash(None);
    world.open();
    assert_eq!(world.outputs(None).len(), 12_000);
    world.pass(29_000);
    // All of it fires before any is written.
    for part in [NodePart::Shard(0), NodePart::Committer(0)].repeat(6) {
        world.node().step(part).expect("the log has room for the tick");
    }
    world.go_round();
    world.go_round();
    assert_eq!(world.pending(), 0);
    assert_eq!(world.outputs(None).len(), 12_000, "the new ones");
    assert!(world.output_files() <= files + 2, "{} files", world.output_files());
}

#[test]
fn outputs_that_are_kept_no_longer_go_although_nothing_fires() {
    let mut world = World::new(1);
    world.retain_for(20_000);
    world.register(0..12_000, 1_000);
    world.pass(1_000);
    world.settle();
    for n in 12_000..12_003 {
        world.register(n..n + 1, 1_000_000);
        world.checkpoint();
    }
    assert!(world.output_files() > 8);
    world.pass(25_000);
    world.settle();
    assert!(world.output_files() <= 2, "{} files", world.output_files());
    assert_eq!(world.outputs(None).len(), 0);
}

#[test]
fn a_stop_right_after_there_was_room_leaves_every_journal() {
    let mut world = World::new(2);
    world.register(0..60, 1_000_000);
    world.crash_and_fill();
    world.disk.set_free_bytes(u64::MAX);
    // Each has its first file, and only one of them has written anything.
    let parts = [NodePart::Segments, NodePart::Segments, NodePart::Committer(0)];
    for part in parts.into_iter().chain([NodePart::Committer(1)]) {
        world.node().step(part).expect("there is room");
    }
    let answers: Vec<_> =
        (60..80).map(|n| world.submit(n..n + 1, 1_000_000, Ack::Synced)).collect();
    for _ in 0..3 {
        for part in [NodePart::Shard(0), NodePart::Committer(0)] {
            world.node().step(part).expect("there is room");
        }
    }
    let taken =
        |answer: &Arc<Mutex<Vec<Outcome>>>| answer.lock().unwrap().iter().any(Result::is_ok);
    let taken = answers.iter().filter(|answer| taken(answer)).count();
    assert!((1..20).contains(&taken), "{taken} were on its shard");
    let node = world.node.take().expect("it is open");
    node.common.end();
    for committer in node.committers {
        committer.seal().expect("there is room");
    }
    world.disk = world.disk.crash(None);
    world.open();
    assert_eq!(world.pending(), 60 + taken as u64);
}

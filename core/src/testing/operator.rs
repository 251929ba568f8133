//! The harness over bytes: a whole engine of one namespace on a disk in memory, each of whose parts
//! takes its steps when the harness says so.

use crate::error::Rejection;
use crate::function::{FunctionTimer, Operators, TimerId};
use crate::namespace::{
    Broadcast, BroadcastResult, ClockChange, ClockKind, Closing, Command, CommandReply,
    NamespaceConfig, NamespaceStatus, ProcessingTimers, SourceChange, SourceResult, Stop,
};
use crate::op::{Action, Element, Op, Outcome, Payload, ResultKind};
use crate::output::{Cursor, OutputId, OutputKind, OutputRecord};
use crate::ports::{MachineClock, SnapshotStore};
use crate::runtime::{Engine, EngineOptions, Fault, NamespaceEntry, Node, Reply, StorageOptions};
use crate::storage::{MemoryStore, memory_disk::MemoryDisk};
use crate::time::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};

const NAMESPACE: &str = "harness";
const SOURCE: &str = "harness";
/// Key groups and lanes: enough to be spread, few enough to be quick.
const MAX_PARALLELISM: u16 = 32;
pub(super) const LANES: u16 = 8;
const SEGMENT_BYTES: u64 = 256 << 10;
const STEPS_MAX: usize = 100_000_000;
const OUTPUT_BYTES: usize = 1 << 20;

/// A value that an operator has emitted, as it was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// What makes it itself.
    pub id: OutputId,
    /// Its key.
    pub key: Vec<u8>,
    /// The side output that it went to; `None`: the main one.
    pub tag: Option<String>,
    /// Its timestamp, if it has one.
    pub timestamp: Option<Timestamp>,
    /// JSON text, or any bytes.
    pub value: Vec<u8>,
}

/// See the module. [`super::Harness`] is its typed face.
pub struct OperatorHarness {
    node: Option<Node>,
    disk: MemoryDisk,
    store: MemoryStore,
    options: EngineOptions,
    /// Outputs up to here were read.
    cursor: Cursor,
    /// Those that were read, and not taken.
    outputs: Vec<Emitted>,
    /// It goes on as soon as it has an answer.
    is_eager: bool,
}

/// Everything that a harness was at one moment.
pub struct HarnessSnapshot {
    disk: MemoryDisk,
    store: MemoryStore,
    cursor: Cursor,
    outputs: Vec<Emitted>,
}

/// What the machine says the time is: always the same. The namespace has a clock of its own.
struct StandingClock;

impl MachineClock for StandingClock {
    fn realtime_ms(&self) -> i64 {
        0
    }

    fn boottime_ms(&self) -> i64 {
        0
    }
}

impl OperatorHarness {
    /// A harness of a namespace that is configured so, on a manual clock that stands at 0, before any
    /// watermark.
    pub fn new(operators: Operators, config: NamespaceConfig) -> Result<Self, Rejection> {
        let options = EngineOptions {
            shards: 1,
            lanes: LANES,
            max_parallelism: MAX_PARALLELISM,
            operators,
            ..EngineOptions::default()
        };
        Self::with_options(options, config)
    }

    /// The same, over an engine of these options.
    pub fn with_options(
        options: EngineOptions,
        config: NamespaceConfig,
    ) -> Result<Self, Rejection> {
        let mut it = Self {
            is_eager: false,
            node: None,
            disk: MemoryDisk::default(),
            store: MemoryStore::new(),
            options,
            cursor: Cursor(0),
            outputs: Vec::new(),
        };
        it.open().expect("there is nothing on the disk that could be wrong");
        let config = NamespaceConfig { clock: ClockKind::Manual, ..config };
        config.validate()?;
        it.command(Command::Put { config, expected_version: None })?;
        it.advance_clock(0);
        Ok(it)
    }

    fn open(&mut self) -> Result<(), Fault> {
        let snapshots = Arc::new(self.store.clone()) as Arc<dyn SnapshotStore>;
        let storage = StorageOptions {
            segment_bytes: SEGMENT_BYTES,
            checkpoint_interval_ms: 0,
            checkpoint_over_ms: 0,
            ..StorageOptions::new(Arc::new(self.disk.clone()), snapshots)
        };
        self.node = Some(Node::open(&self.options, Some(storage), Arc::new(StandingClock))?);
        self.settle();
        Ok(())
    }

    fn node(&mut self) -> &mut Node {
        self.node.as_mut().expect("it is closed only to be opened again")
    }

    fn settle(&mut self) {
        let settled = self.node().settle(STEPS_MAX);
        assert!(settled.expect("a disk in memory does not fail"), "an operator works without end");
    }

    /// Asks the engine, and lets it work until it has nothing left to do.
    fn ask<T: Send + 'static>(&mut self, ask: impl FnOnce(&Engine, Reply<T>)) -> T {
        let answer = Arc::new(Mutex::new(None));
        let mine = Arc::clone(&answer);
        let reply = Box::new(move |it| {
            *mine.lock().unwrap_or_else(PoisonError::into_inner) = Some(it);
        });
        let engine = self.node().engine().clone();
        ask(&engine, reply);
        while self.is_eager && answer.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            if !self.step_all() {
                break;
            }
        }
        if !self.is_eager {
            self.settle();
        }
        let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        answer.expect("what was asked is answered before there is nothing left to do")
    }

    /// Lets each part take one step. Returns whether one of them had anything to do.
    fn step_all(&mut self) -> bool {
        let node = self.node();
        let mut is_busy = false;
        for part in node.parts() {
            is_busy |= node.step(part).expect("a disk in memory does not fail");
        }
        is_busy
    }

    /// From now on a call returns once it has its answer, although timers may still be firing: what is
    /// asked next comes in between. [`OperatorHarness::take_all`] waits for all of them.
    pub fn go_ahead(&mut self) {
        self.is_eager = true;
    }

    pub(super) fn command(&mut self, command: Command) -> Result<CommandReply, Rejection> {
        let settle = !self.is_eager;
        self.ask(|engine, reply| engine.command(NAMESPACE, command, settle, reply))
    }

    fn namespace(&mut self) -> Arc<NamespaceEntry> {
        self.node().engine().namespace(NAMESPACE).expect("it was made with the harness")
    }

    /// Hands an element over and lets everything happen that follows from it.
    pub fn process(
        &mut self,
        key: &[u8],
        input: u8,
        value: Payload<'_>,
        timestamp: Timestamp,
    ) -> Result<ResultKind, Rejection> {
        let element = Element { timestamp, input, value };
        self.submit(&[Op { key, action: Action::Element(element) }]).remove(0).map(|it| it.result)
    }

    /// Hands operations over in one batch and lets everything happen that follows from them.
    pub fn submit(&mut self, ops: &[Op<'_>]) -> Vec<Outcome> {
        let namespace = self.namespace();
        let mut batch = self.node().engine().batch(&namespace);
        let pushed: Vec<Result<(), Rejection>> = ops.iter().map(|op| batch.push(op)).collect();
        let outcomes = self.ask(|engine, reply| engine.submit(batch, reply));
        let mut taken = outcomes.into_iter();
        let outcome = |pushed: Result<(), Rejection>| {
            pushed.and_then(|()| taken.next().unwrap_or(Err(Rejection::Stopping)))
        };
        pushed.into_iter().map(outcome).collect()
    }

    /// Hands an element for all keys over, a JSON text, and lets everything happen that follows from
    /// it.
    pub fn broadcast(
        &mut self,
        value: &str,
        timestamp: Timestamp,
    ) -> Result<BroadcastResult, Rejection> {
        let it = Broadcast { timestamp, value: value.into(), producer: None };
        self.send_broadcast(it).map(|(result, _)| result)
    }

    /// The same of a broadcast that may say who sends it. Returns also how many keys were visited.
    pub fn send_broadcast(&mut self, it: Broadcast) -> Result<(BroadcastResult, u64), Rejection> {
        let reply = self.command(Command::Broadcast(it))?;
        let CommandReply::Broadcast { result, visited } = reply else {
            unreachable!("a broadcast answers for itself")
        };
        Ok((result, visited))
    }

    /// Moves the watermark, if that is forward, and fires what it makes due.
    pub fn advance_watermark(&mut self, to_ms: i64) {
        let change = SourceChange::Watermark(Timestamp::from_millis(to_ms));
        self.change_source(SOURCE, change).expect("the namespace is there, and takes a source");
    }

    /// Moves, idles or forgets one of several sources of the watermark, and fires what that makes due.
    pub fn change_source(
        &mut self,
        source: &str,
        change: SourceChange,
    ) -> Result<SourceResult, Rejection> {
        let reply = self.command(Command::Source { source: source.to_owned(), change })?;
        let CommandReply::Source { result, .. } = reply else {
            unreachable!("a source answers for itself")
        };
        Ok(result)
    }

    /// Moves the clock, if that is forward, and fires what it makes due. Returns whether it was.
    pub fn advance_clock(&mut self, to_ms: i64) -> bool {
        let command = Command::Clock(ClockChange::Set(Timestamp::from_millis(to_ms)));
        let reply = self.command(command).expect("the namespace is there, and has a manual clock");
        matches!(reply, CommandReply::Clock { advanced: true, .. })
    }

    /// Ends the input: the final watermark comes, and the timers of processing time fire, wait or go.
    pub fn close(&mut self, timers: ProcessingTimers) -> Result<Closing, Rejection> {
        let CommandReply::Closed { closing, .. } = self.command(Command::Close(timers))? else {
            unreachable!("a close answers for itself")
        };
        Ok(closing)
    }

    /// Why the namespace has stopped, if it has.
    pub fn stopped(&mut self) -> Option<Stop> {
        self.status().stopped.map(Arc::unwrap_or_clone)
    }

    /// How the namespace stands.
    pub(super) fn status(&mut self) -> NamespaceStatus {
        let namespace = self.namespace();
        let status = self.ask(|engine, reply| engine.describe(&namespace, reply));
        status.expect("the namespace is there")
    }

    /// What its functions have met since the last start.
    #[cfg(test)]
    pub(super) fn engine_metrics(&mut self) -> crate::runtime::FunctionMetrics {
        self.settle();
        self.node().engine().metrics().functions
    }

    /// Lets the namespace go on after a stop, and everything happen that follows from that.
    pub fn resume(&mut self) {
        self.command(Command::Resume).expect("the namespace is there");
    }

    /// Changes the configuration.
    pub fn configure(&mut self, config: NamespaceConfig) -> Result<(), Rejection> {
        let config = NamespaceConfig { clock: ClockKind::Manual, ..config };
        self.command(Command::Put { config, expected_version: None }).map(drop)
    }

    /// What was emitted to the main output (`None`) or to a side output since this was called last,
    /// in the order of emission for each key.
    pub fn take_outputs(&mut self, tag: Option<&str>) -> Vec<Emitted> {
        self.read();
        let is_wanted = |it: &mut Emitted| it.tag.as_deref() == tag;
        self.outputs.extract_if(.., is_wanted).collect()
    }

    /// The same, of all outputs.
    pub fn take_all(&mut self) -> Vec<Emitted> {
        self.read();
        std::mem::take(&mut self.outputs)
    }

    fn read(&mut self) {
        self.settle();
        let engine = self.node().engine().clone();
        let namespace = self.namespace().id;
        let mut after = self.cursor.max(engine.outputs().earliest(namespace));
        loop {
            let read = engine.outputs().read(namespace, after, OUTPUT_BYTES);
            let read = read.expect("what was emitted can be read");
            let records = read.blocks.iter().flat_map(|block| block.after(after));
            let mut last = None;
            for (cursor, record) in records {
                self.outputs.extend(emitted(&record));
                last = Some(cursor);
            }
            match last {
                Some(cursor) => after = cursor,
                None => break,
            }
        }
        self.cursor = after;
    }

    /// The timers of a key, in the order (domain, time, name).
    pub fn timers(&mut self, key: &[u8]) -> Vec<FunctionTimer> {
        let namespace = self.namespace();
        let timers = self.ask(|engine, reply| engine.key_timers(&namespace, key, reply));
        let timers = timers.expect("the namespace is there").into_iter().map(|timer| {
            let id = TimerId::of_stored(timer.name.as_deref()).into_owned();
            FunctionTimer { domain: timer.domain, time: timer.fire_at, id }
        });
        timers.collect()
    }

    /// The state of a key, as it is written down.
    pub fn state(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let namespace = self.namespace();
        let state = self.ask(|engine, reply| engine.key_state(&namespace, key, reply));
        state.expect("the namespace is there")
    }

    /// The broadcast state, as it is written down.
    pub fn broadcast_state(&mut self) -> Option<Vec<u8>> {
        let namespace = self.namespace();
        let state = self.ask(|engine, reply| engine.broadcast_state(&namespace, reply));
        state.expect("the namespace is there").map(|state| state.to_vec())
    }

    /// How many keys hold something.
    pub fn keys(&mut self) -> u64 {
        self.namespace().keys()
    }

    /// Writes everything down as of now.
    pub fn snapshot(&mut self) -> HarnessSnapshot {
        self.read();
        self.checkpoint();
        HarnessSnapshot {
            disk: self.disk.kill(),
            store: copy(&self.store),
            cursor: self.cursor,
            outputs: self.outputs.clone(),
        }
    }

    pub(super) fn checkpoint(&mut self) {
        let done = self.ask(Engine::checkpoint);
        done.expect("a store in memory takes it");
    }

    /// Goes back to what was written down, with all that was to come.
    pub fn restore(&mut self, snapshot: &HarnessSnapshot) {
        self.node = None;
        self.disk = snapshot.disk.kill();
        self.store = copy(&snapshot.store);
        self.cursor = snapshot.cursor;
        self.outputs.clone_from(&snapshot.outputs);
        self.open().expect("a snapshot of this harness can be opened");
    }

    /// Hands a broadcast over and lets each part take so many steps, whatever comes of it.
    #[cfg(test)]
    pub(super) fn broadcast_and_leave(&mut self, it: Broadcast, steps: usize) {
        let engine = self.node().engine().clone();
        engine.command(NAMESPACE, Command::Broadcast(it), false, Box::new(drop));
        for _ in 0..steps {
            self.step_all();
        }
    }

    /// The power goes in the middle of whatever is under way, and comes back.
    #[cfg(test)]
    pub(super) fn crash_now(&mut self) {
        self.node = None;
        self.disk = self.disk.crash(None);
        self.open().expect("what was durable can be opened");
    }

    /// Goes on from a savepoint of itself, restored into another layout.
    #[cfg(test)]
    pub(super) fn restore_elsewhere(&mut self, max_parallelism: u16, lanes: u16) {
        use crate::storage::{RestoreOptions, SavepointReader, restore};
        self.read();
        let info = self.ask(|engine, reply| engine.savepoint(None, reply));
        let folder = format!("savepoints/{}/", info.expect("nothing stands against it").id);
        let saved = Arc::new(self.store.clone()) as Arc<dyn SnapshotStore>;
        let reader = SavepointReader::open(saved, &folder).expect("it is whole");
        self.node = None;
        (self.disk, self.store) = (MemoryDisk::default(), MemoryStore::new());
        let disk = Arc::new(self.disk.clone()) as Arc<dyn crate::ports::Disk>;
        let store = Arc::new(self.store.clone()) as Arc<dyn SnapshotStore>;
        let (directory_id, now_ms, segment_bytes) = ([9; 16], 0, SEGMENT_BYTES);
        let options =
            RestoreOptions { directory_id, max_parallelism, lanes, now_ms, segment_bytes };
        restore(&reader, &disk, &store, &options).expect("it can be restored");
        (self.options.max_parallelism, self.options.lanes) = (max_parallelism, lanes);
        self.open().expect("what was restored can be opened");
        self.cursor = self.node().engine().outputs().latest();
    }

    /// The power goes, and comes back: what follows is the last snapshot, and the log behind it.
    pub fn crash(&mut self) {
        self.read();
        self.node = None;
        self.disk = self.disk.crash(None);
        self.open().expect("what was durable can be opened");
    }

    /// Ends in good order, and starts again: what follows is what was written down at the end.
    pub fn restart(&mut self) {
        let operators = self.options.operators.clone();
        self.restart_with(operators).expect("what it has closed it can open");
    }

    /// The same, on so many threads (or what would be threads): 1 to 8.
    pub fn rescale(&mut self, shards: u16) {
        self.options.shards = shards.clamp(1, self.options.lanes);
        self.restart();
    }

    /// Starts again with other operators. Refused if the one that it runs is not among them.
    pub fn restart_with(&mut self, operators: Operators) -> Result<(), Fault> {
        if self.node.is_some() {
            self.read();
        }
        if let Some(node) = self.node.take() {
            node.close(STEPS_MAX).expect("a disk in memory does not fail");
        }
        self.options.operators = operators;
        self.open()
    }
}

fn emitted(record: &OutputRecord<'_>) -> Option<Emitted> {
    let OutputKind::Value { tag, timestamp } = record.kind else { return None };
    let value = record.payload.map_or(&[][..], |payload| payload.bytes()).to_vec();
    let (id, key) = (record.id, record.key.to_vec());
    Some(Emitted { id, key, tag: tag.map(str::to_owned), timestamp, value })
}

fn copy(store: &MemoryStore) -> MemoryStore {
    let copy = MemoryStore::new();
    for name in store.list("").expect("a store in memory does not fail") {
        let bytes = store.get(&name).expect("it was just listed");
        copy.put(&name, bytes).expect("the copy is new");
    }
    copy
}

//! The engine in its simulated machine: the one file that knows how a node is opened and stepped.

use crate::announce::Listener;
use crate::clock::SimClock;
use crate::disk::SimDisk;
use crate::functions::{FUNCTION, LISTENER};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::script::Script;
use crate::store::SimStore;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use stormwheel::function::Operators;
use stormwheel::key_group::Layout;
use stormwheel::ports::{Disk, MachineClock, SnapshotStore};
use stormwheel::runtime::{
    ClockOptions, Engine, EngineOptions, Fault, FaultKind, Node, NodePart, StorageOptions,
};
use stormwheel::storage::{RestoreFault, RestoreOptions, SavepointFault, SavepointReader, restore};

/// What stays the same over all restarts of a world.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) max_parallelism: u16,
    pub(crate) lanes: u16,
    pub(crate) segment_bytes: u64,
    pub(crate) checkpoint_interval_ms: i64,
    pub(crate) checkpoint_over_ms: i64,
    pub(crate) queue_bytes_max: usize,
    pub(crate) clock: ClockOptions,
    /// Timers that a shard fires before it serves its queue: few, so that many storms are above it.
    pub(crate) slice: u32,
    /// Keys that the client knows, in each namespace.
    pub(crate) keys: u64,
    /// Bytes of a batch, more or less, at most.
    pub(crate) batch_bytes: usize,
}

impl Setup {
    /// Random: a fault often needs an unusual configuration to show.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        if rng.below(24) == 0 {
            return Self::wide(rng);
        }
        let lanes = *rng.pick(&[1, 2, 4, 8]);
        Self {
            max_parallelism: lanes * *rng.pick(&[1, 2, 3, 8]),
            lanes,
            segment_bytes: *rng.pick(&[32 << 10, 64 << 10, 256 << 10]),
            checkpoint_interval_ms: *rng.pick(&[0, 0, 20, 1_000]),
            checkpoint_over_ms: *rng.pick(&[0, 0, 10, 500]),
            queue_bytes_max: *rng.pick(&[4 << 10, 1 << 20, 1 << 20]),
            clock: ClockOptions::default(),
            slice: *rng.pick(&[16, 64, 4_096]),
            keys: 24,
            batch_bytes: 12 << 10,
        }
    }

    /// Few partitions with many keys: snapshots of them are written in slices, with requests in
    /// between.
    fn wide(rng: &mut Rng) -> Self {
        Self {
            max_parallelism: *rng.pick(&[1, 2]),
            lanes: 1,
            segment_bytes: 256 << 10,
            checkpoint_interval_ms: *rng.pick(&[0, 20]),
            checkpoint_over_ms: *rng.pick(&[10, 100]),
            queue_bytes_max: 1 << 20,
            clock: ClockOptions::default(),
            slice: *rng.pick(&[256, 4_096]),
            keys: 2_000,
            batch_bytes: 48 << 10,
        }
    }

    /// Plain: for what is to be exact rather than various.
    pub(crate) fn plain() -> Self {
        Self {
            max_parallelism: 8,
            lanes: 2,
            segment_bytes: 32 << 10,
            checkpoint_interval_ms: 0,
            checkpoint_over_ms: 0,
            queue_bytes_max: 1 << 20,
            clock: ClockOptions::default(),
            slice: 4_096,
            keys: 24,
            batch_bytes: 12 << 10,
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.max_parallelism, self.lanes, 1).expect("the numbers above are legal")
    }
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stepped {
    Did,
    Idle,
    /// The disk is full; the node goes on.
    Full(String),
    /// The node is good for nothing any more.
    Broken(String),
}

/// See the module.
pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) disk: SimDisk,
    pub(crate) store: SimStore,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) setup: Setup,
    /// With `max_disk_bytes` so much above what the files have at the next start.
    pub(crate) free_bytes: Option<u64>,
    /// Of the function: how often it was mended.
    pub(crate) version: Arc<AtomicU64>,
    node: Option<Node>,
}

impl World {
    pub(crate) fn new(seed: u64, setup: Setup) -> Self {
        let machine = Machine::new(seed);
        let disk = SimDisk::new(machine.clone());
        let store = SimStore::new(machine.clone());
        Self {
            machine,
            disk,
            store,
            clock: Arc::new(SimClock::new()),
            setup,
            free_bytes: None,
            version: Arc::default(),
            node: None,
        }
    }

    /// A world of its own whose disk and store hold the same, with nothing running.
    pub(crate) fn copy(&self, seed: u64) -> Self {
        let machine = Machine::new(seed);
        let disk = self.disk.copy(machine.clone());
        let store = self.store.copy(machine.clone());
        let clock = Arc::clone(&self.clock);
        Self {
            machine,
            disk,
            store,
            clock,
            setup: self.setup.clone(),
            free_bytes: None,
            version: Arc::clone(&self.version),
            node: None,
        }
    }

    /// Opens a node on what the disk holds.
    pub(crate) fn open(&mut self, shards: u16) -> Result<(), Fault> {
        let (version, of_listener) = (Arc::clone(&self.version), Arc::clone(&self.version));
        let options = EngineOptions {
            shards: shards.clamp(1, self.setup.lanes),
            lanes: self.setup.lanes,
            max_parallelism: self.setup.max_parallelism,
            pin: false,
            queue_bytes_max: self.setup.queue_bytes_max,
            clock: self.setup.clock,
            slice: self.setup.slice,
            operators: Operators::default()
                .with_function(FUNCTION, move || Script { version: Arc::clone(&version) })
                .with_broadcast_function(LISTENER, move || {
                    Listener(Script { version: Arc::clone(&of_listener) })
                }),
            ..EngineOptions::default()
        };
        let mut storage =
            StorageOptions::new(Arc::new(self.disk.clone()), Arc::new(self.store.clone()));
        storage.segment_bytes = self.setup.segment_bytes;
        let used_bytes = self.disk.used_bytes();
        storage.max_disk_bytes = self.free_bytes.map_or(u64::MAX, |free| used_bytes + free);
        storage.checkpoint_interval_ms = self.setup.checkpoint_interval_ms;
        storage.checkpoint_over_ms = self.setup.checkpoint_over_ms;
        let clock = Arc::clone(&self.clock) as Arc<dyn MachineClock>;
        self.node = Some(Node::open(&options, Some(storage), clock)?);
        Ok(())
    }

    /// Restores a savepoint of the store into a new directory with a new store, and takes these for its
    /// own. `calls`: the machine goes down in the middle of that call, and nothing is restored.
    pub(crate) fn restore(
        &mut self,
        id: &str,
        options: &RestoreOptions,
        calls: Option<u64>,
    ) -> Result<(), RestoreFault> {
        let reader = self.savepoint(id)?;
        let (disk, store) =
            (SimDisk::new(self.machine.clone()), SimStore::new(self.machine.clone()));
        let port: Arc<dyn Disk> = Arc::new(disk.clone());
        let snapshots: Arc<dyn SnapshotStore> = Arc::new(store.clone());
        if let Some(calls) = calls {
            self.machine.go_down_in(calls);
        }
        let info = restore(&reader, &port, &snapshots, options)?;
        self.setup.max_parallelism = info.max_parallelism;
        self.setup.lanes = info.lanes;
        (self.disk, self.store) = (disk, store);
        Ok(())
    }

    /// Reads a savepoint of the store.
    pub(crate) fn savepoint(&self, id: &str) -> Result<SavepointReader, SavepointFault> {
        SavepointReader::open(Arc::new(self.store.clone()), &format!("savepoints/{id}/"))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.node.is_some()
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.node.as_ref().expect("a node is open").engine()
    }

    pub(crate) fn parts(&self) -> Vec<NodePart> {
        self.node.as_ref().map(Node::parts).unwrap_or_default()
    }

    pub(crate) fn step(&mut self, part: NodePart) -> Stepped {
        let Some(node) = &mut self.node else { return Stepped::Idle };
        match node.step(part) {
            Ok(true) => Stepped::Did,
            Ok(false) => Stepped::Idle,
            Err(fault) if fault.is_full() => Stepped::Full(fault.to_string()),
            // A checkpoint that failed is one that is not there; the next one is tried in its time.
            Err(fault) if part == NodePart::Checkpointer && !self.machine.is_down() => {
                Stepped::Full(fault.to_string())
            }
            Err(fault) => Stepped::Broken(fault.to_string()),
        }
    }

    /// The node is gone; what it left is on the disk.
    pub(crate) fn drop_node(&mut self) {
        self.node = None;
    }

    /// The node is asked to end gracefully.
    pub(crate) fn close(&mut self, steps_max: usize) -> Result<(), String> {
        match self.node.take() {
            Some(node) => node.close(steps_max).map_err(|fault| fault.to_string()),
            None => Ok(()),
        }
    }

    /// What the engine's clock reads.
    pub(crate) fn now_ms(&self) -> i64 {
        self.engine().status().clock.now_ms
    }
}

/// Whether a start failed because a call to the disk did, and so may succeed at the next attempt.
pub(crate) fn is_of_the_disk(fault: &Fault) -> bool {
    fault.kind() == FaultKind::Disk
}

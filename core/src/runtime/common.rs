//! What the threads of an engine share, and what they hand each other.

use super::checkpoints::{Checkpoint, CheckpointBoard};
use super::clock::AdjustedClock;
use super::committer::Commit;
use super::directory::Namespaces;
use super::metrics::{EngineCells, ShardCells};
use super::output_log::OutputLog;
use super::recovered::RecoveryInfo;
use super::savepoints::SavepointBoard;
use super::watch::Watch;
use crate::key_group::{Layout, ShardIndex};
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::output::{Cursor, OutputBytes};
use crate::shard::{Message, Then};
use crate::storage::Segments;
use crossbeam_channel::Sender;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A request as it waits in a queue.
pub(super) struct Queued {
    pub(super) message: Message,
    pub(super) cost_bytes: usize,
}

/// Outputs on their way to be readable, and what waits for that.
pub(super) struct OutputTurn {
    pub(super) outputs: Vec<OutputBytes>,
    pub(super) visible: Then,
}

/// What is said to the publisher.
pub(super) enum Publish {
    /// Make these readable.
    Turn(OutputTurn),
    /// Outputs at or below it are not needed for a recovery.
    Floor(Cursor),
}

/// See the module.
pub(super) struct Common {
    pub(super) layout: Layout,
    pub(super) clock: AdjustedClock,
    pub(super) namespaces: Arc<Namespaces>,
    pub(super) outputs: Arc<OutputLog>,
    pub(super) queues: Vec<Sender<Queued>>,
    pub(super) cells: Vec<ShardCells>,
    /// How long the threads that write have been at what they do.
    pub(super) watch: Watch,
    pub(super) engine_cells: EngineCells,
    /// Nothing more is taken in, and no time passes.
    pub(super) is_stopping: AtomicBool,
    /// Threads end as soon as they have nothing left to do.
    pub(super) is_ended: AtomicBool,
    /// What threads wait on that wait for nothing but time.
    pub(super) resting: (Mutex<()>, Condvar),
    /// Where the journals' and the output log's segments come from; none: everything is in memory.
    pub(super) segments: Option<Arc<Segments>>,
    /// What is known of checkpoints.
    pub(super) checkpoints: CheckpointBoard,
    /// What is known of savepoints.
    pub(super) savepoints: SavepointBoard,
    /// Where parts of snapshots go.
    pub(super) parts: OnceLock<Sender<Checkpoint>>,
    /// Why nothing is written any more, if so.
    pub(super) poison: OnceLock<String>,
    /// What the recovery came to, if there was one.
    pub(super) recovery: OnceLock<RecoveryInfo>,
}

impl Common {
    /// Sends between shards: never refused, there are few of them.
    pub(super) fn send(&self, shard: ShardIndex, message: Message) {
        let place = shard.0 as usize;
        self.cells[place].queue_depth.fetch_add(1, Ordering::Relaxed);
        let queued = Queued { message, cost_bytes: 0 };
        if self.queues[place].send(queued).is_err() {
            // The shard has ended; so does the engine.
            self.cells[place].queue_depth.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets go what waited.
    pub(super) fn run(&self, then: Then) {
        then.run(&mut |shard, message| self.send(shard, message), &mut |part| {
            self.engine_cells.add_part(part.len_bytes());
            if let Some(to) = self.parts.get() {
                // Without a checkpointer there is no checkpoint to spoil.
                let _ = to.send(Checkpoint::Part(part));
            }
        });
    }

    /// Bytes that were appended to the journals since the start.
    pub(super) fn appended(&self) -> u64 {
        self.cells.iter().map(|cells| cells.log_bytes.load(Ordering::Relaxed)).sum()
    }

    /// Bytes of the log that were followed at the start, and that were appended since.
    pub(super) fn followable(&self) -> u64 {
        self.recovery.get().map_or(0, |recovery| recovery.replayed_bytes) + self.appended()
    }

    /// Whether every shard has a journal of this epoch.
    pub(super) fn has_journals(&self) -> bool {
        self.cells.iter().all(|cells| cells.has_journal.load(Ordering::Acquire))
    }

    /// Bytes whose place in the log is assured, in the shard that has the fewest.
    pub(super) fn least_log_room(&self) -> u64 {
        let room = self.cells.iter().map(|cells| {
            let pending = cells.log_pending_bytes.load(Ordering::Acquire);
            cells.log_assured_bytes.load(Ordering::Acquire).saturating_sub(pending)
        });
        room.min().unwrap_or(0)
    }

    /// Bytes of a payload, whatever a namespace allows: the log has to have room for it.
    pub(super) fn payload_bytes_max(&self) -> usize {
        self.segments.as_ref().map_or(PAYLOAD_BYTES_MAX, |segments| segments.payload_bytes_max())
    }

    /// Bytes that the data directory may still grow by, if that can be told.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        self.segments.as_ref().and_then(|segments| segments.free_bytes().ok())
    }

    /// Waits for so long, or until the engine ends.
    pub(super) fn rest(&self, time: Duration) {
        let guard = self.resting.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_ended.load(Ordering::Acquire) {
            // Woken early or not: whoever rests looks again.
            drop(self.resting.1.wait_timeout(guard, time));
        }
    }

    /// Lets every thread end as soon as it has nothing left to do.
    pub(super) fn end(&self) {
        let _guard = self.resting.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_ended.store(true, Ordering::Release);
        self.resting.1.notify_all();
    }

    /// Nothing is acknowledged from here on, for the rest of the process's life, and nothing more
    /// becomes readable: whoever waits for it is told.
    pub(super) fn poison(&self, reason: &str) {
        // The first reason is the one that counts.
        let _ = self.poison.set(reason.to_owned());
        self.outputs.close();
    }

    /// Whether nothing is acknowledged any more.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }
}

/// Where a shard's turns go.
pub(super) enum Turns {
    /// Nothing is written down: what is applied is as durable as it gets.
    Memory,
    /// Through the journal.
    Journal(Sender<Commit>),
}

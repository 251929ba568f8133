//! STAND-IN for what makes the engine durable: the types and calls that the server is built against,
//! with empty answers. Whatever becomes real moves to where it belongs, and this file goes.
#![allow(
    clippy::unused_self,
    clippy::needless_pass_by_value,
    reason = "the calls have the form that the real ones have"
)]

use super::batch::{Batch, Reply};
use super::engine::{Engine, EngineOptions};
use crate::error::{Fault, Rejection};
use crate::ports::{Disk, DiskFile, MachineClock, SnapshotStore};
use std::fs::create_dir_all;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

/// STAND-IN. Where an engine keeps what it must not lose, and how.
#[derive(Clone)]
pub struct StorageOptions {
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// Where snapshots go.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// Bytes of one segment of a log.
    pub segment_bytes: u64,
    /// Bytes of the whole data directory; `u64::MAX`: as much as the disk has.
    pub max_disk_bytes: u64,
    /// From the beginning of one checkpoint to that of the next; 0: only when asked.
    pub checkpoint_interval_ms: i64,
    /// How long a checkpoint is spread over; 0: as fast as it can be.
    pub checkpoint_over_ms: i64,
    /// Follow the tail of a log that another version of the engine wrote.
    pub replay_other_version: bool,
    /// How far recovery is, for those who wait for it.
    pub progress: Arc<RecoveryProgress>,
}

/// STAND-IN. How far recovery is: written by the engine that starts, read by whoever asks. Nothing
/// is ordered by it.
#[derive(Debug, Default)]
pub struct RecoveryProgress {
    /// Keys loaded from snapshots so far.
    pub loaded_keys: AtomicU64,
    /// Bytes of the log followed so far.
    pub replayed_bytes: AtomicU64,
    /// Bytes of the log to be followed; 0 as long as that is not known.
    pub replay_bytes: AtomicU64,
}

impl RecoveryProgress {
    /// Keys loaded, bytes of the log followed, and bytes to be followed.
    pub fn look(&self) -> (u64, u64, u64) {
        // Relaxed: figures to look at.
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.loaded_keys), read(&self.replayed_bytes), read(&self.replay_bytes))
    }
}

/// STAND-IN. One checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckpointInfo {
    /// Its number; they rise.
    pub number: u64,
    /// When it began.
    pub began_ms: i64,
    /// When it ended; `None`: it is under way.
    pub ended_ms: Option<i64>,
    /// Bytes of all objects that it stands on.
    pub total_bytes: u64,
    /// Bytes that it wrote.
    pub written_bytes: u64,
    /// Keys that it wrote.
    pub written_keys: u64,
    /// Partitions that it wrote.
    pub written_partitions: u64,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// STAND-IN. What recovery found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecoveryInfo {
    /// How long it took.
    pub seconds: f64,
    /// Bytes of the log that were followed.
    pub replayed_bytes: u64,
    /// Records of the log that were followed.
    pub replayed_records: u64,
    /// Keys that were loaded from snapshots.
    pub loaded_keys: u64,
    /// What crashes left unfinished at the end of logs, one sentence each.
    pub torn_tails: Vec<String>,
    /// For how long nothing could fire.
    pub downtime_ms: i64,
}

/// STAND-IN. What belongs into `EngineStatus`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DurabilityStatus {
    /// Why nothing is acknowledged any more.
    pub poisoned: Option<String>,
    /// There is no room to write down more.
    pub is_disk_full: bool,
    /// What recovery found; `None`: everything is in memory.
    pub recovered: Option<RecoveryInfo>,
}

/// STAND-IN. Upper bounds of the buckets of the time that a sync takes, in seconds.
pub const SYNC_BOUNDS_SECONDS: [f64; 12] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, f64::INFINITY];

/// STAND-IN. A histogram of how long syncs of the log took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SyncHistogram {
    /// How many fell into each bucket (not cumulative), in the order of [`SYNC_BOUNDS_SECONDS`].
    pub counts: [u64; SYNC_BOUNDS_SECONDS.len()],
    /// The sum of all, in seconds.
    pub sum_seconds: f64,
}

/// STAND-IN. What belongs into `EngineMetrics`.
#[derive(Debug, Clone, Default)]
pub struct DurabilityMetrics {
    /// How long syncs of the log took.
    pub syncs: SyncHistogram,
    /// Bytes of all journals.
    pub log_bytes: u64,
    /// Bytes of the log that a start would have to follow now.
    pub log_replay_bytes: u64,
    /// Bytes of the objects that the last checkpoint stands on.
    pub checkpoint_size_bytes: u64,
    /// How long the last checkpoint took.
    pub checkpoint_duration_seconds: f64,
    /// When the last one that did not fail ended; `None`: there was none.
    pub checkpoint_last_success_ms: Option<i64>,
    /// Checkpoints that failed.
    pub checkpoint_failures: u64,
    /// How long the recovery at the start took.
    pub recovery_duration_seconds: f64,
    /// Bytes that are free for the data directory; `None`: not known, or there is none.
    pub data_dir_free_bytes: Option<u64>,
}

/// STAND-IN. What a [`Fault`] means for somebody who starts the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Numbers that cannot be.
    Options,
    /// The data directory cannot be used: in use, not ours, newer, of another layout, read-only.
    Directory,
    /// What was durable is not there, or is not what was written.
    Corruption,
    /// The disk did not do what it was asked to.
    Disk,
    /// The machine did not give what a process needs.
    Machine,
}

impl Fault {
    /// STAND-IN. What it means for somebody who starts the process.
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Options { .. } => FaultKind::Options,
            Self::Thread { .. } => FaultKind::Machine,
        }
    }
}

impl Engine {
    /// STAND-IN for `Engine::start`. Lanes or key groups of 0 are those of the data directory, or
    /// the default ones where it is new; here always the default ones.
    pub fn start_durable(
        options: &EngineOptions,
        storage: Option<StorageOptions>,
        clock: Arc<dyn MachineClock>,
    ) -> Result<Self, Fault> {
        drop(storage);
        let usual = EngineOptions::default();
        let or = |value: u16, usual: u16| if value == 0 { usual } else { value };
        let options = EngineOptions {
            lanes: or(options.lanes, usual.lanes.max(options.shards)),
            max_parallelism: or(options.max_parallelism, usual.max_parallelism),
            ..options.clone()
        };
        Self::start(&options, clock)
    }

    /// STAND-IN. What belongs into [`Engine::status`].
    pub fn durability(&self) -> DurabilityStatus {
        DurabilityStatus::default()
    }

    /// STAND-IN. What belongs into [`Engine::metrics`].
    pub fn durability_metrics(&self) -> DurabilityMetrics {
        DurabilityMetrics::default()
    }

    /// STAND-IN. Begins a checkpoint now; the reply comes when its manifest is published.
    pub fn checkpoint(&self, reply: Reply<Result<CheckpointInfo, Rejection>>) {
        reply(Ok(CheckpointInfo { number: 1, ended_ms: Some(0), ..CheckpointInfo::default() }));
    }

    /// STAND-IN. Checkpoints, newest first: at most 100 of this process and the one loaded at the
    /// start.
    pub fn checkpoints(&self) -> Vec<CheckpointInfo> {
        Vec::new()
    }
}

impl Batch {
    /// STAND-IN. Who sends it, and which of its requests it is: a partition that has this one, or a
    /// later one of the same producer, answers `repeated`.
    pub fn producer(&mut self, name: &str, sequence: u64) {
        let _ = (name, sequence);
    }
}

/// STAND-IN. Why a data directory cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderFault {
    /// The file system did not do what it was asked to.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the file system said.
        source: io::Error,
    },
}

/// STAND-IN. A folder of the file system.
#[derive(Debug)]
pub struct FolderDisk {
    folder: PathBuf,
}

impl FolderDisk {
    /// STAND-IN. Opens a data directory for this process alone; it is made if there is none.
    pub fn open(folder: &Path) -> Result<Self, FolderFault> {
        create_dir_all(folder).map_err(|source| FolderFault::Io {
            path: folder.to_owned(),
            action: "create",
            source,
        })?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Disk for FolderDisk {
    fn create(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        Err(ErrorKind::Unsupported.into())
    }
    fn open(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        Err(ErrorKind::Unsupported.into())
    }
    fn list(&self, _: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    fn sync_folder(&self, _: &str) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

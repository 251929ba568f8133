//! What can be said of an engine's durability: figures for a scrape, and how it stands.

use super::common::Common;
use super::recovered::RecoveryInfo;

/// How an engine stands that must not lose anything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DurabilityStatus {
    /// Why nothing is acknowledged any more, if so: the process should end.
    pub poisoned: Option<String>,
    /// There is no room for more of the log: writes are refused until there is.
    pub is_disk_full: bool,
    /// What was recovered at the start; `None`: everything is in memory.
    pub recovered: Option<RecoveryInfo>,
}

/// Upper bounds of the buckets of the time that a sync takes, in seconds.
pub const SYNC_BOUNDS_SECONDS: [f64; 12] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, f64::INFINITY];

/// A histogram of how long syncs of the log took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SyncHistogram {
    /// How many fell into each bucket (not cumulative), in the order of [`SYNC_BOUNDS_SECONDS`].
    pub counts: [u64; SYNC_BOUNDS_SECONDS.len()],
    /// The sum of all, in seconds.
    pub sum_seconds: f64,
}

/// The figures of the log and of checkpoints.
#[derive(Debug, Clone, Default)]
pub struct DurabilityMetrics {
    /// How long syncs of the log took.
    pub syncs: SyncHistogram,
    /// Bytes of the journals' files, without spare ones.
    pub log_bytes: u64,
    /// Bytes of the log above the newest checkpoint: those that a start would follow now.
    pub log_replay_bytes: u64,
    /// Bytes that the last checkpoint consists of.
    pub checkpoint_size_bytes: u64,
    /// How long it took.
    pub checkpoint_duration_seconds: f64,
    /// When it was published, in milliseconds since the epoch; `None`: there was none yet.
    pub checkpoint_last_success_ms: Option<i64>,
    /// How often storing a piece of a checkpoint failed.
    pub checkpoint_failures: u64,
    /// How long the recovery at the start took.
    pub recovery_duration_seconds: f64,
    /// Bytes that the data directory may still grow by: free on its disk, and allowed to it. `None`:
    /// there is none, or they are not known.
    pub data_dir_free_bytes: Option<u64>,
}

impl Common {
    pub(super) fn durability(&self) -> DurabilityStatus {
        DurabilityStatus {
            poisoned: self.poison.get().cloned(),
            is_disk_full: self.segments.as_ref().is_some_and(|segments| segments.is_full()),
            recovered: self.recovery.get().cloned(),
        }
    }

    pub(super) fn durability_metrics(&self) -> DurabilityMetrics {
        let mut all = DurabilityMetrics {
            syncs: self.engine_cells.syncs(),
            log_bytes: self.segments.as_ref().map_or(0, |segments| segments.journal_bytes()),
            log_replay_bytes: self.followable().saturating_sub(self.checkpoints.covered()),
            checkpoint_failures: self.checkpoints.failures(),
            data_dir_free_bytes: self.free_bytes(),
            ..DurabilityMetrics::default()
        };
        let infos = self.checkpoints.infos();
        if let Some(last) = infos.iter().find(|info| info.ended_ms.is_some()) {
            all.checkpoint_size_bytes = last.total_bytes;
            all.checkpoint_last_success_ms = last.ended_ms;
            let took_ms = last.ended_ms.unwrap_or(last.began_ms).saturating_sub(last.began_ms);
            all.checkpoint_duration_seconds = took_ms.max(0) as f64 / 1_000.0;
        }
        if let Some(recovery) = self.recovery.get() {
            all.recovery_duration_seconds = recovery.seconds;
        }
        all
    }
}

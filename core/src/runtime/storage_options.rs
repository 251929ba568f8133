//! Where an engine keeps what must survive it.

use super::recovered::RecoveryProgress;
use crate::ports::{Disk, SnapshotStore};
use std::fmt;
use std::sync::Arc;

/// Bytes of a segment unless asked otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// See the module. Without it everything is in memory, and gone with the process.
#[derive(Clone)]
pub struct StorageOptions {
    /// The data directory: journals and the output log.
    pub disk: Arc<dyn Disk>,
    /// Where snapshots go.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// They are in the data directory, and count against its bound.
    pub snapshots_share_disk: bool,
    /// Bytes of each file that is made of the log, in advance: at least 16 KiB, a multiple of 8.
    /// Payloads for which one has no room are refused. What functions emit is not: whoever has some
    /// needs 4 MiB.
    pub segment_bytes: u64,
    /// Bytes that all files of the data directory may have together, checkpoints and savepoints
    /// included if they are in it.
    pub max_disk_bytes: u64,
    /// How often a checkpoint begins by itself; 0: only when asked for.
    pub checkpoint_interval_ms: i64,
    /// How long a checkpoint is spread over; 0: as fast as it can.
    pub checkpoint_over_ms: i64,
    /// How often a savepoint of everything is made by itself; 0: only when asked for.
    pub savepoint_every_ms: i64,
    /// How many of those that were made by themselves are kept.
    pub savepoints_kept: usize,
    /// Follow what is left of a log that another version of the engine wrote.
    pub replay_other_version: bool,
    /// The id of a directory that is new: random, and told to nobody. Without one it is made of the
    /// clocks, which a test can repeat and an attacker could guess.
    pub new_directory_id: Option<[u8; 16]>,
    /// How far recovery is, for those who wait for it.
    pub progress: Arc<RecoveryProgress>,
}

impl StorageOptions {
    /// The usual options, over these.
    pub fn new(disk: Arc<dyn Disk>, snapshots: Arc<dyn SnapshotStore>) -> Self {
        Self {
            disk,
            snapshots,
            snapshots_share_disk: true,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            max_disk_bytes: u64::MAX,
            checkpoint_interval_ms: 60_000,
            checkpoint_over_ms: 10_000,
            savepoint_every_ms: 0,
            savepoints_kept: 7,
            replay_other_version: false,
            new_directory_id: None,
            progress: Arc::default(),
        }
    }
}

impl fmt::Debug for StorageOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageOptions")
            .field("snapshots_share_disk", &self.snapshots_share_disk)
            .field("segment_bytes", &self.segment_bytes)
            .field("max_disk_bytes", &self.max_disk_bytes)
            .field("checkpoint_interval_ms", &self.checkpoint_interval_ms)
            .field("checkpoint_over_ms", &self.checkpoint_over_ms)
            .field("savepoint_every_ms", &self.savepoint_every_ms)
            .field("savepoints_kept", &self.savepoints_kept)
            .field("replay_other_version", &self.replay_other_version)
            .finish_non_exhaustive()
    }
}

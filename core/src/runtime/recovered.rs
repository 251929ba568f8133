//! What a recovery came to, and how far one is that is under way.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a recovery is: written by the engine that starts, read by whoever asks. Nothing is
/// ordered by it.
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
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.loaded_keys), read(&self.replayed_bytes), read(&self.replay_bytes))
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecoveryInfo {
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Keys that were loaded from snapshots.
    pub loaded_keys: u64,
    /// Records of the log that were followed.
    pub replayed_records: u64,
    /// Bytes of them.
    pub replayed_bytes: u64,
    /// Ends of the log that had not become durable and were cut, in a sentence each.
    pub torn_tails: Vec<String>,
    /// What was damaged, and made good from an older checkpoint and a longer piece of the log.
    pub healed: Vec<String>,
    /// Names in the journals' folder and in the snapshot store that are not ours: they are left alone.
    pub strangers: Vec<String>,
    /// From the last thing that is durable to the start, in milliseconds.
    pub downtime_ms: i64,
}

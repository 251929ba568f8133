//! What a recovery came to.

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
    /// From the last thing that is durable to the start, in milliseconds.
    pub downtime_ms: i64,
}

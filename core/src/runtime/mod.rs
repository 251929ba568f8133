//! Where the core meets the machine: threads, queues, clocks, the output log. Nothing outside of
//! this folder starts a thread, reads a clock or waits.

mod batch;
mod clock;
mod directory;
mod durable_api;
mod engine;
mod merge;
mod metrics;
mod output_log;
mod worker;

pub use batch::{Ack, Batch, Reply};
pub use clock::{ClockOptions, ClockStatus, OnStep, SystemClock};
pub use directory::{Directory, NamespaceEntry};
pub use durable_api::{
    CheckpointInfo, DurabilityMetrics, DurabilityStatus, FaultKind, FolderDisk, FolderFault,
    RecoveryInfo, RecoveryProgress, SYNC_BOUNDS_SECONDS, StorageOptions, SyncHistogram,
};
pub use engine::{Engine, EngineOptions, EngineStatus, ShardStatus};
pub use metrics::{DueWithin, EngineMetrics, LATENESS_BOUNDS_MS, LatenessHistogram, ShardMetrics};
pub use output_log::{OutputBlock, OutputLog, OutputRead, ReadRejection};

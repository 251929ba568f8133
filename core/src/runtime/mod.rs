//! Where the core meets the machine: threads, queues, clocks, the output log. Nothing outside of
//! this folder starts a thread, reads a clock or waits.

mod batch;
mod checkpoints;
mod clock;
mod committer;
mod common;
mod directory;
mod disk;
mod durability;
mod engine;
mod fault;
mod folder_store;
mod follow;
mod merge;
mod metrics;
mod node;
mod open;
mod output_log;
mod publisher;
mod recovered;
mod resume;
mod savepoint_name;
mod savepoints;
mod storage_options;
mod threads;
mod turn_times;
mod watch;
mod worker;

pub use crate::output::OutputBlock;
pub use crate::snapshot::SnapshotFault;
pub use crate::storage::DiskFault;
pub use batch::{Ack, Batch, Reply};
pub use checkpoints::CheckpointInfo;
pub use clock::{ClockOptions, ClockStatus, OnStep, SystemClock};
pub use directory::{Directory, NamespaceEntry};
pub use disk::{FolderDisk, FolderFault, LOCK_FILE};
pub use durability::{DurabilityMetrics, DurabilityStatus, SYNC_BOUNDS_SECONDS, SyncHistogram};
pub use engine::{Engine, EngineOptions, EngineStatus, ShardStatus, WriterStatus};
pub use fault::{Fault, FaultKind};
pub use folder_store::FolderStore;
pub use metrics::{
    DueWithin, EngineMetrics, FunctionMetrics, LATENESS_BOUNDS_MS, LatenessHistogram, ShardMetrics,
};
pub use node::{Node, NodePart};
pub use open::ENGINE_VERSION;
pub use output_log::{OutputLog, OutputRead, ReadRejection, Waiter};
pub use recovered::{RecoveryInfo, RecoveryProgress};
pub use savepoints::{SavepointInfo, SavepointNamespace};
pub use storage_options::{SEGMENT_BYTES_DEFAULT, StorageOptions};
pub use turn_times::{TURN_BOUNDS_SECONDS, TurnHistogram};

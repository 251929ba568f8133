//! What keeps an engine from starting, or ends it.

use crate::error::ReplayFault;
use crate::snapshot::SnapshotFault;
use crate::storage::{DiskFault, IdentityFault, RecoveryFault};
use std::io;
use thiserror::Error;

/// Ours, and fatal: the engine does not start, or stops.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named in the messages")]
pub enum Fault {
    /// The engine was asked to start with numbers that cannot be.
    #[error("{detail}")]
    Options { detail: String },
    /// A thread could not be started.
    #[error("cannot start the thread {name}: {source}")]
    Thread { name: String, source: io::Error },
    /// The data directory is not one that can be used.
    #[error(transparent)]
    Directory(#[from] IdentityFault),
    /// The disk did not do what it was asked to.
    #[error(transparent)]
    Disk(#[from] DiskFault),
    /// The journals cannot be followed.
    #[error("{0}")]
    Journals(#[from] RecoveryFault),
    /// The records cannot be followed.
    #[error("{0}")]
    Replay(#[from] ReplayFault),
    /// No checkpoint can be loaded.
    #[error("{0}")]
    Snapshot(#[from] SnapshotFault),
    /// The output log cannot be read.
    #[error("{0}")]
    Outputs(RecoveryFault),
    /// What is left of the log was written by another version of the engine.
    #[error(
        "what is left of the log was written by engine version {found}, this is {own}: start that \
         version once and stop it, which ends with a checkpoint; or say \
         --replay-with-this-version to follow it all the same"
    )]
    OtherVersion { found: u16, own: u16 },
}

/// The kind of a [`Fault`]: what whoever started the engine should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The options are wrong.
    Options,
    /// The data directory cannot be used as it is, or not by this version.
    Directory,
    /// What was durable is damaged.
    Corruption,
    /// The disk did not do what it was asked to.
    Disk,
    /// The machine did not give what a process needs.
    Machine,
}

impl Fault {
    /// What kind of fault it is.
    pub fn kind(&self) -> FaultKind {
        match self {
            // It would be refused again, and nothing is wrong with the disk.
            Self::Directory(IdentityFault::Disk(disk))
            | Self::Disk(disk)
            | Self::Journals(RecoveryFault::Disk(disk))
            | Self::Outputs(RecoveryFault::Disk(disk))
                if disk.is_refused() =>
            {
                FaultKind::Directory
            }
            Self::Options { .. } => FaultKind::Options,
            Self::Thread { .. } => FaultKind::Machine,
            Self::Directory(IdentityFault::Disk(_))
            | Self::Disk(_)
            | Self::Journals(RecoveryFault::Disk(_))
            | Self::Outputs(RecoveryFault::Disk(_)) => FaultKind::Disk,
            Self::Directory(IdentityFault::Damaged { .. }) => FaultKind::Corruption,
            Self::Directory(_)
            | Self::OtherVersion { .. }
            | Self::Replay(ReplayFault::OperatorMissing { .. })
            | Self::Journals(RecoveryFault::Newer { .. } | RecoveryFault::Foreign { .. })
            | Self::Outputs(RecoveryFault::Newer { .. } | RecoveryFault::Foreign { .. })
            | Self::Snapshot(SnapshotFault::Newer { .. }) => FaultKind::Directory,
            Self::Journals(_) | Self::Replay(_) | Self::Snapshot(_) | Self::Outputs(_) => {
                FaultKind::Corruption
            }
        }
    }
}

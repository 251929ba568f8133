//! What drives files: the journals, their recovery, the segments that they are made of.
//!
//! State machines without a thread, over the ports of a disk: the runtime wraps each in a thread,
//! the simulator steps them one I/O call at a time. Nothing here retries a failure or hides it: it
//! comes back as a [`DiskFault`] that names the file and what was tried.

mod checkpointer;
mod identity;
mod inspect;
mod journal;
#[cfg_attr(not(test), allow(dead_code, reason = "what goes wrong with it is for tests"))]
pub(crate) mod memory_disk;
mod memory_store;
mod old_journals;
mod old_producers;
mod output_files;
mod output_ids;
mod output_index;
mod output_lost;
mod output_reader;
mod output_recovery;
mod output_scan;
mod output_walk;
mod recovery;
mod recovery_fault;
mod restore;
mod savepoint_reader;
mod savepoint_writer;
mod sealing;
mod segments;
mod store_names;
#[cfg(test)]
mod tests;
mod whole;

pub(crate) use {
    checkpointer::{Checkpointer, Published},
    identity::{IDENTITY_FILE, Identity},
    journal::{Journal, JournalOptions},
    old_journals::OldJournals,
    output_files::{OutputFiles, OutputOptions},
    output_ids::OutputIds,
    output_reader::OutputReader,
    recovery::{Recovered, RecoveryOptions, read_journals},
    savepoint_writer::{SavepointCut, SavepointWriter},
    segments::{SEGMENT_BYTES_MIN, Segments, SegmentsOptions},
    store_names::{ASKED, SAVEPOINTS, SCHEDULED, is_savepoint_id, is_savepoint_name},
    whole::SnapshotsSay,
};

pub use identity::IdentityFault;
pub use inspect::{
    CheckpointFiles, Finding, IdentityInfo, Inspection, JournalInfo, LaneInfo, OutputsInfo,
    RecordInfo, SavepointFiles, Weight, inspect,
};
pub use memory_store::MemoryStore;
pub use output_recovery::OutputTornTail;
pub use recovery_fault::{Corruption, RecoveryFault};
pub use restore::{RestoreFault, RestoreInfo, RestoreOptions, restore};
pub use savepoint_reader::{
    SavedState, SavedTimer, SavepointFault, SavepointReader, SavepointSummary,
};
pub use store_names::is_snapshot_name;

use crate::ports::DiskFile;
use std::io::{self, ErrorKind};
use thiserror::Error;

/// A disk did not do what it was asked to.
#[derive(Debug, Error)]
#[error("cannot {action} {file}: {source}")]
pub struct DiskFault {
    /// The file, by its name in the data directory.
    pub file: String,
    /// What was tried.
    pub action: &'static str,
    /// What the disk said.
    pub source: io::Error,
}

impl DiskFault {
    pub(crate) fn new(file: &str, action: &'static str, source: io::Error) -> Self {
        Self { file: file.to_owned(), action, source }
    }

    /// For `map_err`.
    pub(crate) fn at(file: &str, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::new(file, action, source)
    }

    /// The disk, or what may be used of it, is full.
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }

    /// The same as something that no room can mend: nothing is known of what was written, so trying
    /// again proves nothing.
    pub(crate) fn for_good(self) -> Self {
        let source = io::Error::other(self.source.to_string());
        Self { source, ..self }
    }

    /// This process may not do that.
    pub fn is_refused(&self) -> bool {
        matches!(self.source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
    }

    /// The same once more, for whoever asks after it happened.
    pub(crate) fn again(&self) -> Self {
        let source = io::Error::new(self.source.kind(), self.source.to_string());
        Self { file: self.file.clone(), action: self.action, source }
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Writes all of it. What is short is gone on with, what was interrupted is tried again: neither
/// says that anything failed.
pub(crate) fn write_all(file: &dyn DiskFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(offset + written as u64, &bytes[written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends; how much it was.
pub(crate) fn read_full(file: &dyn DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(offset + read as u64, &mut buffer[read..]) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

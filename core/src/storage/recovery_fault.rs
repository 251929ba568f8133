//! Why a log cannot be followed, in sentences that name the file and say what to do.

use super::DiskFault;
use std::fmt;
use thiserror::Error;

/// Why the journals cannot be replayed. Nothing was skipped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoveryFault {
    /// The disk did not do what it was asked to.
    #[error(transparent)]
    Disk(#[from] DiskFault),
    /// What was durable is not there, or is not what was written.
    #[error("{0}")]
    Corrupt(#[from] Corruption),
    /// Records are missing between those that are there.
    #[error("positions {from}..{to} of lane {lane} are missing; behind them comes {file}")]
    Missing {
        /// The lane.
        lane: u16,
        /// The first one that is missing.
        from: u64,
        /// The last one that is missing.
        to: u64,
        /// What has the records behind them.
        file: String,
    },
    /// Two blocks hold the same position.
    #[error("position {position} of lane {lane} stands in {first} and again in {second}")]
    Twice {
        /// The lane.
        lane: u16,
        /// The first position that stands twice.
        position: u64,
        /// One file.
        first: String,
        /// The other, or the same.
        second: String,
    },
    /// A later version of the software wrote it.
    #[error(
        "{file} is of format {found}, known is 1: start the version that wrote it, or a later one"
    )]
    Newer {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
    },
    /// It belongs to another data directory.
    #[error(
        "{file} belongs to another data directory: two were mixed in a copy; copy one of them again"
    )]
    Foreign {
        /// The file.
        file: String,
    },
    /// Whole files are missing that something else shows to have been there.
    #[error(
        "{missing} missing: {evidence}; the directory was copied or restored in part: bring back what \
         is missing, or copy all of it again while no process has it"
    )]
    Gone {
        /// What is missing, with the verb.
        missing: String,
        /// How that is known.
        evidence: String,
    },
}

/// Damage, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Corruption {
    /// The file.
    pub file: String,
    /// Where in the file.
    pub offset: u64,
    /// Which block of its journal should stand there, if that is known.
    pub sequence: Option<u64>,
    /// The lane of that block, if that is known.
    pub lane: Option<u16>,
    /// The first position in that block, if that is known.
    pub position: Option<u64>,
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at offset {}: {}", self.file, self.offset, self.detail)?;
        if let Some(sequence) = self.sequence {
            write!(f, " (block {sequence}")?;
            if let Some(lane) = self.lane {
                write!(f, ", lane {lane}")?;
            }
            if let Some(position) = self.position {
                write!(f, ", from position {position}")?;
            }
            write!(f, ")")?;
        }
        Ok(())
    }
}

//! What can be wrong with a snapshot that is read back.

use std::fmt::Display;
use thiserror::Error;

/// Why a snapshot cannot be used. It names the object or manifest, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named in the messages")]
pub enum SnapshotFault {
    /// Its bytes are not those that were written.
    #[error("{object} is damaged at byte {offset}: {detail}")]
    Damaged { object: String, offset: u64, detail: &'static str },
    /// A later version of the program wrote it.
    #[error(
        "{object} has format {found}, this version knows up to {known}: start the version that wrote it, \
         or a later one"
    )]
    Newer { object: String, found: u32, known: u32 },
    /// It was written for another data directory, or is not what its manifest says.
    #[error("{object} is another one than expected: {field} is {found}, not {expected}")]
    Other { object: String, field: &'static str, found: String, expected: String },
    /// The objects of a manifest do not make a whole.
    #[error("{manifest} is not whole: there is no {missing} in its objects")]
    Incomplete { manifest: String, missing: String },
}

impl SnapshotFault {
    /// Something is wrong at this byte.
    pub(crate) fn damaged(object: &str, offset: u64, detail: &'static str) -> Self {
        Self::Damaged { object: object.to_owned(), offset, detail }
    }

    /// A field has another value than it should have.
    pub(crate) fn other(
        object: &str,
        field: &'static str,
        found: &dyn Display,
        expected: &dyn Display,
    ) -> Self {
        let (found, expected) = (found.to_string(), expected.to_string());
        Self::Other { object: object.to_owned(), field, found, expected }
    }
}

//! What can go wrong with a timer service.

use crate::error::Rejection;
use crate::runtime::{Fault, FolderFault};
use thiserror::Error;

/// See the module.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked cannot be; nothing was changed by it. `Rejection::field` names what is wrong.
    #[error("{0}")]
    Rejected(Rejection),
    /// The service is closed; nothing was changed.
    #[error("the timer service is closed")]
    Closed,
    /// The service ended before it answered.
    #[error("the timer service ended before it answered: what was asked took effect, or did not")]
    Unanswered,
    /// A write or a sync has failed: nothing can be scheduled, acknowledged or read any more.
    #[error("the timer service cannot go on; open it again once this is mended: {detail}")]
    Failed {
        /// Which file, what was tried, and what the disk said.
        detail: String,
    },
    /// Fires cannot be read back.
    #[error("the fires cannot be read: {detail}")]
    Unreadable {
        /// Where, and what is wrong there.
        detail: String,
    },
    /// What is written down of the acknowledgements is not what this version writes.
    #[error("what is written down of the acknowledgements cannot be read: {detail}")]
    Acknowledgements {
        /// What is wrong.
        detail: String,
    },
    /// The directory holds timers that follow the other clock.
    #[error("{}", other_clock(*asked_manual))]
    OtherClock {
        /// The manual clock was asked for.
        asked_manual: bool,
    },
    /// Only a manual clock can be set.
    #[error("the timer service follows the machine's clock, which cannot be set")]
    ClockNotManual,
    /// A fire can only be acknowledged where it came from.
    #[error("the fire was handed out by another timer service, or before this one was opened")]
    OtherService,
    /// The directory is not one that can be opened.
    #[error(transparent)]
    Directory(#[from] FolderFault),
    /// What is in the directory cannot be opened, or a thread cannot be started.
    #[error(transparent)]
    Open(#[from] Fault),
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Stopping => Self::Closed,
            Rejection::Poisoned => Self::Failed { detail: rejection.to_string() },
            rejection => Self::Rejected(rejection),
        }
    }
}

const fn other_clock(asked_manual: bool) -> &'static str {
    if asked_manual {
        "the directory holds timers that follow the machine's clock: open it without manual_clock()"
    } else {
        "the directory holds timers that follow a manual clock: open it with manual_clock()"
    }
}

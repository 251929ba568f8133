//! A command as its namespace's home gets it, and as it stands in the log.

use crate::namespace::Command;
use serde::{Deserialize, Serialize};

/// A command with what it depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The namespace.
    pub(crate) name: String,
    pub(crate) command: Command,
    /// Answered once everything that it made due can be read.
    pub(crate) settle: bool,
    /// Timers that the namespace held, as far as was known when it was asked.
    pub(crate) pending: u64,
    /// Keys that it held, those that have a state and no timers among them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) keys: u64,
    /// The newest output that there was when it was asked: what begins with it begins behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<u64>,
    /// The operator of the new configuration keeps its options while there are keys.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) keeps_options: bool,
}

impl Asked {
    /// A command to a namespace that is not there yet, or holds nothing.
    pub(crate) fn new(name: String, command: Command) -> Self {
        let (settle, pending, keys, cursor, keeps_options) = (false, 0, 0, None, false);
        Self { name, command, settle, pending, keys, cursor, keeps_options }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
pub(super) const fn is_zero(count: &u64) -> bool {
    *count == 0
}

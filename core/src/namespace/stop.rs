//! Why a namespace has stopped: the callback at which its function has failed for good.

use crate::limits::STOP_ERROR_CHARS_MAX;
use crate::text::clip;
use crate::time::{Domain, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a namespace has stopped, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Since when, by the clock of the service.
    pub since: Timestamp,
    /// The key whose callback it was.
    pub key: Vec<u8>,
    /// What the function was called for.
    pub at: StopAt,
    /// What it said, cut off if it was long.
    pub error: String,
}

/// What a function was called for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StopAt {
    /// An element, which was not taken.
    Element {
        /// Its timestamp.
        timestamp: Timestamp,
        /// The input that it was for.
        input: u8,
    },
    /// A timer, which is due still.
    Timer {
        /// The clock that it follows.
        domain: Domain,
        /// When it was due.
        fire_at: Timestamp,
        /// Its name, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The bytes of its namespace (a window, for one), if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<Vec<u8>>,
    },
}

impl Stop {
    /// A stop with as much of what the function said as is kept.
    pub(crate) fn new(since: Timestamp, key: Vec<u8>, at: StopAt, error: &str) -> Self {
        Self { since, key, at, error: error.chars().take(STOP_ERROR_CHARS_MAX).collect() }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            StopAt::Element { timestamp, .. } => {
                write!(f, "its function failed at the element of {}", timestamp.as_millis())?;
            }
            StopAt::Timer { domain, fire_at, .. } => {
                let (domain, fire_at) = (domain.as_str(), fire_at.as_millis());
                write!(f, "its function failed at the {domain} timer of {fire_at}")?;
            }
        }
        let key = String::from_utf8_lossy(&self.key);
        write!(f, " of key `{}`: {}", clip(&key), self.error)
    }
}

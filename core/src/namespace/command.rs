//! What can be asked of a namespace as a whole, and the answers.

use super::config::NamespaceConfig;
use super::stop::Stop;
use crate::limits::STOPS_SHOWN_MAX;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A command to a namespace's control state machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "commands are few, and boxed where they wait")]
pub enum Command {
    /// Makes a namespace, or replaces the configuration of one.
    Put {
        /// The whole configuration.
        config: NamespaceConfig,
        /// Refused unless the configuration standing is of this version; `None`: whatever stands.
        expected_version: Option<u64>,
    },
    /// Removes a namespace with all it holds.
    Delete {
        /// Also if it is not empty.
        force: bool,
    },
    /// Moves, idles or forgets a source of watermarks.
    Source {
        /// Its name.
        source: String,
        /// What happens to it.
        change: SourceChange,
    },
    /// Moves a manual clock.
    Clock(ClockChange),
    /// Lets its time stand still.
    Pause,
    /// Lets its time go on.
    Resume,
    /// The end of its input: nothing more is written to it.
    Close(ProcessingTimers),
    /// Hands an element to all keys.
    Broadcast(Broadcast),
}

/// What becomes of the processing timers that are pending when a namespace is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessingTimers {
    /// They fire at once, in the order of their times.
    Drain,
    /// They fire at their times.
    Wait,
    /// They are cancelled, and counted.
    Discard,
}

impl ProcessingTimers {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Drain, Self::Wait, Self::Discard];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Wait => "wait",
            Self::Discard => "discard",
        }
    }
}

/// An element for all keys of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broadcast {
    /// When it happened.
    pub timestamp: Timestamp,
    /// What it is, in JSON.
    pub value: Arc<str>,
    /// Who sends it, and which of its broadcasts it is, if it is to be taken once only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<(String, u64)>,
}

/// What happens to a source of watermarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceChange {
    /// No element with a timestamp at or below this will follow from it.
    Watermark(Timestamp),
    /// It holds nothing back until it speaks again.
    Idle,
    /// It is gone.
    Forget,
}

/// How a manual clock moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockChange {
    /// To this time; a smaller one is ignored.
    Set(Timestamp),
    /// Forward by so many milliseconds.
    Advance(i64),
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandReply {
    /// To `Put`.
    Configured {
        /// It is new.
        created: bool,
        /// The version of the configuration that now stands.
        version: u64,
    },
    /// To `Delete`: how many timers went with it.
    Deleted {
        /// Timers removed.
        timers: u64,
    },
    /// To `Source`.
    Source {
        /// In one word.
        result: SourceResult,
        /// The combined watermark after it; `None`: none yet.
        watermark: Option<Timestamp>,
        /// How many timers fired of it (known when it was asked to settle).
        fired: u64,
    },
    /// To `Clock`.
    Clock {
        /// `false`: it would have moved backward, and was ignored.
        advanced: bool,
        /// What the clock reads now.
        now: Timestamp,
        /// How many timers fired of it, all of them readable.
        fired: u64,
    },
    /// To `Pause`: no time passes in it any more.
    Paused {
        /// `false`: it was paused already.
        changed: bool,
    },
    /// To `Resume`: everything that this made due can be read.
    Resumed {
        /// `false`: it was not paused.
        changed: bool,
    },
    /// To `Close`: what the final watermark made due, and what was drained, can be read.
    Closed {
        /// `false`: it was closed before, and stays as it was.
        changed: bool,
        /// How it stands now.
        closing: Closing,
        /// Processing timers that were drained or discarded.
        timers: u64,
    },
    /// To `Broadcast`: whatever comes behind it finds what it has left.
    Broadcast {
        /// In one word.
        result: BroadcastResult,
        /// How many visits of keys it has brought about (known when it was asked to settle).
        visited: u64,
    },
}

/// A namespace whose input has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// What becomes of its processing timers.
    pub processing_timers: ProcessingTimers,
    /// No timer is left, and every output of it can be read.
    pub is_closed: bool,
}

/// What became of a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BroadcastResult {
    /// All lanes have processed it.
    Processed,
    /// The function has failed at it, and it was passed over.
    Failed,
    /// Its producer sent it before.
    Repeated,
}

impl BroadcastResult {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Failed => "failed",
            Self::Repeated => "repeated",
        }
    }
}

/// What became of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceResult {
    /// It moved.
    Advanced,
    /// It stood there or further already.
    Ignored,
    /// It is idle.
    Idle,
    /// It is gone.
    Forgotten,
}

impl SourceResult {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Advanced => "advanced",
            Self::Ignored => "ignored",
            Self::Idle => "idle",
            Self::Forgotten => "forgotten",
        }
    }
}

/// The live figures of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamespaceStatus {
    /// The combined watermark; `None`: none yet.
    pub watermark: Option<Timestamp>,
    /// Its sources, by name.
    pub sources: Vec<SourceStatus>,
    /// What its clock reads; `None`: a manual clock that was never set.
    pub now: Option<Timestamp>,
    /// No time passes in it until it is resumed.
    pub paused: bool,
    /// Its input has ended; `None`: it has not.
    pub closing: Option<Closing>,
    /// Why it has stopped, if it has: it is paused then, and takes no elements.
    pub stopped: Option<Arc<Stop>>,
    /// All failures at which it has stopped, one for each lane that has failed: that of `stopped` first,
    /// the others by time. No more than eight.
    pub failures: Vec<Arc<Stop>>,
    /// How many more there are.
    pub failures_omitted: u64,
    /// Keys that hold something.
    pub keys: u64,
    /// Pending timers of event time.
    pub pending_event: u64,
    /// Pending timers of processing time.
    pub pending_processing: u64,
}

impl NamespaceStatus {
    /// With what all lanes say at which it has stopped. A lane that has not failed itself says what it was
    /// told; and one that has failed again after a restart, at the same key, need not say the same of it.
    pub(crate) fn with_failures(mut self, mut stops: Vec<Arc<Stop>>) -> Self {
        let Some(first) = &self.stopped else { return self };
        stops.retain(|stop| stop.key != first.key);
        stops.sort_by(|a, b| (a.since, &a.key).cmp(&(b.since, &b.key)));
        stops.dedup_by(|a, b| a.key == b.key);
        stops.insert(0, Arc::clone(first));
        self.failures_omitted = stops.len().saturating_sub(STOPS_SHOWN_MAX) as u64;
        stops.truncate(STOPS_SHOWN_MAX);
        self.failures = stops;
        self
    }
}

/// One source of watermarks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its name.
    pub source: String,
    /// Its watermark; `None`: it has not reported.
    pub watermark: Option<Timestamp>,
    /// It holds nothing back for now.
    pub idle: bool,
    /// It stands in the configuration.
    pub listed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::StopAt;

    #[test]
    fn the_first_failures_are_shown_and_the_others_counted() {
        let stop = |since: i64, key: &str| {
            let at = StopAt::Element { timestamp: Timestamp::from_millis(0), input: 0 };
            Arc::new(Stop::new(Timestamp::from_millis(since), key.into(), at, "no"))
        };
        let check = |stops: Vec<Arc<Stop>>, expected: &[&str], omitted: u64| {
            let status = NamespaceStatus { stopped: Some(stop(5, "k")), ..Default::default() };
            let status = status.with_failures(stops);
            let keys: Vec<_> = status.failures.iter().map(|it| it.key.clone()).collect();
            assert_eq!(keys, expected.iter().map(|key| key.as_bytes()).collect::<Vec<_>>());
            assert_eq!(status.failures_omitted, omitted);
            assert_eq!(status.failures.first(), status.stopped.as_ref());
        };
        check(vec![], &["k"], 0);
        // Two were told, one has failed again after a restart.
        check(vec![stop(5, "k"), stop(5, "k"), stop(9, "k")], &["k"], 0);
        check(vec![stop(7, "a"), stop(5, "k"), stop(4, "b"), stop(7, "a")], &["k", "b", "a"], 0);
        let many = (0..12).rev().map(|n| stop(n, &format!("key {n:02}"))).collect();
        let first = ["k", "key 00", "key 01", "key 02", "key 03", "key 04", "key 05", "key 06"];
        check(many, &first, 5);
        let open = NamespaceStatus::default().with_failures(vec![stop(1, "a")]);
        assert_eq!(open, NamespaceStatus::default(), "it has been resumed meanwhile");
    }
}

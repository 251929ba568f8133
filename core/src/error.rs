//! What can go wrong, in two families.
//!
//! A [`Rejection`] is the caller's (or load): it names what is wrong, maps to one HTTP status, and
//! changed nothing. A fault is ours: a log that cannot be followed, or whatever else keeps the engine
//! from going on ([`crate::runtime::Fault`]).

use thiserror::Error;

/// Why an operation, a query or a command was not carried out. Nothing was changed by it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named in the messages")]
pub enum Rejection {
    /// The key has no bytes.
    #[error("key is empty")]
    KeyEmpty,
    /// The key is too long.
    #[error("key has {actual} bytes, allowed are {limit}")]
    KeyTooLong { limit: usize, actual: usize },
    /// The timer's name has no bytes.
    #[error("name is empty")]
    NameEmpty,
    /// The timer's name is too long.
    #[error("name has {actual} bytes, allowed are {limit}")]
    NameTooLong { limit: usize, actual: usize },
    /// The payload is larger than the namespace allows.
    #[error("payload has {actual} bytes, allowed are {limit}")]
    PayloadTooLarge { limit: usize, actual: usize },
    /// A duration that counts forward is negative.
    #[error("{field} is negative")]
    DurationNegative { field: &'static str },
    /// A number or a text of the configuration is out of bounds.
    #[error("{field}: {detail}")]
    OptionInvalid { field: &'static str, detail: String },
    /// There is no namespace of this name.
    #[error("there is no namespace of this name")]
    NamespaceUnknown,
    /// The namespace still holds timers, and `force` was not said.
    #[error("the namespace holds {timers} timers; force=true removes them")]
    NamespaceNotEmpty { timers: u64 },
    /// The namespace still holds the state of keys, and `force` was not said.
    #[error("the namespace holds the state of {keys} keys; force=true removes it")]
    NamespaceHasState { keys: u64 },
    /// One namespace more than the process holds.
    #[error("there are {limit} namespaces already")]
    NamespacesExceeded { limit: usize },
    /// An option that is fixed once keys exist.
    #[error("{field} is fixed once the namespace has keys")]
    OptionFixed { field: &'static str },
    /// The configuration was changed by somebody else in between.
    #[error("the configuration was changed meanwhile")]
    VersionConflict,
    /// An element for a namespace whose operator takes none.
    #[error("the namespace runs the operator `timers`, which takes no elements")]
    ElementsUnwanted,
    /// A broadcast for a namespace whose operator takes none.
    #[error("the namespace's operator takes no broadcasts")]
    BroadcastUnwanted,
    /// A timer for a namespace whose timers are its function's.
    #[error("the namespace runs a function, whose timers are its own; send it elements")]
    TimersOwned,
    /// A write to a namespace whose input has ended.
    #[error("the namespace is closed, and takes nothing more in")]
    NamespaceClosed,
    /// What would let a paused namespace fire.
    #[error("the namespace is paused; resume it first")]
    NamespacePaused,
    /// An element for an input that the operator does not have.
    #[error("the operator has {inputs} inputs, there is none with number {input}")]
    InputUnknown { input: u8, inputs: u8 },
    /// The namespace has stopped, because its function failed for good.
    #[error("the namespace has stopped: {detail}")]
    NamespaceStopped { detail: String },
    /// The function has failed at this key, and is about to be called again.
    #[error("the function has failed at this key, and is about to be called again")]
    FunctionRetries { retry_after_ms: u64 },
    /// One source more than a namespace has.
    #[error("the namespace has {limit} sources already")]
    SourcesExceeded { limit: usize },
    /// There is no source of this name.
    #[error("there is no source of this name")]
    SourceUnknown,
    /// `after` in event time, and no watermark yet.
    #[error("there is no watermark yet for `after` to count from; use `at`")]
    WatermarkUnset,
    /// `after` in a namespace whose manual clock was never set.
    #[error("the namespace's manual clock was not set yet for `after` to count from")]
    ClockUnset,
    /// The clock of a namespace on the system clock cannot be set.
    #[error("the namespace follows the system clock; only a manual clock can be set")]
    ClockNotManual,
    /// The time leaves the range of 64 bits.
    #[error("{field} leaves the range of 64-bit milliseconds")]
    TimeOverflow { field: &'static str },
    /// The key has as many timers as the namespace allows.
    #[error("the key has {limit} timers already")]
    TimersPerKeyExceeded { limit: u32 },
    /// The namespace has as many timers as it is allowed.
    #[error("the namespace has {limit} timers already")]
    TimersExceeded { limit: u64 },
    /// The queue of the shard that owns the key is full.
    #[error("the queue of the shard is full")]
    QueueFull { retry_after_ms: u64 },
    /// The disk is full: nothing more can be written down.
    #[error("the disk is full")]
    DiskFull { retry_after_ms: u64 },
    /// A write or a sync of the log has failed: nothing is acknowledged any more.
    #[error("the log cannot be written any more; the service is about to end")]
    Poisoned,
    /// There are no checkpoints where everything is in memory.
    #[error("everything is in memory: there is nothing that a checkpoint would be for")]
    NotDurable,
    /// A savepoint came to nothing; everything else goes on.
    #[error("the savepoint failed: {detail}")]
    SavepointFailed { detail: String },
    /// There is no savepoint of this name.
    #[error("there is no such savepoint")]
    SavepointUnknown,
    /// The savepoint is being written.
    #[error("the savepoint is being written; it can be removed once that has ended")]
    SavepointUnderWay,
    /// The engine is stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// The kind of a [`Rejection`]: one HTTP status each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionClass {
    /// 400: syntax, or a field out of bounds.
    BadRequest,
    /// 404: no such thing.
    NotFound,
    /// 409: at odds with what is there.
    Conflict,
    /// 413: too many bytes.
    TooLarge,
    /// 422: well-formed, but impossible now.
    Unprocessable,
    /// 429: a queue or a quota is full.
    Overloaded,
    /// 507: the disk is full.
    DiskFull,
    /// 503: the node is starting, draining or stopped.
    Unavailable,
}

impl Rejection {
    /// Whether a function has failed: then it is as if nothing had been asked.
    pub(crate) const fn is_failure(&self) -> bool {
        matches!(self, Self::NamespaceStopped { .. } | Self::FunctionRetries { .. })
    }

    /// Which status it maps to.
    pub const fn class(&self) -> RejectionClass {
        match self {
            Self::KeyEmpty
            | Self::KeyTooLong { .. }
            | Self::NameEmpty
            | Self::NameTooLong { .. }
            | Self::DurationNegative { .. }
            | Self::OptionInvalid { .. } => RejectionClass::BadRequest,
            Self::PayloadTooLarge { .. } => RejectionClass::TooLarge,
            Self::NamespaceUnknown | Self::SourceUnknown | Self::SavepointUnknown => {
                RejectionClass::NotFound
            }
            Self::NamespaceNotEmpty { .. }
            | Self::NamespaceHasState { .. }
            | Self::OptionFixed { .. }
            | Self::VersionConflict
            | Self::ClockNotManual
            | Self::SavepointUnderWay
            | Self::ElementsUnwanted
            | Self::BroadcastUnwanted
            | Self::TimersOwned
            | Self::NamespaceClosed
            | Self::NamespacePaused
            | Self::NamespaceStopped { .. }
            | Self::NotDurable => RejectionClass::Conflict,
            Self::WatermarkUnset
            | Self::ClockUnset
            | Self::InputUnknown { .. }
            | Self::TimeOverflow { .. } => RejectionClass::Unprocessable,
            Self::NamespacesExceeded { .. }
            | Self::SourcesExceeded { .. }
            | Self::TimersPerKeyExceeded { .. }
            | Self::TimersExceeded { .. }
            | Self::FunctionRetries { .. }
            | Self::QueueFull { .. } => RejectionClass::Overloaded,
            Self::DiskFull { .. } => RejectionClass::DiskFull,
            Self::Poisoned | Self::SavepointFailed { .. } | Self::Stopping => {
                RejectionClass::Unavailable
            }
        }
    }

    /// A short stable name, the last part of the problem type's address.
    pub const fn slug(&self) -> &'static str {
        match self {
            Self::KeyEmpty | Self::KeyTooLong { .. } => "invalid-key",
            Self::NameEmpty | Self::NameTooLong { .. } => "invalid-name",
            Self::PayloadTooLarge { .. } => "payload-too-large",
            Self::DurationNegative { .. } => "invalid-duration",
            Self::OptionInvalid { .. } => "invalid-option",
            Self::NamespaceUnknown => "namespace-not-found",
            Self::NamespaceNotEmpty { .. } | Self::NamespaceHasState { .. } => {
                "namespace-not-empty"
            }
            Self::NamespacesExceeded { .. }
            | Self::SourcesExceeded { .. }
            | Self::TimersPerKeyExceeded { .. }
            | Self::TimersExceeded { .. } => "quota-exceeded",
            Self::OptionFixed { .. } => "option-fixed",
            Self::VersionConflict => "version-conflict",
            Self::SourceUnknown => "source-not-found",
            Self::ElementsUnwanted => "elements-unwanted",
            Self::BroadcastUnwanted => "broadcast-unwanted",
            Self::TimersOwned => "timers-owned",
            Self::NamespaceClosed => "namespace-closed",
            Self::NamespacePaused => "namespace-paused",
            Self::InputUnknown { .. } => "input-not-found",
            Self::NamespaceStopped { .. } => "namespace-stopped",
            Self::FunctionRetries { .. } => "function-retries",
            Self::WatermarkUnset => "watermark-unset",
            Self::ClockUnset => "clock-unset",
            Self::ClockNotManual => "clock-not-manual",
            Self::TimeOverflow { .. } => "time-overflow",
            Self::QueueFull { .. } => "queue-full",
            Self::DiskFull { .. } => "disk-full",
            Self::Poisoned => "poisoned",
            Self::NotDurable => "not-durable",
            Self::SavepointFailed { .. } => "savepoint-failed",
            Self::SavepointUnknown => "savepoint-not-found",
            Self::SavepointUnderWay => "savepoint-under-way",
            Self::Stopping => "stopping",
        }
    }

    /// The field that is wrong, where one is.
    pub const fn field(&self) -> Option<&'static str> {
        match self {
            Self::KeyEmpty | Self::KeyTooLong { .. } | Self::TimersPerKeyExceeded { .. } => {
                Some("key")
            }
            Self::NameEmpty | Self::NameTooLong { .. } => Some("name"),
            Self::PayloadTooLarge { .. } => Some("payload"),
            Self::InputUnknown { .. } => Some("input"),
            Self::WatermarkUnset | Self::ClockUnset => Some("after"),
            Self::DurationNegative { field }
            | Self::OptionInvalid { field, .. }
            | Self::OptionFixed { field }
            | Self::TimeOverflow { field } => Some(field),
            _ => None,
        }
    }

    /// The bound that was met, where there is one.
    pub const fn limit(&self) -> Option<u64> {
        match self {
            Self::KeyTooLong { limit, .. }
            | Self::NameTooLong { limit, .. }
            | Self::PayloadTooLarge { limit, .. }
            | Self::NamespacesExceeded { limit }
            | Self::SourcesExceeded { limit } => Some(*limit as u64),
            Self::TimersPerKeyExceeded { limit } => Some(*limit as u64),
            Self::TimersExceeded { limit } => Some(*limit),
            _ => None,
        }
    }

    /// What stood against the bound, where that is known.
    pub const fn actual(&self) -> Option<u64> {
        match self {
            Self::KeyTooLong { actual, .. }
            | Self::NameTooLong { actual, .. }
            | Self::PayloadTooLarge { actual, .. } => Some(*actual as u64),
            Self::NamespaceNotEmpty { timers } => Some(*timers),
            Self::NamespaceHasState { keys } => Some(*keys),
            _ => None,
        }
    }

    /// How long to wait before it makes sense to try again, where it does.
    pub const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::QueueFull { retry_after_ms }
            | Self::DiskFull { retry_after_ms }
            | Self::FunctionRetries { retry_after_ms } => Some(*retry_after_ms),
            Self::TimersExceeded { .. }
            | Self::TimersPerKeyExceeded { .. }
            | Self::NamespacesExceeded { .. }
            | Self::SourcesExceeded { .. } => Some(1_000),
            Self::Poisoned | Self::SavepointFailed { .. } | Self::Stopping => Some(2_000),
            _ => None,
        }
    }
}

/// Why a log cannot be followed: it is not whole, or not of this code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named in the messages")]
pub enum ReplayFault {
    /// Records between what is there and what should follow it are missing.
    #[error("lane {lane}: the records from position {expected} to {} are missing", found - 1)]
    PositionsMissing { lane: u16, expected: u64, found: u64 },
    /// The record's checksum is right, but it says nothing that this version understands.
    #[error("lane {lane}: the record at position {position} cannot be read by this version")]
    RecordUnreadable { lane: u16, position: u64 },
    /// A namespace runs a function that this program does not have, or cannot make as it was.
    #[error("a namespace runs a function that this program cannot make: {detail}")]
    OperatorMissing { detail: String },
    /// A function fails where it did not when the record was written.
    #[error(
        "lane {lane}: at the record at position {position} a function fails that did not fail when it \
         was written: {detail}"
    )]
    FunctionFails { lane: u16, position: u64, detail: String },
}

impl ReplayFault {
    /// A function was refused that is needed to go on.
    pub(crate) fn operator(rejection: &Rejection) -> Self {
        Self::OperatorMissing { detail: rejection.to_string() }
    }
}

//! What is asked of a key, and what it answers, as the simulator's client and its oracle say it.

use std::fmt;
use stormwheel::op::{Only, ResultKind};
use stormwheel::time::Domain;

/// What travels with a timer: whether it is JSON, and the bytes.
pub(crate) type Payload = Option<(bool, Vec<u8>)>;

/// An operation on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Register(Registration),
    Touch {
        name: String,
        domain: Domain,
        after_ms: i64,
    },
    DeleteName {
        domain: Domain,
        name: String,
    },
    DeleteAt {
        domain: Domain,
        at: i64,
        resolution_ms: Option<i64>,
        spread_ms: Option<i64>,
    },
    DeleteFireAt {
        domain: Domain,
        at: i64,
    },
    DeleteAll,
    Read,
    /// Of a producer: taken once, however often it is sent.
    Once(Once, Box<Act>),
}

/// Which operation of a producer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Once {
    pub(crate) producer: usize,
    pub(crate) sequence: u64,
    pub(crate) index: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) domain: Domain,
    pub(crate) name: Option<String>,
    pub(crate) when: When,
    pub(crate) payload: Payload,
    pub(crate) resolution_ms: Option<i64>,
    pub(crate) spread_ms: Option<i64>,
    pub(crate) only: Only,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    At(i64),
    After(i64),
}

/// What was answered to an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done { result: ResultKind, fire_at: Option<i64>, cancelled: u32, overdue: bool },
    Refused(&'static str),
    Timers(Vec<Timer>),
}

/// A timer, in the order in which those of one domain fire.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) domain: Domain,
    pub(crate) fire_at: i64,
    pub(crate) name: Option<String>,
    pub(crate) payload: Payload,
}

/// A timer that has fired, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fired {
    pub(crate) timer: Timer,
    /// What time had come to.
    pub(crate) due_by: i64,
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, fire_at, name, payload } = self;
        let name = name.as_deref().unwrap_or_default();
        write!(f, "{}:{fire_at}:{name}", domain.as_str())?;
        match payload {
            None => Ok(()),
            Some((_, bytes)) => {
                write!(f, "({})", bytes[..bytes.len().min(8)].escape_ascii())
            }
        }
    }
}

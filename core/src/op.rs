//! What a caller asks of one key, and what came of it.
//!
//! An [`Op`] borrows from the request that brought it; the record codec writes it down, and from
//! there on it is a record. An [`Outcome`] answers it.

use crate::error::Rejection;
use crate::limits::{INPUTS_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, WINDOW_MS_MAX};
use crate::time::{Domain, Timestamp};
use std::time::Duration;

/// The name that a touch moves unless it names another.
pub const DEFAULT_TIMER_NAME: &str = "timeout";

/// One operation on one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op<'a> {
    /// The key's bytes, 1 to 1024.
    pub key: &'a [u8],
    /// What is asked of it.
    pub action: Action<'a>,
}

/// What is asked of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Registers a timer.
    Register(Register<'a>),
    /// Moves a named timer to now + `after_ms`, made if absent, payload kept.
    Touch {
        /// Which of the key's named timers.
        name: &'a str,
        /// The domain of the timer; `after` counts from its clock or watermark.
        domain: Domain,
        /// Milliseconds from the namespace's now.
        after_ms: i64,
    },
    /// Cancels one timer.
    Delete {
        /// The domain of the timer.
        domain: Domain,
        /// Which of the key's timers.
        target: Target<'a>,
    },
    /// Cancels all timers of the key, in both domains.
    DeleteAll,
    /// Hands an element to the namespace's operator.
    Element(Element<'a>),
}

/// An element: something has happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// When it happened.
    pub timestamp: Timestamp,
    /// On which of the operator's inputs it came, from 0.
    pub input: u8,
    /// What it is.
    pub value: Payload<'a>,
}

/// The registration of one timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register<'a> {
    /// Which clock it follows.
    pub domain: Domain,
    /// `None`: identity (key, domain, time). A name: identity (key, domain, name), and a second
    /// registration replaces the first.
    pub name: Option<&'a str>,
    /// When it is due.
    pub when: When,
    /// Handed back as it came when the timer fires.
    pub payload: Option<Payload<'a>>,
    /// Overrides the namespace's resolution, in milliseconds.
    pub resolution_ms: Option<i64>,
    /// Overrides the namespace's spread, in milliseconds.
    pub spread_ms: Option<i64>,
    /// A condition on what is registered already.
    pub only: Only,
}

/// When a timer is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At this time.
    At(Timestamp),
    /// So many milliseconds after the namespace's now (its watermark, for event time).
    After(i64),
}

impl From<Timestamp> for When {
    fn from(time: Timestamp) -> Self {
        Self::At(time)
    }
}

impl From<Duration> for When {
    /// Not shorter: a part of a millisecond counts as a whole one.
    fn from(duration: Duration) -> Self {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        Self::After(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

/// Bytes that travel with a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// JSON text, as it was sent.
    Json(&'a [u8]),
    /// Any bytes.
    Binary(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// The bytes, whatever they mean.
    pub const fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

/// A condition on a registration. Unmet: the standing timer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Only {
    /// No condition.
    #[default]
    Always,
    /// Only if no such timer is registered.
    Absent,
    /// Only if such a timer is registered.
    Present,
    /// Only if there is none, or the new time is earlier than the standing one.
    Earlier,
    /// Only if there is none, or the new time is later than the standing one.
    Later,
}

/// Which timer of a key a delete means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The named one.
    Name(&'a str),
    /// The unnamed one that a registration with this `at` made: rounded and spread alike.
    At {
        /// As it was registered.
        at: Timestamp,
        /// As it was registered.
        resolution_ms: Option<i64>,
        /// As it was registered.
        spread_ms: Option<i64>,
    },
    /// The unnamed one that is due exactly then.
    FireAt(Timestamp),
}

/// What came of an operation.
pub type Outcome = Result<Applied, Rejection>;

/// What an operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// In one word.
    pub result: ResultKind,
    /// When the timer it speaks of is due; absent for deletes.
    pub fire_at: Option<Timestamp>,
    /// How many timers were cancelled.
    pub cancelled: u32,
    /// The timer was due already when it was registered: it fires at once.
    pub overdue: bool,
}

/// The result of an operation, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResultKind {
    /// A timer that was not there is there.
    Created,
    /// A named timer has another time or payload.
    Replaced,
    /// A named timer was like that already.
    Unchanged,
    /// An unnamed timer of this time was there already; its first payload stays.
    Duplicate,
    /// The condition was not met; the standing timer stays.
    Kept,
    /// One or more timers are gone, and never fire.
    Cancelled,
    /// There was nothing to cancel.
    Absent,
    /// A producer sent this sequence before.
    Repeated,
    /// The operator has seen the element.
    Processed,
    /// The element was late, and went where the namespace wants late ones.
    Late,
    /// The operator has failed at the element, and the namespace passes over what fails.
    Failed,
}

impl ResultKind {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 11] = [
        Self::Created,
        Self::Replaced,
        Self::Unchanged,
        Self::Duplicate,
        Self::Kept,
        Self::Cancelled,
        Self::Absent,
        Self::Repeated,
        Self::Processed,
        Self::Late,
        Self::Failed,
    ];

    /// Whether only an element has it.
    pub const fn is_of_element(self) -> bool {
        matches!(self, Self::Processed | Self::Late | Self::Failed)
    }

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Replaced => "replaced",
            Self::Unchanged => "unchanged",
            Self::Duplicate => "duplicate",
            Self::Kept => "kept",
            Self::Cancelled => "cancelled",
            Self::Absent => "absent",
            Self::Repeated => "repeated",
            Self::Processed => "processed",
            Self::Late => "late",
            Self::Failed => "failed",
        }
    }
}

/// A timer as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerView {
    /// When it is due.
    pub fire_at: Timestamp,
    /// Its key.
    pub key: Vec<u8>,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The clock it follows.
    pub domain: Domain,
    /// What travels with it.
    pub payload: Option<PayloadBuf>,
}

/// An owned [`Payload`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadBuf {
    /// JSON text.
    Json(Vec<u8>),
    /// Any bytes.
    Binary(Vec<u8>),
}

impl Op<'_> {
    /// Refuses what no namespace takes, or this one does not, naming the field and the limit.
    #[inline]
    pub fn check(&self, payload_bytes_max: usize) -> Result<(), Rejection> {
        match self.key.len() {
            0 => return Err(Rejection::KeyEmpty),
            1..=KEY_BYTES_MAX => {}
            actual => {
                return Err(Rejection::KeyTooLong { limit: KEY_BYTES_MAX, actual });
            }
        }
        match &self.action {
            Action::Register(register) => check_register(register, payload_bytes_max),
            Action::Touch { name, after_ms, .. } => {
                check_name(name)?;
                if *after_ms < 0 {
                    return Err(Rejection::DurationNegative { field: "after" });
                }
                Ok(())
            }
            Action::Delete { target: Target::Name(name), .. } => check_name(name),
            Action::Delete { target: Target::At { resolution_ms, spread_ms, .. }, .. } => {
                check_windows(*resolution_ms, *spread_ms)
            }
            Action::Delete { .. } | Action::DeleteAll => Ok(()),
            Action::Element(element) => {
                if element.input >= INPUTS_MAX {
                    let detail =
                        format!("is {}, allowed is 0 to {}", element.input, INPUTS_MAX - 1);
                    return Err(Rejection::OptionInvalid { field: "input", detail });
                }
                check_payload(element.value, payload_bytes_max)
            }
        }
    }
}

impl Op<'_> {
    /// Refuses what is not for the operator of a namespace: elements are for functions, and timers are
    /// for `timers`.
    #[inline]
    pub fn check_operator(&self, is_function: bool) -> Result<(), Rejection> {
        match (&self.action, is_function) {
            (Action::Element(_), false) => Err(Rejection::ElementsUnwanted),
            (Action::Element(_), true) | (_, false) => Ok(()),
            (_, true) => Err(Rejection::TimersOwned),
        }
    }
}

fn check_payload(payload: Payload<'_>, limit: usize) -> Result<(), Rejection> {
    let actual = payload.bytes().len();
    if actual > limit {
        return Err(Rejection::PayloadTooLarge { limit, actual });
    }
    Ok(())
}

#[inline]
fn check_register(register: &Register<'_>, payload_bytes_max: usize) -> Result<(), Rejection> {
    if let Some(name) = register.name {
        check_name(name)?;
    }
    if matches!(register.when, When::After(..0)) {
        return Err(Rejection::DurationNegative { field: "after" });
    }
    if let Some(payload) = register.payload {
        check_payload(payload, payload_bytes_max)?;
    }
    check_windows(register.resolution_ms, register.spread_ms)
}

fn check_name(name: &str) -> Result<(), Rejection> {
    match name.len() {
        0 => Err(Rejection::NameEmpty),
        1..=NAME_BYTES_MAX => Ok(()),
        actual => Err(Rejection::NameTooLong { limit: NAME_BYTES_MAX, actual }),
    }
}

#[inline]
fn check_windows(resolution_ms: Option<i64>, spread_ms: Option<i64>) -> Result<(), Rejection> {
    for (field, window, least) in [("resolution", resolution_ms, 1), ("spread", spread_ms, 0)] {
        if let Some(window) = window
            && !(least..=WINDOW_MS_MAX).contains(&window)
        {
            let detail = format!("is {window} ms, allowed is {least} to {WINDOW_MS_MAX} ms");
            return Err(Rejection::OptionInvalid { field, detail });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTER: Register<'_> = Register {
        domain: Domain::Processing,
        name: None,
        when: When::At(Timestamp::MIN),
        payload: None,
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    };

    fn check(key: &[u8], action: Action<'_>, expected: Option<(&str, u64)>) {
        let found = Op { key, action }.check(100);
        let found = found.err().map(|rejection| {
            (rejection.field().unwrap_or_default().to_owned(), rejection.limit().unwrap_or(0))
        });
        assert_eq!(found, expected.map(|(field, limit)| (field.to_owned(), limit)));
    }

    #[test]
    fn what_is_out_of_bounds_is_named_with_its_limit() {
        let long = [b'x'; 1_025];
        let name = "n".repeat(256);
        check(b"k", Action::DeleteAll, None);
        check(&long[1..], Action::DeleteAll, None);
        check(b"", Action::DeleteAll, Some(("key", 0)));
        check(&long, Action::DeleteAll, Some(("key", 1_024)));
        check(b"k", Action::Register(REGISTER), None);
        let named = |name| Action::Register(Register { name: Some(name), ..REGISTER });
        check(b"k", named(&name[1..]), None);
        check(b"k", named(&name), Some(("name", 255)));
        check(b"k", named(""), Some(("name", 0)));
        let payload = |bytes| {
            Action::Register(Register { payload: Some(Payload::Binary(bytes)), ..REGISTER })
        };
        check(b"k", payload(&long[..100]), None);
        check(b"k", payload(&long[..101]), Some(("payload", 100)));
        let when = When::After(-1);
        check(b"k", Action::Register(Register { when, ..REGISTER }), Some(("after", 0)));
        let resolution_ms = Some(0);
        check(
            b"k",
            Action::Register(Register { resolution_ms, ..REGISTER }),
            Some(("resolution", 0)),
        );
        let touch = |after_ms| Action::Touch { name: "t", domain: Domain::Event, after_ms };
        check(b"k", touch(0), None);
        check(b"k", touch(-1), Some(("after", 0)));
        let element = |input, bytes| {
            let value = Payload::Json(bytes);
            Action::Element(Element { timestamp: Timestamp::MIN, input, value })
        };
        check(b"k", element(1, &long[..100]), None);
        check(b"k", element(2, b"{}"), Some(("input", 0)));
        check(b"k", element(0, &long[..101]), Some(("payload", 100)));
    }
}

//! How the timers of a function are told apart, and how those of a namespace are stored.
//!
//! A timer without a name is told apart by its time, one with a name by that: registering it again
//! replaces it. One in a namespace (a window, say) is told apart by both, namespace and time; it is
//! stored under a name that is made of the two, and that no function can give a timer itself:
//!
//! ```text
//! U+0000 | time in 11 characters | namespace, a character for each of its bytes
//! ```
//!
//! The time stands first with its order kept, so that timers of one time sort by their namespaces.

use super::error::{FunctionError, Result};
use crate::limits::NAME_BYTES_MAX;
use crate::time::{Domain, Timestamp};
use std::borrow::Cow;

/// What makes a timer itself, beside its key and its domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerId<'a> {
    /// Its time alone.
    Unnamed,
    /// This name.
    Named(Cow<'a, str>),
    /// This namespace, and its time.
    InNamespace(Cow<'a, [u8]>),
}

/// A timer of a key, as a function sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionTimer {
    /// The clock that it follows.
    pub domain: Domain,
    /// When it is due.
    pub time: Timestamp,
    /// What else makes it itself.
    pub id: TimerId<'static>,
}

/// The timers of a key as they are stored, while a callback of it runs.
pub(crate) trait StoredTimers {
    /// When the timer of this identity is due, if there is one.
    fn find(&self, domain: Domain, identity: StoredId<'_>) -> Option<Timestamp>;
    /// Calls `each` with the time and the stored name of each timer of a domain.
    fn for_each(&self, domain: Domain, each: &mut dyn FnMut(Timestamp, Option<&str>));
    /// How many there are, over both domains.
    fn count(&self) -> usize;
    /// Whether the clock makes nothing due of the key, although it may have passed it: in a pause, and
    /// behind a timer that a restart holds back.
    fn is_clock_still(&self) -> bool {
        false
    }
}

/// Which stored timer of a key and domain is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredId<'a> {
    /// The one without a name of this time.
    Time(Timestamp),
    /// The one that is stored under this name.
    Name(&'a str),
}

impl<'a> StoredId<'a> {
    pub(crate) fn of(time: Timestamp, name: Option<&'a str>) -> Self {
        name.map_or(Self::Time(time), Self::Name)
    }
}

const MARK: char = '\0';
const TIME_CHARS: u32 = 11;
const CHAR_BITS: u32 = 6;
const FIRST_CHAR: u8 = b'0';
const PREFIX_BYTES: usize = 1 + TIME_CHARS as usize;

/// Appends the name under which a timer of a namespace is stored.
pub(crate) fn push_namespaced(out: &mut String, namespace: &[u8], time: Timestamp) {
    out.push(MARK);
    let ordered = time.to_ordered();
    for index in (0..TIME_CHARS).rev() {
        let bits = (ordered >> (index * CHAR_BITS)) & ((1 << CHAR_BITS) - 1);
        out.push(char::from(FIRST_CHAR + bits as u8));
    }
    out.extend(namespace.iter().map(|byte| char::from(*byte)));
}

/// Refuses a name that a function may not give to a timer.
pub(super) fn check_name(name: &str) -> Result<()> {
    match name.len() {
        0 => Err(FunctionError::new("the name of a timer is empty")),
        1..=NAME_BYTES_MAX if name.starts_with(MARK) => {
            Err(FunctionError::new("the name of a timer begins with a zero character"))
        }
        1..=NAME_BYTES_MAX => Ok(()),
        actual => Err(FunctionError::new(format!(
            "the name of a timer has {actual} bytes, allowed are {NAME_BYTES_MAX}"
        ))),
    }
}

/// Refuses a namespace that is too long to be stored.
pub(super) fn check_namespace(namespace: &[u8]) -> Result<()> {
    let above: usize = namespace.iter().filter(|byte| !byte.is_ascii()).count();
    let actual = namespace.len() + above;
    let limit = NAME_BYTES_MAX - PREFIX_BYTES;
    if actual > limit {
        return Err(FunctionError::new(format!(
            "the namespace of a timer has {actual} bytes (those from 128 on count twice), \
             allowed are {limit}"
        )));
    }
    Ok(())
}

impl<'a> TimerId<'a> {
    /// What the name says under which a timer of a function is stored, and shown to readers of the
    /// engine; `None`: it has none.
    pub fn of_stored(name: Option<&'a str>) -> Self {
        let Some(name) = name else {
            return Self::Unnamed;
        };
        if !name.starts_with(MARK) || name.len() < PREFIX_BYTES {
            return Self::Named(Cow::Borrowed(name));
        }
        let namespace = &name[PREFIX_BYTES..];
        Self::InNamespace(if namespace.is_ascii() {
            Cow::Borrowed(namespace.as_bytes())
        } else {
            namespace.chars().map(|byte| byte as u8).collect()
        })
    }

    /// The same, of its own.
    pub fn into_owned(self) -> TimerId<'static> {
        match self {
            Self::Unnamed => TimerId::Unnamed,
            Self::Named(name) => TimerId::Named(Cow::Owned(name.into_owned())),
            Self::InNamespace(bytes) => TimerId::InNamespace(Cow::Owned(bytes.into_owned())),
        }
    }

    /// The name, if it has one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Unnamed | Self::InNamespace(_) => None,
        }
    }

    /// The namespace, if it is in one.
    pub fn namespace(&self) -> Option<&[u8]> {
        match self {
            Self::InNamespace(bytes) => Some(bytes),
            Self::Unnamed | Self::Named(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(namespace: &[u8], time: i64) -> String {
        let mut name = String::new();
        push_namespaced(&mut name, namespace, Timestamp::from_millis(time));
        name
    }

    #[test]
    fn a_namespace_comes_back_and_timers_sort_by_time_then_namespace() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        for namespace in [&b""[..], b"w", b"\xff\x00\x80", "f\u{fc}r".as_bytes(), &all[..100]] {
            check_namespace(namespace).expect("it fits");
            let name = stored(namespace, 5);
            assert!(name.len() <= NAME_BYTES_MAX);
            assert_eq!(TimerId::of_stored(Some(&name)).namespace(), Some(namespace));
            assert!(check_name(&name).is_err(), "no function can give it that name");
        }
        let times = [i64::MIN, -1, 0, 1, 1_767_225_600_000, i64::MAX];
        for pair in times.windows(2) {
            assert!(stored(b"\xff\xff", pair[0]) < stored(b"", pair[1]));
        }
        assert!(stored(b"\x7f\xff", 3) < stored(b"\x80", 3));
        assert_eq!(stored(b"", 0).len(), PREFIX_BYTES);
    }

    #[test]
    fn names_and_namespaces_have_their_bounds() {
        for (name, fits) in [("", false), ("a", true), (&"n".repeat(255), true)] {
            assert_eq!(check_name(name).is_ok(), fits);
        }
        assert!(check_name(&"n".repeat(256)).is_err());
        let room = NAME_BYTES_MAX - PREFIX_BYTES;
        for (bytes, fits) in [
            (vec![b'a'; room], true),
            (vec![b'a'; room + 1], false),
            (vec![0x80; room / 2], true),
            (vec![0x80; room / 2 + 1], false),
        ] {
            assert_eq!(check_namespace(&bytes).is_ok(), fits);
            assert_eq!(stored(&bytes, 0).len() <= NAME_BYTES_MAX, fits);
        }
    }
}

//! Elements of a key that wait for their time: by time, then as they came, in one run of bytes.
//!
//! ```text
//! | time (8) | length of the value (4) | value | the next one ...      little endian
//! ```
//!
//! It is read in place. One more at its end, the usual case, costs a copy of the bytes and no look at
//! them, since the last time is known; so does the first one that goes.

use super::state::raw_json;
use crate::duration::format_duration;
use crate::function::{FunctionError, Result};
use crate::limits::HELD_ELEMENTS_MAX;
use crate::time::Timestamp;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

/// See the module: one element or more.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Held<'a> {
    count: u32,
    last: Timestamp,
    #[serde(rename = "elements", serialize_with = "as_bytes")]
    bytes: &'a [u8],
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn as_bytes<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if !serializer.is_human_readable() {
        return serializer.serialize_bytes(bytes);
    }
    let mut elements = Vec::new();
    let mut rest = *bytes;
    while !rest.is_empty() {
        let Some((at, value, behind)) = try_split(rest) else {
            return Err(S::Error::custom("the elements that wait for their time are not whole"));
        };
        elements.push(Waiting { at, value });
        rest = behind;
    }
    elements.serialize(serializer)
}

/// One of them, for people.
#[derive(Serialize)]
struct Waiting<'a> {
    at: Timestamp,
    #[serde(serialize_with = "raw_json")]
    value: &'a str,
}

impl<'a> Held<'a> {
    /// When the first one's time comes.
    pub(super) fn first(&self) -> Timestamp {
        split(self.bytes).0
    }

    /// Takes the first one out.
    pub(super) fn pop(held: &mut Option<Self>) -> Option<(Timestamp, &'a str)> {
        let Self { count, last, bytes } = held.take()?;
        let (time, value, rest) = split(bytes);
        if count > 1 {
            *held = Some(Self { count: count - 1, last, bytes: rest });
        }
        Some((time, value))
    }

    /// The same with one more, written down in `buffer`.
    pub(super) fn insert<'b>(
        held: Option<&Self>,
        at: Timestamp,
        value: &str,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Held<'b>> {
        let (count, last, bytes) =
            held.map_or((0, at, &[][..]), |it| (it.count, it.last, it.bytes));
        if count as usize >= HELD_ELEMENTS_MAX {
            let span = format_duration(at.saturating_since(split(bytes).0));
            return Err(FunctionError::new(format!(
                "the key has {HELD_ELEMENTS_MAX} elements already that wait for their time, the \
                 first of them {span} before this one"
            )));
        }
        let place = if at >= last { bytes.len() } else { place(bytes, at) };
        buffer.reserve_exact(bytes.len() + TIME_BYTES + LENGTH_BYTES + value.len());
        buffer.extend_from_slice(&bytes[..place]);
        buffer.extend_from_slice(&at.as_millis().to_le_bytes());
        buffer.extend_from_slice(&(value.len() as u32).to_le_bytes());
        buffer.extend_from_slice(value.as_bytes());
        buffer.extend_from_slice(&bytes[place..]);
        Ok(Held { count: count + 1, last: last.max(at), bytes: buffer })
    }
}

const TIME_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;

/// The first element, and what follows it.
fn split(bytes: &[u8]) -> (Timestamp, &str, &[u8]) {
    try_split(bytes).expect("held elements are whole, and there is one")
}

fn try_split(bytes: &[u8]) -> Option<(Timestamp, &str, &[u8])> {
    let (time, rest) = bytes.split_first_chunk::<TIME_BYTES>()?;
    let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let time = Timestamp::from_millis(i64::from_le_bytes(*time));
    Some((time, std::str::from_utf8(value).ok()?, rest))
}

/// Where an element of this time belongs, which is earlier than the last one's.
fn place(bytes: &[u8], at: Timestamp) -> usize {
    let mut rest = bytes;
    loop {
        let (time, _, behind) = split(rest);
        if time > at {
            return bytes.len() - rest.len();
        }
        rest = behind;
    }
}

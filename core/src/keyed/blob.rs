//! What travels with a timer, as one byte string: its name, if it is not the default one, and its
//! payload.
//!
//! ```text
//!  0      4           5          5 + name
//!  | head | name len  | name …   | payload … |
//!
//!  head:  payload bytes << 2 | kind (0 none, 1 JSON, 2 binary)
//! ```

use super::bytes::{BytesHandle, BytesPool};
use crate::op::Payload;

/// Where a blob is kept, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link(u32);

const NONE: u32 = u32::MAX;
const KIND_NONE: u32 = 0;
const KIND_JSON: u32 = 1;
const KIND_BINARY: u32 = 2;

impl Link {
    /// No blob.
    pub(crate) const NONE: Self = Self(NONE);

    /// As it is stored in a slot.
    pub(crate) const fn to_raw(self) -> u32 {
        self.0
    }

    /// From where it was stored.
    pub(crate) const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// Stores a name (empty: none, or the default one) and a payload.
    pub(crate) fn store(bytes: &mut BytesPool, name: &str, payload: Option<Payload<'_>>) -> Self {
        if name.is_empty() && payload.is_none() {
            return Self::NONE;
        }
        let (kind, payload) = match payload {
            None => (KIND_NONE, &[][..]),
            Some(Payload::Json(text)) => (KIND_JSON, text),
            Some(Payload::Binary(text)) => (KIND_BINARY, text),
        };
        let head = ((payload.len() as u32) << 2 | kind).to_le_bytes();
        Self(bytes.store(&[&head, &[name.len() as u8], name.as_bytes(), payload]).to_raw())
    }

    /// The name and the payload.
    pub(crate) fn load(self, bytes: &BytesPool) -> (&str, Option<Payload<'_>>) {
        if self.0 == NONE {
            return ("", None);
        }
        let cell = bytes.get(BytesHandle::from_raw(self.0));
        let head = u32::from_le_bytes([cell[0], cell[1], cell[2], cell[3]]);
        let name_end = 5 + cell[4] as usize;
        let name = std::str::from_utf8(&cell[5..name_end]).expect("names were text when stored");
        let payload = &cell[name_end..name_end + (head >> 2) as usize];
        let payload = match head & 3 {
            KIND_NONE => None,
            KIND_JSON => Some(Payload::Json(payload)),
            _ => Some(Payload::Binary(payload)),
        };
        (name, payload)
    }

    /// Gives the blob back.
    pub(crate) fn free(self, bytes: &mut BytesPool) {
        if self.0 != NONE {
            bytes.free(BytesHandle::from_raw(self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_payload_come_back() {
        let mut bytes = BytesPool::default();
        let long = vec![7; 70_000];
        for name in ["", "a", &"n".repeat(255)] {
            for payload in [
                None,
                Some(Payload::Json(b"{\"n\":1}")),
                Some(Payload::Binary(b"")),
                Some(Payload::Binary(&long)),
            ] {
                let link = Link::store(&mut bytes, name, payload);
                assert_eq!(link == Link::NONE, name.is_empty() && payload.is_none());
                assert_eq!(Link::from_raw(link.to_raw()).load(&bytes), (name, payload));
                link.free(&mut bytes);
            }
        }
        assert_eq!(bytes.bytes(), 0);
    }
}

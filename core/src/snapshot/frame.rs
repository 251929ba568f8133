//! The frame of a manifest: what kind it is, in which format, how long, and a checksum.
//!
//! ```text
//!  0 magic, 8 bytes | 8 format version u32 | 12 length u32 | 16 CRC32C of 0..16 and the JSON
//! 20 JSON
//! ```
//!
//! It is the same for ever.

use super::fault::SnapshotFault;
use crc32c::{crc32c, crc32c_append};

/// Bytes before the JSON.
pub(super) const FRAME_BYTES: usize = 20;

/// Puts JSON into a frame.
pub(super) fn encode(magic: [u8; 8], version: u32, json: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_BYTES + json.len());
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
    let crc = crc32c_append(crc32c(&bytes), json);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(json);
    bytes
}

/// The JSON in a frame; `object` is how faults call it.
pub(super) fn decode<'a>(
    object: &str,
    magic: [u8; 8],
    known: u32,
    bytes: &'a [u8],
) -> Result<&'a [u8], SnapshotFault> {
    let fault = |at, detail| Err(SnapshotFault::damaged(object, at, detail));
    let Some((frame, json)) = bytes.split_first_chunk::<FRAME_BYTES>() else {
        return fault(0, "it is too short");
    };
    let word =
        |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    if frame[..8] != magic {
        return fault(0, "it is no manifest");
    }
    if word(12) as usize != json.len() {
        return fault(12, "it is not as long as it says");
    }
    if word(16) != crc32c_append(crc32c(&frame[..16]), json) {
        return fault(16, "the checksum does not match");
    }
    let found = word(8);
    if found > known {
        return Err(SnapshotFault::Newer { object: object.to_owned(), found, known });
    }
    if found == 0 {
        return fault(8, "there is no such format version");
    }
    Ok(json)
}

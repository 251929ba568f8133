//! The block codec: a header of 64 bytes, a body, zeroes up to a multiple of eight.
//!
//! ```text
//!  0  tag: "SWB1", exclusive or with the salt
//!  4  version u8 | kind u8 | lane u16
//!  8  body length u32
//! 12  count u32
//! 16  epoch u32
//! 20  journal u16 | engine version u16
//! 24  sequence u64
//! 32  durable_to u64
//! 40  first u64
//! 48  now_ms i64
//! 56  chain u32
//! 60  crc u32, begun with the salt, over bytes 4..60 and the body
//! ```
//!
//! Little endian throughout. What a header says is believed once the checksum fits, and bounds are
//! checked before the checksum is taken. Whether a block stands where it should is not decided here
//! but in the scan.
//!
//! Tag and checksum depend on a *salt*, which is made of the directory's id: a payload is written by
//! whoever sends it, and must not be able to hold what looks like a block once the block around it
//! is torn.

use thiserror::Error;

/// Bytes of a block before its body.
pub(crate) const BLOCK_HEADER_BYTES: usize = 64;
/// Blocks begin at multiples of this.
pub(crate) const BLOCK_ALIGN: usize = 8;
/// Bytes of a body: more than one segment of the default size holds is never written as one block.
pub(crate) const BLOCK_BODY_BYTES_MAX: usize = 8 << 20;
/// The lane of a block that is of no lane: a mark or an end.
pub(crate) const NO_LANE: u16 = u16::MAX;
/// The journal of blocks and segments of the output log. No journal has this number: their stale
/// blocks stand in each other's recycled segments, and must not be taken for each other's own.
pub(crate) const OUTPUT_JOURNAL: u16 = u16::MAX;

const MAGIC: [u8; 4] = *b"SWB1";
const VERSION: u8 = 1;
const CRC_AT: usize = 60;

/// What the blocks of one data directory have in common, and nobody outside knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockSalt(u32);

impl BlockSalt {
    /// The salt of a data directory.
    pub(crate) fn of(directory_id: &[u8; 16]) -> Self {
        Self(crc32c::crc32c(directory_id))
    }

    /// What a block begins with.
    fn tag(self) -> [u8; 4] {
        (u32::from_le_bytes(MAGIC) ^ self.0).to_le_bytes()
    }

    /// Without the tag, which is compared as it is: the salt in it would take back the salt that the
    /// checksum begins with.
    fn checksum(self, head: &[u8], body: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &head[4..CRC_AT]), body)
    }
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// Records of a lane.
    Records = 1,
    /// Nothing: it only says how far the journal is durable.
    Mark = 2,
    /// Nothing, and nothing follows: the journal is sealed.
    End = 3,
    /// Output records.
    Outputs = 4,
}

impl BlockKind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Records, Self::Mark, Self::End, Self::Outputs]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What stands before a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) kind: BlockKind,
    pub(crate) lane: u16,
    /// Bytes of the body; when encoding, those of the body that is given.
    pub(crate) length: u32,
    /// Records or outputs in it.
    pub(crate) count: u32,
    pub(crate) epoch: u32,
    pub(crate) journal: u16,
    /// The version of the engine that wrote it.
    pub(crate) engine_version: u16,
    /// Which block of its journal it is, from 1.
    pub(crate) sequence: u64,
    /// The sequence up to which the journal was durable when this was written.
    pub(crate) durable_to: u64,
    /// The position of the first record, or the cursor of the first output.
    pub(crate) first: u64,
    /// The intake clock.
    pub(crate) now_ms: i64,
    /// The checksum of the lane's block before it, 0 for the first of a journal.
    pub(crate) chain: u32,
    /// When encoding, it is computed.
    pub(crate) crc: u32,
}

impl BlockHeader {
    /// Bytes on disk, padding included.
    pub(crate) fn size(&self) -> usize {
        block_size(self.length as usize)
    }

    /// The position of the last record; none if there are none, or no such position.
    pub(crate) fn last(&self) -> Option<u64> {
        self.first.checked_add(u64::from(self.count.checked_sub(1)?))
    }
}

/// Why some bytes are no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum BlockFlaw {
    #[error("no block begins here")]
    Magic,
    #[error("the block is of version {0}, known is 1")]
    Version(u8),
    #[error("there is no block of kind {0}")]
    Kind(u8),
    #[error("the block is longer than what is there")]
    Length,
    #[error("the checksum does not match")]
    Crc,
    #[error("what fills the block up is not zero")]
    Padding,
}

/// Bytes on disk of a block with a body of so many bytes, padding included.
pub(crate) const fn block_size(body_bytes: usize) -> usize {
    (BLOCK_HEADER_BYTES + body_bytes).next_multiple_of(BLOCK_ALIGN)
}

/// Appends a block and returns its checksum, for the lane's next block. The length and the checksum
/// that stand in `header` are not looked at.
pub(crate) fn encode(out: &mut Vec<u8>, salt: BlockSalt, header: &BlockHeader, body: &[u8]) -> u32 {
    assert!(body.len() <= BLOCK_BODY_BYTES_MAX, "a body of {} bytes", body.len());
    let mut head = [0; BLOCK_HEADER_BYTES];
    head[0..4].copy_from_slice(&salt.tag());
    head[4] = VERSION;
    head[5] = header.kind as u8;
    head[6..8].copy_from_slice(&header.lane.to_le_bytes());
    head[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[12..16].copy_from_slice(&header.count.to_le_bytes());
    head[16..20].copy_from_slice(&header.epoch.to_le_bytes());
    head[20..22].copy_from_slice(&header.journal.to_le_bytes());
    head[22..24].copy_from_slice(&header.engine_version.to_le_bytes());
    head[24..32].copy_from_slice(&header.sequence.to_le_bytes());
    head[32..40].copy_from_slice(&header.durable_to.to_le_bytes());
    head[40..48].copy_from_slice(&header.first.to_le_bytes());
    head[48..56].copy_from_slice(&header.now_ms.to_le_bytes());
    head[56..60].copy_from_slice(&header.chain.to_le_bytes());
    let crc = salt.checksum(&head, body);
    head[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    out.reserve(block_size(body.len()));
    out.extend_from_slice(&head);
    out.extend_from_slice(body);
    let padding = block_size(body.len()) - BLOCK_HEADER_BYTES - body.len();
    out.extend_from_slice(&[0; BLOCK_ALIGN][..padding]);
    crc
}

/// The block that begins where these bytes begin, whatever follows it.
pub(crate) fn decode(salt: BlockSalt, bytes: &[u8]) -> Result<(BlockHeader, &[u8]), BlockFlaw> {
    let header = peek(salt, bytes)?;
    let body_end = BLOCK_HEADER_BYTES + header.length as usize;
    if header.length as usize > BLOCK_BODY_BYTES_MAX || header.size() > bytes.len() {
        return Err(BlockFlaw::Length);
    }
    let body = &bytes[BLOCK_HEADER_BYTES..body_end];
    if salt.checksum(&bytes[..BLOCK_HEADER_BYTES], body) != header.crc {
        return Err(BlockFlaw::Crc);
    }
    if bytes[body_end..header.size()].iter().any(|byte| *byte != 0) {
        return Err(BlockFlaw::Padding);
    }
    Ok((header, body))
}

/// What a header claims, before its checksum was looked at.
pub(crate) fn peek(salt: BlockSalt, bytes: &[u8]) -> Result<BlockHeader, BlockFlaw> {
    let Some(head) = bytes.first_chunk::<BLOCK_HEADER_BYTES>() else {
        return Err(BlockFlaw::Magic);
    };
    if head[0..4] != salt.tag() {
        return Err(BlockFlaw::Magic);
    }
    if head[4] != VERSION {
        return Err(BlockFlaw::Version(head[4]));
    }
    let kind = BlockKind::of(head[5]).ok_or(BlockFlaw::Kind(head[5]))?;
    Ok(fields(head, kind))
}

/// Whether this looks like what is left of a certain block: three of its four marks stand. So a
/// flipped byte, wherever it is, does not make a block look like nothing.
pub(crate) fn resembles(
    salt: BlockSalt,
    bytes: &[u8],
    epoch: u32,
    journal: u16,
    sequence: u64,
) -> bool {
    let Some(head) = bytes.first_chunk::<BLOCK_HEADER_BYTES>() else {
        return false;
    };
    let claimed = fields(head, BlockKind::Mark);
    let marks = [
        head[0..4] == salt.tag(),
        claimed.epoch == epoch,
        claimed.journal == journal,
        claimed.sequence == sequence,
    ];
    marks.iter().filter(|stands| **stands).count() >= 3
}

fn fields(head: &[u8; BLOCK_HEADER_BYTES], kind: BlockKind) -> BlockHeader {
    BlockHeader {
        kind,
        lane: u16::from_le_bytes(part(head, 6)),
        length: u32::from_le_bytes(part(head, 8)),
        count: u32::from_le_bytes(part(head, 12)),
        epoch: u32::from_le_bytes(part(head, 16)),
        journal: u16::from_le_bytes(part(head, 20)),
        engine_version: u16::from_le_bytes(part(head, 22)),
        sequence: u64::from_le_bytes(part(head, 24)),
        durable_to: u64::from_le_bytes(part(head, 32)),
        first: u64::from_le_bytes(part(head, 40)),
        now_ms: i64::from_le_bytes(part(head, 48)),
        chain: u32::from_le_bytes(part(head, 56)),
        crc: u32::from_le_bytes(part(head, CRC_AT)),
    }
}

/// `N` bytes of a header, from a place that all headers have.
pub(super) fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SALT: BlockSalt = BlockSalt(0x1357_9bdf);

    fn header() -> BlockHeader {
        BlockHeader {
            kind: BlockKind::Records,
            lane: 3,
            length: 0,
            count: 2,
            epoch: 12,
            journal: 1,
            engine_version: 7,
            sequence: 42,
            durable_to: 40,
            first: 1_000,
            now_ms: -5,
            chain: 0xdead_beef,
            crc: 0,
        }
    }

    proptest! {
        #[test]
        fn blocks_come_back(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = Vec::new();
            let crc = encode(&mut bytes, SALT, &header(), &body);
            prop_assert_eq!(bytes.len(), block_size(body.len()));
            prop_assert_eq!(bytes.len() % BLOCK_ALIGN, 0);
            bytes.extend_from_slice(b"behind");
            let (decoded, read) = decode(SALT, &bytes).expect("what was written can be read");
            let expected = BlockHeader { length: body.len() as u32, crc, ..header() };
            prop_assert_eq!(decoded, expected);
            prop_assert_eq!(read, &body[..]);
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(SALT, &bytes);
            if bytes.len() > 6 {
                bytes[..4].copy_from_slice(&SALT.tag());
                bytes[4] = VERSION;
                bytes[5] = 1;
            }
            prop_assert!(decode(SALT, &bytes).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let mut bytes = Vec::new();
        encode(&mut bytes, SALT, &header(), b"some records, of a length that is not round");
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(SALT, &broken).is_err(), "bit {bit}");
            assert!(resembles(SALT, &broken, 12, 1, 42), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(decode(SALT, &bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(!resembles(SALT, &bytes, 12, 2, 43));
        assert!(!resembles(SALT, &[0; 64], 12, 1, 42));
    }

    #[test]
    fn a_block_of_another_directory_is_none() {
        let mut bytes = Vec::new();
        encode(&mut bytes, SALT, &header(), b"a body");
        let other = BlockSalt::of(b"0123456789abcdef");
        assert_eq!(peek(other, &bytes), Err(BlockFlaw::Magic));
        // Not even with the right tag before it.
        bytes[..4].copy_from_slice(&other.tag());
        assert_eq!(decode(other, &bytes), Err(BlockFlaw::Crc));
        assert_eq!(BlockSalt::of(&[0; 16]), BlockSalt::of(&[0; 16]));
    }

    #[test]
    fn the_last_position_is_none_without_records() {
        assert_eq!(header().last(), Some(1_001));
        assert_eq!(BlockHeader { count: 0, ..header() }.last(), None);
        assert_eq!(BlockHeader { first: u64::MAX, ..header() }.last(), None);
    }
}

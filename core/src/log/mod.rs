//! Records: what is written down of everything that can change a partition. Blocks: how records
//! travel to the disk. Segments and the scan: how blocks stand in a file, and what a journal's
//! files say after a crash. All of it is bytes in, bytes out; `docs/format.md` draws the bytes.

#[allow(dead_code, reason = "driven by storage/")]
pub(crate) mod block;
mod operations;
mod record;
#[allow(dead_code, reason = "driven by storage/")]
pub(crate) mod scan;
#[allow(dead_code, reason = "driven by storage/")]
pub(crate) mod segment;

pub(crate) use operations::Operations;
#[cfg(test)]
pub(crate) use record::encode_op;
pub(crate) use record::{
    KeyRecord, Overdue, Produced, Record, encode_control, encode_overdue, encode_step, encode_tick,
    peek_operation, split_operation, split_record,
};

/// What a block costs on disk besides its records: its head, and up to seven bytes of padding.
pub(crate) const BLOCK_OVERHEAD_BYTES: usize = 72;

/// Records that one lane applied in one turn, on their way to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneBlock {
    pub(crate) lane: u16,
    /// The position of the first record; the others follow without a gap.
    pub(crate) first_position: u64,
    pub(crate) count: u32,
    /// The intake clock under which all of them were applied.
    pub(crate) now_ms: i64,
    pub(crate) records: Vec<u8>,
}

impl LaneBlock {
    /// What it takes on disk, at most.
    pub(crate) fn cost_bytes(&self) -> usize {
        self.records.len() + BLOCK_OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::block::{BlockHeader, BlockKind, BlockSalt, decode, encode};
    use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentKind};
    use super::*;
    use crate::output::NamespaceId;
    use crate::time::Timestamp;

    /// The data directory that they are of.
    fn directory_id() -> [u8; 16] {
        std::array::from_fn(|index| 0x10 + index as u8)
    }

    /// The dumps that are drawn in the documentation, in order.
    fn dumps() -> Vec<Vec<u8>> {
        let mut dumps: Vec<Vec<u8>> = Vec::new();
        for line in include_str!("../../../docs/format.md").lines() {
            let Some((place, bytes)) = line.split_once("  ") else { continue };
            let place = Some(place).filter(|place| place.len() == 8);
            let Some(Ok(place)) = place.map(|place| usize::from_str_radix(place, 16)) else {
                continue;
            };
            if place == 0 {
                dumps.push(Vec::new());
            }
            let dump = dumps.last_mut().expect("a dump begins at 0");
            assert_eq!(dump.len(), place, "{line}");
            dump.extend(bytes.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()));
        }
        dumps
    }

    #[test]
    fn the_block_in_the_documentation_is_one() {
        let dump = &dumps()[0];
        let salt = BlockSalt::of(&directory_id());
        let (header, body) = decode(salt, dump).unwrap();
        let expected = BlockHeader {
            kind: BlockKind::Records,
            lane: 3,
            length: 32,
            count: 1,
            epoch: 12,
            journal: 1,
            engine_version: 1,
            sequence: 42,
            durable_to: 41,
            first: 1_001,
            now_ms: 1_700_000_000_005,
            chain: 0x1b2c_3d4e,
            crc: header.crc,
        };
        assert_eq!(header, expected);
        let tick = Record::Tick {
            now: Timestamp::from_millis(1_700_000_000_000),
            namespaces: vec![NamespaceId(1)],
        };
        assert_eq!(split_record(body), Some((tick, &[][..])));
        let mut again = Vec::new();
        encode(&mut again, salt, &expected, body);
        assert_eq!(&again, dump);
    }

    #[test]
    fn the_segment_in_the_documentation_is_one() {
        let mut page = dumps()[1].clone();
        page.resize(SEGMENT_HEADER_BYTES, 0);
        let expected = SegmentHeader {
            kind: SegmentKind::Journal,
            directory_id: directory_id(),
            epoch: 12,
            journal: 1,
            journals: 2,
            number: 7,
            first_sequence: 42,
            size: 64 << 20,
        };
        assert_eq!(SegmentHeader::decode(&page), Ok(expected));
        assert_eq!(expected.encode(), page);
    }
}

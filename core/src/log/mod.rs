//! Records: what is written down of everything that can change a partition. Blocks: how records
//! travel to the disk. The journal: the files that blocks are in.

mod record;

pub(crate) use record::{
    Record, encode_control, encode_op, encode_step, encode_tick, peek_key, split_record,
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

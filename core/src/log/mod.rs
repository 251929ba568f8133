//! Records: what is written down of everything that can change a partition. Blocks: how records
//! travel to the disk. The journal: the files that blocks are in.

mod record;

pub(crate) use record::{
    Record, encode_control, encode_op, encode_step, encode_tick, peek_key, split_record,
};

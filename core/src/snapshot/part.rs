//! The parts that a checkpoint is made of, as shards give them.

use crate::key_group::{KeyGroup, LaneIndex, ShardIndex};
use crate::output::NamespaceId;

/// A part of a checkpoint.
#[derive(Debug)]
pub(crate) enum Part {
    /// The head of a lane and the controls at home in it, as of a position.
    Head {
        lane: LaneIndex,
        position: u64,
        /// The namespaces that stand in it.
        namespaces: Vec<NamespaceId>,
        head: Vec<u8>,
        controls: Vec<u8>,
    },
    /// A partition as of a position of its lane.
    Partition { namespace: NamespaceId, group: KeyGroup, position: u64, keys: u64, bytes: Vec<u8> },
    /// A shard has given all its parts.
    Done { shard: ShardIndex, round: u64 },
}

impl Part {
    /// How many bytes of state it holds.
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            Self::Head { head, controls, .. } => head.len() + controls.len(),
            Self::Partition { bytes, .. } => bytes.len(),
            Self::Done { .. } => 0,
        }
    }
}

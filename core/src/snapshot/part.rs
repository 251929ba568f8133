//! The parts that a checkpoint is made of, as shards give them.

use super::head::LaneHead;
use crate::key_group::{KeyGroup, LaneIndex, ShardIndex};
use crate::namespace::ControlsState;
use crate::output::NamespaceId;

/// What a namespace takes in a head or in controls.
const NAMESPACE_BYTES: usize = 256;

/// A part of a checkpoint.
#[derive(Debug)]
pub(crate) enum Part {
    /// The head of a lane and the controls at home in it, as of a position.
    Head { lane: LaneIndex, head: LaneHead, controls: ControlsState },
    /// A partition as of a position of its lane.
    Partition { namespace: NamespaceId, group: KeyGroup, position: u64, keys: u64, bytes: Vec<u8> },
    /// A shard has given all its parts.
    Done { shard: ShardIndex, round: u64 },
    /// What belongs to the savepoint of this number, and to no checkpoint.
    Savepoint { number: u64, part: SavepointPart },
}

/// What a shard says of a savepoint.
#[derive(Debug)]
pub(crate) enum SavepointPart {
    /// No time passes any more, and all that was under way can be read.
    Held { shard: ShardIndex },
    /// The cut is made: this is what its lanes know at it.
    Marked { shard: ShardIndex, lanes: Vec<LaneMark> },
    /// A partition as it was at the cut.
    Partition { namespace: NamespaceId, group: KeyGroup, position: u64, keys: u64, bytes: Vec<u8> },
    /// All of the shard's partitions were given.
    Done { shard: ShardIndex },
}

/// What a lane knows at the cut of a savepoint, of the namespaces that were asked for.
#[derive(Debug)]
pub(crate) struct LaneMark {
    pub(crate) lane: LaneIndex,
    pub(crate) head: LaneHead,
    pub(crate) controls: ControlsState,
    /// Of each namespace its keys and timers on this lane.
    pub(crate) counts: Vec<(NamespaceId, u64, u64)>,
}

impl Part {
    /// How many bytes of state it holds, more or less.
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            Self::Head { head, controls, .. } => {
                let broadcast = head.namespaces.iter().filter_map(|it| it.broadcast.as_deref());
                (head.namespaces.len() + controls.namespaces.len()) * NAMESPACE_BYTES
                    + broadcast.map(<[u8]>::len).sum::<usize>()
            }
            Self::Partition { bytes, .. }
            | Self::Savepoint { part: SavepointPart::Partition { bytes, .. }, .. } => bytes.len(),
            Self::Done { .. } | Self::Savepoint { .. } => 0,
        }
    }
}

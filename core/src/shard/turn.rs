//! What a turn hands over: blocks for the log, and what may leave the process once these are
//! written, durable, and their outputs readable.
//!
//! A shard applies first; everything that follows from it waits here, stage by stage, for whoever
//! commits the turn. Turns are committed in their order.

use super::message::Message;
use crate::key_group::ShardIndex;
use crate::log::LaneBlock;
use crate::output::OutputBytes;

/// Called once, when its time has come. It must not block.
pub(crate) type Release = Box<dyn FnOnce() + Send>;

/// See the module.
#[derive(Default)]
pub(crate) struct Turn {
    /// Records applied, lane by lane.
    pub(crate) blocks: Vec<LaneBlock>,
    /// Once the blocks are in the file.
    pub(crate) written: Vec<Release>,
    /// Once the blocks are durable.
    pub(crate) synced: Then,
    /// To be made readable once the blocks are durable.
    pub(crate) outputs: Vec<OutputBytes>,
    /// Once the outputs can be read.
    pub(crate) visible: Then,
}

/// What follows from a turn at one stage of it.
#[derive(Default)]
pub(crate) struct Then {
    /// Answers, and whatever else is said to the outside.
    pub(crate) releases: Vec<Release>,
    /// Messages to shards, the sender's own included.
    pub(crate) sends: Vec<(ShardIndex, Message)>,
}

impl Then {
    /// Whether nothing follows.
    pub(crate) fn is_empty(&self) -> bool {
        self.releases.is_empty() && self.sends.is_empty()
    }

    /// Lets it follow.
    pub(crate) fn run(self, send: &mut dyn FnMut(ShardIndex, Message)) {
        for release in self.releases {
            release();
        }
        for (shard, message) in self.sends {
            send(shard, message);
        }
    }
}

impl Turn {
    /// Whether there is nothing to hand over.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
            && self.written.is_empty()
            && self.synced.is_empty()
            && self.outputs.is_empty()
            && self.visible.is_empty()
    }
}

/// What may be appended in a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Bytes of the log, blocks' heads included, whose place is assured.
    pub(crate) log_bytes: u64,
    /// There will be no more until somebody makes room: refuse instead of waiting.
    pub(crate) is_full: bool,
    /// So much waits to become readable that nothing more may fire.
    pub(crate) are_outputs_held: bool,
}

impl Room {
    /// As much as one likes.
    pub(crate) const ENDLESS: Self =
        Self { log_bytes: u64::MAX, is_full: false, are_outputs_held: false };
}

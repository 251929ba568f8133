//! What a turn hands over: blocks for the log, and what may leave the process once these are
//! written, durable, and their outputs readable.
//!
//! A shard applies first; everything that follows from it waits here, stage by stage, for whoever
//! commits the turn. Turns are committed in their order.

use super::FULL_RETRY_AFTER_MS;
use super::message::Message;
use crate::error::Rejection;
use crate::key_group::ShardIndex;
use crate::log::LaneBlock;
use crate::output::OutputBytes;
use crate::snapshot::Part;

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
    /// Parts of the snapshots that a checkpoint is made of.
    pub(crate) parts: Vec<Part>,
}

impl Then {
    /// Whether nothing follows.
    pub(crate) fn is_empty(&self) -> bool {
        self.releases.is_empty() && self.sends.is_empty() && self.parts.is_empty()
    }

    /// Lets it follow.
    pub(crate) fn run(self, send: &mut dyn FnMut(ShardIndex, Message), part: &mut dyn FnMut(Part)) {
        for release in self.releases {
            release();
        }
        for (shard, message) in self.sends {
            send(shard, message);
        }
        self.parts.into_iter().for_each(part);
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

    /// What its blocks take on disk, at most.
    pub(crate) fn cost_bytes(&self) -> usize {
        self.blocks.iter().map(LaneBlock::cost_bytes).sum()
    }
}

/// Why there will be no more room: what does not fit is refused instead of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoMoreRoom {
    /// Until somebody makes some.
    Full,
    /// The engine has ended.
    Stopping,
    /// Nothing is written any more.
    Poisoned,
}

impl NoMoreRoom {
    /// What whoever is refused is told.
    pub(crate) const fn rejection(self) -> Rejection {
        match self {
            Self::Full => Rejection::DiskFull { retry_after_ms: FULL_RETRY_AFTER_MS },
            Self::Stopping => Rejection::Stopping,
            Self::Poisoned => Rejection::Poisoned,
        }
    }
}

/// What may be appended in a turn.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Room {
    /// Time since the machine started: what is paced goes by it, since it never stands still.
    pub(crate) steady_ms: i64,
    /// Bytes of the log, blocks' heads included, whose place is assured.
    pub(crate) log_bytes: u64,
    /// Bytes of these that operations leave to ticks and control records.
    pub(crate) reserve_bytes: u64,
    /// There is as much as there ever will be: what does not fit now never will.
    pub(crate) is_widest: bool,
    /// Nobody need wait for more.
    pub(crate) no_more: Option<NoMoreRoom>,
    /// The same for commands, which need room in the logs of all shards.
    pub(crate) are_commands_refused: bool,
    /// Steps of namespaces wait, too: there is nowhere to write them down yet.
    pub(crate) are_steps_held: bool,
    /// So much waits to become readable that nothing more may fire.
    pub(crate) are_outputs_held: bool,
    /// So much waits to be stored that no more snapshots may be written.
    pub(crate) are_parts_held: bool,
}

impl Room {
    /// As much as one likes.
    pub(crate) const ENDLESS: Self = Self {
        log_bytes: u64::MAX,
        reserve_bytes: 0,
        is_widest: true,
        steady_ms: 0,
        no_more: None,
        are_commands_refused: false,
        are_steps_held: false,
        are_outputs_held: false,
        are_parts_held: false,
    };
}

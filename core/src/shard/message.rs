//! What is said to a shard.

use crate::error::Rejection;
use crate::key_group::{KeyGroup, LaneIndex};
use crate::log::Operations;
use crate::namespace::{
    Asked, Change, CommandReply, NamespaceStatus, Step, StepDone, Stop, StopReport,
};
use crate::op::{Outcome, TimerView};
use crate::output::NamespaceId;
use crate::query::{Forecast, ForecastQuery, ListPage, ListQuery};
use crate::time::Domain;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Called once with the answer, on the thread that has it. It must not block.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// When an operation is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Ack {
    /// Once it is applied in memory: it may be lost in a crash.
    Accepted,
    /// Once it is in the log's file: it may be lost if the machine goes down.
    Written,
    /// Once it is durable.
    #[default]
    Synced,
}

/// What is said to a shard.
pub(crate) enum Message {
    /// Operations on keys.
    Ops(OpsPart),
    /// A question.
    Read(Read),
    /// A command to a namespace that is at home here.
    Command(CommandRequest),
    /// A control record for all lanes.
    Step(Step),
    /// A lane of another shard says how far it is with a step of a namespace at home in this lane.
    StepDone(LaneIndex, StepDone),
    /// A lane of another shard says that a namespace at home in this lane has stopped there.
    Stopped(LaneIndex, StopReport),
    /// Begin a round of snapshots.
    Checkpoint(CheckpointRequest),
    /// Go on with a savepoint.
    Savepoint(SavepointRequest),
    /// Say when everything that is due by now has fired and can be read.
    Fired(Reply<()>),
    /// Look up: something outside of the queue has changed.
    Nudge,
}

impl Message {
    /// What is written down of it in the log of a shard of so many lanes, more or less; `None`: next
    /// to nothing, for which there is a reserve.
    pub(super) fn log_bytes(&self, lanes: usize) -> Option<usize> {
        match self {
            Self::Ops(part) => Some(part.ops.len_bytes()),
            Self::Step(Step { change: Change::Broadcast(it), .. }) => Some(it.value.len() * lanes),
            _ => None,
        }
    }

    /// How many operations it has.
    pub(super) fn ops(&self) -> u32 {
        if let Self::Ops(part) = self { part.ops.len() as u32 } else { 0 }
    }
}

/// Which snapshots a round is made of.
#[derive(Debug, Clone)]
pub(crate) struct CheckpointRequest {
    pub(crate) round: u64,
    /// Partitions that are written although nothing happened to them.
    pub(crate) rewrite: Arc<BTreeSet<(NamespaceId, KeyGroup)>>,
    /// How long the round should take, in milliseconds; 0: as fast as it can.
    pub(crate) over_ms: i64,
}

/// A step of the savepoint of this number.
#[derive(Debug, Clone)]
pub(crate) struct SavepointRequest {
    pub(crate) number: u64,
    pub(crate) step: SavepointStep,
}

/// What a shard is to do for a savepoint, in this order.
#[derive(Debug, Clone)]
pub(crate) enum SavepointStep {
    /// Let no time pass and take no commands; say when nothing is under way any more.
    Hold,
    /// Make the cut through these namespaces, and take nothing in until told to go on.
    Mark(Arc<BTreeSet<NamespaceId>>),
    /// The cut is made everywhere: go on, and write what was as of it.
    Resume,
    /// There will be no savepoint: go on as if nothing had been asked.
    Cancel,
}

/// The operations of a request that go to one shard.
pub(crate) struct OpsPart {
    /// The namespace that all of them are for.
    pub(crate) namespace: NamespaceId,
    /// What they are.
    pub(crate) ops: Operations,
    /// When they are answered.
    pub(crate) ack: Ack,
    /// How many timers the namespace may hold, if that is limited.
    pub(crate) limit: Option<u64>,
    /// Gets one outcome for each, in order.
    pub(crate) reply: Reply<Vec<Outcome>>,
}

impl OpsPart {
    /// Refuses all of it. Nothing of it was applied.
    pub(crate) fn refuse(self, rejection: &Rejection) {
        (self.reply)(vec![Err(rejection.clone()); self.ops.len()]);
    }
}

/// A command with whom to answer.
pub(crate) struct CommandRequest {
    pub(crate) asked: Box<Asked>,
    pub(crate) reply: Reply<Result<CommandReply, Rejection>>,
}

/// A question. Answered once what it saw is durable.
pub(crate) enum Read {
    /// The timers of a key.
    Key { namespace: NamespaceId, key: Vec<u8>, reply: Reply<Result<Vec<TimerView>, Rejection>> },
    /// The state of a key.
    State { namespace: NamespaceId, key: Vec<u8>, reply: Reply<Result<Option<Vec<u8>>, Rejection>> },
    /// The broadcast state of a namespace.
    Broadcast { namespace: NamespaceId, reply: Reply<Result<Option<Arc<[u8]>>, Rejection>> },
    /// One named timer.
    Timer {
        namespace: NamespaceId,
        key: Vec<u8>,
        domain: Domain,
        name: String,
        reply: Reply<Result<Option<TimerView>, Rejection>>,
    },
    /// This shard's part of a page.
    List { namespace: NamespaceId, query: ListQuery, reply: Reply<Result<ListPage, Rejection>> },
    /// This shard's part of a forecast.
    Forecast {
        namespace: NamespaceId,
        query: ForecastQuery,
        reply: Reply<Result<Forecast, Rejection>>,
    },
    /// Where the function of a namespace has failed for good, on each lane of this shard.
    Stops { namespace: NamespaceId, reply: Reply<Result<Vec<Arc<Stop>>, Rejection>> },
    /// The control state of a namespace at home here.
    Describe { name: String, reply: Reply<Result<NamespaceStatus, Rejection>> },
}

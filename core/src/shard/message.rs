//! What is said to a shard.

use crate::error::Rejection;
use crate::key_group::LaneIndex;
use crate::namespace::{Command, CommandReply, NamespaceStatus, Step, StepDone};
use crate::op::{Outcome, TimerView};
use crate::output::NamespaceId;
use crate::ports::NamespaceGauge;
use crate::query::{Forecast, ForecastQuery, ListPage, ListQuery};
use crate::time::Domain;
use std::sync::Arc;

/// Called once with the answer, on the thread that has it. It must not block.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

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
    /// Look up: something outside of the queue has changed.
    Nudge,
}

/// The operations of a request that go to one shard.
pub(crate) struct OpsPart {
    /// The namespace that all of them are for.
    pub(crate) namespace: NamespaceId,
    /// Their records, one behind the other.
    pub(crate) bytes: Vec<u8>,
    /// How many they are.
    pub(crate) count: u32,
    /// Room in the namespace that was set aside for them.
    pub(crate) reserved: Option<(Arc<NamespaceGauge>, i64)>,
    /// Gets one outcome for each, in order.
    pub(crate) reply: Reply<Vec<Outcome>>,
}

/// A command with whom to answer.
pub(crate) struct CommandRequest {
    pub(crate) name: String,
    pub(crate) command: Command,
    pub(crate) settle: bool,
    /// Timers that the namespace holds, as far as was known when it was asked.
    pub(crate) pending: u64,
    pub(crate) reply: Reply<Result<CommandReply, Rejection>>,
}

/// A question. Answered once what it saw is durable.
pub(crate) enum Read {
    /// The timers of a key.
    Key { namespace: NamespaceId, key: Vec<u8>, reply: Reply<Result<Vec<TimerView>, Rejection>> },
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
    /// The control state of a namespace at home here.
    Describe { name: String, reply: Reply<Result<NamespaceStatus, Rejection>> },
}

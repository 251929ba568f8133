//! Where partitions stand: what the lanes of a shard share, and what a namespace has on a lane beside
//! its keys.

use super::{KeyVisit, Trials};
use crate::due_counts::SecondCounts;
use crate::error::Rejection;
use crate::function::{Instance, Operators, Scratch};
use crate::keyed::Pools;
use crate::namespace::{ClockKind, NamespaceConfig, Stop};
use crate::output::OutputWriter;
use crate::stats::Stats;
use crate::time::Timestamp;
use crate::timeline::Timeline;
use crate::wheel::EntryPool;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What all lanes of a shard draw from.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) pools: Pools,
    pub(crate) entries: EntryPool,
    pub(crate) stats: Stats,
    /// Processing timers on the system clock, by second.
    pub(crate) near: SecondCounts,
    /// The functions that namespaces can run.
    pub(crate) operators: Operators,
    /// How often a function has panicked when it was closed.
    pub(crate) close_panics: Arc<AtomicU64>,
    /// What the callback at hand asks for.
    pub(crate) scratch: Scratch,
    /// How what is applied has come here.
    pub(crate) course: Course,
}

/// How what is applied has come to a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Course {
    /// For the first time.
    #[default]
    New,
    /// It was here before, and had to wait.
    Again,
    /// It stands in the log that is followed: nothing waits.
    Followed,
}

/// A namespace on one lane, but for its keys.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) config: Arc<NamespaceConfig>,
    pub(crate) function: Function,
    pub(crate) timeline: Timeline,
    pub(crate) outputs: OutputWriter,
    /// What the manual clock reads, if there is one and it was set.
    pub(crate) manual_now: Option<Timestamp>,
    /// Time stands still until it is resumed.
    pub(crate) is_paused: bool,
    /// Why it takes nothing in and lets no time pass: its function has failed for good.
    pub(crate) stopped: Option<Arc<Stop>>,
    /// Partitions for whose operations the function is called again later.
    pub(crate) trials: Trials,
    /// How often the function has failed at the operation at hand.
    pub(crate) tries: u32,
    /// The visit of all keys that is under way.
    pub(crate) visit: Option<Box<KeyVisit>>,
}

impl Surroundings {
    /// Those of a namespace in which nothing has happened yet.
    pub(crate) fn new(
        config: Arc<NamespaceConfig>,
        function: Function,
        timeline: Timeline,
    ) -> Self {
        Self {
            config,
            function,
            timeline,
            outputs: OutputWriter::default(),
            manual_now: None,
            is_paused: false,
            stopped: None,
            trials: Trials::default(),
            tries: 0,
            visit: None,
        }
    }

    /// What the namespace's clock reads; `None`: it is a manual one that was never set.
    #[inline]
    pub(crate) fn now(&self, intake: Timestamp) -> Option<Timestamp> {
        match self.config.clock {
            ClockKind::System => Some(intake),
            ClockKind::Manual => self.manual_now,
        }
    }
}

/// The function that a namespace runs, an instance for each lane; `None`: it runs none.
pub(crate) struct Function(pub(crate) Option<Instance>);

impl Function {
    /// An instance of what the namespace is configured to run; refused if none can be made.
    pub(crate) fn make(shared: &Shared, config: &NamespaceConfig) -> Result<Self, Rejection> {
        let operator = shared.operators.make(config)?;
        Ok(Self(operator.map(|it| Instance::new(it, Arc::clone(&shared.close_panics)))))
    }

    /// Its lane lets go of it.
    pub(crate) fn close(&mut self) {
        if let Some(instance) = &mut self.0 {
            instance.close();
        }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Function" } else { "None" })
    }
}

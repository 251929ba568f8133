//! Functions: what a namespace runs instead of turning its timers into fires.
//!
//! Users write a [`KeyedProcessFunction`], one of two inputs ([`KeyedCoProcessFunction`]) or one with
//! broadcasts ([`KeyedBroadcastProcessFunction`]), over types of their own; with the feature `arrow` also a
//! `KeyedBatchFunction`, over columns. What a partition calls is an
//! [`Operator`], over bytes; typed functions are made into one, and the built-in operators are
//! written against it. A [`Call`] is one callback: what it sees, and what it asks for. Nothing of
//! that takes place before the callback has returned, and nothing at all if it fails: so a failing
//! callback leaves no half-done work behind, and timers that it registers never fire inside of it.
//!
//! This module knows nothing of partitions, lanes and logs.

#[cfg(feature = "arrow")]
mod batch;
mod broadcast;
mod broadcast_process;
#[cfg(test)]
pub(crate) mod busy;
mod call;
mod co_process;
mod context;
mod error;
mod guard;
#[cfg(test)]
pub(crate) mod host;
mod life;
mod process;
mod registry;
mod scratch;
mod state;
#[cfg(test)]
mod tests;
mod timer;

#[cfg(feature = "arrow")]
pub(crate) use batch::decode_batch_state;
#[cfg(feature = "arrow")]
pub use batch::{KeyedBatchFunction, arrow_array, arrow_schema, batch_operator, encode_batch};
pub use broadcast::{BroadcastCall, BroadcastSide, Visit};
pub(crate) use broadcast::{process_broadcast, visit_key};
pub use broadcast_process::{BroadcastContext, KeyedBroadcastProcessFunction, VisitContext};
pub(crate) use broadcast_process::{decode_broadcast_process_state, decode_broadcast_state};
pub(crate) use call::CallAt;
pub use call::{Call, NamedTimer, NamespaceTimers, Timers};
pub use co_process::KeyedCoProcessFunction;
pub(crate) use co_process::decode_co_state;
pub use context::{CallContext, Context, OnElement, OnTimer, OnTimerContext, OutputTag};
pub use error::{FunctionError, Result};
pub use guard::caught_panic;
use guard::guarded;
pub(crate) use guard::set_tried;
pub(crate) use life::Instance;
pub use process::KeyedProcessFunction;
pub(crate) use process::decode_state;
pub use registry::{Operators, broadcast_operator, co_operator, operator};
pub(crate) use scratch::{EmittedValue, NewState, Scratch, TimerChange};
pub use state::state_version;
pub use timer::{FunctionTimer, TimerId};
pub(crate) use timer::{StoredId, StoredTimers};

pub use crate::op::Element;

use crate::time::{Domain, Timestamp};

/// A keyed function over bytes: what a partition runs.
///
/// Whatever it does must follow from what the call shows, since it is repeated after a crash.
pub trait Operator: Send {
    /// Called before the first callback of an instance, as a part of it: if it fails, that callback has
    /// failed, and the next one calls it again.
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    /// Called once for each instance when its lane lets go of it, whether it was opened or not; not if
    /// the process just ends. Nothing is called behind it.
    fn close(&mut self) {}

    /// An element of a key has come.
    fn process_element(&mut self, call: &mut Call<'_>, element: Element<'_>) -> Result<()>;

    /// A timer of a key fires. It is gone already: registering it again lets it fire again.
    fn on_timer(&mut self, call: &mut Call<'_>, timer: TimerFired<'_>) -> Result<()>;

    /// Whether it decides itself which elements are late ([`Call::refuse_late`]); else those at or
    /// below the watermark, less the namespace's lateness, never reach it.
    fn judges_lateness(&self) -> bool {
        false
    }

    /// Whether timers that follow the clock take away what it keeps for a key. A namespace may not drop
    /// those then.
    fn needs_clock_timers(&self) -> bool {
        false
    }

    /// Whether what it keeps, and its timers, follow from its options: then they cannot change while its
    /// namespace holds keys.
    fn keeps_options(&self) -> bool {
        false
    }

    /// How many inputs it has, which elements tell apart by [`Element::input`].
    fn inputs(&self) -> u8 {
        1
    }

    /// Its side that takes broadcasts; `None`: it takes none.
    fn broadcast_side(&mut self) -> Option<&mut dyn BroadcastSide> {
        None
    }
}

/// A timer that fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerFired<'a> {
    /// The clock that it followed.
    pub domain: Domain,
    /// When it was due.
    pub time: Timestamp,
    /// What else makes it itself.
    pub id: TimerId<'a>,
}

/// Lets an instance process an element. If that fails, nothing is left of what it asked for.
pub(crate) fn process_element(
    instance: &mut Instance,
    at: CallAt<'_>,
    timers: &dyn StoredTimers,
    scratch: &mut Scratch,
    element: Element<'_>,
) -> Result<()> {
    run(at, timers, scratch, |call| instance.opened()?.process_element(call, element))
}

/// Lets an instance see a timer fire. If that fails, nothing is left of what it asked for.
pub(crate) fn on_timer(
    instance: &mut Instance,
    at: CallAt<'_>,
    timers: &dyn StoredTimers,
    scratch: &mut Scratch,
    timer: TimerFired<'_>,
) -> Result<()> {
    run(at, timers, scratch, |call| instance.opened()?.on_timer(call, timer))
}

fn run(
    at: CallAt<'_>,
    timers: &dyn StoredTimers,
    scratch: &mut Scratch,
    work: impl FnOnce(&mut Call<'_>) -> Result<()>,
) -> Result<()> {
    scratch.clear();
    let outcome = guarded(|| work(&mut Call::new(at, timers, scratch)));
    let outcome = outcome.and_then(|()| scratch.take_failure());
    if outcome.is_err() {
        scratch.clear();
    }
    outcome
}

//! Broadcasts, over bytes: elements for all keys, and the state that they leave.
//!
//! Each lane of a namespace has the whole of the broadcast state, and comes to the same one: what
//! processes a broadcast sees that state and the element, and no key. What it wants done to keys it
//! hands over as a [`Visit`], which takes place behind it, key by key.

use super::call::{Call, CallAt};
use super::error::{FunctionError, Result};
use super::scratch::Scratch;
use super::timer::{StoredId, StoredTimers};
use super::{Element, Instance, run};
use crate::limits::BROADCAST_STATE_BYTES_MAX;
use crate::op::Payload;
use crate::time::{Domain, Timestamp};

/// The side of an [`super::Operator`] that takes broadcasts.
pub trait BroadcastSide {
    /// The broadcast state is this from now on, as it was written down; `None`: there is none. Said
    /// when there is one to begin with, and after each broadcast that has changed it.
    fn load(&mut self, state: Option<&[u8]>);

    /// An element for all keys has come. What it leaves of the state must follow from the state and
    /// the element alone: all lanes have to come to the same.
    fn process_broadcast(
        &mut self,
        call: &mut BroadcastCall<'_>,
        element: Element<'_>,
    ) -> Result<()>;
}

/// What is done to each key that has a state, behind a broadcast. One key knows nothing of another,
/// so it is all one in which order they are visited.
pub trait Visit: Send {
    /// Sees a key: it may change its state and emit values, but not touch its timers.
    fn visit(&self, call: &mut Call<'_>) -> Result<()>;
}

/// The callback of a broadcast: what it sees, and what it may ask for. What it asks for takes place
/// once it has returned; if it fails, nothing of it does.
pub struct BroadcastCall<'a> {
    /// Of no key: its state is the broadcast one.
    call: Call<'a>,
    visits: &'a mut Vec<Box<dyn Visit>>,
}

impl BroadcastCall<'_> {
    /// The same, for a shorter while.
    pub(super) fn reborrow(&mut self) -> BroadcastCall<'_> {
        BroadcastCall { call: self.call.reborrow(), visits: self.visits }
    }

    /// The element's timestamp.
    pub fn timestamp(&self) -> Timestamp {
        self.call.timestamp()
    }

    /// The watermark; `None`: none yet.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.call.watermark()
    }

    /// What the namespace's clock read when the broadcast came in: the same in all lanes. `None`: a
    /// manual clock that was never set.
    pub fn processing_time(&self) -> Option<Timestamp> {
        self.call.processing_time()
    }

    /// The broadcast state, as this callback would leave it by now; `None`: there is none.
    pub fn state(&self) -> Option<&[u8]> {
        self.call.state()
    }

    /// Replaces the broadcast state.
    pub fn set_state(&mut self, state: &[u8]) {
        let (actual, limit) = (state.len(), BROADCAST_STATE_BYTES_MAX);
        if actual > limit {
            let message = format!("the broadcast state has {actual} bytes, allowed are {limit}");
            self.call.fail(FunctionError::new(message));
            return;
        }
        self.call.set_state(state);
    }

    /// Takes the broadcast state away.
    pub fn clear_state(&mut self) {
        self.call.clear_state();
    }

    /// Lets all keys that have a state be visited, once the callback has returned.
    pub fn visit_keys(&mut self, visit: Box<dyn Visit>) {
        self.visits.push(visit);
    }

    /// Emits a value to the main output, or to the side output of this tag: once for the namespace,
    /// and of no key.
    pub fn emit(&mut self, tag: Option<&str>, value: Payload<'_>) {
        self.call.emit(tag, value);
    }

    /// Emits the JSON text that `write` appends.
    pub fn emit_json(
        &mut self,
        tag: Option<&str>,
        timestamp: Option<Timestamp>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) {
        self.call.emit_json(tag, timestamp, write);
    }

    /// The callback has failed, whatever it returns.
    pub fn fail(&mut self, failure: FunctionError) {
        self.call.fail(failure);
    }
}

/// Where no key is, or its timers are nobody's business.
struct NoTimers;

impl StoredTimers for NoTimers {
    fn find(&self, _: Domain, _: StoredId<'_>) -> Option<Timestamp> {
        None
    }

    fn for_each(&self, _: Domain, _: &mut dyn FnMut(Timestamp, Option<&str>)) {}

    fn count(&self) -> usize {
        0
    }
}

/// Lets an instance process a broadcast; what it wants done to keys is put into `visits`. If it
/// fails, nothing is left of what it asked for.
pub(crate) fn process_broadcast(
    instance: &mut Instance,
    at: CallAt<'_>,
    scratch: &mut Scratch,
    visits: &mut Vec<Box<dyn Visit>>,
    element: Element<'_>,
) -> Result<()> {
    visits.clear();
    let outcome = run(at, &NoTimers, scratch, |call| {
        let Some(side) = instance.opened()?.broadcast_side() else {
            return Err(FunctionError::new("the operator takes no broadcasts"));
        };
        side.process_broadcast(&mut BroadcastCall { call: call.reborrow(), visits }, element)
    });
    let outcome = outcome.and_then(|()| leave_timers(scratch));
    if outcome.is_err() {
        visits.clear();
    }
    outcome
}

/// Visits a key. If that fails, nothing is left of what it asked for.
pub(crate) fn visit_key(visit: &dyn Visit, at: CallAt<'_>, scratch: &mut Scratch) -> Result<()> {
    run(at, &NoTimers, scratch, |call| visit.visit(call))?;
    leave_timers(scratch)
}

fn leave_timers(scratch: &mut Scratch) -> Result<()> {
    if scratch.changes_count() == 0 {
        return Ok(());
    }
    scratch.clear();
    Err(FunctionError::new("a broadcast cannot touch timers"))
}

//! Many operations on timers, handed over together.

use super::core::Core;
use super::{Answer, Error};
use crate::op::{Action, Only, Op, Outcome, Payload, Register, Target, When};
use crate::runtime::Batch;
use crate::time::{Domain, Timestamp};
use std::sync::Arc;

/// Operations that are carried out in their order, and waited for once.
///
/// Each call checks what it is given, and takes it in or says what is wrong with it; what was refused
/// takes no place. Nothing happens before [`TimerBatch::commit`] or [`TimerBatch::submit`].
#[must_use = "nothing happens before it is committed"]
pub struct TimerBatch {
    core: Arc<Core>,
    batch: Batch,
}

impl TimerBatch {
    pub(super) fn new(core: &Arc<Core>) -> Result<Self, Error> {
        Ok(Self { batch: core.batch()?, core: Arc::clone(core) })
    }

    /// As [`super::TimerService::schedule`].
    pub fn schedule(
        &mut self,
        key: impl AsRef<[u8]>,
        when: impl Into<When>,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        self.register(key.as_ref(), None, when.into(), payload.as_ref())
    }

    /// As [`super::TimerService::schedule_named`].
    pub fn schedule_named(
        &mut self,
        key: impl AsRef<[u8]>,
        name: &str,
        when: impl Into<When>,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        self.register(key.as_ref(), Some(name), when.into(), payload.as_ref())
    }

    fn register(
        &mut self,
        key: &[u8],
        name: Option<&str>,
        when: When,
        payload: &[u8],
    ) -> Result<(), Error> {
        let register = Register {
            domain: Domain::Processing,
            name,
            when,
            payload: (!payload.is_empty()).then_some(Payload::Binary(payload)),
            resolution_ms: None,
            spread_ms: None,
            only: Only::Always,
        };
        self.push(key, Action::Register(register))
    }

    /// As [`super::TimerService::cancel`].
    pub fn cancel(&mut self, key: impl AsRef<[u8]>, fire_at: Timestamp) -> Result<(), Error> {
        let target = Target::FireAt(fire_at);
        self.push(key.as_ref(), Action::Delete { domain: Domain::Processing, target })
    }

    /// As [`super::TimerService::cancel_named`].
    pub fn cancel_named(&mut self, key: impl AsRef<[u8]>, name: &str) -> Result<(), Error> {
        let target = Target::Name(name);
        self.push(key.as_ref(), Action::Delete { domain: Domain::Processing, target })
    }

    /// As [`super::TimerService::cancel_all`].
    pub fn cancel_all(&mut self, key: impl AsRef<[u8]>) -> Result<(), Error> {
        self.push(key.as_ref(), Action::DeleteAll)
    }

    fn push(&mut self, key: &[u8], action: Action<'_>) -> Result<(), Error> {
        Ok(self.batch.push(&Op { key, action })?)
    }

    /// How many operations it holds.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Carries them out; one outcome for each, in order. With files behind the service all of them
    /// are durable when this returns.
    pub fn commit(self) -> Result<Vec<Outcome>, Error> {
        self.submit().wait()
    }

    /// The same, without waiting: to be awaited, or waited for later.
    pub fn submit(self) -> Answer<Vec<Outcome>> {
        self.core.submit(self.batch)
    }
}

impl std::fmt::Debug for TimerBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TimerBatch").field("len", &self.len()).finish_non_exhaustive()
    }
}

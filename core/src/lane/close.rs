//! The end of a namespace's input in a lane: no more operations, and then the end of the clock.
//!
//! The step that closes it is settled once no timer is left, whatever lets the last one go. From then
//! on nothing can come: operations are refused, and callbacks have nothing to run on.

use super::{HomeIndex, Lane};
use crate::error::Rejection;
use crate::namespace::StepDone;
use crate::output::NamespaceId;
use crate::time::{Domain, Timestamp};
use crate::timeline::{Drain, Ending};
use std::sync::atomic::Ordering;

/// How the end of a namespace stands that takes no more operations.
#[derive(Debug, Default)]
pub(crate) struct Closed {
    /// The control record that is settled once no timer is left.
    awaits_end: Option<u64>,
    /// Timers that went when its clock came to its end.
    ended: u64,
}

impl Closed {
    /// So many timers went when its clock came to its end.
    pub(super) fn note_ended(&mut self, timers: u64) {
        self.ended = timers;
    }

    /// What is to be said of a namespace once no timer is left, if somebody waits for it.
    pub(super) fn take_done(&mut self, namespace: NamespaceId) -> Option<StepDone> {
        let number = self.awaits_end.take()?;
        Some(StepDone::settled(namespace, number, self.ended))
    }
}

impl Lane {
    /// Where a namespace stands, if it is here and takes operations.
    #[inline]
    pub(crate) fn find_open(&self, namespace: NamespaceId) -> Option<HomeIndex> {
        self.find(namespace).filter(|home| self.home(*home).closed.is_none())
    }

    /// Why it takes none.
    pub(crate) fn refusal(&self, namespace: NamespaceId) -> Rejection {
        let is_closed = self.find(namespace).is_some();
        if is_closed { Rejection::NamespaceClosed } else { Rejection::NamespaceUnknown }
    }

    /// A namespace takes no more operations. Nothing of it is draining.
    pub(super) fn close(&mut self, home: HomeIndex, number: u64) {
        self.home_mut(home).publish_closed();
        self.await_end(home, number);
    }

    /// Says that the step was applied which closes a namespace, and that it is settled once no timer
    /// is left.
    pub(super) fn await_end(&mut self, home: HomeIndex, number: u64) {
        let it = self.home_mut(home);
        it.closed = Some(Closed { awaits_end: Some(number), ended: 0 });
        let namespace = it.id;
        self.done.push(StepDone::applied(namespace, number));
        self.tell_end(home);
    }

    /// If no timer is left of a namespace that is closed: says so, if somebody waits for it, and lets go of
    /// its function.
    pub(super) fn tell_end(&mut self, home: HomeIndex) {
        let it = self.home_mut(home);
        if it.around.timeline.pending() == 0 && !it.around.timeline.is_draining() {
            let namespace = it.id;
            let Some(closed) = &mut it.closed else { return };
            let done = closed.take_done(namespace);
            it.around.function.close();
            self.done.extend(done);
        }
    }

    /// The lane is let go of in good order: nothing is called any more.
    pub(crate) fn close_functions(&mut self) {
        let removed = self.removing.iter_mut().map(|removal| &mut removal.it);
        for it in self.homes.iter_mut().flatten().chain(removed) {
            it.around.function.close();
        }
    }

    /// The clock of a namespace has come to its end by the step at `position`; `intake` is that of the
    /// block.
    pub(super) fn end_clock(
        &mut self,
        home: HomeIndex,
        number: u64,
        is_discarding: bool,
        position: u64,
        intake: Timestamp,
    ) {
        let namespace = self.home(home).id;
        self.done.push(StepDone::applied(namespace, number));
        let it = self.home_mut(home);
        it.settling = Some(number);
        it.is_restarted = false;
        let reached = it.around.timeline.of(Domain::Processing).reached;
        let ending = if is_discarding {
            Ending::Discard
        } else {
            Ending::Fire { now: it.around.now(intake).max(reached) }
        };
        let mut drain = Drain::new(Timestamp::MAX, position);
        drain.ending = Some(ending);
        self.begin_drain(home, Domain::Processing, drain);
    }
}

impl super::LaneNamespace {
    /// Lets everybody know that it takes no more operations.
    pub(super) fn publish_closed(&self) {
        // Release: whoever sees it finds the lane closed that said so.
        self.gauge().is_closed.store(true, Ordering::Release);
    }
}

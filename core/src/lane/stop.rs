//! Where functions fail: what waits for them to be called again, and what is refused because they have
//! failed for good.
//!
//! Neither leaves a record: what is refused or waits has no position. An operation is applied at a
//! position that is given back if it comes to nothing; a timer of an advance that has failed for good is
//! left where it was, and what may stand behind that in the log does not touch it.

use super::{HomeIndex, Lane, LaneNamespace};
use crate::error::Rejection;
use crate::key_group::KeyGroup;
use crate::namespace::{Stop, StopReport};
use crate::output::NamespaceId;
use crate::partition::{Course, Shared};
use crate::time::{Domain, Timestamp};
use std::sync::Arc;

impl LaneNamespace {
    /// Whether operations may be refused before they get a position.
    #[inline]
    pub(super) fn may_refuse(&self) -> bool {
        self.around.stopped.is_some() || !self.around.trials.is_empty()
    }

    /// Refuses an operation before it gets a position, if that is to be. What waits of a
    /// partition goes before what comes new.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        course: Course,
        group: KeyGroup,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        if let Some(stop) = &self.around.stopped {
            return Err(Rejection::NamespaceStopped { detail: stop.to_string() });
        }
        let Some(at) = self.around.trials.due(group) else { return Ok(()) };
        if course == Course::Again && at <= now {
            self.around.tries = self.around.trials.take(group);
            return Ok(());
        }
        let retry_after_ms = at.saturating_since(now).max(1) as u64;
        Err(Rejection::FunctionRetries { retry_after_ms })
    }
}

impl Lane {
    /// What an advance has left of a domain is looked at by the one that begins.
    pub(super) fn unpark(&mut self, shared: &mut Shared, home: HomeIndex, domain: Domain) {
        self.home_mut(home).around.timeline.unpark(&mut shared.entries, domain);
    }

    /// The namespace has stopped, on this lane or on another one. Nothing of it is draining.
    pub(super) fn stop(&mut self, home: HomeIndex, stop: Arc<Stop>) {
        let it = self.home_mut(home);
        it.around.stopped.get_or_insert(stop);
        it.is_stop_told = true;
        it.around.trials.clear();
        self.pause(home);
    }

    /// Where the function of a namespace has failed here that has stopped; what it has heard of another
    /// lane, if it has failed there alone.
    pub(crate) fn stop_of(&self, namespace: NamespaceId) -> Option<Arc<Stop>> {
        self.home(self.find(namespace)?).around.stopped.clone()
    }

    /// Namespaces whose advances have waited until now for callbacks to be called again go on.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        while let Some((_, home)) = self.aside.first().filter(|(at, _)| *at <= now).copied() {
            self.aside.pop_first();
            self.draining.push_back(home);
        }
    }

    /// Namespaces that have stopped here since the last call, before these are handed over.
    pub(crate) fn take_stops(&mut self) -> Vec<StopReport> {
        let mut reports = Vec::new();
        for place in 0..self.changed.len() {
            let home = self.changed[place];
            let it = self.home_mut(home);
            if let Some(stop) = it.around.stopped.clone().filter(|_| !it.is_stop_told) {
                it.is_stop_told = true;
                it.around.trials.clear();
                let (namespace, applied_number) = (it.id, it.applied_number);
                reports.push(StopReport { namespace, applied_number, stop });
            }
        }
        reports
    }

    /// After a start: what has stopped here is told again, since nobody knows whether it was.
    pub(crate) fn tell_stops_again(&mut self) {
        let stopped = |(index, it): (usize, &Option<Box<LaneNamespace>>)| {
            it.as_ref().filter(|it| it.around.stopped.is_some()).map(|_| HomeIndex(index as u32))
        };
        let stopped: Vec<HomeIndex> = self.homes.iter().enumerate().filter_map(stopped).collect();
        for home in stopped {
            self.home_mut(home).is_stop_told = false;
            self.mark_changed(home);
        }
    }
}

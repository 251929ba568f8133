//! What was due while the service was down: decided once for each namespace, as a record of its own,
//! before its time passes again. What was due while one namespace was paused is decided in the same
//! way, by the step that resumes it.
//!
//! The record is an advance of time like a tick. What the policy holds back is noted for the whole
//! namespace ([`Held`]) before anything is fired; the wheel's entries, which stand too early then,
//! are put back where they belong as the advance comes across them.

use super::{HomeIndex, Lane, Shared};
use crate::held::Held;
use crate::key_group::Layout;
use crate::log::{Overdue, encode_overdue};
use crate::namespace::{ClockKind, StepDone};
use crate::time::{Domain, Timestamp};
use crate::timeline::Drain;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The time before a start.
#[derive(Debug, Clone)]
pub(super) struct Downtime {
    /// The runs that left something durable, the oldest first: the first and the last clock of each.
    ups: Arc<[RangeInclusive<Timestamp>]>,
    to: Timestamp,
}

impl Lane {
    /// Everything was followed, and nothing could fire between the last of these runs and `to`: from now
    /// on, what was due at `to` follows the policy of its namespace.
    pub(crate) fn restarted(&mut self, ups: &Arc<[RangeInclusive<Timestamp>]>, to: Timestamp) {
        if ups.is_empty() {
            return;
        }
        self.downtime = Some(Downtime { ups: Arc::clone(ups), to });
        let due: Vec<HomeIndex> =
            self.agenda.iter().take_while(|(at, _)| *at <= to).map(|(_, home)| *home).collect();
        for home in due {
            self.home_mut(home).is_restarted = true;
        }
    }

    /// When the service came back, if it had been down.
    pub(crate) fn restarted_at(&self) -> Option<Timestamp> {
        self.downtime.as_ref().map(|it| it.to)
    }

    /// Whether something may have been due at the restart of which it is not decided what becomes of it.
    pub(crate) fn is_undecided(&self) -> bool {
        let Some(Downtime { to, .. }) = &self.downtime else {
            return false;
        };
        let mut due = self.agenda.iter().take_while(|(at, _)| at <= to);
        due.any(|(_, home)| self.home(*home).is_restarted)
    }

    /// Decides what becomes of the timers of a namespace that were due at the restart, if there are
    /// some, and begins to do it.
    ///
    /// A run that ended before it had decided leaves due what was due when it began. Nothing could fire
    /// in it either, so for these the downtime begins with the end of the run before.
    pub(super) fn decide_overdue(
        &mut self,
        shared: &mut Shared,
        layout: Layout,
        home: HomeIndex,
        budget: &mut u32,
    ) {
        let Some(Downtime { ups, to }) = self.downtime.clone() else {
            return;
        };
        let (mut from, mut batch) = (None, None);
        for up in ups.iter().take_while(|up| *up.start() < to) {
            batch = self.probe(shared, layout, home, *up.start(), None, budget);
            if batch.is_some() {
                from = from.or(Some(*up.start()));
                break;
            }
            if *budget == 0 {
                return;
            }
            from = Some(*up.end());
        }
        let Some(from) = from.filter(|from| *from < to) else {
            // The clock has stood still: no time was lost.
            self.home_mut(home).is_restarted = false;
            return;
        };
        let batch = batch.or_else(|| self.probe(shared, layout, home, to, None, budget));
        let it = self.home_mut(home);
        let Some(batch) = batch else {
            // Nothing is due, unless the budget ended the search.
            it.is_restarted = it.around.timeline.of(Domain::Processing).wake <= to;
            return;
        };
        it.is_restarted = false;
        self.unpark(shared, home, Domain::Processing);
        let it = self.home(home);
        let it = Overdue { namespace: it.id, from, to, policy: it.around.config.overdue };
        let mut record = Vec::new();
        encode_overdue(&mut record, &it);
        let position = self.take_position(&record);
        self.begin_overdue(home, &it, position, batch);
    }

    /// No time passes in a namespace any more. Nothing of it is draining.
    pub(super) fn pause(&mut self, home: HomeIndex) {
        let it = self.home_mut(home);
        it.around.is_paused = true;
        // What was due at a restart is decided with what falls due from now on.
        it.is_restarted = false;
        self.list_on_agenda(home);
    }

    /// Time passes again. Between the times `lost` nothing could fire: the step at `position` that
    /// says so decides what becomes of what was due.
    pub(super) fn resume(
        &mut self,
        home: HomeIndex,
        number: u64,
        lost: Option<(Timestamp, Timestamp)>,
        position: u64,
    ) {
        // A restart that found it paused has left the downtime to this; if it was resumed before the
        // downtime, and had not heard of that, it is decided about now as everywhere.
        let restarted_at = self.restarted_at();
        let it = self.home_mut(home);
        it.is_restarted =
            restarted_at.is_some_and(|restarted| lost.is_none_or(|(_, to)| to < restarted));
        it.around.is_paused = false;
        it.around.stopped = None;
        it.is_stop_told = false;
        let (id, policy) = (it.id, it.around.config.overdue);
        let Some((from, to)) = lost else {
            self.list_on_agenda(home);
            self.done.push(StepDone {
                namespace: id,
                number,
                is_settled: true,
                timers: 0,
                is_failed: false,
            });
            return;
        };
        it.settling = Some(number);
        if it.around.config.clock == ClockKind::Manual {
            it.around.manual_now = Some(to);
        }
        // Another lane's clock may have been ahead when this one heard of the pause.
        let to =
            it.around.timeline.of(Domain::Processing).reached.map_or(to, |reached| reached.max(to));
        let it = Overdue { namespace: id, from, to, policy };
        self.begin_overdue(home, &it, position, Vec::new());
    }

    /// Begins to do what was decided by the record at `position`; `batch` is what the wheel has given
    /// out already.
    pub(super) fn begin_overdue(
        &mut self,
        home: HomeIndex,
        it: &Overdue,
        position: u64,
        batch: Vec<(Timestamp, u32)>,
    ) {
        let time = self.home_mut(home).around.timeline.of_mut(Domain::Processing);
        time.held = Held::after(time.held.as_deref(), it.policy, it.from, it.to).map(Box::new);
        let mut drain = Drain::new(it.to, position);
        drain.overdue = Some(it.policy);
        drain.batch = batch;
        self.begin_drain(home, Domain::Processing, drain);
    }
}

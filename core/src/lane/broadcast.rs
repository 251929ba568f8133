//! Broadcasts in a lane: the step that brings one is processed at once; the keys that it wants
//! visited are visited slice by slice, and as after an advance of time the next record for the whole
//! lane of that namespace waits until the last of them has been.

use super::{HomeIndex, Lane, Shared};
use crate::key_group::KeyGroup;
use crate::namespace::{BroadcastStep, StepDone};
use crate::time::Timestamp;

impl Lane {
    /// Lets the function of a namespace process the broadcast of the step at `position`, and begins
    /// to visit the keys that it asks for.
    pub(super) fn broadcast(
        &mut self,
        shared: &mut Shared,
        home: HomeIndex,
        number: u64,
        step: &BroadcastStep,
        position: u64,
        now: Timestamp,
    ) {
        let lane = self.index;
        let it = self.home_mut(home);
        let namespace = it.id;
        let (is_failed, visits) = it.broadcast(shared, lane, step, position, now);
        let done = |is_settled| StepDone { namespace, number, is_settled, timers: 0, is_failed };
        if visits {
            it.settling = Some(number);
            self.done.push(done(false));
            self.list_on_agenda(home);
            self.draining.push_back(home);
        } else {
            self.done.extend([done(false), done(true)]);
        }
        self.mark_changed(home);
    }

    /// Visits the next keys of a namespace. Returns whether that was all.
    pub(super) fn visit_slice(
        &mut self,
        shared: &mut Shared,
        home: HomeIndex,
        now: Timestamp,
        budget: &mut u32,
    ) -> bool {
        let (lane, groups) = (self.index, self.groups());
        let it = self.home_mut(home);
        loop {
            let Some(visit) = &mut it.around.visit else { return true };
            let (group, position) = (visit.next_group.max(groups.start), visit.position);
            if group >= groups.end {
                return true;
            }
            visit.next_group = group;
            let group = KeyGroup(group);
            let is_done = it.partition(group).is_none()
                || it.with_partition(shared, lane, group, position, now, |partition, cx| {
                    partition.visit_slice(cx, budget)
                });
            if !is_done {
                return false;
            }
            if let Some(visit) = &mut it.around.visit {
                visit.next_group += 1;
            }
        }
    }
}

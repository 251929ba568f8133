//! How a lane lets due timers go: slice by slice, in the order of time.
//!
//! Entries come off the wheel in small batches, over as many buckets as it takes; the lines of
//! their slots, then those of the tables, are asked for together before any of them is used.

use super::{HomeIndex, Lane, Removal, Shared};
use crate::key_group::Layout;
use crate::keyed::SlotIndex;
use crate::namespace::StepDone;
use crate::ports::Gauges;
use crate::time::{Domain, Timestamp};
use crate::timeline::{Armed, Drain};

/// Entries that are taken off the wheel at a time.
const BATCH_ENTRIES: usize = 256;
/// Entries that are worked off before the budget is looked at again.
const AT_ONCE_ENTRIES: usize = 32;

impl Lane {
    /// Looks whether a namespace has something due at `now`: if so, returns entries with at least
    /// one that is. What is not due is put back where it belongs.
    pub(super) fn probe(
        &mut self,
        shared: &mut Shared,
        layout: Layout,
        home: HomeIndex,
        now: Timestamp,
        budget: &mut u32,
    ) -> Option<Vec<(Timestamp, u32)>> {
        let domain = Domain::Processing;
        let mut batch = Vec::new();
        loop {
            let it = self.home_mut(home).timeline.of_mut(domain);
            let owner = Armed { pools: &shared.pools, domain };
            let entries = &mut shared.entries;
            let done = it.wheel.gather(entries, &owner, now, &mut batch, BATCH_ENTRIES, budget);
            let it = self.home(home);
            it.prefetch(&shared.pools, layout, &batch);
            batch.retain(|(time, slot)| it.is_live(&shared.pools, layout, *time, *slot, domain));
            let due_by_now = |slot| {
                let release = it.timeline.release(&shared.pools, SlotIndex(slot), domain);
                release.is_some_and(|time| time <= now)
            };
            if batch.iter().any(|(_, slot)| due_by_now(*slot)) {
                return Some(batch);
            }
            let timeline = &mut self.home_mut(home).timeline;
            for (_, slot) in batch.drain(..) {
                let slot = SlotIndex(slot);
                let Some(release) = timeline.release(&shared.pools, slot, domain) else { continue };
                timeline.of_mut(domain).wheel.insert(&mut shared.entries, release, slot.0);
                shared.pools.set_armed(slot, domain, Some(release));
            }
            let it = timeline.of_mut(domain);
            if done {
                it.wake = it.wheel.next_time().unwrap_or(Timestamp::MAX);
                self.list_on_agenda(home);
                return None;
            }
            if *budget == 0 {
                return None;
            }
        }
    }

    pub(super) fn begin_drain(&mut self, home: HomeIndex, domain: Domain, drain: Drain) {
        let it = self.home_mut(home).timeline.of_mut(domain);
        it.reached = it.reached.max(Some(drain.until));
        it.drain = Some(Box::new(drain));
        self.list_on_agenda(home);
        self.draining.push_back(home);
    }

    /// Fires due timers, one slice of each namespace that has some, until the budget is used up.
    /// Spends about one of it for each timer.
    pub(crate) fn drain(
        &mut self,
        shared: &mut Shared,
        layout: Layout,
        now: Timestamp,
        gauges: &dyn Gauges,
        budget: &mut u32,
    ) {
        for _ in 0..self.draining.len() {
            if *budget == 0 {
                break;
            }
            let Some(home) = self.draining.pop_front() else {
                break;
            };
            let share = (*budget / (self.draining.len() as u32 + 1)).max(1);
            let mut slice = share;
            let is_done = if self.home(home).visit.is_some() {
                self.visit_slice(shared, home, now, &mut slice)
            } else {
                self.drain_slice(shared, layout, home, now, &mut slice)
            };
            *budget = budget.saturating_sub(share - slice);
            self.mark_changed(home);
            if is_done {
                self.end_drain(shared, home, now, gauges);
            } else {
                self.draining.push_back(home);
            }
        }
        self.release_removed(shared, budget);
    }

    fn drain_slice(
        &mut self,
        shared: &mut Shared,
        layout: Layout,
        home: HomeIndex,
        now: Timestamp,
        budget: &mut u32,
    ) -> bool {
        let index = self.index;
        let it = self.home_mut(home);
        let is_event = it.timeline.of(Domain::Event).drain.is_some();
        let domain = if is_event { Domain::Event } else { Domain::Processing };
        loop {
            let time = it.timeline.of_mut(domain);
            let Some(drain) = &mut time.drain else {
                return true;
            };
            let until = drain.until;
            if drain.next == drain.batch.len() {
                drain.batch.clear();
                drain.next = 0;
                if *budget == 0 {
                    return false;
                }
                let owner = Armed { pools: &shared.pools, domain };
                let batch = &mut drain.batch;
                let entries = &mut shared.entries;
                let done = time.wheel.gather(entries, &owner, until, batch, BATCH_ENTRIES, budget);
                if batch.is_empty() {
                    return done;
                }
                let batch = std::mem::take(batch);
                it.prefetch(&shared.pools, layout, &batch);
                if let Some(drain) = &mut it.timeline.of_mut(domain).drain {
                    drain.batch = batch;
                }
                continue;
            }
            let waiting = drain.batch.len() - drain.next;
            for _ in 0..waiting.min(AT_ONCE_ENTRIES) {
                let Some(drain) = &mut it.timeline.of_mut(domain).drain else { return true };
                let (time, slot) = drain.batch[drain.next];
                let position = drain.position;
                drain.next += 1;
                *budget = budget.saturating_sub(1);
                if !it.is_live(&shared.pools, layout, time, slot, domain) {
                    continue;
                }
                let slot = SlotIndex(slot);
                let hash = shared.pools.hash(slot);
                let group = layout.group_of(hash);
                it.with_partition(shared, index, group, position, now, |partition, cx| {
                    partition.fire(cx, slot, hash, domain, until);
                });
            }
        }
    }

    fn end_drain(
        &mut self,
        shared: &mut Shared,
        home: HomeIndex,
        now: Timestamp,
        gauges: &dyn Gauges,
    ) {
        let it = self.home_mut(home);
        let mut timers = it.visit.take().map_or(0, |visit| visit.visited);
        for domain in Domain::ALL {
            let time = it.timeline.of_mut(domain);
            if let Some(drain) = time.drain.take() {
                timers = drain.fired;
                if time.held.as_ref().is_some_and(|held| held.last_release() <= drain.until) {
                    time.held = None;
                }
                time.wake = time.wheel.next_time().unwrap_or(Timestamp::MAX);
                time.counts.advance(drain.until);
            }
        }
        let namespace = it.id;
        if let Some(number) = it.settling.take() {
            let is_failed = false;
            self.done.push(StepDone { namespace, number, is_settled: true, timers, is_failed });
        }
        self.list_on_agenda(home);
        while let Some(it) = self.find(namespace).map(|home| self.home_mut(home)) {
            if it.is_draining() {
                break;
            }
            let Some(step) = it.waiting.pop_front() else {
                break;
            };
            self.apply_step(shared, step, now, gauges);
        }
    }

    fn release_removed(&mut self, shared: &mut Shared, budget: &mut u32) {
        while let Some(Removal { it, timers, bucket }) = self.removing.front_mut() {
            if *budget == 0 || !it.release(shared, bucket, budget) {
                return;
            }
            let (namespace, timers) = (it.id, *timers);
            if let Some(number) = it.settling {
                let is_failed = false;
                self.done.push(StepDone { namespace, number, is_settled: true, timers, is_failed });
            }
            // Steps that came after the removal have nothing left to change.
            let late: Vec<u64> = it.waiting.iter().map(|step| step.number).collect();
            for number in late {
                self.acknowledge(namespace, number, 0);
            }
            self.removing.pop_front();
        }
    }
}

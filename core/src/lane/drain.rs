//! How a lane lets due timers go: slice by slice, in the order of time.
//!
//! Entries come off the wheel in small batches, over as many buckets as it takes; the lines of
//! their slots, then those of the tables, are asked for together before any of them is used.

use super::{HomeIndex, Lane, LaneNamespace, Removal, Shared};
use crate::key_group::Layout;
use crate::keyed::SlotIndex;
use crate::namespace::StepDone;
use crate::ports::Gauges;
use crate::time::{Domain, Timestamp};
use crate::timeline::{Armed, Drain};

/// Entries that are taken off the wheel at a time.
const BATCH_ENTRIES: usize = 256;
/// Bytes that a callback may emit for one of the budget.
const EMITTED_BYTES_A_FIRE: u64 = 4 << 10;

/// What was taken off a wheel to be looked at.
#[derive(Debug)]
pub(super) struct Looked {
    batch: Vec<(Timestamp, u32)>,
    /// There is nothing more by then.
    is_done: bool,
}

/// What a slice of an advance came to.
enum Slice {
    /// Nothing is left of it.
    Done,
    /// There is more.
    More,
    /// Only callbacks are left that are called again from this time on.
    Waits(Timestamp),
}

impl LaneNamespace {
    /// Takes entries off the wheel that may be due at `now`.
    fn take_off(&mut self, shared: &mut Shared, now: Timestamp, budget: &mut u32) -> Looked {
        let domain = Domain::Processing;
        let it = self.around.timeline.of_mut(domain);
        let owner = Armed { pools: &shared.pools, domain };
        let (entries, mut batch) = (&mut shared.entries, Vec::new());
        let is_done = it.wheel.gather(entries, &owner, now, &mut batch, BATCH_ENTRIES, budget);
        Looked { batch, is_done }
    }
}

impl Lane {
    /// Takes off the wheels what may be due at `now`, and asks for its slots: the first of three
    /// steps that all lanes take together, so that one waits for memory while the next one asks.
    /// [`Lane::look_further`] and [`Lane::tick`] follow in the same turn.
    pub(crate) fn look(&mut self, shared: &mut Shared, now: Timestamp, budget: &mut u32) {
        debug_assert!(self.looked.is_empty(), "what was taken off a wheel is due to a tick");
        let due = self.agenda.iter().take_while(|(time, _)| *time <= now);
        let homes: Vec<HomeIndex> = due.take(*budget as usize).map(|(_, home)| *home).collect();
        for home in homes {
            if *budget == 0 {
                break;
            }
            let looked = if self.home(home).is_restarted {
                None
            } else {
                let looked = self.home_mut(home).take_off(shared, now, budget);
                LaneNamespace::prefetch_slots(&shared.pools, &looked.batch);
                Some(looked)
            };
            self.looked.push((home, looked));
        }
    }

    /// Asks for what the slots lead to.
    pub(crate) fn look_further(&self, shared: &Shared, layout: Layout) {
        for (home, looked) in &self.looked {
            if let Some(looked) = looked {
                self.home(*home).prefetch_links(&shared.pools, layout, &looked.batch);
            }
        }
    }

    /// Looks whether a namespace has something due at `now`: if so, returns entries with at least one
    /// that is. What is not due is put back where it belongs. `looked` has been taken off already.
    pub(super) fn probe(
        &mut self,
        shared: &mut Shared,
        layout: Layout,
        home: HomeIndex,
        now: Timestamp,
        mut looked: Option<Looked>,
        budget: &mut u32,
    ) -> Option<Vec<(Timestamp, u32)>> {
        let domain = Domain::Processing;
        loop {
            let Looked { mut batch, is_done } = looked.take().unwrap_or_else(|| {
                let looked = self.home_mut(home).take_off(shared, now, budget);
                self.home(home).prefetch(&shared.pools, layout, &looked.batch);
                looked
            });
            let it = self.home(home);
            let is_live = |(time, slot): &(Timestamp, u32)| {
                it.is_live(&shared.pools, layout, *time, *slot, domain)
            };
            let is_due = |(_, slot): &(Timestamp, u32)| {
                let release = it.around.timeline.release(&shared.pools, SlotIndex(*slot), domain);
                release.is_some_and(|time| time <= now)
            };
            // One that is tells enough: the others are looked up as they fire.
            if batch.iter().any(|entry| is_due(entry) && is_live(entry)) {
                return Some(batch);
            }
            batch.retain(is_live);
            let timeline = &mut self.home_mut(home).around.timeline;
            for (_, slot) in batch.drain(..) {
                let slot = SlotIndex(slot);
                let Some(release) = timeline.release(&shared.pools, slot, domain) else { continue };
                timeline.of_mut(domain).wheel.insert(&mut shared.entries, release, slot.0);
                shared.pools.set_armed(slot, domain, Some(release));
            }
            let it = timeline.of_mut(domain);
            if is_done {
                it.wake = it.wheel.next_time().unwrap_or(Timestamp::MAX);
                self.list_on_agenda(home);
                return None;
            }
            if *budget == 0 {
                return None;
            }
        }
    }

    pub(super) fn begin_drain(&mut self, home: HomeIndex, domain: Domain, mut drain: Drain) {
        let it = self.home_mut(home).around.timeline.of_mut(domain);
        drain.before = it.reached;
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
            let came_to = if self.home(home).around.visit.is_none() {
                self.drain_slice(shared, layout, home, now, &mut slice)
            } else if self.visit_slice(shared, home, now, &mut slice) {
                Slice::Done
            } else {
                Slice::More
            };
            *budget = budget.saturating_sub(share - slice);
            self.mark_changed(home);
            match came_to {
                Slice::Done => self.end_drain(shared, home, now, gauges),
                Slice::More => self.draining.push_back(home),
                Slice::Waits(at) => {
                    self.aside.insert((at, home));
                }
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
    ) -> Slice {
        let index = self.index;
        let it = self.home_mut(home);
        let is_event = it.around.timeline.of(Domain::Event).drain.is_some();
        let domain = if is_event { Domain::Event } else { Domain::Processing };
        loop {
            let time = it.around.timeline.of_mut(domain);
            let Some(drain) = &mut time.drain else {
                return Slice::Done;
            };
            let until = drain.until;
            if *budget == 0 {
                return Slice::More;
            }
            if drain.next == drain.batch.len() {
                drain.batch.clear();
                drain.next = 0;
                let owner = Armed { pools: &shared.pools, domain };
                let batch = &mut drain.batch;
                let entries = &mut shared.entries;
                let done = time.wheel.gather(entries, &owner, until, batch, BATCH_ENTRIES, budget);
                if batch.is_empty() {
                    if !done {
                        return Slice::More;
                    }
                    if drain.aside.is_empty() {
                        return Slice::Done;
                    }
                    if now < drain.retry_at {
                        return Slice::Waits(drain.retry_at);
                    }
                    drain.aside.sort_unstable();
                    std::mem::swap(batch, &mut drain.aside);
                }
                let batch = std::mem::take(batch);
                it.prefetch(&shared.pools, layout, &batch);
                if let Some(drain) = &mut it.around.timeline.of_mut(domain).drain {
                    drain.batch = batch;
                }
                continue;
            }
            let (time, slot) = drain.batch[drain.next];
            let position = drain.position;
            drain.next += 1;
            *budget -= 1;
            if !it.is_live(&shared.pools, layout, time, slot, domain) {
                continue;
            }
            let slot = SlotIndex(slot);
            let hash = shared.pools.hash(slot);
            let group = layout.group_of(hash);
            let emitted = shared.scratch.emitted_bytes();
            it.with_partition(shared, index, group, position, now, |partition, cx| {
                partition.fire(cx, slot, hash, domain, until);
            });
            let emitted = shared.scratch.emitted_bytes() - emitted;
            *budget = budget.saturating_sub((emitted / EMITTED_BYTES_A_FIRE) as u32);
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
        let mut timers = it.around.visit.take().map_or(0, |visit| visit.visited);
        // What a replay has set aside fires by the first advance that its partition has not seen; what has
        // failed for good waits for the resume.
        if it.around.stopped.is_none() {
            it.around.timeline.unpark(&mut shared.entries, Domain::Processing);
        }
        for domain in Domain::ALL {
            let time = it.around.timeline.of_mut(domain);
            if let Some(drain) = time.drain.take() {
                timers = drain.fired;
                if drain.ending.is_some()
                    && let Some(closed) = &mut it.closed
                {
                    closed.note_ended(timers);
                }
                if time.held.as_ref().is_some_and(|held| held.last_release() <= drain.until) {
                    time.held = None;
                }
                time.wake = time.wheel.next_time().unwrap_or(Timestamp::MAX);
                time.counts.advance(drain.until);
            }
        }
        let (namespace, settling) = (it.id, it.settling.take());
        self.tell_end(home);
        if let Some(number) = settling {
            self.done.push(StepDone::settled(namespace, number, timers));
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
                self.done.push(StepDone::settled(namespace, number, timers));
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

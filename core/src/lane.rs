//! One lane: the unit of order. It gives records their positions and applies them to the
//! partitions of its key groups, namespace by namespace; ticks and control records come through
//! here too, one of them at a time for each namespace.
//!
//! An advance of time (a tick, a watermark, a manual clock) is one record, whatever it makes due.
//! What it makes due is fired slice by slice; until the last has gone, the next advance or control
//! record of that namespace waits, without a position. Other namespaces do not wait.

mod broadcast;
mod close;
mod drain;
mod home;
mod limit;
mod overdue;
mod replay;
mod snapshot;
mod stop;

pub(crate) use home::{LaneNamespace, view};
pub(crate) use replay::AsOf;

use crate::error::Rejection;
use crate::key_group::{KeyGroup, LaneIndex, Layout};
use crate::log::{KeyRecord, LaneBlock, encode_control, encode_step, encode_tick};
use crate::namespace::{Change, ClockKind, Step, StepDone};
use crate::op::Outcome;
use crate::output::{NamespaceId, OutputBytes};
use crate::partition::{Course, Partition, Shared};
use crate::ports::Gauges;
use crate::time::{Domain, Timestamp};
use crate::timeline::Drain;
use drain::Looked;
use hashbrown::HashMap;
use overdue::Downtime;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

/// A block begins with room for no more than this.
const BLOCK_BYTES_HINT_MAX: usize = 64 << 10;

/// Where a namespace stands in a lane's array of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HomeIndex(u32);

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    index: u16,
    first_group: u16,
    groups: u16,
    /// The position that the next record gets.
    position: u64,
    homes: Vec<Option<Box<LaneNamespace>>>,
    by_id: HashMap<NamespaceId, HomeIndex, ahash::RandomState>,
    /// Namespaces on the system clock by when something of theirs may be due; not those that drain.
    agenda: BTreeSet<(Timestamp, HomeIndex)>,
    /// Those that have been looked at in this turn, with what was taken off their wheels; nothing of
    /// those whose restart is to be decided about.
    looked: Vec<(HomeIndex, Option<Looked>)>,
    draining: VecDeque<HomeIndex>,
    /// Those that drain and wait for callbacks to be called again, by when.
    aside: BTreeSet<(Timestamp, HomeIndex)>,
    removing: VecDeque<Removal>,
    /// Namespaces with outputs or figures to hand over.
    changed: Vec<HomeIndex>,
    block: Block,
    done: Vec<StepDone>,
    /// The time in which nothing could fire before this start.
    downtime: Option<Downtime>,
}

/// A namespace that is gone, while what it held is let go.
#[derive(Debug)]
struct Removal {
    it: Box<LaneNamespace>,
    /// Timers that it held.
    timers: u64,
    /// Buckets still to be let go of its last partition.
    bucket: Option<usize>,
}

/// Records applied and not yet handed to the log.
#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    first_position: u64,
    count: u32,
}

impl Lane {
    /// A lane of the key groups `first_group .. first_group + groups`.
    pub(crate) fn new(index: u16, first_group: u16, groups: u16) -> Self {
        Self {
            index,
            first_group,
            groups,
            position: 1,
            homes: Vec::new(),
            by_id: HashMap::with_hasher(ahash::RandomState::with_seeds(5, 6, 7, 8)),
            agenda: BTreeSet::new(),
            looked: Vec::new(),
            draining: VecDeque::new(),
            aside: BTreeSet::new(),
            removing: VecDeque::new(),
            changed: Vec::new(),
            block: Block::default(),
            done: Vec::new(),
            downtime: None,
        }
    }

    /// Which one it is.
    pub(crate) fn index(&self) -> LaneIndex {
        LaneIndex(self.index)
    }

    /// Its key groups.
    pub(crate) fn groups(&self) -> Range<u16> {
        self.first_group..self.first_group + self.groups
    }

    /// Where a namespace stands, if it is here.
    #[inline]
    pub(crate) fn find(&self, namespace: NamespaceId) -> Option<HomeIndex> {
        self.by_id.get(&namespace).copied()
    }

    /// A namespace that `find` found.
    #[inline]
    pub(crate) fn home(&self, home: HomeIndex) -> &LaneNamespace {
        self.homes[home.0 as usize].as_ref().expect("an index is dropped with its namespace")
    }

    /// A namespace that `find` found.
    #[inline]
    pub(crate) fn home_mut(&mut self, home: HomeIndex) -> &mut LaneNamespace {
        self.homes[home.0 as usize].as_mut().expect("an index is dropped with its namespace")
    }

    /// The partition of a key group, if any key of it was ever here.
    #[inline]
    pub(crate) fn partition(&self, home: HomeIndex, group: KeyGroup) -> Option<&Partition> {
        self.home(home).partition(group)
    }

    /// Applies an operation on a key; `bytes` is its record. Refused only before it has a position.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "forty instructions of an operation's, measured")]
    #[allow(clippy::too_many_arguments, reason = "an operation with what is known of it already")]
    pub(crate) fn apply(
        &mut self,
        shared: &mut Shared,
        home: HomeIndex,
        group: KeyGroup,
        hash: u64,
        record: &KeyRecord<'_>,
        bytes: &[u8],
        now: Timestamp,
    ) -> Outcome {
        let it = self.home_mut(home);
        if it.may_refuse() {
            it.refuse(shared.course, group, now)?;
        }
        let outcome = self.apply_at(shared, home, group, hash, record, self.position, now);
        // What a function has failed at comes to nothing.
        if !outcome.as_ref().is_err_and(Rejection::is_failure) {
            self.take_position(bytes);
        }
        if shared.course == Course::Again {
            self.home_mut(home).around.tries = 0;
        }
        outcome
    }

    #[inline(always)]
    #[allow(clippy::inline_always, reason = "forty instructions of an operation's, measured")]
    #[allow(clippy::too_many_arguments, reason = "an operation with what is known of it already")]
    fn apply_at(
        &mut self,
        shared: &mut Shared,
        home: HomeIndex,
        group: KeyGroup,
        hash: u64,
        record: &KeyRecord<'_>,
        position: u64,
        now: Timestamp,
    ) -> Outcome {
        let (index, first_group) = (self.index, self.first_group);
        let it = self.homes[home.0 as usize].as_mut().expect("found in this turn");
        let place = it.ensure_partition(group, first_group, self.groups);
        let (partitions, mut cx) = it.split(shared, index, group, position, now);
        let outcome = partitions[place].take(&mut cx, hash, record);
        it.list_as_changed(home, &mut self.changed);
        let is_early = it.around.timeline.of(Domain::Processing).wake < it.listed_at;
        if is_early || it.around.stopped.is_some() {
            self.list_on_agenda(home);
        }
        outcome
    }

    #[inline]
    fn take_position(&mut self, bytes: &[u8]) -> u64 {
        let position = self.position;
        self.position += 1;
        if self.block.count == 0 {
            self.block.first_position = position;
        }
        self.block.count += 1;
        self.block.bytes.extend_from_slice(bytes);
        position
    }

    fn mark_changed(&mut self, home: HomeIndex) {
        let it = self.homes[home.0 as usize].as_mut().expect("found in this turn");
        it.list_as_changed(home, &mut self.changed);
    }

    /// Puts a namespace on the agenda for when something of it may be due. One that drains is off
    /// it until it has: no tick can take it, and none should walk over it. So is one that is paused.
    fn list_on_agenda(&mut self, home: HomeIndex) {
        let it = self.home_mut(home);
        let is_still = it.around.is_paused || it.around.stopped.is_some() || it.is_draining();
        let may_tick = it.around.config.clock == ClockKind::System && !is_still;
        let wake = it.around.timeline.of(Domain::Processing).wake;
        let wake = if may_tick { wake } else { Timestamp::MAX };
        let listed_at = it.listed_at;
        if wake == listed_at {
            return;
        }
        it.listed_at = wake;
        self.agenda.remove(&(listed_at, home));
        if wake < Timestamp::MAX {
            self.agenda.insert((wake, home));
        }
    }

    /// When there may next be something to do: `None`, never as things stand.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        self.agenda.first().map(|(time, _)| *time)
    }

    /// When a callback that has failed is called again, for which an advance waits.
    pub(crate) fn next_retry(&self) -> Option<Timestamp> {
        self.aside.first().map(|(time, _)| *time)
    }

    /// When the oldest processing timer that is about to fire was due.
    pub(crate) fn oldest_due(&self) -> Option<Timestamp> {
        let draining = self.draining.iter().filter_map(|home| {
            let time = self.home(*home).around.timeline.of(Domain::Processing);
            let drain = time.drain.as_ref()?;
            let batched = drain.batch.get(drain.next).map(|(time, _)| *time);
            // Between two slices there is no batch.
            batched.or_else(|| time.wheel.next_time().filter(|time| *time <= drain.until))
        });
        draining.min()
    }

    /// Whether something that is due has not fired yet.
    pub(crate) fn is_draining(&self) -> bool {
        !self.draining.is_empty() || !self.aside.is_empty()
    }

    /// Whether there is work that need not wait for anything.
    pub(crate) fn is_busy(&self) -> bool {
        !self.draining.is_empty() || !self.removing.is_empty()
    }

    /// Writes a tick for the namespaces that have something due at `now`, and begins to drain them:
    /// of those that [`Lane::look`] has looked at.
    /// Spends about one of `budget` for each entry looked at.
    pub(crate) fn tick(
        &mut self,
        shared: &mut Shared,
        layout: Layout,
        now: Timestamp,
        budget: &mut u32,
    ) {
        let mut due = Vec::new();
        for (home, looked) in std::mem::take(&mut self.looked) {
            if looked.is_none() {
                self.decide_overdue(shared, layout, home, budget);
            } else if let Some(batch) = self.probe(shared, layout, home, now, looked, budget) {
                due.push((home, batch));
            }
        }
        if due.is_empty() {
            return;
        }
        let namespaces: Vec<NamespaceId> =
            due.iter().map(|(home, _)| self.home(*home).id).collect();
        let mut record = Vec::new();
        encode_tick(&mut record, now, &namespaces);
        let position = self.take_position(&record);
        for (home, batch) in due {
            let mut drain = Drain::new(now, position);
            drain.batch = batch;
            self.unpark(shared, home, Domain::Processing);
            self.begin_drain(home, Domain::Processing, drain);
        }
    }

    /// Writes down a command to a namespace that is at home here.
    pub(crate) fn record_control(&mut self, command: &[u8]) {
        let mut record = Vec::new();
        encode_control(&mut record, command);
        self.take_position(&record);
    }

    /// Takes a control record in: applied at once, or as soon as the namespace has drained.
    pub(crate) fn step(
        &mut self,
        shared: &mut Shared,
        step: Step,
        now: Timestamp,
        gauges: &dyn Gauges,
    ) {
        let Some(home) = self.find(step.namespace) else {
            if matches!(step.change, Change::Configure(_)) {
                self.apply_step(shared, step, now, gauges);
            } else {
                // The namespace is gone: nothing is left that the step could change.
                self.acknowledge(step.namespace, step.number, 0);
            }
            return;
        };
        let it = self.home_mut(home);
        if step.number <= it.applied_number {
            // Sent again: it was applied before.
            if step.change == Change::Close {
                self.await_end(home, step.number);
            } else {
                self.acknowledge(step.namespace, step.number, 0);
            }
        } else if it.is_draining() {
            it.waiting.push_back(step);
        } else {
            self.apply_step(shared, step, now, gauges);
        }
    }

    fn acknowledge(&mut self, namespace: NamespaceId, number: u64, timers: u64) {
        for is_settled in [false, true] {
            self.done.push(StepDone { namespace, number, is_settled, timers, is_failed: false });
        }
    }

    fn apply_step(&mut self, shared: &mut Shared, step: Step, now: Timestamp, gauges: &dyn Gauges) {
        let Step { namespace, number, change } = step;
        let mut record = Vec::new();
        let body = serde_json::to_vec(&change).expect("a change is plain data");
        encode_step(&mut record, namespace, number, &body);
        let position = self.take_position(&record);
        self.change(shared, Step { namespace, number, change }, position, now, gauges).expect(
            "what a namespace cannot run is refused before its configuration is written down",
        );
    }

    /// Changes what a step, which has its position, is there to change. Refused only if it needs a
    /// function that there is not: then nothing can be made of the lane.
    fn change(
        &mut self,
        shared: &mut Shared,
        step: Step,
        position: u64,
        now: Timestamp,
        gauges: &dyn Gauges,
    ) -> Result<(), Rejection> {
        let Step { namespace, number, change } = step;
        let home = self.find(namespace);
        let is_failed = false;
        let done = |is_settled| StepDone { namespace, number, is_settled, timers: 0, is_failed };
        if let Some(home) = home {
            self.home_mut(home).applied_number = number;
        }
        match (change, home) {
            (Change::Configure(config), None) => {
                let gauge = gauges.gauge(namespace);
                let it = LaneNamespace::new(shared, namespace, config, number, now, gauge)?;
                self.admit(it);
                self.acknowledge(namespace, number, 0);
            }
            (Change::Configure(config), Some(home)) => {
                self.home_mut(home).configure(shared, config, now)?;
                self.list_on_agenda(home);
                self.acknowledge(namespace, number, 0);
            }
            (Change::Watermark(_) | Change::Clock(_), Some(home))
                if self.home(home).around.stopped.is_some() =>
            {
                // The resume says again how far time has come.
                self.acknowledge(namespace, number, 0);
            }
            (Change::Watermark(to), Some(home)) => {
                self.done.push(done(false));
                let it = self.home_mut(home);
                it.settling = Some(number);
                let mut drain = Drain::new(to, position);
                drain.clock = it.around.now(now);
                self.unpark(shared, home, Domain::Event);
                self.begin_drain(home, Domain::Event, drain);
            }
            (Change::Clock(to), Some(home)) => {
                self.done.push(done(false));
                let it = self.home_mut(home);
                it.settling = Some(number);
                it.around.manual_now = Some(to);
                self.unpark(shared, home, Domain::Processing);
                self.begin_drain(home, Domain::Processing, Drain::new(to, position));
            }
            (Change::Pause, Some(home)) => {
                self.pause(home);
                self.acknowledge(namespace, number, 0);
            }
            (Change::Stop(stop), Some(home)) => {
                self.stop(home, stop);
                self.acknowledge(namespace, number, 0);
            }
            (Change::Resume { lost }, Some(home)) => {
                self.done.push(done(false));
                self.unpark(shared, home, Domain::Processing);
                self.resume(home, number, lost, position);
            }
            (Change::Close, Some(home)) => self.close(home, number),
            (change @ (Change::Drain | Change::Discard), Some(home)) => {
                self.end_clock(home, number, change == Change::Discard, position, now);
            }
            (Change::Broadcast(it), Some(home)) => {
                self.broadcast(shared, home, number, &it, position, now);
            }
            (Change::Remove, Some(home)) => {
                self.done.push(done(false));
                self.dismiss(shared, home, number);
            }
            (_, None) => self.acknowledge(namespace, number, 0),
        }
        Ok(())
    }

    fn admit(&mut self, it: LaneNamespace) {
        let id = it.id;
        let has_room = self.by_id.len() < self.homes.len();
        let free = has_room.then(|| self.homes.iter().position(Option::is_none)).flatten();
        let index = free.unwrap_or_else(|| {
            self.homes.push(None);
            self.homes.len() - 1
        });
        self.homes[index] = Some(Box::new(it));
        self.by_id.insert(id, HomeIndex(index as u32));
    }

    /// Takes a namespace out of sight; what it holds is let go in slices.
    fn dismiss(&mut self, shared: &mut Shared, home: HomeIndex, number: u64) {
        let Some(mut it) = self.homes[home.0 as usize].take() else {
            return;
        };
        self.by_id.remove(&it.id);
        self.agenda.remove(&(it.listed_at, home));
        self.changed.retain(|changed| *changed != home);
        it.settling = Some(number);
        let namespace = it.id;
        let done = it.closed.as_mut().and_then(|closed| closed.take_done(namespace));
        self.done.extend(done);
        let timers = it.around.timeline.pending();
        for domain in Domain::ALL {
            let pending = it.around.timeline.of(domain).counts.total();
            shared.stats.pending[domain as usize] -= pending;
        }
        it.forget_gauge();
        self.removing.push_back(Removal { it, timers, bucket: None });
    }

    /// What was recorded since the last call.
    pub(crate) fn take_block(&mut self, now: Timestamp) -> Option<LaneBlock> {
        let Block { bytes, first_position, count } = &mut self.block;
        if *count == 0 {
            return None;
        }
        // The next block is probably like this one.
        let next = Vec::with_capacity(bytes.len().min(BLOCK_BYTES_HINT_MAX));
        Some(LaneBlock {
            lane: self.index,
            first_position: *first_position,
            count: std::mem::take(count),
            now_ms: now.as_millis(),
            records: std::mem::replace(bytes, next),
        })
    }

    /// Tells the gauges of all namespaces what is here.
    pub(crate) fn publish_gauges(&mut self) {
        for it in self.homes.iter_mut().flatten() {
            it.publish_gauge();
        }
    }

    /// What was emitted since the last call.
    pub(crate) fn take_outputs(&mut self, outputs: &mut Vec<OutputBytes>) {
        while let Some(home) = self.changed.pop() {
            let index = self.index;
            let it = self.home_mut(home);
            it.is_changed = false;
            it.publish_gauge();
            if !it.around.outputs.is_empty() {
                let is_system = it.around.config.clock == ClockKind::System;
                let mut block = it.around.outputs.finish(it.id, index);
                block.is_live = is_system;
                outputs.push(block);
            }
        }
    }

    /// Steps that were applied or settled since the last call.
    pub(crate) fn take_done(&mut self) -> Vec<StepDone> {
        std::mem::take(&mut self.done)
    }
}

//! One namespace on one lane: its partitions, its time, and what it has to hand over.

use super::HomeIndex;
use super::close::Closed;
use crate::error::Rejection;
use crate::key_group::{KeyGroup, Layout, xxh3_64};
use crate::keyed::{Cell, Identity, Pools, SlotIndex};
use crate::namespace::{BroadcastStep, ClockKind, LateTimers, NamespaceConfig, Step};
use crate::op::{Payload, PayloadBuf, TimerView};
use crate::output::NamespaceId;
use crate::partition::{Context, Function, Partition, Shared, Surroundings};
use crate::ports::NamespaceGauge;
use crate::time::{Domain, Timestamp};
use crate::timeline::Timeline;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// See the module.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each says one thing, and none follows from the others"
)]
#[derive(Debug)]
pub(crate) struct LaneNamespace {
    pub(crate) id: NamespaceId,
    pub(crate) around: Surroundings,
    /// How its end stands, if it takes no more operations.
    pub(crate) closed: Option<Closed>,
    /// Its home knows that it has stopped.
    pub(super) is_stop_told: bool,
    /// The broadcast state, as the function has written it down.
    pub(crate) broadcast: Option<Arc<[u8]>>,
    /// Control records up to this number were applied.
    pub(crate) applied_number: u64,
    /// Control records that wait for the advance under way.
    pub(crate) waiting: VecDeque<Step>,
    /// The control record whose advance is under way.
    pub(crate) settling: Option<u64>,
    /// What was due at the restart has not been decided about.
    pub(crate) is_restarted: bool,
    /// Stands in its lane's list of changed namespaces.
    pub(crate) is_changed: bool,
    /// Where it stands on its lane's agenda; the end of time: it does not.
    pub(crate) listed_at: Timestamp,
    partitions: Vec<Partition>,
    /// For each key group of the lane: which partition it is, plus one; 0: none yet.
    by_group: Box<[u16]>,
    first_group: u16,
    gauge: Arc<NamespaceGauge>,
    /// What the gauge has heard from here: pending by domain, and keys.
    gauged: [u64; 3],
}

impl LaneNamespace {
    /// A namespace with nothing in it; refused if its function cannot be made.
    pub(super) fn new(
        shared: &Shared,
        id: NamespaceId,
        config: Arc<NamespaceConfig>,
        applied_number: u64,
        now: Timestamp,
        gauge: Arc<NamespaceGauge>,
    ) -> Result<Self, Rejection> {
        let timeline = Timeline::new(origin(config.clock, now));
        let function = Function::make(shared, &config)?;
        Ok(Self {
            id,
            around: Surroundings::new(config, function, timeline),
            closed: None,
            is_stop_told: false,
            broadcast: None,
            applied_number,
            waiting: VecDeque::new(),
            settling: None,
            is_restarted: false,
            is_changed: false,
            listed_at: Timestamp::MAX,
            partitions: Vec::new(),
            by_group: Box::default(),
            first_group: 0,
            gauge,
            gauged: [0; 3],
        })
    }

    /// It is configured anew; refused if its function cannot be made so.
    pub(super) fn configure(
        &mut self,
        shared: &mut Shared,
        config: Arc<NamespaceConfig>,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        let is_same = |a: &NamespaceConfig, b: &NamespaceConfig| {
            a.operator == b.operator && a.options == b.options
        };
        if !is_same(&self.around.config, &config) {
            let function = Function::make(shared, &config)?;
            self.around.function.close();
            self.around.function = function;
            if self.around.config.operator != config.operator {
                // It is another one's, who could make nothing of it.
                self.broadcast = None;
            }
            self.load_broadcast();
        }
        if self.around.config.clock != config.clock {
            self.is_restarted = false;
            self.restart_clock(shared, config.clock, now);
        }
        self.around.config = config;
        Ok(())
    }

    /// It follows another clock from now on, which stands elsewhere. The timers that it holds (ones
    /// that came in while that was decided) stay, and wait for the new clock.
    fn restart_clock(&mut self, shared: &mut Shared, clock: ClockKind, now: Timestamp) {
        let domain = Domain::Processing;
        self.around.manual_now = None;
        self.around.timeline.restart_processing(&mut shared.entries, origin(clock, now));
        if self.around.timeline.of(domain).counts.total() == 0 {
            return;
        }
        let mut slots = Vec::new();
        for partition in &self.partitions {
            for bucket in 0..partition.table().visit_len() {
                shared.pools.visit(partition.table(), bucket, |slot| slots.push(slot));
            }
        }
        let time = self.around.timeline.of_mut(domain);
        for slot in slots {
            // Only timers on the system clock are counted by the second.
            shared.pools.for_each(slot, domain, |cell| match clock {
                ClockKind::System => shared.near.add(cell.time),
                ClockKind::Manual => shared.near.remove(cell.time),
            });
            if let Some(earliest) = shared.pools.earliest(slot, domain) {
                time.wheel.insert(&mut shared.entries, earliest, slot.0);
                time.wake = time.wake.min(earliest);
                shared.pools.set_armed(slot, domain, Some(earliest));
            }
        }
    }

    /// The function, which is a new one, goes by the broadcast state that there is.
    fn load_broadcast(&mut self) {
        let instance = self.around.function.0.as_mut();
        let side = instance.and_then(|it| it.operator_mut().broadcast_side());
        if let (Some(side), Some(state)) = (side, &self.broadcast) {
            side.load(Some(state));
        }
    }

    /// The broadcast state is this one, written down by an earlier run.
    pub(super) fn restore_broadcast(&mut self, state: Option<Arc<[u8]>>) {
        self.broadcast = state;
        self.load_broadcast();
    }

    /// Lets the function process a broadcast. Returns whether it has failed, and whether keys are to
    /// be visited, which begins.
    pub(super) fn broadcast(
        &mut self,
        shared: &mut Shared,
        lane: u16,
        step: &BroadcastStep,
        position: u64,
        intake: Timestamp,
    ) -> (bool, bool) {
        let state = self.broadcast.clone();
        // It is about no key.
        let group = KeyGroup(self.first_group);
        let (_, mut cx) = self.split(shared, lane, group, position, intake);
        let came_of_it = cx.broadcast(step, state.as_deref());
        if let Some(state) = came_of_it.state {
            self.broadcast = state;
        }
        if came_of_it.visit.is_some() {
            self.partitions.iter_mut().for_each(|partition| partition.begin_visit(position));
        }
        self.around.visit = came_of_it.visit.map(Box::new);
        (came_of_it.is_failed, self.around.visit.is_some())
    }

    /// It has outputs or figures to hand over: it stands in its lane's list of such ones, as `home`.
    #[inline]
    pub(super) fn list_as_changed(&mut self, home: HomeIndex, changed: &mut Vec<HomeIndex>) {
        if !self.is_changed {
            self.is_changed = true;
            changed.push(home);
        }
    }

    /// Whether something is under way that the next record for the whole lane waits for.
    pub(crate) fn is_draining(&self) -> bool {
        self.around.timeline.is_draining() || self.around.visit.is_some()
    }

    #[inline]
    fn partition_index(&self, group: KeyGroup) -> Option<usize> {
        let place = group.0.checked_sub(self.first_group)? as usize;
        (*self.by_group.get(place)? as usize).checked_sub(1)
    }

    /// The partition of a key group, if any key of it was ever here.
    #[inline]
    pub(crate) fn partition(&self, group: KeyGroup) -> Option<&Partition> {
        self.partition_index(group).map(|index| &self.partitions[index])
    }

    /// The partition of a key group, if any key of it was ever here.
    pub(crate) fn partition_mut(&mut self, group: KeyGroup) -> Option<&mut Partition> {
        self.partition_index(group).map(|index| &mut self.partitions[index])
    }

    /// All partitions.
    pub(crate) fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    #[inline]
    pub(super) fn ensure_partition(
        &mut self,
        group: KeyGroup,
        first_group: u16,
        groups: u16,
    ) -> usize {
        match self.partition_index(group) {
            Some(index) => index,
            None => self.add_partition(group, first_group, groups),
        }
    }

    #[cold]
    fn add_partition(&mut self, group: KeyGroup, first_group: u16, groups: u16) -> usize {
        if self.by_group.is_empty() {
            self.by_group = vec![0; groups as usize].into_boxed_slice();
            self.first_group = first_group;
        }
        self.partitions.push(Partition::default());
        let place = (group.0 - first_group) as usize;
        self.by_group[place] = self.partitions.len() as u16;
        self.partitions.len() - 1
    }

    /// Lets a partition work in its surroundings.
    #[inline]
    pub(super) fn with_partition<T>(
        &mut self,
        shared: &mut Shared,
        lane: u16,
        group: KeyGroup,
        position: u64,
        intake: Timestamp,
        work: impl FnOnce(&mut Partition, &mut Context<'_>) -> T,
    ) -> T {
        let index = self.partition_index(group).expect("a key's partition is made before its key");
        let (partitions, mut cx) = self.split(shared, lane, group, position, intake);
        work(&mut partitions[index], &mut cx)
    }

    /// Its partitions, and what surrounds them while they work.
    #[inline]
    pub(super) fn split<'a>(
        &'a mut self,
        shared: &'a mut Shared,
        lane: u16,
        group: KeyGroup,
        position: u64,
        intake: Timestamp,
    ) -> (&'a mut [Partition], Context<'a>) {
        let now = self.around.now(intake);
        let (around, namespace) = (&mut self.around, self.id);
        let cx = Context { shared, around, namespace, lane, group, position, now, intake };
        (&mut self.partitions, cx)
    }

    /// Asks for what the entries of a batch need: for all of their slots, then for the lines
    /// that these lead to.
    pub(super) fn prefetch(&self, pools: &Pools, layout: Layout, batch: &[(Timestamp, u32)]) {
        Self::prefetch_slots(pools, batch);
        self.prefetch_links(pools, layout, batch);
    }

    /// Asks for the slots of the entries of a batch.
    pub(super) fn prefetch_slots(pools: &Pools, batch: &[(Timestamp, u32)]) {
        for (_, slot) in batch {
            pools.prefetch(SlotIndex(*slot));
        }
    }

    /// Asks for what the slots of the entries of a batch lead to, once these have come.
    pub(super) fn prefetch_links(&self, pools: &Pools, layout: Layout, batch: &[(Timestamp, u32)]) {
        for (_, slot) in batch {
            let hash = pools.hash(SlotIndex(*slot));
            if let Some(partition) = self.partition(layout.group_of(hash)) {
                pools.prefetch_table(partition.table(), hash);
            }
            pools.prefetch_links(SlotIndex(*slot));
        }
    }

    /// Whether an entry that came off the wheel at `time` is the one that its slot means.
    ///
    /// A stranded entry may outlive its key, and its slot be given to a key of another namespace or
    /// lane that is armed at the same time: the slot must be one of these partitions.
    #[inline]
    pub(super) fn is_live(
        &self,
        pools: &Pools,
        layout: Layout,
        time: Timestamp,
        slot: u32,
        domain: Domain,
    ) -> bool {
        let slot = SlotIndex(slot);
        if pools.armed(slot, domain) != Some(time) {
            return false;
        }
        let hash = pools.hash(slot);
        let partition = self.partition(layout.group_of(hash));
        partition.is_some_and(|partition| pools.contains(partition.table(), hash, slot))
    }

    /// The timers of one key in the order (domain, time, name), due ones hidden.
    pub(crate) fn key_timers(&self, pools: &Pools, group: KeyGroup, key: &[u8]) -> Vec<TimerView> {
        let mut timers = Vec::new();
        let Some(partition) = self.partition(group) else {
            return timers;
        };
        let Some(slot) = pools.find(partition.table(), key, xxh3_64(key)) else {
            return timers;
        };
        for domain in Domain::ALL {
            self.for_each_pending(pools, slot, domain, |cell| {
                timers.push(view(pools, slot, domain, cell));
            });
        }
        timers
    }

    /// The state of one key.
    pub(crate) fn key_state(&self, pools: &Pools, group: KeyGroup, key: &[u8]) -> Option<Vec<u8>> {
        let slot = pools.find(self.partition(group)?.table(), key, xxh3_64(key))?;
        pools.state(slot).map(<[u8]>::to_vec)
    }

    /// The timer of one name, unless it is due.
    pub(crate) fn key_timer(
        &self,
        pools: &Pools,
        group: KeyGroup,
        key: &[u8],
        domain: Domain,
        name: &str,
    ) -> Option<TimerView> {
        let partition = self.partition(group)?;
        let slot = pools.find(partition.table(), key, xxh3_64(key))?;
        let named = pools.timer(slot, domain, Identity::Name(name))?;
        let mut pending = None;
        self.for_each_pending(pools, slot, domain, |cell| {
            if cell == named {
                pending = Some(view(pools, slot, domain, cell));
            }
        });
        pending
    }

    /// Calls `each` for the timers of a slot that are not due, or wait for one that is held back.
    pub(crate) fn for_each_pending(
        &self,
        pools: &Pools,
        slot: SlotIndex,
        domain: Domain,
        mut each: impl FnMut(Cell),
    ) {
        let time = self.around.timeline.of(domain);
        // Where late timers wait, what is due between two advances is waiting.
        let waits = domain == Domain::Event
            && self.around.config.late_timers == LateTimers::NextWatermark
            && time.drain.is_none();
        let mut is_due = !waits;
        pools.for_each(slot, domain, |cell| {
            // In the order of firing: behind one that waits all wait.
            is_due = is_due && Some(time.release_at(pools, slot, cell.time)) <= time.reached;
            if !is_due {
                each(cell);
            }
        });
    }

    /// What all lanes together hold of it.
    pub(super) fn gauge(&self) -> &NamespaceGauge {
        &self.gauge
    }

    /// Tells the namespace's gauge what has changed here.
    pub(super) fn publish_gauge(&mut self) {
        self.tell_gauge([
            self.around.timeline.of(Domain::Event).counts.total(),
            self.around.timeline.of(Domain::Processing).counts.total(),
            self.around.timeline.keys,
        ]);
    }

    /// Takes back what the gauge has heard from here.
    pub(super) fn forget_gauge(&mut self) {
        self.tell_gauge([0; 3]);
    }

    fn tell_gauge(&mut self, figures: [u64; 3]) {
        let cells = [&self.gauge.pending[0], &self.gauge.pending[1], &self.gauge.keys];
        for ((cell, figure), gauged) in cells.into_iter().zip(figures).zip(&mut self.gauged) {
            if figure != *gauged {
                // Relaxed: a sum of counts, nothing is ordered by it.
                cell.fetch_add(figure.wrapping_sub(*gauged) as i64, Ordering::Relaxed);
                *gauged = figure;
            }
        }
    }

    /// Lets go of its function and of some of what it holds, for a namespace that is gone: `bucket` says how far it is
    /// with the last partition. Returns whether all is gone.
    pub(super) fn release(
        &mut self,
        shared: &mut Shared,
        bucket: &mut Option<usize>,
        budget: &mut u32,
    ) -> bool {
        self.around.function.close();
        let is_system = self.around.config.clock == ClockKind::System;
        while let Some(partition) = self.partitions.last_mut() {
            let left = bucket.get_or_insert(partition.table().visit_len());
            while *left > 0 {
                if *budget == 0 {
                    return false;
                }
                *left -= 1;
                let near = is_system.then_some(&mut shared.near);
                let released = partition.release_bucket(&mut shared.pools, near, *left);
                shared.stats.keys -= released;
                *budget = budget.saturating_sub(released as u32 + 1);
            }
            *bucket = None;
            partition.release(&mut shared.pools);
            self.partitions.pop();
        }
        for domain in Domain::ALL {
            self.around.timeline.of_mut(domain).wheel.clear(&mut shared.entries);
        }
        true
    }
}

/// Where the wheel of a clock begins: nobody knows where a manual one will be set.
fn origin(clock: ClockKind, now: Timestamp) -> Timestamp {
    match clock {
        ClockKind::System => now,
        ClockKind::Manual => Timestamp::MIN,
    }
}

/// A timer as a reader sees it.
pub(crate) fn view(pools: &Pools, slot: SlotIndex, domain: Domain, cell: Cell) -> TimerView {
    let (name, payload) = pools.blob(cell);
    TimerView {
        fire_at: cell.time,
        key: pools.key(slot).to_vec(),
        name: name.map(str::to_owned),
        domain,
        payload: payload.map(|payload| match payload {
            Payload::Json(text) => PayloadBuf::Json(text.to_vec()),
            Payload::Binary(bytes) => PayloadBuf::Binary(bytes.to_vec()),
        }),
    }
}

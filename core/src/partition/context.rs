//! What surrounds a partition while it works, and the small steps its operations are made of: how
//! a time is settled, how the wheel is made to agree with a slot, how an output is written.

use super::{Course, Shared, Surroundings};
use crate::due_counts::SecondCounts;
use crate::error::Rejection;
use crate::held::Held;
use crate::key_group::KeyGroup;
use crate::keyed::{Cell, Identity, Pools, SlotIndex};
use crate::namespace::{ClockKind, LateTimers, OverduePolicy};
use crate::op::{Applied, Payload, ResultKind};
use crate::output::{NamespaceId, OutputId, OutputKind, OutputRecord, OutputWriter};
use crate::stats::Stats;
use crate::time::{Domain, Timestamp, spread_offset};
use crate::timeline::{Armed, DomainTime, Ending};

/// What surrounds a partition while it works.
pub(crate) struct Context<'a> {
    pub(crate) shared: &'a mut Shared,
    pub(crate) around: &'a mut Surroundings,
    pub(crate) namespace: NamespaceId,
    pub(crate) lane: u16,
    /// Which partition it is.
    pub(crate) group: KeyGroup,
    /// The position of the record that is applied.
    pub(crate) position: u64,
    /// What the namespace's clock reads; `None`: a manual one that was never set.
    pub(crate) now: Option<Timestamp>,
    /// The intake clock.
    pub(crate) intake: Timestamp,
}

/// The record that an output is due to.
#[derive(Debug, Clone, Copy)]
struct Cause {
    position: u64,
    ordinal: u32,
    due_by: Timestamp,
    lateness: Lateness,
}

/// Whose doing it is that an output comes after its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lateness {
    /// The service's.
    Own,
    /// That of a restart.
    Restart,
    /// Nobody's: it has not waited for its time.
    None,
}

impl Context<'_> {
    /// Whether the namespace runs a function.
    #[inline]
    pub(super) fn runs_function(&self) -> bool {
        self.around.function.0.is_some()
    }

    /// Whether a callback that fails is not called again at once, but later.
    pub(super) fn may_wait(&self) -> bool {
        // A manual clock stands still: nobody could say when.
        let config = &self.around.config;
        self.shared.course != Course::Followed
            && config.clock == ClockKind::System
            && config.on_error.backoff_ms > 0
    }

    /// The counts by second, if timers of this domain belong there: those of the system's clock.
    #[inline]
    fn near(&mut self, domain: Domain) -> Option<&mut SecondCounts> {
        let is_near = domain == Domain::Processing && self.around.config.clock == ClockKind::System;
        is_near.then_some(&mut self.shared.near)
    }

    /// Takes one timer out, if it is there.
    pub(super) fn cancel(
        &mut self,
        slot: SlotIndex,
        domain: Domain,
        identity: Identity<'_>,
    ) -> bool {
        let prior = self.shared.pools.armed(slot, domain);
        let Some(cell) = self.shared.pools.take(slot, domain, identity) else {
            return false;
        };
        self.shared.pools.free_blob(cell);
        self.uncounted(domain, cell.time);
        self.settle(slot, domain, prior);
        true
    }

    /// When the key's earliest timer is let go.
    #[inline]
    pub(super) fn release(&self, slot: SlotIndex, domain: Domain) -> Option<Timestamp> {
        self.around.timeline.release(&self.shared.pools, slot, domain)
    }

    /// Fires the earliest timer of a key, which is due in the advance under way. `more`: others of
    /// the key may follow under the same record.
    #[inline]
    pub(super) fn fire_earliest(&mut self, slot: SlotIndex, hash: u64, domain: Domain, more: bool) {
        let Some(cell) = self.shared.pools.take_earliest(slot, domain) else {
            return;
        };
        let next_release = if more { self.release(slot, domain) } else { None };
        let DomainTime { drain, held, .. } = self.around.timeline.of_mut(domain);
        let Some(drain) = drain else {
            return;
        };
        let (position, due_by) = (drain.position, drain.until);
        if let Some(policy) = drain.overdue {
            self.shared.stats.overdue_at_restart[policy.index()] += 1;
            if policy == OverduePolicy::Drop {
                self.uncounted(domain, cell.time);
                self.shared.pools.free_blob(cell);
                return;
            }
        }
        drain.fired += 1;
        let ending = drain.ending;
        if ending == Some(Ending::Discard) {
            self.shared.stats.discarded += 1;
            self.uncounted(domain, cell.time);
            self.shared.pools.free_blob(cell);
            return;
        }
        let mut cause = Cause { position, ordinal: 0, due_by, lateness: Lateness::Own };
        if more || !drain.ordinals.is_empty() {
            let next = drain.ordinals.get(&hash).copied().unwrap_or(0);
            cause.ordinal = next;
            if next_release.is_some_and(|time| time <= due_by) {
                drain.ordinals.insert(hash, next + 1);
            } else {
                drain.ordinals.remove(&hash);
            }
        }
        // What follows another of its key has probably waited for it.
        let has_waited = |held: &Held| cell.time <= held.until() || cause.ordinal > 0;
        if drain.overdue.is_some() || held.as_deref().is_some_and(has_waited) {
            cause.lateness = Lateness::Restart;
        }
        if let Some(Ending::Fire { now }) = ending {
            // The end of time is nothing that a clock ever read.
            (cause.due_by, cause.lateness) = (now.unwrap_or(cell.time), Lateness::None);
        }
        self.uncounted(domain, cell.time);
        self.emit_cell(slot, hash, domain, cell, cause);
        self.shared.pools.free_blob(cell);
    }

    /// Now (or the watermark) and so much more.
    pub(super) fn after(&self, domain: Domain, after_ms: i64) -> Result<Timestamp, Rejection> {
        let from = match domain {
            Domain::Processing => self.now.ok_or(Rejection::ClockUnset)?,
            Domain::Event => {
                self.around.timeline.of(Domain::Event).reached.ok_or(Rejection::WatermarkUnset)?
            }
        };
        from.checked_add(after_ms).ok_or(Rejection::TimeOverflow { field: "after" })
    }

    /// The time after resolution, then spread. `None`: it leaves the range.
    #[inline]
    pub(super) fn fire_at(
        &self,
        key: &[u8],
        name: Option<&str>,
        time: Timestamp,
        resolution_ms: Option<i64>,
        spread_ms: Option<i64>,
    ) -> Option<Timestamp> {
        if time == Timestamp::MAX {
            // "At the final watermark": neither rounding nor spreading may move that.
            return Some(time);
        }
        let floored = time.floor_to(resolution_ms.unwrap_or(self.around.config.resolution_ms));
        let spread_ms = spread_ms.unwrap_or(self.around.config.spread_ms);
        if spread_ms == 0 {
            return Some(floored);
        }
        floored.checked_add(spread_offset(key, name, spread_ms))
    }

    pub(super) fn check_room(&self, slot: Option<SlotIndex>) -> Result<(), Rejection> {
        let limit = self.around.config.limits.timers_per_key;
        match slot {
            Some(slot) if self.shared.pools.count(slot) >= limit as usize => {
                Err(Rejection::TimersPerKeyExceeded { limit })
            }
            _ => Ok(()),
        }
    }

    #[inline]
    pub(super) fn registered(
        &mut self,
        domain: Domain,
        result: ResultKind,
        fire_at: Option<Timestamp>,
    ) -> Applied {
        self.shared.stats.registered[domain as usize][result as usize] += 1;
        let reads = match domain {
            Domain::Processing => self.now,
            Domain::Event => self.around.timeline.of(Domain::Event).reached,
        };
        let overdue = fire_at.is_some_and(|time| reads.is_some_and(|reads| time <= reads));
        Applied { result, fire_at, cancelled: 0, overdue }
    }

    pub(super) fn cancelled(&mut self, cancelled: u32) -> Applied {
        self.shared.stats.cancelled += cancelled as u64;
        let result = if cancelled == 0 { ResultKind::Absent } else { ResultKind::Cancelled };
        Applied { result, fire_at: None, cancelled, overdue: false }
    }

    #[inline]
    pub(super) fn counted(&mut self, domain: Domain, time: Timestamp) {
        self.around.timeline.of_mut(domain).counts.add(time);
        self.shared.stats.pending[domain as usize] += 1;
        if let Some(near) = self.near(domain) {
            near.add(time);
        }
    }

    #[inline]
    pub(super) fn uncounted(&mut self, domain: Domain, time: Timestamp) {
        self.around.timeline.of_mut(domain).counts.remove(time);
        self.shared.stats.pending[domain as usize] -= 1;
        if let Some(near) = self.near(domain) {
            near.remove(time);
        }
    }

    #[inline]
    pub(super) fn shifted(&mut self, domain: Domain, from: Timestamp, to: Timestamp) {
        self.around.timeline.of_mut(domain).counts.shift(from, to);
        if let Some(near) = self.near(domain) {
            near.shift(from, to);
        }
    }

    /// Makes the wheel agree with the slot after its timers changed; `prior` is where the wheel's
    /// live entry stood before. Moving later leaves it there; moving earlier strands it.
    #[inline]
    pub(super) fn settle(&mut self, slot: SlotIndex, domain: Domain, prior: Option<Timestamp>) {
        let release = self.release(slot, domain);
        if let Some(time) = release
            && self.waits_for_watermark(domain, time)
        {
            self.settle_waiting(slot, prior, time);
            return;
        }
        match (prior, release) {
            (None, None) => {}
            (None, Some(time)) => self.arm(slot, domain, time),
            (Some(armed), Some(time))
                if armed <= time && time.saturating_since(armed) <= Pools::LAG_MS_MAX =>
            {
                self.shared.pools.set_armed(slot, domain, prior);
            }
            (Some(armed), release) => {
                self.shared.pools.set_armed(slot, domain, release);
                self.strand(slot, domain, armed);
                if let Some(time) = release {
                    self.arm(slot, domain, time);
                }
            }
        }
    }

    /// The slot means its entry at `armed` no longer, and says so already.
    #[inline]
    fn strand(&mut self, slot: SlotIndex, domain: Domain, armed: Timestamp) {
        let owner = Armed { pools: &self.shared.pools, domain };
        let it = self.around.timeline.of_mut(domain);
        if it.parked.is_empty() || !it.parked.remove(&(armed, slot.0)) {
            it.wheel.strand(&mut self.shared.entries, &owner, armed, slot.0);
        }
    }

    /// As [`Context::settle`], where the earliest timer waits for the next watermark.
    #[cold]
    fn settle_waiting(&mut self, slot: SlotIndex, prior: Option<Timestamp>, time: Timestamp) {
        // An entry that stands there already comes up in vain.
        if let Some(armed) = prior
            && armed != time
        {
            self.shared.pools.set_armed(slot, Domain::Event, Some(time));
            self.strand(slot, Domain::Event, armed);
        }
        self.park(slot, Domain::Event, time);
    }

    /// Puts an entry for the key into the wheel, at the time when its earliest timer is let go.
    #[inline]
    fn arm(&mut self, slot: SlotIndex, domain: Domain, time: Timestamp) {
        let it = self.around.timeline.of_mut(domain);
        it.wheel.insert(&mut self.shared.entries, time, slot.0);
        if time < it.wake {
            it.wake = time;
        }
        self.shared.pools.set_armed(slot, domain, Some(time));
    }

    /// Whether a timer that is due waits for the next watermark.
    #[inline]
    pub(super) fn waits_for_watermark(&self, domain: Domain, time: Timestamp) -> bool {
        domain == Domain::Event
            && self.around.config.late_timers == LateTimers::NextWatermark
            && self.around.timeline.is_due(domain, time)
    }

    /// Lets a key, whose earliest timer is due, wait for the next advance; also if one is under way.
    #[cold]
    pub(super) fn park(&mut self, slot: SlotIndex, domain: Domain, time: Timestamp) {
        let hash = self.shared.pools.hash(slot);
        let it = self.around.timeline.of_mut(domain);
        it.parked.insert((time, slot.0));
        if let Some(drain) = &mut it.drain {
            drain.pass_by(hash);
        }
        self.shared.pools.set_armed(slot, domain, Some(time));
    }

    /// Puts an entry that was taken off the wheel back, at the time when the key's earliest timer is
    /// let go: if the advance under way has passed that already, among what it is about to look at.
    #[inline]
    pub(super) fn rearm(&mut self, slot: SlotIndex, domain: Domain) {
        let Some(time) = self.release(slot, domain) else {
            self.shared.pools.set_armed(slot, domain, None);
            return;
        };
        if self.around.timeline.of(domain).held.is_some() {
            self.count_held(slot, domain, time);
        }
        let it = self.around.timeline.of_mut(domain);
        if let Some(drain) = &mut it.drain
            && time <= it.wheel.position()
        {
            let place = drain.batch[drain.next..].partition_point(|(at, _)| *at <= time);
            drain.batch.insert(drain.next + place, (time, slot.0));
            self.shared.pools.set_armed(slot, domain, Some(time));
        } else {
            self.arm(slot, domain, time);
        }
    }

    /// Counts what is held of a key that the advance of a restart has come across.
    #[cold]
    fn count_held(&mut self, slot: SlotIndex, domain: Domain, release: Timestamp) {
        let Some(drain) = &self.around.timeline.of(domain).drain else { return };
        let until = drain.until;
        if let Some(policy @ (OverduePolicy::Spread { .. } | OverduePolicy::Shift)) = drain.overdue
            && release > until
        {
            let count = &mut self.shared.stats.overdue_at_restart[policy.index()];
            self.shared
                .pools
                .for_each(slot, domain, |cell| *count += u64::from(cell.time <= until));
        }
    }

    /// Fires what was waiting behind a held timer that the record at hand has taken away, `first`
    /// being the ordinal of the first.
    pub(super) fn fire_freed(&mut self, slot: SlotIndex, hash: u64, first: u32) -> bool {
        let domain = Domain::Processing;
        let reached = self.around.timeline.of(domain).reached;
        let prior = self.shared.pools.armed(slot, domain);
        let mut cause = None;
        while let Some(release) = self.release(slot, domain)
            && Some(release) <= reached
            && let Some(cell) = self.shared.pools.take_earliest(slot, domain)
        {
            let lateness = Lateness::Restart;
            let own = Cause { ordinal: first, lateness, ..self.own_cause(domain) };
            let cause = cause.get_or_insert(own);
            self.uncounted(domain, cell.time);
            self.emit_cell(slot, hash, domain, cell, *cause);
            self.shared.pools.free_blob(cell);
            cause.ordinal += 1;
        }
        if cause.is_some() {
            self.settle(slot, domain, prior);
        }
        cause.is_some()
    }

    /// An output caused by the record that is applied.
    fn own_cause(&self, domain: Domain) -> Cause {
        let reached = self.around.timeline.of(domain).reached;
        let reads = if domain == Domain::Processing { self.now } else { None };
        let due_by =
            reached.max(reads).expect("something is due only once time has come somewhere");
        Cause { position: self.position, ordinal: 0, due_by, lateness: Lateness::None }
    }

    /// Whether a timer fires within the record that registers it: it is due, or the clock says that
    /// it will be with the next tick; and no other timer of the key goes before it.
    #[inline]
    pub(super) fn fires_at_once(
        &self,
        slot: Option<SlotIndex>,
        domain: Domain,
        fire_at: Timestamp,
    ) -> bool {
        if domain == Domain::Event && self.around.config.late_timers == LateTimers::NextWatermark {
            return false;
        }
        // What is due has fired already, unless it is held back.
        let is_due = self.around.timeline.is_due(domain, fire_at);
        if is_due && self.around.timeline.of(domain).held.is_none() {
            return true;
        }
        (is_due || domain == Domain::Processing && self.now.is_some_and(|now| fire_at <= now))
            && slot
                .and_then(|slot| self.shared.pools.earliest(slot, domain))
                .is_none_or(|earliest| fire_at < earliest)
    }

    /// Emits a timer that was taken out of its slot.
    #[inline]
    fn emit_cell(&mut self, slot: SlotIndex, hash: u64, domain: Domain, cell: Cell, cause: Cause) {
        let (name, payload) = self.shared.pools.blob(cell);
        let id = self.output_id(hash, cause);
        let key = self.shared.pools.key(slot);
        let (fire_at, due_by) = (cell.time, cause.due_by);
        let record = OutputRecord {
            id,
            key,
            name,
            domain,
            fire_at,
            due_by,
            payload,
            kind: OutputKind::Fire,
        };
        emit(&mut self.around.outputs, &mut self.shared.stats, &record, cause.lateness);
    }

    /// Emits a timer that was taken out of its slot and is due already where it was to go.
    pub(super) fn emit_overdue_cell(
        &mut self,
        slot: SlotIndex,
        hash: u64,
        domain: Domain,
        cell: Cell,
    ) {
        self.emit_cell(slot, hash, domain, cell, self.own_cause(domain));
    }

    /// Emits a timer that is due as it is registered.
    pub(super) fn emit_overdue(
        &mut self,
        key: &[u8],
        hash: u64,
        name: Option<&str>,
        domain: Domain,
        fire_at: Timestamp,
        payload: Option<Payload<'_>>,
    ) {
        let cause = self.own_cause(domain);
        let (id, due_by) = (self.output_id(hash, cause), cause.due_by);
        let record = OutputRecord {
            id,
            key,
            name,
            domain,
            fire_at,
            due_by,
            payload,
            kind: OutputKind::Fire,
        };
        emit(&mut self.around.outputs, &mut self.shared.stats, &record, cause.lateness);
    }

    fn output_id(&self, key_hash: u64, cause: Cause) -> OutputId {
        OutputId {
            namespace: self.namespace,
            lane: self.lane,
            position: cause.position,
            key_hash,
            ordinal: cause.ordinal,
        }
    }
}

/// Writes a fire down.
#[inline]
fn emit(
    outputs: &mut OutputWriter,
    stats: &mut Stats,
    record: &OutputRecord<'_>,
    lateness: Lateness,
) {
    match lateness {
        Lateness::Own => outputs.push(record),
        Lateness::Restart => outputs.push_restarted(record),
        Lateness::None => outputs.push_overdue(record),
    }
    stats.fired[record.domain as usize] += 1;
}

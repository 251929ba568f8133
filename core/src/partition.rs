//! One key group of one namespace: its keys and their timers.
//!
//! `apply` takes an operation in and says what came of it; `fire` lets one due timer go. Both are
//! functions of the records before them and of nothing else, so that replay repeats them: "now" is
//! the intake clock of the block, "due" is at or below the last tick or watermark *in the lane*.
//!
//! Before an operation touches a key, the key's due timers fire: that is what makes the slicing of
//! storms invisible. Nothing due is ever stored: a timer registered at or below what was reached
//! fires within its own record, unless such timers wait for the next watermark.

mod callback;
mod context;
mod function;
mod producers;
mod room;
mod snapshot;
mod surroundings;
mod trials;
mod visit;

pub(crate) use context::Context;
pub(crate) use surroundings::{Course, Function, Shared, Surroundings};
pub(crate) use trials::Trials;
pub(crate) use visit::KeyVisit;

use crate::due_counts::SecondCounts;
use crate::error::Rejection;
use crate::keyed::{Cell, Identity, KeyTable, NameClass, Pools, SlotIndex};
use crate::log::KeyRecord;
use crate::op::{Action, Applied, Only, Op, Outcome, Payload, Register, ResultKind, Target};
use crate::time::{Domain, Timestamp};
use producers::Producers;
use snapshot::Writing;
use visit::Visiting;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    table: KeyTable,
    producers: Producers,
    /// Something has changed since the last snapshot of it began.
    is_dirty: bool,
    /// The snapshot of it that is being written.
    writing: Option<Box<Writing>>,
    /// Its keys are being visited.
    visiting: Option<Box<Visiting>>,
    /// The position as of which it was loaded; 0: it was not.
    as_of: u64,
}

impl Partition {
    /// The keys of the partition.
    pub(crate) fn table(&self) -> &KeyTable {
        &self.table
    }

    /// Takes an operation in: once only, if its producer says which one it is.
    #[inline]
    pub(crate) fn take(
        &mut self,
        cx: &mut Context<'_>,
        hash: u64,
        record: &KeyRecord<'_>,
    ) -> Outcome {
        let Some(produced) = &record.produced else {
            return self.apply(cx, hash, &record.op);
        };
        if self.producers.has_taken(produced) {
            return Ok(cx.registered(Domain::Processing, ResultKind::Repeated, None));
        }
        let outcome = self.apply(cx, hash, &record.op);
        if outcome.is_ok() {
            self.producers.take(produced);
            self.is_dirty = true;
        }
        outcome
    }

    /// Applies an operation.
    #[inline]
    pub(crate) fn apply(&mut self, cx: &mut Context<'_>, hash: u64, op: &Op<'_>) -> Outcome {
        if self.writing.is_some() {
            self.write_first(&cx.shared.pools, hash);
        }
        if self.visiting.is_some() {
            self.visit_first(cx, hash);
        }
        let mut slot = cx.shared.pools.find(&self.table, op.key, hash);
        if let Some(found) = slot
            && cx.around.timeline.is_draining()
        {
            slot = if cx.runs_function() {
                self.call_due(cx, found, hash)?
            } else {
                self.fire_due(cx, found, hash)
            };
        }
        if cx.runs_function() {
            // Whoever registers a function's timers is the function.
            return match &op.action {
                Action::Element(element) => self.element(cx, slot, op.key, hash, element),
                _ => Err(Rejection::TimersOwned),
            };
        }
        let emitted = cx.around.outputs.count();
        let outcome = self.act(cx, slot, hash, op);
        if cx.around.timeline.of(Domain::Processing).held.is_some() {
            let ordinal = cx.around.outputs.count() - emitted;
            self.fire_freed(cx, op.key, hash, ordinal);
        }
        outcome
    }

    #[inline]
    fn act(
        &mut self,
        cx: &mut Context<'_>,
        slot: Option<SlotIndex>,
        hash: u64,
        op: &Op<'_>,
    ) -> Outcome {
        match &op.action {
            Action::Register(register) => self.register(cx, slot, op.key, hash, register),
            Action::Touch { name, domain, after_ms } => {
                self.touch(cx, slot, op.key, hash, *domain, name, *after_ms)
            }
            Action::Delete { domain, target } => {
                Ok(self.delete(cx, slot, op.key, hash, *domain, *target))
            }
            Action::DeleteAll => Ok(self.delete_all(cx, slot, hash)),
            Action::Element(_) => Err(Rejection::ElementsUnwanted),
        }
    }

    fn register(
        &mut self,
        cx: &mut Context<'_>,
        slot: Option<SlotIndex>,
        key: &[u8],
        hash: u64,
        register: &Register<'_>,
    ) -> Outcome {
        let Register { domain, name, payload, only, .. } = *register;
        let fire_at = room::fire_at(cx, key, register)?;
        let identity = name.map_or(Identity::Time(fire_at), Identity::Name);
        let standing = slot.and_then(|slot| cx.shared.pools.timer(slot, domain, identity));
        let kept = match (only, standing) {
            (Only::Present, None) | (Only::Absent, Some(_)) => true,
            (Only::Earlier, Some(standing)) => fire_at >= standing.time,
            (Only::Later, Some(standing)) => fire_at <= standing.time,
            _ => false,
        };
        let result = match standing {
            _ if kept => ResultKind::Kept,
            None => ResultKind::Created,
            Some(_) if name.is_none() => ResultKind::Duplicate,
            Some(cell) if cell.time == fire_at && cx.shared.pools.blob(cell).1 == payload => {
                ResultKind::Unchanged
            }
            Some(_) => ResultKind::Replaced,
        };
        if result == ResultKind::Created {
            cx.check_room(slot)?;
        }
        if matches!(result, ResultKind::Created | ResultKind::Replaced) {
            self.put(cx, slot, key, hash, domain, name, fire_at, payload);
        }
        let answered = if kept { standing.map(|cell| cell.time) } else { Some(fire_at) };
        Ok(cx.registered(domain, result, answered))
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one operation, already taken apart")]
    fn touch(
        &mut self,
        cx: &mut Context<'_>,
        slot: Option<SlotIndex>,
        key: &[u8],
        hash: u64,
        domain: Domain,
        name: &str,
        after_ms: i64,
    ) -> Outcome {
        let time = cx.after(domain, after_ms)?;
        let fire_at = cx
            .fire_at(key, Some(name), time, None, None)
            .ok_or(Rejection::TimeOverflow { field: "after" })?;
        // Decided by the timers alone, never by where the wheel's entry happens to stand: a replay,
        // whose wheel looks different, decides alike.
        let fires_at_once = cx.fires_at_once(slot, domain, fire_at);
        if let Some(slot) = slot
            && !fires_at_once
            && let Some(before) = cx.shared.pools.postpone_only(slot, domain, name, fire_at)
        {
            cx.shifted(domain, before, fire_at);
            let same = before == fire_at;
            self.is_dirty |= !same;
            let result = if same { ResultKind::Unchanged } else { ResultKind::Replaced };
            return Ok(cx.registered(domain, result, Some(fire_at)));
        }
        let standing =
            slot.and_then(|slot| cx.shared.pools.timer(slot, domain, Identity::Name(name)));
        let result = match standing {
            None => ResultKind::Created,
            Some(cell) if cell.time == fire_at => ResultKind::Unchanged,
            Some(_) => ResultKind::Replaced,
        };
        match (standing, slot) {
            (Some(_), _) if result == ResultKind::Unchanged => {}
            (Some(_), Some(slot)) => {
                self.reschedule(cx, slot, hash, domain, name, fire_at);
            }
            _ => {
                cx.check_room(slot)?;
                self.put(cx, slot, key, hash, domain, Some(name), fire_at, None);
            }
        }
        Ok(cx.registered(domain, result, Some(fire_at)))
    }

    /// Moves a named timer that is there to another time, payload kept.
    fn reschedule(
        &mut self,
        cx: &mut Context<'_>,
        slot: SlotIndex,
        hash: u64,
        domain: Domain,
        name: &str,
        fire_at: Timestamp,
    ) {
        let fires_at_once = cx.fires_at_once(Some(slot), domain, fire_at);
        let prior = cx.shared.pools.armed(slot, domain);
        let Some(cell) = cx.shared.pools.take(slot, domain, Identity::Name(name)) else {
            return;
        };
        self.is_dirty = true;
        cx.uncounted(domain, cell.time);
        let cell = Cell { time: fire_at, ..cell };
        if fires_at_once {
            cx.settle(slot, domain, prior);
            cx.shared.stats.overdue_at_registration += 1;
            cx.emit_overdue_cell(slot, hash, domain, cell);
            cx.shared.pools.free_blob(cell);
            self.drop_if_idle(cx, slot, hash);
        } else {
            cx.shared.pools.insert(slot, domain, cell);
            cx.counted(domain, fire_at);
            cx.settle(slot, domain, prior);
        }
    }

    /// Stores a timer, in place of the standing one of its name if there is one; one that is due
    /// already fires instead.
    #[allow(clippy::too_many_arguments, reason = "the parts of one operation, already taken apart")]
    fn put(
        &mut self,
        cx: &mut Context<'_>,
        slot: Option<SlotIndex>,
        key: &[u8],
        hash: u64,
        domain: Domain,
        name: Option<&str>,
        fire_at: Timestamp,
        payload: Option<Payload<'_>>,
    ) {
        if cx.fires_at_once(slot, domain, fire_at) {
            if let (Some(slot), Some(name)) = (slot, name) {
                self.is_dirty |= cx.cancel(slot, domain, Identity::Name(name));
                self.drop_if_idle(cx, slot, hash);
            }
            cx.shared.stats.overdue_at_registration += 1;
            cx.emit_overdue(key, hash, name, domain, fire_at, payload);
            return;
        }
        self.is_dirty = true;
        let link = cx.shared.pools.store_blob(name, payload);
        let cell = Cell { time: fire_at, name: NameClass::of(name), link };
        let slot = slot.unwrap_or_else(|| {
            cx.shared.stats.keys += 1;
            cx.around.timeline.keys += 1;
            cx.shared.pools.add(&mut self.table, key, hash)
        });
        let prior = cx.shared.pools.armed(slot, domain);
        if let Some(name) = name
            && let Some(standing) = cx.shared.pools.take(slot, domain, Identity::Name(name))
        {
            cx.shared.pools.free_blob(standing);
            cx.uncounted(domain, standing.time);
        }
        cx.shared.pools.insert(slot, domain, cell);
        cx.counted(domain, fire_at);
        cx.settle(slot, domain, prior);
    }

    fn delete(
        &mut self,
        cx: &mut Context<'_>,
        slot: Option<SlotIndex>,
        key: &[u8],
        hash: u64,
        domain: Domain,
        target: Target<'_>,
    ) -> Applied {
        let identity = match target {
            Target::Name(name) => Some(Identity::Name(name)),
            Target::FireAt(time) => Some(Identity::Time(time)),
            // A time that overflows was never registered.
            Target::At { at, resolution_ms, spread_ms } => {
                cx.fire_at(key, None, at, resolution_ms, spread_ms).map(Identity::Time)
            }
        };
        let cancelled = match (slot, identity) {
            (Some(slot), Some(identity)) if cx.cancel(slot, domain, identity) => {
                self.is_dirty = true;
                self.drop_if_idle(cx, slot, hash);
                1
            }
            _ => 0,
        };
        cx.cancelled(cancelled)
    }

    fn delete_all(&mut self, cx: &mut Context<'_>, slot: Option<SlotIndex>, hash: u64) -> Applied {
        let Some(slot) = slot else {
            return cx.cancelled(0);
        };
        let mut cancelled = 0;
        for domain in Domain::ALL {
            let prior = cx.shared.pools.armed(slot, domain);
            while let Some(cell) = cx.shared.pools.take_earliest(slot, domain) {
                cx.shared.pools.free_blob(cell);
                cx.uncounted(domain, cell.time);
                cancelled += 1;
            }
            cx.settle(slot, domain, prior);
        }
        // A key without timers and state is not kept: whatever it had is gone now.
        self.is_dirty = true;
        self.drop_if_idle(cx, slot, hash);
        cx.cancelled(cancelled)
    }

    #[inline]
    fn drop_if_idle(&mut self, cx: &mut Context<'_>, slot: SlotIndex, hash: u64) -> bool {
        let idle = cx.shared.pools.is_idle(slot);
        if idle {
            cx.shared.pools.remove(&mut self.table, hash, slot);
            cx.shared.stats.keys -= 1;
            cx.around.timeline.keys -= 1;
        }
        idle
    }

    /// Fires what is due of a key that a record is about to touch. Returns the slot if the key is
    /// still there.
    fn fire_due(&mut self, cx: &mut Context<'_>, slot: SlotIndex, hash: u64) -> Option<SlotIndex> {
        for domain in Domain::ALL {
            let time = cx.around.timeline.of(domain);
            let Some(drain) = &time.drain else { continue };
            let until = drain.until;
            if domain == Domain::Event && Self::is_through(cx, hash) {
                continue;
            }
            let prior = cx.shared.pools.armed(slot, domain);
            while cx.release(slot, domain).is_some_and(|time| time <= until) {
                self.is_dirty = true;
                cx.fire_earliest(slot, hash, domain, true);
            }
            cx.settle(slot, domain, prior);
        }
        (!self.drop_if_idle(cx, slot, hash)).then_some(slot)
    }

    /// An operation on a key of a namespace that has something held back: what waited behind a timer
    /// that is gone now fires.
    #[cold]
    fn fire_freed(&mut self, cx: &mut Context<'_>, key: &[u8], hash: u64, ordinal: u32) {
        if let Some(slot) = cx.shared.pools.find(&self.table, key, hash)
            && cx.fire_freed(slot, hash, ordinal)
        {
            self.is_dirty = true;
            self.drop_if_idle(cx, slot, hash);
        }
    }

    /// Fires the timer of an entry that the wheel gave out at `time`, if it is due. An entry of a
    /// timer that was postponed is put back where it belongs. An advance that the partition has seen
    /// already, as a replay meets it, fires nothing: what it finds due is due to a later one.
    #[inline]
    pub(crate) fn fire(
        &mut self,
        cx: &mut Context<'_>,
        slot: SlotIndex,
        hash: u64,
        domain: Domain,
        until: Timestamp,
    ) {
        let Some(release) = cx.release(slot, domain) else {
            return;
        };
        let is_seen = cx.position <= self.as_of;
        if is_seen || domain == Domain::Event && Self::is_through(cx, hash) {
            if is_seen && release <= until || cx.waits_for_watermark(domain, release) {
                cx.park(slot, domain, release);
            } else {
                cx.rearm(slot, domain);
            }
            return;
        }
        if release <= until {
            let taken_at = cx.shared.pools.armed(slot, domain);
            if taken_at == Some(release) {
                if self.writing.is_some() {
                    self.write_first(&cx.shared.pools, hash);
                }
                self.is_dirty = true;
                if cx.runs_function() {
                    self.call_earliest(cx, slot, hash, domain);
                    return;
                }
                let more = cx.shared.pools.count(slot) > 1;
                cx.fire_earliest(slot, hash, domain, more);
                if self.drop_if_idle(cx, slot, hash) {
                    return;
                }
            }
        }
        cx.rearm(slot, domain);
    }

    /// Gives back what the table of an empty partition holds.
    pub(crate) fn release(&mut self, pools: &mut Pools) {
        pools.release_table(&mut self.table);
    }

    /// Lets go of everything in one bucket of the table, for a namespace that is gone.
    pub(crate) fn release_bucket(
        &mut self,
        pools: &mut Pools,
        near: Option<&mut SecondCounts>,
        bucket: usize,
    ) -> u64 {
        // Nobody wants a snapshot of what is gone.
        (self.writing, self.visiting) = (None, None);
        let mut slots = Vec::new();
        pools.visit(&self.table, bucket, |slot| slots.push(slot));
        if let Some(near) = near {
            for slot in &slots {
                pools.for_each(*slot, Domain::Processing, |cell| near.remove(cell.time));
            }
        }
        for slot in &slots {
            pools.clear(*slot);
            let hash = pools.hash(*slot);
            pools.remove(&mut self.table, hash, *slot);
        }
        slots.len() as u64
    }
}

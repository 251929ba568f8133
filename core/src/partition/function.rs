//! A partition whose namespace runs a function: elements, timers that are callbacks, and what these
//! ask for.
//!
//! A callback sees its key as it is and asks; what it has asked for is applied once it has returned.
//! A timer is taken out of its slot before its callback runs. What a callback leaves due fires next,
//! under the same record: at once where a record has brought it about; where an advance has, in the
//! order of time over all keys. While all of that goes on for a key, the wheel knows nothing of it:
//! it is made to agree once, at the end ([`Partition::finish`]).
//!
//! Functions follow from what they see. So a callback that fails is tried again at once, as often as
//! the namespace wants, and then passed over: nothing of it took place, it is counted, and what it
//! was about goes to the side output `errors`. A replay comes to the same.

use super::callback::{About, Run, identity};
use super::{Context, Partition};
use crate::error::Rejection;
use crate::function::{EmittedValue, FunctionError, NewState, Scratch, StoredId, TimerChange};
use crate::keyed::{Cell, Identity, NameClass, SlotIndex};
use crate::namespace::{LateElements, LateTimers};
use crate::op::{Applied, Element, Outcome, ResultKind};
use crate::time::{Domain, Timestamp};
use crate::timeline::Progress;

/// Where elements go that are late, if the namespace wants that.
const TAG_LATE: &str = "late";

/// Where the wheels' entries of a key stand, before anything is done to it.
#[derive(Clone, Copy)]
pub(super) struct Armed([Option<Timestamp>; 2]);

impl Armed {
    pub(super) fn of(cx: &Context<'_>, slot: Option<SlotIndex>) -> Self {
        Self(Domain::ALL.map(|domain| cx.pools.armed(slot?, domain)))
    }
}

impl Partition {
    /// An element of a key has come; what was due of the key has fired.
    pub(super) fn element(
        &mut self,
        cx: &mut Context<'_>,
        slot: Option<SlotIndex>,
        key: &[u8],
        hash: u64,
        element: &Element<'_>,
    ) -> Outcome {
        let Some(operator) = &cx.operator else {
            return Err(Rejection::ElementsUnwanted);
        };
        let inputs = operator.inputs();
        if element.input >= inputs {
            return Err(Rejection::InputUnknown { input: element.input, inputs });
        }
        let judges_lateness = operator.judges_lateness();
        let reached = cx.timeline.of(Domain::Event).reached;
        let is_late = !judges_lateness
            && reached
                .is_some_and(|watermark| element.timestamp <= watermark - cx.config.lateness_ms);
        let mut run = Run {
            position: cx.position,
            advanced: None,
            clock: cx.now,
            is_restart: false,
            progress: Progress::default(),
        };
        if is_late && cx.config.late_elements != LateElements::Process {
            return Ok(late(cx, &mut run, key, hash, element));
        }
        cx.stats.late_elements += u64::from(is_late);
        let armed = Armed::of(cx, slot);
        let called = cx.call(slot, key, &run, About::Element(element));
        let applied = called.and_then(|()| {
            self.apply_asked(cx, slot, key, hash, &mut run, &About::Element(element))
        });
        let slot = match applied {
            Ok(slot) => slot,
            Err(error) => {
                cx.stats.elements[1] += 1;
                cx.fail(&mut run, key, hash, &About::Element(element), &error);
                return Ok(applied_as(ResultKind::Failed));
            }
        };
        let result = if cx.scratch.is_late() && cx.config.late_elements != LateElements::Process {
            late(cx, &mut run, key, hash, element)
        } else {
            cx.stats.late_elements += u64::from(cx.scratch.is_late());
            cx.stats.elements[0] += 1;
            applied_as(ResultKind::Processed)
        };
        if let Some(slot) = slot {
            self.fire_all(cx, slot, hash, &mut run, None);
            self.finish(cx, slot, hash, armed, None);
        }
        Ok(result)
    }

    /// Fires what is due of a key that a record is about to touch, while an advance is under way.
    /// Returns the slot if the key is still there.
    pub(super) fn call_due(
        &mut self,
        cx: &mut Context<'_>,
        slot: SlotIndex,
        hash: u64,
    ) -> Option<SlotIndex> {
        for domain in Domain::ALL {
            let Some(mut run) = cx.run_of_drain(domain, hash) else { continue };
            if domain == Domain::Event && self.is_through(cx, hash) {
                continue;
            }
            let armed = Armed::of(cx, Some(slot));
            // In the same order as if the wheel had given them out.
            while cx.release(slot, domain).is_some_and(|time| cx.timeline.is_due(domain, time)) {
                self.fire_one(cx, slot, hash, &mut run, domain);
                self.fire_all(cx, slot, hash, &mut run, Some(domain));
            }
            if let Some(drain) = &mut cx.timeline.of_mut(domain).drain {
                drain.keep_progress(hash, None);
            }
            if self.finish(cx, slot, hash, armed, None) {
                return None;
            }
        }
        Some(slot)
    }

    /// Fires the earliest timer of a key, which the wheel gave out in the advance under way. What the
    /// key has due behind it waits for its turn among the other keys.
    pub(super) fn call_earliest(
        &mut self,
        cx: &mut Context<'_>,
        slot: SlotIndex,
        hash: u64,
        domain: Domain,
    ) {
        let Some(mut run) = cx.run_of_drain(domain, hash) else { return };
        let armed = Armed::of(cx, Some(slot));
        self.fire_one(cx, slot, hash, &mut run, domain);
        self.fire_all(cx, slot, hash, &mut run, Some(domain));
        let until = cx.timeline.of(domain).drain.as_ref().map(|drain| drain.until);
        let has_more = cx.release(slot, domain).is_some_and(|time| Some(time) <= until);
        if let Some(drain) = &mut cx.timeline.of_mut(domain).drain {
            drain.keep_progress(hash, has_more.then_some(run.progress));
        }
        self.finish(cx, slot, hash, armed, Some(domain));
    }

    /// Whether the advance of event time that is under way is over for a key: what is due of it by now
    /// waits for the next one. So it is where late timers wait, once something has come behind the
    /// advance; and where the advance is followed that a snapshot has seen.
    pub(super) fn is_through(&self, cx: &Context<'_>, hash: u64) -> bool {
        cx.config.late_timers == LateTimers::NextWatermark
            && cx
                .timeline
                .of(Domain::Event)
                .drain
                .as_ref()
                .is_some_and(|drain| drain.position <= self.as_of || drain.passes_by(hash))
    }

    /// Fires what is due of a key, until nothing is; save in the domain `but`, which fires in turn,
    /// and in event time where late timers wait for the next watermark.
    fn fire_all(
        &mut self,
        cx: &mut Context<'_>,
        slot: SlotIndex,
        hash: u64,
        run: &mut Run,
        but: Option<Domain>,
    ) {
        let waits = cx.config.late_timers == LateTimers::NextWatermark;
        let is_due = |cx: &Context<'_>, domain: Domain| {
            Some(domain) != but
                && !(waits && domain == Domain::Event)
                && cx.release(slot, domain).is_some_and(|time| cx.timeline.is_due(domain, time))
        };
        while let Some(domain) = Domain::ALL.into_iter().find(|domain| is_due(cx, *domain)) {
            self.fire_one(cx, slot, hash, run, domain);
        }
    }

    /// Takes the earliest timer of a key in a domain out and calls the function.
    fn fire_one(
        &mut self,
        cx: &mut Context<'_>,
        slot: SlotIndex,
        hash: u64,
        run: &mut Run,
        domain: Domain,
    ) {
        let Some(cell) = cx.pools.take_earliest(slot, domain) else { return };
        self.is_dirty = true;
        cx.uncounted(domain, cell.time);
        if cx.count_drained(domain, cell.time, run) {
            cx.pools.free_blob(cell);
            return;
        }
        cx.stats.fired[domain as usize] += 1;
        // The name has to outlive the timer.
        let mut buffer = cx.scratch.take_name();
        let name = cx.pools.blob(cell).0.map(|name| {
            buffer.push_str(name);
            &*buffer
        });
        let about = About::Timer { domain, time: cell.time, name };
        cx.pools.free_blob(cell);
        let called = cx.call(Some(slot), &[], run, about);
        let applied =
            called.and_then(|()| self.apply_asked(cx, Some(slot), &[], hash, run, &about));
        if let Err(error) = applied {
            cx.stats.timers_failed += 1;
            let key = cx.pools.key(slot).to_vec();
            cx.fail(run, &key, hash, &about, &error);
        }
        cx.scratch.give_name(buffer);
    }

    /// Applies what a callback has asked for, or nothing of it. Returns the key's slot, if it has one.
    pub(super) fn apply_asked(
        &mut self,
        cx: &mut Context<'_>,
        slot: Option<SlotIndex>,
        key: &[u8],
        hash: u64,
        run: &mut Run,
        about: &About<'_>,
    ) -> Result<Option<SlotIndex>, FunctionError> {
        // What would never end, ends: at the final watermark nothing more can be waited for.
        let is_final = about.domain().is_some()
            && cx.timeline.of(Domain::Event).reached == Some(Timestamp::MAX);
        cx.check_asked(slot, run, is_final)?;
        let scratch = std::mem::take(cx.scratch);
        let slot = self.apply_changes(cx, slot, key, hash, &scratch, is_final);
        for value in scratch.outputs() {
            cx.emit_value(run, slot, key, hash, about, &value);
        }
        *cx.scratch = scratch;
        Ok(slot)
    }

    fn apply_changes(
        &mut self,
        cx: &mut Context<'_>,
        mut slot: Option<SlotIndex>,
        key: &[u8],
        hash: u64,
        scratch: &Scratch,
        is_final: bool,
    ) -> Option<SlotIndex> {
        match (scratch.new_state(), slot) {
            (NewState::Keep, _) | (NewState::Clear, None) => {}
            (NewState::Clear, Some(slot)) => {
                self.is_dirty = true;
                cx.pools.clear_state(slot);
            }
            (NewState::Set(state), _) => {
                self.is_dirty = true;
                let slot = *slot.get_or_insert_with(|| self.add_key(cx, key, hash));
                cx.pools.set_state(slot, state);
            }
        }
        for index in 0..scratch.changes_count() {
            self.is_dirty = true;
            match scratch.change(index) {
                TimerChange::Register { domain: Domain::Event, .. } if is_final => {
                    cx.stats.refused_at_the_end += 1;
                }
                TimerChange::Register { domain, time, name } => {
                    let slot = *slot.get_or_insert_with(|| self.add_key(cx, key, hash));
                    let standing = cx.pools.timer(slot, domain, identity(StoredId::of(time, name)));
                    if standing.is_some_and(|standing| standing.time == time) {
                        continue;
                    }
                    if let Some(name) = name {
                        cx.take_quietly(slot, domain, Identity::Name(name));
                    }
                    let link = cx.pools.store_blob(name, None);
                    let cell = Cell { time, name: NameClass::of(name), link };
                    cx.pools.insert(slot, domain, cell);
                    cx.counted(domain, time);
                }
                TimerChange::Delete { domain, id } => {
                    if let Some(slot) = slot {
                        cx.take_quietly(slot, domain, identity(id));
                    }
                }
                TimerChange::DeleteAll => {
                    let Some(slot) = slot else { continue };
                    for domain in Domain::ALL {
                        while let Some(cell) = cx.pools.take_earliest(slot, domain) {
                            cx.pools.free_blob(cell);
                            cx.uncounted(domain, cell.time);
                        }
                    }
                }
            }
        }
        slot
    }

    fn add_key(&mut self, cx: &mut Context<'_>, key: &[u8], hash: u64) -> SlotIndex {
        cx.stats.keys += 1;
        cx.timeline.keys += 1;
        cx.pools.add(&mut self.table, key, hash)
    }

    /// Makes the wheels agree with a key, whose entries stood as `armed` says, and drops it if nothing
    /// is left of it: then returns `true`. The entry of `taken` is off its wheel.
    pub(super) fn finish(
        &mut self,
        cx: &mut Context<'_>,
        slot: SlotIndex,
        hash: u64,
        armed: Armed,
        taken: Option<Domain>,
    ) -> bool {
        for domain in Domain::ALL.into_iter().filter(|domain| Some(*domain) != taken) {
            let prior = armed.0[domain as usize];
            if prior.is_none() && cx.pools.earliest(slot, domain).is_none() {
                // What stood there for a while has left a trace.
                cx.pools.set_armed(slot, domain, None);
            } else {
                cx.settle(slot, domain, prior);
            }
        }
        if let Some(domain) = taken {
            if cx.pools.earliest(slot, domain).is_some() {
                cx.rearm(slot, domain);
            } else {
                cx.pools.set_armed(slot, domain, None);
            }
        }
        self.drop_if_idle(cx, slot, hash)
    }
}

fn applied_as(result: ResultKind) -> Applied {
    Applied { result, fire_at: None, cancelled: 0, overdue: false }
}

/// An element is late.
fn late(
    cx: &mut Context<'_>,
    run: &mut Run,
    key: &[u8],
    hash: u64,
    element: &Element<'_>,
) -> Applied {
    cx.stats.late_elements += 1;
    if cx.config.late_elements == LateElements::SideOutput {
        let (tag, timestamp) = (Some(TAG_LATE), Some(element.timestamp));
        let value = EmittedValue { tag, timestamp, value: element.value };
        cx.emit_value(run, None, key, hash, &About::Element(element), &value);
    }
    applied_as(ResultKind::Late)
}

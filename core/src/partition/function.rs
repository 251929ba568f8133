//! A partition whose namespace runs a function: elements, timers that are callbacks, and what these
//! ask for.
//!
//! A callback sees its key as it is and asks; what it has asked for is applied once it has returned.
//! A timer is taken out of its slot before its callback runs. What a callback leaves due fires next,
//! under the same record: at once where a record has brought it about; where an advance has, in the
//! order of time over all keys. While all of that goes on for a key, the wheel knows nothing of it:
//! it is made to agree once, at the end ([`Partition::finish`]).
//!
//! Functions follow from what they see. A callback that fails is called again, and if it fails for good
//! it is passed over, or it has not happened and the namespace stops: an element then never gets a
//! position, and a timer is due still, left for the next advance, while other keys go on. So the state
//! of a key follows from the records alone, in a replay too, whenever and in whatever order they failed.
//! An advance waits for those that are called again later, with their keys set aside.

use super::callback::{About, Run, Verdict, identity, owned};
use super::{Context, Partition};
use crate::error::Rejection;
use crate::function::{EmittedValue, NewState, Scratch, StoredId, TimerChange};
use crate::keyed::{Cell, Identity, NameClass, SlotIndex};
use crate::namespace::{LateElements, LateTimers};
use crate::op::{Applied, Element, Outcome, ResultKind};
use crate::time::{Domain, Timestamp};
use crate::timeline::Progress;
use std::collections::BTreeSet;

/// Where elements go that are late, if the namespace wants that.
const TAG_LATE: &str = "late";

/// Where the wheels' entries of a key stand, before anything is done to it.
#[derive(Clone, Copy)]
pub(super) struct Armed([Option<Timestamp>; 2]);

impl Armed {
    pub(super) fn of(cx: &Context<'_>, slot: Option<SlotIndex>) -> Self {
        Self(Domain::ALL.map(|domain| cx.shared.pools.armed(slot?, domain)))
    }
}

/// What has become of a timer that was to fire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fired {
    /// It is gone.
    Over,
    /// Its callback has failed and is called again later in the advance: it is there still.
    Waits,
    /// Its callback has failed for good: it is there still.
    Left,
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
        let Some(instance) = &cx.around.function.0 else {
            return Err(Rejection::ElementsUnwanted);
        };
        let operator = instance.operator();
        let inputs = operator.inputs();
        if element.input >= inputs {
            return Err(Rejection::InputUnknown { input: element.input, inputs });
        }
        let judges_lateness = operator.judges_lateness();
        let reached = cx.around.timeline.of(Domain::Event).reached;
        let is_late = !judges_lateness
            && reached.is_some_and(|watermark| {
                element.timestamp <= watermark - cx.around.config.lateness_ms
            });
        let mut run = Run {
            position: cx.position,
            advanced: None,
            clock: cx.now,
            is_restart: false,
            is_ending: false,
            progress: Progress::default(),
            at_once: BTreeSet::new(),
        };
        if is_late && cx.around.config.late_elements != LateElements::Process {
            return Ok(late(cx, &mut run, key, hash, element));
        }
        let armed = Armed::of(cx, slot);
        let waited = cx.may_wait().then_some(cx.around.tries);
        let called = cx.call(slot, key, &mut run, About::Element(element), waited);
        match &called {
            Err(Verdict::Wait) => return Err(cx.wait(cx.around.tries + 1, cx.retry_at())),
            Err(Verdict::Stop) => return Err(cx.refusal()),
            Ok(()) | Err(Verdict::PassOver(_)) => {}
        }
        cx.shared.stats.late_elements += u64::from(is_late);
        if let Err(Verdict::PassOver(error)) = called {
            cx.shared.stats.elements[1] += 1;
            cx.fail(&mut run, key, hash, &About::Element(element), &error);
            return Ok(applied_as(ResultKind::Failed));
        }
        let slot = self.apply_asked(cx, slot, key, hash, &mut run, &About::Element(element));
        let result = if cx.shared.scratch.is_late() {
            // Whatever the namespace wants: the function has not processed it.
            late(cx, &mut run, key, hash, element)
        } else {
            cx.shared.stats.elements[0] += 1;
            applied_as(ResultKind::Processed)
        };
        if let Some(slot) = slot {
            self.fire_all(cx, slot, hash, &mut run, None);
            self.finish(cx, slot, hash, armed, None);
        }
        Ok(result)
    }

    /// Fires what is due of a key that a record is about to touch, while an advance is under way.
    /// Returns the slot if the key is still there. Refuses the record if a callback waits or has failed
    /// for good.
    pub(super) fn call_due(
        &mut self,
        cx: &mut Context<'_>,
        slot: SlotIndex,
        hash: u64,
    ) -> Result<Option<SlotIndex>, Rejection> {
        for domain in Domain::ALL {
            let Some(mut run) = cx.run_of_drain(domain, hash) else { continue };
            let drain = cx.around.timeline.of(domain).drain.as_ref();
            if let Some(drain) = drain.filter(|drain| drain.tries_of(hash) > 0) {
                let retry_at = drain.retry_at;
                return Err(cx.wait(0, retry_at));
            }
            if domain == Domain::Event && Self::is_through(cx, hash) {
                continue;
            }
            let armed = Armed::of(cx, Some(slot));
            // In the same order as if the wheel had given them out.
            let mut is_through = true;
            while is_through
                && cx
                    .release(slot, domain)
                    .is_some_and(|time| cx.around.timeline.is_due(domain, time))
            {
                is_through = self.fire_one(cx, slot, hash, &mut run, domain, false) == Fired::Over
                    && self.fire_all(cx, slot, hash, &mut run, Some(domain));
            }
            if let Some(drain) = &mut cx.around.timeline.of_mut(domain).drain {
                drain.keep_progress(hash, (!is_through).then_some(run.progress));
            }
            let is_gone = self.finish(cx, slot, hash, armed, None);
            if !is_through {
                return Err(cx.refusal());
            }
            if is_gone {
                return Ok(None);
            }
        }
        Ok(Some(slot))
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
        let fired = self.fire_one(cx, slot, hash, &mut run, domain, cx.may_wait());
        if fired == Fired::Over {
            self.fire_all(cx, slot, hash, &mut run, Some(domain));
        }
        let until = cx.around.timeline.of(domain).drain.as_ref().map(|drain| drain.until);
        let has_more = cx.release(slot, domain).is_some_and(|time| Some(time) <= until);
        if let Some(drain) = &mut cx.around.timeline.of_mut(domain).drain {
            drain.keep_progress(hash, has_more.then_some(run.progress));
            if fired != Fired::Waits {
                drain.forget_tries(hash);
            }
        }
        match fired {
            Fired::Over => {
                self.finish(cx, slot, hash, armed, Some(domain));
            }
            Fired::Waits | Fired::Left => {
                settle_all(cx, slot, armed, Some(domain));
                if fired == Fired::Left {
                    cx.leave(slot, domain);
                } else {
                    cx.set_aside(slot, domain);
                }
            }
        }
    }

    /// Whether the advance of event time that is under way is over for a key: what is due of it by now
    /// waits for the next one. So it is where late timers wait, once something has come behind the
    /// advance.
    pub(super) fn is_through(cx: &Context<'_>, hash: u64) -> bool {
        let drain = cx.around.timeline.of(Domain::Event).drain.as_ref();
        cx.around.config.late_timers == LateTimers::NextWatermark
            && drain.is_some_and(|drain| drain.passes_by(hash))
    }

    /// Fires what is due of a key, until nothing is; save in the domain `but`, which fires in turn,
    /// and in event time where late timers wait for the next watermark. What callbacks have registered
    /// for a time that has passed is not held back, as what was due at a restart may be. Returns `false`
    /// if a callback has failed for good.
    fn fire_all(
        &mut self,
        cx: &mut Context<'_>,
        slot: SlotIndex,
        hash: u64,
        run: &mut Run,
        but: Option<Domain>,
    ) -> bool {
        let waits = cx.around.config.late_timers == LateTimers::NextWatermark;
        let is_due = |cx: &Context<'_>, run: &Run, domain: Domain| {
            Some(domain) != but
                && !(waits && domain == Domain::Event && !run.progress.goes_on)
                && cx
                    .release(slot, domain)
                    .is_some_and(|time| cx.around.timeline.is_due(domain, time))
                || domain == Domain::Processing && run.is_at_once(&cx.shared.pools, slot)
        };
        while let Some(domain) = Domain::ALL.into_iter().find(|domain| is_due(cx, run, *domain)) {
            if self.fire_one(cx, slot, hash, run, domain, false) != Fired::Over {
                return false;
            }
        }
        true
    }

    /// Takes the earliest timer of a key in a domain out and calls the function. If that fails, and the
    /// timer is not passed over, it is put back.
    fn fire_one(
        &mut self,
        cx: &mut Context<'_>,
        slot: SlotIndex,
        hash: u64,
        run: &mut Run,
        domain: Domain,
        may_wait: bool,
    ) -> Fired {
        let Some(cell) = cx.shared.pools.take_earliest(slot, domain) else { return Fired::Over };
        self.is_dirty = true;
        if !run.at_once.is_empty() && domain == Domain::Processing {
            run.at_once.remove(&owned(&cx.shared.pools, cell));
        }
        if cx.is_dropped(slot, domain, cell, run) {
            cx.over(slot, domain, cell, run);
            return Fired::Over;
        }
        // The name has to outlive the timer.
        let mut buffer = cx.shared.scratch.take_name();
        let name = cx.shared.pools.blob(cell).0.map(|name| {
            buffer.push_str(name);
            &*buffer
        });
        let about = About::Timer { domain, time: cell.time, name };
        run.progress.goes_on = false;
        let tries =
            || cx.around.timeline.of(domain).drain.as_ref().map_or(0, |it| it.tries_of(hash));
        let waited = may_wait.then(tries);
        let called = cx.call(Some(slot), &[], run, about, waited);
        let fired = match &called {
            Ok(()) | Err(Verdict::PassOver(_)) => {
                cx.over(slot, domain, cell, run);
                cx.shared.stats.fired[domain as usize] += 1;
                Fired::Over
            }
            Err(verdict) => {
                cx.shared.pools.insert(slot, domain, cell);
                if matches!(verdict, Verdict::Wait) { Fired::Waits } else { Fired::Left }
            }
        };
        match called {
            Ok(()) => {
                self.apply_asked(cx, Some(slot), &[], hash, run, &about);
            }
            Err(Verdict::PassOver(error)) => {
                cx.shared.stats.timers_failed += 1;
                let key = cx.shared.pools.key(slot).to_vec();
                cx.fail(run, &key, hash, &about, &error);
            }
            Err(Verdict::Wait | Verdict::Stop) => {}
        }
        cx.shared.scratch.give_name(buffer);
        fired
    }

    /// Applies what a callback has asked for. Returns the key's slot, if it has one.
    pub(super) fn apply_asked(
        &mut self,
        cx: &mut Context<'_>,
        slot: Option<SlotIndex>,
        key: &[u8],
        hash: u64,
        run: &mut Run,
        about: &About<'_>,
    ) -> Option<SlotIndex> {
        run.progress.goes_on = cx.shared.scratch.goes_on();
        // What would never end, ends.
        let is_over = cx.is_over(about, run);
        let scratch = std::mem::take(&mut cx.shared.scratch);
        let slot = self.apply_changes(cx, slot, key, hash, &scratch, run, is_over);
        if let Some(slot) = slot.filter(|_| !run.at_once.is_empty()) {
            run.wait_behind_held(&cx.shared.pools, slot);
        }
        for value in scratch.outputs() {
            cx.emit_value(run, slot, key, hash, about, &value);
        }
        cx.shared.scratch = scratch;
        slot
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "a callback, what it runs under and has asked for"
    )]
    fn apply_changes(
        &mut self,
        cx: &mut Context<'_>,
        mut slot: Option<SlotIndex>,
        key: &[u8],
        hash: u64,
        scratch: &Scratch,
        run: &mut Run,
        is_over: [bool; 2],
    ) -> Option<SlotIndex> {
        match (scratch.new_state(), slot) {
            (NewState::Keep, _) | (NewState::Clear, None) => {}
            (NewState::Clear, Some(slot)) => {
                self.is_dirty = true;
                cx.shared.pools.clear_state(slot);
            }
            (NewState::Set(state), _) => {
                self.is_dirty = true;
                let slot = *slot.get_or_insert_with(|| self.add_key(cx, key, hash));
                cx.shared.pools.set_state(slot, state);
            }
        }
        for index in 0..scratch.changes_count() {
            self.is_dirty = true;
            match scratch.change(index) {
                TimerChange::Register { domain, .. } if is_over[domain as usize] => {
                    cx.shared.stats.refused_at_the_end += 1;
                }
                TimerChange::Register { domain, time, name } => {
                    let slot = *slot.get_or_insert_with(|| self.add_key(cx, key, hash));
                    let standing =
                        cx.shared.pools.timer(slot, domain, identity(StoredId::of(time, name)));
                    if standing.is_some_and(|standing| standing.time == time) {
                        continue;
                    }
                    if let Some(name) = name {
                        cx.take_quietly(slot, domain, Identity::Name(name));
                    }
                    let link = cx.shared.pools.store_blob(name, None);
                    let cell = Cell { time, name: NameClass::of(name), link };
                    cx.shared.pools.insert(slot, domain, cell);
                    cx.counted(domain, time);
                    if cx.around.timeline.of(domain).held.is_some()
                        && cx.around.timeline.is_due(domain, time)
                    {
                        run.at_once.insert((time, name.map(str::to_owned)));
                    }
                }
                TimerChange::Delete { domain, id } => {
                    if let Some(slot) = slot {
                        cx.take_quietly(slot, domain, identity(id));
                    }
                }
                TimerChange::DeleteAll => {
                    let Some(slot) = slot else { continue };
                    for domain in Domain::ALL {
                        while let Some(cell) = cx.shared.pools.take_earliest(slot, domain) {
                            cx.shared.pools.free_blob(cell);
                            cx.uncounted(domain, cell.time);
                        }
                    }
                }
            }
        }
        slot
    }

    fn add_key(&mut self, cx: &mut Context<'_>, key: &[u8], hash: u64) -> SlotIndex {
        cx.shared.stats.keys += 1;
        cx.around.timeline.keys += 1;
        cx.shared.pools.add(&mut self.table, key, hash)
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
        settle_all(cx, slot, armed, taken);
        if let Some(domain) = taken {
            if cx.shared.pools.earliest(slot, domain).is_some() {
                cx.rearm(slot, domain);
            } else {
                cx.shared.pools.set_armed(slot, domain, None);
            }
        }
        self.drop_if_idle(cx, slot, hash)
    }
}

/// Makes the wheels agree with a key, whose entries stood as `armed` says, but for the domain `but`.
fn settle_all(cx: &mut Context<'_>, slot: SlotIndex, armed: Armed, but: Option<Domain>) {
    for domain in Domain::ALL.into_iter().filter(|domain| Some(*domain) != but) {
        let prior = armed.0[domain as usize];
        if prior.is_none() && cx.shared.pools.earliest(slot, domain).is_none() {
            // What stood there for a while has left a trace.
            cx.shared.pools.set_armed(slot, domain, None);
        } else {
            cx.settle(slot, domain, prior);
        }
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
    cx.shared.stats.late_elements += 1;
    if cx.around.config.late_elements == LateElements::SideOutput {
        let (tag, timestamp) = (Some(TAG_LATE), Some(element.timestamp));
        let value = EmittedValue { tag, timestamp, value: element.value };
        cx.emit_value(run, None, key, hash, &About::Element(element), &value);
    }
    applied_as(ResultKind::Late)
}

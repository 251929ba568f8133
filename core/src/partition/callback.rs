//! One callback of a function: what it runs under and is about, how it is called, and how what it
//! emits is written down.

use super::Context;
use crate::error::Rejection;
use crate::function::{
    CallAt, EmittedValue, FunctionError, StoredId, StoredTimers, TimerChange, TimerFired, TimerId,
    on_timer, process_element, set_tried,
};
use crate::key_group::xxh3_64;
use crate::keyed::{Cell, Identity, Pools, SlotIndex};
use crate::limits::DUE_AT_ONCE_MAX;
use crate::namespace::{ErrorPolicy, OnError, OverduePolicy, Stop, StopAt};
use crate::op::{Element, Payload};
use crate::output::{OutputId, OutputKind, OutputRecord};
use crate::time::{Domain, Timestamp};
use crate::timeline::{Ending, Progress};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where elements and timers go at which the function has failed.
const TAG_ERRORS: &str = "errors";

/// What becomes of a callback that has failed.
pub(super) enum Verdict {
    /// It is called again later.
    Wait,
    /// It is passed over.
    PassOver(FunctionError),
    /// The namespace stops, and it has not happened.
    Stop,
}

/// What callbacks of one key run under.
pub(super) struct Run {
    /// The record that has brought them about.
    pub(super) position: u64,
    /// The domain whose time it has moved, if it is an advance.
    pub(super) advanced: Option<Domain>,
    /// What the namespace's clock reads for them.
    pub(super) clock: Option<Timestamp>,
    /// What fires now is late because of a restart.
    pub(super) is_restart: bool,
    /// The clock has come to its end.
    pub(super) is_ending: bool,
    pub(super) progress: Progress,
    /// Timers that these callbacks have registered for a time that the clock has passed, where a restart
    /// holds others back: they fire at once, since nothing held goes before them.
    pub(super) at_once: BTreeSet<(Timestamp, Option<String>)>,
}

impl Run {
    /// Whether the key's earliest processing timer is one of those that fire at once.
    pub(super) fn is_at_once(&self, pools: &Pools, slot: SlotIndex) -> bool {
        let mut earliest = None;
        if !self.at_once.is_empty() {
            pools.for_each(slot, Domain::Processing, |cell| {
                earliest.get_or_insert_with(|| owned(pools, cell));
            });
        }
        earliest.is_some_and(|earliest| self.at_once.contains(&earliest))
    }

    /// A callback has registered what is in `at_once`: what stands behind a timer that is held back
    /// waits with that.
    pub(super) fn wait_behind_held(&mut self, pools: &Pools, slot: SlotIndex) {
        let mut is_behind = false;
        pools.for_each(slot, Domain::Processing, |cell| {
            let timer = owned(pools, cell);
            is_behind |= !self.at_once.contains(&timer);
            if is_behind {
                self.at_once.remove(&timer);
            }
        });
    }
}

/// What tells a timer from the others of its key and domain.
pub(super) fn owned(pools: &Pools, cell: Cell) -> (Timestamp, Option<String>) {
    (cell.time, pools.blob(cell).0.map(str::to_owned))
}

/// The timers of a key, as a function reads them.
struct SlotTimers<'a> {
    pools: &'a Pools,
    slot: Option<SlotIndex>,
    is_clock_still: bool,
}

impl StoredTimers for SlotTimers<'_> {
    fn find(&self, domain: Domain, id: StoredId<'_>) -> Option<Timestamp> {
        let cell = self.pools.timer(self.slot?, domain, identity(id))?;
        Some(cell.time)
    }

    fn for_each(&self, domain: Domain, each: &mut dyn FnMut(Timestamp, Option<&str>)) {
        if let Some(slot) = self.slot {
            self.pools.for_each(slot, domain, |cell| each(cell.time, self.pools.blob(cell).0));
        }
    }

    fn count(&self) -> usize {
        self.slot.map_or(0, |slot| self.pools.count(slot))
    }

    fn is_clock_still(&self) -> bool {
        self.is_clock_still
    }
}

pub(super) fn identity(id: StoredId<'_>) -> Identity<'_> {
    match id {
        StoredId::Time(time) => Identity::Time(time),
        StoredId::Name(name) => Identity::Name(name),
    }
}

/// What a callback is about.
#[derive(Clone, Copy)]
pub(super) enum About<'a> {
    Element(&'a Element<'a>),
    Timer { domain: Domain, time: Timestamp, name: Option<&'a str> },
}

impl About<'_> {
    /// That of the timer, if it is one.
    pub(super) fn domain(&self) -> Option<Domain> {
        match self {
            Self::Element(_) => None,
            Self::Timer { domain, .. } => Some(*domain),
        }
    }

    pub(super) fn timestamp(&self) -> Timestamp {
        match self {
            Self::Element(element) => element.timestamp,
            Self::Timer { time, .. } => *time,
        }
    }

    /// What a stop says of it.
    fn stop_at(&self) -> StopAt {
        match self {
            Self::Element(element) => {
                StopAt::Element { timestamp: element.timestamp, input: element.input }
            }
            Self::Timer { domain, time, name } => {
                let id = TimerId::of_stored(*name);
                StopAt::Timer {
                    domain: *domain,
                    fire_at: *time,
                    name: id.name().map(str::to_owned),
                    namespace: id.namespace().map(<[u8]>::to_vec),
                }
            }
        }
    }
}

impl Context<'_> {
    /// Calls the function until it does not fail, as often as the namespace wants. `waited`: how often
    /// it has failed already, if it may be called again later instead of at once.
    pub(super) fn call(
        &mut self,
        slot: Option<SlotIndex>,
        key: &[u8],
        run: &mut Run,
        about: About<'_>,
        waited: Option<u32>,
    ) -> Result<(), Verdict> {
        let OnError { retry, then, .. } = self.around.config.on_error;
        let mut tries = waited.unwrap_or(0);
        loop {
            set_tried(tries);
            let called = self.call_once(slot, key, run, about);
            let Err(error) = called.and_then(|()| self.check_asked(slot, run, &about)) else {
                return Ok(());
            };
            tries += 1;
            if tries > retry {
                return Err(match then {
                    ErrorPolicy::Skip => Verdict::PassOver(error),
                    ErrorPolicy::Stop => {
                        self.stop(slot, key, &about, &error);
                        Verdict::Stop
                    }
                });
            }
            self.shared.stats.retries += 1;
            if waited.is_some() {
                return Err(Verdict::Wait);
            }
        }
    }

    /// The function has failed for good, and the namespace wants to stop where it does.
    #[cold]
    fn stop(
        &mut self,
        slot: Option<SlotIndex>,
        key: &[u8],
        about: &About<'_>,
        error: &FunctionError,
    ) {
        let key = slot.map_or(key, |slot| self.shared.pools.key(slot)).to_vec();
        let stop = Stop::new(self.intake, key, about.stop_at(), error.message());
        self.around.stopped.get_or_insert_with(|| Arc::new(stop));
    }

    /// Why nothing more is taken in.
    pub(super) fn refusal(&self) -> Rejection {
        let detail = self.around.stopped.as_ref().map(ToString::to_string);
        Rejection::NamespaceStopped { detail: detail.unwrap_or_default() }
    }

    /// The function is called again later for the operation at hand, which has failed so often.
    pub(super) fn wait(&mut self, tries: u32, at: Timestamp) -> Rejection {
        self.around.trials.wait(self.group, tries, at);
        let retry_after_ms = at.saturating_since(self.intake).max(1) as u64;
        Rejection::FunctionRetries { retry_after_ms }
    }

    /// When what has failed by now is tried again.
    pub(super) fn retry_at(&self) -> Timestamp {
        self.intake.saturating_add(self.around.config.on_error.backoff_ms)
    }

    /// Of which domain nothing more can be waited for: at the final watermark a timer's callback ends,
    /// and at the end of the clock.
    pub(super) fn is_over(&self, about: &About<'_>, run: &Run) -> [bool; 2] {
        let is_final = about.domain().is_some()
            && self.around.timeline.of(Domain::Event).reached == Some(Timestamp::MAX);
        // What is left of a piece of work is still done.
        [is_final, run.is_ending].map(|is_over| is_over && !self.shared.scratch.goes_on())
    }

    fn call_once(
        &mut self,
        slot: Option<SlotIndex>,
        key: &[u8],
        run: &Run,
        about: About<'_>,
    ) -> Result<(), FunctionError> {
        let is_clock_still = self.is_clock_still(slot);
        let Some(instance) = &mut self.around.function.0 else {
            return Err(FunctionError::new("the namespace has no function"));
        };
        let pools = &self.shared.pools;
        let timers = SlotTimers { pools, slot, is_clock_still };
        let at = CallAt {
            key: slot.map_or(key, |slot| pools.key(slot)),
            timestamp: about.timestamp(),
            domain: about.domain(),
            watermark: self.around.timeline.of(Domain::Event).reached,
            processing_time: run.clock,
            is_ending: run.is_ending,
            lateness_ms: self.around.config.lateness_ms,
            state: slot.and_then(|slot| pools.state(slot)),
        };
        match about {
            About::Element(element) => {
                process_element(instance, at, &timers, &mut self.shared.scratch, *element)
            }
            About::Timer { domain, time, name } => {
                let timer = TimerFired { domain, time, id: TimerId::of_stored(name) };
                on_timer(instance, at, &timers, &mut self.shared.scratch, timer)
            }
        }
    }

    /// Whether the clock makes nothing due of a key for the time being.
    fn is_clock_still(&self, slot: Option<SlotIndex>) -> bool {
        let domain = Domain::Processing;
        let is_held_back = |slot| {
            let release = self.release(slot, domain);
            release.is_some_and(|release| Some(release) > self.now)
        };
        self.around.is_paused
            || self.around.timeline.of(domain).held.is_some() && slot.is_some_and(is_held_back)
    }

    /// Whether what a callback asks for can be had.
    pub(super) fn check_asked(
        &self,
        slot: Option<SlotIndex>,
        run: &mut Run,
        about: &About<'_>,
    ) -> Result<(), FunctionError> {
        let is_over = self.is_over(about, run);
        let registrations = self.shared.scratch.registrations();
        if registrations == 0 {
            return Ok(());
        }
        let limit = self.around.config.limits.timers_per_key as usize;
        let timers = SlotTimers { pools: &self.shared.pools, slot, is_clock_still: false };
        if timers.count() + registrations > limit {
            let count = self.shared.scratch.count(&timers);
            if count > limit {
                return Err(FunctionError::new(format!(
                    "the key would have {count} timers, allowed are {limit}"
                )));
            }
        }
        let is_due_at_once = |change: &TimerChange<'_>| match change {
            TimerChange::Register { domain, .. } if is_over[*domain as usize] => false,
            TimerChange::Register { domain, time, .. } => {
                self.around.timeline.is_due(*domain, *time)
            }
            TimerChange::Delete { .. } | TimerChange::DeleteAll => false,
        };
        let changes =
            (0..self.shared.scratch.changes_count()).map(|index| self.shared.scratch.change(index));
        // What is left of a piece of work is no loop: it has an end.
        let due =
            if self.shared.scratch.goes_on() { 0 } else { changes.filter(is_due_at_once).count() };
        let due = run.progress.due_at_once.saturating_add(due as u32);
        if due > DUE_AT_ONCE_MAX {
            return Err(FunctionError::new(format!(
                "callbacks of the key have registered {DUE_AT_ONCE_MAX} timers that are due at once, \
                 each by the one before: they would never end"
            )));
        }
        run.progress.due_at_once = due;
        Ok(())
    }

    /// Takes a timer out, if it is there; the wheel is told later.
    pub(super) fn take_quietly(&mut self, slot: SlotIndex, domain: Domain, identity: Identity<'_>) {
        if let Some(cell) = self.shared.pools.take(slot, domain, identity) {
            self.shared.pools.free_blob(cell);
            self.uncounted(domain, cell.time);
        }
    }

    /// What the callbacks of a key run under that the advance of a domain brings about.
    pub(super) fn run_of_drain(&self, domain: Domain, hash: u64) -> Option<Run> {
        let time = self.around.timeline.of(domain);
        let drain = time.drain.as_ref()?;
        Some(Run {
            position: drain.position,
            advanced: Some(domain),
            clock: drain.clock,
            is_restart: drain.overdue.is_some(),
            is_ending: drain.ending.is_some(),
            progress: drain.progress_of(hash),
            at_once: BTreeSet::new(),
        })
    }

    /// Whether a timer that was taken out of its slot is dropped: for having fallen due while nothing
    /// could fire, or because its namespace is closed.
    pub(super) fn is_dropped(
        &self,
        slot: SlotIndex,
        domain: Domain,
        cell: Cell,
        run: &Run,
    ) -> bool {
        // What a record brings about has nothing to do with an advance that is still under way.
        let advanced = run.advanced == Some(domain);
        let drain = self.around.timeline.of(domain).drain.as_ref().filter(|_| advanced);
        drain.is_some_and(|drain| {
            drain.ending == Some(Ending::Discard)
                || drain.overdue == Some(OverduePolicy::Drop) && !self.was_left(slot, domain, cell)
        })
    }

    /// Whether an earlier advance has made a timer due already, at which its callback failed.
    fn was_left(&self, slot: SlotIndex, domain: Domain, cell: Cell) -> bool {
        let time = self.around.timeline.of(domain);
        let before = time.drain.as_ref().and_then(|drain| drain.before);
        Some(time.release_at(&self.shared.pools, slot, cell.time)) <= before
    }

    /// A timer is gone: it has fired, or was passed over or dropped.
    pub(super) fn over(&mut self, slot: SlotIndex, domain: Domain, cell: Cell, run: &mut Run) {
        self.uncounted(domain, cell.time);
        if run.advanced == Some(domain) {
            let was_left = self.was_left(slot, domain, cell);
            let it = self.around.timeline.of_mut(domain);
            let until = it.held.as_deref().map(crate::held::Held::until);
            if let Some(drain) = &mut it.drain {
                let overdue = drain.overdue.filter(|_| !was_left);
                if let Some(policy) = overdue {
                    self.shared.stats.overdue_at_restart[policy.index()] += 1;
                }
                if overdue != Some(OverduePolicy::Drop) {
                    drain.fired += 1;
                    self.shared.stats.discarded += u64::from(drain.ending == Some(Ending::Discard));
                    let was_held = until.is_some_and(|until| cell.time <= until);
                    run.is_restart = drain.overdue.is_some() || was_held;
                }
            }
        }
        self.shared.pools.free_blob(cell);
    }

    /// A key whose callback has failed stands aside until it is called again in this advance.
    pub(super) fn set_aside(&mut self, slot: SlotIndex, domain: Domain) {
        let (hash, retry_at) = (self.shared.pools.hash(slot), self.retry_at());
        let Some(time) = self.release(slot, domain) else { return };
        if let Some(drain) = &mut self.around.timeline.of_mut(domain).drain {
            drain.set_aside(hash, (time, slot.0), retry_at);
        }
        self.shared.pools.set_armed(slot, domain, Some(time));
    }

    /// A key whose callback has failed for good waits for the next advance.
    pub(super) fn leave(&mut self, slot: SlotIndex, domain: Domain) {
        let Some(time) = self.release(slot, domain) else { return };
        self.around.timeline.of_mut(domain).parked.insert((time, slot.0));
        self.shared.pools.set_armed(slot, domain, Some(time));
    }

    /// A callback has failed for good, and is passed over.
    pub(super) fn fail(
        &mut self,
        run: &mut Run,
        key: &[u8],
        hash: u64,
        about: &About<'_>,
        error: &FunctionError,
    ) {
        let mut text = json!({ "error": error.message() });
        match about {
            About::Element(element) => match json_of(element.value) {
                Some(value) => text["element"] = value,
                None => text["element_hex"] = hex(element.value.bytes()).into(),
            },
            About::Timer { domain, time, name } => {
                let id = TimerId::of_stored(*name);
                let namespace = id.namespace().map(hex);
                text["timer"] = json!({ "domain": domain, "fire_at": time });
                if let Some(name) = id.name() {
                    text["timer"]["name"] = name.into();
                }
                if let Some(namespace) = namespace {
                    text["timer"]["namespace_hex"] = namespace.into();
                }
            }
        }
        self.emit_error(run, None, key, hash, about, &text.to_string());
    }

    /// The callback of a broadcast has failed for good, or, with a slot, the visit of a key behind
    /// one.
    pub(super) fn fail_broadcast(
        &mut self,
        run: &mut Run,
        slot: Option<SlotIndex>,
        element: &Element<'_>,
        error: &FunctionError,
    ) {
        let text = json!({ "error": error.message(), "broadcast": json_of(element.value) });
        let hash = slot.map_or(xxh3_64(&[]), |slot| self.shared.pools.hash(slot));
        self.emit_error(run, slot, &[], hash, &About::Element(element), &text.to_string());
    }

    fn emit_error(
        &mut self,
        run: &mut Run,
        slot: Option<SlotIndex>,
        key: &[u8],
        hash: u64,
        about: &About<'_>,
        text: &str,
    ) {
        let (tag, timestamp) = (Some(TAG_ERRORS), Some(about.timestamp()));
        let value = EmittedValue { tag, timestamp, value: Payload::Json(text.as_bytes()) };
        self.emit_value(run, slot, key, hash, about, &value);
    }

    /// Emits a value of a key, which is the slot's if it has one.
    pub(super) fn emit_value(
        &mut self,
        run: &mut Run,
        slot: Option<SlotIndex>,
        key: &[u8],
        hash: u64,
        about: &About<'_>,
        emitted: &EmittedValue<'_>,
    ) {
        let EmittedValue { tag, timestamp, value } = *emitted;
        let id = OutputId {
            namespace: self.namespace,
            lane: self.lane,
            position: run.position,
            key_hash: hash,
            ordinal: run.progress.ordinal,
        };
        run.progress.ordinal += 1;
        let fire_at = about.timestamp();
        let record = OutputRecord {
            id,
            key: slot.map_or(key, |slot| self.shared.pools.key(slot)),
            name: None,
            domain: about.domain().unwrap_or(Domain::Event),
            fire_at,
            due_by: fire_at,
            payload: Some(value),
            kind: OutputKind::Value { tag, timestamp },
        };
        if about.domain().is_none() || about.domain() != run.advanced || run.is_ending {
            // It has waited for nothing.
            self.around.outputs.push_overdue(&record);
        } else if run.is_restart {
            self.around.outputs.push_restarted(&record);
        } else {
            self.around.outputs.push(&record);
        }
    }
}

fn json_of(value: Payload<'_>) -> Option<serde_json::Value> {
    match value {
        Payload::Json(text) => serde_json::from_slice(text).ok(),
        Payload::Binary(_) => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |four: u8| char::from_digit(u32::from(four), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

//! One callback of a function: what it runs under and is about, how it is called, and how what it
//! emits is written down.

use super::Context;
use crate::function::{
    CallAt, EmittedValue, FunctionError, StoredId, StoredTimers, TimerChange, TimerFired, TimerId,
    on_timer, process_element,
};
use crate::key_group::xxh3_64;
use crate::keyed::{Identity, Pools, SlotIndex};
use crate::limits::DUE_AT_ONCE_MAX;
use crate::namespace::OverduePolicy;
use crate::op::{Element, Payload};
use crate::output::{OutputId, OutputKind, OutputRecord};
use crate::time::{Domain, Timestamp};
use crate::timeline::Progress;
use serde_json::json;

/// Where elements and timers go at which the function has failed.
const TAG_ERRORS: &str = "errors";

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
    pub(super) progress: Progress,
}

/// The timers of a key, as a function reads them.
struct SlotTimers<'a> {
    pools: &'a Pools,
    slot: Option<SlotIndex>,
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
}

impl Context<'_> {
    /// Calls the function, more than once if it fails and the namespace wants that.
    pub(super) fn call(
        &mut self,
        slot: Option<SlotIndex>,
        key: &[u8],
        run: &Run,
        about: About<'_>,
    ) -> Result<(), FunctionError> {
        let Some(operator) = self.operator.as_deref_mut() else {
            return Err(FunctionError::new("the namespace has no function"));
        };
        let pools = &*self.pools;
        let timers = SlotTimers { pools, slot };
        let at = CallAt {
            key: slot.map_or(key, |slot| pools.key(slot)),
            timestamp: about.timestamp(),
            domain: about.domain(),
            watermark: self.timeline.of(Domain::Event).reached,
            processing_time: run.clock,
            state: slot.and_then(|slot| pools.state(slot)),
        };
        let mut tries = 0;
        loop {
            let outcome = match about {
                About::Element(element) => {
                    process_element(operator, at, &timers, self.scratch, *element)
                }
                About::Timer { domain, time, name } => {
                    let timer = TimerFired { domain, time, id: TimerId::of_stored(name) };
                    on_timer(operator, at, &timers, self.scratch, timer)
                }
            };
            tries += 1;
            if outcome.is_ok() || tries > self.config.on_error.retry {
                return outcome;
            }
            self.stats.retries += 1;
        }
    }

    /// Whether what a callback asks for can be had.
    pub(super) fn check_asked(
        &self,
        slot: Option<SlotIndex>,
        run: &mut Run,
        is_final: bool,
    ) -> Result<(), FunctionError> {
        let registrations = self.scratch.registrations();
        if registrations == 0 {
            return Ok(());
        }
        let limit = self.config.limits.timers_per_key as usize;
        let timers = SlotTimers { pools: self.pools, slot };
        if timers.count() + registrations > limit {
            let count = self.scratch.count(&timers);
            if count > limit {
                return Err(FunctionError::new(format!(
                    "the key would have {count} timers, allowed are {limit}"
                )));
            }
        }
        let is_due_at_once = |change: &TimerChange<'_>| match change {
            TimerChange::Register { domain: Domain::Event, .. } if is_final => false,
            TimerChange::Register { domain, time, .. } => self.timeline.is_due(*domain, *time),
            TimerChange::Delete { .. } | TimerChange::DeleteAll => false,
        };
        let changes = (0..self.scratch.changes_count()).map(|index| self.scratch.change(index));
        let due = changes.filter(is_due_at_once).count();
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
        if let Some(cell) = self.pools.take(slot, domain, identity) {
            self.pools.free_blob(cell);
            self.uncounted(domain, cell.time);
        }
    }

    /// What the callbacks of a key run under that the advance of a domain brings about.
    pub(super) fn run_of_drain(&self, domain: Domain, hash: u64) -> Option<Run> {
        let time = self.timeline.of(domain);
        let drain = time.drain.as_ref()?;
        Some(Run {
            position: drain.position,
            advanced: Some(domain),
            clock: drain.clock,
            is_restart: drain.overdue.is_some(),
            progress: drain.progress_of(hash),
        })
    }

    /// Counts a timer that an advance brings about. Returns whether it is dropped for having been due
    /// while the service was down.
    pub(super) fn count_drained(&mut self, domain: Domain, time: Timestamp, run: &mut Run) -> bool {
        if run.advanced != Some(domain) {
            // What a record brings about has nothing to do with an advance that is still under way.
            return false;
        }
        let it = self.timeline.of_mut(domain);
        let until = it.held.as_deref().map(crate::held::Held::until);
        let Some(drain) = &mut it.drain else { return false };
        if let Some(policy) = drain.overdue {
            self.stats.overdue_at_restart[policy.index()] += 1;
            if policy == OverduePolicy::Drop {
                return true;
            }
        }
        drain.fired += 1;
        run.is_restart = drain.overdue.is_some() || until.is_some_and(|until| time <= until);
        false
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
        let hash = slot.map_or(xxh3_64(&[]), |slot| self.pools.hash(slot));
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
            key: slot.map_or(key, |slot| self.pools.key(slot)),
            name: None,
            domain: about.domain().unwrap_or(Domain::Event),
            fire_at,
            due_by: fire_at,
            payload: Some(value),
            kind: OutputKind::Value { tag, timestamp },
        };
        if about.domain().is_none() || about.domain() != run.advanced {
            // It has waited for nothing.
            self.outputs.push_overdue(&record);
        } else if run.is_restart {
            self.outputs.push_restarted(&record);
        } else {
            self.outputs.push(&record);
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

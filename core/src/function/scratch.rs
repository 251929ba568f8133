//! What a callback has asked for: collected while it runs, applied once it has returned, and thrown
//! away if it has failed.

use super::error::{FunctionError, Result};
use super::timer::{FunctionTimer, StoredId, StoredTimers, TimerId};
use crate::limits::{CALL_BYTES_MAX, PAYLOAD_BYTES_MAX, STATE_BYTES_MAX};
use crate::op::Payload;
use crate::time::{Domain, Timestamp};
use std::collections::BTreeMap;
use std::ops::Range;

/// See the module. It is used again for each callback: nothing is allocated in the usual one.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Names of timers.
    names: String,
    /// The tags of outputs.
    tags: String,
    /// Values of outputs.
    values: Vec<u8>,
    timers: Vec<TimerCommand>,
    outputs: Vec<Emitted>,
    change: StateChange,
    /// The new state, if there is one.
    state: Vec<u8>,
    is_late: bool,
    goes_on: bool,
    /// Room for the name of the timer that fires.
    name: String,
    /// Something that was asked for cannot be had: the callback has failed, whatever it returns.
    failure: Option<FunctionError>,
    /// Bytes that callbacks have emitted since the beginning.
    emitted_bytes: u64,
}

/// What becomes of a key's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum StateChange {
    #[default]
    Keep,
    Set,
    Clear,
}

/// A change of the key's timers.
#[derive(Debug, Clone)]
enum TimerCommand {
    Register { domain: Domain, time: Timestamp, name: Option<Range<u32>> },
    DeleteTime { domain: Domain, time: Timestamp },
    DeleteName { domain: Domain, name: Range<u32> },
    DeleteAll,
}

/// A change of the key's timers, with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimerChange<'a> {
    /// Registers one; with a name, in place of the one that has it.
    Register { domain: Domain, time: Timestamp, name: Option<&'a str> },
    /// Takes one away, if it is there.
    Delete { domain: Domain, id: StoredId<'a> },
    /// Takes all away.
    DeleteAll,
}

#[derive(Debug)]
struct Emitted {
    tag: Option<Range<u32>>,
    timestamp: Option<Timestamp>,
    value: Range<u32>,
    is_binary: bool,
}

/// A value that a callback has emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EmittedValue<'a> {
    /// Of which side output; `None`: the main one.
    pub(crate) tag: Option<&'a str>,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) value: Payload<'a>,
}

/// What a callback does to its key's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewState<'a> {
    Keep,
    Set(&'a [u8]),
    Clear,
}

impl Scratch {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.names.clear();
        self.tags.clear();
        self.values.clear();
        self.timers.clear();
        self.outputs.clear();
        self.change = StateChange::Keep;
        self.state.clear();
        self.is_late = false;
        self.goes_on = false;
        self.failure = None;
    }

    /// Bytes that callbacks have emitted since the beginning.
    #[inline]
    pub(crate) fn emitted_bytes(&self) -> u64 {
        self.emitted_bytes
    }

    /// An empty text for the name of the timer that fires.
    pub(crate) fn take_name(&mut self) -> String {
        std::mem::take(&mut self.name)
    }

    /// The text is not needed any more.
    pub(crate) fn give_name(&mut self, mut name: String) {
        name.clear();
        self.name = name;
    }

    /// The callback fails, unless it has already.
    pub(super) fn fail(&mut self, failure: FunctionError) {
        self.failure.get_or_insert(failure);
    }

    /// What could not be had.
    pub(super) fn take_failure(&mut self) -> Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// The element came too late for what the function does with it.
    pub(super) fn set_late(&mut self) {
        self.is_late = true;
    }

    /// Whether it did.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late
    }

    /// The timers that it registers are due for the rest of its own work.
    pub(super) fn set_goes_on(&mut self) {
        self.goes_on = true;
    }

    /// Whether they are.
    pub(crate) fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// What becomes of the key's state.
    pub(crate) fn new_state(&self) -> NewState<'_> {
        match self.change {
            StateChange::Keep => NewState::Keep,
            StateChange::Set => NewState::Set(&self.state),
            StateChange::Clear => NewState::Clear,
        }
    }

    /// Replaces the key's state by what `write` appends to an empty buffer.
    pub(super) fn write_state(&mut self, write: impl FnOnce(Vec<u8>) -> Result<Vec<u8>>) {
        let mut buffer = std::mem::take(&mut self.state);
        buffer.clear();
        match write(buffer) {
            Ok(state) if state.len() > STATE_BYTES_MAX => {
                let actual = state.len();
                self.fail(FunctionError::new(format!(
                    "the key's state has {actual} bytes, allowed are {STATE_BYTES_MAX}"
                )));
            }
            Ok(state) => {
                self.state = state;
                self.change = StateChange::Set;
            }
            Err(error) => self.fail(error.while_doing("the key's state cannot be written down")),
        }
    }

    /// Leaves the key's state as it was.
    pub(super) fn keep_state(&mut self) {
        self.change = StateChange::Keep;
    }

    /// Takes the key's state away.
    pub(super) fn clear_state(&mut self) {
        self.change = StateChange::Clear;
    }

    /// Emits what `write` appends.
    pub(super) fn emit(
        &mut self,
        tag: Option<&str>,
        timestamp: Option<Timestamp>,
        is_binary: bool,
        write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) {
        let start = self.values.len();
        if let Err(error) = write(&mut self.values) {
            self.fail(error.while_doing("a value cannot be written down"));
        }
        let actual = self.values.len() - start;
        if actual > PAYLOAD_BYTES_MAX {
            self.fail(FunctionError::new(format!(
                "a value has {actual} bytes, allowed are {PAYLOAD_BYTES_MAX}"
            )));
        }
        if self.values.len() > CALL_BYTES_MAX {
            self.fail(FunctionError::new(format!(
                "a callback emits more than {CALL_BYTES_MAX} bytes"
            )));
        }
        if self.failure.is_some() {
            // Whatever comes of it is thrown away: it need not grow on.
            self.values.truncate(start);
            return;
        }
        self.emitted_bytes += actual as u64;
        let tag = tag.map(|tag| push(&mut self.tags, tag));
        let value = start as u32..self.values.len() as u32;
        self.outputs.push(Emitted { tag, timestamp, value, is_binary });
    }

    /// The values, in the order in which they were emitted.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = EmittedValue<'_>> {
        self.outputs.iter().map(|it| {
            let value = &self.values[it.value.start as usize..it.value.end as usize];
            EmittedValue {
                tag: it.tag.as_ref().map(|tag| slice(&self.tags, tag)),
                timestamp: it.timestamp,
                value: if it.is_binary { Payload::Binary(value) } else { Payload::Json(value) },
            }
        })
    }

    /// Registers a timer; its name is what `name` appends.
    pub(super) fn register(
        &mut self,
        domain: Domain,
        time: Timestamp,
        name: Option<impl FnOnce(&mut String)>,
    ) {
        let name = name.map(|write| {
            let start = self.names.len() as u32;
            write(&mut self.names);
            start..self.names.len() as u32
        });
        self.command(TimerCommand::Register { domain, time, name });
    }

    /// Deletes a timer.
    pub(super) fn delete(&mut self, domain: Domain, id: StoredId<'_>) {
        let command = match id {
            StoredId::Time(time) => TimerCommand::DeleteTime { domain, time },
            StoredId::Name(name) => {
                TimerCommand::DeleteName { domain, name: push(&mut self.names, name) }
            }
        };
        self.command(command);
    }

    /// Deletes all timers of the key.
    pub(super) fn delete_all(&mut self) {
        // What was registered before goes with them.
        self.timers.clear();
        self.command(TimerCommand::DeleteAll);
    }

    fn command(&mut self, command: TimerCommand) {
        if self.names.len() > CALL_BYTES_MAX || self.timers.len() >= CALL_BYTES_MAX / 32 {
            self.fail(FunctionError::new("a callback asks for too many changes of its timers"));
        }
        if self.failure.is_none() {
            self.timers.push(command);
        }
    }

    /// How many timers it registers.
    pub(crate) fn registrations(&self) -> usize {
        let is_registration = |it: &&TimerCommand| matches!(it, TimerCommand::Register { .. });
        self.timers.iter().filter(is_registration).count()
    }

    /// How many changes of timers there are.
    pub(crate) fn changes_count(&self) -> usize {
        self.timers.len()
    }

    /// One of the changes of timers, in the order in which they were asked for.
    pub(crate) fn change(&self, index: usize) -> TimerChange<'_> {
        match &self.timers[index] {
            TimerCommand::Register { domain, time, name } => TimerChange::Register {
                domain: *domain,
                time: *time,
                name: name.as_ref().map(|name| slice(&self.names, name)),
            },
            TimerCommand::DeleteTime { domain, time } => {
                TimerChange::Delete { domain: *domain, id: StoredId::Time(*time) }
            }
            TimerCommand::DeleteName { domain, name } => {
                let id = StoredId::Name(slice(&self.names, name));
                TimerChange::Delete { domain: *domain, id }
            }
            TimerCommand::DeleteAll => TimerChange::DeleteAll,
        }
    }

    /// When a timer is due, as it will be once everything asked for so far is done.
    pub(super) fn find(
        &self,
        stored: &dyn StoredTimers,
        domain: Domain,
        id: StoredId<'_>,
    ) -> Option<Timestamp> {
        for index in (0..self.timers.len()).rev() {
            match self.change(index) {
                TimerChange::Register { domain: its, time, name }
                    if its == domain && StoredId::of(time, name) == id =>
                {
                    return Some(time);
                }
                TimerChange::Delete { domain: its, id: gone } if its == domain && gone == id => {
                    return None;
                }
                TimerChange::DeleteAll => return None,
                TimerChange::Register { .. } | TimerChange::Delete { .. } => {}
            }
        }
        stored.find(domain, id)
    }

    /// How many timers there will be once everything asked for so far is done.
    pub(crate) fn count(&self, stored: &dyn StoredTimers) -> usize {
        if self.timers.is_empty() { stored.count() } else { self.list(stored).len() }
    }

    /// The timers that there will be, in the order (domain, time, name).
    pub(super) fn list(&self, stored: &dyn StoredTimers) -> Vec<FunctionTimer> {
        // By identity: the time counts only for those without a name.
        let mut timers = BTreeMap::new();
        let identity = |domain, time, name: Option<&str>| {
            (domain, name.map(str::to_owned), name.is_none().then_some(time))
        };
        for domain in Domain::ALL {
            stored.for_each(domain, &mut |time, name| {
                timers.insert(identity(domain, time, name), time);
            });
        }
        for index in 0..self.timers.len() {
            match self.change(index) {
                TimerChange::Register { domain, time, name } => {
                    timers.insert(identity(domain, time, name), time);
                }
                TimerChange::Delete { domain, id: StoredId::Time(time) } => {
                    timers.remove(&identity(domain, time, None));
                }
                TimerChange::Delete { domain, id: StoredId::Name(name) } => {
                    timers.remove(&identity(domain, Timestamp::MIN, Some(name)));
                }
                TimerChange::DeleteAll => timers.clear(),
            }
        }
        let mut found: Vec<_> =
            timers.into_iter().map(|((domain, name, _), time)| (domain, time, name)).collect();
        found.sort();
        let timer = |(domain, time, name): (_, _, Option<String>)| {
            let id = TimerId::of_stored(name.as_deref()).into_owned();
            FunctionTimer { domain, time, id }
        };
        found.into_iter().map(timer).collect()
    }
}

fn push(texts: &mut String, text: &str) -> Range<u32> {
    let start = texts.len() as u32;
    texts.push_str(text);
    start..texts.len() as u32
}

fn slice<'a>(texts: &'a str, range: &Range<u32>) -> &'a str {
    &texts[range.start as usize..range.end as usize]
}

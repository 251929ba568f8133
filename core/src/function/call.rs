//! One callback: what it sees, and what it may ask for.
//!
//! What is asked for is collected and takes place once the callback has returned; if it fails,
//! nothing of it does. Timers are read as they will be then.

use super::error::{FunctionError, Result};
use super::scratch::{NewState, Scratch};
use super::timer::{
    FunctionTimer, StoredId, StoredTimers, check_name, check_namespace, push_namespaced,
};
use crate::limits::IDENTIFIER_BYTES_MAX;
use crate::op::Payload;
use crate::time::{Domain, Timestamp};

/// See the module. Borrowed by the callback; [`super::Context`] is its typed face.
pub struct Call<'a> {
    pub(super) at: CallAt<'a>,
    pub(super) timers: &'a dyn StoredTimers,
    pub(super) scratch: &'a mut Scratch,
}

/// What a callback can look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallAt<'a> {
    /// The key.
    pub(crate) key: &'a [u8],
    /// The element's timestamp, or the time of the timer.
    pub(crate) timestamp: Timestamp,
    /// Which clock the timer followed; `None`: an element it is.
    pub(crate) domain: Option<Domain>,
    /// The watermark; `None`: none yet.
    pub(crate) watermark: Option<Timestamp>,
    /// What the namespace's clock reads; `None`: a manual one that was never set.
    pub(crate) processing_time: Option<Timestamp>,
    /// The clock has come to its end: no timer of processing time can be registered any more.
    pub(crate) is_ending: bool,
    /// How far behind the watermark the namespace still takes elements.
    pub(crate) lateness_ms: i64,
    /// The key's state, if it has one.
    pub(crate) state: Option<&'a [u8]>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        at: CallAt<'a>,
        timers: &'a dyn StoredTimers,
        scratch: &'a mut Scratch,
    ) -> Self {
        Self { at, timers, scratch }
    }

    /// The same, for a shorter while.
    pub(super) fn reborrow(&mut self) -> Call<'_> {
        Call { at: self.at, timers: self.timers, scratch: self.scratch }
    }

    /// The key whose callback it is.
    pub fn key(&self) -> &'a [u8] {
        self.at.key
    }

    /// The element's timestamp, or the time of the timer that fires.
    pub fn timestamp(&self) -> Timestamp {
        self.at.timestamp
    }

    /// Which clock the timer followed that fires; `None` for an element.
    pub fn domain(&self) -> Option<Domain> {
        self.at.domain
    }

    /// The watermark: while timers fire, the one that made them due. `None`: none yet.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.at.watermark
    }

    /// How far behind the watermark elements of the namespace still come; those further behind, or just so
    /// far, are late.
    pub(crate) fn lateness_ms(&self) -> i64 {
        self.at.lateness_ms
    }

    /// What the namespace's clock reads: when the element came in, or the time that made the timer
    /// due. It is the same on replay. `None`: a manual clock that was never set.
    pub fn processing_time(&self) -> Option<Timestamp> {
        self.at.processing_time
    }

    /// Whether the namespace is closed and its clock has come to its end: no timer of processing time
    /// that is registered will ever be due.
    pub fn is_ending(&self) -> bool {
        self.at.is_ending
    }

    /// Whether the clock makes nothing due of the key for the time being, whatever it reads: in a pause,
    /// and behind a timer that a restart holds back.
    pub(crate) fn is_clock_still(&self) -> bool {
        self.timers.is_clock_still()
    }

    /// The key's state, as this callback would leave it by now; `None`: it has none.
    pub fn state(&self) -> Option<&[u8]> {
        match self.scratch.new_state() {
            NewState::Keep => self.at.state,
            NewState::Set(bytes) => Some(bytes),
            NewState::Clear => None,
        }
    }

    /// The key's state as the callback met it, whatever it has done since.
    pub fn stored_state(&self) -> Option<&'a [u8]> {
        self.at.state
    }

    /// Replaces the key's state.
    pub fn set_state(&mut self, state: &[u8]) {
        self.write_state(|mut buffer| {
            buffer.extend_from_slice(state);
            Ok(buffer)
        });
    }

    /// Replaces the key's state by what `write` appends to an empty buffer; what does not change it
    /// costs nothing.
    pub fn write_state(&mut self, write: impl FnOnce(Vec<u8>) -> Result<Vec<u8>>) {
        self.scratch.write_state(write);
        if let (NewState::Set(new), Some(stored)) = (self.scratch.new_state(), self.at.state)
            && new == stored
        {
            self.scratch.keep_state();
        }
    }

    /// Takes the key's state away. A key with neither state nor timers costs nothing.
    pub fn clear_state(&mut self) {
        if self.at.state.is_some() {
            self.scratch.clear_state();
        } else {
            self.scratch.keep_state();
        }
    }

    /// The key's timers.
    pub fn timers(&mut self) -> Timers<'_> {
        Timers { stored: self.timers, scratch: self.scratch }
    }

    /// Emits a value to the main output, or to the side output of this tag. It has the element's
    /// timestamp, or that of the timer; but to the main output, one of processing time has none.
    pub fn emit(&mut self, tag: Option<&str>, value: Payload<'_>) {
        self.emit_at(tag, self.output_timestamp(tag), value);
    }

    /// Emits a value with a timestamp of its own, or without one.
    pub fn emit_at(&mut self, tag: Option<&str>, timestamp: Option<Timestamp>, value: Payload<'_>) {
        let is_binary = matches!(value, Payload::Binary(_));
        self.emit_with(tag, timestamp, is_binary, |out| {
            out.extend_from_slice(value.bytes());
            Ok(())
        });
    }

    /// Emits the JSON text that `write` appends.
    pub fn emit_json(
        &mut self,
        tag: Option<&str>,
        timestamp: Option<Timestamp>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) {
        self.emit_with(tag, timestamp, false, write);
    }

    fn emit_with(
        &mut self,
        tag: Option<&str>,
        timestamp: Option<Timestamp>,
        is_binary: bool,
        write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) {
        if let Some(tag) = tag
            && !(1..=IDENTIFIER_BYTES_MAX).contains(&tag.len())
        {
            let (actual, limit) = (tag.len(), IDENTIFIER_BYTES_MAX);
            self.fail(FunctionError::new(format!(
                "the tag of a side output has {actual} bytes, allowed are 1 to {limit}"
            )));
        }
        self.scratch.emit(tag, timestamp, is_binary, write);
    }

    /// The timestamp that a value has unless it is given one.
    pub fn output_timestamp(&self, tag: Option<&str>) -> Option<Timestamp> {
        let has_none = tag.is_none() && self.at.domain == Some(Domain::Processing);
        (!has_none).then_some(self.at.timestamp)
    }

    /// The element has come too late for what the operator does with it: it is counted, and goes
    /// where the namespace wants late elements. For operators that judge that themselves.
    pub fn refuse_late(&mut self) {
        self.scratch.set_late();
    }

    /// The callback has done a piece of its work, and the timer that it registers, which is due, is for
    /// the rest. It fires at once, at the final watermark too, and does not count as one of a loop. For
    /// operators alone whose work has an end.
    pub(crate) fn go_on_at_once(&mut self) {
        self.scratch.set_goes_on();
    }

    /// The callback has failed, whatever it returns: nothing of what it asked for takes place.
    pub fn fail(&mut self, failure: FunctionError) {
        self.scratch.fail(failure);
    }
}

/// The timers of the key whose callback runs: both domains, as they will be once it has returned.
///
/// Registering one at or below the watermark (or the clock) lets it fire right after the callback,
/// unless the namespace says otherwise. What cannot be registered makes the callback fail.
pub struct Timers<'a> {
    stored: &'a dyn StoredTimers,
    scratch: &'a mut Scratch,
}

impl<'a> Timers<'a> {
    /// Registers an event-time timer, due when the watermark reaches `time`. A second one of the
    /// same time changes nothing.
    pub fn register_event_time(&mut self, time: Timestamp) {
        self.register(Domain::Event, time);
    }

    /// Registers a processing-time timer, due when the clock reaches `time`. A second one of the
    /// same time changes nothing.
    pub fn register_processing_time(&mut self, time: Timestamp) {
        self.register(Domain::Processing, time);
    }

    /// Registers a timer of a domain.
    pub fn register(&mut self, domain: Domain, time: Timestamp) {
        self.scratch.register(domain, time, None::<fn(&mut String)>);
    }

    /// Deletes the event-time timer of this time; none is no error.
    pub fn delete_event_time(&mut self, time: Timestamp) {
        self.delete(Domain::Event, time);
    }

    /// Deletes the processing-time timer of this time; none is no error.
    pub fn delete_processing_time(&mut self, time: Timestamp) {
        self.delete(Domain::Processing, time);
    }

    /// Deletes the timer of a domain and time; none is no error.
    pub fn delete(&mut self, domain: Domain, time: Timestamp) {
        self.scratch.delete(domain, StoredId::Time(time));
    }

    /// Whether there is a timer without a name of this domain and time.
    pub fn contains(&self, domain: Domain, time: Timestamp) -> bool {
        self.scratch.find(self.stored, domain, StoredId::Time(time)).is_some()
    }

    /// Deletes all timers of the key: of both domains, with names or without.
    pub fn delete_all(&mut self) {
        self.scratch.delete_all();
    }

    /// All timers of the key, in the order (domain, time, name).
    pub fn list(&self) -> Vec<FunctionTimer> {
        self.scratch.list(self.stored)
    }

    /// How many timers the key has.
    pub fn count(&self) -> usize {
        self.scratch.count(self.stored)
    }

    /// The timers of this name, one in each domain: registering one replaces it.
    pub fn named<'n>(self, name: &'n str) -> NamedTimer<'n>
    where
        'a: 'n,
    {
        if let Err(failure) = check_name(name) {
            self.scratch.fail(failure);
        }
        NamedTimer { name, stored: self.stored, scratch: self.scratch }
    }

    /// The timers of a namespace, told apart by their time as those without one are. A window, for
    /// one, is the namespace of its timers.
    pub fn in_namespace<'n, N: AsRef<[u8]> + ?Sized>(self, namespace: &'n N) -> NamespaceTimers<'n>
    where
        'a: 'n,
    {
        let namespace = namespace.as_ref();
        if let Err(failure) = check_namespace(namespace) {
            self.scratch.fail(failure);
        }
        NamespaceTimers { namespace, stored: self.stored, scratch: self.scratch }
    }
}

/// The timers of one name: at most one in each domain.
pub struct NamedTimer<'a> {
    name: &'a str,
    stored: &'a dyn StoredTimers,
    scratch: &'a mut Scratch,
}

impl NamedTimer<'_> {
    /// Registers the event-time timer of this name, in place of the one that is there.
    pub fn register_event_time(&mut self, time: Timestamp) {
        self.register(Domain::Event, time);
    }

    /// Registers the processing-time timer of this name, in place of the one that is there.
    pub fn register_processing_time(&mut self, time: Timestamp) {
        self.register(Domain::Processing, time);
    }

    /// Registers the timer of this name in a domain, in place of the one that is there.
    pub fn register(&mut self, domain: Domain, time: Timestamp) {
        self.scratch.register(domain, time, Some(|out: &mut String| out.push_str(self.name)));
    }

    /// Deletes the event-time timer of this name; none is no error.
    pub fn delete_event_time(&mut self) {
        self.delete(Domain::Event);
    }

    /// Deletes the processing-time timer of this name; none is no error.
    pub fn delete_processing_time(&mut self) {
        self.delete(Domain::Processing);
    }

    /// Deletes the timer of this name in a domain; none is no error.
    pub fn delete(&mut self, domain: Domain) {
        self.scratch.delete(domain, StoredId::Name(self.name));
    }

    /// When the timer of this name in a domain is due; `None`: there is none.
    pub fn time(&self, domain: Domain) -> Option<Timestamp> {
        self.scratch.find(self.stored, domain, StoredId::Name(self.name))
    }
}

/// The timers of one namespace.
pub struct NamespaceTimers<'a> {
    namespace: &'a [u8],
    stored: &'a dyn StoredTimers,
    scratch: &'a mut Scratch,
}

impl NamespaceTimers<'_> {
    /// Registers an event-time timer; a second one of the same time changes nothing.
    pub fn register_event_time(&mut self, time: Timestamp) {
        self.register(Domain::Event, time);
    }

    /// Registers a processing-time timer; a second one of the same time changes nothing.
    pub fn register_processing_time(&mut self, time: Timestamp) {
        self.register(Domain::Processing, time);
    }

    /// Registers a timer of a domain.
    pub fn register(&mut self, domain: Domain, time: Timestamp) {
        let write = |out: &mut String| push_namespaced(out, self.namespace, time);
        self.scratch.register(domain, time, Some(write));
    }

    /// Deletes the event-time timer of this time; none is no error.
    pub fn delete_event_time(&mut self, time: Timestamp) {
        self.delete(Domain::Event, time);
    }

    /// Deletes the processing-time timer of this time; none is no error.
    pub fn delete_processing_time(&mut self, time: Timestamp) {
        self.delete(Domain::Processing, time);
    }

    /// Deletes the timer of a domain and time; none is no error.
    pub fn delete(&mut self, domain: Domain, time: Timestamp) {
        let name = self.stored_name(time);
        self.scratch.delete(domain, StoredId::Name(&name));
    }

    /// Whether there is a timer of this domain and time.
    pub fn contains(&self, domain: Domain, time: Timestamp) -> bool {
        let name = self.stored_name(time);
        self.scratch.find(self.stored, domain, StoredId::Name(&name)).is_some()
    }

    /// The timers of the namespace, in the order (domain, time).
    pub fn list(&self) -> Vec<FunctionTimer> {
        let mut timers = self.scratch.list(self.stored);
        timers.retain(|timer| timer.id.namespace() == Some(self.namespace));
        timers
    }

    /// Deletes all timers of the namespace.
    pub fn delete_all(&mut self) {
        for timer in self.list() {
            self.delete(timer.domain, timer.time);
        }
    }

    fn stored_name(&self, time: Timestamp) -> String {
        let mut name = String::new();
        push_namespaced(&mut name, self.namespace, time);
        name
    }
}

//! A host for operators in tests: keys with their timers and states in ordered maps, and no more of
//! an engine than it takes to call them. What the real one does beyond that has its own tests.

use super::{
    CallAt, Element, Instance, NewState, Operator, Result, Scratch, StoredId, StoredTimers,
    TimerChange, TimerFired, TimerId, on_timer, process_element,
};
use crate::op::Payload;
use crate::time::{Domain, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
pub(crate) struct Host {
    instance: Instance,
    keys: BTreeMap<Vec<u8>, HostKey>,
    watermark: Option<Timestamp>,
    now: Option<Timestamp>,
    outputs: Vec<HostOutput>,
    /// Event timers that are due wait for the next watermark, save in its own advance.
    pub(crate) late_timers_wait: bool,
    /// What its namespace would allow elements to be late.
    pub(crate) lateness_ms: i64,
    late: u64,
    failed: u64,
    scratch: Scratch,
}

type HostTimer = (Domain, Timestamp, Option<String>);

#[derive(Default)]
struct HostKey {
    state: Option<Vec<u8>>,
    timers: BTreeSet<HostTimer>,
}

impl HostKey {
    fn earliest(&self, domain: Domain) -> Option<&HostTimer> {
        self.timers.iter().find(|timer| timer.0 == domain)
    }
}

/// What was emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostOutput {
    pub(crate) key: String,
    pub(crate) tag: Option<String>,
    pub(crate) timestamp: Option<i64>,
    /// JSON.
    pub(crate) value: String,
}

impl StoredTimers for HostKey {
    fn find(&self, domain: Domain, id: StoredId<'_>) -> Option<Timestamp> {
        let is_it = |it: &&HostTimer| it.0 == domain && StoredId::of(it.1, it.2.as_deref()) == id;
        self.timers.iter().find(is_it).map(|it| it.1)
    }

    fn for_each(&self, domain: Domain, each: &mut dyn FnMut(Timestamp, Option<&str>)) {
        for (_, time, name) in self.timers.iter().filter(|it| it.0 == domain) {
            each(*time, name.as_deref());
        }
    }

    fn count(&self) -> usize {
        self.timers.len()
    }
}

impl Host {
    /// A host of one operator, before any watermark, its clock at 0.
    pub(crate) fn new(operator: Box<dyn Operator>) -> Self {
        Self {
            instance: Instance::of(operator),
            keys: BTreeMap::new(),
            watermark: None,
            now: Some(Timestamp::from_millis(0)),
            outputs: Vec::new(),
            late_timers_wait: false,
            lateness_ms: 0,
            late: 0,
            failed: 0,
            scratch: Scratch::default(),
        }
    }

    /// Lets the operator process an element, a JSON text, and fires what is due by it.
    pub(crate) fn element(&mut self, key: &str, timestamp: i64, value: &str) -> Result<()> {
        self.element_on(0, key, timestamp, value)
    }

    /// The same, on one of several inputs.
    pub(crate) fn element_on(
        &mut self,
        input: u8,
        key: &str,
        timestamp: i64,
        value: &str,
    ) -> Result<()> {
        let timestamp = Timestamp::from_millis(timestamp);
        let value = Payload::Json(value.as_bytes());
        let element = Element { timestamp, input, value };
        let it = self.keys.entry(key.as_bytes().to_vec()).or_default();
        let (watermark, processing_time) = (self.watermark, self.now);
        let (key, state) = (key.as_bytes(), it.state.as_deref());
        let at = CallAt {
            key,
            timestamp,
            domain: None,
            watermark,
            processing_time,
            is_ending: false,
            lateness_ms: self.lateness_ms,
            state,
        };
        let outcome = process_element(&mut self.instance, at, it, &mut self.scratch, element);
        self.apply(key);
        self.fire_key(key, None);
        outcome
    }

    /// What is kept for a key from now on, as it is written down.
    pub(crate) fn keep(&mut self, key: &str, state: &[u8]) {
        self.keys.entry(key.as_bytes().to_vec()).or_default().state = Some(state.to_vec());
    }

    /// Moves the watermark and fires what is due.
    pub(crate) fn advance_watermark(&mut self, to: i64) {
        self.watermark = Some(Timestamp::from_millis(to));
        self.advance(Domain::Event);
    }

    /// Moves the clock and fires what is due.
    pub(crate) fn advance_clock(&mut self, to: i64) {
        self.now = Some(Timestamp::from_millis(to));
        self.advance(Domain::Processing);
    }

    /// What was emitted since the last call.
    pub(crate) fn take_outputs(&mut self) -> Vec<HostOutput> {
        std::mem::take(&mut self.outputs)
    }

    /// Elements that the operator found late.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    /// Timers at which the operator has failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// The state of a key.
    pub(crate) fn state(&self, key: &str) -> Option<&[u8]> {
        self.keys.get(key.as_bytes())?.state.as_deref()
    }

    /// When the timers of a key are due, with the names that they are stored under.
    pub(crate) fn timers(&self, key: &str) -> Vec<(Domain, i64, Option<String>)> {
        let timers = self.keys.get(key.as_bytes()).into_iter().flat_map(|it| &it.timers);
        timers.map(|(domain, time, name)| (*domain, time.as_millis(), name.clone())).collect()
    }

    /// Keys that hold something.
    pub(crate) fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Fires what is due in a domain, over all keys in the order of time; after each timer, what its
    /// key has due in the other one.
    fn advance(&mut self, domain: Domain) {
        loop {
            let due = self.due(domain);
            let all = self.keys.iter().filter_map(|(key, it)| Some((it.earliest(domain)?, key)));
            let first = all.filter(|(timer, _)| Some(timer.1) <= due).min();
            let Some((_, key)) = first else { return };
            let key = key.clone();
            self.fire_one(&key, domain);
            self.fire_key(&key, Some(domain));
        }
    }

    fn due(&self, domain: Domain) -> Option<Timestamp> {
        if domain == Domain::Event { self.watermark } else { self.now }
    }

    /// Fires what is due of a key, save in the domain `but`.
    fn fire_key(&mut self, key: &[u8], but: Option<Domain>) {
        let is_due = |host: &Self, domain: Domain| {
            let earliest = host.keys.get(key).and_then(|it| it.earliest(domain));
            earliest.is_some_and(|(_, time, _)| Some(*time) <= host.due(domain))
        };
        let waits = |domain| self.late_timers_wait && domain == Domain::Event;
        let wanted = Domain::ALL.map(|domain| Some(domain) != but && !waits(domain));
        let domains = || Domain::ALL.into_iter().filter(|domain| wanted[*domain as usize]);
        while let Some(domain) = domains().find(|domain| is_due(self, *domain)) {
            self.fire_one(key, domain);
        }
    }

    fn fire_one(&mut self, key: &[u8], domain: Domain) {
        let Some(it) = self.keys.get_mut(key) else { return };
        let Some(timer) = it.earliest(domain).cloned() else { return };
        it.timers.remove(&timer);
        let (_, time, name) = &timer;
        let at = CallAt {
            key,
            timestamp: *time,
            domain: Some(domain),
            watermark: self.watermark,
            processing_time: self.now,
            is_ending: false,
            lateness_ms: self.lateness_ms,
            state: it.state.as_deref(),
        };
        let id = TimerId::of_stored(name.as_deref());
        let fired = TimerFired { domain, time: *time, id };
        if on_timer(&mut self.instance, at, it, &mut self.scratch, fired).is_err() {
            self.failed += 1;
        }
        self.apply(key);
    }

    fn apply(&mut self, key: &[u8]) {
        let it = self.keys.get_mut(key).expect("it was just called");
        let scratch = &self.scratch;
        for index in 0..scratch.changes_count() {
            match scratch.change(index) {
                TimerChange::Register { domain, time, name } => {
                    if name.is_some() {
                        it.timers.retain(|timer| timer.0 != domain || timer.2.as_deref() != name);
                    }
                    it.timers.insert((domain, time, name.map(str::to_owned)));
                }
                TimerChange::Delete { domain, id } => it.timers.retain(|timer| {
                    timer.0 != domain || StoredId::of(timer.1, timer.2.as_deref()) != id
                }),
                TimerChange::DeleteAll => it.timers.clear(),
            }
        }
        match scratch.new_state() {
            NewState::Keep => {}
            NewState::Set(state) => it.state = Some(state.to_vec()),
            NewState::Clear => it.state = None,
        }
        self.late += u64::from(scratch.is_late());
        self.outputs.extend(scratch.outputs().map(|output| HostOutput {
            key: String::from_utf8_lossy(key).into_owned(),
            tag: output.tag.map(str::to_owned),
            timestamp: output.timestamp.map(Timestamp::as_millis),
            value: String::from_utf8_lossy(output.value.bytes()).into_owned(),
        }));
        if it.state.is_none() && it.timers.is_empty() {
            self.keys.remove(key);
        }
    }
}

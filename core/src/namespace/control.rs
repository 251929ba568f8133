//! The control state machine: what belongs to a namespace as a whole and to no partition.
//!
//! Every namespace has one, in the lane that its name hashes to (its home). Commands are records
//! there; what a command changes goes out to all lanes as *steps*, numbered for each incarnation, so
//! that a lane can tell a missing one from one sent twice. A command is answered when its last step
//! was applied in every lane, or, if it asked to settle, when everything that the step made due has
//! fired in every lane.

mod asked;
mod broadcast;
mod close;
mod pause;
mod state;
mod steps;

pub(crate) use asked::Asked;
use asked::is_zero;
pub(crate) use broadcast::{BroadcastProducers, BroadcastStep};
pub(crate) use close::Close;
pub(crate) use pause::Pause;
pub(crate) use state::{ControlState, ControlsState};
use steps::{InFlight, Publish, Waiting};

use super::command::{ClockChange, Command, CommandReply, NamespaceStatus, SourceChange};
use super::config::{ClockKind, NamespaceConfig};
use super::stop::Stop;
use crate::error::Rejection;
use crate::limits::SOURCES_MAX;
use crate::output::{Cursor, NamespaceId};
use crate::time::Timestamp;
use crate::watermark::Sources;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The namespace that is always there.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What a step changes in a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// The namespace is there, configured so.
    Configure(Arc<NamespaceConfig>),
    /// The combined watermark has come so far.
    Watermark(Timestamp),
    /// The manual clock has come so far.
    Clock(Timestamp),
    /// Time stands still until it is resumed.
    Pause,
    /// The same, and nothing is taken in: the function has failed for good, on some lane.
    Stop(Arc<Stop>),
    /// Time goes on. What fell due between these times, in which nothing could fire, follows the
    /// policy; `None`: nothing did.
    Resume { lost: Option<(Timestamp, Timestamp)> },
    /// No more operations are taken. It is settled once no timer is left, whenever that is.
    Close,
    /// The clock has come to its end: all processing timers fire.
    Drain,
    /// The clock has come to its end: all processing timers are cancelled.
    Discard,
    /// An element for all keys has come.
    Broadcast(BroadcastStep),
    /// The namespace is gone.
    Remove,
}

/// What is written down in a namespace's home lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlRecord {
    /// Somebody asked for this.
    Command(Box<Asked>),
    /// Time has passed: sources that were silent for too long are idle.
    IdleSilent,
    /// Nobody could be heard before this time: silence counts from there.
    Restarted { at: Timestamp },
    /// A lane says that a namespace has stopped there.
    Stopped(StopReport),
}

/// A namespace has stopped on some lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopReport {
    pub(crate) namespace: NamespaceId,
    /// The control records that the lane had applied by then.
    pub(crate) applied_number: u64,
    pub(crate) stop: Arc<Stop>,
}

/// A numbered control record on its way to all lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) namespace: NamespaceId,
    pub(crate) number: u64,
    pub(crate) change: Change,
}

/// A step was applied in a lane, or everything that it made due there has fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepDone {
    pub(crate) namespace: NamespaceId,
    pub(crate) number: u64,
    pub(crate) is_settled: bool,
    /// Timers that fired of it, or that went with a namespace; keys that a broadcast has visited.
    pub(crate) timers: u64,
    /// The function has failed at it.
    pub(crate) is_failed: bool,
}

impl StepDone {
    /// It was applied.
    pub(crate) fn applied(namespace: NamespaceId, number: u64) -> Self {
        Self { namespace, number, is_settled: false, timers: 0, is_failed: false }
    }

    /// Everything that it made due has fired: so many timers.
    pub(crate) fn settled(namespace: NamespaceId, number: u64, timers: u64) -> Self {
        Self { is_settled: true, timers, ..Self::applied(namespace, number) }
    }
}

/// Whom to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// What the outside has to do after a command or an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ControlEffect {
    /// Send this step to every lane.
    Send(Step),
    /// Answer this.
    Answer(Ticket, Result<CommandReply, Rejection>),
    /// The namespace can be used: it is configured in every lane.
    Publish {
        id: NamespaceId,
        name: Arc<str>,
        config: Arc<NamespaceConfig>,
        version: u64,
        /// No output of it stands at or below this cursor, if that is known.
        born: Option<Cursor>,
    },
    /// Nothing more will ever come of the namespace of this incarnation.
    Finish { id: NamespaceId },
    /// The namespace of this name and incarnation is gone.
    Withdraw { id: NamespaceId, name: Arc<str> },
}

/// The control state machines that are at home in one lane.
#[derive(Debug)]
pub(crate) struct Controls {
    lane: u16,
    lanes: u16,
    incarnations: u64,
    by_name: BTreeMap<Arc<str>, Control>,
    in_flight: BTreeMap<(NamespaceId, u64), InFlight>,
    /// When a source of a namespace will have been silent for too long.
    idle_agenda: BTreeSet<(Timestamp, Arc<str>)>,
    /// When the service last came back, as far as that was looked at.
    heard_from: Timestamp,
    /// Namespaces that have stopped.
    stopped: BTreeSet<NamespaceId>,
}

#[derive(Debug)]
struct Control {
    id: NamespaceId,
    config: Arc<NamespaceConfig>,
    version: u64,
    steps: u64,
    sources: Sources,
    manual_now: Option<Timestamp>,
    paused: Option<Pause>,
    closed: Option<Close>,
    /// Nothing more can come of it.
    is_finished: bool,
    /// The step that has resumed it last: what a lane had to say before is over.
    resumed: u64,
    broadcasters: BroadcastProducers,
    /// The newest output of all when it was asked for: its own are newer.
    born: Option<Cursor>,
    /// Where it stands on the idle agenda.
    idle_at: Option<Timestamp>,
}

impl Controls {
    /// No namespaces yet.
    pub(crate) fn new(lane: u16, lanes: u16) -> Self {
        let (by_name, in_flight) = (BTreeMap::new(), BTreeMap::new());
        let idle_agenda = BTreeSet::new();
        let (heard_from, stopped) = (Timestamp::MIN, BTreeSet::new());
        Self { lane, lanes, incarnations: 0, by_name, in_flight, idle_agenda, heard_from, stopped }
    }

    /// Whether a step is on its way that not every lane has settled, as lanes do by themselves.
    pub(crate) fn is_step_in_flight(&self) -> bool {
        self.in_flight.values().any(|step| !step.is_waiting_for_the_end(self.lanes))
    }

    /// Whether a namespace of this name is here.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The configurations of all namespaces.
    pub(crate) fn configs(&self) -> impl Iterator<Item = &NamespaceConfig> {
        self.by_name.values().map(|control| &*control.config)
    }

    /// What the namespace's control knows of its state.
    pub(crate) fn status(&self, name: &str) -> Option<NamespaceStatus> {
        let control = self.by_name.get(name)?;
        Some(NamespaceStatus {
            watermark: control.sources.combined(),
            sources: control.sources.status(),
            now: control.manual_now,
            paused: control.paused.is_some(),
            closing: control.closing(),
            stopped: control.paused.as_ref().and_then(|pause| pause.stop.clone()),
            ..NamespaceStatus::default()
        })
    }

    /// Carries a command out.
    pub(crate) fn command(
        &mut self,
        ticket: Ticket,
        asked: &Asked,
        now: Timestamp,
        effects: &mut Vec<ControlEffect>,
    ) {
        let Asked { name, command, settle, pending, keys, cursor, keeps_options } = asked;
        let (settle, born) = (*settle, cursor.map(Cursor));
        // A command that changes nothing may repeat one that is still under way: what it answers
        // has to be true already.
        let settles =
            settle || matches!(command, Command::Clock(_) | Command::Pause | Command::Resume);
        let done = match command {
            Command::Put { config, expected_version } => {
                let holds_some = *pending > 0 || *keys > 0;
                let fixed = holds_some.then_some(*keeps_options);
                self.put(ticket, name, config, *expected_version, fixed, born, now, effects)
            }
            Command::Delete { force } => {
                let held = if *force { [0, 0] } else { [*pending, *keys] };
                self.delete(ticket, name, held, born, now, effects)
            }
            Command::Source { source, change } => {
                self.source(ticket, name, source, *change, settle, now, effects)
            }
            Command::Clock(change) => self.clock(ticket, name, *change, effects),
            Command::Pause => self.pause(ticket, name, now, effects),
            Command::Resume => self.resume(ticket, name, now, effects),
            Command::Close(timers) => self.close(ticket, name, *timers, effects),
            Command::Broadcast(it) => self.broadcast(ticket, name, it, settle, now, effects),
        };
        self.list_idle(name);
        match done {
            Ok(None) => {}
            Ok(Some(reply)) => self.answer_behind(name, ticket, settles, reply, effects),
            Err(rejection) => effects.push(ControlEffect::Answer(ticket, Err(rejection))),
        }
    }

    fn control(&mut self, name: &str) -> Result<&mut Control, Rejection> {
        self.by_name.get_mut(name).ok_or(Rejection::NamespaceUnknown)
    }

    /// `fixed`: there are keys; and whether the options cannot change while there are.
    #[allow(clippy::too_many_arguments, reason = "a command with what surrounds it")]
    fn put(
        &mut self,
        ticket: Ticket,
        name: &str,
        config: &NamespaceConfig,
        expected_version: Option<u64>,
        fixed: Option<bool>,
        born: Option<Cursor>,
        now: Timestamp,
        effects: &mut Vec<ControlEffect>,
    ) -> Result<Option<CommandReply>, Rejection> {
        config.validate()?;
        let Some(control) = self.by_name.get_mut(name) else {
            if expected_version.is_some() {
                return Err(Rejection::NamespaceUnknown);
            }
            let reply = CommandReply::Configured { created: true, version: 1 };
            self.create(name, config, born, now, Some((ticket, reply)), effects);
            return Ok(None);
        };
        if expected_version.is_some_and(|expected| expected != control.version) {
            return Err(Rejection::VersionConflict);
        }
        if let Some(keeps_options) = fixed {
            for (field, differs) in [
                ("operator", control.config.operator != config.operator),
                ("options", keeps_options && !control.config.has_options_of(config)),
                ("clock", control.config.clock != config.clock),
            ] {
                if differs {
                    return Err(Rejection::OptionFixed { field });
                }
            }
        }
        if *control.config == *config {
            let version = control.version;
            return Ok(Some(CommandReply::Configured { created: false, version }));
        }
        if control.config.clock != config.clock {
            control.manual_now = None;
            control.restart_pause(now);
        }
        control.version += 1;
        control.config = Arc::new(config.clone());
        let version = control.version;
        let moved = control.sources.list(&config.watermark.sources, now);
        let (id, config) = (control.id, Arc::clone(&control.config));
        let reply = CommandReply::Configured { created: false, version };
        let publish = Publish { name: name.into(), config: Arc::clone(&config), version };
        let control = self.control(name)?;
        let number = control.next_step();
        let watermark = moved.and_then(|watermark| control.watermark_step(watermark));
        let waiting = Waiting::new(ticket, false, reply);
        self.send(id, number, Change::Configure(config), Some(publish), Some(waiting), effects);
        if let Some((number, watermark)) = watermark {
            self.send(id, number, Change::Watermark(watermark), None, None, effects);
        }
        Ok(None)
    }

    fn create(
        &mut self,
        name: &str,
        config: &NamespaceConfig,
        born: Option<Cursor>,
        now: Timestamp,
        reply: Option<(Ticket, CommandReply)>,
        effects: &mut Vec<ControlEffect>,
    ) {
        self.incarnations += 1;
        let id = NamespaceId(self.incarnations * self.lanes as u64 + self.lane as u64);
        let mut sources = Sources::default();
        sources.list(&config.watermark.sources, now);
        let config = Arc::new(config.clone());
        let control = Control {
            id,
            config: Arc::clone(&config),
            version: 1,
            steps: 1,
            sources,
            manual_now: None,
            paused: None,
            closed: None,
            is_finished: false,
            resumed: 0,
            broadcasters: BroadcastProducers::default(),
            born,
            idle_at: None,
        };
        let name: Arc<str> = name.into();
        self.by_name.insert(Arc::clone(&name), control);
        let publish = Publish { name, config: Arc::clone(&config), version: 1 };
        let waiting = reply.map(|(ticket, reply)| Waiting::new(ticket, false, reply));
        self.send(id, 1, Change::Configure(config), Some(publish), waiting, effects);
    }

    /// `held`: the timers and keys that are in the way.
    fn delete(
        &mut self,
        ticket: Ticket,
        name: &str,
        [timers, keys]: [u64; 2],
        born: Option<Cursor>,
        now: Timestamp,
        effects: &mut Vec<ControlEffect>,
    ) -> Result<Option<CommandReply>, Rejection> {
        let control = self.control(name)?;
        if timers > 0 {
            return Err(Rejection::NamespaceNotEmpty { timers });
        }
        if keys > 0 {
            return Err(Rejection::NamespaceHasState { keys });
        }
        let (id, number) = (control.id, control.next_step());
        let config = Arc::clone(&control.config);
        let removed = self.by_name.remove_entry(name);
        self.stopped.remove(&id);
        if let Some((name, control)) = removed {
            if let Some(idle_at) = control.idle_at {
                self.idle_agenda.remove(&(idle_at, Arc::clone(&name)));
            }
            effects.push(ControlEffect::Withdraw { id, name });
        }
        // A configuration that is still on its way comes too late to be published.
        for (_, step) in self.in_flight.range_mut((id, 0)..=(id, u64::MAX)) {
            step.publish = None;
        }
        let reply = CommandReply::Deleted { timers: 0 };
        let waiting = Waiting::new(ticket, true, reply);
        self.send(id, number, Change::Remove, None, Some(waiting), effects);
        if name == DEFAULT_NAMESPACE {
            // There is always one of this name: it is emptied by beginning a new life.
            self.create(name, &config, born, now, None, effects);
        }
        Ok(None)
    }

    #[allow(clippy::too_many_arguments, reason = "a command with what surrounds it")]
    fn source(
        &mut self,
        ticket: Ticket,
        name: &str,
        source: &str,
        change: SourceChange,
        settle: bool,
        now: Timestamp,
        effects: &mut Vec<ControlEffect>,
    ) -> Result<Option<CommandReply>, Rejection> {
        let control = self.control(name)?;
        control.check_open()?;
        if !control.sources.contains(source) {
            if change == SourceChange::Forget {
                return Err(Rejection::SourceUnknown);
            }
            if control.sources.len() >= SOURCES_MAX {
                return Err(Rejection::SourcesExceeded { limit: SOURCES_MAX });
            }
        }
        let (result, moved) = control.sources.change(source, change, now);
        let watermark = control.sources.combined();
        let reply = CommandReply::Source { result, watermark, fired: 0 };
        if change == SourceChange::Forget {
            self.delist(name, source, effects);
        }
        let Some(moved) = moved else {
            return Ok(Some(reply));
        };
        let control = self.control(name)?;
        let id = control.id;
        let Some((number, moved)) = control.watermark_step(moved) else {
            return Ok(Some(reply));
        };
        let waiting = Waiting::new(ticket, settle, reply);
        self.send(id, number, Change::Watermark(moved), None, Some(waiting), effects);
        Ok(None)
    }

    /// Takes a source that is forgotten off the configuration's list: the next change of the
    /// configuration would bring it back, to hold time until it reports.
    fn delist(&mut self, name: &str, source: &str, effects: &mut Vec<ControlEffect>) {
        let Some(control) = self.by_name.get_mut(name) else {
            return;
        };
        if !control.config.watermark.sources.iter().any(|listed| listed == source) {
            return;
        }
        let mut config = NamespaceConfig::clone(&control.config);
        config.watermark.sources.retain(|listed| listed != source);
        control.version += 1;
        control.config = Arc::new(config);
        let (id, number, version) = (control.id, control.next_step(), control.version);
        let config = Arc::clone(&control.config);
        let publish = Publish { name: name.into(), config: Arc::clone(&config), version };
        self.send(id, number, Change::Configure(config), Some(publish), None, effects);
    }

    fn clock(
        &mut self,
        ticket: Ticket,
        name: &str,
        change: ClockChange,
        effects: &mut Vec<ControlEffect>,
    ) -> Result<Option<CommandReply>, Rejection> {
        let control = self.control(name)?;
        if control.config.clock != ClockKind::Manual {
            return Err(Rejection::ClockNotManual);
        }
        control.check_clock()?;
        let to = match change {
            ClockChange::Set(to) => to,
            ClockChange::Advance(millis) => {
                if millis < 0 {
                    return Err(Rejection::DurationNegative { field: "advance" });
                }
                let now = control.manual_now.ok_or(Rejection::ClockUnset)?;
                now.checked_add(millis).ok_or(Rejection::TimeOverflow { field: "advance" })?
            }
        };
        if let Some(now) = control.manual_now
            && to <= now
        {
            return Ok(Some(CommandReply::Clock { advanced: false, now, fired: 0 }));
        }
        control.manual_now = Some(to);
        if control.paused.is_some() {
            return Ok(Some(CommandReply::Clock { advanced: true, now: to, fired: 0 }));
        }
        let (id, number) = (control.id, control.next_step());
        let reply = CommandReply::Clock { advanced: true, now: to, fired: 0 };
        let waiting = Waiting::new(ticket, true, reply);
        self.send(id, number, Change::Clock(to), None, Some(waiting), effects);
        Ok(None)
    }

    /// Whether it is not known yet that nobody could be heard before this time.
    pub(crate) fn is_deaf_until(&self, at: Timestamp) -> bool {
        self.heard_from < at
    }

    /// Nobody could be heard before this time.
    pub(crate) fn restarted(&mut self, at: Timestamp) {
        self.heard_from = at;
        for control in self.by_name.values_mut() {
            control.sources.restarted(at);
        }
        for (_, name) in self.idle_agenda.clone() {
            self.list_idle(&name);
        }
    }

    /// Marks sources idle that were silent for too long.
    pub(crate) fn idle_silent(&mut self, now: Timestamp, effects: &mut Vec<ControlEffect>) {
        while let Some((at, name)) = self.idle_agenda.first().cloned() {
            if at > now {
                return;
            }
            let mut moved = None;
            if let Some(control) = self.by_name.get_mut(&name)
                && let Some(idle_after_ms) = control.config.watermark.idle_after_ms
                && let Some(watermark) = control.sources.idle_silent(now, idle_after_ms)
            {
                let step = control.watermark_step(watermark);
                moved = step.map(|(number, watermark)| (control.id, number, watermark));
            }
            self.list_idle(&name);
            if let Some((id, number, watermark)) = moved {
                self.send(id, number, Change::Watermark(watermark), None, None, effects);
            }
        }
    }

    /// When a source will have been silent for too long.
    pub(crate) fn next_idle(&self) -> Option<Timestamp> {
        self.idle_agenda.first().map(|(at, _)| *at)
    }

    /// Puts a namespace on the idle agenda where it belongs now.
    fn list_idle(&mut self, name: &str) {
        let Some((name, control)) = self.by_name.get_key_value(name) else { return };
        let idle_after_ms = control.config.watermark.idle_after_ms;
        let idle_at = idle_after_ms.and_then(|after_ms| control.sources.next_idle(after_ms));
        let (name, before) = (Arc::clone(name), control.idle_at);
        if idle_at == before {
            return;
        }
        if let Some(before) = before {
            self.idle_agenda.remove(&(before, Arc::clone(&name)));
        }
        if let Some(control) = self.by_name.get_mut(&name) {
            control.idle_at = idle_at;
        }
        if let Some(idle_at) = idle_at {
            self.idle_agenda.insert((idle_at, name));
        }
    }
}

impl Control {
    fn next_step(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }
}

#[cfg(test)]
mod tests;

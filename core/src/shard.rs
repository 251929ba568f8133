//! One shard: the lanes that a thread owns, and one turn of work on them.
//!
//! A turn takes in what waits (a bounded piece of it), lets time pass, fires a bounded piece of what
//! is due, and hands over what came of it ([`Turn`]): blocks for the log, and the outputs, answers and
//! messages that wait for them. It is still pure: messages and the time are arguments.

mod checkpoint;
mod held;
mod intake;
mod message;
mod ops;
mod replay;
mod savepoint;
mod scan;
#[cfg(test)]
mod tests;
mod turn;

use checkpoint::{Progress, Round};
use held::HeldOps;
pub use message::{Ack, Reply};
pub(crate) use message::{
    CheckpointRequest, CommandRequest, Message, OpsPart, Read, SavepointRequest, SavepointStep,
};
use ops::UnderWay;
pub(crate) use replay::AppliedNumbers;
pub(crate) use turn::{NoMoreRoom, Release, Room, Then, Turn};

use crate::due_counts::{MinuteCounts, SecondCounts};
use crate::error::Rejection;
use crate::function::Operators;
use crate::key_group::{KeyGroup, LaneIndex, Layout, ShardIndex, xxh3_64};
use crate::lane::{HomeIndex, Lane};
use crate::limits::{CHECKPOINT_STEP_MS, EMITTED_BYTES_A_TURN, NAMESPACES_MAX, SLICE_DEFAULT};
use crate::namespace::{
    Command, CommandReply, ControlEffect, ControlRecord, Controls, NamespaceStatus, Ticket,
};
use crate::output::NamespaceId;
use crate::partition::Shared;
use crate::ports::Registry;
use crate::query::{FORECAST_STEP_MS, Forecast, ForecastQuery};
use crate::stats::Stats;
use crate::time::Timestamp;
use savepoint::Savepoint;
use scan::Scan;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How much a turn does before it looks at the clock and the queue again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Operations taken in.
    pub(crate) ops: u32,
    /// Messages taken in.
    pub(crate) messages: u32,
    /// Bytes of operations taken in.
    pub(crate) bytes: usize,
    /// Timers fired, wheel entries moved, keys scanned, of each: some hundred microseconds.
    pub(crate) budget: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { ops: 4_096, messages: 256, bytes: 4 << 20, budget: SLICE_DEFAULT }
    }
}

impl Pace {
    /// So much at a time; 0: as much as by default.
    pub(crate) fn of_slice(slice: u32) -> Self {
        let whole = Self::default();
        match slice {
            0 => whole,
            _ => Self { ops: slice, messages: slice, budget: slice, ..whole },
        }
    }
}

/// What is asked for again this soon when there is no room for it now.
const ROOM_WAIT_MS: i64 = 5;
/// When a request that was refused for a full disk makes sense again.
pub(crate) const FULL_RETRY_AFTER_MS: u64 = 1_000;

/// See the module.
pub(crate) struct Shard {
    layout: Layout,
    pace: Pace,
    first_lane: u16,
    /// For each key group of this shard: which of its lanes it belongs to.
    place_of_group: Box<[u16]>,
    lanes: Vec<Lane>,
    controls: Vec<Controls>,
    shared: Shared,
    scans: VecDeque<Scan>,
    /// Who wants to know when what is due has fired.
    asked_fired: Vec<Reply<()>>,
    answers: BTreeMap<Ticket, Reply<Result<CommandReply, Rejection>>>,
    tickets: u64,
    effects: Vec<ControlEffect>,
    registry: Arc<dyn Registry>,
    /// What this turn hands over.
    turn: Turn,
    room: Room,
    /// A message that there was no room for.
    deferred: Option<Message>,
    /// What is left of a part that was too much for one turn: no operation goes before it.
    rest: Option<UnderWay>,
    /// How far callbacks may go in emitting before this turn takes no more operations in.
    emitted_max: u64,
    /// Operations that wait for functions to be called again.
    held: HeldOps,
    round: Option<Round>,
    savepoint: Option<Box<Savepoint>>,
    /// Messages that came while a savepoint let none in.
    backlog: VecDeque<Message>,
    backlog_bytes: usize,
    /// Steps of namespaces that came while the disk had no room for them: what waits to be written
    /// would keep every read behind it waiting.
    roomless: VecDeque<Message>,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is more work: take another turn at once.
    Now,
    /// Nothing before this time, unless a message comes.
    At(Timestamp),
    /// Nothing unless a message comes.
    Never,
}

impl Next {
    fn at_the_latest(self, time: Timestamp) -> Self {
        match self {
            Self::Now => Self::Now,
            Self::At(at) => Self::At(at.min(time)),
            Self::Never => Self::At(time),
        }
    }
}

impl Shard {
    /// A shard with the lanes that the layout gives it.
    pub(crate) fn new(
        index: ShardIndex,
        layout: Layout,
        pace: Pace,
        registry: Arc<dyn Registry>,
    ) -> Self {
        let mine: Vec<LaneIndex> = layout.lanes_of(index).collect();
        let groups: Vec<KeyGroup> = (0..layout.max_parallelism()).map(KeyGroup).collect();
        let first_lane = mine.first().map_or(0, |lane| lane.0);
        let lanes = mine.iter().map(|lane| {
            let mut of_lane = groups.iter().filter(|group| layout.lane_of(**group) == *lane);
            let first = of_lane.next().map_or(0, |group| group.0);
            Lane::new(lane.0, first, of_lane.count() as u16 + 1)
        });
        Self {
            layout,
            pace,
            first_lane,
            place_of_group: groups
                .iter()
                .map(|group| layout.lane_of(*group).0.saturating_sub(first_lane))
                .collect(),
            lanes: lanes.collect(),
            controls: mine.iter().map(|lane| Controls::new(lane.0, layout.lanes())).collect(),
            shared: Shared::default(),
            scans: VecDeque::new(),
            asked_fired: Vec::new(),
            answers: BTreeMap::new(),
            tickets: 0,
            effects: Vec::new(),
            registry,
            turn: Turn::default(),
            room: Room::ENDLESS,
            deferred: None,
            rest: None,
            emitted_max: 0,
            held: HeldOps::default(),
            round: None,
            savepoint: None,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            roomless: VecDeque::new(),
        }
    }

    /// The same, with functions that namespaces can run.
    #[must_use]
    pub(crate) fn with_operators(mut self, operators: Operators) -> Self {
        self.shared.operators = operators;
        self
    }

    /// Takes one turn. `inbox` gives out what waits; with `is_held` no processing time passes.
    /// Returns what is to be committed of it, and what is to be done next.
    pub(crate) fn turn(
        &mut self,
        now: Timestamp,
        is_held: bool,
        room: Room,
        inbox: &mut dyn FnMut() -> Option<Message>,
    ) -> (Turn, Next) {
        self.shared.near.advance(now);
        self.room = room;
        self.emitted_max = self.shared.scratch.emitted_bytes() + EMITTED_BYTES_A_TURN;
        let is_inbox_empty = self.take_in(now, inbox);
        let is_held = is_held || self.is_time_held();
        let mut budget = self.pace.budget;
        let may_tick = self.room.log_bytes >= room.reserve_bytes / 2;
        if !is_held && may_tick {
            for lane in &mut self.lanes {
                lane.look(&mut self.shared, now, &mut budget);
            }
            for lane in &self.lanes {
                lane.look_further(&self.shared, self.layout);
            }
            for lane in &mut self.lanes {
                lane.tick(&mut self.shared, self.layout, now, &mut budget);
            }
            self.idle_silent(now);
        }
        if !room.are_outputs_held {
            self.drain(now);
        }
        self.scan();
        let checkpoint = self.checkpoint_slice();
        let savepoint = self.savepoint_slice();
        self.hand_over(now);
        self.answer_fired(now, is_held || !may_tick);
        let mut next = self.next(now, is_held, may_tick, is_inbox_empty);
        for progress in [checkpoint, savepoint] {
            let soon = now.saturating_add(CHECKPOINT_STEP_MS);
            match progress {
                Progress::Idle => {}
                Progress::More => next = Next::Now,
                Progress::Later => next = next.at_the_latest(soon),
            }
        }
        (std::mem::take(&mut self.turn), next)
    }

    fn next(&self, now: Timestamp, is_held: bool, may_tick: bool, is_inbox_empty: bool) -> Next {
        let is_draining = self.lanes.iter().any(Lane::is_busy) && !self.room.are_outputs_held;
        let is_busy = is_draining || self.has_rest_to_do();
        if !is_inbox_empty && self.deferred.is_none() || !self.scans.is_empty() || is_busy {
            return Next::Now;
        }
        let soon = Next::At(now.saturating_add(ROOM_WAIT_MS));
        if self.held.is_under_way() {
            return if self.deferred.is_some() || self.is_marked() { soon } else { Next::Now };
        }
        if self.deferred.is_some() || !self.roomless.is_empty() || self.room.are_outputs_held {
            return soon;
        }
        let retry = self.next_retry();
        if is_held {
            return retry.map_or(Next::Never, Next::At);
        }
        let idle = self.controls.iter().filter_map(Controls::next_idle);
        let wakes = self.lanes.iter().filter_map(Lane::next_wake);
        match wakes.chain(idle).chain(retry).min() {
            Some(time) if time <= now => {
                if may_tick {
                    Next::Now
                } else {
                    soon
                }
            }
            Some(time) => Next::At(time),
            None => Next::Never,
        }
    }

    /// There will be no more turns: what the lanes run is let go of in good order.
    pub(crate) fn close(&mut self) {
        self.lanes.iter_mut().for_each(Lane::close_functions);
    }

    /// The counters.
    pub(crate) fn stats(&self) -> Stats {
        // Relaxed: a count, nothing is ordered by it.
        let close_panics = self.shared.close_panics.load(Ordering::Relaxed);
        Stats { close_panics, ..self.shared.stats }
    }

    /// Processing timers on the system clock by second.
    pub(crate) fn near(&self) -> &SecondCounts {
        &self.shared.near
    }

    /// When the oldest processing timer that is about to fire was due.
    pub(crate) fn oldest_due(&self) -> Option<Timestamp> {
        self.lanes.iter().filter_map(Lane::oldest_due).min()
    }

    /// Memory by part.
    pub(crate) fn memory(&self) -> Vec<(&'static str, usize)> {
        let mut parts = self.shared.pools.memory().to_vec();
        parts.push(("wheel_entries", self.shared.entries.memory_bytes()));
        parts
    }

    fn lane_mut(&mut self, lane: LaneIndex) -> &mut Lane {
        &mut self.lanes[(lane.0 - self.first_lane) as usize]
    }

    fn lane(&self, lane: LaneIndex) -> &Lane {
        &self.lanes[(lane.0 - self.first_lane) as usize]
    }

    fn take(&mut self, message: Message, now: Timestamp) {
        match message {
            Message::Ops(part) => self.apply_ops(part, now),
            Message::Read(read) => self.read(read),
            Message::Command(request) => self.command(request, now),
            Message::Savepoint(request) => self.savepoint_step(request),
            Message::Step(step) => {
                self.finish_copies_before(&step);
                for lane in &mut self.lanes {
                    lane.step(&mut self.shared, step.clone(), now, &*self.registry);
                }
                self.held.look_again();
            }
            Message::Checkpoint(request) => self.begin_round(request),
            Message::Fired(reply) => self.asked_fired.push(reply),
            Message::Nudge => {}
            Message::StepDone(lane, done) => {
                let place = (lane.0 - self.first_lane) as usize;
                self.controls[place].step_done(done, &mut self.effects);
            }
            Message::Stopped(lane, report) => self.stopped(lane, report),
        }
    }

    fn read(&mut self, read: Read) {
        match read {
            Read::Key { namespace, key, reply } => {
                let (group, home) = self.find_key(namespace, &key);
                let timers = home.map(|home| {
                    let lane = self.lane(self.layout.lane_of(group));
                    lane.home(home).key_timers(&self.shared.pools, group, &key)
                });
                self.release(reply, timers.ok_or(Rejection::NamespaceUnknown));
            }
            Read::State { namespace, key, reply } => {
                let (group, home) = self.find_key(namespace, &key);
                let state = home.map(|home| {
                    let lane = self.lane(self.layout.lane_of(group));
                    lane.home(home).key_state(&self.shared.pools, group, &key)
                });
                self.release(reply, state.ok_or(Rejection::NamespaceUnknown));
            }
            Read::Broadcast { namespace, reply } => {
                // All lanes come to the same one.
                let found = self
                    .lanes
                    .first()
                    .and_then(|lane| Some(lane.home(lane.find(namespace)?).broadcast.clone()));
                self.release(reply, found.ok_or(Rejection::NamespaceUnknown));
            }
            Read::Timer { namespace, key, domain, name, reply } => {
                let (group, home) = self.find_key(namespace, &key);
                let timer = home.map(|home| {
                    let lane = self.lane(self.layout.lane_of(group));
                    lane.home(home).key_timer(&self.shared.pools, group, &key, domain, &name)
                });
                self.release(reply, timer.ok_or(Rejection::NamespaceUnknown));
            }
            Read::List { namespace, query, reply } => {
                self.scans.push_back(Scan::new(namespace, query, reply));
            }
            Read::Forecast { namespace, query, reply } => {
                let forecast = self.forecast(namespace, &query);
                self.release(reply, forecast);
            }
            Read::Stops { namespace, reply } => {
                let stops = self.lanes.iter().filter_map(|lane| lane.stop_of(namespace));
                let stops = stops.collect();
                self.release(reply, Ok(stops));
            }
            Read::Describe { name, reply } => {
                let lane = self.layout.lane_of(self.layout.group_of(xxh3_64(name.as_bytes())));
                let controls = &self.controls[(lane.0 - self.first_lane) as usize];
                let status: Option<NamespaceStatus> = controls.status(&name);
                self.release(reply, status.ok_or(Rejection::NamespaceUnknown));
            }
        }
    }

    fn find_key(&self, namespace: NamespaceId, key: &[u8]) -> (KeyGroup, Option<HomeIndex>) {
        let group = self.layout.group_of(xxh3_64(key));
        (group, self.lane(self.layout.lane_of(group)).find(namespace))
    }

    fn forecast(
        &self,
        namespace: NamespaceId,
        query: &ForecastQuery,
    ) -> Result<Forecast, Rejection> {
        let mut forecast = Forecast { counts: vec![0; query.steps], before: 0, after: 0 };
        for lane in &self.lanes {
            let home = lane.find(namespace).ok_or(Rejection::NamespaceUnknown)?;
            let counts = &lane.home(home).around.timeline.of(query.domain).counts;
            let first = MinuteCounts::step_of(query.from);
            let width = query.step_ms / FORECAST_STEP_MS;
            let mut start = first;
            for count in &mut forecast.counts {
                let end = start.saturating_add(width);
                *count += counts.count(start..end);
                start = end;
            }
            forecast.before += counts.count(i64::MIN..first);
            forecast.after += counts.count(start..i64::MAX);
        }
        Ok(forecast)
    }

    fn release<T: Send + 'static>(&mut self, reply: Reply<T>, answer: T) {
        self.turn.synced.releases.push(Box::new(move || reply(answer)));
    }

    fn command(&mut self, request: CommandRequest, now: Timestamp) {
        let CommandRequest { asked, reply } = request;
        let lane = self.layout.lane_of(self.layout.group_of(xxh3_64(asked.name.as_bytes())));
        let place = (lane.0 - self.first_lane) as usize;
        let is_new = !self.controls[place].contains(&asked.name);
        if is_new && matches!(asked.command, Command::Put { .. }) {
            let limit = NAMESPACES_MAX;
            if self.registry.namespaces() >= limit {
                self.release(reply, Err(Rejection::NamespacesExceeded { limit }));
                return;
            }
        }
        if let Command::Broadcast(it) = &asked.command
            && let Err(rejection) = self.controls[place].check_broadcasts_under_way(it.value.len())
        {
            self.release(reply, Err(rejection));
            return;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.answers.insert(ticket, reply);
        let record = ControlRecord::Command(asked);
        self.record_control(lane, &record);
        if let ControlRecord::Command(asked) = &record {
            self.controls[place].command(ticket, asked, now, &mut self.effects);
        }
    }

    fn record_control(&mut self, lane: LaneIndex, record: &ControlRecord) {
        let body = serde_json::to_vec(record).expect("a command is plain data");
        self.lane_mut(lane).record_control(&body);
    }

    fn idle_silent(&mut self, now: Timestamp) {
        for place in 0..self.controls.len() {
            let lane = LaneIndex(self.first_lane + place as u16);
            let is_due = |it: &Self| it.controls[place].next_idle().is_some_and(|at| at <= now);
            if let Some(at) = self.lanes[place].restarted_at()
                && is_due(self)
                && self.controls[place].is_deaf_until(at)
            {
                self.record_control(lane, &ControlRecord::Restarted { at });
                self.controls[place].restarted(at);
            }
            if !is_due(self) {
                continue;
            }
            self.record_control(lane, &ControlRecord::IdleSilent);
            self.controls[place].idle_silent(now, &mut self.effects);
        }
    }

    /// Does what the control state machines ask for.
    ///
    /// A step goes to all lanes once the record that it follows from is durable: else a lane could
    /// keep, over a crash, what its namespace's home has forgotten.
    fn work_effects(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                ControlEffect::Send(step) => {
                    for shard in (0..self.layout.shards()).map(ShardIndex) {
                        self.turn.synced.sends.push((shard, Message::Step(step.clone())));
                    }
                }
                ControlEffect::Answer(ticket, answer) => {
                    if let Some(reply) = self.answers.remove(&ticket) {
                        self.release(reply, answer);
                    }
                }
                ControlEffect::Publish { id, name, config, version, born } => {
                    if let Some(born) = born {
                        self.registry.begin_behind(id, born);
                    }
                    self.registry.publish(id, name, config, version);
                }
                ControlEffect::Finish { id } => self.registry.finish(id),
                ControlEffect::Withdraw { id, name } => {
                    let registry = Arc::clone(&self.registry);
                    let withdraw = Box::new(move || registry.withdraw(id, &name));
                    self.turn.synced.releases.push(withdraw);
                }
            }
        }
    }

    /// Tells the namespaces' homes what became of their steps here: applied, once that is durable;
    /// settled, once what it fired can be read.
    fn report_done(&mut self) {
        for lane in &mut self.lanes {
            for done in lane.take_done() {
                // An incarnation tells the lane that its namespace is at home in.
                let home = LaneIndex((done.namespace.0 % self.layout.lanes() as u64) as u16);
                let message = Message::StepDone(home, done);
                let then =
                    if done.is_settled { &mut self.turn.visible } else { &mut self.turn.synced };
                then.sends.push((self.layout.shard_of(home), message));
            }
        }
    }

    fn drain(&mut self, now: Timestamp) {
        self.lanes.iter_mut().for_each(|lane| lane.wake(now));
        let busy = self.lanes.iter().filter(|lane| lane.is_busy()).count() as u32;
        for lane in &mut self.lanes {
            if lane.is_busy() {
                let mut slice = (self.pace.budget / busy).max(1);
                lane.drain(&mut self.shared, self.layout, now, &*self.registry, &mut slice);
            }
        }
    }

    /// Answers who asked when what is due has fired, if it has. Where time does not pass, nothing
    /// more is due.
    fn answer_fired(&mut self, now: Timestamp, is_held: bool) {
        let is_due = |lane: &Lane| lane.next_wake().is_some_and(|time| time <= now) && !is_held;
        if self.asked_fired.is_empty()
            || self.lanes.iter().any(|lane| lane.is_busy() || is_due(lane))
        {
            return;
        }
        for reply in self.asked_fired.drain(..) {
            self.turn.visible.releases.push(Box::new(move || reply(())));
        }
    }

    fn scan(&mut self) {
        let Some(scan) = self.scans.front_mut() else {
            return;
        };
        let mut budget = self.pace.budget;
        if scan.go_on(&self.lanes, &self.shared.pools, &mut budget)
            && let Some(scan) = self.scans.pop_front()
        {
            self.turn.synced.releases.push(Box::new(move || scan.finish()));
        }
    }

    /// Gathers what this turn hands over.
    fn hand_over(&mut self, now: Timestamp) {
        self.work_effects();
        self.report_stops();
        self.report_done();
        for lane in &mut self.lanes {
            self.turn.blocks.extend(lane.take_block(now));
            lane.take_outputs(&mut self.turn.outputs);
        }
    }
}

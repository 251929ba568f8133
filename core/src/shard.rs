//! One shard: the lanes that a thread owns, and one turn of work on them.
//!
//! A turn takes in what waits (a bounded piece of it), lets time pass, fires a bounded piece of what
//! is due, and hands over what came of it: blocks to the log, outputs to their sink, answers to
//! whoever asked. It is still pure: messages and the time are arguments, effects go through ports.

mod message;
mod scan;
#[cfg(test)]
mod tests;

pub use message::Reply;
pub(crate) use message::{CommandRequest, Message, OpsPart, Read};

use crate::due_counts::{MinuteCounts, SecondCounts};
use crate::error::Rejection;
use crate::key_group::{KeyGroup, LaneIndex, Layout, ShardIndex, xxh3_64};
use crate::keyed::Pools;
use crate::lane::{HomeIndex, Lane, Shared};
use crate::limits::NAMESPACES_MAX;
use crate::log::{Record, peek_key, split_record};
use crate::namespace::{
    Command, CommandReply, ControlEffect, ControlRecord, Controls, NamespaceStatus, Step, StepDone,
    Ticket,
};
use crate::op::{Action, Outcome};
use crate::output::{NamespaceId, OutputBytes};
use crate::partition::Partition;
use crate::ports::{Log, OutputSink, Registry};
use crate::query::{FORECAST_STEP_MS, Forecast, ForecastQuery};
use crate::stats::Stats;
use crate::time::Timestamp;
use crate::wheel::EntryPool;
use scan::Scan;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;

/// How much a turn does before it looks at the clock and the queue again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Operations taken in.
    pub(crate) ops: u32,
    /// Messages taken in.
    pub(crate) messages: u32,
    /// Timers fired, wheel entries moved, keys scanned, of each: some hundred microseconds.
    pub(crate) budget: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { ops: 4_096, messages: 256, budget: 4_096 }
    }
}

/// Operations whose lines are asked for together.
const AHEAD_OPS: usize = 32;

/// What a shard reaches the outside through.
pub(crate) struct Ports<'a> {
    pub(crate) log: &'a mut dyn Log,
    pub(crate) outputs: &'a mut dyn OutputSink,
    pub(crate) registry: &'a dyn Registry,
    /// Sends a message to another shard.
    pub(crate) send: &'a mut dyn FnMut(ShardIndex, Message),
    /// Hears when live processing timers of the system clock were due, as they are released.
    pub(crate) released: &'a mut dyn FnMut(&OutputBytes),
}

/// See the module.
pub(crate) struct Shard {
    index: ShardIndex,
    layout: Layout,
    pace: Pace,
    first_lane: u16,
    /// For each key group of this shard: which of its lanes it belongs to.
    place_of_group: Box<[u16]>,
    lanes: Vec<Lane>,
    controls: Vec<Controls>,
    shared: Shared,
    scans: VecDeque<Scan>,
    answers: BTreeMap<Ticket, Reply<Result<CommandReply, Rejection>>>,
    tickets: u64,
    /// What to call once this turn's records are with the log.
    released: Vec<Box<dyn FnOnce() + Send>>,
    effects: Vec<ControlEffect>,
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

impl Shard {
    /// A shard with the lanes that the layout gives it.
    pub(crate) fn new(index: ShardIndex, layout: Layout, pace: Pace) -> Self {
        let mine: Vec<LaneIndex> = layout.lanes_of(index).collect();
        let groups: Vec<KeyGroup> = (0..layout.max_parallelism()).map(KeyGroup).collect();
        let first_lane = mine.first().map_or(0, |lane| lane.0);
        let lanes = mine.iter().map(|lane| {
            let mut of_lane = groups.iter().filter(|group| layout.lane_of(**group) == *lane);
            let first = of_lane.next().map_or(0, |group| group.0);
            Lane::new(lane.0, first, of_lane.count() as u16 + 1)
        });
        Self {
            index,
            layout,
            pace,
            first_lane,
            place_of_group: groups
                .iter()
                .map(|group| layout.lane_of(*group).0.saturating_sub(first_lane))
                .collect(),
            lanes: lanes.collect(),
            controls: mine.iter().map(|lane| Controls::new(lane.0, layout.lanes())).collect(),
            shared: Shared {
                pools: Pools::default(),
                entries: EntryPool::default(),
                stats: Stats::default(),
                near: SecondCounts::default(),
            },
            scans: VecDeque::new(),
            answers: BTreeMap::new(),
            tickets: 0,
            released: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Takes one turn. `inbox` gives out what waits; with `is_held` no processing time passes.
    pub(crate) fn turn(
        &mut self,
        now: Timestamp,
        is_held: bool,
        inbox: &mut dyn FnMut() -> Option<Message>,
        ports: &mut Ports<'_>,
    ) -> Next {
        self.shared.near.advance(now);
        let (mut ops, mut messages) = (0, 0);
        let mut is_inbox_empty = false;
        while ops < self.pace.ops && messages < self.pace.messages {
            let Some(message) = inbox() else {
                is_inbox_empty = true;
                break;
            };
            messages += 1;
            if let Message::Ops(part) = &message {
                ops += part.count;
            }
            self.take(message, now, ports);
        }
        let mut budget = self.pace.budget;
        if !is_held {
            for lane in &mut self.lanes {
                lane.tick(&mut self.shared, self.layout, now, &mut budget);
            }
            self.idle_silent(now);
        }
        self.drain(now, ports);
        self.scan();
        self.hand_over(now, ports);
        self.next(now, is_held, is_inbox_empty)
    }

    fn next(&self, now: Timestamp, is_held: bool, is_inbox_empty: bool) -> Next {
        if !is_inbox_empty || !self.scans.is_empty() || self.lanes.iter().any(Lane::is_busy) {
            return Next::Now;
        }
        if is_held {
            return Next::Never;
        }
        let idle = self.controls.iter().filter_map(Controls::next_idle);
        match self.lanes.iter().filter_map(Lane::next_wake).chain(idle).min() {
            Some(time) if time <= now => Next::Now,
            Some(time) => Next::At(time),
            None => Next::Never,
        }
    }

    /// The counters.
    pub(crate) fn stats(&self) -> &Stats {
        &self.shared.stats
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

    fn take(&mut self, message: Message, now: Timestamp, ports: &mut Ports<'_>) {
        match message {
            Message::Ops(part) => self.apply_ops(part, now),
            Message::Read(read) => self.read(read),
            Message::Command(request) => self.command(request, now, ports),
            Message::Step(step) => self.step(&step, now, ports),
            Message::Nudge => {}
            Message::StepDone(lane, done) => {
                let mut effects = std::mem::take(&mut self.effects);
                let place = (lane.0 - self.first_lane) as usize;
                self.controls[place].step_done(done, &mut effects);
                self.effects = effects;
            }
        }
    }

    fn apply_ops(&mut self, part: OpsPart, now: Timestamp) {
        let mut outcomes = Vec::with_capacity(part.count as usize);
        // Where the namespace stands in each lane: looked up once for the whole request.
        let homes: Vec<_> = self.lanes.iter().map(|lane| lane.find(part.namespace)).collect();
        let mut rest = &part.bytes[..];
        let mut ahead = Vec::with_capacity(AHEAD_OPS);
        while !rest.is_empty() {
            while ahead.len() < AHEAD_OPS
                && let Some((key, bytes)) = peek_key(rest)
            {
                ahead.push(self.look_ahead(key, bytes, &homes));
                rest = &rest[bytes.len()..];
            }
            self.apply_ahead(&ahead, now, &mut outcomes);
            ahead.clear();
        }
        debug_assert_eq!(outcomes.len(), part.count as usize);
        let OpsPart { reply, reserved, .. } = part;
        self.released.push(Box::new(move || {
            if let Some((gauge, count)) = reserved {
                // Relaxed: a count that bounds, nothing is ordered by it.
                gauge.reserved.fetch_sub(count, Ordering::Relaxed);
            }
            reply(outcomes);
        }));
    }

    /// Finds out where an operation goes and asks for the first line it needs.
    #[inline]
    fn look_ahead<'a>(
        &self,
        key: &[u8],
        bytes: &'a [u8],
        homes: &[Option<HomeIndex>],
    ) -> Ahead<'a> {
        let hash = xxh3_64(key);
        let group = self.layout.group_of(hash);
        let place = self.place_of_group[group.0 as usize];
        let home = homes[place as usize];
        let it = Ahead { bytes, hash, group, place, home };
        if let Some(partition) = self.partition_of(&it) {
            self.shared.pools.prefetch_table(partition.table(), hash);
        }
        it
    }

    #[inline]
    fn partition_of(&self, it: &Ahead<'_>) -> Option<&Partition> {
        self.lanes[it.place as usize].partition(it.home?, it.group)
    }

    #[inline]
    fn apply_ahead(&mut self, ahead: &[Ahead<'_>], now: Timestamp, outcomes: &mut Vec<Outcome>) {
        for it in ahead {
            if let Some(partition) = self.partition_of(it) {
                self.shared.pools.prefetch_guess(partition.table(), it.hash);
            }
        }
        for Ahead { bytes, hash, group, place, home } in ahead {
            let Some((Record::Key(record), _)) = split_record(bytes) else { return };
            let lane = &mut self.lanes[*place as usize];
            outcomes.push(match home {
                None => Lane::UNKNOWN,
                Some(home) => {
                    lane.apply(&mut self.shared, *home, *group, *hash, &record.op, bytes, now)
                }
            });
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
            let counts = &lane.home(home).timeline.of(query.domain).counts;
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
        self.released.push(Box::new(move || reply(answer)));
    }

    fn command(&mut self, request: CommandRequest, now: Timestamp, ports: &mut Ports<'_>) {
        let CommandRequest { name, command, settle, pending, reply } = request;
        let lane = self.layout.lane_of(self.layout.group_of(xxh3_64(name.as_bytes())));
        let place = (lane.0 - self.first_lane) as usize;
        let is_new = !self.controls[place].contains(&name);
        if is_new && matches!(command, Command::Put { .. }) {
            let limit = NAMESPACES_MAX;
            if ports.registry.namespaces() >= limit {
                self.release(reply, Err(Rejection::NamespacesExceeded { limit }));
                return;
            }
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.answers.insert(ticket, reply);
        let record =
            ControlRecord::Command { name: name.clone(), command: command.clone(), settle };
        self.record_control(lane, &record);
        let mut effects = std::mem::take(&mut self.effects);
        let controls = &mut self.controls[place];
        controls.command(ticket, &name, &command, settle, pending, now, &mut effects);
        self.effects = effects;
        self.work_effects(now, ports);
    }

    fn record_control(&mut self, lane: LaneIndex, record: &ControlRecord) {
        let body = serde_json::to_vec(record).expect("a command is plain data");
        self.lane_mut(lane).record_control(&body);
    }

    fn idle_silent(&mut self, now: Timestamp) {
        for place in 0..self.controls.len() {
            if self.controls[place].next_idle().is_none_or(|at| at > now) {
                continue;
            }
            let lane = LaneIndex(self.first_lane + place as u16);
            self.record_control(lane, &ControlRecord::IdleSilent);
            let mut effects = std::mem::take(&mut self.effects);
            self.controls[place].idle_silent(now, &mut effects);
            self.effects = effects;
        }
    }

    fn step(&mut self, step: &Step, now: Timestamp, ports: &mut Ports<'_>) {
        for lane in &mut self.lanes {
            lane.step(&mut self.shared, step.clone(), now, ports.registry);
        }
    }

    /// Does what the control state machines ask for, until they ask for nothing more.
    fn work_effects(&mut self, now: Timestamp, ports: &mut Ports<'_>) {
        loop {
            self.report_done(ports);
            if self.effects.is_empty() {
                return;
            }
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    ControlEffect::Send(step) => {
                        for shard in (0..self.layout.shards()).map(ShardIndex) {
                            if shard != self.index {
                                (ports.send)(shard, Message::Step(step.clone()));
                            }
                        }
                        self.step(&step, now, ports);
                    }
                    ControlEffect::Answer(ticket, answer) => {
                        if let Some(reply) = self.answers.remove(&ticket) {
                            self.release(reply, answer);
                        }
                    }
                    ControlEffect::Publish { id, name, config, version } => {
                        ports.registry.publish(id, name, config, version);
                    }
                    ControlEffect::Withdraw { id, name } => {
                        ports.registry.withdraw(id, &name);
                        ports.outputs.end(id);
                    }
                }
            }
        }
    }

    /// Tells the namespaces' homes what became of their steps here.
    fn report_done(&mut self, ports: &mut Ports<'_>) {
        let mut done: Vec<StepDone> = Vec::new();
        for lane in &mut self.lanes {
            done.extend(lane.take_done());
        }
        for done in done {
            // An incarnation tells the lane that its namespace is at home in.
            let lane = LaneIndex((done.namespace.0 % self.layout.lanes() as u64) as u16);
            let shard = self.layout.shard_of(lane);
            if shard == self.index {
                let place = (lane.0 - self.first_lane) as usize;
                let mut effects = std::mem::take(&mut self.effects);
                self.controls[place].step_done(done, &mut effects);
                self.effects = effects;
            } else {
                (ports.send)(shard, Message::StepDone(lane, done));
            }
        }
    }

    fn drain(&mut self, now: Timestamp, ports: &mut Ports<'_>) {
        let busy = self.lanes.iter().filter(|lane| lane.is_busy()).count() as u32;
        for lane in &mut self.lanes {
            if lane.is_busy() {
                let mut slice = (self.pace.budget / busy).max(1);
                lane.drain(&mut self.shared, self.layout, now, ports.registry, &mut slice);
            }
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
            self.released.push(Box::new(move || scan.finish()));
        }
    }

    /// Hands over blocks, outputs and answers, in this order: nothing is said before it is logged.
    fn hand_over(&mut self, now: Timestamp, ports: &mut Ports<'_>) {
        self.work_effects(now, ports);
        for lane in &mut self.lanes {
            let (outputs, released) = (&mut *ports.outputs, &mut *ports.released);
            lane.flush(ports.log, now, |block, is_system| {
                if is_system {
                    released(&block);
                }
                outputs.append(block, now.as_millis());
            });
        }
        for release in self.released.drain(..) {
            release();
        }
    }
}

/// An operation whose lines have been asked for.
struct Ahead<'a> {
    bytes: &'a [u8],
    hash: u64,
    group: KeyGroup,
    place: u16,
    home: Option<HomeIndex>,
}

/// Whether an operation may add a timer.
pub(crate) fn may_add(action: &Action<'_>) -> bool {
    matches!(action, Action::Register(_) | Action::Touch { .. })
}

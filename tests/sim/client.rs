//! A client with a ledger: what it asked for, what was answered, and what it may hold the engine to.
//!
//! It asks many things at once but for one: a namespace is told one thing at a time (a watermark, a
//! clock, a configuration, its end), so that after a crash it either was told that or was not.

use crate::draw;
use crate::model::{OpRef, Violation, text};
use crate::oracle::{Act, Answer, Timer};
use crate::rng::Rng;
use crate::space::{Space, Told, combined};
use crate::world::Setup;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use stormwheel::error::Rejection;
use stormwheel::key_group::Layout;
use stormwheel::namespace::{ClockChange, Command, CommandReply, SourceChange, SourceResult};
use stormwheel::op::{Outcome, PayloadBuf, TimerView};
use stormwheel::query::{ListPage, ListPosition, ListQuery};
use stormwheel::runtime::{Ack, CheckpointInfo, Engine};
use stormwheel::time::Timestamp;

/// What an answer is to.
enum Asked {
    Batch { space: usize, ops: Vec<OpRef>, ack: Ack },
    Read { space: usize, op: OpRef },
    List { space: usize },
    Command { space: usize },
    Checkpoint,
}

enum Reply {
    Outcomes(Vec<Outcome>),
    Timers(Result<Vec<TimerView>, Rejection>),
    Page(Result<ListPage, Rejection>),
    Command(Result<CommandReply, Rejection>),
    Checkpoint(Result<CheckpointInfo, Rejection>),
}

type Inbox<T> = Arc<Mutex<Vec<(u64, T)>>>;

/// See the module.
pub(crate) struct Client {
    layout: Layout,
    keys: u64,
    batch_bytes: usize,
    pub(crate) spaces: Vec<Space>,
    asked: BTreeMap<u64, Asked>,
    next: u64,
    replies: Inbox<Reply>,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) checkpoints: u64,
    /// What a second run must repeat.
    pub(crate) log: Vec<String>,
}

impl Client {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            layout: setup.layout(),
            keys: setup.keys,
            batch_bytes: setup.batch_bytes,
            spaces: draw::SPACES.into_iter().map(Space::new).collect(),
            asked: BTreeMap::new(),
            next: 0,
            replies: Arc::default(),
            acknowledged: 0,
            refused: 0,
            checkpoints: 0,
            log: Vec::new(),
        }
    }

    fn reply<T: 'static>(
        &mut self,
        asked: Asked,
        wrap: impl FnOnce(T) -> Reply + Send + 'static,
    ) -> Box<dyn FnOnce(T) + Send> {
        self.next += 1;
        let id = self.next;
        self.asked.insert(id, asked);
        let replies = Arc::clone(&self.replies);
        Box::new(move |answer| {
            replies.lock().unwrap_or_else(PoisonError::into_inner).push((id, wrap(answer)));
        })
    }

    /// How many requests wait for their answers.
    pub(crate) fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// Asks for something.
    pub(crate) fn ask(&mut self, engine: &Engine, rng: &mut Rng, now: i64) {
        let space = rng.below(self.spaces.len() as u64) as usize;
        let is_there = self.spaces[space].life.is_some();
        let is_told = self.spaces[space].told.is_some();
        let is_exclusive =
            matches!(self.spaces[space].told, Some(Told::Configure { .. } | Told::Delete));
        let is_lost = self.spaces[space].is_lost;
        match rng.below(40) {
            _ if is_exclusive || is_lost => {}
            0..=1 if !is_told => self.configure(engine, rng, space),
            2 if !is_told && is_there && space > 0 => self.delete(engine, rng, space),
            3..=6 if !is_told && is_there => self.source(engine, rng, space, now),
            7..=9 if !is_told && is_there => self.clock(engine, rng, space),
            10..=13 if is_there => self.read(engine, rng, space),
            14 if is_there => self.list(engine, rng, space),
            15..=16 => self.checkpoint(engine),
            17 if is_there => self.batch(engine, rng, space, now, 300),
            _ if is_there => {
                // Few keys are asked of a few at a time, many keys many at a time.
                self.batch(engine, rng, space, now, if self.keys > 100 { 300 } else { 12 });
            }
            _ if !is_told => self.configure(engine, rng, space),
            _ => {}
        }
    }

    fn batch(&mut self, engine: &Engine, rng: &mut Rng, space: usize, now: i64, most: u64) {
        let ack = draw::ack(rng);
        let Some(life) = &mut self.spaces[space].life else { return };
        let near = life.near(now);
        let mut batch = engine.batch(&life.entry);
        batch.ack(ack);
        let mut ops = Vec::new();
        let mut bytes = 0;
        for _ in 0..=rng.below(most) {
            let (key, act) = (draw::key(rng, self.keys), draw::act(rng, near));
            bytes += draw::cost_bytes(&key, &act);
            if bytes > self.batch_bytes {
                break;
            }
            let pushed = draw::with_op(&key, &act, |op| batch.push(op));
            if pushed.is_some_and(|pushed| pushed.is_ok()) {
                self.log.push(format!("  {} {act:?}", text(&key)));
                ops.push(life.model.submit(self.next + 1, &key, act));
            }
        }
        self.spaces[space].busy += 1;
        let name = self.spaces[space].name;
        self.log.push(format!("{} to {name}, {ack:?}: {ops:?}", self.next + 1));
        let reply = self.reply(Asked::Batch { space, ops, ack }, Reply::Outcomes);
        engine.submit(batch, reply);
    }

    fn read(&mut self, engine: &Engine, rng: &mut Rng, space: usize) {
        let key = draw::key(rng, self.keys);
        let Some(life) = &mut self.spaces[space].life else { return };
        let entry = Arc::clone(&life.entry);
        let op = life.model.submit(self.next + 1, &key, Act::Read);
        self.spaces[space].busy += 1;
        self.log.push(format!("{}: read {op:?}", self.next + 1));
        let reply = self.reply(Asked::Read { space, op }, Reply::Timers);
        engine.key_timers(&entry, &key, reply);
    }

    fn list(&mut self, engine: &Engine, rng: &mut Rng, space: usize) {
        let Some(life) = &self.spaces[space].life else { return };
        let entry = Arc::clone(&life.entry);
        self.spaces[space].busy += 1;
        self.log.push(format!("{}: list {}", self.next + 1, entry.name));
        let reply = self.reply(Asked::List { space }, Reply::Page);
        engine.list(&entry, &query(1 + rng.below(50) as usize, None), reply);
    }

    fn checkpoint(&mut self, engine: &Engine) {
        self.log.push(format!("{}: checkpoint", self.next + 1));
        let reply = self.reply(Asked::Checkpoint, Reply::Checkpoint);
        engine.checkpoint(reply);
    }

    fn command(&mut self, engine: &Engine, space: usize, command: Command, settle: bool) {
        let name = self.spaces[space].name;
        self.log.push(format!("{} to {name}: {command:?}, settle: {settle}", self.next + 1));
        let reply = self.reply(Asked::Command { space }, Reply::Command);
        engine.command(name, command, settle, reply);
    }

    fn configure(&mut self, engine: &Engine, rng: &mut Rng, space: usize) {
        let it = &mut self.spaces[space];
        if it.busy > 0 {
            return;
        }
        let config = draw::config(rng, it.name);
        let marks = it.life.as_ref().map(|life| life.model.marks()).unwrap_or_default();
        it.told = Some(Told::Configure { config: config.clone(), marks });
        self.command(engine, space, Command::Put { config, expected_version: None }, false);
    }

    fn delete(&mut self, engine: &Engine, rng: &mut Rng, space: usize) {
        if self.spaces[space].busy > 0 {
            return;
        }
        self.spaces[space].told = Some(Told::Delete);
        self.command(engine, space, Command::Delete { force: rng.below(4) > 0 }, false);
    }

    fn source(&mut self, engine: &Engine, rng: &mut Rng, space: usize, now: i64) {
        let Some(life) = &mut self.spaces[space].life else { return };
        let names: Vec<String> = life.sources.keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let source = rng.pick(&names).clone();
        let standing = life.sources[&source];
        let from = standing.unwrap_or(now - 100);
        let to = if rng.below(8) == 0 { from - 5 } else { from + rng.within(0, 150) };
        let result = if standing.is_none_or(|standing| to > standing) {
            SourceResult::Advanced
        } else {
            SourceResult::Ignored
        };
        let marks = life.model.marks();
        if result == SourceResult::Advanced {
            let mut after = life.sources.clone();
            after.insert(source.clone(), Some(to));
            if let Some(combined) = combined(&after)
                && life.model.rules.advances[0].last().is_none_or(|last| combined > *last)
            {
                life.model.rules.advances[0].push(combined);
            }
        }
        self.spaces[space].told = Some(Told::Source { source: source.clone(), to, result, marks });
        let change = SourceChange::Watermark(Timestamp::from_millis(to));
        self.command(engine, space, Command::Source { source, change }, rng.below(2) == 0);
    }

    fn clock(&mut self, engine: &Engine, rng: &mut Rng, space: usize) {
        let Some(life) = &mut self.spaces[space].life else { return };
        if !life.model.rules.is_manual {
            return;
        }
        let standing = life.model.rules.advances[1].last().copied();
        let by = rng.within(-20, 150);
        let (to, change) = match standing {
            Some(at) if rng.below(2) == 0 && by >= 0 => (at + by, ClockChange::Advance(by)),
            _ => {
                let to = standing.unwrap_or(10_000) + by;
                (to, ClockChange::Set(Timestamp::from_millis(to)))
            }
        };
        let advanced = standing.is_none_or(|at| to > at);
        let marks = life.model.marks();
        if advanced {
            life.model.rules.advances[1].push(to);
        }
        self.spaces[space].told = Some(Told::Clock { to, advanced, marks });
        self.command(engine, space, Command::Clock(change), true);
    }

    /// Takes in what was answered.
    pub(crate) fn hear(&mut self, engine: &Engine, now: i64) -> Result<(), Violation> {
        let replies =
            std::mem::take(&mut *self.replies.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, reply) in replies {
            let Some(asked) = self.asked.remove(&id) else {
                return Err(Violation::new("answered twice", format!("request {id}")));
            };
            self.heard(engine, now, id, asked, reply)?;
        }
        Ok(())
    }

    fn heard(
        &mut self,
        engine: &Engine,
        now: i64,
        id: u64,
        asked: Asked,
        reply: Reply,
    ) -> Result<(), Violation> {
        match (asked, reply) {
            (Asked::Batch { space, ops, ack }, Reply::Outcomes(outcomes)) => {
                self.log.push(format!("{id}: {outcomes:?}"));
                self.spaces[space].busy -= 1;
                let Some(life) = &mut self.spaces[space].life else { return Ok(()) };
                if outcomes.len() != ops.len() {
                    let detail = format!("{} of {} operations", outcomes.len(), ops.len());
                    return Err(Violation::new("wrong answer", detail));
                }
                for (op, outcome) in ops.iter().zip(outcomes) {
                    match fate(outcome.as_ref().err()) {
                        Fate::Unknown => {}
                        Fate::NotDone => {
                            self.refused += 1;
                            life.model.refused(op);
                        }
                        Fate::Done => {
                            self.acknowledged += 1;
                            life.model.answered(op, answer(&outcome), ack == Ack::Synced)?;
                        }
                    }
                }
            }
            (Asked::Read { space, op }, Reply::Timers(timers)) => {
                self.log.push(format!("{id}: {timers:?}"));
                self.spaces[space].busy -= 1;
                let Some(life) = &mut self.spaces[space].life else { return Ok(()) };
                match timers {
                    Ok(timers) => {
                        let mut timers: Vec<Timer> = timers.iter().map(timer).collect();
                        let order = timers.clone();
                        timers.sort_by(|a, b| {
                            (a.domain, a.fire_at, &a.name).cmp(&(b.domain, b.fire_at, &b.name))
                        });
                        if timers != order {
                            let detail = format!("timers of a key are out of order: {order:?}");
                            return Err(Violation::new("wrong answer", detail));
                        }
                        life.model.answered(&op, Answer::Timers(timers), true)?;
                    }
                    Err(rejection) => match fate(Some(&rejection)) {
                        Fate::Done => {
                            return Err(Violation::new("wrong answer", rejection.to_string()));
                        }
                        Fate::NotDone | Fate::Unknown => life.model.refused(&op),
                    },
                }
            }
            (Asked::List { space }, Reply::Page(page)) => {
                self.log.push(format!("{id}: {page:?}"));
                self.spaces[space].busy -= 1;
                if let Ok(page) = page {
                    let places: Vec<ListPosition> =
                        page.timers.iter().map(ListPosition::of).collect();
                    if !places.is_sorted() {
                        let detail = format!("a page is out of order: {places:?}");
                        return Err(Violation::new("wrong answer", detail));
                    }
                }
            }
            (Asked::Command { space }, Reply::Command(reply)) => {
                self.log.push(format!("{id}: {reply:?}"));
                self.told(engine, now, space, &reply)?;
            }
            (Asked::Checkpoint, Reply::Checkpoint(info)) => {
                let is_there = info.as_ref().is_ok_and(|info| info.failure.is_none());
                self.checkpoints += u64::from(is_there);
                self.log.push(format!("{id}: checkpoint {is_there}"));
            }
            _ => return Err(Violation::new("wrong answer", "an answer to another question")),
        }
        Ok(())
    }

    /// A namespace has answered to what it was told.
    fn told(
        &mut self,
        engine: &Engine,
        now: i64,
        space: usize,
        reply: &Result<CommandReply, Rejection>,
    ) -> Result<(), Violation> {
        let Some(told) = self.spaces[space].told.take() else { return Ok(()) };
        let name = self.spaces[space].name;
        let wrong = |reply: &Result<CommandReply, Rejection>, told: &Told| {
            Err(Violation::new("wrong answer", format!("{name}: {told:?}: {reply:?}")))
        };
        match fate(reply.as_ref().err()) {
            Fate::Unknown => {
                self.spaces[space].told = Some(told);
                return Ok(());
            }
            Fate::NotDone => {
                self.refused += 1;
                self.untold(space);
                return Ok(());
            }
            Fate::Done => {}
        }
        self.acknowledged += 1;
        match (&told, reply) {
            (Told::Configure { config, marks }, Ok(CommandReply::Configured { .. })) => {
                let it = &mut self.spaces[space];
                if let Some(life) = &mut it.life {
                    life.model.all_certain(marks)?;
                }
                let entry = engine.namespace(name).map_err(|rejection| {
                    Violation::new("lost namespace", format!("{name}: {rejection}"))
                })?;
                if *entry.config != *config {
                    return wrong(reply, &told);
                }
                it.adopt(entry, self.layout, now)?;
            }
            (
                Told::Source { source, to, result, marks },
                Ok(CommandReply::Source { result: found, watermark, .. }),
            ) if result == found => {
                let Some(life) = &mut self.spaces[space].life else { return Ok(()) };
                if *result == SourceResult::Advanced {
                    life.sources.insert(source.clone(), Some(*to));
                }
                let advances = &life.model.rules.advances[0];
                if watermark.map(Timestamp::as_millis) != advances.last().copied() {
                    return wrong(reply, &told);
                }
                if advances.len() > life.model.done[0] {
                    life.model.done[0] = advances.len();
                    life.model.all_certain(marks)?;
                }
            }
            (
                Told::Clock { to, advanced, marks },
                Ok(CommandReply::Clock { advanced: found, now, .. }),
            ) if advanced == found && (!advanced || now.as_millis() == *to) => {
                let Some(life) = &mut self.spaces[space].life else { return Ok(()) };
                life.model.done[1] = life.model.rules.advances[1].len();
                if *advanced {
                    life.model.all_certain(marks)?;
                }
            }
            (Told::Delete, Ok(CommandReply::Deleted { .. })) => self.spaces[space].life = None,
            (Told::Delete, Err(Rejection::NamespaceNotEmpty { .. }))
            | (Told::Configure { .. }, Err(Rejection::OptionFixed { .. })) => {}
            _ => return wrong(reply, &told),
        }
        Ok(())
    }

    /// What a namespace was told last never reached it.
    fn untold(&mut self, space: usize) {
        if let Some(life) = &mut self.spaces[space].life {
            for domain in 0..2 {
                life.model.rules.advances[domain].truncate(life.model.done[domain]);
            }
        }
    }

    /// The engine is gone: what was not answered may or may not have been done.
    pub(crate) fn crash(&mut self, may_refuse: bool) -> Result<(), Violation> {
        self.asked.clear();
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for space in &mut self.spaces {
            space.busy = 0;
            if let Some(life) = &mut space.life {
                life.model.crash(may_refuse)?;
            }
        }
        Ok(())
    }
}

/// A page of everything.
pub(crate) fn query(limit: usize, after: Option<ListPosition>) -> ListQuery {
    ListQuery {
        domain: None,
        due_after: Timestamp::MIN,
        due_before: None,
        key_prefix: Vec::new(),
        after,
        limit,
    }
}

/// What a rejection says of what it rejects.
enum Fate {
    Done,
    NotDone,
    Unknown,
}

fn fate(rejection: Option<&Rejection>) -> Fate {
    match rejection {
        Some(Rejection::QueueFull { .. } | Rejection::DiskFull { .. }) => Fate::NotDone,
        Some(rejection) if matches!(rejection.slug(), "stopping" | "poisoned") => Fate::Unknown,
        _ => Fate::Done,
    }
}

fn answer(outcome: &Outcome) -> Answer {
    match outcome {
        Ok(applied) => Answer::Done {
            result: applied.result,
            fire_at: applied.fire_at.map(Timestamp::as_millis),
            cancelled: applied.cancelled,
            overdue: applied.overdue,
        },
        Err(rejection) => Answer::Refused(rejection.slug()),
    }
}

pub(crate) fn timer(view: &TimerView) -> Timer {
    Timer {
        domain: view.domain,
        fire_at: view.fire_at.as_millis(),
        name: view.name.clone(),
        payload: view.payload.as_ref().map(|payload| match payload {
            PayloadBuf::Json(bytes) => (true, bytes.clone()),
            PayloadBuf::Binary(bytes) => (false, bytes.clone()),
        }),
    }
}

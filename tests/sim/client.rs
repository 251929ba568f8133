//! A client with a ledger: what it asked for, what was answered, and what it may hold the engine to.
//!
//! It asks many things at once but for one: a namespace is told one thing at a time (a watermark, a
//! clock, a configuration, its end), so that after a crash it either was told that or was not.

use crate::act::{Act, Answer, Once, Timer};
use crate::draw;
use crate::model::{Model, OpRef, Violation, text};
use crate::rng::Rng;
use crate::space::{Producer, Space};
use crate::world::Setup;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use stormwheel::error::Rejection;
use stormwheel::key_group::Layout;
use stormwheel::namespace::CommandReply;
use stormwheel::op::{Outcome, PayloadBuf, TimerView};
use stormwheel::query::{ListPage, ListPosition, ListQuery};
use stormwheel::runtime::{Ack, CheckpointInfo, Engine, SavepointInfo};
use stormwheel::time::Timestamp;

/// What an answer is to.
pub(crate) enum Asked {
    Batch { space: usize, ops: Vec<OpRef>, ack: Ack, producer: Option<(usize, u64)> },
    Read { space: usize, op: OpRef },
    List { space: usize },
    Command { space: usize },
    Checkpoint,
    Savepoint,
}

pub(crate) enum Reply {
    Outcomes(Vec<Outcome>),
    Timers(Result<Vec<TimerView>, Rejection>),
    Page(Result<ListPage, Rejection>),
    Command(Result<CommandReply, Rejection>),
    Checkpoint(Result<CheckpointInfo, Rejection>),
    Savepoint(Result<SavepointInfo, Rejection>),
}

/// Keys that get a timer for the same millisecond, at most.
const STORM_KEYS_MAX: i64 = 400;

type Inbox<T> = Arc<Mutex<Vec<(u64, T)>>>;

/// See the module.
pub(crate) struct Client {
    pub(crate) layout: Layout,
    keys: u64,
    batch_bytes: usize,
    pub(crate) spaces: Vec<Space>,
    /// While a savepoint is under way that a new node is to go on from: what it holds at least, and all
    /// that may be in it besides.
    pub(crate) shadow: Option<Vec<Space>>,
    /// Savepoints that were answered for.
    pub(crate) savepoints: Vec<String>,
    asked: BTreeMap<u64, Asked>,
    pub(crate) next: u64,
    replies: Inbox<Reply>,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) checkpoints: u64,
    /// Namespaces that were paused and resumed.
    pub(crate) pauses: u64,
    /// Namespaces that were closed.
    pub(crate) closes: u64,
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
            shadow: None,
            savepoints: Vec::new(),
            asked: BTreeMap::new(),
            next: 0,
            replies: Arc::default(),
            acknowledged: 0,
            refused: 0,
            checkpoints: 0,
            pauses: 0,
            closes: 0,
            log: Vec::new(),
        }
    }

    pub(crate) fn reply<T: 'static>(
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
        match rng.below(50) {
            _ if self.spaces[space].is_exclusive() => {}
            // Nothing much happens any more to one that is closed.
            0..=16 if !is_told && space > 0 && self.spaces[space].is_closed() => {
                self.delete(engine, rng, space);
            }
            // What is paused goes on once nothing is under way.
            0..=24 if self.spaces[space].is_paused() && self.spaces[space].busy > 0 => {}
            0..=1 if !is_told => self.configure(engine, rng, space, now),
            2 if !is_told && is_there && space > 0 => self.delete(engine, rng, space),
            3..=6 if !is_told && is_there => self.source(engine, rng, space, now),
            7..=9 if !is_told && is_there => self.clock(engine, rng, space),
            10..=13 if is_there => self.read(engine, rng, space),
            14 if is_there => self.list(engine, rng, space),
            15..=16 => self.checkpoint(engine),
            17 => self.savepoint(engine),
            18 if is_there => self.batch(engine, rng, space, now, 300),
            19..=24 if is_there => self.produce(engine, rng, space, now),
            25..=32 if !is_told && is_there => self.pause_or_resume(engine, space),
            33..=34 if !is_told && is_there => self.close(engine, rng, space),
            _ if is_there => {
                // Few keys are asked of a few at a time, many keys many at a time.
                self.batch(engine, rng, space, now, if self.keys > 100 { 300 } else { 12 });
            }
            _ if !is_told => self.configure(engine, rng, space, now),
            _ => {}
        }
    }

    fn batch(&mut self, engine: &Engine, rng: &mut Rng, space: usize, now: i64, most: u64) {
        let ack = draw::ack(rng);
        let Some(life) = &self.spaces[space].life else { return };
        let ops = self.draw_ops(rng, life.near(now), most);
        self.submit(engine, space, ops, ack, None);
    }

    /// Somebody sends the next request that is to be taken once, or the last one again.
    fn produce(&mut self, engine: &Engine, rng: &mut Rng, space: usize, now: i64) {
        let ack = draw::ack(rng);
        let producer = rng.below(draw::PRODUCERS.len() as u64) as usize;
        let Some(life) = &self.spaces[space].life else { return };
        let it = &life.producers[producer];
        let (sequence, acts) = match &it.open {
            Some(_) if it.is_asked && rng.below(3) > 0 => return,
            Some(acts) => (it.sequence, acts.clone()),
            None => (it.sequence + 1 + rng.below(2), self.draw_ops(rng, life.near(now), 12)),
        };
        if let Some(life) = &mut self.spaces[space].life {
            let open = Some(acts.clone());
            life.producers[producer] = Producer { sequence, open, is_asked: true };
        }
        self.submit(engine, space, acts, ack, Some((producer, sequence)));
    }

    /// Operations for one batch.
    fn draw_ops(&self, rng: &mut Rng, near: [i64; 2], most: u64) -> Vec<(Vec<u8>, Act)> {
        let (mut ops, mut bytes) = (Vec::new(), 0);
        for _ in 0..=rng.below(most) {
            let (key, act) = (draw::key(rng, self.keys), draw::act(rng, near));
            bytes += draw::cost_bytes(&key, &act);
            if bytes > self.batch_bytes {
                break;
            }
            ops.push((key, act));
        }
        ops
    }

    fn submit(
        &mut self,
        engine: &Engine,
        space: usize,
        acts: Vec<(Vec<u8>, Act)>,
        ack: Ack,
        producer: Option<(usize, u64)>,
    ) {
        let Some(life) = &self.spaces[space].life else { return };
        let mut batch = engine.batch(&life.entry);
        batch.ack(ack);
        if let Some((producer, sequence)) = producer {
            batch.producer(draw::PRODUCERS[producer], sequence);
        }
        let mut ops = Vec::new();
        for ((key, act), index) in acts.into_iter().zip(0..) {
            let act = match producer {
                Some((producer, sequence)) => {
                    Act::Once(Once { producer, sequence, index }, Box::new(act))
                }
                None => act,
            };
            let pushed = draw::with_op(&key, &act, |op| batch.push(op));
            if pushed.is_some_and(|pushed| pushed.is_ok()) {
                self.log.push(format!("  {} {act:?}", text(&key)));
                let request = self.next + 1;
                let expected = |it: &mut Model, _| it.submit(request, &key, act.clone());
                ops.extend(self.expect(space, expected));
            }
        }
        self.spaces[space].busy += 1;
        let name = self.spaces[space].name;
        self.log.push(format!("{} to {name}, {ack:?}: {ops:?}", self.next + 1));
        let reply = self.reply(Asked::Batch { space, ops, ack, producer }, Reply::Outcomes);
        engine.submit(batch, reply);
    }

    /// Many keys get a timer for the same millisecond, `in_ms` from now.
    pub(crate) fn storm(&mut self, engine: &Engine, rng: &mut Rng, now: i64, in_ms: i64) {
        let space = rng.below(self.spaces.len() as u64) as usize;
        let it = &self.spaces[space];
        let Some(life) = it.life.as_ref().filter(|_| !it.is_exclusive()) else { return };
        let act = draw::storm(rng, life.near(now), in_ms);
        let mut keys: Vec<Vec<u8>> = (0..rng.within(20, STORM_KEYS_MAX))
            .map(|n| format!("storm-{n}").into_bytes())
            .collect();
        let most = self.batch_bytes / draw::cost_bytes(b"storm-000", &act);
        while !keys.is_empty() {
            let rest = keys.split_off(keys.len().min(most));
            let ops = std::mem::replace(&mut keys, rest).into_iter();
            let ops = ops.map(|key| (key, act.clone())).collect();
            self.submit(engine, space, ops, draw::ack(rng), None);
        }
    }

    fn read(&mut self, engine: &Engine, rng: &mut Rng, space: usize) {
        let key = draw::key(rng, self.keys);
        let Some(life) = &self.spaces[space].life else { return };
        let (entry, request) = (Arc::clone(&life.entry), self.next + 1);
        let expected = |it: &mut Model, _| it.submit(request, &key, Act::Read);
        let Some(op) = self.expect(space, expected) else { return };
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

    fn savepoint(&mut self, engine: &Engine) {
        self.log.push(format!("{}: savepoint", self.next + 1));
        let reply = self.reply(Asked::Savepoint, Reply::Savepoint);
        engine.savepoint(None, reply);
    }

    /// Asks for something that ends with a key, while a savepoint is under way.
    pub(crate) fn ask_beside(&mut self, engine: &Engine, rng: &mut Rng, now: i64) {
        let space = rng.below(self.spaces.len() as u64) as usize;
        let is_clear = |it: &Space| it.life.is_some() && !it.is_exclusive();
        let in_shadow = self.shadow.as_ref().is_some_and(|shadow| is_clear(&shadow[space]));
        if !in_shadow || !is_clear(&self.spaces[space]) {
            return;
        }
        match rng.below(5) {
            0 => self.read(engine, rng, space),
            1 => self.produce(engine, rng, space, now),
            _ => self.batch(engine, rng, space, now, 12),
        }
    }

    /// Something is expected of a namespace: also of its shadow, if there is one.
    fn expect<T>(&mut self, space: usize, work: impl Fn(&mut Model, bool) -> T) -> Option<T> {
        if let Some(life) = self.shadow.as_mut().and_then(|shadow| shadow[space].life.as_mut()) {
            work(&mut life.model, true);
        }
        self.spaces[space].life.as_mut().map(|life| work(&mut life.model, false))
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
            (Asked::Batch { space, ops, ack, producer }, Reply::Outcomes(outcomes)) => {
                self.log.push(format!("{id}: {outcomes:?}"));
                self.spaces[space].busy -= 1;
                let Some(life) = &mut self.spaces[space].life else { return Ok(()) };
                if outcomes.len() != ops.len() {
                    let detail = format!("{} of {} operations", outcomes.len(), ops.len());
                    return Err(Violation::new("wrong answer", detail));
                }
                if let Some((producer, sequence)) = producer {
                    life.producers[producer].heard(sequence, &outcomes);
                }
                for (op, outcome) in ops.iter().zip(outcomes) {
                    match fate(outcome.as_ref().err()) {
                        Fate::Unknown => {}
                        Fate::NotDone => {
                            self.refused += 1;
                            self.expect(space, |it, _| it.refused(op));
                        }
                        Fate::Done => {
                            self.acknowledged += 1;
                            let is_synced = ack == Ack::Synced;
                            let is_closed = matches!(outcome, Err(Rejection::NamespaceClosed));
                            let answered = |it: &mut Model, is_shadow: bool| {
                                // What is refused at the door says nothing of what went in before.
                                let is_certain = is_synced && !is_shadow && !is_closed;
                                it.answered(op, answer(&outcome), is_certain)
                            };
                            self.expect(space, answered).unwrap_or(Ok(()))?;
                        }
                    }
                }
            }
            (Asked::Read { space, op }, Reply::Timers(timers)) => {
                self.log.push(format!("{id}: {timers:?}"));
                self.spaces[space].busy -= 1;
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
                        let answered = |it: &mut Model, is_shadow: bool| {
                            it.answered(&op, Answer::Timers(timers.clone()), !is_shadow)
                        };
                        self.expect(space, answered).unwrap_or(Ok(()))?;
                    }
                    Err(rejection) => match fate(Some(&rejection)) {
                        Fate::Done => {
                            return Err(Violation::new("wrong answer", rejection.to_string()));
                        }
                        Fate::NotDone | Fate::Unknown => {
                            self.expect(space, |it, _| it.refused(&op));
                        }
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
            (Asked::Savepoint, Reply::Savepoint(info)) => {
                self.log.push(format!("{id}: savepoint {:?}", info.as_ref().map(|info| &info.id)));
                self.savepoints.extend(info.map(|info| info.id).ok());
            }
            _ => return Err(Violation::new("wrong answer", "an answer to another question")),
        }
        Ok(())
    }

    /// The engine is gone: what was not answered may or may not have been done.
    pub(crate) fn crash(&mut self, may_refuse: bool) -> Result<(), Violation> {
        self.asked.clear();
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for space in &mut self.spaces {
            space.busy = 0;
            space.is_restarted = true;
            if let Some(life) = &mut space.life {
                life.crash(&mut space.told, may_refuse)?;
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

impl Producer {
    /// What is not said to be done will be sent again.
    fn heard(&mut self, sequence: u64, outcomes: &[Outcome]) {
        if self.sequence != sequence {
            return;
        }
        self.is_asked = false;
        if outcomes.iter().all(|it| matches!(fate(it.as_ref().err()), Fate::Done)) {
            self.open = None;
        }
    }
}

/// What a rejection says of what it rejects.
pub(crate) enum Fate {
    Done,
    NotDone,
    Unknown,
}

pub(crate) fn fate(rejection: Option<&Rejection>) -> Fate {
    match rejection {
        Some(
            Rejection::QueueFull { .. }
            | Rejection::DiskFull { .. }
            | Rejection::NamespaceStopped { .. },
        ) => Fate::NotDone,
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

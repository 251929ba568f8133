//! Namespaces that run a function, and the client that hands elements to them.
//!
//! Whatever becomes of an element can be read: an account of its callback, a failure, or the element
//! as a late one. So the ledger knows of each whether it was taken, and of each key all callbacks in
//! their order. What a key's outputs, state and timers must be follows from that alone
//! (`script.rs`), as in a run in which nothing ever went wrong.

use crate::draw::PRODUCERS;
use crate::model::{Violation, text};
use crate::rng::Rng;
use crate::script::{AGAIN, FAILS, Place, Step, Told, UNTIL};
use crate::stage::{Request, Sent, Stage};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use stormwheel::error::Rejection;
use stormwheel::function::Element;
use stormwheel::namespace::{
    Command, CommandReply, ErrorPolicy, LateElements, LateTimers, NamespaceConfig, OnError,
    OverduePolicy, Retention, SourceChange, WatermarkConfig,
};
use stormwheel::op::{Action, Op, Outcome, Payload};
use stormwheel::runtime::{Ack, Engine};
use stormwheel::time::{Domain, Timestamp};

/// By this name the engine knows the function.
pub(crate) const FUNCTION: &str = "script";
/// And the one that takes broadcasts besides.
pub(crate) const LISTENER: &str = "listener";
pub(crate) const SOURCES: [&str; 2] = ["left", "right"];
/// Few, so that much happens to each.
const KEYS: u64 = 6;

pub(crate) enum Asked {
    Elements {
        stage: usize,
        ids: Vec<u64>,
        ack: Ack,
        producer: Option<(usize, u64)>,
    },
    Put {
        stage: usize,
    },
    Source {
        stage: usize,
        source: usize,
        to: i64,
    },
    Pause {
        stage: usize,
    },
    Broadcast {
        stage: usize,
        id: u64,
    },
    /// With the version of the function then.
    Resume {
        stage: usize,
        version: u64,
    },
}

pub(crate) enum Reply {
    Outcomes(Vec<Outcome>),
    Command(Result<CommandReply, Rejection>),
}

/// See the module.
pub(crate) struct Functions {
    pub(crate) stages: Vec<Stage>,
    asked: BTreeMap<u64, Asked>,
    replies: Arc<Mutex<Vec<(u64, Reply)>>>,
    next_request: u64,
    pub(crate) next_element: u64,
    pub(crate) taken: u64,
    pub(crate) callbacks: u64,
    /// Of the function: how often it was mended.
    version: Arc<AtomicU64>,
    pub(crate) log: Vec<String>,
}

impl Functions {
    pub(crate) fn new(version: Arc<AtomicU64>) -> Self {
        let plain = NamespaceConfig {
            operator: FUNCTION.to_owned(),
            late_elements: LateElements::SideOutput,
            // What fails fails again: whether it did before a crash is then no matter.
            on_error: OnError { retry: 1, backoff_ms: 0, then: ErrorPolicy::Skip },
            watermark: WatermarkConfig {
                sources: SOURCES.map(str::to_owned).to_vec(),
                idle_after_ms: None,
                delay_ms: None,
            },
            ..NamespaceConfig::default()
        };
        let various = NamespaceConfig {
            late_timers: LateTimers::NextWatermark,
            lateness_ms: 50,
            overdue: OverduePolicy::Spread { over_ms: 100 },
            // Longer than any run, and than what goes without saying.
            retention: Retention { age_ms: 8_640_000_000_000, ..Retention::default() },
            ..plain.clone()
        };
        let patient = NamespaceConfig { overdue: OverduePolicy::Shift, ..plain.clone() };
        let stopping = NamespaceConfig {
            operator: LISTENER.to_owned(),
            on_error: OnError { then: ErrorPolicy::Stop, ..plain.on_error },
            ..plain.clone()
        };
        let listening = NamespaceConfig { operator: LISTENER.to_owned(), ..various.clone() };
        let configs = [
            ("calls", plain),
            ("calls-2", various),
            ("calls-3", patient),
            ("calls-4", stopping),
            ("calls-5", listening),
        ];
        Self {
            stages: configs.into_iter().map(|(name, config)| Stage::new(name, config)).collect(),
            asked: BTreeMap::new(),
            replies: Arc::default(),
            next_request: 0,
            next_element: 0,
            taken: 0,
            callbacks: 0,
            version,
            log: Vec::new(),
        }
    }

    /// How many requests wait for their answers.
    pub(crate) fn waiting(&self) -> usize {
        self.asked.len()
    }

    pub(crate) fn reply<T: 'static>(
        &mut self,
        asked: Asked,
        wrap: impl FnOnce(T) -> Reply + Send + 'static,
    ) -> Box<dyn FnOnce(T) + Send> {
        self.next_request += 1;
        let id = self.next_request;
        self.asked.insert(id, asked);
        let replies = Arc::clone(&self.replies);
        Box::new(move |answer| {
            replies.lock().unwrap_or_else(PoisonError::into_inner).push((id, wrap(answer)));
        })
    }

    /// Asks for something.
    pub(crate) fn ask(
        &mut self,
        engine: &Engine,
        rng: &mut Rng,
        now: i64,
    ) -> Result<(), Violation> {
        let index = rng.below(self.stages.len() as u64) as usize;
        let stage = &mut self.stages[index];
        if stage.is_lost {
            return Ok(());
        }
        if stage.life.is_none() {
            if stage.is_told {
                return Ok(());
            }
            // A crash may have swallowed the answer.
            if let Ok(entry) = engine.namespace(stage.name) {
                return stage.begin(entry);
            }
            stage.is_told = true;
            let (name, config) = (stage.name, stage.config.clone());
            let reply = self.reply(Asked::Put { stage: index }, Reply::Command);
            engine.command(name, Command::Put { config, expected_version: None }, false, reply);
            return Ok(());
        }
        let listens = stage.config.operator == LISTENER;
        match rng.below(14) {
            10..=13 if listens => self.broadcast(engine, rng, index, now),
            0..=1 if !stage.is_told => self.pause_or_resume(engine, rng, index),
            2..=4 if !stage.is_told => self.source(engine, rng, index, now),
            5..=7 => self.produce(engine, rng, index, now),
            _ => {
                let ids = self.draw_elements(rng, index, now, false);
                let ack = crate::draw::ack(rng);
                self.submit(engine, index, ids, ack, None);
            }
        }
        Ok(())
    }

    /// How often the function was mended.
    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Lets the time of a namespace stand still, or go on: also if its function has stopped it, and with
    /// the function mended or not.
    fn pause_or_resume(&mut self, engine: &Engine, rng: &mut Rng, stage: usize) {
        let name = self.stages[stage].name;
        let is_halted = self.stages[stage].is_halted();
        if rng.below(2) == 0 {
            self.version.fetch_add(1, Ordering::Relaxed);
        }
        if !is_halted && rng.below(4) > 0 {
            return;
        }
        (self.stages[stage].is_told, self.stages[stage].halt.is_turning) = (true, true);
        self.stages[stage].halt.turns += 1;
        let (asked, command) = if is_halted {
            (Asked::Resume { stage, version: self.version() }, Command::Resume)
        } else {
            (Asked::Pause { stage }, Command::Pause)
        };
        self.log.push(format!("{name}: {command:?}, mended {} times", self.version()));
        let reply = self.reply(asked, Reply::Command);
        engine.command(name, command, false, reply);
    }

    fn source(&mut self, engine: &Engine, rng: &mut Rng, index: usize, now: i64) {
        let source = rng.below(SOURCES.len() as u64) as usize;
        let mark = &mut self.stages[index].marks[source];
        let from = mark.told.unwrap_or(now - 100);
        let to = if rng.below(8) == 0 { from - 5 } else { from + rng.within(0, 150) };
        mark.told = Some(mark.told.map_or(to, |told| told.max(to)));
        self.stages[index].is_told = true;
        let name = self.stages[index].name;
        self.log.push(format!("{name}: {} comes to {to}", SOURCES[source]));
        let reply = self.reply(Asked::Source { stage: index, source, to }, Reply::Command);
        let change = SourceChange::Watermark(Timestamp::from_millis(to));
        let command = Command::Source { source: SOURCES[source].to_owned(), change };
        engine.command(name, command, rng.below(2) == 0, reply);
    }

    /// Somebody sends the next elements that are to be taken once, or the last ones again.
    fn produce(&mut self, engine: &Engine, rng: &mut Rng, index: usize, now: i64) {
        let ack = crate::draw::ack(rng);
        let producer = rng.below(PRODUCERS.len() as u64) as usize;
        let it = &self.stages[index].producers[producer];
        let (sequence, ids) = match &it.open {
            Some(_) if it.is_asked && rng.below(3) > 0 => return,
            Some(ids) => (it.sequence, ids.clone()),
            None => {
                let sequence = it.sequence + 1 + rng.below(2);
                (sequence, self.draw_elements(rng, index, now, true))
            }
        };
        let open = Some(ids.clone());
        self.stages[index].producers[producer] = Request { sequence, open, is_asked: true };
        self.submit(engine, index, ids, ack, Some((producer, sequence)));
    }

    fn draw_elements(
        &mut self,
        rng: &mut Rng,
        index: usize,
        now: i64,
        is_produced: bool,
    ) -> Vec<u64> {
        let stops = self.stages[index].stops().then(|| self.version() + 1);
        let stage = &mut self.stages[index];
        let event = stage.watermark(|mark| mark.told).unwrap_or(now - 100);
        let mut ids = Vec::new();
        for _ in 0..=rng.below(8) {
            self.next_element += 1;
            let sent = Sent {
                key: format!("f-{}", rng.below(KEYS)).into_bytes(),
                timestamp: event + rng.within(-60, 200),
                steps: (0..rng.below(5)).map(|_| step(rng, [event, now], stops)).collect(),
                is_produced,
                taken: None,
                answered: None,
                is_gone: false,
            };
            stage.sent.insert(self.next_element, sent);
            ids.push(self.next_element);
        }
        ids
    }

    fn submit(
        &mut self,
        engine: &Engine,
        index: usize,
        ids: Vec<u64>,
        ack: Ack,
        producer: Option<(usize, u64)>,
    ) {
        let stage = &self.stages[index];
        let Some((entry, _)) = &stage.life else { return };
        let mut batch = engine.batch(entry);
        batch.ack(ack);
        if let Some((producer, sequence)) = producer {
            batch.producer(PRODUCERS[producer], sequence);
        }
        for id in &ids {
            let Sent { key, timestamp, steps, .. } = &stage.sent[id];
            let told = Told { id: *id, steps: steps.clone() };
            let value = serde_json::to_vec(&told).expect("plain data");
            let timestamp = Timestamp::from_millis(*timestamp);
            let element = Element { timestamp, input: 0, value: Payload::Json(&value) };
            batch.push(&Op { key, action: Action::Element(element) }).expect("it is small");
            self.log.push(format!("  {} {timestamp:?} {told:?}", text(key)));
        }
        self.log.push(format!("to {}, {ack:?}, {producer:?}: {ids:?}", stage.name));
        let reply =
            self.reply(Asked::Elements { stage: index, ids, ack, producer }, Reply::Outcomes);
        engine.submit(batch, reply);
    }

    /// Takes in what was answered.
    pub(crate) fn hear(&mut self, engine: &Engine) -> Result<(), Violation> {
        let replies =
            std::mem::take(&mut *self.replies.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, reply) in replies {
            match (self.asked.remove(&id), reply) {
                (
                    Some(Asked::Elements { stage, ids, ack, producer }),
                    Reply::Outcomes(outcomes),
                ) => {
                    self.log.push(format!("{ids:?}: {outcomes:?}"));
                    self.stages[stage].answered(&ids, ack, producer, &outcomes)?;
                }
                (Some(Asked::Put { stage }), Reply::Command(reply)) => {
                    let stage = &mut self.stages[stage];
                    stage.is_told = false;
                    if let (Ok(_), Ok(entry)) = (reply, engine.namespace(stage.name)) {
                        stage.begin(entry)?;
                    }
                }
                (Some(Asked::Source { stage, source, to }), Reply::Command(reply)) => {
                    let stage = &mut self.stages[stage];
                    stage.is_told = false;
                    if reply.is_ok() {
                        let mark = &mut stage.marks[source];
                        mark.certain = mark.certain.max(Some(to));
                    }
                }
                (Some(Asked::Pause { stage }), Reply::Command(reply)) => {
                    self.log.push(format!("pause: {reply:?}"));
                    self.stages[stage].paused(&reply)?;
                }
                (Some(Asked::Resume { stage, version }), Reply::Command(reply)) => {
                    self.log.push(format!("resume: {reply:?}"));
                    self.stages[stage].resumed(version, &reply)?;
                }
                (Some(Asked::Broadcast { stage, id }), Reply::Command(reply)) => {
                    self.log.push(format!("broadcast {id}: {reply:?}"));
                    self.stages[stage].announced(id, &reply)?;
                }
                _ => return Err(Violation::new("wrong answer", "to a question of a function's")),
            }
        }
        Ok(())
    }

    /// Reads what has come. `clocks`: what the engine's clock reads, and the latest of any clock.
    pub(crate) fn consume(
        &mut self,
        engine: &Engine,
        (now_ms, latest_ms): (i64, i64),
        is_calm: bool,
    ) -> Result<Vec<String>, Violation> {
        let mut story = Vec::new();
        for stage in &mut self.stages {
            let age_ms = stage.config.retention.age_ms;
            let Some((_, consumer)) = &mut stage.life else { continue };
            let all = consumer.poll(engine, (now_ms, age_ms), latest_ms, is_calm)?;
            let is_late = consumer.is_late;
            for seen in all {
                let value = seen.timer.payload.as_ref().map(|(_, bytes)| &**bytes);
                let value = String::from_utf8_lossy(value.unwrap_or_default());
                story.push(format!("{seen:?}: {value}"));
                self.callbacks += u64::from(seen.tag.is_none());
                let version = self.version.load(Ordering::Relaxed);
                self.taken += u64::from(stage.take(&seen, version)?);
            }
            if is_late {
                // Nobody can tell any more what it should have seen.
                (stage.life, stage.is_lost) = (None, true);
            }
        }
        Ok(story)
    }

    /// The engine is gone: what was not answered may or may not have been done.
    pub(crate) fn crash(&mut self) {
        self.asked.clear();
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for stage in &mut self.stages {
            stage.is_told = false;
            if stage.halt.is_turning {
                (stage.halt.is_turning, stage.halt.is_paused) = (false, None);
            }
            stage.producers.iter_mut().for_each(|producer| producer.is_asked = false);
            stage.announcements.is_asked = false;
            if let Some((_, consumer)) = &mut stage.life {
                consumer.is_anew = true;
            }
        }
    }
}

/// Something that an element tells the function.
fn step(rng: &mut Rng, near: [i64; 2], stops: Option<u64>) -> Step {
    let domain = *rng.pick(&Domain::ALL);
    let at = near[domain as usize] + rng.within(-40, 250);
    let name = match rng.below(8) {
        0..=1 => Some(AGAIN.to_owned()),
        2 => Some("plain".to_owned()),
        3 => Some(stops.map_or(FAILS.to_owned(), |until| format!("{UNTIL}{until}"))),
        _ => None,
    };
    let place: Place = (domain, at, name);
    match rng.below(20) {
        0..=12 => Step::Register(place),
        13..=15 => Step::Delete(place),
        16 => Step::DeleteAll,
        17..=18 => Step::Emit,
        _ if rng.below(2) == 0 => stops.map_or(Step::Fail, Step::Until),
        _ => Step::Clear,
    }
}

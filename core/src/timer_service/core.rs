//! What a timer service is made of: an engine with two namespaces, and what was handed out.
//!
//! `timers` holds the timers; what they fire stands in the output log until it is acknowledged.
//! `acknowledged` holds which fires are: timers at the end of time, whose payloads say it. So an
//! acknowledgement is a record of the same log as everything else.
//!
//! Nothing here waits: each question comes with an [`Answer`].

use super::acks::{Acks, CHUNK_BYTES, Change};
use super::answer::{Promise, promise};
use super::consumers::{Consumer, Consumers};
use super::delivery::Delivery;
use super::{Answer, Error, Fire};
use crate::error::Rejection;
use crate::limits::{PAYLOAD_BYTES_MAX, TIMERS_PER_KEY_MAX};
use crate::namespace::{
    ClockChange, ClockKind, Command, CommandReply, NamespaceConfig, NamespaceLimits, OverduePolicy,
    Retention,
};
use crate::op::{
    Action, Only, Op, Outcome, Payload, PayloadBuf, Register, Target, TimerView, When,
};
use crate::output::Cursor;
use crate::runtime::{Batch, Engine, NamespaceEntry, OutputLog, ReadRejection, Waiter};
use crate::time::{Domain, Timestamp};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Holds the timers.
pub(super) const TIMERS: &str = "timers";
/// Holds which fires are acknowledged.
const ACKNOWLEDGED: &str = "acknowledged";
/// The key and the name of the timer that says the floor.
const FLOOR: &str = "floor";
/// The key whose timers say the chunks of bits above it, by their numbers in hexadecimal.
const ABOVE: &[u8] = b"above";
/// Bytes of fires that are read at a time.
const READ_BYTES: usize = 256 << 10;

/// See the module.
pub(super) struct Core {
    /// None: it is closed, and holds on to nothing.
    engine: Mutex<Option<Engine>>,
    pub(super) timers: Arc<NamespaceEntry>,
    acknowledged: Arc<NamespaceEntry>,
    outputs: Arc<OutputLog>,
    delivery: Mutex<Delivery>,
    /// Wakes the consumers when there is more to read.
    waiter: Mutex<Waiter>,
    consumers: Arc<Consumers>,
    /// Some acknowledgement was not written down.
    are_acks_refused: Arc<AtomicBool>,
    /// Itself, for the fires.
    own: std::sync::Weak<Self>,
}

/// What there is to hand out.
enum Next {
    Fire(Fire),
    /// Nothing: all up to here was handed out. Whoever waits, waits for what is behind it, whatever
    /// others have read meanwhile.
    End(Cursor),
}

/// What was written down of the acknowledgements.
pub(super) struct Stored {
    floor: Answer<Option<TimerView>>,
    above: Answer<Vec<TimerView>>,
}

/// Asks for the namespaces of a service.
pub(super) fn ask_namespaces(
    engine: &Engine,
    clock: ClockKind,
    overdue: OverduePolicy,
) -> Answer<()> {
    let keeps_all = NamespaceConfig {
        // What goes is what was acknowledged.
        retention: Retention { age_ms: i64::MAX, bytes: u64::MAX },
        limits: NamespaceLimits {
            timers: None,
            timers_per_key: TIMERS_PER_KEY_MAX,
            payload_bytes: PAYLOAD_BYTES_MAX,
        },
        ..NamespaceConfig::default()
    };
    let (promise, answer) = promise();
    let is_manual = clock == ClockKind::Manual;
    let asker = engine.clone();
    let second = keeps_all.clone();
    let timers = NamespaceConfig { clock, overdue, ..keeps_all };
    let put_both = move || {
        put(&asker.clone(), TIMERS, timers, move |done| match done {
            Ok(()) => put(&asker, ACKNOWLEDGED, second, move |done| {
                promise.keep(done.map_err(Error::from));
            }),
            Err(Rejection::OptionFixed { field: "clock" }) => {
                promise.keep(Err(Error::OtherClock { asked_manual: is_manual }));
            }
            Err(rejection) => promise.keep(Err(rejection.into())),
        });
    };
    match engine.namespace(TIMERS) {
        // How many timers were recovered is known once the shard has gone round: any answer will do.
        Ok(found) => engine.describe(&found, Box::new(move |_| put_both())),
        Err(_) => put_both(),
    }
    answer
}

fn put(
    engine: &Engine,
    name: &str,
    config: NamespaceConfig,
    then: impl FnOnce(Result<(), Rejection>) + Send + 'static,
) {
    let command = Command::Put { config, expected_version: None };
    let reply = Box::new(move |done: Result<CommandReply, Rejection>| then(done.map(drop)));
    engine.command(name, command, false, reply);
}

impl Stored {
    /// Asks for it, once the namespaces are there.
    pub(super) fn ask(engine: &Engine) -> Result<Self, Error> {
        let acknowledged = engine.namespace(ACKNOWLEDGED)?;
        let (promise, floor) = promise();
        let reply = Box::new(|timer| answer_with(promise, timer));
        engine.key_timer(&acknowledged, FLOOR.as_bytes(), Domain::Event, FLOOR, reply);
        let (promise, above) = self::promise();
        engine.key_timers(&acknowledged, ABOVE, Box::new(|timers| answer_with(promise, timers)));
        Ok(Self { floor, above })
    }

    /// Waits for it.
    pub(super) fn wait(self) -> Result<(Option<TimerView>, Vec<TimerView>), Error> {
        Ok((self.floor.wait()?, self.above.wait()?))
    }
}

fn answer_with<T>(promise: Promise<T>, answer: Result<T, Rejection>) {
    promise.keep(answer.map_err(Error::from));
}

/// The acknowledgements as they were written down; the floor is none if there was none yet.
fn read_acks(
    floor: Option<TimerView>,
    above: Vec<TimerView>,
    earliest: Cursor,
) -> Result<Acks, Error> {
    let unreadable = |detail: String| Error::Acknowledgements { detail };
    let bytes = |timer: &TimerView| match &timer.payload {
        Some(PayloadBuf::Binary(bytes)) => bytes.clone(),
        _ => Vec::new(),
    };
    let floor = match floor {
        None => earliest.0,
        Some(timer) => {
            let bytes = bytes(&timer);
            let number = <[u8; 8]>::try_from(&bytes[..]).map_err(|_| {
                unreadable(format!("the floor has {} bytes, and should have 8", bytes.len()))
            })?;
            // What was not acknowledged is there: if it is not, the first read says so.
            u64::from_le_bytes(number)
        }
    };
    let mut chunks = BTreeMap::new();
    for timer in above {
        let name = timer.name.clone().unwrap_or_default();
        let number = u64::from_str_radix(&name, 16).ok();
        let bits = bytes(&timer);
        match number {
            Some(number) if bits.len() == CHUNK_BYTES => drop(chunks.insert(number, bits)),
            _ => {
                return Err(unreadable(format!(
                    "chunk `{name}` has {} bytes, and should have {CHUNK_BYTES}",
                    bits.len()
                )));
            }
        }
    }
    Ok(Acks::new(floor, chunks))
}

impl Core {
    /// A service on an engine that has its namespaces, from what was written down.
    pub(super) fn new(
        engine: Engine,
        (floor, above): (Option<TimerView>, Vec<TimerView>),
    ) -> Result<Arc<Self>, Error> {
        let (timers, acknowledged) = (engine.namespace(TIMERS)?, engine.namespace(ACKNOWLEDGED)?);
        let outputs = Arc::clone(engine.outputs());
        let acks = read_acks(floor, above, outputs.earliest(timers.id))?;
        outputs.release(timers.id, Cursor(acks.floor()));
        let waiter = outputs.waiter(timers.id);
        Ok(Arc::new_cyclic(|own| Self {
            engine: Mutex::new(Some(engine)),
            timers,
            acknowledged,
            outputs,
            delivery: Mutex::new(Delivery::new(acks)),
            waiter: Mutex::new(waiter),
            consumers: Arc::default(),
            are_acks_refused: Arc::default(),
            own: own.clone(),
        }))
    }

    pub(super) fn engine(&self) -> Result<Engine, Error> {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.clone().ok_or(Error::Closed)
    }

    /// Whether time only moves when it is told to.
    pub(super) fn is_manual(&self) -> bool {
        self.timers.config.clock == ClockKind::Manual
    }

    /// Closes: whoever waits is told, what is under way is answered. Waits for that.
    pub(super) fn close(&self) -> Result<(), Error> {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(engine) = engine else {
            return Ok(());
        };
        self.consumers.wake_all();
        engine.stop();
        engine.durability().poisoned.map_or(Ok(()), |detail| Err(Error::Failed { detail }))
    }

    /// An empty batch of operations on timers.
    pub(super) fn batch(&self) -> Result<Batch, Error> {
        Ok(self.engine()?.batch(&self.timers))
    }

    /// Hands a batch over.
    pub(super) fn submit(&self, batch: Batch) -> Answer<Vec<Outcome>> {
        let (promise, answer) = promise();
        match self.engine() {
            Ok(engine) => engine.submit(batch, Box::new(|outcomes| promise.keep(Ok(outcomes)))),
            Err(error) => promise.keep(Err(error)),
        }
        answer
    }

    /// The timers of a key.
    pub(super) fn list(&self, key: &[u8]) -> Answer<Vec<TimerView>> {
        let (promise, answer) = promise();
        match self.engine() {
            Ok(engine) => {
                engine.key_timers(&self.timers, key, Box::new(|it| answer_with(promise, it)));
            }
            Err(error) => promise.keep(Err(error)),
        }
        answer
    }

    /// Sets the manual clock; the answer comes once what is due by then can be read.
    pub(super) fn set_clock(&self, now: Timestamp) -> Answer<u64> {
        let (promise, answer) = promise();
        let engine = match self.engine() {
            Ok(engine) if self.is_manual() => engine,
            Ok(_) => {
                promise.keep(Err(Error::ClockNotManual));
                return answer;
            }
            Err(error) => {
                promise.keep(Err(error));
                return answer;
            }
        };
        let reply = Box::new(|done: Result<CommandReply, Rejection>| {
            promise.keep(done.map_err(Error::from).map(|reply| match reply {
                CommandReply::Clock { fired, .. } => fired,
                _ => 0,
            }));
        });
        engine.command(TIMERS, Command::Clock(ClockChange::Set(now)), true, reply);
        answer
    }

    /// Answers once everything that is due by now can be read.
    pub(super) fn fired(&self) -> Answer<()> {
        let (promise, answer) = promise();
        match self.engine() {
            Ok(engine) => engine.fired(Box::new(|done| answer_with(promise, done))),
            Err(error) => promise.keep(Err(error)),
        }
        answer
    }

    fn delivery(&self) -> MutexGuard<'_, Delivery> {
        // It is whole between any two calls, whoever panicked elsewhere.
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads some more of what has fired. Returns whether there was anything.
    fn read_more(&self, delivery: &mut Delivery) -> Result<bool, Error> {
        let after = delivery.read_to();
        let read = self.outputs.read(self.timers.id, after, READ_BYTES).map_err(unreadable)?;
        for block in &read.blocks {
            let fires = block.after(after);
            delivery.take_in(
                block.last(),
                fires.map(|(cursor, record)| Fire::new(cursor.0, &record, self.own.clone())),
            );
        }
        Ok(delivery.read_to() > after)
    }

    /// The next fire, if one can be read.
    pub(super) fn try_next(&self) -> Result<Option<Fire>, Error> {
        Ok(match self.next_or_end()? {
            Next::Fire(fire) => Some(fire),
            Next::End(_) => None,
        })
    }

    fn next_or_end(&self) -> Result<Next, Error> {
        self.engine()?;
        let mut delivery = self.delivery();
        loop {
            if let Some(fire) = delivery.hand_out() {
                return Ok(Next::Fire(fire));
            }
            if !self.read_more(&mut delivery)? {
                return Ok(Next::End(delivery.read_to()));
            }
        }
    }

    /// Everything that can be read and is due at or before this time, by (time, key, name).
    pub(super) fn take_until(&self, now: Timestamp) -> Result<Vec<Fire>, Error> {
        self.engine()?;
        let mut delivery = self.delivery();
        while self.read_more(&mut delivery)? {}
        Ok(delivery.hand_out_until(now))
    }

    /// The next fire, once there is one; none once the service is closed.
    pub(super) fn poll_next(
        &self,
        consumer: &Consumer,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Fire, Error>>> {
        loop {
            // First of all: whatever comes from here on wakes it.
            consumer.wait(context.waker());
            let read_to = match self.next_or_end() {
                Ok(Next::End(read_to)) => read_to,
                Ok(Next::Fire(fire)) => return Poll::Ready(Some(Ok(fire))),
                Err(Error::Closed) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            let waker = Waker::from(Arc::clone(&self.consumers));
            let mut waiter = self.waiter.lock().unwrap_or_else(PoisonError::into_inner);
            match waiter.poll_ready(read_to, &mut Context::from_waker(&waker)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if !self.outputs.is_ended(self.timers.id) => {}
                Poll::Ready(()) => return Poll::Ready(self.why_ended().map(Err)),
            }
        }
    }

    fn why_ended(&self) -> Option<Error> {
        let detail = self.engine().ok()?.durability().poisoned?;
        Some(Error::Failed { detail })
    }

    /// A place among those who wait for fires.
    pub(super) fn join(&self) -> Consumer {
        Consumers::join(&self.consumers)
    }

    /// What was handed out and not acknowledged is handed out again.
    pub(super) fn redeliver(&self) -> Result<(), Error> {
        self.engine()?;
        self.delivery().rewind();
        self.consumers.wake_all();
        Ok(())
    }

    /// Acknowledges by a service that may have gone.
    pub(super) fn ack_upgraded(core: Option<&Arc<Self>>, cursors: &[u64]) -> Answer<()> {
        if let Some(core) = core {
            return core.ack(cursors);
        }
        let (promise, answer) = promise();
        promise.keep(Err(Error::Closed));
        answer
    }

    /// Acknowledges fires that were handed out.
    pub(super) fn ack(&self, cursors: &[u64]) -> Answer<()> {
        let (promise, answer) = promise();
        let engine = match self.engine() {
            Ok(engine) => engine,
            Err(error) => {
                promise.keep(Err(error));
                return answer;
            }
        };
        // Over the submit: what is written down follows what is in memory in the same order.
        let mut delivery = self.delivery();
        if self.are_acks_refused.swap(false, Ordering::Relaxed) {
            delivery.acks.say_again();
        }
        delivery.acknowledge(cursors);
        let mut batch = engine.batch(&self.acknowledged);
        for change in delivery.acks.changes() {
            if let Err(rejection) = push_change(&mut batch, &change) {
                self.are_acks_refused.store(true, Ordering::Relaxed);
                promise.keep(Err(rejection.into()));
                return answer;
            }
        }
        let (outputs, timers) = (Arc::clone(&self.outputs), self.timers.id);
        let (are_refused, floor) = (Arc::clone(&self.are_acks_refused), delivery.acks.floor());
        let reply = Box::new(move |outcomes: Vec<Outcome>| {
            if let Some(rejection) = outcomes.into_iter().find_map(Result::err) {
                are_refused.store(true, Ordering::Relaxed);
                promise.keep(Err(rejection.into()));
            } else {
                outputs.release(timers, Cursor(floor));
                promise.keep(Ok(()));
            }
        });
        engine.submit(batch, reply);
        answer
    }
}

fn push_change(batch: &mut Batch, change: &Change) -> Result<(), Rejection> {
    match change {
        Change::Floor(floor) => push_fact(batch, FLOOR.as_bytes(), FLOOR, &floor.to_le_bytes()),
        Change::Chunk(number, bits) => push_fact(batch, ABOVE, &format!("{number:x}"), bits),
        Change::Forget(number) => {
            let name = format!("{number:x}");
            let target = Target::Name(&name);
            let action = Action::Delete { domain: Domain::Event, target };
            batch.push(&Op { key: ABOVE, action })
        }
    }
}

/// A timer that never fires, and holds what is to be remembered.
fn push_fact(batch: &mut Batch, key: &[u8], name: &str, payload: &[u8]) -> Result<(), Rejection> {
    let register = Register {
        domain: Domain::Event,
        name: Some(name),
        when: When::At(Timestamp::MAX),
        payload: Some(Payload::Binary(payload)),
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    };
    batch.push(&Op { key, action: Action::Register(register) })
}

fn unreadable(rejection: ReadRejection) -> Error {
    let detail = match rejection {
        ReadRejection::Fault(fault) => fault.to_string(),
        ReadRejection::Gap { earliest } => {
            format!("those up to {} are gone, and were not acknowledged", earliest.0)
        }
        ReadRejection::Foreign { born } => {
            format!("what was acknowledged is of another log, this one begins behind {}", born.0)
        }
        ReadRejection::Ahead { latest } => {
            format!("the log ends at {}, before what was acknowledged", latest.0)
        }
    };
    Error::Unreadable { detail }
}

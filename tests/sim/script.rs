//! A function that does what its elements tell it, and what a key of it must come to: a model of one
//! key that is shown the callbacks one by one, as the function told of them in its outputs.
//!
//! Everything a callback is shown goes into the state. So a state that was made anew after a crash,
//! out of the log, is that of a run without one only if each of its callbacks was shown the same.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stormwheel::function::{
    CallContext, Context, FunctionError, KeyedProcessFunction, OnTimerContext, OutputTag, Result,
};
use stormwheel::time::{Domain, Timestamp};

/// Where what is not the account of a callback goes.
pub(crate) const SIDE: &str = "side";
/// Those whose name begins so fail until the function has come to a version.
pub(crate) const UNTIL: &str = "until-";
/// Timers of this name set themselves again, also to times that have been; those of the other fail.
pub(crate) const AGAIN: &str = "again";
pub(crate) const FAILS: &str = "fails";

/// A timer, in the order in which those of one domain fire.
pub(crate) type Place = (Domain, i64, Option<String>);

/// What an element tells the function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) id: u64,
    pub(crate) steps: Vec<Step>,
}

/// What a callback asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    Register(Place),
    Delete(Place),
    DeleteAll,
    Emit,
    Clear,
    Fail,
    /// The callback fails until the function has come to this version.
    Until(u64),
}

/// What a callback is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    Element {
        id: u64,
        timestamp: i64,
    },
    Timer(Place),
    /// Of all keys.
    Broadcast {
        id: u64,
    },
    /// Behind that broadcast.
    Visit {
        id: u64,
    },
}

/// What the function is shown of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) watermark: Option<i64>,
    pub(crate) clock: Option<i64>,
    pub(crate) heard: Heard,
}

/// What the function has heard in broadcasts: the state that they leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Heard {
    pub(crate) count: u64,
    /// Those of them that have all keys visited.
    pub(crate) visits: u64,
    pub(crate) sum: u64,
}

/// The account of a callback: its main output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) cause: Cause,
    pub(crate) shown: Shown,
    pub(crate) state: State,
    /// The key's timers, as they are after it.
    pub(crate) timers: Vec<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct State {
    callbacks: u64,
    pub(crate) sum: u64,
}

/// See the module.
pub(crate) struct Script {
    /// How often it was mended, so far: it never goes back, and so what has succeeded once does again.
    pub(crate) version: Arc<AtomicU64>,
}

impl KeyedProcessFunction for Script {
    type Input = Told;
    type State = State;
    type Output = Account;

    fn process_element(
        &mut self,
        told: Told,
        state: &mut State,
        ctx: &mut Context<Account>,
    ) -> Result<()> {
        let timestamp = ctx.timestamp().as_millis();
        let cause = Cause::Element { id: told.id, timestamp };
        run(state, ctx, (self.version(), Heard::default()), cause, &told.steps)
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        state: &mut State,
        ctx: &mut OnTimerContext<Account>,
    ) -> Result<()> {
        let place = (ctx.domain(), time.as_millis(), ctx.name().map(str::to_owned));
        run(state, ctx, (self.version(), Heard::default()), Cause::Timer(place), &[])
    }
}

pub(crate) fn run<C>(
    state: &mut State,
    ctx: &mut CallContext<'_, Account, C>,
    (version, heard): (u64, Heard),
    cause: Cause,
    told: &[Step],
) -> Result<()> {
    let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millis);
    let (watermark, clock) = (millis(ctx.watermark()), millis(ctx.processing_time()));
    let shown = Shown { watermark, clock, heard };
    let steps = state.react(&cause, shown, told);
    for step in &steps {
        let mut timers = ctx.timers();
        match step {
            Step::Register((domain, at, name)) => match name {
                Some(name) => timers.named(name).register(*domain, Timestamp::from_millis(*at)),
                None => timers.register(*domain, Timestamp::from_millis(*at)),
            },
            Step::Delete((domain, at, name)) => match name {
                Some(name) => timers.named(name).delete(*domain),
                None => timers.delete(*domain, Timestamp::from_millis(*at)),
            },
            Step::DeleteAll => timers.delete_all(),
            Step::Emit | Step::Clear | Step::Fail | Step::Until(_) => {}
        }
    }
    let timers = ctx.timers().list().into_iter();
    let timers = timers
        .map(|it| (it.domain, it.time.as_millis(), it.id.name().map(str::to_owned)))
        .collect();
    ctx.emit(Account { cause, shown, state: *state, timers });
    for index in 0..emits(&steps) {
        ctx.emit_to(&OutputTag::new(SIDE), (state.sum, index));
    }
    if steps.contains(&Step::Clear) {
        ctx.clear_state();
    }
    // Last, so that there is something to be undone.
    if steps.contains(&Step::Fail) {
        return Err(FunctionError::new("it was told to fail"));
    }
    if !steps.iter().all(|step| step.succeeds_by(version)) {
        return Err(FunctionError::new("it is not mended yet"));
    }
    Ok(())
}

/// Until which version a timer of this name fails.
pub(crate) fn until(name: &str) -> Option<u64> {
    name.strip_prefix(UNTIL)?.parse().ok()
}

impl Step {
    fn succeeds_by(&self, version: u64) -> bool {
        !matches!(self, Self::Until(until) if *until > version)
    }
}

impl Script {
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }
}

pub(crate) fn emits(steps: &[Step]) -> usize {
    steps.iter().filter(|step| **step == Step::Emit).count()
}

impl State {
    /// Takes a callback in. Returns what the callback is to ask for.
    pub(crate) fn react(&mut self, cause: &Cause, shown: Shown, told: &[Step]) -> Vec<Step> {
        self.callbacks += 1;
        let (what, at) = match cause {
            Cause::Element { id, timestamp } => (*id, *timestamp),
            Cause::Timer((domain, at, name)) => {
                (u64::MAX - *domain as u64 - 2 * name.as_ref().map_or(0, String::len) as u64, *at)
            }
            Cause::Broadcast { id } | Cause::Visit { id } => (*id, -1),
        };
        let heard = Some(shown.heard.sum as i64);
        for part in [Some(what as i64), Some(at), shown.watermark, shown.clock, heard] {
            let part = part.map_or(u64::MAX / 3, |part| part as u64);
            self.sum = (self.sum ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        if matches!(cause, Cause::Visit { .. }) {
            return match self.callbacks % 5 {
                0 => vec![Step::Fail],
                1 => vec![Step::Emit],
                2 if self.sum.is_multiple_of(2) => vec![Step::Emit, Step::Clear],
                _ => Vec::new(),
            };
        }
        let Cause::Timer((domain, at, name)) = cause else { return told.to_vec() };
        let other = Domain::ALL[1 - *domain as usize];
        match name.as_deref() {
            Some(name) if let Some(until) = until(name) => vec![Step::Until(until), Step::Emit],
            Some(FAILS) => vec![Step::Register((other, *at, None)), Step::Fail],
            Some(AGAIN) if !self.callbacks.is_multiple_of(4) => {
                let in_ms = [-5, 0, 40][self.sum as usize % 3];
                vec![Step::Register((*domain, at + in_ms, name.clone())), Step::Emit]
            }
            _ => match self.sum % 12 {
                0 => vec![Step::Register((other, at + 3, None))],
                1 => vec![Step::Register((*domain, at - 2, None)), Step::Emit, Step::Emit],
                2 => vec![Step::DeleteAll],
                3 => vec![Step::Emit, Step::Clear],
                4 => vec![Step::Delete((*domain, *at, Some(AGAIN.to_owned())))],
                _ => Vec::new(),
            },
        }
    }

    /// As it is written down; none if it is the default.
    fn written(self) -> Option<Vec<u8>> {
        if self == Self::default() {
            return None;
        }
        let mut bytes = Vec::new();
        for mut number in [u64::from(Script::STATE_VERSION), self.callbacks, self.sum] {
            while number > 0x7f {
                bytes.push(number as u8 | 0x80);
                number >>= 7;
            }
            bytes.push(number as u8);
        }
        Some(bytes)
    }
}

/// What a key has come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyModel {
    state: State,
    timers: BTreeSet<Place>,
    /// What else the last callback has emitted, and was not read yet.
    side: VecDeque<(u64, usize)>,
    watermark: Option<i64>,
    /// What it has heard by its last callback, and in how many visits.
    heard: Heard,
}

impl KeyModel {
    pub(crate) fn state(&self) -> Option<Vec<u8>> {
        self.state.written()
    }

    pub(crate) fn timers(&self) -> &BTreeSet<Place> {
        &self.timers
    }

    /// The function, of this version at most, has told of a callback. `waits`: late event timers wait
    /// for the next watermark.
    pub(crate) fn called(
        &mut self,
        account: &Account,
        told: &[Step],
        waits: bool,
        version: u64,
    ) -> std::result::Result<(), String> {
        let Account { cause, shown, .. } = account;
        self.begin(cause)?;
        self.hear(cause, shown.heard)?;
        let is_due = |place: &Place| match place.0 {
            Domain::Event => shown.watermark.is_some_and(|it| place.1 <= it),
            Domain::Processing => shown.clock.is_some_and(|it| place.1 <= it),
        };
        if shown.watermark < self.watermark {
            return Err(format!("the watermark went back from {:?}", self.watermark));
        }
        self.watermark = shown.watermark;
        match cause {
            Cause::Timer(place) if !is_due(place) => return Err("fired early".to_owned()),
            Cause::Element { .. } if !waits => {
                let due = self.timers.iter().find(|it| it.0 == Domain::Event && is_due(it));
                if let Some(place) = due {
                    return Err(format!("should have fired before the element: {place:?}"));
                }
            }
            _ => {}
        }
        let steps = self.state.react(cause, *shown, told);
        if steps.contains(&Step::Fail) || !steps.iter().all(|step| step.succeeds_by(version)) {
            return Err("was to fail".to_owned());
        }
        for step in &steps {
            match step {
                Step::Register((domain, at, name)) => {
                    self.delete_named(*domain, name.as_deref());
                    self.timers.insert((*domain, *at, name.clone()));
                }
                Step::Delete((domain, _, Some(name))) => self.delete_named(*domain, Some(name)),
                Step::Delete(place) => {
                    self.timers.remove(place);
                }
                Step::DeleteAll => self.timers.clear(),
                Step::Emit | Step::Clear | Step::Fail | Step::Until(_) => {}
            }
        }
        let is_visit = matches!(cause, Cause::Visit { .. });
        let are_right = account.timers.iter().eq(&self.timers);
        if account.state != self.state || !is_visit && !are_right {
            return Err(format!("without a crash it would come to {self:?}"));
        }
        self.side.extend((0..emits(&steps)).map(|index| (self.state.sum, index)));
        if steps.contains(&Step::Clear) {
            self.state = State::default();
        }
        Ok(())
    }

    /// A callback is said to have failed.
    pub(crate) fn failed(
        &mut self,
        cause: &Cause,
        told: &[Step],
    ) -> std::result::Result<(), String> {
        self.begin(cause)?;
        if matches!(cause, Cause::Visit { .. }) {
            let heard = Heard { visits: self.heard.visits + 1, ..self.heard };
            self.hear(cause, heard)?;
        }
        let shown = Shown { watermark: None, clock: None, heard: self.heard };
        let mut state = self.state;
        if state.react(cause, shown, told).contains(&Step::Fail) {
            Ok(())
        } else {
            Err("was not to fail".to_owned())
        }
    }

    /// Something else was emitted.
    pub(crate) fn emitted(&mut self, value: (u64, usize)) -> std::result::Result<(), String> {
        match self.side.pop_front() {
            Some(expected) if expected == value => Ok(()),
            other => Err(format!("{value:?} was emitted, not {other:?}")),
        }
    }

    /// Nothing is under way: everything that the key has emitted was read.
    pub(crate) fn is_done(&self) -> bool {
        self.side.is_empty()
    }

    fn begin(&mut self, cause: &Cause) -> std::result::Result<(), String> {
        if !self.side.is_empty() {
            return Err(format!("before it, {:?} was to be emitted", self.side));
        }
        let Cause::Timer(place) = cause else { return Ok(()) };
        let first = self.timers.iter().find(|it| it.0 == place.0).cloned();
        if first.as_ref() != Some(place) {
            return Err(format!("the next timer to fire was {first:?}, of {:?}", self.timers));
        }
        self.timers.remove(place);
        Ok(())
    }

    /// A callback has heard so much: broadcasts that visit all keys have visited this one, if it had a
    /// state.
    fn hear(&mut self, cause: &Cause, heard: Heard) -> std::result::Result<(), String> {
        let before = std::mem::replace(&mut self.heard, heard);
        let has_state = self.state != State::default();
        let is_visit = matches!(cause, Cause::Visit { .. });
        let is_right = match (is_visit, has_state) {
            (true, _) => has_state && heard.visits == before.visits + 1,
            (false, true) => heard.visits == before.visits,
            (false, false) => heard.visits >= before.visits,
        };
        if is_right && heard.count >= before.count {
            return Ok(());
        }
        Err(format!("it had heard {before:?}"))
    }

    /// At rest: every broadcast that is to visit it has.
    pub(crate) fn has_heard(&self, heard: Heard) -> bool {
        self.state == State::default() || self.heard.visits == heard.visits
    }

    fn delete_named(&mut self, domain: Domain, name: Option<&str>) {
        if name.is_some() {
            self.timers.retain(|it| it.0 != domain || it.2.as_deref() != name);
        }
    }
}

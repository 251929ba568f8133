//! Broadcasts: the function that takes them, and what the client knows of them.
//!
//! Every callback of a key tells what it has heard by then. All lanes hear the same, in one order, which
//! is that of the accounts that the broadcasts leave themselves. And a key that has a state is visited by
//! each broadcast that visits keys, once, before anything else comes to it.

use crate::client::{Fate, fate};
use crate::functions::{Asked, Functions, Reply};
use crate::model::Violation;
use crate::outputs::Seen;
use crate::rng::Rng;
use crate::script::{Account, Cause, Heard, SIDE, Script, Shown, State, Step, Told, emits, run};
use crate::stage::Stage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use stormwheel::error::Rejection;
use stormwheel::function::{
    BroadcastContext, Context, FunctionError, KeyedBroadcastProcessFunction, OnTimerContext,
    OutputTag, Result, VisitContext,
};
use stormwheel::namespace::{Broadcast, BroadcastResult, Command, CommandReply};
use stormwheel::runtime::Engine;
use stormwheel::time::Timestamp;

/// Who sends broadcasts that are to be taken once.
const PRODUCER: &str = "p-1";

/// What a broadcast tells the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    id: u64,
    visits: bool,
    fails: bool,
}

/// The function, with a side that takes broadcasts.
pub(crate) struct Listener(pub(crate) Script);

impl Heard {
    /// What was heard once this was heard as well.
    fn and(self, it: Announcement, shown: [Option<i64>; 2]) -> Self {
        let mut sum = self.sum ^ it.id;
        for part in shown {
            let part = part.map_or(u64::MAX / 3, |part| part as u64);
            sum = (sum ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        let visits = self.visits + u64::from(it.visits);
        Self { count: self.count + 1, visits, sum }
    }
}

impl KeyedBroadcastProcessFunction for Listener {
    type Input = Told;
    type Broadcast = Announcement;
    type State = State;
    type BroadcastState = Heard;
    type Output = Account;

    fn process_element(
        &mut self,
        told: Told,
        state: &mut State,
        heard: &Heard,
        ctx: &mut Context<Account>,
    ) -> Result<()> {
        let timestamp = ctx.timestamp().as_millis();
        let cause = Cause::Element { id: told.id, timestamp };
        run(state, ctx, (self.0.version(), *heard), cause, &told.steps)
    }

    fn process_broadcast(
        &mut self,
        it: Announcement,
        heard: &mut Heard,
        ctx: &mut BroadcastContext<Self>,
    ) -> Result<()> {
        let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millis);
        let (watermark, clock) = (millis(ctx.watermark()), millis(ctx.processing_time()));
        *heard = heard.and(it, [watermark, clock]);
        let shown = Shown { watermark, clock, heard: *heard };
        if it.visits {
            let heard = *heard;
            ctx.apply_to_keyed_state(move |state, ctx| visit(state, ctx, it.id, heard));
        }
        let (cause, state) = (Cause::Broadcast { id: it.id }, State::default());
        ctx.emit(Account { cause, shown, state, timers: Vec::new() });
        // Last, so that there is something to be undone.
        if it.fails { Err(FunctionError::new("it was told to fail")) } else { Ok(()) }
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        state: &mut State,
        heard: &Heard,
        ctx: &mut OnTimerContext<Account>,
    ) -> Result<()> {
        let place = (ctx.domain(), time.as_millis(), ctx.name().map(str::to_owned));
        run(state, ctx, (self.0.version(), *heard), Cause::Timer(place), &[])
    }
}

fn visit(state: &mut State, ctx: &mut VisitContext<Account>, id: u64, heard: Heard) -> Result<()> {
    let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millis);
    let (watermark, clock) = (millis(ctx.watermark()), millis(ctx.processing_time()));
    let (cause, shown) = (Cause::Visit { id }, Shown { watermark, clock, heard });
    let steps = state.react(&cause, shown, &[]);
    ctx.emit(Account { cause, shown, state: *state, timers: Vec::new() });
    for index in 0..emits(&steps) {
        ctx.emit_to(&OutputTag::new(SIDE), (state.sum, index));
    }
    if steps.contains(&Step::Clear) {
        ctx.clear_state();
    }
    if steps.contains(&Step::Fail) {
        return Err(FunctionError::new("it was told to fail"));
    }
    Ok(())
}

/// What is known of a broadcast.
#[derive(Debug, Clone)]
struct Sent {
    it: Announcement,
    timestamp: i64,
    /// It has come, or has failed, as its output says.
    taken: Option<BroadcastResult>,
    /// What was answered, which outlives everything.
    answered: Option<BroadcastResult>,
    /// It will not come any more.
    is_gone: bool,
}

/// The broadcasts of a namespace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announcements {
    sent: BTreeMap<u64, Sent>,
    /// What was heard by each of them, as callbacks tell.
    heard: BTreeMap<u64, Heard>,
    /// How many have told of themselves.
    told: u64,
    /// The one that its producer sends until it knows what became of it.
    open: Option<u64>,
    pub(crate) is_asked: bool,
}

impl Functions {
    /// Sends a broadcast, or the last one of the producer again.
    pub(crate) fn broadcast(&mut self, engine: &Engine, rng: &mut Rng, stage: usize, now: i64) {
        let is_produced = rng.below(2) == 0;
        let it = &self.stages[stage].announcements;
        let id = match it.open.filter(|_| is_produced) {
            Some(_) if it.is_asked => return,
            Some(id) => id,
            None => {
                self.next_element += 1;
                self.next_element
            }
        };
        let fresh = || Sent {
            it: Announcement { id, visits: rng.below(2) == 0, fails: rng.below(6) == 0 },
            timestamp: now + rng.within(-60, 200),
            taken: None,
            answered: None,
            is_gone: false,
        };
        let all = &mut self.stages[stage].announcements;
        let Sent { it, timestamp, .. } = all.sent.entry(id).or_insert_with(fresh).clone();
        if is_produced {
            (all.open, all.is_asked) = (Some(id), true);
        }
        let name = self.stages[stage].name;
        self.log.push(format!("{name}: broadcast {it:?}, of a producer: {is_produced}"));
        let value = serde_json::to_string(&it).expect("plain data");
        let broadcast = Broadcast {
            timestamp: Timestamp::from_millis(timestamp),
            value: value.into(),
            producer: is_produced.then(|| (PRODUCER.to_owned(), id)),
        };
        let reply = self.reply(Asked::Broadcast { stage, id }, Reply::Command);
        engine.command(name, Command::Broadcast(broadcast), rng.below(2) == 0, reply);
    }
}

impl Stage {
    /// A broadcast was answered.
    pub(crate) fn announced(
        &mut self,
        id: u64,
        reply: &std::result::Result<CommandReply, Rejection>,
    ) -> std::result::Result<(), Violation> {
        let all = &mut self.announcements;
        let is_produced = all.open == Some(id);
        let Some(sent) = all.sent.get_mut(&id) else { return Ok(()) };
        if is_produced {
            all.is_asked = false;
        }
        self.halt.is_stopped |= matches!(reply, Err(Rejection::NamespaceStopped { .. }));
        match (reply, fate(reply.as_ref().err())) {
            (Ok(CommandReply::Broadcast { result, .. }), _) => {
                let as_is = if sent.it.fails {
                    BroadcastResult::Failed
                } else {
                    BroadcastResult::Processed
                };
                if *result != as_is && !(is_produced && *result == BroadcastResult::Repeated) {
                    return Err(self.wrong("wrong answer", format!("{id}: {reply:?}")));
                }
                sent.answered = Some(*result);
                if is_produced {
                    all.open = None;
                }
            }
            (Err(_), Fate::NotDone) => sent.is_gone |= !is_produced,
            (Err(_), Fate::Unknown) => {}
            _ => return Err(self.wrong("wrong answer", format!("{id}: {reply:?}"))),
        }
        Ok(())
    }

    /// A callback has heard so much: so has every other one that has heard of as many broadcasts.
    pub(crate) fn hear(&mut self, heard: &Heard) -> std::result::Result<(), String> {
        let known = self.announcements.heard.entry(heard.count).or_insert(*heard);
        let is_none = heard.count > 0 || *heard == Heard::default();
        if known == heard && is_none { Ok(()) } else { Err(format!("others have heard {known:?}")) }
    }

    /// A broadcast tells of itself.
    pub(crate) fn announce(
        &mut self,
        id: u64,
        seen: &Seen,
        shown: &Shown,
    ) -> std::result::Result<(), String> {
        let sent = self.announcements.take(id, seen, BroadcastResult::Processed)?.it;
        self.announcements.told += 1;
        let told = self.announcements.told;
        let before = match self.announcements.heard.get(&(told - 1)) {
            Some(before) => *before,
            None if told == 1 => Heard::default(),
            None => return Err(format!("it is number {told}")),
        };
        let expected = before.and(sent, [shown.watermark, shown.clock]);
        if expected == shown.heard { Ok(()) } else { Err(format!("not {expected:?}")) }
    }

    /// A broadcast, or with a key the visit behind one, is said to have failed.
    pub(crate) fn failed_broadcast(
        &mut self,
        id: u64,
        seen: &Seen,
    ) -> std::result::Result<(), String> {
        if seen.key.is_empty() {
            self.announcements.take(id, seen, BroadcastResult::Failed)?;
            return Ok(());
        }
        let sent = self.announcements.sent.get(&id);
        if !sent.is_some_and(|sent| sent.it.visits && !sent.it.fails) {
            return Err(format!("it visits nothing: {sent:?}"));
        }
        let key = self.keys.entry(seen.key.clone()).or_default();
        key.failed(&Cause::Visit { id }, &[])
    }

    /// How many broadcasts have told of themselves.
    pub(crate) const fn broadcasts(&self) -> u64 {
        self.announcements.told
    }

    /// What was heard last.
    pub(crate) fn heard(&self) -> Heard {
        self.announcements.heard.last_key_value().map(|(_, heard)| *heard).unwrap_or_default()
    }

    /// Takes what a savepoint may hold for what is there.
    pub(crate) fn bring_announcements(&mut self, before: Announcements) {
        let all = &mut self.announcements;
        for (id, mut sent) in before.sent {
            (sent.taken, sent.answered) = (None, None);
            all.sent.entry(id).or_insert(sent);
        }
        (all.open, all.is_asked) = (before.open, before.is_asked);
    }

    /// Nothing is under way: what was answered has come, and nothing was heard that did not.
    pub(crate) fn settle_announcements(&mut self) -> std::result::Result<(), Violation> {
        let heard = self.heard();
        let all = &mut self.announcements;
        let mut lost = all.sent.values().filter(|sent| sent.answered.is_some());
        let lost = lost.find(|sent| sent.taken.is_none()).cloned();
        let told = all.told;
        let open = all.open;
        for (id, sent) in &mut all.sent {
            sent.is_gone |= sent.taken.is_none() && open != Some(*id);
        }
        if lost.is_some() || told != heard.count {
            let detail = format!("{lost:?}; {heard:?}, {told} have told of themselves");
            return Err(self.wrong("lost broadcast", detail));
        }
        Ok(())
    }
}

impl Announcements {
    /// An output says what became of a broadcast.
    fn take(
        &mut self,
        id: u64,
        seen: &Seen,
        as_what: BroadcastResult,
    ) -> std::result::Result<&Sent, String> {
        let Some(sent) = self.sent.get_mut(&id).filter(|_| seen.key.is_empty()) else {
            return Err("it was not sent".to_owned());
        };
        let is_right = sent.it.fails == (as_what == BroadcastResult::Failed);
        if sent.taken.is_some() || sent.is_gone || !is_right {
            return Err(format!("{as_what:?}: {sent:?}"));
        }
        if seen.timer.fire_at != sent.timestamp {
            return Err(format!("not of {}", sent.timestamp));
        }
        sent.taken = Some(as_what);
        Ok(sent)
    }
}

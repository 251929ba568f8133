//! The frame of the simple operators: each is a small machine that sees the elements of a key in the
//! order of their times, and has at most one deadline.
//!
//! In processing time an element happens when it comes: behind the deadlines that the clock has passed
//! by then, also if no tick has reached them, unless the clock stands still for the key. In event time
//! it happened at its timestamp, and takes effect once the watermark has passed that: until then it is
//! held in the key's state. So what comes out follows from the timestamps alone, not from the order in
//! which elements come or from the steps in which the watermark moves. At one time, elements go before a deadline of event
//! time (the watermark says that there are no more of them), and behind one of processing time.
//!
//! A key has one timer, for what comes next: the deadline, or the first held element. Its name is the
//! default one, which costs the least.

use super::forget::now;
use super::held::Held;
use super::state::{FIRST_VERSION, as_json_up_to, load_up_to, save_as};
use super::value::json_text;
use crate::function::{Call, Element, Operator, Result, TimerFired};
use crate::op::{DEFAULT_TIMER_NAME, Payload};
use crate::time::{Domain, Timestamp};
use serde::{Deserialize, Serialize};

/// Steps of one callback. What is left goes on in the next one, at once.
const STEPS_MAX: usize = 256;
/// Bytes after which a callback leaves the rest to the next one.
pub(super) const STEPS_BYTES_MAX: usize = 1 << 20;

/// What an operator does with one key, step by step.
pub(super) trait Machine: Send + 'static {
    /// What it keeps for a key. `None`: nothing, as for a key that it has never seen.
    type State<'a>: Serialize + Deserialize<'a>;

    /// The version of what it keeps, whose type reads all older ones.
    const VERSION: u32 = FIRST_VERSION;

    /// Which clock it follows.
    fn domain(&self) -> Domain;

    /// When an element takes effect that has happened at `at`.
    fn effective(&self, at: Timestamp, value: &str) -> Result<Timestamp> {
        let _ = value;
        Ok(at)
    }

    /// An element takes effect. Only those that come late, within the namespace's lateness, do so
    /// behind a later one.
    fn element<'a>(
        &self,
        state: Option<Self::State<'a>>,
        at: Timestamp,
        value: &'a str,
        out: &mut Out<'_, '_>,
    ) -> Option<Self::State<'a>>;

    /// When something happens by itself, if nothing else happens before.
    fn deadline(&self, state: &Self::State<'_>) -> Option<Timestamp>;

    /// The deadline has come.
    fn due<'a>(
        &self,
        state: Self::State<'a>,
        due: Due,
        out: &mut Out<'_, '_>,
    ) -> Option<Self::State<'a>>;
}

/// A deadline that has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    /// When it happens: in event time the deadline; in processing time what the clock reads, which
    /// may have run past it.
    pub(super) at: Timestamp,
    /// How far the clock or the watermark has come.
    pub(super) reached: Timestamp,
    /// Nothing follows: the final watermark or the end of the clock is here, and no element is left.
    pub(super) is_last: bool,
}

/// Where a machine puts what it emits.
pub(super) struct Out<'o, 'c> {
    call: &'o mut Call<'c>,
    timestamp: Option<Timestamp>,
    bytes: usize,
}

impl Out<'_, '_> {
    /// Emits a value as it came.
    pub(super) fn value(&mut self, value: &str) {
        self.bytes += value.len();
        self.call.emit_at(None, self.timestamp, Payload::Json(value.as_bytes()));
    }
}

/// What is kept for a key.
#[derive(Serialize, Deserialize)]
struct Kept<'a, S> {
    /// Elements that have not taken effect.
    #[serde(borrow)]
    held: Option<Held<'a>>,
    state: Option<S>,
}

/// What comes next for a key.
enum Next {
    Held,
    Deadline,
}

/// What is kept for a key of a machine, as JSON.
pub(super) fn machine_as_json<M: Machine>(state: &[u8]) -> Result<String> {
    as_json_up_to::<Kept<'_, M::State<'_>>>(state, M::VERSION)
}

/// A machine as an operator.
pub(super) struct Stepped<M>(pub(super) M);

impl<M: Machine> Operator for Stepped<M> {
    fn process_element(&mut self, call: &mut Call<'_>, element: Element<'_>) -> Result<()> {
        let value = json_text(&element)?;
        let at = match self.0.domain() {
            Domain::Event => element.timestamp,
            Domain::Processing => Timestamp::from_millis(now(call)?),
        };
        let at = self.0.effective(at, value)?;
        self.run(Some((at, value)), call)
    }

    fn on_timer(&mut self, call: &mut Call<'_>, _timer: TimerFired<'_>) -> Result<()> {
        self.run(None, call)
    }

    fn keeps_options(&self) -> bool {
        true
    }

    fn judges_lateness(&self) -> bool {
        // By the clock, none is late.
        self.0.domain() == Domain::Processing
    }

    fn needs_clock_timers(&self) -> bool {
        self.0.domain() == Domain::Processing
    }
}

impl<M: Machine> Stepped<M> {
    /// One callback: takes an element in, does what is due, and waits for what comes next.
    fn run<'s, 'c: 's>(
        &self,
        element: Option<(Timestamp, &'s str)>,
        call: &mut Call<'c>,
    ) -> Result<()> {
        let domain = self.0.domain();
        let mut kept: Kept<'s, M::State<'s>> =
            load_up_to(call, M::VERSION)?.unwrap_or(Kept { held: None, state: None });
        let reached = match domain {
            Domain::Event => call.watermark(),
            Domain::Processing => call.processing_time(),
        };
        let is_final = match domain {
            Domain::Event => reached == Some(Timestamp::MAX),
            Domain::Processing => call.is_ending(),
        };
        let is_event = domain == Domain::Event;
        let timestamp = call.output_timestamp(None);
        // What has come to the end of its wait is not still.
        let is_still = !is_event && element.is_some() && call.is_clock_still();
        let mut out = Out { call: &mut *call, timestamp: None, bytes: 0 };
        if let Some(reached) = reached.filter(|_| !is_event && !is_still) {
            self.advance(&mut kept, reached, is_final, &mut out);
        }
        let mut early = None;
        match element {
            // Not before one that waits still, although its time has come.
            Some((at, value))
                if Some(at) <= reached && kept.held.as_ref().is_none_or(|it| at < it.first()) =>
            {
                out.timestamp = timestamp;
                self.element(&mut kept, at, value, &mut out);
            }
            other => early = other,
        }
        if let Some(reached) = reached.filter(|_| is_event) {
            self.advance(&mut kept, reached, is_final, &mut out);
        }
        if !is_still && self.next(&kept).is_some_and(|(time, _)| Some(time) <= reached) {
            call.go_on_at_once();
        }
        let Kept { mut held, state } = kept;
        let mut buffer = Vec::new();
        if let Some((at, value)) = early {
            held = Some(Held::insert(held.as_ref(), at, value, &mut buffer)?);
        }
        let kept = Kept { held, state };
        let next = self.next(&kept).map(|(time, _)| time);
        let mut timer = call.timers().named(DEFAULT_TIMER_NAME);
        if timer.time(domain) != next {
            match next {
                Some(time) => timer.register(domain, time),
                None => timer.delete(domain),
            }
        }
        let is_empty = kept.held.is_none() && kept.state.is_none();
        save_as(call, M::VERSION, (!is_empty).then_some(&kept));
        Ok(())
    }

    /// Does what is due, or a bounded piece of it.
    fn advance<'s>(
        &self,
        kept: &mut Kept<'s, M::State<'s>>,
        reached: Timestamp,
        is_final: bool,
        out: &mut Out<'_, '_>,
    ) {
        let is_event = self.0.domain() == Domain::Event;
        let mut steps = 0;
        while let Some((time, next)) = self.next(kept)
            && time <= reached
        {
            if steps == STEPS_MAX || out.bytes > STEPS_BYTES_MAX {
                return;
            }
            steps += 1;
            match next {
                Next::Held => {
                    if let Some((at, value)) = Held::pop(&mut kept.held) {
                        self.element(kept, at, value, out);
                    }
                }
                Next::Deadline => {
                    let at = if is_event { time } else { reached };
                    let is_last = is_final && kept.held.is_none();
                    if is_event {
                        out.timestamp = Some(at);
                    }
                    let due = Due { at, reached, is_last };
                    kept.state = kept.state.take().and_then(|state| self.0.due(state, due, out));
                }
            }
        }
    }

    fn element<'s>(
        &self,
        kept: &mut Kept<'s, M::State<'s>>,
        at: Timestamp,
        value: &'s str,
        out: &mut Out<'_, '_>,
    ) {
        if self.0.domain() == Domain::Event {
            out.timestamp = Some(at);
        }
        kept.state = self.0.element(kept.state.take(), at, value, out);
    }

    fn next(&self, kept: &Kept<'_, M::State<'_>>) -> Option<(Timestamp, Next)> {
        let held = kept.held.as_ref().map(|held| (held.first(), Next::Held));
        let deadline = kept.state.as_ref().and_then(|state| self.0.deadline(state));
        let deadline = deadline.map(|time| (time, Next::Deadline));
        match (held, deadline) {
            (Some(held), Some(deadline)) => {
                Some(if held.0 <= deadline.0 { held } else { deadline })
            }
            (held, deadline) => held.or(deadline),
        }
    }
}

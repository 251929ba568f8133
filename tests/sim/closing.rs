//! Namespaces whose input ends: what follows from it for each key, and the client that asks for it.
//!
//! Three things happen in each lane, one after the other: operations are refused, the final watermark
//! comes, and the clock comes to its end, if what is left is not waited for. For the watermark the oracle
//! has one more advance of event time, to the end of it; whoever has come there is closed.

use crate::act::Fired;
use crate::client::Client;
use crate::model::{Model, Violation};
use crate::oracle::{Candidate, Rules};
use crate::rng::Rng;
use crate::space::{Life, Told};
use crate::ways::Window;
use stormwheel::error::Rejection;
use stormwheel::namespace::{Closing, Command, CommandReply, ProcessingTimers};
use stormwheel::runtime::Engine;
use stormwheel::time::Domain;

/// What is answered to an operation on a namespace that is closed.
pub(crate) const CLOSED: &str = "namespace-closed";
/// Event time at its end.
const FINAL: Option<i64> = Some(i64::MAX);

/// Whether the clock may have come to its end, and whether it has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct End {
    pub(crate) may: bool,
    pub(crate) has: bool,
}

/// What becomes of the timers of the clock at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Fire,
    Discard,
}

impl Ending {
    /// None: what is left is waited for.
    fn of(timers: ProcessingTimers) -> Option<Self> {
        match timers {
            ProcessingTimers::Drain => Some(Self::Fire),
            ProcessingTimers::Wait => None,
            ProcessingTimers::Discard => Some(Self::Discard),
        }
    }
}

impl Window<'_> {
    /// Whether the namespace may have been closed.
    pub(crate) fn may_close(&self, rules: &Rules) -> bool {
        rules.advances[0][..self.advances[0].1].last().copied() == FINAL
    }
}

impl Candidate {
    /// The final watermark has come.
    pub(crate) fn is_closed_by_time(&self) -> bool {
        self.reached[Domain::Event as usize] == FINAL
    }

    /// Behind the final watermark the clock comes to its end, whatever was to be held back. `None`: that
    /// is not to be, or is not what was seen.
    pub(crate) fn ended(&self, rules: &Rules, seen: &[Fired]) -> Option<Self> {
        let ending = rules.ending.filter(|_| !self.has_ended && self.is_closed_by_time())?;
        let mut it = self.clone();
        (it.has_ended, it.restart) = (true, None);
        while let Some(place) = it.first(Domain::Processing).cloned() {
            // It says what the clock read then, and by a manual one that was never set its own time.
            let manual = || rules.advances[1].last().copied().unwrap_or(place.1);
            let by = if rules.is_manual { manual() } else { i64::MIN };
            if ending == Ending::Discard {
                it.timers.remove(&place);
            } else if !it.let_go(&place, by, seen) {
                return None;
            }
        }
        it.held.clear();
        Some(it)
    }

    /// The same, with the final watermark before it.
    pub(crate) fn closed_and_ended(&self, rules: &Rules, seen: &[Fired]) -> Option<Self> {
        if rules.advances[0].last().copied() != FINAL {
            return None;
        }
        let mut it = self.clone();
        if it.reach(Domain::Event, i64::MAX, seen) { it.ended(rules, seen) } else { None }
    }
}

impl Model {
    pub(crate) fn end(&self) -> End {
        End { may: self.rules.ending.is_some(), has: self.has_ended }
    }

    /// The end that it may have been told was not said to it.
    pub(crate) fn not_ended(&mut self, is_closed: bool) {
        if !is_closed {
            self.rules.advances[0].pop_if(|last| Some(*last) == FINAL);
        }
        if !self.has_ended {
            self.rules.ending = None;
        }
    }
}

impl Client {
    /// Ends the input of a namespace, or asks for its end again.
    pub(crate) fn close(&mut self, engine: &Engine, rng: &mut Rng, space: usize) {
        let Some(life) = &mut self.spaces[space].life else { return };
        // The first namespace cannot be made anew.
        if space == 0 && life.closed.is_none() && rng.below(4) > 0 {
            return;
        }
        let timers = *rng.pick(&ProcessingTimers::ALL);
        let changed = life.closed.is_none_or(|standing| {
            standing == ProcessingTimers::Wait && timers != ProcessingTimers::Wait
        });
        if changed && life.model.is_paused() {
            self.spaces[space].told = Some(Told::Refused("namespace-paused"));
        } else {
            let marks = life.model.marks();
            if life.closed.is_none() {
                life.model.rules.advances[0].push(i64::MAX);
            }
            if changed {
                life.model.rules.ending = Ending::of(timers);
                life.consumer.may_be_early |= timers == ProcessingTimers::Drain;
            }
            self.spaces[space].told = Some(Told::Close { timers, changed, marks });
        }
        self.command(engine, space, Command::Close(timers), false);
    }

    /// Asks for what is refused since the namespace is closed.
    pub(crate) fn refused_as_closed(&mut self, engine: &Engine, space: usize, command: Command) {
        self.spaces[space].told = Some(Told::Refused(CLOSED));
        self.command(engine, space, command, true);
    }
}

impl Life {
    /// Nothing comes of its clock any more.
    pub(crate) fn is_at_its_end(&self) -> bool {
        self.closed.is_some_and(|timers| timers != ProcessingTimers::Wait)
    }

    /// Whether that is the right answer to a close.
    pub(crate) fn are_closed(
        &self,
        timers: ProcessingTimers,
        changed: bool,
        reply: &Result<CommandReply, Rejection>,
    ) -> bool {
        let Ok(CommandReply::Closed { changed: found, closing, timers: count }) = reply else {
            return false;
        };
        let standing = if changed { Some(timers) } else { self.closed };
        let waits = standing == Some(ProcessingTimers::Wait);
        *found == changed
            && Some(closing.processing_timers) == standing
            && (closing.is_closed || waits)
            && (*count == 0 || changed && !waits)
    }

    /// It is closed, everywhere and for certain.
    pub(crate) fn has_closed(&mut self, timers: ProcessingTimers, changed: bool) {
        self.sources.finish();
        let model = &mut self.model;
        model.done[0] = model.rules.advances[0].len();
        if changed {
            self.closed = Some(timers);
            model.has_ended = model.rules.ending.is_some();
        }
    }

    /// Holds the engine's word to what is known. `may_be`: it may have been told so, when the engine went.
    pub(crate) fn check_closing(
        &mut self,
        found: Option<Closing>,
        may_be: Option<ProcessingTimers>,
        is_empty: bool,
    ) -> Result<(), Violation> {
        let standing = found.map(|it| it.processing_timers);
        if standing != self.closed {
            match standing {
                Some(timers) if may_be == standing => {
                    self.model.rules.ending = Ending::of(timers);
                    self.has_closed(timers, true);
                }
                _ => {
                    let detail = format!("{}: {found:?}, not {:?}", self.entry.name, self.closed);
                    return Err(Violation::new("lost close", detail));
                }
            }
        } else if !self.model.has_ended {
            self.model.rules.ending = None;
        }
        if found.is_some_and(|it| it.is_closed != is_empty) {
            let detail = format!("{}: {found:?}, without timers: {is_empty}", self.entry.name);
            return Err(Violation::new("wrong end", detail));
        }
        Ok(())
    }
}

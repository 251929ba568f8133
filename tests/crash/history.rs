//! The ledger of one key: what was asked and told of it, what fired, and the verdict over both.

use crate::act::{Act, Slot};
use crate::model::{Event, Fire, Leniency, State, follow};
use std::collections::{BTreeSet, VecDeque};

/// Slots that a key remembers for its cancels.
const RECENT: usize = 6;
/// Lines of a history that a failure shows.
const SHOWN_MAX: usize = 60;

/// One key.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) key: String,
    /// What may have stood when the events begin.
    start: BTreeSet<State>,
    last_request: Option<u64>,
    events: Vec<Event>,
    fires: Vec<Fire>,
    recent: VecDeque<Slot>,
}

/// How a history cannot have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Breach {
    /// A timer that was promised is gone, and has not fired.
    Lost,
    /// Something fired that was cancelled, replaced or never there.
    Fired,
    /// Both, or an answer that contradicts the others.
    Contradiction,
}

impl History {
    pub(crate) fn new(worker: &str, number: usize) -> Self {
        Self {
            key: format!("{worker}-{number}"),
            start: BTreeSet::from([State::default()]),
            last_request: None,
            events: Vec::new(),
            fires: Vec::new(),
            recent: VecDeque::new(),
        }
    }

    pub(crate) fn enter(&mut self, event: Event) {
        if let Act::Register { slot, .. } = &event.act {
            self.recent.push_back(*slot);
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
        self.events.push(event);
    }

    pub(crate) fn enter_fire(&mut self, fire: Fire) {
        self.fires.push(fire);
    }

    /// Timers that were registered lately.
    pub(crate) fn recent(&self) -> Vec<Slot> {
        self.recent.iter().copied().collect()
    }

    /// Takes back the last event, which was a look at what stands.
    pub(crate) fn forget_look(&mut self) {
        let last = self.events.pop();
        assert!(last.is_some_and(|event| event.act == Act::Read), "a look is a read");
    }

    /// The last event, if it was answered.
    pub(crate) fn last(&self) -> Option<&Event> {
        self.events.last()
    }

    /// Whether some history explains it all. If so it begins anew with what may stand now.
    pub(crate) fn settle(&mut self) -> Result<(), Breach> {
        let Ok(states) = self.follow(Leniency::default()) else { return Err(self.breach()) };
        self.start = states.into_iter().map(|state| State { fired: 0, ..state }).collect();
        let asked = self.events.iter().rev().find(|event| event.act != Act::Read);
        self.last_request = asked.map(|event| event.request).or(self.last_request);
        self.events.clear();
        self.fires.clear();
        Ok(())
    }

    fn follow(&self, leniency: Leniency) -> Result<BTreeSet<State>, usize> {
        follow(&self.start, self.last_request, &self.events, &self.fires, leniency)
    }

    fn breach(&self) -> Breach {
        let explains = |lose, invent| self.follow(Leniency { lose, invent }).is_ok();
        if explains(true, false) {
            Breach::Lost
        } else if explains(false, true) {
            Breach::Fired
        } else {
            Breach::Contradiction
        }
    }

    /// The history in lines, for whoever has to find out.
    pub(crate) fn told(&self) -> String {
        let mut lines = vec![format!("key {}, at first one of", self.key)];
        lines.extend(self.start.iter().take(3).map(|state| format!("  {state:?}")));
        let breach = self.follow(Leniency::default()).err();
        // What comes later explains nothing.
        let end = breach.map_or(self.events.len(), |at| self.events.len().min(at + 3));
        let begin = end.saturating_sub(SHOWN_MAX);
        lines.push(format!("  … {begin} operations"));
        for (at, event) in self.events.iter().enumerate().take(end).skip(begin) {
            let Event { request, index, act, outcome, clock } = event;
            let mark = if Some(at) == breach { "!!" } else { "  " };
            lines.push(format!("{mark}{request}.{index} at {clock:?}: {act:?} -> {outcome:?}"));
        }
        lines.extend(self.fires.iter().map(|fire| format!("  fired: {fire:?}")));
        lines.join("\n")
    }
}

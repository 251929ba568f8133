//! The machine under the disk and the store: it counts every I/O call, decides which one fails and
//! how, goes down in the middle of one, and folds every event into the trace hash.

use crate::rng::Rng;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stormwheel::key_group::xxh3_64;

/// What is asked of the disk or the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Create,
    Open,
    List,
    Rename,
    Remove,
    SyncFolder,
    FreeBytes,
    Length,
    Read,
    Write,
    Sync,
    Put,
    Get,
    ListObjects,
    RemoveObject,
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Eio,
    Enospc,
    Eintr,
    /// A read or a write does less than it was asked to.
    Short,
    /// A sync fails: what it was to make durable reads back well and is not on the disk.
    Sync,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] =
        [Self::Eio, Self::Enospc, Self::Eintr, Self::Short, Self::Sync];

    /// Whether a call can go wrong in this way.
    fn applies_to(self, call: Call) -> bool {
        match self {
            // A sync that fails in any way is a sync error.
            Self::Eio => !matches!(call, Call::Sync | Call::SyncFolder),
            Self::Enospc => matches!(call, Call::Create | Call::Rename | Call::Write | Call::Put),
            Self::Eintr | Self::Short => matches!(call, Call::Read | Call::Write),
            Self::Sync => matches!(call, Call::Sync | Call::SyncFolder | Call::Put),
        }
    }

    pub(crate) fn error(self) -> io::Error {
        match self {
            Self::Eio | Self::Sync => io::Error::other("simulated input/output error"),
            Self::Enospc => ErrorKind::StorageFull.into(),
            Self::Eintr | Self::Short => ErrorKind::Interrupted.into(),
        }
    }
}

/// How many calls in a thousand go wrong by themselves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub(crate) eio: u32,
    pub(crate) eintr: u32,
    pub(crate) short: u32,
    pub(crate) sync: u32,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done.
    Go,
    /// It goes wrong.
    Fail(Fault),
    /// The machine goes down in the middle of it.
    GoDown,
    /// The machine is down: nothing is done.
    Down,
}

/// See the module. Clones are the same machine.
#[derive(Clone)]
pub(crate) struct Machine {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: Rng,
    calls: u64,
    by_kind: BTreeMap<Call, u64>,
    trace: u64,
    rates: Rates,
    /// What goes wrong at the first call that can, at or behind the one of this number.
    scripted: Vec<(u64, Fault)>,
    /// The same, of which nothing relieves: neither a restart nor that nothing else goes wrong any more.
    pinned: Option<(u64, Fault)>,
    down_at: Option<u64>,
    is_down: bool,
    /// Faults that were met, with the call that met them.
    met: Vec<(u64, Call, Fault)>,
    /// The latest calls, for the story of a failure.
    story: Option<Vec<String>>,
}

impl Machine {
    pub(crate) fn new(seed: u64) -> Self {
        let state = State {
            rng: Rng::new(seed),
            calls: 0,
            by_kind: BTreeMap::new(),
            trace: 0,
            rates: Rates::default(),
            scripted: Vec::new(),
            pinned: None,
            down_at: None,
            is_down: false,
            met: Vec::new(),
            story: None,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call is about to be made: what becomes of it.
    pub(crate) fn admit(&self, call: Call, name: &str, at: u64, length: u64) -> Verdict {
        let mut state = self.lock();
        if state.is_down {
            return Verdict::Down;
        }
        state.calls += 1;
        *state.by_kind.entry(call).or_default() += 1;
        let number = state.calls;
        let verdict = state.decide(call, number);
        state.fold(&[call as u64, at, length, verdict.code()]);
        let trace = state.trace ^ xxh3_64(name.as_bytes());
        state.trace = trace;
        if let Some(story) = &mut state.story {
            story.push(format!(
                "call {number}: {call:?} {name} at {at}, {length} bytes: {verdict:?}"
            ));
        }
        verdict
    }

    /// Something happened that a second run of the seed must repeat.
    pub(crate) fn trace(&self, event: &str) {
        let mut state = self.lock();
        let hash = xxh3_64(event.as_bytes());
        state.fold(&[hash]);
        if let Some(story) = &mut state.story {
            story.push(event.to_owned());
        }
    }

    /// The hash of everything that has happened.
    pub(crate) fn trace_hash(&self) -> u64 {
        self.lock().trace
    }

    /// Keeps the story from now on.
    pub(crate) fn tell(&self) {
        self.lock().story = Some(Vec::new());
    }

    /// What has happened, if that was kept.
    pub(crate) fn story(&self) -> Vec<String> {
        self.lock().story.clone().unwrap_or_default()
    }

    /// The calls that were made.
    pub(crate) fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// The calls of one kind that were made.
    pub(crate) fn calls_of(&self, call: Call) -> u64 {
        self.lock().by_kind.get(&call).copied().unwrap_or_default()
    }

    /// The faults that were met, with the calls that met them.
    pub(crate) fn met(&self) -> Vec<(u64, Call, Fault)> {
        self.lock().met.clone()
    }

    pub(crate) fn set_rates(&self, rates: Rates) {
        self.lock().rates = rates;
    }

    /// The first call that can go wrong in this way does, `calls` from now or later (1: the next).
    pub(crate) fn fail_in(&self, calls: u64, fault: Fault) {
        let mut state = self.lock();
        let at = state.calls + calls;
        state.scripted.push((at, fault));
    }

    /// The first call that can go wrong in this way does, at this one or later, come what may.
    pub(crate) fn fail_at(&self, call: u64, fault: Fault) {
        self.lock().pinned = Some((call, fault));
    }

    /// The machine goes down in the middle of a call, so many from now (1: in the next).
    pub(crate) fn go_down_in(&self, calls: u64) {
        let mut state = self.lock();
        state.down_at = Some(state.calls + calls);
    }

    /// The machine goes down now.
    pub(crate) fn go_down(&self) {
        self.lock().is_down = true;
    }

    pub(crate) fn is_down(&self) -> bool {
        self.lock().is_down
    }

    /// The machine is up again; nothing that was planned to go wrong does.
    pub(crate) fn come_up(&self) {
        let mut state = self.lock();
        state.is_down = false;
        state.down_at = None;
        state.scripted.clear();
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        let mut state = self.lock();
        state.rates = Rates::default();
        state.scripted.clear();
        state.down_at = None;
    }

    /// Chance for what a call leaves half done.
    pub(crate) fn draw(&self, bound: u64) -> u64 {
        self.lock().rng.below(bound)
    }
}

impl State {
    fn decide(&mut self, call: Call, number: u64) -> Verdict {
        if self.down_at.is_some_and(|at| number >= at) {
            self.is_down = true;
            return Verdict::GoDown;
        }
        let scripted = self
            .scripted
            .iter()
            .position(|(at, fault)| number >= *at && fault.applies_to(call))
            .map(|index| self.scripted.swap_remove(index).1);
        let is_pinned = |(at, fault): &mut (u64, Fault)| number >= *at && fault.applies_to(call);
        let scripted = scripted.or_else(|| self.pinned.take_if(is_pinned).map(|(_, fault)| fault));
        let Rates { eio, eintr, short, sync } = self.rates;
        let fault = scripted.or_else(|| {
            let rates = [
                (eio, Fault::Eio),
                (eintr, Fault::Eintr),
                (short, Fault::Short),
                (sync, Fault::Sync),
            ];
            rates.into_iter().find_map(|(rate, fault)| {
                (rate > 0 && fault.applies_to(call) && self.rng.per_mille(rate)).then_some(fault)
            })
        });
        let Some(fault) = fault else { return Verdict::Go };
        self.met.push((number, call, fault));
        Verdict::Fail(fault)
    }

    fn fold(&mut self, numbers: &[u64]) {
        for number in numbers {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&self.trace.to_le_bytes());
            bytes[8..].copy_from_slice(&number.to_le_bytes());
            self.trace = xxh3_64(&bytes);
        }
    }
}

impl Verdict {
    fn code(self) -> u64 {
        match self {
            Self::Go => 0,
            Self::Fail(fault) => 1 + fault as u64,
            Self::GoDown => 100,
            Self::Down => 101,
        }
    }
}

/// What every call gets once the machine is down.
pub(crate) fn down() -> io::Error {
    io::Error::other("the simulated machine is down")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planned_fault_waits_for_a_call_that_can_meet_it() {
        let machine = Machine::new(1);
        machine.fail_in(2, Fault::Sync);
        let admit = |call| machine.admit(call, "f", 0, 0);
        assert_eq!(admit(Call::Sync), Verdict::Go);
        assert_eq!(admit(Call::Write), Verdict::Go);
        assert_eq!(admit(Call::Sync), Verdict::Fail(Fault::Sync));
        assert_eq!(admit(Call::Sync), Verdict::Go);
        assert_eq!(machine.met(), [(3, Call::Sync, Fault::Sync)]);
        assert_eq!((machine.calls(), machine.calls_of(Call::Sync)), (4, 3));
    }

    #[test]
    fn it_goes_down_in_a_call_and_stays_down() {
        let machine = Machine::new(1);
        machine.go_down_in(2);
        let admit = || machine.admit(Call::Read, "f", 0, 1);
        assert_eq!([admit(), admit(), admit()], [Verdict::Go, Verdict::GoDown, Verdict::Down]);
        machine.come_up();
        assert_eq!(admit(), Verdict::Go);
    }

    #[test]
    fn the_trace_tells_histories_apart() {
        let trace = |names: &[&str]| {
            let machine = Machine::new(1);
            for name in names {
                machine.admit(Call::Open, name, 0, 0);
                machine.trace(name);
            }
            machine.trace_hash()
        };
        assert_eq!(trace(&["a", "b"]), trace(&["a", "b"]));
        assert_ne!(trace(&["a", "b"]), trace(&["b", "a"]));
    }
}

//! A broadcast on one lane: the callback that processes it, and the visit of the keys that it asks
//! for.
//!
//! Keys are visited bucket by bucket of the key table, in slices. Before a record touches a key that
//! has not been visited, its whole bucket is: so nobody can tell where the visit stands. So that a
//! key stays in its bucket meanwhile, the table holds its shape, as it does for snapshots. What a
//! partition has that was loaded as of a later position the visit has seen already.

use super::callback::{About, Run};
use super::function::Armed;
use super::{Context, Partition};
use crate::function::{
    CallAt, FunctionError, NewState, Visit, process_broadcast, set_tried, visit_key,
};
use crate::key_group::xxh3_64;
use crate::keyed::SlotIndex;
use crate::namespace::BroadcastStep;
use crate::op::{Element, Payload};
use crate::time::{Domain, Timestamp};
use crate::timeline::Progress;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// What a visit of a key costs of a budget that is counted in fires: the state is read and written.
const VISIT_COST: u32 = 4;

/// What came of a broadcast on a lane.
pub(crate) struct Broadcasted {
    /// The state that it leaves, if it leaves another one.
    #[allow(clippy::option_option, reason = "what there is, if that is something else now")]
    pub(crate) state: Option<Option<Arc<[u8]>>>,
    /// The keys that it wants visited.
    pub(crate) visit: Option<KeyVisit>,
    /// The function has failed at it.
    pub(crate) is_failed: bool,
}

/// A visit of all keys of a namespace on a lane, while it is under way.
pub(crate) struct KeyVisit {
    /// Of the broadcast.
    pub(crate) position: u64,
    /// Key groups below it have been visited.
    pub(crate) next_group: u16,
    /// How many keys have.
    pub(crate) visited: u64,
    it: BroadcastStep,
    /// What the namespace's clock reads for all of it.
    clock: Option<Timestamp>,
    visits: Vec<Box<dyn Visit>>,
    /// What was emitted of no key under the same position.
    keyless: u32,
    slots: Vec<SlotIndex>,
}

impl fmt::Debug for KeyVisit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyVisit").field("position", &self.position).finish_non_exhaustive()
    }
}

/// How far the visit of a partition is.
#[derive(Debug)]
pub(super) struct Visiting {
    /// Buckets below it were visited.
    cursor: usize,
    /// There are so many.
    end: usize,
    /// A bit for each bucket: it was visited before its turn.
    early: Box<[u64]>,
}

impl Visiting {
    fn is_visited(&self, bucket: usize) -> bool {
        bucket < self.cursor || self.early[bucket / 64] & (1 << (bucket % 64)) != 0
    }
}

fn element(it: &BroadcastStep) -> Element<'_> {
    let value = Payload::Json(it.value.as_bytes());
    Element { timestamp: it.timestamp, input: 0, value }
}

/// What callbacks run under that a record brings about, and that wait for no time.
fn run_of(position: u64, clock: Option<Timestamp>, ordinal: u32) -> Run {
    let progress = Progress { ordinal, ..Progress::default() };
    let (advanced, is_restart, is_ending, at_once) = (None, false, false, BTreeSet::new());
    Run { position, advanced, clock, is_restart, is_ending, progress, at_once }
}

impl Context<'_> {
    /// Lets the function process a broadcast; `state` is the broadcast state.
    pub(crate) fn broadcast(&mut self, it: &BroadcastStep, state: Option<&[u8]>) -> Broadcasted {
        let is_home = self.lane == it.home;
        let mut visits = Vec::new();
        let mut run = run_of(self.position, self.now, 0);
        let called = self.call_broadcast(it, state, is_home, &mut visits);
        self.shared.stats.elements[usize::from(called.is_err())] += u64::from(is_home);
        if let Err(error) = called {
            if is_home {
                self.fail_broadcast(&mut run, None, &element(it), &error);
            }
            return Broadcasted { state: None, visit: None, is_failed: true };
        }
        let scratch = std::mem::take(&mut self.shared.scratch);
        let new_state = match scratch.new_state() {
            NewState::Keep => None,
            NewState::Set(bytes) => Some(Some(Arc::from(bytes))),
            NewState::Clear => Some(None),
        };
        if let Some(state) = &new_state {
            self.load_broadcast(state.as_deref());
        }
        if is_home {
            let (element, hash) = (element(it), xxh3_64(&[]));
            for value in scratch.outputs() {
                self.emit_value(&mut run, None, &[], hash, &About::Element(&element), &value);
            }
        }
        self.shared.scratch = scratch;
        let visit = (!visits.is_empty()).then(|| KeyVisit {
            position: self.position,
            next_group: 0,
            visited: 0,
            it: it.clone(),
            clock: self.now,
            visits,
            keyless: run.progress.ordinal,
            slots: Vec::new(),
        });
        Broadcasted { state: new_state, visit, is_failed: false }
    }

    /// The function goes by this broadcast state from now on, if it takes broadcasts.
    pub(crate) fn load_broadcast(&mut self, state: Option<&[u8]>) {
        let instance = self.around.function.0.as_mut();
        if let Some(side) = instance.and_then(|it| it.operator_mut().broadcast_side()) {
            side.load(state);
        }
    }

    fn call_broadcast(
        &mut self,
        it: &BroadcastStep,
        state: Option<&[u8]>,
        is_home: bool,
        visits: &mut Vec<Box<dyn Visit>>,
    ) -> Result<(), FunctionError> {
        let at = CallAt {
            key: &[],
            timestamp: it.timestamp,
            domain: None,
            watermark: self.around.timeline.of(Domain::Event).reached,
            processing_time: it.now,
            is_ending: false,
            lateness_ms: self.around.config.lateness_ms,
            state,
        };
        let mut tries = 0;
        loop {
            let Some(instance) = &mut self.around.function.0 else {
                return Err(FunctionError::new("the namespace has no function"));
            };
            set_tried(tries);
            let outcome =
                process_broadcast(instance, at, &mut self.shared.scratch, visits, element(it));
            tries += 1;
            if outcome.is_ok() || tries > self.around.config.on_error.retry {
                return outcome;
            }
            self.shared.stats.retries += u64::from(is_home);
        }
    }

    fn call_visit(
        &mut self,
        slot: SlotIndex,
        run: &Run,
        visit: &dyn Visit,
        timestamp: Timestamp,
    ) -> Result<(), FunctionError> {
        let at = CallAt {
            key: self.shared.pools.key(slot),
            timestamp,
            domain: None,
            watermark: self.around.timeline.of(Domain::Event).reached,
            processing_time: run.clock,
            is_ending: false,
            lateness_ms: self.around.config.lateness_ms,
            state: self.shared.pools.state(slot),
        };
        let mut tries = 0;
        loop {
            set_tried(tries);
            let outcome = visit_key(visit, at, &mut self.shared.scratch);
            tries += 1;
            if outcome.is_ok() || tries > self.around.config.on_error.retry {
                return outcome;
            }
            self.shared.stats.retries += 1;
        }
    }
}

impl Partition {
    /// Begins to visit its keys behind the broadcast at this position, unless it was loaded as of a
    /// later one: then they were visited.
    pub(crate) fn begin_visit(&mut self, position: u64) {
        let end = self.table.visit_len();
        if self.as_of >= position || end == 0 {
            return;
        }
        let early = vec![0; end.div_ceil(64)].into_boxed_slice();
        self.visiting = Some(Box::new(Visiting { cursor: 0, end, early }));
        self.table.hold(true);
    }

    /// Visits the next keys, spending about one of `budget` for what takes as long as a fire. Returns
    /// whether that was all.
    pub(crate) fn visit_slice(&mut self, cx: &mut Context<'_>, budget: &mut u32) -> bool {
        while let Some(visiting) = &self.visiting
            && visiting.cursor < visiting.end
        {
            if *budget == 0 {
                return false;
            }
            let bucket = visiting.cursor;
            let is_visited = visiting.is_visited(bucket);
            let visited = if is_visited { 0 } else { self.visit_bucket(cx, bucket) };
            if let Some(visiting) = &mut self.visiting {
                visiting.cursor += 1;
            }
            *budget = budget.saturating_sub(1 + visited * VISIT_COST);
        }
        // A snapshot that began before the broadcast may want it held still.
        self.table.hold(self.is_written_by_buckets());
        while cx.shared.pools.catch_up(&mut self.table) {
            *budget = budget.saturating_sub(1);
            if *budget == 0 {
                return false;
            }
        }
        self.visiting = None;
        true
    }

    /// A record is about to touch the key of this hash: if it has not been visited, it is now.
    #[cold]
    #[inline(never)]
    pub(super) fn visit_first(&mut self, cx: &mut Context<'_>, hash: u64) {
        let bucket = self.table.bucket_of(hash);
        let is_to_be = |it: &Visiting| it.cursor < it.end && !it.is_visited(bucket);
        if !self.visiting.as_deref().is_some_and(is_to_be) {
            return;
        }
        self.visit_bucket(cx, bucket);
        if let Some(visiting) = &mut self.visiting {
            visiting.early[bucket / 64] |= 1 << (bucket % 64);
        }
    }

    /// Visits the keys of a bucket that have a state, and returns how many they are.
    fn visit_bucket(&mut self, cx: &mut Context<'_>, bucket: usize) -> u32 {
        let Some(mut visit) = cx.around.visit.take() else { return 0 };
        let mut slots = std::mem::take(&mut visit.slots);
        slots.clear();
        cx.shared.pools.visit(&self.table, bucket, |slot| slots.push(slot));
        slots.retain(|slot| cx.shared.pools.state(*slot).is_some());
        // Where a key stands in its bucket is chance.
        let place = |slot: &SlotIndex| (cx.shared.pools.hash(*slot), cx.shared.pools.key(*slot));
        slots.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
        let mut before = (xxh3_64(&[]), visit.keyless);
        for slot in &slots {
            let hash = cx.shared.pools.hash(*slot);
            // Two keys of one hash share the ordinals of their outputs.
            let keyless = if hash == xxh3_64(&[]) { visit.keyless } else { 0 };
            let ordinal = if before.0 == hash { before.1 } else { keyless };
            let mut run = run_of(visit.position, visit.clock, ordinal);
            self.visit(cx, &visit, *slot, hash, &mut run);
            before = (hash, run.progress.ordinal);
        }
        let visited = slots.len() as u32;
        visit.visited += u64::from(visited);
        visit.slots = slots;
        cx.around.visit = Some(visit);
        visited
    }

    fn visit(
        &mut self,
        cx: &mut Context<'_>,
        visit: &KeyVisit,
        slot: SlotIndex,
        hash: u64,
        run: &mut Run,
    ) {
        if self.is_writing() {
            self.write_first(&cx.shared.pools, hash);
        }
        let (armed, element) = (Armed::of(cx, Some(slot)), element(&visit.it));
        for each in &visit.visits {
            let called = cx.call_visit(slot, run, &**each, element.timestamp);
            let about = About::Element(&element);
            match called.and_then(|()| cx.check_asked(Some(slot), run, &about)) {
                Ok(()) => {
                    self.apply_asked(cx, Some(slot), &[], hash, run, &about);
                }
                Err(error) => {
                    cx.shared.stats.elements[1] += 1;
                    cx.fail_broadcast(run, Some(slot), &element, &error);
                }
            }
        }
        self.finish(cx, slot, hash, armed, None);
    }
}

//! The client's ledger made into expectations: which operations each key has seen, which of them are
//! certain, and what follows.
//!
//! A key has a *base*, the candidates after all operations that are certain to survive, and a
//! *tail*, the operations behind it that were submitted and may still be lost. An answer that says
//! "durable" makes everything certain that was submitted to the same lane before. In a crash a lane
//! loses what is not certain from some operation on: the same one for all its keys.

mod still;

use crate::act::{Act, Answer, Fired, Timer};
use crate::closing::End;
use crate::oracle::{Candidate, Rules, follow};
use crate::overdue::{Downtime, RESTARTS_MAX};
use crate::ways::{Window, settle_all};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use still::Still;
use stormwheel::key_group::{Layout, xxh3_64};
use stormwheel::namespace::OverduePolicy;

/// A contradiction between what the engine did and all that may have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// What kind it is: shrinking keeps it.
    pub(crate) kind: &'static str,
    pub(crate) detail: String,
}

impl Violation {
    pub(crate) fn new(kind: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// Where an operation stands: so that its answer finds it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OpRef {
    pub(crate) key: Vec<u8>,
    pub(crate) lane: u16,
    /// Its place among the operations submitted to its lane, from 1.
    pub(crate) place: u64,
}

impl fmt::Debug for OpRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", text(&self.key), self.lane, self.place)
    }
}

/// How things stood at a moment: lengths of the lists that only grow.
#[derive(Debug, Clone, Copy, Default)]
struct Moment {
    /// Readings of the engine's clock.
    clock: usize,
    /// The latest time that may have passed.
    latest: i64,
    /// Advances that were asked for.
    asked: [usize; 2],
    /// Advances that are in all lanes.
    done: [usize; 2],
    /// Whether the clock may have come to its end, and whether it has.
    end: End,
}

#[derive(Debug, Clone)]
struct TailOp {
    place: u64,
    /// Which request it belongs to: what of one goes to one shard may be refused as a whole.
    request: u64,
    act: Act,
    from: Moment,
    /// With the moment when it was known.
    answer: Option<(Answer, Moment)>,
}

#[derive(Debug, Clone, Default)]
struct Key {
    base: Vec<Candidate>,
    tail: VecDeque<TailOp>,
    seen: Vec<Fired>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lane {
    submitted: u64,
    /// Operations up to this one are certain to survive.
    certain: u64,
}

/// More ways than this are not followed.
const CANDIDATES_MAX: usize = 4_096;

/// What is expected of one namespace.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    name: String,
    layout: Layout,
    pub(crate) rules: Rules,
    /// How many of the rules' advances are in all lanes, for certain.
    pub(crate) done: [usize; 2],
    keys: BTreeMap<Vec<u8>, Key>,
    lanes: Vec<Lane>,
    /// What the engine's clock has read since it started.
    clock: Vec<i64>,
    /// Restarts that may hold something back, each with until when.
    restarts: Vec<i64>,
    /// One of them may have ended a longer downtime on some lanes than on others.
    is_uneven: bool,
    /// Since when the engine was down, at each restart since it last came to rest.
    downs: Vec<i64>,
    /// Its clock has come to its end, for certain.
    pub(crate) has_ended: bool,
    /// It is paused.
    still: Option<Still>,
    /// There were more ways in which things may have gone than are followed: nothing is known any
    /// more, and nothing checked.
    pub(crate) is_lost: bool,
}

impl Model {
    pub(crate) fn new(name: &str, layout: Layout, rules: Rules, now: i64) -> Self {
        Self {
            name: name.to_owned(),
            layout,
            rules,
            done: [0; 2],
            keys: BTreeMap::new(),
            lanes: vec![Lane::default(); layout.lanes() as usize],
            clock: vec![now],
            restarts: Vec::new(),
            is_uneven: false,
            downs: Vec::new(),
            has_ended: false,
            still: None,
            is_lost: false,
        }
    }

    fn lane_of(&self, key: &[u8]) -> u16 {
        self.layout.lane_of(self.layout.group_of(xxh3_64(key))).0
    }

    /// The engine's clock may have read this.
    pub(crate) fn clock_reads(&mut self, now: i64) {
        if self.clock.last() != Some(&now) {
            self.clock.push(now);
        }
    }

    fn moment(&self) -> Moment {
        let clock = self.clock.len();
        if let Some(still) = &self.still {
            let advances = still.advances;
            let (asked, done, end) = (advances, advances, self.end());
            return Moment { clock, latest: still.latest(), asked, done, end };
        }
        let asked = [self.rules.advances[0].len(), self.rules.advances[1].len()];
        let latest = self.clock.iter().copied().max().unwrap_or(i64::MIN);
        Moment { clock, latest, asked, done: self.done, end: self.end() }
    }

    /// An operation was handed to the engine.
    pub(crate) fn submit(&mut self, request: u64, key: &[u8], act: Act) -> OpRef {
        let lane = self.lane_of(key);
        let it = &mut self.lanes[lane as usize];
        it.submitted += 1;
        let place = it.submitted;
        let from = self.moment();
        let fresh = || Key { base: vec![Candidate::new(xxh3_64(key))], ..Key::default() };
        let entry = self.keys.entry(key.to_vec()).or_insert_with(fresh);
        entry.tail.push_back(TailOp { place, request, act, from, answer: None });
        OpRef { key: key.to_vec(), lane, place }
    }

    /// An operation was answered. `is_certain`: and is durable, if the answer is to be believed.
    pub(crate) fn answered(
        &mut self,
        at: &OpRef,
        answer: Answer,
        is_certain: bool,
    ) -> Result<(), Violation> {
        let moment = self.moment();
        if let Some(key) = self.keys.get_mut(&at.key)
            && let Some(op) = key.tail.iter_mut().find(|op| op.place == at.place)
        {
            op.answer = Some((answer, moment));
        }
        if is_certain {
            let lane = &mut self.lanes[at.lane as usize];
            lane.certain = lane.certain.max(at.place);
        }
        self.fold(&at.key)
    }

    /// Everything that was submitted so far is durable.
    pub(crate) fn all_certain(&mut self, marks: &[u64]) -> Result<(), Violation> {
        for (lane, mark) in self.lanes.iter_mut().zip(marks) {
            lane.certain = lane.certain.max(*mark);
        }
        let names: Vec<Vec<u8>> = self.keys.keys().cloned().collect();
        names.iter().try_for_each(|name| self.fold(name))
    }

    /// How much was submitted to each lane so far.
    pub(crate) fn marks(&self) -> Vec<u64> {
        self.lanes.iter().map(|lane| lane.submitted).collect()
    }

    /// An operation was refused before anything came of it.
    pub(crate) fn refused(&mut self, at: &OpRef) {
        if let Some(key) = self.keys.get_mut(&at.key) {
            key.tail.retain(|op| op.place != at.place);
        }
    }

    /// Moves what is certain and answered from a key's tail into its base.
    fn fold(&mut self, name: &[u8]) -> Result<(), Violation> {
        if self.is_lost {
            return Ok(());
        }
        let certain = self.lanes[self.lane_of(name) as usize].certain;
        let Some(mut key) = self.keys.remove(name) else { return Ok(()) };
        let mut outcome = Ok(());
        while outcome.is_ok()
            && let Some(op) = key.tail.front()
            && op.place <= certain
            && op.answer.is_some()
        {
            let next = self.follow(name, &key, &key.base, op);
            if next.is_empty() {
                outcome = Err(self.explain("answer", name, &key, Some(op)));
            }
            key.base = next;
            key.tail.pop_front();
        }
        self.is_lost |= key.base.len() > CANDIDATES_MAX;
        self.keys.insert(name.to_vec(), key);
        outcome
    }

    fn follow(&self, name: &[u8], key: &Key, from: &[Candidate], op: &TailOp) -> Vec<Candidate> {
        let until = op.answer.as_ref().map_or_else(|| self.moment(), |(_, until)| *until);
        let advances = [0, 1].map(|it| {
            let most = until.asked[it].min(self.rules.advances[it].len());
            (op.from.done[it].min(most), most)
        });
        let clock = &self.clock[op.from.clock.saturating_sub(1)..until.clock];
        let end = End { has: op.from.end.has, ..until.end };
        let window = Window { clock, latest: until.latest, advances, end };
        let answer = op.answer.as_ref().map(|(answer, _)| answer);
        follow(from, name, &op.act, answer, &self.rules, &window, &key.seen)
    }

    fn explain(&self, what: &str, name: &[u8], key: &Key, op: Option<&TailOp>) -> Violation {
        let kind = match what {
            "answer" => "wrong answer",
            "output" => "wrong output",
            _ => "wrong state",
        };
        let seen = &key.seen[key.seen.len().saturating_sub(5)..];
        Violation::new(
            kind,
            format!(
                "namespace {}, key {}, lane {}: no history explains the {what} {op:?}\n  \
                 candidates before: {:#?}\n  last outputs: {seen:#?}\n  clock: {:?}, advances: {:?}",
                self.name,
                text(name),
                self.lane_of(name),
                &key.base[..key.base.len().min(3)],
                &self.clock[self.clock.len().saturating_sub(8)..],
                self.rules.advances,
            ),
        )
    }

    /// An output of a key became readable.
    pub(crate) fn output(&mut self, name: &[u8], fired: Fired) -> Result<(), Violation> {
        if self.is_lost {
            return Ok(());
        }
        let Some(key) = self.keys.get_mut(name) else {
            let detail = format!("namespace {}: {fired:?} of {}", self.name, text(name));
            return Err(Violation::new("unknown output", detail));
        };
        let place = key.seen.len();
        let before = key.base.clone();
        key.base.retain_mut(|candidate| candidate.see(&fired, place));
        key.seen.push(fired);
        if key.base.is_empty() {
            key.base = before;
            let key = key.clone();
            return Err(self.explain("output", name, &key, None));
        }
        Ok(())
    }

    /// The engine is gone without a farewell: what is not certain may or may not have survived; and
    /// what was not answered may have been refused, if there `may` have been a reason.
    pub(crate) fn crash(&mut self, may_refuse: bool) -> Result<(), Violation> {
        if self.is_lost {
            return Ok(());
        }
        let names: Vec<Vec<u8>> = self.keys.keys().cloned().collect();
        for name in names {
            let certain = self.lanes[self.lane_of(&name) as usize].certain;
            let Some(mut key) = self.keys.remove(&name) else { continue };
            let tail: Vec<TailOp> = std::mem::take(&mut key.tail).into();
            let mut current = key.base.clone();
            for candidate in &mut current {
                candidate.survived = (certain, u64::MAX);
            }
            let mut all = Vec::new();
            for request in tail.chunk_by(|a, b| a.request == b.request) {
                let before = current.clone();
                for op in request {
                    let mut next = self.follow(&name, &key, &current, op);
                    if op.place > certain {
                        all.extend(current.into_iter().map(|mut candidate| {
                            candidate.survived.1 = candidate.survived.1.min(op.place);
                            candidate
                        }));
                    }
                    let is_sure = op.answer.is_some() || op.place <= certain && !may_refuse;
                    if next.is_empty() && is_sure {
                        return Err(self.explain("answer", &name, &key, Some(op)));
                    }
                    for candidate in &mut next {
                        candidate.survived.0 = op.place.max(certain);
                    }
                    current = next;
                }
                if may_refuse && request.iter().all(|op| op.answer.is_none()) {
                    current.extend(before);
                }
            }
            all.extend(current);
            if self.may_hold() {
                let latest = self.moment().latest;
                let ways = all.iter().flat_map(|it| it.at_the_end(&self.rules, latest, &key.seen));
                all = ways.collect();
                if all.is_empty() {
                    return Err(self.explain("output", &name, &key, None));
                }
            }
            all.sort();
            all.dedup();
            self.is_lost |= all.len() > CANDIDATES_MAX;
            key.base = all;
            self.keys.insert(name, key);
        }
        for lane in &mut self.lanes {
            lane.certain = lane.submitted;
        }
        Ok(())
    }

    /// Whether a restart holds anything back, or may.
    fn may_hold(&self) -> bool {
        let may_be_told = self.rules.overdue.iter().any(|it| *it != OverduePolicy::Fire);
        !self.rules.is_manual && (may_be_told || !self.restarts.is_empty())
    }

    /// A new engine runs on what is left, with these lanes; its clock reads this, and it was down since
    /// `from`.
    pub(crate) fn recovered(&mut self, now: i64, from: i64, layout: Layout) {
        self.clock = vec![now];
        // A lane decides for all keys at once. If it had not yet about the restart before, nothing could
        // be let go since that began; nor if a timer fell due later, and nothing was durable before that.
        let mut froms = vec![BTreeSet::from([from]); layout.lanes() as usize];
        // What fell due in a pause is decided about at its end.
        let may_hold = self.may_hold() && self.still.is_none();
        if !may_hold {
            froms.iter_mut().for_each(BTreeSet::clear);
        }
        let lane_of = |name: &[u8]| layout.lane_of(layout.group_of(xxh3_64(name))).0 as usize;
        for (name, key) in self.keys.iter().filter(|_| may_hold) {
            for candidate in &key.base {
                let froms = &mut froms[lane_of(name)];
                match candidate.undecided_since() {
                    Some(since) => froms.extend([since]),
                    None if candidate.is_due(from) => froms.extend(&self.downs),
                    None => {}
                }
            }
        }
        self.downs.push(from);
        let earliest = froms.iter().flatten().min();
        if let Some(down) = earliest.and_then(|from| Downtime::new(*from, now)) {
            self.note_restart(down);
            self.is_uneven |= froms.iter().flatten().any(|from| *from != down.from);
        }
        for (name, key) in &mut self.keys {
            let froms = &froms[lane_of(name)];
            let ways = key.base.iter().flat_map(|it| it.restarted(now, from, froms));
            key.base = ways.collect::<BTreeSet<Candidate>>().into_iter().collect();
            self.is_lost |= key.base.len() > CANDIDATES_MAX;
        }
    }

    /// Its lanes are joined into others, and so is what they hold back. A shift that was longer on one
    /// than on another is then as long for all: that is not followed.
    pub(crate) fn restored(&mut self) {
        let mut candidates = self.keys.values().flat_map(|key| &key.base);
        self.is_lost |= self.is_uneven && candidates.any(|it| !it.held.is_empty());
    }

    fn note_restart(&mut self, down: Downtime) {
        if self.restarts.iter().all(|last| *last <= down.from) {
            self.restarts.clear();
            self.is_uneven = false;
        }
        let last = self.rules.overdue.iter().map(|policy| down.last_release(*policy)).max();
        self.restarts.extend(last);
        // From then on it takes some of them together.
        self.is_lost |= self.restarts.len() > RESTARTS_MAX;
    }

    /// The keys are on other lanes from now on; nothing is under way.
    pub(crate) fn relayout(&mut self, layout: Layout) {
        self.layout = layout;
        self.lanes = vec![Lane::default(); layout.lanes() as usize];
    }

    /// Time has come exactly so far, for certain: what was asked for beyond is lost.
    pub(crate) fn reached(&mut self, domain: usize, to: Option<i64>) -> Result<(), Violation> {
        let advances = &mut self.rules.advances[domain];
        let place = to.and_then(|to| advances.iter().position(|at| *at == to));
        let len = match (to, place) {
            (None, _) => 0,
            (Some(_), Some(place)) => place + 1,
            (Some(to), None) => {
                let detail =
                    format!("namespace {}: {to} was never asked for: {advances:?}", self.name);
                return Err(Violation::new("wrong time", detail));
            }
        };
        if len < self.done[domain] {
            let detail = format!(
                "namespace {}: time stands at {to:?}, and had come to {}",
                self.name,
                advances[self.done[domain] - 1]
            );
            return Err(Violation::new("lost time", detail));
        }
        advances.truncate(len);
        self.done[domain] = len;
        Ok(())
    }

    /// Nothing is under way any more: all that was answered is certain, all that is due was seen, and
    /// these are the timers that are pending.
    pub(crate) fn settled(
        &mut self,
        pending: &BTreeMap<Vec<u8>, Vec<Timer>>,
    ) -> Result<(), Violation> {
        if self.is_lost {
            return Ok(());
        }
        for lane in &mut self.lanes {
            lane.certain = lane.submitted;
        }
        // Whatever was to be decided has been.
        self.downs.clear();
        if let Some(name) = pending.keys().find(|name| !self.keys.contains_key(*name)) {
            let detail = format!("namespace {}: timers of key {}", self.name, text(name));
            return Err(Violation::new("unknown timer", detail));
        }
        let reached = [0, 1].map(|it| self.rules.advances[it].last().copied());
        let now = self.clock.last().copied().unwrap_or_default();
        let names: Vec<Vec<u8>> = self.keys.keys().cloned().collect();
        let mut survived = vec![(0, u64::MAX); self.lanes.len()];
        for name in &names {
            self.fold(name)?;
            let lane = self.lane_of(name) as usize;
            let mut key = self.keys.remove(name).unwrap_or_default();
            if let Some(op) = key.tail.front() {
                let detail = format!("namespace {}, key {}: {op:?}", self.name, text(name));
                return Err(Violation::new("no answer", detail));
            }
            let none = Vec::new();
            let pending = pending.get(name).unwrap_or(&none);
            let due = match &self.still {
                Some(still) => self.rest_still(still, &key),
                None => settle_all(&key.base, &self.rules, reached, now, &key.seen),
            };
            let mut next = due.clone();
            next.retain(|candidate| candidate.pending() == *pending);
            if next.is_empty() {
                let mut violation = self.explain("state", name, &key, None);
                violation.kind = if due.is_empty() { "missing output" } else { "wrong state" };
                violation.detail = format!(
                    "{}\n  clock reads {now}, reached {reached:?}\n  once all has fired: {due:#?}\n  \
                     found: {pending:#?}",
                    violation.detail
                );
                return Err(violation);
            }
            let spans = next.iter().map(|candidate| candidate.survived);
            let span = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or_default();
            let all: &mut (u64, u64) = &mut survived[lane];
            *all = (all.0.max(span.0), all.1.min(span.1));
            if all.0 >= all.1 {
                let detail = format!(
                    "namespace {}, lane {lane}: what survived of key {} is not what survived of others",
                    self.name,
                    text(name)
                );
                return Err(Violation::new("hole", detail));
            }
            key.base = next;
            self.keys.insert(name.clone(), key);
        }
        for (name, key) in &mut self.keys {
            let lane = self.layout.lane_of(self.layout.group_of(xxh3_64(name))).0 as usize;
            let (least, most) = survived[lane];
            key.base.retain(|it| it.survived.0 < most && it.survived.1 > least);
            for candidate in &mut key.base {
                candidate.survived = (0, u64::MAX);
            }
            key.base.sort();
            key.base.dedup();
        }
        Ok(())
    }
}

/// Bytes as one can read them.
pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

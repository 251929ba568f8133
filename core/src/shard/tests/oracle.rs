//! What a namespace on one lane must do, in the simplest way one can say it: a map, and a list of
//! fires. It follows the log, record by record, and fires all that is due at once.

use crate::held::Held;
use crate::key_group::xxh3_64;
use crate::log::{Overdue, Record};
use crate::namespace::{Change, ClockKind, LateTimers, OverduePolicy};
use crate::op::{Action, Op, Outcome, ResultKind, Target, When};
use crate::output::NamespaceId;
use crate::time::{Domain, Timestamp, spread_offset};
use std::collections::BTreeMap;

/// Where a timer stands: (key, domain, time, name), which is also the order in which it fires.
type Timer = (Vec<u8>, Domain, Timestamp, Option<String>);

/// A fire: position and ordinal, then the timer and what travelled with it.
pub(super) type Fire = (u64, u32, Domain, Timestamp, Option<String>, Option<Vec<u8>>);

/// By lane and namespace.
pub(super) type Oracles = BTreeMap<(u16, NamespaceId), Oracle>;

/// Lets the oracles follow one record; `outcome` is what the shard made of it.
pub(super) fn follow(
    oracles: &mut Oracles,
    namespaces: &[(NamespaceId, ClockKind, i64)],
    lane: u16,
    position: u64,
    now: Timestamp,
    record: &Record<'_>,
    outcome: impl FnOnce() -> Outcome,
) {
    match record {
        Record::Control(_) => {}
        Record::Tick { now, namespaces: due } => {
            for id in due {
                let (oracle, _) = oracle_of(oracles, namespaces, lane, *id);
                let (before, domain) = (oracle.reached[1], Domain::Processing);
                assert!(before < Some(*now), "a tick moves time");
                let fired = oracle.fires.values().map(Vec::len).sum::<usize>();
                oracle.advance(domain, *now, position);
                let fires = oracle.fires.values().map(Vec::len).sum::<usize>();
                assert!(fires > fired, "an idle namespace stands in no tick");
            }
        }
        Record::Overdue(it) => {
            let (oracle, clock) = oracle_of(oracles, namespaces, lane, it.namespace);
            assert_eq!(clock, ClockKind::System);
            assert!(it.from < it.to && oracle.reached[1] < Some(it.to));
            oracle.overdue(it, position);
        }
        Record::Step { namespace, change, .. } => {
            let (oracle, clock) = oracle_of(oracles, namespaces, lane, *namespace);
            match serde_json::from_slice(change).expect("a change") {
                Change::Watermark(to) => oracle.advance(Domain::Event, to, position),
                Change::Clock(to) => {
                    oracle.now = Some(to);
                    oracle.advance(Domain::Processing, to, position);
                }
                Change::Resume { lost: Some((from, to)) } => {
                    if clock == ClockKind::Manual {
                        oracle.now = Some(to);
                    }
                    let to = oracle.reached[1].map_or(to, |reached| reached.max(to));
                    let policy = oracle.policy;
                    oracle.overdue(&Overdue { namespace: *namespace, from, to, policy }, position);
                }
                Change::Configure(config) => {
                    oracle.policy = config.overdue;
                    oracle.late_waits = config.late_timers == LateTimers::NextWatermark;
                }
                Change::Drain => oracle.advance(Domain::Processing, Timestamp::MAX, position),
                Change::Discard => oracle.discard(),
                Change::Broadcast(_) => panic!("no function runs here"),
                Change::Close
                | Change::Pause
                | Change::Stop(_)
                | Change::Resume { lost: None }
                | Change::Remove => {}
            }
        }
        Record::Key(record) => {
            let (oracle, clock) = oracle_of(oracles, namespaces, lane, record.namespace);
            if clock == ClockKind::System {
                oracle.now = Some(now);
            }
            let expected = oracle.apply(&record.op, position);
            let found = outcome().ok().map(|it| (it.result, it.fire_at, it.cancelled));
            assert_eq!(found, expected, "{:?} at {position}", record.op);
        }
    }
}

fn oracle_of<'a>(
    oracles: &'a mut Oracles,
    namespaces: &[(NamespaceId, ClockKind, i64)],
    lane: u16,
    id: NamespaceId,
) -> (&'a mut Oracle, ClockKind) {
    let known = namespaces.iter().find(|it| it.0 == id);
    let (_, clock, spread_ms) = *known.expect("a known namespace");
    let oracle = oracles.entry((lane, id)).or_default();
    oracle.spread_ms = spread_ms;
    (oracle, clock)
}

#[derive(Default)]
pub(super) struct Oracle {
    /// What becomes of what falls due while nothing can fire.
    pub(super) policy: OverduePolicy,
    pub(super) timers: BTreeMap<Timer, Option<Vec<u8>>>,
    pub(super) fires: BTreeMap<Vec<u8>, Vec<Fire>>,
    pub(super) reached: [Option<Timestamp>; 2],
    pub(super) now: Option<Timestamp>,
    pub(super) spread_ms: i64,
    /// Late event timers wait for the next watermark.
    pub(super) late_waits: bool,
    pub(super) held: Option<Held>,
    /// What happened in it: restarts by policy, timers dropped, and fires of what a held one freed.
    pub(super) met: [usize; 6],
}

impl Oracle {
    /// Time moves: everything due fires, each key's timers in their order.
    pub(super) fn advance(&mut self, domain: Domain, to: Timestamp, position: u64) {
        for (timer, payload) in self.take_due(domain, to) {
            self.fire(timer, payload, position);
        }
    }

    /// What was due at a restart.
    pub(super) fn overdue(&mut self, it: &Overdue, position: u64) {
        self.met[it.policy.index()] += 1;
        self.held = Held::after(self.held.as_ref(), it.policy, it.from, it.to);
        if it.policy == OverduePolicy::Drop {
            self.met[4] += self.take_due(Domain::Processing, it.to).len();
        } else {
            self.advance(Domain::Processing, it.to, position);
        }
    }

    /// The end of the clock, and nobody wants what is left.
    pub(super) fn discard(&mut self) {
        self.take_due(Domain::Processing, Timestamp::MAX);
    }

    fn take_due(&mut self, domain: Domain, to: Timestamp) -> Vec<(Timer, Option<Vec<u8>>)> {
        self.reached[domain as usize] = self.reached[domain as usize].max(Some(to));
        let mut due: Vec<Timer> = Vec::new();
        let mut held_back: Option<&[u8]> = None;
        for timer in self.timers.keys().filter(|timer| timer.1 == domain) {
            // A key's timers go in their order: what stands behind a held one waits for it.
            if held_back != Some(&timer.0) && self.release_of(timer) <= to {
                due.push(timer.clone());
            } else {
                held_back = Some(&timer.0);
            }
        }
        if domain == Domain::Processing {
            self.held = self.held.take().filter(|held| held.last_release() > to);
        }
        let take = |timer: Timer| {
            let payload = self.timers.remove(&timer).expect("it was just seen");
            (timer, payload)
        };
        due.into_iter().map(take).collect()
    }

    fn release_of(&self, timer: &Timer) -> Timestamp {
        match &self.held {
            Some(held) if timer.1 == Domain::Processing => {
                held.release_at(timer.2, xxh3_64(&timer.0))
            }
            _ => timer.2,
        }
    }

    /// What waited behind a held timer that an operation has taken away.
    fn free(&mut self, key: &[u8], position: u64) {
        while let Some(first) =
            self.of_key(key).into_iter().find(|timer| timer.1 == Domain::Processing)
            && Some(self.release_of(&first)) <= self.reached[1]
        {
            let payload = self.timers.remove(&first).expect("it was just seen");
            self.fire(first, payload, position);
            self.met[5] += 1;
        }
    }

    fn fire(&mut self, (key, domain, time, name): Timer, payload: Option<Vec<u8>>, position: u64) {
        let fires = self.fires.entry(key).or_default();
        let ordinal = fires.iter().filter(|fire| fire.0 == position).count() as u32;
        fires.push((position, ordinal, domain, time, name, payload));
    }

    fn of_key(&self, key: &[u8]) -> Vec<Timer> {
        self.timers.keys().filter(|timer| timer.0 == key).cloned().collect()
    }

    fn standing(
        &self,
        key: &[u8],
        domain: Domain,
        time: Timestamp,
        name: Option<&str>,
    ) -> Option<Timer> {
        self.of_key(key).into_iter().find(|timer| {
            timer.1 == domain && timer.3.as_deref() == name && (name.is_some() || timer.2 == time)
        })
    }

    fn settle_time(&self, key: &[u8], name: Option<&str>, time: Timestamp) -> Option<Timestamp> {
        if time == Timestamp::MAX {
            Some(time)
        } else {
            time.checked_add(spread_offset(key, name, self.spread_ms))
        }
    }

    /// Applies an operation; returns the result and the time, or nothing if it is refused.
    pub(super) fn apply(
        &mut self,
        op: &Op<'_>,
        position: u64,
    ) -> Option<(ResultKind, Option<Timestamp>, u32)> {
        let outcome = self.act(op, position);
        if self.held.is_some() {
            self.free(op.key, position);
        }
        outcome
    }

    fn act(&mut self, op: &Op<'_>, position: u64) -> Option<(ResultKind, Option<Timestamp>, u32)> {
        use ResultKind::{Absent, Cancelled, Created, Duplicate, Kept, Replaced, Unchanged};
        let key = op.key;
        let cancelled = |n: u32| Some((if n > 0 { Cancelled } else { Absent }, None, n));
        let (domain, name, when, payload, only, is_touch) = match op.action {
            Action::DeleteAll => {
                let before = self.timers.len();
                self.timers.retain(|timer, _| timer.0 != key);
                return cancelled((before - self.timers.len()) as u32);
            }
            Action::Delete { domain, target } => {
                let (time, name) = match target {
                    Target::Name(name) => (Some(Timestamp::MIN), Some(name)),
                    Target::At { at, .. } => (self.settle_time(key, None, at), None),
                    Target::FireAt(time) => (Some(time), None),
                };
                let standing = time.and_then(|time| self.standing(key, domain, time, name));
                return cancelled(standing.map_or(0, |timer| {
                    self.timers.remove(&timer);
                    1
                }));
            }
            Action::Element(_) => return None,
            Action::Touch { name, domain, after_ms } => {
                (domain, Some(name), When::After(after_ms), None, crate::op::Only::Always, true)
            }
            Action::Register(r) => {
                let payload = r.payload.map(|payload| payload.bytes().to_vec());
                (r.domain, r.name, r.when, payload, r.only, false)
            }
        };
        let reads = if domain == Domain::Event { self.reached[0] } else { self.now };
        let time = match when {
            When::At(time) => time,
            When::After(after_ms) => reads?.checked_add(after_ms)?,
        };
        let fire_at = self.settle_time(key, name, time)?;
        let standing = self.standing(key, domain, fire_at, name);
        let payload = match &standing {
            Some(timer) if is_touch => self.timers[timer].clone(),
            _ => payload,
        };
        let stands_at = standing.as_ref().map(|timer| timer.2);
        let is_kept = match only {
            crate::op::Only::Always => false,
            crate::op::Only::Absent => stands_at.is_some(),
            crate::op::Only::Present => stands_at.is_none(),
            crate::op::Only::Earlier => stands_at.is_some_and(|at| fire_at >= at),
            crate::op::Only::Later => stands_at.is_some_and(|at| fire_at <= at),
        };
        let result = match &standing {
            _ if is_kept => return Some((Kept, stands_at, 0)),
            None => Created,
            Some(_) if name.is_none() => Duplicate,
            Some(timer) if timer.2 == fire_at && self.timers[timer] == payload => Unchanged,
            Some(_) => Replaced,
        };
        if matches!(result, Created | Replaced) {
            let earliest = self
                .of_key(key)
                .into_iter()
                .filter(|timer| timer.1 == domain)
                .map(|timer| timer.2)
                .min();
            let is_next = earliest.is_none_or(|earliest| fire_at < earliest);
            let clock = if domain == Domain::Processing && is_next { self.now } else { None };
            if let Some(timer) = standing {
                self.timers.remove(&timer);
            }
            let timer = (key.to_vec(), domain, fire_at, name.map(str::to_owned));
            let waits = domain == Domain::Processing && self.held.is_some() && !is_next;
            let waits = waits || domain == Domain::Event && self.late_waits;
            let reached = self.reached[domain as usize].filter(|_| !waits);
            if reached.max(clock).is_some_and(|reached| fire_at <= reached) {
                self.fire(timer, payload, position);
            } else {
                self.timers.insert(timer, payload);
            }
        }
        Some((result, Some(fire_at), 0))
    }

    /// Output ids are told apart by the hash of the key.
    pub(super) fn hash(key: &[u8]) -> u64 {
        xxh3_64(key)
    }
}

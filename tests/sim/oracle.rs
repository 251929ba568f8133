//! What a key may hold, and what it must have emitted: the semantics of timers in the simplest way
//! one can say them, a sorted map for each key, over all the ways in which things may have gone.
//!
//! Nobody outside of the engine knows when exactly a tick passed, or whether a request survived a
//! crash that came before its answer. So a key is a set of [`Candidate`]s. An operation makes of
//! each one those that may follow from it; an answer, an output or a read strikes out the ones that
//! it contradicts. When none is left, the engine has done what no history explains.

use crate::act::{Act, Answer, Fired, Once, Payload, Registration, Timer, When};
use crate::closing::{CLOSED, Ending};
use crate::overdue::{Downtime, Hold};
use crate::ways::Window;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use stormwheel::namespace::OverduePolicy;
use stormwheel::op::{Only, ResultKind};
use stormwheel::time::{Domain, Timestamp, spread_offset};

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reached, fired, unseen, taken, restart, held, survived, .. } = self;
        let timers = self.pending();
        write!(
            f,
            "{timers:?} reached {reached:?} fired {fired} unseen {unseen:?} taken {taken:?} {restart:?} {held:?} {survived:?}"
        )
    }
}

pub(crate) type Place = (Domain, i64, Option<String>);

/// One way in which things may have gone for a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    pub(crate) timers: BTreeMap<Place, Payload>,
    /// How far the key's lane has come: in event time, and on a manual clock.
    pub(crate) reached: [Option<i64>; 2],
    /// How many timers have fired.
    pub(crate) fired: usize,
    /// Those of them whose outputs were not seen yet, oldest first, each with when it was let go.
    pub(crate) unseen: VecDeque<(Timer, i64)>,
    /// A restart, of which it is not decided yet what it holds back.
    pub(crate) restart: Option<Downtime>,
    /// What restarts hold back, the oldest first.
    pub(crate) held: Vec<Hold>,
    pub(crate) hash: u64,
    /// By producer: the last operation that was taken.
    taken: BTreeMap<usize, (u64, u32)>,
    /// Those that were refused, and so not taken.
    refused: BTreeSet<Once>,
    /// An operation was refused since the namespace is closed: so is every one that follows.
    pub(crate) is_closed: bool,
    /// What was left when its clock came to its end has fired, or has gone.
    pub(crate) has_ended: bool,
    /// The last operation of the lane that survived the last crash: at least, and less than.
    pub(crate) survived: (u64, u64),
}

/// What a key's namespace is like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(crate) is_manual: bool,
    pub(crate) resolution_ms: i64,
    pub(crate) spread_ms: i64,
    pub(crate) timers_per_key: usize,
    /// How far time was told to come: in event time, and on a manual clock. Ascending.
    pub(crate) advances: [Vec<i64>; 2],
    /// What may be the policy for what is due at a restart.
    pub(crate) overdue: Vec<OverduePolicy>,
    /// Its clock may have come to its end, so.
    pub(crate) ending: Option<Ending>,
}

impl Candidate {
    /// A key of this hash that nothing ever happened to.
    pub(crate) const fn new(hash: u64) -> Self {
        Self {
            timers: BTreeMap::new(),
            reached: [None; 2],
            fired: 0,
            unseen: VecDeque::new(),
            restart: None,
            held: Vec::new(),
            hash,
            taken: BTreeMap::new(),
            refused: BTreeSet::new(),
            is_closed: false,
            has_ended: false,
            survived: (0, u64::MAX),
        }
    }

    /// The timer of a domain that is let go before all others of it.
    pub(crate) fn first(&self, domain: Domain) -> Option<&Place> {
        self.timers.keys().find(|place| place.0 == domain)
    }

    /// When a timer is let go that stands first.
    pub(crate) fn release(&self, place: &Place) -> i64 {
        match place.0 {
            Domain::Event => place.1,
            Domain::Processing => self.held.iter().fold(place.1, |time, hold| hold.release(time)),
        }
    }

    /// Fires a timer whose time to go has come. `false`: this is not what was seen.
    pub(crate) fn fire(&mut self, place: &Place, seen: &[Fired]) -> bool {
        self.let_go(place, self.release(place), seen)
    }

    pub(crate) fn let_go(&mut self, place: &Place, release: i64, seen: &[Fired]) -> bool {
        let payload = self.timers.remove(place).unwrap_or_default();
        let (domain, fire_at, name) = place.clone();
        let timer = Timer { domain, fire_at, name, payload };
        let is_right = if let Some(seen) = seen.get(self.fired) {
            self.unseen.is_empty() && seen.timer == timer && release <= seen.due_by
        } else {
            self.unseen.push_back((timer, release));
            true
        };
        self.fired += 1;
        self.forget_holds();
        is_right
    }

    /// What holds back nothing that is there holds back nothing that comes, either.
    pub(crate) fn forget_holds(&mut self) {
        if !self.held.is_empty() {
            let first = self.first(Domain::Processing).map(|place| place.1);
            self.held.retain(|hold| first.is_some_and(|first| first <= hold.until));
        }
    }

    /// Fires what is due of a domain. `false`: this is not what was seen.
    pub(crate) fn advance(&mut self, domain: Domain, to: i64, seen: &[Fired]) -> bool {
        loop {
            let due = self.first(domain).filter(|place| self.release(place) <= to).cloned();
            match due {
                None => return true,
                Some(place) if !self.fire(&place, seen) => return false,
                Some(_) => {}
            }
        }
    }

    /// The lane has come so far, by a watermark or a manual clock.
    pub(crate) fn reach(&mut self, domain: Domain, to: i64, seen: &[Fired]) -> bool {
        let reached = &mut self.reached[domain as usize];
        *reached = (*reached).max(Some(to));
        self.advance(domain, to, seen)
    }

    /// An output of the key was seen, the first that this candidate may not have counted.
    pub(crate) fn see(&mut self, fired: &Fired, place: usize) -> bool {
        if self.fired <= place {
            // It has not fired here yet; it will have to.
            return true;
        }
        let unseen = self.unseen.pop_front();
        unseen.is_some_and(|(timer, release)| timer == fired.timer && release <= fired.due_by)
    }

    /// What may follow from an operation, and what is then answered to it.
    fn take(
        self,
        key: &[u8],
        act: &Act,
        now: Option<i64>,
        rules: &Rules,
        may_close: bool,
        seen: &[Fired],
    ) -> Vec<(Self, Answer)> {
        let is_closed = self.is_closed || self.is_closed_by_time();
        if matches!(act, Act::Read) || !is_closed && !may_close {
            return self.take_open(key, act, now, rules, seen);
        }
        let mut refused = self.clone();
        refused.is_closed = true;
        let mut found = vec![(refused, Answer::Refused(CLOSED))];
        if !is_closed {
            found.extend(self.take_open(key, act, now, rules, seen));
        }
        found
    }

    /// The same, of a namespace that takes operations.
    fn take_open(
        mut self,
        key: &[u8],
        act: &Act,
        now: Option<i64>,
        rules: &Rules,
        seen: &[Fired],
    ) -> Vec<(Self, Answer)> {
        let Act::Once(once, act) = act else {
            let answer = self.apply(key, act, now, rules, seen);
            return answer.map(|answer| (self, answer)).into_iter().collect();
        };
        let mark = (once.sequence, once.index);
        let repeated = Answer::Done {
            result: ResultKind::Repeated,
            fire_at: None,
            cancelled: 0,
            overdue: false,
        };
        if self.taken.get(&once.producer).is_some_and(|taken| mark <= *taken) {
            return vec![(self, repeated)];
        }
        let mut found = Vec::new();
        if self.refused.contains(once) {
            // Its key group may have taken a later one, of another key.
            found.push((self.clone(), repeated));
        }
        if let Some(answer) = self.apply(key, act, now, rules, seen) {
            self.refused.retain(|it| it.producer != once.producer || it.sequence == once.sequence);
            if matches!(answer, Answer::Refused(_)) {
                self.refused.insert(*once);
            } else {
                self.taken.insert(once.producer, mark);
            }
            found.push((self, answer));
        }
        found
    }

    /// What follows from an operation, and what is answered to it.
    fn apply(
        &mut self,
        key: &[u8],
        act: &Act,
        now: Option<i64>,
        rules: &Rules,
        seen: &[Fired],
    ) -> Option<Answer> {
        let registration = match act {
            Act::Register(registration) => registration.clone(),
            Act::Touch { name, domain, after_ms } => Registration {
                domain: *domain,
                name: Some(name.clone()),
                when: When::After(*after_ms),
                payload: None,
                resolution_ms: None,
                spread_ms: None,
                only: Only::Always,
            },
            Act::DeleteName { domain, name } => {
                return Some(
                    self.delete(|place| place.0 == *domain && place.2.as_deref() == Some(name)),
                );
            }
            Act::DeleteAt { domain, at, resolution_ms, spread_ms } => {
                let time = settle(key, None, *at, *resolution_ms, *spread_ms, rules);
                return Some(self.delete(|place| {
                    place.0 == *domain && place.2.is_none() && Some(place.1) == time
                }));
            }
            Act::DeleteFireAt { domain, at } => {
                return Some(
                    self.delete(|place| place.0 == *domain && place.2.is_none() && place.1 == *at),
                );
            }
            Act::DeleteAll => return Some(self.delete(|_| true)),
            Act::Read => return Some(Answer::Timers(self.pending())),
            Act::Once(_, act) => return self.apply(key, act, now, rules, seen),
        };
        self.register(key, &registration, matches!(act, Act::Touch { .. }), now, rules, seen)
    }

    fn delete(&mut self, which: impl Fn(&Place) -> bool) -> Answer {
        let before = self.timers.len();
        self.timers.retain(|place, _| !which(place));
        self.forget_holds();
        let cancelled = (before - self.timers.len()) as u32;
        let result = if cancelled > 0 { ResultKind::Cancelled } else { ResultKind::Absent };
        Answer::Done { result, fire_at: None, cancelled, overdue: false }
    }

    /// The timers that a reader sees.
    pub(crate) fn pending(&self) -> Vec<Timer> {
        let timer = |((domain, fire_at, name), payload): (&Place, &Payload)| Timer {
            domain: *domain,
            fire_at: *fire_at,
            name: name.clone(),
            payload: payload.clone(),
        };
        self.timers.iter().map(timer).collect()
    }

    fn register(
        &mut self,
        key: &[u8],
        it: &Registration,
        is_touch: bool,
        now: Option<i64>,
        rules: &Rules,
        seen: &[Fired],
    ) -> Option<Answer> {
        use ResultKind::{Created, Duplicate, Kept, Replaced, Unchanged};
        let domain = it.domain;
        let reads = if domain == Domain::Event { self.reached[0] } else { now };
        let time = match (it.when, reads) {
            (When::At(at), _) => at,
            (When::After(_), None) if domain == Domain::Event => {
                return Some(Answer::Refused("watermark-unset"));
            }
            (When::After(_), None) => return Some(Answer::Refused("clock-unset")),
            (When::After(after_ms), Some(reads)) => match reads.checked_add(after_ms) {
                Some(time) => time,
                None => return Some(Answer::Refused("time-overflow")),
            },
        };
        let name = it.name.as_deref();
        let Some(fire_at) = settle(key, name, time, it.resolution_ms, it.spread_ms, rules) else {
            return Some(Answer::Refused("time-overflow"));
        };
        let standing = self.timers.iter().find(|((at_domain, at, at_name), _)| {
            *at_domain == domain && *at_name == it.name && (name.is_some() || *at == fire_at)
        });
        let stands_at = standing.map(|(place, _)| place.1);
        let stands_with = standing.map(|(_, payload)| payload.clone());
        let place = |at| (domain, at, it.name.clone());
        let payload = if is_touch { stands_with.clone().flatten() } else { it.payload.clone() };
        let is_kept = match it.only {
            Only::Always => false,
            Only::Absent => stands_at.is_some(),
            Only::Present => stands_at.is_none(),
            Only::Earlier => stands_at.is_some_and(|at| fire_at >= at),
            Only::Later => stands_at.is_some_and(|at| fire_at <= at),
        };
        let result = match stands_at {
            _ if is_kept => Kept,
            None => Created,
            Some(_) if name.is_none() => Duplicate,
            Some(at) if at == fire_at && stands_with.as_ref() == Some(&payload) => Unchanged,
            Some(_) => Replaced,
        };
        if result == Created && self.timers.len() >= rules.timers_per_key {
            return Some(Answer::Refused("quota-exceeded"));
        }
        if matches!(result, Created | Replaced) {
            let first = self.first(domain).map(|first| first.1);
            if let Some(at) = stands_at {
                self.timers.remove(&place(at));
            }
            self.timers.insert(place(fire_at), payload);
            let is_told = domain == Domain::Event || rules.is_manual;
            if is_told
                && reads.is_some_and(|reads| fire_at <= reads)
                && !self.advance(domain, fire_at, seen)
            {
                return None;
            }
            // What has passed fires at once, unless something of the key stands before it.
            if !is_told
                && reads.is_some_and(|reads| fire_at <= reads)
                && first.is_none_or(|first| fire_at < first)
                && !self.let_go(&place(fire_at), fire_at, seen)
            {
                return None;
            }
        }
        let answered = if is_kept { stands_at } else { Some(fire_at) };
        let overdue = answered.is_some_and(|at| reads.is_some_and(|reads| at <= reads));
        Some(Answer::Done { result, fire_at: answered, cancelled: 0, overdue })
    }
}

/// The time after resolution, then spread.
fn settle(
    key: &[u8],
    name: Option<&str>,
    time: i64,
    resolution_ms: Option<i64>,
    spread_ms: Option<i64>,
    rules: &Rules,
) -> Option<i64> {
    if time == i64::MAX {
        return Some(time);
    }
    let resolution_ms = resolution_ms.unwrap_or(rules.resolution_ms);
    let floored = Timestamp::from_millis(time).floor_to(resolution_ms).as_millis();
    floored.checked_add(spread_offset(key, name, spread_ms.unwrap_or(rules.spread_ms)))
}

/// What may follow from an operation; `answer` is what was answered, if that is known.
pub(crate) fn follow(
    candidates: &[Candidate],
    key: &[u8],
    act: &Act,
    answer: Option<&Answer>,
    rules: &Rules,
    window: &Window<'_>,
    seen: &[Fired],
) -> Vec<Candidate> {
    let mut next = BTreeSet::new();
    for candidate in candidates {
        for (it, now) in candidate.before(rules, window, seen) {
            let found = it.take(key, act, now, rules, window.may_close(rules), seen).into_iter();
            let found = found.filter(|(_, found)| answer.is_none_or(|answer| answer == found));
            next.extend(found.map(|(it, _)| it));
        }
    }
    next.into_iter().collect()
}

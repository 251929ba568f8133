//! The ways in which time may have passed for a key, as far as nobody outside of the engine can know:
//! which advances its lane has made before an operation or a crash, and what a restart found due.

use crate::act::Fired;
use crate::closing::End;
use crate::oracle::{Candidate, Place, Rules};
use crate::overdue::{Downtime, Hold};
use std::collections::BTreeSet;
use stormwheel::namespace::OverduePolicy;
use stormwheel::time::Domain;

/// When an operation may have been taken in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window<'a> {
    /// What the engine's clock may have read.
    pub(crate) clock: &'a [i64],
    /// The latest time that may have passed.
    pub(crate) latest: i64,
    /// How many of the rules' advances the key's lane had made, by domain: at least, and at most.
    pub(crate) advances: [(usize, usize); 2],
    /// Whether the clock may have come to its end, and whether it has.
    pub(crate) end: End,
}

impl Candidate {
    /// Since when nothing of the key could be let go, if a restart was not decided about that must be
    /// before anything more of it is.
    pub(crate) fn undecided_since(&self) -> Option<i64> {
        let standing = self.undecided().filter(|(down, first)| self.release(first) <= down.to);
        standing.map(|(down, _)| down.from)
    }

    /// Whether a timer of the clock was to be let go by then.
    pub(crate) fn is_due(&self, now: i64) -> bool {
        self.first(Domain::Processing).is_some_and(|first| self.release(first) <= now)
    }

    /// There was another restart: the engine was down since `newest`, and of the key's lane nothing could
    /// be let go since one of `froms`. Of the key itself one may know since when.
    pub(crate) fn restarted(&self, now: i64, newest: i64, froms: &BTreeSet<i64>) -> Vec<Self> {
        let with = |from: i64| {
            let mut it = self.clone();
            it.restart = Downtime::new(from, now).filter(|_| !froms.is_empty());
            it
        };
        let is_concerned = self.first(Domain::Processing).is_some_and(|first| first.1 <= now);
        match self.undecided_since() {
            Some(since) => vec![with(since)],
            None if is_concerned && !froms.is_empty() => froms.iter().copied().map(with).collect(),
            None => vec![with(newest)],
        }
    }

    /// The lane has decided what a restart holds back. `None`: this is not what was seen.
    fn decide(&self, policy: OverduePolicy, down: Downtime, seen: &[Fired]) -> Option<Self> {
        let mut it = self.clone();
        it.restart = None;
        it.held.extend(Hold::new(policy, down, self.hash));
        while let Some(place) = it.first(Domain::Processing).cloned()
            && it.release(&place) <= down.to
        {
            if policy == OverduePolicy::Drop {
                it.timers.remove(&place);
            } else if !it.fire(&place, seen) {
                return None;
            }
        }
        it.forget_holds();
        Some(it)
    }

    /// The restart has held back nothing on its lane.
    fn unconcerned(&self) -> Self {
        let mut it = self.clone();
        it.restart = None;
        it
    }

    /// A restart that may concern the key, of which it is not decided yet what it holds back, and the timer
    /// that is let go before all others.
    fn undecided(&self) -> Option<(Downtime, &Place)> {
        let first = self.first(Domain::Processing);
        self.restart.zip(first).filter(|(down, it)| it.1 <= down.to)
    }

    /// The ways in which a decision about a restart may have been made that concerns the key, and whether
    /// it must have been, before anything more of it is let go.
    ///
    /// A key is concerned if its first timer was due then. If that was held for longer, it depends on the
    /// others of its lane. Nothing was due of any: then nothing was decided, and what waits behind the held
    /// timer goes as soon as that is gone. Or something was: what was decided is noted for all keys, and
    /// holds what waits once more, if its time had passed.
    fn decided(&self, rules: &Rules, seen: &[Fired]) -> (Vec<(Self, i64)>, bool) {
        let Some((down, first)) = self.undecided() else {
            return (Vec::new(), false);
        };
        let must_decide = self.release(first) <= down.to;
        let ways = rules.overdue.iter().filter_map(|policy| self.decide(*policy, down, seen));
        let unconcerned = (!must_decide).then(|| self.unconcerned());
        (ways.chain(unconcerned).map(|it| (it, down.to)).collect(), must_decide)
    }

    /// What may come of processing time that passes, by the system's clock, and when.
    fn ticks(&self, latest: i64, rules: &Rules, seen: &[Fired]) -> Vec<(Self, i64)> {
        let (mut next, must_decide) = self.decided(rules, seen);
        let release = self.first(Domain::Processing).map(|first| self.release(first));
        if let Some(release) = release.filter(|release| !must_decide && *release <= latest) {
            let mut it = self.clone();
            if it.advance(Domain::Processing, release, seen) {
                next.push((it, release));
            }
        }
        next
    }

    /// All that the key may have come to by the end of an engine, `latest` being the latest time that may
    /// have passed: all that was seen has fired.
    pub(crate) fn at_the_end(&self, rules: &Rules, latest: i64, seen: &[Fired]) -> Vec<Self> {
        let first = self.first(Domain::Processing).map(|first| self.release(first));
        let is_idle = self.undecided().is_none() && first.is_none_or(|first| first > latest);
        if self.fired >= seen.len() && is_idle {
            return vec![self.clone()];
        }
        let advances = [0, 1].map(|domain| (0, rules.advances[domain].len()));
        let end = End { may: true, has: false };
        let ways = self.reachable(rules, &Window { clock: &[], latest, advances, end }, seen);
        let ways: BTreeSet<Self> = ways.into_iter().map(|(it, _)| it).collect();
        ways.into_iter().filter(|it| it.fired >= seen.len()).collect()
    }

    /// All ways in which the lane may have come further, each with the latest time that must have
    /// passed for it. Advances of the two domains go in any order.
    fn reachable(
        &self,
        rules: &Rules,
        window: &Window<'_>,
        seen: &[Fired],
    ) -> BTreeSet<(Self, i64)> {
        let mut found = BTreeSet::from([(self.clone(), i64::MIN)]);
        let mut open: Vec<(Self, i64)> = found.iter().cloned().collect();
        while let Some((it, ticked)) = open.pop() {
            let mut next = Vec::new();
            for domain in [Domain::Event, Domain::Processing] {
                let place = domain as usize;
                if domain == Domain::Event || rules.is_manual {
                    let advances = &rules.advances[place][..window.advances[place].1];
                    let to =
                        advances.iter().find(|to| it.reached[place].is_none_or(|at| **to > at));
                    let mut it = it.clone();
                    if to.is_some_and(|to| it.reach(domain, *to, seen)) {
                        next.push((it, ticked));
                    }
                } else {
                    let ticks = it.ticks(window.latest, rules, seen).into_iter();
                    next.extend(ticks.map(|(it, at)| (it, ticked.max(at))));
                }
            }
            let end = window.end.may.then(|| it.ended(rules, seen)).flatten();
            next.extend(end.map(|it| (it, ticked)));
            open.extend(next.into_iter().filter(|it| found.insert(it.clone())));
        }
        found
    }

    /// All ways in which the lane may have come further before an operation, and what the
    /// namespace's clock may then have read.
    pub(crate) fn before(
        &self,
        rules: &Rules,
        window: &Window<'_>,
        seen: &[Fired],
    ) -> Vec<(Self, Option<i64>)> {
        let mut found = self.reachable(rules, window, seen);
        found.retain(|(it, _)| {
            let is_right = it.has_ended || !window.end.has;
            is_right
                && (0..2).all(|place| {
                    let least = window.advances[place].0;
                    least == 0 || it.reached[place] >= Some(rules.advances[place][least - 1])
                })
        });
        let mut all = Vec::new();
        for (it, ticked) in found {
            if rules.is_manual {
                all.push((it.reached[1], it));
            } else {
                let clock = window.clock.iter().filter(|now| **now >= ticked);
                all.extend(clock.map(|now| (Some(*now), it.clone())));
            }
        }
        all.into_iter().map(|(now, it)| (it, now)).collect()
    }
}

/// Nothing is under way: all that is due has fired and was seen, in the order in which it was seen.
/// Returns the candidates of which that is true.
pub(crate) fn settle_all(
    candidates: &[Candidate],
    rules: &Rules,
    reached: [Option<i64>; 2],
    now: i64,
    seen: &[Fired],
) -> Vec<Candidate> {
    let until = [reached[0], if rules.is_manual { reached[1] } else { Some(now) }];
    let is_due = |it: &Candidate, domain: Domain| {
        let release = it.first(domain).map(|first| it.release(first));
        release.is_some_and(|release| until[domain as usize].is_some_and(|until| release <= until))
    };
    let told = if rules.is_manual { 2 } else { 1 };
    let mut settled = BTreeSet::new();
    let mut open = candidates.to_vec();
    while let Some(mut it) = open.pop() {
        open.extend(it.closed_and_ended(rules, seen));
        let next = seen.get(it.fired).map(|next| next.timer.domain);
        if next != Some(Domain::Event) {
            let (decided, must_decide) = it.decided(rules, seen);
            open.extend(decided.into_iter().map(|(it, _)| it));
            if must_decide {
                continue;
            }
            it.restart = None;
        }
        if let Some(domain) = next {
            let release = it.first(domain).map(|first| it.release(first));
            if let Some(release) = release.filter(|_| is_due(&it, domain))
                && it.advance(domain, release, seen)
            {
                open.push(it);
            }
            continue;
        }
        if Domain::ALL.iter().any(|domain| is_due(&it, *domain)) || !it.unseen.is_empty() {
            continue;
        }
        if it.reached[..told].iter().zip(&reached).any(|(at, to)| at > to) {
            continue;
        }
        it.reached[..told].copy_from_slice(&reached[..told]);
        if it.has_ended != rules.ending.is_some() || it.is_closed && !it.is_closed_by_time() {
            continue;
        }
        it.is_closed = false;
        settled.insert(it);
    }
    settled.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::{Act, Answer, Timer};
    use crate::oracle::follow;
    use stormwheel::op::ResultKind;

    const NOW: i64 = 300;
    const SPREAD: OverduePolicy = OverduePolicy::Spread { over_ms: 1_000 };

    fn place(at: i64, name: Option<&str>) -> Place {
        (Domain::Processing, at, name.map(str::to_owned))
    }

    fn rules() -> Rules {
        Rules { overdue: vec![SPREAD], ..Rules::default() }
    }

    /// A key that is let go last in every spread, after a restart of which nothing is decided.
    fn key(places: &[Place], held: Option<Downtime>) -> Candidate {
        let mut it = Candidate::new(u64::MAX);
        it.timers = places.iter().map(|place| (place.clone(), None)).collect();
        it.held.extend(held.and_then(|down| Hold::new(SPREAD, down, it.hash)));
        it.restart = Some(Downtime { from: 200, to: NOW });
        it
    }

    /// Whether `a` may be cancelled, and 150 fire with that, or not.
    fn may(candidates: &[Candidate], fires: bool) -> bool {
        let rules = rules();
        let (domain, name) = (Domain::Processing, "a".to_owned());
        let cancelled = Answer::Done {
            result: ResultKind::Cancelled,
            fire_at: None,
            cancelled: 1,
            overdue: false,
        };
        let window = Window { clock: &[NOW], latest: NOW, ..Window::default() };
        let act = Act::DeleteName { domain, name };
        let next = follow(candidates, b"k", &act, Some(&cancelled), &rules, &window, &[]);
        let timer = Timer { domain, fire_at: 150, name: None, payload: None };
        let seen: Vec<Fired> = fires.then_some(Fired { timer, due_by: NOW }).into_iter().collect();
        !settle_all(&next, &rules, [None; 2], NOW, &seen).is_empty()
    }

    #[test]
    fn what_waits_behind_a_timer_held_for_longer_is_held_by_a_restart_or_not() {
        let first = Some(Downtime { from: 0, to: 100 });
        let it = key(&[place(50, Some("a")), place(150, None)], first);
        assert!(may(std::slice::from_ref(&it), true) && may(std::slice::from_ref(&it), false));
        // Either may also have come to be before the next crash.
        let mut ways = it.at_the_end(&rules(), NOW, &[]);
        for it in &mut ways {
            it.restart = None;
        }
        assert!(may(&ways, true) && may(&ways, false));
    }

    #[test]
    fn what_was_due_at_a_restart_is_held_whatever_is_cancelled() {
        let it = key(&[place(120, Some("a")), place(150, None)], None);
        assert!(may(std::slice::from_ref(&it), false));
        assert!(!may(&[it], true));
    }
}

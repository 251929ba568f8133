//! A namespace that is paused, as the oracle has it: no time passes in its lanes, while operations go on.
//! What falls due meanwhile is decided about when it is resumed, as after a downtime.

use super::{CANDIDATES_MAX, Model, Violation};
use crate::oracle::Candidate;
use crate::overdue::Downtime;
use crate::ways::Window;
use std::collections::BTreeSet;
use stormwheel::time::Domain;

/// Times between which the pause may have lasted, beyond which it is not followed.
const DOWNTIMES_MAX: usize = 64;

/// Since when no time passes, and how far it has come.
#[derive(Debug, Clone)]
pub(super) struct Still {
    /// What the clock may have read when it began, in their order.
    since: Vec<i64>,
    /// How many of the rules' advances all lanes have made.
    pub(super) advances: [usize; 2],
}

impl Still {
    /// The latest time that may have passed.
    pub(super) fn latest(&self) -> i64 {
        self.since.last().copied().unwrap_or(i64::MIN)
    }
}

impl Model {
    /// Whether no time passes.
    pub(crate) fn is_paused(&self) -> bool {
        self.still.is_some()
    }

    /// What the clock has read since the moment of this mark.
    pub(crate) fn clock_since(&self, mark: usize) -> Vec<i64> {
        self.clock[mark.min(self.clock.len() - 1)..].to_vec()
    }

    /// A mark of this moment.
    pub(crate) fn clock_mark(&self) -> usize {
        self.clock.len() - 1
    }

    /// No time passes any more, since the clock read one of these.
    pub(crate) fn pause(&mut self, since: Vec<i64>) {
        self.still = Some(Still { since, advances: self.done });
    }

    /// Time passes again, since the clock read one of these: everything that this made due was seen.
    pub(crate) fn resume(&mut self, until: &[i64]) {
        let Some(still) = self.still.take() else { return };
        self.done = [0, 1].map(|it| self.rules.advances[it].len());
        if !self.may_hold() {
            return;
        }
        let since = still.since.iter();
        let downtimes: BTreeSet<Option<Downtime>> =
            since.flat_map(|from| until.iter().map(|to| Downtime::new(*from, *to))).collect();
        self.is_lost |= downtimes.len() > DOWNTIMES_MAX;
        if self.is_lost {
            return;
        }
        downtimes.iter().flatten().for_each(|down| self.note_restart(*down));
        let latest = until.last().copied().unwrap_or(i64::MIN);
        let mut keys = std::mem::take(&mut self.keys);
        for key in keys.values_mut() {
            let mut base = BTreeSet::new();
            // What was to be decided before the pause has been.
            let ways = self.in_pause(&still, key).into_iter();
            for it in ways.filter(|it| it.undecided_since().is_none()) {
                let first = it.first(Domain::Processing);
                let is_concerned = first.is_some_and(|first| first.1 <= latest);
                for restart in downtimes.iter().take(if is_concerned { usize::MAX } else { 1 }) {
                    let mut it = it.clone();
                    it.restart = restart.filter(|_| is_concerned);
                    base.insert(it);
                }
            }
            key.base = base.into_iter().collect();
            self.is_lost |= key.base.len() > CANDIDATES_MAX;
        }
        self.keys = keys;
    }

    /// A crash came while it was being resumed: lanes that had heard of that decide about the downtime
    /// by itself, others with the pause. That is not followed where it matters.
    pub(crate) fn crash_amid_resume(&mut self) {
        self.is_lost |= self.may_hold();
    }

    /// It was resumed before a crash, and has come to rest since.
    pub(crate) fn resumed_before(&mut self) {
        self.still = None;
    }

    /// What a key may have come to in a pause: what was due when it began may have fired before, or not.
    fn in_pause(&self, still: &Still, key: &super::Key) -> BTreeSet<Candidate> {
        let advances = still.advances.map(|it| (it, it));
        let window =
            Window { clock: &self.clock, latest: still.latest(), advances, end: self.end() };
        let ways = key.base.iter().flat_map(|it| it.before(&self.rules, &window, &key.seen));
        ways.map(|(it, _)| it).collect()
    }

    /// The same, with nothing under way: all that has fired was seen.
    pub(super) fn rest_still(&self, still: &Still, key: &super::Key) -> Vec<Candidate> {
        let mut ways = self.in_pause(still, key);
        ways.retain(|it| it.fired == key.seen.len() && it.unseen.is_empty());
        ways.into_iter().collect()
    }

    /// Holds the engine's word to what is known. `told_since`: it may have been paused then, or
    /// `is_resuming`, when the engine went.
    pub(crate) fn check_pause(
        &mut self,
        is_paused: bool,
        told_since: Option<&[i64]>,
        is_resuming: bool,
    ) -> Result<(), Violation> {
        match (self.is_paused(), is_paused, told_since) {
            (false, true, Some(since)) => {
                self.pause(since.to_vec());
                // What was due at the restart is decided about with what falls due from now on.
                let candidates = self.keys.values_mut().flat_map(|key| &mut key.base);
                candidates.for_each(|it| it.restart = None);
            }
            (true, false, _) if is_resuming => self.resumed_before(),
            (known, found, _) if known != found => {
                let detail = format!("namespace {}: paused: {found}, not {known}", self.name);
                return Err(Violation::new("lost pause", detail));
            }
            _ => {}
        }
        Ok(())
    }
}

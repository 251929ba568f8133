//! The sources of a namespace as the client knows them, and the watermark that follows: the smallest of
//! those that are not idle, or of all the largest. One that comes back from being idle does not count
//! before it has caught up.
//!
//! One that says nothing for long is idle. When exactly nobody can tell: between the reading of the clock that
//! made it so and the next look at the node at rest it may be, and nothing is reported meanwhile. In which
//! order sources go idle follows from when they spoke; where that is not clear, they are given up.

use std::collections::BTreeMap;
use stormwheel::namespace::{SourceResult, SourceStatus};
use stormwheel::time::Timestamp;

/// Nobody can tell in which order sources go idle.
pub(crate) struct Unclear;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    by_name: BTreeMap<String, Source>,
    combined: Option<i64>,
    /// The same, if all are idle by now that may be.
    ahead: Option<i64>,
    /// How long one may be silent.
    pub(crate) idle_after_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Source {
    watermark: Option<i64>,
    is_idle: bool,
    /// It was idle, and has not caught up.
    is_behind: bool,
    /// It may be idle by now, by its silence.
    is_silent: bool,
    /// When it spoke last: not before, and not after.
    spoke: (i64, i64),
}

impl Sources {
    /// These are to be there: new ones since some time in this span.
    pub(crate) fn list<'a>(&mut self, names: impl Iterator<Item = &'a String>, spoke: (i64, i64)) {
        for name in names {
            let fresh = Source { spoke, ..Source::default() };
            self.by_name.entry(name.clone()).or_insert(fresh);
        }
    }

    /// Nobody could be heard before now.
    pub(crate) fn restarted(&mut self, now: i64) {
        self.by_name.values_mut().for_each(|it| it.spoke = (now, now));
    }

    /// What was said last was said by now.
    pub(crate) fn heard(&mut self, now: i64) {
        self.by_name.values_mut().for_each(|it| it.spoke.1 = it.spoke.1.min(now));
    }

    /// Whether one may be idle of which that is not known.
    pub(crate) fn is_unclear(&self) -> bool {
        self.by_name.values().any(|it| it.is_silent)
    }

    /// The clock reads this. Returns how far time may have come by the silence of those that may be idle
    /// since; `None`: there are none.
    pub(crate) fn pass(&mut self, now: i64) -> Result<Option<Vec<i64>>, Unclear> {
        let Some(idle_after_ms) = self.idle_after_ms else { return Ok(None) };
        let mut moved: Option<Vec<i64>> = None;
        loop {
            let open = |it: &Source| !it.is_idle && !it.is_silent;
            let speaking = self.by_name.values().filter(|it| open(it));
            let all: Vec<(i64, i64)> = speaking.map(|it| it.spoke).collect();
            let due = all.iter().filter(|spoke| now.saturating_sub(spoke.0) >= idle_after_ms);
            let Some(first) = due.min().copied() else { return Ok(moved) };
            if all.iter().any(|spoke| *spoke != first && spoke.0 < first.1) {
                return Err(Unclear);
            }
            let those = self.by_name.values_mut().filter(|it| open(it) && it.spoke == first);
            those.for_each(|it| it.is_silent = true);
            let mut next = self.clone();
            next.combined = self.combined.max(self.ahead);
            let silent = next.by_name.values_mut().filter(|it| it.is_silent);
            silent.for_each(|it| (it.is_idle, it.is_behind) = (true, true));
            next.combine();
            self.ahead = next.combined;
            moved.get_or_insert_with(Vec::new).extend(next.combined);
        }
    }

    /// The node is at rest, and says of each whether it is idle: those that were silent for too long are.
    pub(crate) fn settle(&mut self, found: &[SourceStatus], now: i64) -> Result<(), String> {
        let Some(idle_after_ms) = self.idle_after_ms else { return Ok(()) };
        for (name, it) in self.by_name.iter_mut().filter(|(_, it)| it.is_silent) {
            it.is_silent = false;
            let is_idle = found.iter().any(|found| found.source == *name && found.idle);
            if is_idle {
                (it.is_idle, it.is_behind) = (true, true);
            } else if now.saturating_sub(it.spoke.1) >= idle_after_ms {
                return Err(format!("{name} has been silent since {:?}, it is {now}", it.spoke));
            }
        }
        self.combine();
        self.ahead = None;
        Ok(())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    /// The combined watermark.
    pub(crate) fn combined(&self) -> Option<i64> {
        self.combined
    }

    /// Where a source stands.
    pub(crate) fn watermark(&self, name: &str) -> Option<i64> {
        self.by_name.get(name)?.watermark
    }

    /// A source has come so far, or says so.
    pub(crate) fn report(&mut self, name: &str, to: i64, now: i64) -> SourceResult {
        let Some(it) = self.by_name.get_mut(name) else { return SourceResult::Ignored };
        let is_news = it.watermark.is_none_or(|standing| to > standing);
        it.watermark = it.watermark.max(Some(to));
        (it.is_idle, it.spoke) = (false, (now, i64::MAX));
        it.is_behind &= it.watermark < self.combined;
        self.combine();
        if is_news { SourceResult::Advanced } else { SourceResult::Ignored }
    }

    /// A source has nothing to say for the time being.
    pub(crate) fn idle(&mut self, name: &str) -> SourceResult {
        if let Some(it) = self.by_name.get_mut(name) {
            (it.is_idle, it.is_behind) = (true, true);
        }
        self.combine();
        SourceResult::Idle
    }

    /// The final watermark has come.
    pub(crate) fn finish(&mut self) {
        self.combined = Some(i64::MAX);
    }

    fn combine(&mut self) {
        let all = self.by_name.values();
        let next = if all.clone().all(|it| it.is_idle) {
            all.map(|it| it.watermark).max()
        } else {
            all.filter(|it| !it.is_idle && !it.is_behind).map(|it| it.watermark).min()
        };
        self.combined = self.combined.max(next.flatten());
    }

    /// Whether the engine says the same.
    pub(crate) fn are(&self, found: &[SourceStatus], combined: Option<Timestamp>) -> bool {
        let millis = |it: Option<Timestamp>| it.map(Timestamp::as_millis);
        let is_right = |it: &SourceStatus| {
            let known = self.by_name.get(&it.source);
            known.is_some_and(|known| {
                (known.watermark, known.is_idle) == (millis(it.watermark), it.idle)
            })
        };
        found.len() == self.by_name.len()
            && found.iter().all(is_right)
            && self.combined == millis(combined)
    }
}

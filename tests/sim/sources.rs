//! The sources of a namespace as the client knows them, and the watermark that follows: the smallest of
//! those that are not idle, or of all the largest. One that comes back from being idle does not count
//! before it has caught up.

use std::collections::BTreeMap;
use stormwheel::namespace::{SourceResult, SourceStatus};
use stormwheel::time::Timestamp;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    by_name: BTreeMap<String, Source>,
    combined: Option<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Source {
    watermark: Option<i64>,
    is_idle: bool,
    /// It was idle, and has not caught up.
    is_behind: bool,
}

impl Sources {
    pub(crate) fn list<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        for name in names {
            self.by_name.entry(name.clone()).or_default();
        }
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
    pub(crate) fn report(&mut self, name: &str, to: i64) -> SourceResult {
        let Some(it) = self.by_name.get_mut(name) else { return SourceResult::Ignored };
        let is_news = it.watermark.is_none_or(|standing| to > standing);
        it.watermark = it.watermark.max(Some(to));
        it.is_idle = false;
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

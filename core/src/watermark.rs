//! The combined watermark of a namespace: the minimum over its active sources.
//!
//! The rules are those of Flink's channel-level valve (F24 to F28 in `docs/semantics.md`): a source
//! that goes back is ignored; an idle one holds nothing back; when the last active one goes idle the
//! maximum over all is flushed; one that returns from idle counts again only once it has caught up
//! with the combined watermark. Sources listed in the configuration hold time back until each has
//! reported, others join with their first report.

use crate::namespace::{SourceChange, SourceResult, SourceStatus};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sources {
    by_name: BTreeMap<String, Source>,
    combined: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    watermark: Option<Timestamp>,
    is_idle: bool,
    is_listed: bool,
    /// Counts in the minimum: not idle, and not behind the combined watermark since it was.
    is_aligned: bool,
    /// When it last said something.
    spoke_at: Timestamp,
}

impl Sources {
    /// The combined watermark; `None`: none yet.
    pub(crate) fn combined(&self) -> Option<Timestamp> {
        self.combined
    }

    /// How many sources there are.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is a source of this name.
    pub(crate) fn contains(&self, source: &str) -> bool {
        self.by_name.contains_key(source)
    }

    /// Makes the listed sources those of the configuration. A new one holds time back from now on;
    /// one that is listed no more stays as one that joined by itself, unless it never reported.
    pub(crate) fn list(&mut self, names: &[String], now: Timestamp) -> Option<Timestamp> {
        for (name, source) in &mut self.by_name {
            source.is_listed = names.contains(name);
        }
        self.by_name.retain(|_, source| source.is_listed || source.watermark.is_some());
        for name in names {
            self.by_name.entry(name.clone()).or_insert(Source {
                watermark: None,
                is_idle: false,
                is_listed: true,
                is_aligned: true,
                spoke_at: now,
            });
        }
        self.combine()
    }

    /// Moves, idles or forgets a source. Returns what became of it, and the combined watermark if
    /// that moved.
    pub(crate) fn change(
        &mut self,
        name: &str,
        change: SourceChange,
        now: Timestamp,
    ) -> (SourceResult, Option<Timestamp>) {
        match change {
            SourceChange::Watermark(watermark) => self.advance(name, watermark, now),
            SourceChange::Idle => {
                let source = self.join(name, now);
                source.is_idle = true;
                source.is_aligned = false;
                (SourceResult::Idle, self.combine())
            }
            SourceChange::Forget => {
                self.by_name.remove(name);
                (SourceResult::Forgotten, self.combine())
            }
        }
    }

    fn advance(
        &mut self,
        name: &str,
        watermark: Timestamp,
        now: Timestamp,
    ) -> (SourceResult, Option<Timestamp>) {
        let combined = self.combined;
        let source = self.join(name, now);
        // A report ends idleness, also one that is ignored.
        source.is_idle = false;
        if source.watermark.is_some_and(|standing| watermark <= standing) {
            source.is_aligned |= source.watermark >= combined;
            return (SourceResult::Ignored, self.combine());
        }
        source.watermark = Some(watermark);
        source.is_aligned |= Some(watermark) >= combined;
        (SourceResult::Advanced, self.combine())
    }

    /// Nobody could be heard before this time: silence counts from there.
    pub(crate) fn restarted(&mut self, at: Timestamp) {
        for source in self.by_name.values_mut() {
            source.spoke_at = source.spoke_at.max(at);
        }
    }

    /// Nothing more will come of any source: the final watermark is here, and nothing moves it.
    pub(crate) fn finish(&mut self) {
        self.combined = Some(Timestamp::MAX);
    }

    /// Marks sources idle that were silent for too long. Returns the combined watermark if it moved.
    pub(crate) fn idle_silent(&mut self, now: Timestamp, idle_after_ms: i64) -> Option<Timestamp> {
        for source in self.by_name.values_mut() {
            if !source.is_idle && now.saturating_since(source.spoke_at) >= idle_after_ms {
                source.is_idle = true;
                source.is_aligned = false;
            }
        }
        self.combine()
    }

    /// When the next source will have been silent for too long.
    pub(crate) fn next_idle(&self, idle_after_ms: i64) -> Option<Timestamp> {
        let active = self.by_name.values().filter(|source| !source.is_idle);
        active.map(|source| source.spoke_at.saturating_add(idle_after_ms)).min()
    }

    /// The sources, by name.
    pub(crate) fn status(&self) -> Vec<SourceStatus> {
        self.by_name
            .iter()
            .map(|(name, source)| SourceStatus {
                source: name.clone(),
                watermark: source.watermark,
                idle: source.is_idle,
                listed: source.is_listed,
            })
            .collect()
    }

    fn join(&mut self, name: &str, now: Timestamp) -> &mut Source {
        let combined = self.combined;
        let source = self.by_name.entry(name.to_owned()).or_insert(Source {
            watermark: None,
            is_idle: false,
            is_listed: false,
            is_aligned: combined.is_none(),
            spoke_at: now,
        });
        source.spoke_at = now;
        source
    }

    /// Moves the combined watermark if the sources let it. It never goes back.
    fn combine(&mut self) -> Option<Timestamp> {
        let mut active = self.by_name.values().filter(|source| !source.is_idle).peekable();
        let next = if active.peek().is_some() {
            let mut aligned = active.filter(|source| source.is_aligned).peekable();
            aligned.peek()?;
            aligned.map(|source| source.watermark).min()?
        } else {
            self.by_name.values().map(|source| source.watermark).max()?
        };
        if next <= self.combined {
            return None;
        }
        self.combined = next;
        self.combined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SourceResult::{Advanced, Forgotten, Idle, Ignored};

    const NOW: Timestamp = Timestamp::from_millis(0);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn to(watermark: i64) -> SourceChange {
        SourceChange::Watermark(at(watermark))
    }

    /// Plays changes; each with what becomes of the source, and of the combined watermark.
    fn check(listed: &[&str], steps: &[(&str, SourceChange, SourceResult, Option<i64>)]) {
        let mut sources = Sources::default();
        let listed: Vec<String> = listed.iter().map(|name| (*name).to_owned()).collect();
        sources.list(&listed, NOW);
        for (index, (name, change, result, combined)) in steps.iter().enumerate() {
            let (it, moved) = sources.change(name, *change, NOW);
            assert_eq!(it, *result, "step {index}");
            assert_eq!(sources.combined(), combined.map(at), "step {index}");
            assert!(moved.is_none() || moved == sources.combined(), "step {index}");
        }
    }

    #[test]
    fn a_decreasing_watermark_is_ignored() {
        check(
            &[],
            &[
                ("a", to(25), Advanced, Some(25)),
                ("a", to(18), Ignored, Some(25)),
                ("a", to(42), Advanced, Some(42)),
                ("a", to(42), Ignored, Some(42)),
            ],
        );
    }

    #[test]
    fn listed_sources_hold_time_until_each_has_reported() {
        check(
            &["a", "b", "c"],
            &[
                ("a", to(0), Advanced, None),
                ("b", to(0), Advanced, None),
                ("c", to(0), Advanced, Some(0)),
                ("a", to(12), Advanced, Some(0)),
                ("c", to(10), Advanced, Some(0)),
                ("b", to(8), Advanced, Some(8)),
                ("b", to(11), Advanced, Some(10)),
            ],
        );
    }

    #[test]
    fn an_idle_source_holds_nothing_back() {
        check(
            &["a", "b", "c"],
            &[
                ("a", to(15), Advanced, None),
                ("b", to(10), Advanced, None),
                ("c", to(12), Advanced, Some(10)),
                ("b", SourceChange::Idle, Idle, Some(12)),
                ("c", to(17), Advanced, Some(15)),
            ],
        );
    }

    #[test]
    fn when_the_last_one_goes_idle_the_maximum_is_flushed() {
        check(
            &["a", "b", "c"],
            &[
                ("a", to(5), Advanced, None),
                ("b", to(10), Advanced, None),
                ("c", to(3), Advanced, Some(3)),
                ("a", SourceChange::Idle, Idle, Some(3)),
                ("b", SourceChange::Idle, Idle, Some(3)),
                ("c", SourceChange::Idle, Idle, Some(10)),
            ],
        );
    }

    #[test]
    fn one_that_returns_counts_once_it_has_caught_up() {
        check(
            &["a", "b"],
            &[
                ("a", to(10), Advanced, None),
                ("b", to(2), Advanced, Some(2)),
                ("b", SourceChange::Idle, Idle, Some(10)),
                ("b", to(5), Advanced, Some(10)),
                ("a", to(20), Advanced, Some(20)),
                ("b", to(20), Advanced, Some(20)),
                ("a", to(30), Advanced, Some(20)),
                ("b", to(25), Advanced, Some(25)),
            ],
        );
    }

    #[test]
    fn a_newcomer_behind_does_not_drag_time_back() {
        check(
            &[],
            &[
                ("a", to(10), Advanced, Some(10)),
                ("b", to(4), Advanced, Some(10)),
                ("a", to(12), Advanced, Some(12)),
                ("b", to(15), Advanced, Some(12)),
                ("a", to(20), Advanced, Some(15)),
                ("b", SourceChange::Forget, Forgotten, Some(20)),
            ],
        );
    }

    #[test]
    fn the_ends_of_the_range_are_ordinary() {
        check(
            &[],
            &[
                ("a", to(i64::MIN), Advanced, Some(i64::MIN)),
                ("a", to(i64::MAX), Advanced, Some(i64::MAX)),
                ("a", to(0), Ignored, Some(i64::MAX)),
            ],
        );
    }

    #[test]
    fn silence_makes_idle() {
        let mut sources = Sources::default();
        sources.change("a", to(5), at(0));
        sources.change("b", to(9), at(60));
        assert_eq!(sources.combined(), Some(at(5)));
        assert_eq!(sources.next_idle(100), Some(at(100)));
        assert_eq!(sources.idle_silent(at(99), 100), None);
        assert_eq!(sources.idle_silent(at(100), 100), Some(at(9)));
        assert_eq!(sources.next_idle(100), Some(at(160)));
        assert_eq!(sources.idle_silent(at(160), 100), None, "all idle, the maximum stands already");
        assert_eq!(sources.next_idle(100), None);
        assert!(sources.status().iter().all(|source| source.idle));
    }

    #[test]
    fn silence_counts_from_the_restart() {
        let mut sources = Sources::default();
        sources.change("a", to(5), at(0));
        sources.change("b", to(9), at(60));
        sources.restarted(at(50));
        assert_eq!(sources.next_idle(100), Some(at(150)));
        assert_eq!(sources.idle_silent(at(150), 100), Some(at(9)), "the slower one, alone");
        assert_eq!(sources.next_idle(100), Some(at(160)));
    }

    #[test]
    fn delisting_lets_go_of_what_never_reported() {
        let mut sources = Sources::default();
        sources.list(&["a".to_owned(), "b".to_owned()], NOW);
        sources.change("a", to(5), NOW);
        assert_eq!(sources.combined(), None);
        assert_eq!(sources.list(&["a".to_owned()], NOW), Some(at(5)));
        assert_eq!(sources.len(), 1);
    }
}

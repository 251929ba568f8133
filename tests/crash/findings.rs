//! What must not happen, counted by kind, with examples.

use std::collections::BTreeMap;
use std::fmt;

/// Examples kept of each kind; the counts go on.
const EXAMPLES_MAX: usize = 2;

/// What must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Finding {
    /// Acknowledged, and gone.
    Lost,
    /// Fired before its time.
    Early,
    /// Fired, and nobody had asked for it.
    Unknown,
    /// One timer, two ids.
    TwoIds,
    /// One id, two cursors.
    TwoCursors,
    /// Fired although it was cancelled, replaced or never taken.
    Cancelled,
    /// Read a second time, it was something else.
    Order,
    /// Answers that contradict each other.
    Contradiction,
    /// Due, and not fired in all the time it was given.
    Stuck,
}

/// All that was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    counts: BTreeMap<Finding, u64>,
    examples: Vec<(Finding, String)>,
}

impl Findings {
    pub(crate) fn add(&mut self, kind: Finding, example: impl FnOnce() -> String) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= EXAMPLES_MAX as u64 {
            self.examples.push((kind, example()));
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count;
        }
        self.examples.extend(other.examples);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in &self.counts {
            writeln!(out, "{kind:?}: {count}")?;
        }
        for (kind, example) in &self.examples {
            writeln!(out, "{kind:?}: {example}")?;
        }
        Ok(())
    }
}

//! Journals of earlier epochs: sealed, read once, and let go as the snapshots pass them.

use super::journal::is_passed;
use super::{DiskFault, Segments};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A segment of an earlier epoch.
#[derive(Debug)]
pub(crate) struct OldSegment {
    pub(crate) name: Arc<str>,
    /// The last position of each lane in it.
    pub(crate) lasts: BTreeMap<u16, u64>,
}

/// What is there of earlier epochs: by journal, the oldest segment first.
#[derive(Debug, Default)]
pub(crate) struct OldJournals {
    pub(crate) journals: Vec<VecDeque<OldSegment>>,
}

impl OldJournals {
    /// Segments that are still there.
    #[cfg(test)]
    pub(crate) fn segments(&self) -> usize {
        self.journals.iter().map(VecDeque::len).sum()
    }

    /// Lets go of the segments at the beginning of each journal whose blocks all end at or below
    /// the position that their lane is replayed behind. How many.
    pub(crate) fn cut(&mut self, starts: &[u64], segments: &Segments) -> Result<usize, DiskFault> {
        let mut count = 0;
        for journal in &mut self.journals {
            // From the beginning only: a hole in the middle would look like damage.
            while let Some(oldest) = journal.front()
                && is_passed(&oldest.lasts, starts)
            {
                segments.retire(&oldest.name)?;
                journal.pop_front();
                count += 1;
            }
        }
        self.journals.retain(|journal| !journal.is_empty());
        Ok(count)
    }
}

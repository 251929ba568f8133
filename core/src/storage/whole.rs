//! Whether all of the journals are there: what files say of others that are not.
//!
//! A crash leaves every file that was durable; a copy of half a directory does not. Segments leave
//! from the beginning of a journal only, behind a snapshot, and never the last one of a run that is
//! not yet behind two snapshots. So what is there tells of most that is missing.

use super::output_ids::Causes;
use super::recovery::{BlockRef, Recovered};
use super::recovery_fault::RecoveryFault;
use crate::log::segment::{JOURNAL_FOLDER, JournalSegment, OUTPUT_FOLDER};
use std::collections::BTreeSet;

/// What the snapshots say of the journals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SnapshotsSay<'a> {
    /// The epoch of the newest manifest, whole or not.
    pub(crate) epoch: u32,
    /// The name of that manifest.
    pub(crate) manifest: &'a str,
    /// If it is whole: the positions that it reaches, by lane.
    pub(crate) positions: &'a [u64],
}

impl Recovered {
    /// Whether everything is there that is replayed when each lane has been brought to its start:
    /// all positions above it, up to the lane's last.
    pub(crate) fn check_from(&self, starts: &[u64]) -> Result<(), RecoveryFault> {
        for lane in 0..self.lanes.len() as u16 {
            let mut reached = starts.get(lane as usize).copied().unwrap_or(0);
            for block in self.blocks_from(lane, reached) {
                if block.first > reached + 1 {
                    let file = self.file_name(block).to_owned();
                    let (from, to) = (reached + 1, block.first - 1);
                    return Err(RecoveryFault::Missing { lane, from, to, file });
                }
                reached = block.last();
            }
        }
        Ok(())
    }

    /// Whether the journals, or the snapshots that each lane starts from, hold all that the outputs
    /// came of: an output is written once its cause is durable.
    pub(crate) fn check_causes(
        &self,
        starts: &[u64],
        causes: &Causes,
    ) -> Result<(), RecoveryFault> {
        for lane in 0..self.lanes.len() as u16 {
            let start = starts.get(lane as usize).copied().unwrap_or(0);
            let last = self.lanes[lane as usize].last().map_or(0, BlockRef::last).max(start);
            if let Some((position, cursor)) = causes.of(lane).filter(|it| it.0 > last) {
                let missing =
                    format!("positions {}..{position} of lane {lane} of the log are", last + 1);
                let evidence =
                    format!("{OUTPUT_FOLDER}/ holds record {}, which came of them", cursor.0);
                return Err(RecoveryFault::Gone { missing, evidence });
            }
        }
        Ok(())
    }

    /// Whether no journal, and no end of one, is missing.
    pub(crate) fn check_whole(
        &self,
        snapshots: Option<SnapshotsSay<'_>>,
    ) -> Result<(), RecoveryFault> {
        self.check_epochs(snapshots)?;
        self.check_journals(snapshots.map_or(1, |it| it.epoch))?;
        let Some(SnapshotsSay { epoch, manifest, positions }) = snapshots else {
            return self.check_beginnings();
        };
        for (lane, (blocks, position)) in self.lanes.iter().zip(positions).enumerate() {
            // Were its segment let go, so were those before it.
            if let Some(last) = blocks.last().filter(|last| last.epoch == epoch)
                && last.last() < *position
            {
                let missing = format!(
                    "positions {}..{position} of lane {lane} of the log are",
                    last.last() + 1
                );
                let evidence = format!(
                    "{manifest} was made of them, and they stood behind {}",
                    self.file_name(last)
                );
                return Err(RecoveryFault::Gone { missing, evidence });
            }
        }
        Ok(())
    }

    /// Whether every run since the newest manifest has left a journal.
    fn check_epochs(&self, snapshots: Option<SnapshotsSay<'_>>) -> Result<(), RecoveryFault> {
        let epochs: BTreeSet<u32> = self.journals.iter().map(|it| it.epoch).collect();
        if let (None, Some(first @ 2..)) = (snapshots, epochs.first()) {
            let missing = "the snapshots are".to_owned();
            let evidence = format!(
                "the log begins with run {first}, and those before it go only once a snapshot holds \
                 what they hold"
            );
            return Err(RecoveryFault::Gone { missing, evidence });
        }
        // What is restored is of a run 0, which has no journals.
        let mut expected = snapshots.map_or(1, |it| it.epoch.max(1));
        for epoch in epochs.range(expected..) {
            if *epoch != expected {
                return Err(gone(expected, format!("there are those of run {epoch}")));
            }
            expected = epoch.saturating_add(1);
        }
        match snapshots {
            Some(SnapshotsSay { epoch, manifest, .. }) if expected == epoch => {
                Err(gone(epoch, format!("{manifest} was made in that run")))
            }
            _ => Ok(()),
        }
    }

    /// Whether each run since this one has as many journals as it says, if it has written anything:
    /// all of them are made before that. A run that ended before has been sealed at most.
    fn check_journals(&self, from: u32) -> Result<(), RecoveryFault> {
        for run in self.journals.chunk_by(|a, b| a.epoch == b.epoch) {
            let said = run.iter().map(|it| it.journals).max().unwrap_or(0);
            if run[0].epoch < from || !run.iter().any(|it| it.is_written) {
                continue;
            }
            let there: BTreeSet<u16> = run.iter().map(|it| it.journal).collect();
            if let Some(journal) = (0..said).find(|journal| !there.contains(journal)) {
                let missing = JournalSegment { epoch: run[0].epoch, journal, number: 1 };
                let missing = format!("{} and what came behind it are", missing.path());
                let evidence = format!("the other journals of that run say that it had {said}");
                return Err(RecoveryFault::Gone { missing, evidence });
            }
        }
        Ok(())
    }

    /// Without a snapshot nothing was ever let go.
    fn check_beginnings(&self) -> Result<(), RecoveryFault> {
        match self.journals.iter().find(|it| it.first_number != 1) {
            Some(it) => {
                let first = JournalSegment {
                    epoch: it.epoch,
                    journal: it.journal,
                    number: it.first_number,
                };
                let evidence = format!(
                    "{} is not the first of its journal, and those before it go only once a \
                     snapshot holds what they hold",
                    first.path()
                );
                Err(RecoveryFault::Gone { missing: "the snapshots are".to_owned(), evidence })
            }
            None => Ok(()),
        }
    }
}

fn gone(epoch: u32, evidence: String) -> RecoveryFault {
    let missing = format!("the journals of run {epoch} ({JOURNAL_FOLDER}/{epoch:08}-…) are");
    RecoveryFault::Gone { missing, evidence }
}

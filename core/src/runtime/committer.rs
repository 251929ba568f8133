//! The committer of one shard: it writes the shard's turns into the journal, makes them durable
//! together, and lets go stage by stage what waited for that.
//!
//! Group commit needs no timer: what comes in while one sync is under way is the next group. A shard
//! never waits for a disk; it is told by what comes back through its queue.

use super::common::{Common, OutputTurn, Publish};
use crate::log::LaneBlock;
use crate::log::segment::JOURNAL_FOLDER;
use crate::shard::Turn;
use crate::storage::{DiskFault, Journal};
use crossbeam_channel::{Receiver, Sender};
use std::collections::VecDeque;
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is said to a committer.
pub(super) enum Commit {
    /// Commit this.
    Turn(Turn),
    /// The snapshots have passed these positions, by lane: segments below them can go.
    Cut(Arc<[u64]>),
}

/// An idle journal says this often that the service is up.
const STAMP_EVERY_MS: i64 = 10_000;
/// Bytes of a group: a larger one is not worth waiting for.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// See the module.
pub(super) struct Committer {
    shard: usize,
    common: Arc<Common>,
    journal: Journal,
    inbox: Receiver<Commit>,
    outputs: Sender<Publish>,
    /// Taken, and not let go yet.
    turns: Vec<Turn>,
    /// Blocks of these that the journal has not taken yet.
    blocks: VecDeque<LaneBlock>,
    /// Bytes that it has taken and not made durable yet.
    bytes: usize,
    /// When it was last written down that the service is up.
    stamped_ms: i64,
}

impl Committer {
    pub(super) fn new(
        shard: usize,
        common: Arc<Common>,
        journal: Journal,
        inbox: Receiver<Commit>,
        outputs: Sender<Publish>,
    ) -> Self {
        let (turns, blocks) = (Vec::new(), VecDeque::new());
        // That it is up at all is written down as soon as nothing else is.
        let (bytes, stamped_ms) = (0, i64::MIN);
        let it = Self { shard, common, journal, inbox, outputs, turns, blocks, bytes, stamped_ms };
        it.publish_room();
        it
    }

    /// What comes in.
    pub(super) fn inbox(&self) -> &Receiver<Commit> {
        &self.inbox
    }

    /// Commits what has come in, `first` before the rest. Returns whether there was anything. After
    /// a fault that says that the disk is full, the next call goes on where this one stopped.
    pub(super) fn step(&mut self, first: Option<Commit>) -> Result<bool, DiskFault> {
        let mut next = first.or_else(|| self.inbox.try_recv().ok());
        let is_anything = next.is_some() || !self.turns.is_empty();
        let mut taken_bytes: usize = self.blocks.iter().map(LaneBlock::cost_bytes).sum();
        while let Some(commit) = next {
            match commit {
                Commit::Turn(mut turn) => {
                    taken_bytes += turn.cost_bytes();
                    self.blocks.extend(turn.blocks.drain(..));
                    self.turns.push(turn);
                }
                Commit::Cut(starts) => {
                    self.journal.cut(&starts)?;
                }
            }
            next = if taken_bytes < GROUP_BYTES_MAX { self.inbox.try_recv().ok() } else { None };
        }
        if self.turns.is_empty() {
            return Ok(is_anything);
        }
        if !self.blocks.is_empty() && !self.common.has_journals() && !self.journal.has_begun() {
            self.journal.hold_next()?;
            self.publish_room();
        }
        if !self.blocks.is_empty() && !self.common.has_journals() {
            let source = Error::new(ErrorKind::StorageFull, "not every shard has room for a file");
            return Err(DiskFault::new(JOURNAL_FOLDER, "begin the log in", source));
        }
        while let Some(block) = self.blocks.front() {
            self.journal.append(block)?;
            self.bytes += block.cost_bytes();
            self.blocks.pop_front();
        }
        if self.bytes > 0 {
            self.journal.write()?;
        }
        for release in self.turns.iter_mut().flat_map(|turn| std::mem::take(&mut turn.written)) {
            release();
        }
        if self.bytes > 0 {
            let clock = self.common.clock.machine();
            let started = clock.realtime_micros();
            self.journal.sync()?;
            self.common.engine_cells.observe_sync(clock.realtime_micros() - started);
            self.publish_room();
            let cells = &self.common.cells[self.shard];
            let bytes = std::mem::take(&mut self.bytes) as u64;
            cells.log_pending_bytes.fetch_sub(bytes, Ordering::AcqRel);
            cells.log_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        let turns = std::mem::take(&mut self.turns);
        let count = turns.len() as u64;
        for turn in turns {
            self.release(turn);
        }
        // Release pairs with the acquire of the shard, which from then on may go ahead by itself.
        self.common.cells[self.shard].turns_done.fetch_add(count, Ordering::Release);
        Ok(true)
    }

    fn release(&self, turn: Turn) {
        let Turn { synced, outputs, visible, .. } = turn;
        self.common.run(synced);
        hand_on(&self.outputs, OutputTurn { outputs, visible });
    }

    /// Nothing has come for a moment: takes the next segment in hand, and writes down how far the
    /// journal is durable, so that its last blocks cannot be taken for a torn tail.
    pub(super) fn idle(&mut self) -> Result<bool, DiskFault> {
        // Of a run that has written anything all journals are there: a copy without one is no copy.
        let are_all_begun = self.common.has_journals();
        if are_all_begun || !self.journal.has_begun() {
            self.journal.hold_next()?;
        }
        let mut is_marked = self.journal.mark()?;
        let now_ms = self.common.clock.look().now_ms;
        let is_due = now_ms.saturating_sub(self.stamped_ms) >= STAMP_EVERY_MS;
        if is_due && are_all_begun {
            // How long the service was down is counted from the last thing that is durable.
            self.journal.stamp(now_ms)?;
            is_marked = true;
        }
        if is_marked {
            self.stamped_ms = now_ms;
            self.journal.write()?;
            self.journal.sync()?;
        }
        self.publish_room();
        Ok(is_marked)
    }

    /// Ends the journal: nothing comes behind this.
    pub(super) fn seal(mut self) -> Result<(), DiskFault> {
        self.journal.seal()
    }

    fn publish_room(&self) {
        let cells = &self.common.cells[self.shard];
        cells.has_journal.store(self.journal.has_begun(), Ordering::Release);
        let assured = if self.common.has_journals() { self.journal.assured() } else { 0 };
        cells.log_assured_bytes.store(assured, Ordering::Release);
    }
}

/// Hands outputs, and what waits for them, to whoever makes them readable.
pub(super) fn hand_on(to: &Sender<Publish>, turn: OutputTurn) {
    let OutputTurn { outputs, visible } = &turn;
    if !outputs.is_empty() || !visible.is_empty() {
        // Whoever has ended has said why; what is dropped here was not promised to anybody.
        let _ = to.send(Publish::Turn(turn));
    }
}

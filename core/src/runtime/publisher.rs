//! The thread that makes outputs readable: one for the process, because their log is one sequence.

use super::common::{Common, OutputTurn, Publish};
use super::output_log::OutputCommitter;
use crate::storage::DiskFault;
use crossbeam_channel::Receiver;
use std::sync::Arc;

/// Turns that are made durable together, at most.
const GROUP_TURNS_MAX: usize = 1_024;

/// See the module.
pub(super) struct Publisher {
    common: Arc<Common>,
    committer: OutputCommitter,
    inbox: Receiver<Publish>,
}

impl Publisher {
    pub(super) fn new(
        common: Arc<Common>,
        committer: OutputCommitter,
        inbox: Receiver<Publish>,
    ) -> Self {
        Self { common, committer, inbox }
    }

    /// What comes in.
    pub(super) fn inbox(&self) -> &Receiver<Publish> {
        &self.inbox
    }

    /// Makes readable what has come in, `first` before the rest, and what could not be before.
    /// Returns whether there was anything.
    pub(super) fn step(&mut self, first: Option<Publish>) -> Result<bool, DiskFault> {
        let now_ms = self.common.clock.look().now_ms;
        self.committer.look_at_clock(now_ms);
        let mut next = first.or_else(|| self.inbox.try_recv().ok());
        let mut turns = 0;
        while let Some(publish) = next {
            turns += 1;
            match publish {
                Publish::Turn(OutputTurn { outputs, visible }) => {
                    let mut thens: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
                    if !visible.is_empty() {
                        let common = Arc::clone(&self.common);
                        thens.push(Box::new(move || common.run(visible)));
                    }
                    self.committer.take(outputs, now_ms, thens);
                }
                Publish::Floor(floor) => self.committer.set_floor(floor),
            }
            next = if turns < GROUP_TURNS_MAX { self.inbox.try_recv().ok() } else { None };
        }
        if self.committer.is_idle() {
            return Ok(turns > 0);
        }
        let common = &self.common;
        self.committer.commit(&mut |block| {
            common.engine_cells.observe_lateness(block, common.clock.machine());
        })?;
        Ok(true)
    }

    /// Nothing has come for a moment: lets go of what is kept no longer, and writes down how far the
    /// log is durable. Returns whether that had to be done.
    pub(super) fn idle(&mut self) -> Result<bool, DiskFault> {
        self.committer.look_at_clock(self.common.clock.look().now_ms);
        self.committer.rest()
    }
}

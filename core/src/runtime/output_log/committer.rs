//! The writing side of the output log: what was handed over becomes durable, then visible, then
//! what waited for it runs; in this order, and all in the order in which it came.

use super::OutputLog;
use crate::output::{Cursor, NamespaceId, OutputBlock, OutputBytes};
use crate::storage::{DiskFault, OutputFiles};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

/// What runs once the outputs before it are visible.
type Then = Box<dyn FnOnce() + Send>;

/// How often retention is looked at.
const RETAIN_EVERY_MS: i64 = 1_000;

/// Takes outputs and makes them durable and visible. Owned by one thread.
pub(in crate::runtime) struct OutputCommitter {
    log: Arc<OutputLog>,
    files: OutputFiles,
    /// Taken, and without a place yet.
    taken: VecDeque<(OutputBytes, i64)>,
    /// With a place in the files, and not durable yet.
    placed: Vec<OutputBlock>,
    thens: Vec<Then>,
    backlog_bytes: usize,
    now_ms: i64,
    retained_ms: i64,
}

impl OutputCommitter {
    /// A committer for a log over these files.
    pub(in crate::runtime) fn new(log: Arc<OutputLog>, files: OutputFiles) -> Self {
        Self {
            log,
            files,
            taken: VecDeque::new(),
            placed: Vec::new(),
            thens: Vec::new(),
            backlog_bytes: 0,
            now_ms: i64::MIN,
            retained_ms: i64::MIN,
        }
    }

    /// What the clock reads: retention goes by it.
    pub(in crate::runtime) fn look_at_clock(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Takes outputs, appended at `now_ms`, and what is to run once they are visible. If nothing
    /// waits to become visible, it runs at once.
    pub(in crate::runtime) fn take(
        &mut self,
        outputs: Vec<OutputBytes>,
        now_ms: i64,
        thens: Vec<Then>,
    ) {
        self.look_at_clock(now_ms);
        let mut bytes = 0;
        for block in outputs.into_iter().filter(|block| block.count > 0) {
            bytes += block.len_bytes();
            self.taken.push_back((block, now_ms));
        }
        self.backlog_bytes += bytes;
        // Relaxed, here and below: a measure for back-pressure, nothing is read by it.
        self.log.backlog_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.is_idle() {
            for then in thens {
                then();
            }
        } else {
            self.thens.extend(thens);
        }
    }

    /// Whether everything that was taken is visible.
    pub(in crate::runtime) fn is_idle(&self) -> bool {
        self.taken.is_empty() && self.placed.is_empty() && self.thens.is_empty()
    }

    /// Outputs at or below it are not needed for a recovery any more.
    pub(in crate::runtime) fn set_floor(&mut self, floor: Cursor) {
        self.files.set_floor(floor);
    }

    /// All namespaces that there are have been admitted: what is there of others goes.
    pub(in crate::runtime) fn forget_unknown(&mut self) {
        self.files.forget_unknown();
    }

    /// Makes everything that was taken durable with one sync, then visible, in order, then runs
    /// what waited for it. After an error nothing becomes visible; unless the files are poisoned by
    /// it (see [`OutputFiles`]), a later call goes on where this one stopped. `released` is told of
    /// each block as it becomes visible.
    pub(in crate::runtime) fn commit(
        &mut self,
        released: &mut dyn FnMut(&OutputBytes),
    ) -> Result<(), DiskFault> {
        for (records, appended_ms) in self.taken.drain(..) {
            if !self.log.holds(records.namespace) {
                // Deleted meanwhile: nobody can read it any more.
                continue;
            }
            let (first, appended_ms) = self.files.append(&records, appended_ms)?;
            self.placed.push(OutputBlock { first, appended_ms, records });
        }
        if !self.placed.is_empty() {
            match self.files.write() {
                Err(fault) if fault.is_full() => {
                    // What is kept no longer makes room for it.
                    self.retain()?;
                    self.files.write()?;
                }
                outcome => outcome?,
            }
            self.files.sync()?;
            self.placed.iter().for_each(|block| released(&block.records));
            self.log.publish(self.placed.drain(..));
        }
        self.log.backlog_bytes.fetch_sub(self.backlog_bytes, Ordering::Relaxed);
        self.backlog_bytes = 0;
        self.thens.drain(..).for_each(|then| then());
        self.retain_now_and_then()?;
        self.files.prepare()
    }

    /// Uses an idle moment to let go of what is kept no longer, and to write down how far the log is
    /// durable. Returns whether there was something to write down.
    pub(in crate::runtime) fn rest(&mut self) -> Result<bool, DiskFault> {
        self.retain_now_and_then()?;
        let is_due = self.files.wants_mark();
        if is_due {
            self.files.mark()?;
        }
        Ok(is_due)
    }

    fn retain_now_and_then(&mut self) -> Result<(), DiskFault> {
        if self.now_ms.saturating_sub(self.retained_ms) < RETAIN_EVERY_MS {
            return Ok(());
        }
        self.retain()
    }

    fn retain(&mut self) -> Result<(), DiskFault> {
        self.retained_ms = self.now_ms;
        self.files.retain(self.now_ms)
    }
}

impl OutputLog {
    /// Gives blocks their place and makes them visible: there are no files.
    pub(in crate::runtime) fn publish_now(&self, blocks: impl Iterator<Item = (OutputBytes, i64)>) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        for (records, appended_ms) in blocks {
            if state.by_namespace.contains_key(&records.namespace) {
                let first = Cursor(state.latest.0 + 1);
                let block = OutputBlock { first, appended_ms, records };
                state.publish(block, Some(appended_ms), &mut wakers);
            }
        }
        state.bound(self.memory_bytes_max);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Makes blocks visible that are durable in the files.
    fn publish(&self, blocks: impl Iterator<Item = OutputBlock>) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        blocks.for_each(|block| state.publish(block, None, &mut wakers));
        state.bound(self.memory_bytes_max);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn holds(&self, namespace: NamespaceId) -> bool {
        self.lock().by_namespace.contains_key(&namespace)
    }
}

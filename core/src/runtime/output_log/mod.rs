//! The output log as readers see it: one sequence for the process, read by cursor.
//!
//! Recent blocks are kept in memory, bounded. Without files that is the log; with files it is what
//! most readers read, and older blocks come from the files. A block is here only once it is durable
//! there: the [`OutputCommitter`] brings it. Readers keep nothing here but, while they wait, a
//! waker; one that was behind what is kept is told of the gap. Nobody reads a disk under the lock.

mod committer;
#[cfg(test)]
mod tests;
mod waiter;

pub(super) use committer::OutputCommitter;
pub use waiter::Waiter;

use crate::namespace::Retention;
use crate::output::{Cursor, NamespaceId, OutputBlock, OutputFault};
use crate::storage::{OutputFiles, OutputReader};
use hashbrown::HashMap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use waiter::Numbers;

/// What a read found.
#[derive(Debug)]
pub struct OutputRead {
    /// Blocks of the namespace, oldest first; the first may start before the asked cursor.
    pub blocks: Vec<Arc<OutputBlock>>,
}

/// Why a cursor cannot be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadRejection {
    /// Records after the cursor are gone; the earliest one that can be read from.
    Gap {
        /// Reading after this one works.
        earliest: Cursor,
    },
    /// The cursor is older than the namespace: it was given out by an earlier one of its name, or
    /// by another log.
    Foreign {
        /// Everything that the namespace ever emitted is behind this one.
        born: Cursor,
    },
    /// The log has not come so far: the cursor is of another log.
    Ahead {
        /// The newest record there is.
        latest: Cursor,
    },
    /// What is behind the cursor is damaged, or the disk does not give it.
    Fault(OutputFault),
}

/// See the module.
pub struct OutputLog {
    state: Mutex<State>,
    memory_bytes_max: usize,
    files: Option<OutputReader>,
    backlog_bytes: AtomicUsize,
    waiters: Numbers,
}

struct State {
    /// The log begins behind this cursor.
    base: Cursor,
    latest: Cursor,
    bytes: usize,
    is_closed: bool,
    /// All blocks, oldest first; some may have gone by their namespace's retention. When there are
    /// more than `order_max`, those that have are thrown out.
    order: VecDeque<(NamespaceId, Cursor)>,
    order_max: usize,
    by_namespace: HashMap<NamespaceId, Recent, ahash::RandomState>,
    /// Where namespaces began, as far as that is known.
    born: HashMap<NamespaceId, Cursor, ahash::RandomState>,
}

/// What is in memory of one namespace.
struct Recent {
    retention: Retention,
    blocks: VecDeque<Arc<OutputBlock>>,
    bytes: usize,
    /// What lies behind this cursor is in memory. Without files, reading after it works.
    gone: Cursor,
    /// The newest record that was ever there.
    newest: Cursor,
    /// Nothing more will be appended.
    is_finished: bool,
    /// Of those who wait, by their numbers.
    wakers: BTreeMap<u64, Waker>,
}

/// What a block costs besides its records.
const BLOCK_BYTES: usize = 128;
/// Blocks in order below which nobody looks whether they have gone.
const ORDER_MIN: usize = 1_024;

impl OutputLog {
    /// An empty log in memory. Its first cursor is made of the second in which it begins, so that
    /// the cursors of an earlier log lie behind it and are told of the gap.
    pub(super) fn new(now_ms: i64, bytes_max: usize) -> Self {
        Self::with(OutputFiles::first_cursor(now_ms), bytes_max, None)
    }

    /// A log over files; what is in memory of it is bounded by `memory_bytes_max`.
    pub(super) fn over(files: &OutputFiles, memory_bytes_max: usize) -> Self {
        let reader = files.reader();
        Self::with(reader.latest(), memory_bytes_max, Some(reader))
    }

    fn with(base: Cursor, memory_bytes_max: usize, files: Option<OutputReader>) -> Self {
        let state = State {
            base,
            latest: base,
            bytes: 0,
            is_closed: false,
            order: VecDeque::new(),
            order_max: ORDER_MIN,
            by_namespace: HashMap::with_hasher(ahash::RandomState::new()),
            born: HashMap::with_hasher(ahash::RandomState::new()),
        };
        let backlog_bytes = AtomicUsize::new(0);
        let (state, waiters) = (Mutex::new(state), Numbers::default());
        Self { state, memory_bytes_max, files, backlog_bytes, waiters }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks of a namespace with records after `after`, some `bytes_max` bytes of them.
    pub fn read(
        &self,
        namespace: NamespaceId,
        after: Cursor,
        bytes_max: usize,
    ) -> Result<OutputRead, ReadRejection> {
        let (plan, latest) = {
            let state = self.lock();
            let latest = state.latest;
            if after > latest {
                return Err(ReadRejection::Ahead { latest });
            }
            // What lies before a log in memory is of the one that the process before kept: a gap.
            let is_of_this_log = self.files.is_some() || after >= state.base;
            if let Some(born) = state.born.get(&namespace).copied()
                && after < born
                && is_of_this_log
            {
                return Err(ReadRejection::Foreign { born });
            }
            let earliest = self.earliest_in(&state, namespace);
            if after < earliest {
                return Err(ReadRejection::Gap { earliest });
            }
            let Some(recent) = state.by_namespace.get(&namespace) else {
                return Ok(OutputRead { blocks: Vec::new() });
            };
            // What comes first is read first: from the files only if they hold something between
            // the cursor and what is in memory.
            let plan = self
                .files
                .as_ref()
                .filter(|_| after < recent.gone)
                .and_then(|files| files.plan(namespace, after, recent.gone, bytes_max));
            match plan {
                None => return Ok(OutputRead { blocks: recent.after(after, bytes_max) }),
                Some(plan) => (plan, latest),
            }
        };
        let mut blocks = plan.read().map_err(ReadRejection::Fault)?;
        // A block is durable a moment before it is visible; nobody may get ahead of `latest`.
        blocks.retain(|block| block.last() > after && block.last() <= latest);
        Ok(OutputRead { blocks: blocks.into_iter().map(Arc::new).collect() })
    }

    fn earliest_in(&self, state: &State, namespace: NamespaceId) -> Cursor {
        let earliest = match &self.files {
            Some(files) => files.earliest(namespace),
            None => state.by_namespace.get(&namespace).map_or(state.base, |recent| recent.gone),
        };
        state.born.get(&namespace).map_or(earliest, |born| earliest.max(*born))
    }

    /// Reading after this cursor yields the earliest record retained of this namespace.
    pub fn earliest(&self, namespace: NamespaceId) -> Cursor {
        self.earliest_in(&self.lock(), namespace)
    }

    /// The newest record of all namespaces.
    pub fn latest(&self) -> Cursor {
        self.lock().latest
    }

    /// Reading after this cursor yields the records of this namespace appended at or after a time.
    pub fn at_time(&self, namespace: NamespaceId, time_ms: i64) -> Cursor {
        let found = self.find_time(namespace, time_ms);
        let born = self.lock().born.get(&namespace).copied();
        born.map_or(found, |born| found.max(born))
    }

    fn find_time(&self, namespace: NamespaceId, time_ms: i64) -> Cursor {
        let (plan, first) = {
            let state = self.lock();
            let latest = state.latest;
            let recent = state.by_namespace.get(&namespace);
            let at = recent.map(|recent| recent.at_time(time_ms));
            match (&self.files, at) {
                // Something in memory is older: then it is in memory that the time begins.
                (_, Some((start, first))) if start > 0 => return first.unwrap_or(latest),
                (None, at) => return at.and_then(|(_, first)| first).unwrap_or(latest),
                (Some(files), at) => {
                    let first = at.and_then(|(_, first)| first).unwrap_or(latest);
                    (files.plan_at(namespace, time_ms), first.min(latest))
                }
            }
        };
        // What cannot be read is told by the read that follows: it begins where that is.
        plan.map_or(first, |plan| plan.find_time(time_ms).min(first))
    }

    /// Whether nothing will ever be appended to this namespace again (closed, deleted, or stopped).
    pub fn is_ended(&self, namespace: NamespaceId) -> bool {
        let state = self.lock();
        state.is_closed || state.by_namespace.get(&namespace).is_none_or(|it| it.is_finished)
    }

    /// Bytes kept: on disk if there are files, else in memory.
    pub fn len_bytes(&self) -> usize {
        let in_memory = self.lock().bytes;
        self.files.as_ref().map_or(in_memory, |files| files.disk_bytes() as usize)
    }

    /// Bytes of outputs that were handed over and cannot be read yet.
    pub fn backlog_bytes(&self) -> usize {
        // Relaxed: a measure for back-pressure, nothing is read by it.
        self.backlog_bytes.load(Ordering::Relaxed)
    }

    /// The newest record of all namespaces, counted from the beginning of the log, or from the
    /// start of the process.
    pub(super) fn appended(&self) -> u64 {
        let state = self.lock();
        state.latest.0 - state.base.0
    }

    /// A namespace is there, or its retention has changed.
    pub(super) fn admit(&self, namespace: NamespaceId, retention: Retention) {
        let mut state = self.lock();
        let latest = state.latest;
        let mut newest = latest;
        if let Some(files) = &self.files {
            files.admit(namespace, retention, latest);
            newest = files.newest(namespace).unwrap_or(Cursor(0));
        }
        let recent = state.by_namespace.entry(namespace).or_insert_with(|| Recent {
            retention,
            blocks: VecDeque::new(),
            bytes: 0,
            gone: latest,
            newest,
            is_finished: false,
            wakers: BTreeMap::new(),
        });
        recent.retention = retention;
    }

    /// Everything that a namespace emits stands behind this cursor.
    pub(super) fn begin_behind(&self, namespace: NamespaceId, born: Cursor) {
        self.lock().born.insert(namespace, born);
    }

    /// Lets go of a namespace's records at or before this cursor, whatever its retention says: for
    /// whoever is the only reader, and done with them.
    pub fn release(&self, namespace: NamespaceId, until: Cursor) {
        let mut state = self.lock();
        if let Some(files) = &self.files {
            files.release(namespace, until);
        }
        let Some(recent) = state.by_namespace.get_mut(&namespace) else {
            return;
        };
        let freed = recent.release(until);
        state.bytes -= freed;
    }

    /// Nothing more will be appended to a namespace: its readers end once they have read what there
    /// is, now and later.
    pub(super) fn finish(&self, namespace: NamespaceId) {
        let mut state = self.lock();
        let Some(recent) = state.by_namespace.get_mut(&namespace) else {
            return;
        };
        recent.is_finished = true;
        let wakers = std::mem::take(&mut recent.wakers);
        drop(state);
        wakers.into_values().for_each(Waker::wake);
    }

    /// A namespace is gone, and its outputs with it: readers end.
    pub(super) fn end(&self, namespace: NamespaceId) {
        let mut state = self.lock();
        state.born.remove(&namespace);
        if let Some(files) = &self.files {
            files.end(namespace);
        }
        let Some(recent) = state.by_namespace.remove(&namespace) else {
            return;
        };
        state.bytes -= recent.bytes;
        drop(state);
        recent.wakers.into_values().for_each(Waker::wake);
    }

    /// Nothing more will be appended: readers end once they have read what there is.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let mut wakers = Vec::new();
        for recent in state.by_namespace.values_mut() {
            wakers.extend(std::mem::take(&mut recent.wakers).into_values());
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Lets a block be read.
    fn publish(&mut self, block: OutputBlock, now_ms: Option<i64>, wakers: &mut Vec<Waker>) {
        let (namespace, first, last) = (block.records.namespace, block.first, block.last());
        self.latest = last;
        let cost = block.records.len_bytes() + BLOCK_BYTES;
        let Some(recent) = self.by_namespace.get_mut(&namespace) else {
            // Deleted meanwhile: nobody can read it any more.
            return;
        };
        recent.blocks.push_back(Arc::new(block));
        recent.bytes += cost;
        recent.newest = last;
        let freed = now_ms.map_or(0, |now_ms| recent.retain(now_ms));
        wakers.extend(std::mem::take(&mut recent.wakers).into_values());
        self.order.push_back((namespace, first));
        self.bytes = self.bytes + cost - freed;
    }

    /// Lets the oldest blocks go until the rest fits.
    fn bound(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some((namespace, first)) = self.order.pop_front() else {
                return;
            };
            let Some(recent) = self.by_namespace.get_mut(&namespace) else {
                continue;
            };
            if recent.blocks.front().is_some_and(|block| block.first == first) {
                self.bytes -= recent.drop_oldest();
            }
        }
        if self.order.len() > self.order_max {
            let by_namespace = &self.by_namespace;
            self.order.retain(|(namespace, first)| {
                let oldest = by_namespace.get(namespace).and_then(|recent| recent.blocks.front());
                oldest.is_some_and(|block| block.first <= *first)
            });
            self.order_max = ORDER_MIN.max(self.order.len() * 2);
        }
    }
}

impl Recent {
    fn after(&self, after: Cursor, bytes_max: usize) -> Vec<Arc<OutputBlock>> {
        let start = self.blocks.partition_point(|block| block.last() <= after);
        let mut bytes = 0;
        let mut blocks = Vec::new();
        for block in self.blocks.range(start..) {
            blocks.push(Arc::clone(block));
            bytes += block.records.len_bytes();
            if bytes >= bytes_max {
                break;
            }
        }
        blocks
    }

    /// How many blocks are older than a time, and the cursor before the first that is not.
    fn at_time(&self, time_ms: i64) -> (usize, Option<Cursor>) {
        let start = self.blocks.partition_point(|block| block.appended_ms < time_ms);
        (start, self.blocks.get(start).map(|block| Cursor(block.first.0 - 1)))
    }

    fn drop_oldest(&mut self) -> usize {
        let Some(block) = self.blocks.pop_front() else {
            return 0;
        };
        let cost = block.records.len_bytes() + BLOCK_BYTES;
        self.bytes -= cost;
        self.gone = block.last();
        cost
    }

    fn release(&mut self, until: Cursor) -> usize {
        let mut freed = 0;
        while self.blocks.front().is_some_and(|block| block.last() <= until) {
            freed += self.drop_oldest();
        }
        freed
    }

    /// Lets go of what the namespace's retention no longer covers.
    fn retain(&mut self, now_ms: i64) -> usize {
        let mut freed = 0;
        while self.blocks.len() > 1
            && self.blocks.front().is_some_and(|block| {
                now_ms.saturating_sub(block.appended_ms) > self.retention.age_ms
                    || self.bytes as u64 > self.retention.bytes
            })
        {
            freed += self.drop_oldest();
        }
        freed
    }
}

impl std::fmt::Debug for OutputLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let latest = self.latest();
        f.debug_struct("OutputLog").field("latest", &latest).finish_non_exhaustive()
    }
}

//! The output log: one sequence for the process, bounded in memory, read by cursor.
//!
//! Shards append blocks; readers keep nothing here but, while they wait, a waker. The oldest blocks
//! go first when the bound is met, or when a namespace's retention says so; a reader that was behind
//! is told of the gap.

use crate::namespace::Retention;
use crate::output::{Cursor, NamespaceId, OutputBytes, OutputRecord};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A block of output records with its place in the sequence. All of one namespace.
#[derive(Debug)]
pub struct OutputBlock {
    /// The cursor of its first record; the others follow without a gap.
    pub first: Cursor,
    /// When it was appended, on the adjusted clock.
    pub appended_ms: i64,
    /// Its records.
    pub records: OutputBytes,
}

impl OutputBlock {
    /// The records with their cursors, those after `after` only.
    pub fn after(&self, after: Cursor) -> impl Iterator<Item = (Cursor, OutputRecord<'_>)> {
        let first = self.first.0;
        self.records
            .iter()
            .enumerate()
            .map(move |(index, record)| (Cursor(first + index as u64), record))
            .filter(move |(cursor, _)| *cursor > after)
    }

    fn last(&self) -> Cursor {
        Cursor(self.first.0 + self.records.count as u64 - 1)
    }
}

/// What a read found.
#[derive(Debug)]
pub struct OutputRead {
    /// Blocks of the namespace, oldest first; the first may start before the asked cursor.
    pub blocks: Vec<Arc<OutputBlock>>,
}

/// Why a cursor cannot be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadRejection {
    /// Records after the cursor are gone; the earliest one that can be read from.
    Gap {
        /// Reading after this one works.
        earliest: Cursor,
    },
    /// The log has not come so far: the cursor is of another log.
    Ahead {
        /// The newest record there is.
        latest: Cursor,
    },
}

/// See the module.
#[derive(Debug)]
pub struct OutputLog {
    state: Mutex<State>,
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    /// The log begins behind this cursor.
    base: Cursor,
    latest: Cursor,
    bytes: usize,
    is_closed: bool,
    /// All blocks, oldest first; some may have gone by their namespace's retention.
    order: VecDeque<(NamespaceId, Cursor)>,
    by_namespace: HashMap<NamespaceId, Retained, ahash::RandomState>,
}

/// What is kept of one namespace.
#[derive(Debug)]
struct Retained {
    retention: Retention,
    blocks: VecDeque<Arc<OutputBlock>>,
    bytes: usize,
    /// The last record that went; reading after it works.
    gone: Cursor,
    wakers: Vec<Waker>,
}

/// What a block costs besides its records.
const BLOCK_BYTES: usize = 128;

impl OutputLog {
    /// An empty log. Its first cursor is made of the second in which it begins, so that the cursors
    /// of an earlier log lie behind it and are told of the gap.
    pub(super) fn new(now_ms: i64, bytes_max: usize) -> Self {
        let base = Cursor((now_ms.max(0) as u64 / 1_000) << 20);
        let by_namespace = HashMap::with_hasher(ahash::RandomState::new());
        let order = VecDeque::new();
        let state = State { base, latest: base, bytes: 0, is_closed: false, order, by_namespace };
        Self { state: Mutex::new(state), bytes_max }
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
        let state = self.lock();
        if after > state.latest {
            return Err(ReadRejection::Ahead { latest: state.latest });
        }
        let earliest = state.earliest(namespace);
        if after < earliest {
            return Err(ReadRejection::Gap { earliest });
        }
        let mut blocks = Vec::new();
        if let Some(retained) = state.by_namespace.get(&namespace) {
            let start = retained.blocks.partition_point(|block| block.last() <= after);
            let mut bytes = 0;
            for block in retained.blocks.range(start..) {
                blocks.push(Arc::clone(block));
                bytes += block.records.len_bytes();
                if bytes >= bytes_max {
                    break;
                }
            }
        }
        Ok(OutputRead { blocks })
    }

    /// Reading after this cursor yields the earliest record retained of this namespace.
    pub fn earliest(&self, namespace: NamespaceId) -> Cursor {
        self.lock().earliest(namespace)
    }

    /// The newest record of all namespaces.
    pub fn latest(&self) -> Cursor {
        self.lock().latest
    }

    /// Reading after this cursor yields the records of this namespace appended at or after a time.
    pub fn at_time(&self, namespace: NamespaceId, time_ms: i64) -> Cursor {
        let state = self.lock();
        let block = state.by_namespace.get(&namespace).and_then(|retained| {
            let start = retained.blocks.partition_point(|block| block.appended_ms < time_ms);
            retained.blocks.get(start)
        });
        block.map_or(state.latest, |block| Cursor(block.first.0 - 1))
    }

    /// Ready once the namespace has records after `after`, or is gone, or the log is closed.
    pub fn poll_ready(
        &self,
        namespace: NamespaceId,
        after: Cursor,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let mut state = self.lock();
        if state.is_closed {
            return Poll::Ready(());
        }
        let Some(retained) = state.by_namespace.get_mut(&namespace) else {
            return Poll::Ready(());
        };
        if retained.blocks.back().is_some_and(|block| block.last() > after) {
            return Poll::Ready(());
        }
        if !retained.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            retained.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Whether nothing will ever be appended to this namespace again (deleted, or stopped).
    pub fn is_ended(&self, namespace: NamespaceId) -> bool {
        let state = self.lock();
        state.is_closed || !state.by_namespace.contains_key(&namespace)
    }

    /// Bytes kept.
    pub fn len_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// The newest record of all namespaces, counted from the beginning of the log.
    pub(super) fn appended(&self) -> u64 {
        let state = self.lock();
        state.latest.0 - state.base.0
    }

    /// A namespace is there, or its retention has changed.
    pub(super) fn admit(&self, namespace: NamespaceId, retention: Retention) {
        let mut state = self.lock();
        let gone = state.latest;
        let retained = state.by_namespace.entry(namespace).or_insert_with(|| Retained {
            retention,
            blocks: VecDeque::new(),
            bytes: 0,
            gone,
            wakers: Vec::new(),
        });
        retained.retention = retention;
    }

    /// A namespace is gone: its outputs go, and nothing more comes for it.
    pub(super) fn end(&self, namespace: NamespaceId) {
        let mut state = self.lock();
        let Some(retained) = state.by_namespace.remove(&namespace) else {
            return;
        };
        state.bytes -= retained.bytes;
        drop(state);
        retained.wakers.into_iter().for_each(Waker::wake);
    }

    /// Nothing more will be appended: readers end once they have read what there is.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let mut wakers = Vec::new();
        for retained in state.by_namespace.values_mut() {
            wakers.append(&mut retained.wakers);
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn append(&self, records: OutputBytes, now_ms: i64) {
        let mut state = self.lock();
        let namespace = records.namespace;
        let first = Cursor(state.latest.0 + 1);
        let count = records.count as u64;
        let cost = records.len_bytes() + BLOCK_BYTES;
        let Some(retained) = state.by_namespace.get_mut(&namespace) else {
            // Deleted meanwhile: nobody can read it any more.
            return;
        };
        retained.blocks.push_back(Arc::new(OutputBlock { first, appended_ms: now_ms, records }));
        retained.bytes += cost;
        let freed = retained.retain(now_ms);
        let wakers = std::mem::take(&mut retained.wakers);
        state.order.push_back((namespace, first));
        state.bytes = state.bytes + cost - freed;
        state.latest = Cursor(state.latest.0 + count);
        state.bound(self.bytes_max);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn earliest(&self, namespace: NamespaceId) -> Cursor {
        self.by_namespace.get(&namespace).map_or(self.base, |retained| retained.gone)
    }

    /// Lets the oldest blocks go until the rest fits.
    fn bound(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some((namespace, first)) = self.order.pop_front() else {
                return;
            };
            let Some(retained) = self.by_namespace.get_mut(&namespace) else {
                continue;
            };
            if retained.blocks.front().is_some_and(|block| block.first == first) {
                self.bytes -= retained.drop_oldest();
            }
        }
    }
}

impl Retained {
    fn drop_oldest(&mut self) -> usize {
        let Some(block) = self.blocks.pop_front() else {
            return 0;
        };
        let cost = block.records.len_bytes() + BLOCK_BYTES;
        self.bytes -= cost;
        self.gone = block.last();
        cost
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{OutputId, OutputWriter};
    use crate::time::{Domain, Timestamp};

    const A: NamespaceId = NamespaceId(1);
    const B: NamespaceId = NamespaceId(2);

    struct World {
        log: Arc<OutputLog>,
        base: u64,
    }

    impl World {
        fn new(bytes_max: usize) -> Self {
            let log = Arc::new(OutputLog::new(5_000, bytes_max));
            for namespace in [A, B] {
                log.admit(namespace, Retention { age_ms: 1_000, bytes: 1 << 20 });
            }
            Self { log, base: 5 << 20 }
        }

        fn append(&self, namespace: NamespaceId, count: u32, now_ms: i64) {
            let mut writer = OutputWriter::default();
            for ordinal in 0..count {
                writer.push(&OutputRecord {
                    id: OutputId { namespace, lane: 0, position: 1, key_hash: 2, ordinal },
                    key: b"key",
                    name: None,
                    domain: Domain::Processing,
                    fire_at: Timestamp::from_millis(0),
                    due_by: Timestamp::from_millis(0),
                    payload: None,
                });
            }
            self.log.append(writer.finish(namespace, 0), now_ms);
        }

        fn read(&self, namespace: NamespaceId, after: u64) -> Result<Vec<u64>, ReadRejection> {
            let after = Cursor(self.base + after);
            let read = self.log.read(namespace, after, usize::MAX)?;
            let cursors = read.blocks.iter().flat_map(|block| block.after(after));
            Ok(cursors.map(|(cursor, _)| cursor.0 - self.base).collect())
        }
    }

    #[test]
    fn a_reader_sees_its_namespace_only_and_each_record_once() {
        let world = World::new(1 << 20);
        world.append(A, 2, 0);
        world.append(B, 3, 0);
        world.append(A, 1, 0);
        assert_eq!(world.read(A, 0), Ok(vec![1, 2, 6]));
        assert_eq!(world.read(A, 1), Ok(vec![2, 6]));
        assert_eq!(world.read(A, 6), Ok(vec![]));
        assert_eq!(world.read(B, 3), Ok(vec![4, 5]));
        let latest = Cursor(world.base + 6);
        assert_eq!(world.read(A, 7), Err(ReadRejection::Ahead { latest }));
    }

    #[test]
    fn cursors_of_an_earlier_log_are_told_of_the_gap() {
        let world = World::new(1 << 20);
        let read = world.log.read(A, Cursor(4 << 20), 1);
        let earliest = Cursor(world.base);
        assert_eq!(read.map(|_| ()), Err(ReadRejection::Gap { earliest }));
    }

    #[test]
    fn the_oldest_go_when_the_bound_is_met() {
        let world = World::new(3 * (BLOCK_BYTES + 51));
        for _ in 0..4 {
            world.append(A, 1, 0);
        }
        let earliest = Cursor(world.base + 1);
        assert_eq!(world.read(A, 0), Err(ReadRejection::Gap { earliest }));
        assert_eq!(world.read(A, 1), Ok(vec![2, 3, 4]));
        assert_eq!(world.log.earliest(A), earliest);
        assert_eq!(world.log.len_bytes(), 3 * (BLOCK_BYTES + 51));
    }

    #[test]
    fn retention_by_age_and_bytes() {
        let world = World::new(1 << 20);
        world.append(A, 1, 0);
        world.append(A, 1, 900);
        world.append(A, 1, 1_001);
        assert_eq!(world.read(A, 1), Ok(vec![2, 3]));
        assert!(world.read(A, 0).is_err());
        world.log.admit(A, Retention { age_ms: 1_000, bytes: 1 });
        world.append(A, 1, 1_001);
        assert_eq!(world.read(A, 3), Ok(vec![4]), "the newest always stays");
        assert!(world.read(A, 2).is_err());
    }

    #[test]
    fn a_time_finds_its_cursor() {
        let world = World::new(1 << 20);
        world.append(A, 2, 100);
        world.append(A, 2, 200);
        assert_eq!(world.log.at_time(A, 100).0 - world.base, 0);
        assert_eq!(world.log.at_time(A, 101).0 - world.base, 2);
        assert_eq!(world.log.at_time(A, 201), world.log.latest());
    }

    #[test]
    fn a_waiting_reader_is_woken_by_its_namespace_and_by_the_end() {
        let world = World::new(1 << 20);
        let (waker, count) = futures_waker();
        let mut context = Context::from_waker(&waker);
        let after = world.log.latest();
        assert!(world.log.poll_ready(A, after, &mut context).is_pending());
        world.append(B, 1, 0);
        assert_eq!(Arc::strong_count(&count), 3, "one here, one in the waker, one waiting");
        world.append(A, 1, 0);
        assert!(world.log.poll_ready(A, after, &mut context).is_ready());
        let after = world.log.latest();
        assert!(world.log.poll_ready(A, after, &mut context).is_pending());
        assert!(!world.log.is_ended(A));
        world.log.end(A);
        assert!(world.log.poll_ready(A, after, &mut context).is_ready());
        assert!(world.log.is_ended(A) && !world.log.is_ended(B));
        world.log.close();
        assert!(world.log.is_ended(B));
    }

    struct Quiet;

    impl std::task::Wake for Quiet {
        fn wake(self: Arc<Self>) {}
    }

    fn futures_waker() -> (Waker, Arc<Quiet>) {
        let quiet = Arc::new(Quiet);
        (Waker::from(Arc::clone(&quiet)), quiet)
    }
}

//! Following the log: a lane takes the records of its blocks in again, in their order, and comes to
//! the state that it had, with the outputs that it emitted, by their ids.
//!
//! Partitions may have been loaded as of later positions than the lane's head: what they have seen
//! already passes them by. What an advance makes due is fired at once, not in slices with other
//! records in between; for each key that comes to the same, because a record that touches a key lets
//! its due timers go first.

use super::{Course, HomeIndex, Lane, Shared};
use crate::error::{Rejection, ReplayFault};
use crate::key_group::{KeyGroup, Layout, xxh3_64};
use crate::keyed::{Ahead, KeyTable, OnItsWay};
use crate::log::{LaneBlock, Record, peek_operation, split_operation, split_record};
use crate::namespace::{ControlRecord, Step};
use crate::output::{NamespaceId, OutputBytes};
use crate::partition::Partition;
use crate::ports::Gauges;
use crate::time::{Domain, Timestamp};
use crate::timeline::Drain;
use hashbrown::HashMap;
use std::ops::Range;

/// By partition: the position as of which it was loaded.
#[derive(Debug)]
pub(crate) struct AsOf {
    by_partition: HashMap<(NamespaceId, KeyGroup), u64, ahash::RandomState>,
    /// The last of them: what is behind it no partition has seen.
    last: u64,
}

/// Fires between two looks at the outputs: they are handed over in pieces.
const SLICE: u32 = 16_384;

impl Default for AsOf {
    fn default() -> Self {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        Self { by_partition: HashMap::with_hasher(hasher), last: 0 }
    }
}

impl AsOf {
    /// A partition was loaded as of this position.
    pub(crate) fn insert(&mut self, namespace: NamespaceId, group: KeyGroup, position: u64) {
        self.by_partition.insert((namespace, group), position);
        self.last = self.last.max(position);
    }

    #[inline]
    fn has_seen(&self, namespace: NamespaceId, group: KeyGroup, position: u64) -> bool {
        position <= self.last
            && self.by_partition.get(&(namespace, group)).is_some_and(|as_of| position <= *as_of)
    }
}

/// An operation on its way to its key.
struct Placed<'a> {
    position: u64,
    bytes: &'a [u8],
    /// Where its key is; nowhere, if its partition has seen it or its namespace has gone.
    place: Option<(HomeIndex, KeyGroup)>,
}

impl Lane {
    /// The position of the last record that was applied; 0: none yet.
    pub(crate) fn last_position(&self) -> u64 {
        self.position - 1
    }

    /// Which control records of which namespaces were applied.
    pub(crate) fn applied_numbers(&self) -> impl Iterator<Item = (NamespaceId, u64)> {
        self.homes.iter().flatten().map(|it| (it.id, it.applied_number))
    }

    /// Follows a block; records at or below the last position are passed by. Control records of
    /// namespaces at home here are handed to `control`, outputs to `emit`.
    #[allow(
        clippy::too_many_arguments,
        reason = "a block, what it is applied to, what comes of it"
    )]
    pub(crate) fn replay(
        &mut self,
        shared: &mut Shared,
        layout: Layout,
        block: &LaneBlock,
        as_of: &AsOf,
        gauges: &dyn Gauges,
        control: &mut dyn FnMut(&ControlRecord, Timestamp),
        emit: &mut dyn FnMut(OutputBytes),
    ) -> Result<(), ReplayFault> {
        let lane = self.index;
        shared.course = Course::Followed;
        if block.first_position > self.position {
            let (expected, found) = (self.position, block.first_position);
            return Err(ReplayFault::PositionsMissing { lane, expected, found });
        }
        let now = Timestamp::from_millis(block.now_ms);
        // What an earlier restart met was counted by that one.
        let overdue_at_restart = shared.stats.overdue_at_restart;
        let mut rest = &block.records[..];
        let mut positions = block.first_position..block.first_position + u64::from(block.count);
        let (mut ahead, mut ready) = (Ahead::new(), Vec::new());
        while !positions.is_empty() || !ahead.is_empty() {
            ahead.step(&shared.pools, &mut ready);
            self.look_ahead(shared, layout, as_of, &mut positions, &mut rest, &mut ahead);
            for OnItsWay { it, hash, .. } in &ready {
                self.follow_operation(shared, it, *hash, now)?;
                self.drain_all(shared, layout, now, gauges, emit);
            }
            // What is no operation waits until those before it have been applied.
            if ahead.is_empty()
                && peek_operation(rest).is_none()
                && let Some(position) = positions.next()
            {
                let unreadable = || ReplayFault::RecordUnreadable { lane, position };
                let (record, behind) = split_record(rest).ok_or_else(unreadable)?;
                rest = behind;
                if position >= self.position {
                    self.follow(shared, record, position, now, gauges, control)?;
                    self.drain_all(shared, layout, now, gauges, emit);
                }
            }
        }
        self.emit_all(emit);
        shared.stats.overdue_at_restart = overdue_at_restart;
        shared.course = Course::New;
        Ok(())
    }

    fn table_of(&self, it: &Placed<'_>) -> Option<&KeyTable> {
        let (home, group) = it.place?;
        self.partition(home, group).map(Partition::table)
    }

    /// Sets the operations on their way that come next, up to another record.
    #[inline]
    fn look_ahead<'a>(
        &self,
        shared: &Shared,
        layout: Layout,
        as_of: &AsOf,
        positions: &mut Range<u64>,
        rest: &mut &'a [u8],
        ahead: &mut Ahead<Placed<'a>>,
    ) {
        // Most records that stand together are of one namespace.
        let mut found = None;
        for _ in 0..Ahead::<Placed<'_>>::STEP {
            let Some(it) = peek_operation(rest) else { return };
            let Some(position) = positions.next() else { return };
            *rest = &rest[it.bytes.len()..];
            if position < self.position {
                continue;
            }
            let known = found.filter(|(namespace, _)| *namespace == it.namespace);
            let (_, home) = known.unwrap_or_else(|| (it.namespace, self.find(it.namespace)));
            found = Some((it.namespace, home));
            let hash = xxh3_64(it.key);
            let group = layout.group_of(hash);
            let is_new = !as_of.has_seen(it.namespace, group, position);
            let place = home.filter(|_| is_new).map(|home| (home, group));
            let it = Placed { position, bytes: it.bytes, place };
            let table = self.table_of(&it);
            ahead.push(&shared.pools, table, it, hash);
        }
    }

    #[inline]
    fn follow_operation(
        &mut self,
        shared: &mut Shared,
        it: &Placed<'_>,
        hash: u64,
        now: Timestamp,
    ) -> Result<(), ReplayFault> {
        let Placed { position, bytes, place } = *it;
        let lane = self.index;
        let Some((record, _)) = &split_operation(bytes) else {
            return Err(ReplayFault::RecordUnreadable { lane, position });
        };
        self.position = position + 1;
        if let Some((home, group)) = place {
            // It was answered when it was taken in.
            let outcome = self.apply_at(shared, home, group, hash, record, position, now);
            if let Err(Rejection::NamespaceStopped { detail }) = outcome {
                return Err(ReplayFault::FunctionFails { lane, position, detail });
            }
        }
        Ok(())
    }

    /// Follows a record that is no operation on a key.
    fn follow(
        &mut self,
        shared: &mut Shared,
        record: Record<'_>,
        position: u64,
        now: Timestamp,
        gauges: &dyn Gauges,
        control: &mut dyn FnMut(&ControlRecord, Timestamp),
    ) -> Result<(), ReplayFault> {
        let lane = self.index;
        let unreadable = |_| ReplayFault::RecordUnreadable { lane, position };
        self.position = position + 1;
        match record {
            Record::Key(_) => return Err(ReplayFault::RecordUnreadable { lane, position }),
            Record::Tick { now: reached, namespaces } => {
                for namespace in namespaces {
                    let drain = Drain::new(reached, position);
                    if let Some(home) = self.find(namespace) {
                        self.unpark(shared, home, Domain::Processing);
                        self.begin_drain(home, Domain::Processing, drain);
                    }
                }
            }
            Record::Overdue(it) => {
                if let Some(home) = self.find(it.namespace) {
                    self.unpark(shared, home, Domain::Processing);
                    self.begin_overdue(home, &it, position, Vec::new());
                }
            }
            Record::Step { namespace, number, change } => {
                let change = serde_json::from_slice(change).map_err(unreadable)?;
                let step = Step { namespace, number, change };
                self.change(shared, step, position, now, gauges)
                    .map_err(|rejection| ReplayFault::operator(&rejection))?;
            }
            Record::Control(record) => {
                let record = serde_json::from_slice(record).map_err(unreadable)?;
                control(&record, now);
            }
        }
        Ok(())
    }

    fn drain_all(
        &mut self,
        shared: &mut Shared,
        layout: Layout,
        now: Timestamp,
        gauges: &dyn Gauges,
        emit: &mut dyn FnMut(OutputBytes),
    ) {
        while self.is_busy() {
            self.drain(shared, layout, now, gauges, &mut SLICE.clone());
            self.emit_all(emit);
        }
        // Whoever waited for it is gone.
        self.done.clear();
    }

    fn emit_all(&mut self, emit: &mut dyn FnMut(OutputBytes)) {
        let mut outputs = Vec::new();
        self.take_outputs(&mut outputs);
        for mut block in outputs {
            block.is_live = false;
            emit(block);
        }
    }
}

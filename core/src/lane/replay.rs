//! Following the log: a lane takes the records of its blocks in again, in their order, and comes to
//! the state that it had, with the outputs that it emitted, by their ids.
//!
//! Partitions may have been loaded as of later positions than the lane's head: what they have seen
//! already passes them by. What an advance makes due is fired at once, not in slices with other
//! records in between; for each key that comes to the same, because a record that touches a key lets
//! its due timers go first.

use super::{Course, Lane, Shared};
use crate::error::{Rejection, ReplayFault};
use crate::key_group::{KeyGroup, Layout, xxh3_64};
use crate::log::{LaneBlock, Record, split_record};
use crate::namespace::{ControlRecord, Step};
use crate::output::{NamespaceId, OutputBytes};
use crate::ports::Gauges;
use crate::time::{Domain, Timestamp};
use crate::timeline::Drain;
use hashbrown::HashMap;

/// By partition: the position as of which it was loaded.
#[derive(Debug)]
pub(crate) struct AsOf(HashMap<(NamespaceId, KeyGroup), u64, ahash::RandomState>);

/// Fires between two looks at the outputs: they are handed over in pieces.
const SLICE: u32 = 16_384;

impl Default for AsOf {
    fn default() -> Self {
        Self(HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)))
    }
}

impl AsOf {
    /// A partition was loaded as of this position.
    pub(crate) fn insert(&mut self, namespace: NamespaceId, group: KeyGroup, position: u64) {
        self.0.insert((namespace, group), position);
    }

    fn has_seen(&self, namespace: NamespaceId, group: KeyGroup, position: u64) -> bool {
        self.0.get(&(namespace, group)).is_some_and(|as_of| position <= *as_of)
    }
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
        for position in (block.first_position..).take(block.count as usize) {
            let unreadable = || ReplayFault::RecordUnreadable { lane, position };
            let Some((record, behind)) = split_record(rest) else {
                return Err(unreadable());
            };
            rest = behind;
            if position < self.position {
                continue;
            }
            self.position = position + 1;
            match record {
                Record::Key(record) => {
                    let hash = xxh3_64(record.op.key);
                    let group = layout.group_of(hash);
                    if let Some(home) = self.find(record.namespace)
                        && !as_of.has_seen(record.namespace, group, position)
                    {
                        // It was answered when it was taken in.
                        let outcome =
                            self.apply_at(shared, home, group, hash, &record, position, now);
                        if let Err(Rejection::NamespaceStopped { detail }) = outcome {
                            return Err(ReplayFault::FunctionFails { lane, position, detail });
                        }
                    }
                }
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
                    let change = serde_json::from_slice(change).map_err(|_| unreadable())?;
                    let step = Step { namespace, number, change };
                    self.change(shared, step, position, now, gauges)
                        .map_err(|rejection| ReplayFault::operator(&rejection))?;
                }
                Record::Control(record) => {
                    let record = serde_json::from_slice(record).map_err(|_| unreadable())?;
                    control(&record, now);
                }
            }
            self.drain_all(shared, layout, now, gauges, emit);
        }
        self.emit_all(emit);
        shared.stats.overdue_at_restart = overdue_at_restart;
        shared.course = Course::New;
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

//! A shard on its way back: its lanes follow the log, then the namespaces that are at home here say
//! again what some lane has missed.

use super::{Shard, Turn};
use crate::error::ReplayFault;
use crate::key_group::{KeyGroup, LaneIndex};
use crate::lane::{AsOf, Lane};
use crate::log::LaneBlock;
use crate::namespace::{ControlRecord, Controls, ControlsState, Ticket};
use crate::output::{NamespaceId, OutputBytes};
use crate::snapshot::{LaneHead, SnapshotFault};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Nobody waits for the answer to a command that is followed.
const NOBODY: Ticket = Ticket(0);

/// How far all lanes together are with the control records of each namespace: lane by lane, the
/// number of the last one that was applied; absent: the namespace is not there.
pub(crate) type AppliedNumbers = BTreeMap<NamespaceId, BTreeMap<LaneIndex, u64>>;

impl Shard {
    /// Puts the head of a lane back; the shard is new. Refused if a function that it needs cannot be
    /// made.
    pub(crate) fn load_head(&mut self, lane: LaneIndex, head: LaneHead) -> Result<(), ReplayFault> {
        let place = (lane.0 - self.first_lane) as usize;
        self.lanes[place].load_head(&self.shared, head, &*self.registry)
    }

    /// Puts the controls back that are at home in a lane.
    pub(crate) fn load_controls(&mut self, lane: LaneIndex, state: ControlsState) {
        let place = (lane.0 - self.first_lane) as usize;
        self.controls[place] = Controls::from_state(lane.0, self.layout.lanes(), state);
    }

    /// Puts a partition back that is as of `position`; returns how many keys it has. `what` is how
    /// faults call the snapshot.
    #[allow(clippy::too_many_arguments, reason = "a partition with what is known of it already")]
    pub(crate) fn load_partition(
        &mut self,
        lane: LaneIndex,
        namespace: NamespaceId,
        group: KeyGroup,
        position: u64,
        now_ms: i64,
        what: &str,
        bytes: &[u8],
    ) -> Result<u64, SnapshotFault> {
        let now = Timestamp::from_millis(now_ms);
        let (layout, shared) = (self.layout, &mut self.shared);
        let lane = &mut self.lanes[(lane.0 - self.first_lane) as usize];
        let before = shared.stats.keys;
        lane.load_partition(shared, layout, namespace, group, position, now, what, bytes)?;
        Ok(shared.stats.keys - before)
    }

    /// Follows a block of one of its lanes.
    pub(crate) fn replay(
        &mut self,
        block: &LaneBlock,
        as_of: &AsOf,
        emit: &mut dyn FnMut(OutputBytes),
    ) -> Result<(), ReplayFault> {
        let place = (block.lane - self.first_lane) as usize;
        let (controls, effects) = (&mut self.controls[place], &mut self.effects);
        let mut control = |record: &ControlRecord, now: Timestamp| match record {
            ControlRecord::Command(asked) => controls.command(NOBODY, asked, now, effects),
            ControlRecord::IdleSilent => controls.idle_silent(now, effects),
            ControlRecord::Restarted { at } => controls.restarted(*at),
            ControlRecord::Stopped(report) => controls.stop(report, effects),
        };
        let gauges = &*self.registry;
        let shared = &mut self.shared;
        let lane = &mut self.lanes[place];
        lane.replay(shared, self.layout, block, as_of, gauges, &mut control, emit)?;
        // What was to be done then was done, or is asked for again at the end.
        self.effects.clear();
        Ok(())
    }

    /// Everything has been followed: whether each function can be made that namespaces at home here
    /// run. Their configuration may be on its way to the lanes still.
    pub(crate) fn check_operators(&self) -> Result<(), ReplayFault> {
        let mut configs = self.controls.iter().flat_map(Controls::configs);
        configs
            .try_for_each(|config| self.shared.operators.make(config).map(drop))
            .map_err(|rejection| ReplayFault::operator(&rejection))
    }

    /// Adds what its lanes have applied.
    pub(crate) fn add_applied_numbers(&self, numbers: &mut AppliedNumbers) {
        for (place, lane) in self.lanes.iter().enumerate() {
            for (namespace, number) in lane.applied_numbers() {
                let lane = LaneIndex(self.first_lane + place as u16);
                numbers.entry(namespace).or_default().insert(lane, number);
            }
        }
    }

    /// The service was up in these runs, the oldest first, and is again from `to` on; called before the
    /// first turn.
    pub(crate) fn restarted(&mut self, ups: &Arc<[RangeInclusive<Timestamp>]>, to: Timestamp) {
        for lane in &mut self.lanes {
            lane.restarted(ups, to);
        }
    }

    /// Everything has been followed: makes the namespaces at home here known, and sends the control
    /// records again that some lane has not applied. Returns what is to be committed.
    pub(crate) fn recovered(&mut self, numbers: &AppliedNumbers) -> Turn {
        for controls in &mut self.controls {
            controls.recovered(numbers, &mut self.effects);
        }
        // Before anybody asks: what may be changed of a namespace depends on what it holds.
        self.lanes.iter_mut().for_each(Lane::publish_gauges);
        self.lanes.iter_mut().for_each(Lane::tell_stops_again);
        self.work_effects();
        std::mem::take(&mut self.turn)
    }
}

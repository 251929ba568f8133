//! A round of snapshots: the lanes' heads, one in each turn, then the partitions that have changed,
//! one after another, in slices between batches. Heads leave as plain data; whoever stores them
//! encodes them.
//!
//! A partition is written as of a position at or after its lane's head, when its namespace has no
//! due work on that lane; so the log, followed from the head, finds nothing due in it that fired
//! before. Namespaces that come up during the round wait for the next one: all that is known of them
//! stands behind the head.

use super::{CheckpointRequest, Shard};
use crate::key_group::KeyGroup;
use crate::limits::CHECKPOINT_STEP_MS;
use crate::output::NamespaceId;
use crate::snapshot::{Part, encode_head};
use std::collections::VecDeque;

/// See the module.
pub(super) struct Round {
    pub(super) request: CheckpointRequest,
    /// When it began, by the time since the machine started.
    began_ms: i64,
    /// Keys that were to be written when the heads were taken, and how many have been.
    keys: u64,
    keys_written: u64,
    /// Lanes whose heads are not taken yet.
    headless: VecDeque<usize>,
    waiting: VecDeque<Visit>,
    writing: Option<Writing>,
}

/// A namespace on one lane, and which of its key groups is next.
struct Visit {
    place: usize,
    namespace: NamespaceId,
    next_group: u16,
}

/// A partition that is being written.
struct Writing {
    visit: Visit,
    group: KeyGroup,
    position: u64,
    keys: u64,
    bytes: Vec<u8>,
}

/// What a slice came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is no round, or it has ended.
    Idle,
    /// There is more to be written.
    More,
    /// There is more, but not now: it is paced, or waits for fires or for the store.
    Later,
}

impl Shard {
    /// Begins a round; one that is under way is given up.
    pub(super) fn begin_round(&mut self, request: CheckpointRequest) {
        self.round = Some(Round {
            request,
            began_ms: self.room.steady_ms,
            keys: 0,
            keys_written: 0,
            headless: (0..self.lanes.len()).collect(),
            waiting: VecDeque::new(),
            writing: None,
        });
    }

    /// Takes the head of a lane, as of its position now.
    fn take_head(&mut self, round: &mut Round, place: usize) {
        let lane = &self.lanes[place];
        let head = lane.head();
        let visits = head.namespaces.iter();
        round.waiting.extend(visits.map(|it| Visit { place, namespace: it.id, next_group: 0 }));
        round.keys += lane.dirty_keys();
        let controls = self.controls[place].to_state();
        self.turn.visible.parts.push(Part::Head { lane: lane.index(), head, controls });
    }

    /// Writes on, spending about one of the budget for each key.
    pub(super) fn checkpoint_slice(&mut self) -> Progress {
        let Some(mut round) = self.round.take() else {
            return Progress::Idle;
        };
        if let Some(place) = round.headless.pop_front() {
            self.take_head(&mut round, place);
            self.round = Some(round);
            return Progress::More;
        }
        let allowance = round.allowance(self.room.steady_ms);
        let mut budget = self.pace.budget.min(allowance);
        let mut skipped = 0;
        while budget > 0 && !self.room.are_parts_held {
            if round.writing.is_none() {
                if skipped > round.waiting.len() {
                    break;
                }
                let Some(visit) = round.waiting.pop_front() else {
                    let Round { request, .. } = round;
                    let shard = self.layout.shard_of(self.lanes[0].index());
                    let done = Part::Done { shard, round: request.round };
                    self.turn.visible.parts.push(done);
                    return Progress::Idle;
                };
                if self.lanes[visit.place].find(visit.namespace).is_none() {
                    self.write_off(&visit);
                    continue;
                }
                if self.is_draining(&visit) {
                    skipped += 1;
                    round.waiting.push_back(visit);
                    continue;
                }
                budget -= 1;
                round.writing = self.begin_partition(visit, &round.request);
                continue;
            }
            let before = budget;
            let Some(writing) = &mut round.writing else { continue };
            let is_done = self.write_partition(writing, &mut budget);
            round.keys_written += u64::from(before - budget);
            if is_done && let Some(writing) = round.writing.take() {
                let Writing { visit, group, position, keys, bytes } = writing;
                let namespace = visit.namespace;
                let part = Part::Partition { namespace, group, position, keys, bytes };
                self.turn.visible.parts.push(part);
                round.waiting.push_front(visit);
            }
        }
        self.round = Some(round);
        // What the pace has ended goes on in the next turn, what the allowance has ended later.
        let is_paced = budget > 0 || allowance <= self.pace.budget || self.room.are_parts_held;
        if is_paced { Progress::Later } else { Progress::More }
    }

    fn is_draining(&self, visit: &Visit) -> bool {
        let lane = &self.lanes[visit.place];
        lane.find(visit.namespace).is_some_and(|home| lane.home(home).is_draining())
    }

    /// Begins with the next partition of a namespace that is to be written, if there is one.
    fn begin_partition(
        &mut self,
        mut visit: Visit,
        request: &CheckpointRequest,
    ) -> Option<Writing> {
        let lane = &mut self.lanes[visit.place];
        let position = lane.last_position();
        let home = lane.find(visit.namespace)?;
        let groups = lane.groups();
        let it = lane.home_mut(home);
        while visit.next_group < groups.end {
            let group = KeyGroup(visit.next_group.max(groups.start));
            visit.next_group = group.0 + 1;
            let Some(partition) = it.partition_mut(group) else { continue };
            let namespace = visit.namespace;
            if partition.is_dirty() || request.rewrite.contains(&(namespace, group)) {
                let keys = partition.begin_snapshot();
                return Some(Writing { visit, group, position, keys, bytes: Vec::new() });
            }
        }
        None
    }

    /// Writes on at a partition; returns whether it is all there.
    fn write_partition(&mut self, writing: &mut Writing, budget: &mut u32) -> bool {
        let lane = &mut self.lanes[writing.visit.place];
        let Some(home) = lane.find(writing.visit.namespace) else {
            // It has gone meanwhile, with its namespace.
            writing.position = lane.last_position();
            (writing.keys, writing.bytes) = (0, empty_partition());
            return true;
        };
        let it = lane.home_mut(home);
        let pools = &mut self.shared.pools;
        it.partition_mut(writing.group)
            .is_none_or(|partition| partition.write_slice(pools, &mut writing.bytes, budget))
    }

    /// A namespace that stands in the lane's head has gone before all of it was written. What may
    /// not have been written is written as empty, as of now: else the log, followed from the head to
    /// the removal, would work on partitions that are older than the head.
    fn write_off(&mut self, visit: &Visit) {
        let lane = &self.lanes[visit.place];
        let (namespace, position) = (visit.namespace, lane.last_position());
        for group in lane.groups().skip_while(|group| *group < visit.next_group) {
            let (group, bytes) = (KeyGroup(group), empty_partition());
            let part = Part::Partition { namespace, group, position, keys: 0, bytes };
            self.turn.visible.parts.push(part);
        }
    }
}

fn empty_partition() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_head(&mut bytes, &[], 0);
    bytes
}

impl Round {
    /// How many keys may be written by now.
    fn allowance(&self, now_ms: i64) -> u32 {
        let elapsed = now_ms.saturating_sub(self.began_ms).max(0) + CHECKPOINT_STEP_MS;
        if self.keys == 0 || elapsed >= self.request.over_ms {
            // Looking through what has not changed is not paced, nor is what should be done by now.
            return u32::MAX;
        }
        let share = i128::from(self.keys) * i128::from(elapsed) / i128::from(self.request.over_ms);
        let left = share - i128::from(self.keys_written);
        left.clamp(0, i128::from(u32::MAX)) as u32
    }
}
